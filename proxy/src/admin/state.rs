//! How things stand at this moment: cache, upstreams. Nothing here waits.

use crate::{
    app::Parts,
    upstream::{Endpoint, Health},
};
use serde_json::{Map, Value, json};
use std::sync::atomic::Ordering;
use tokio::time::Instant;
use tollgate_cache::counters::TierCounters;
use tollgate_config::Config;

/// `GET /api/cache/stats`.
pub(super) fn cache(parts: &Parts, config: &Config) -> Value {
    let memory = parts.cache.tiers.memory();
    let mut tiers = vec![with_counts(
        json!({
            "tier": "memory",
            "bytes": memory.bytes(),
            "bytes_max": config.cache.memory_bytes_max,
            "entries": memory.entries(),
        }),
        memory.counters(),
    )];
    for outer in parts.cache.tiers.all_outer() {
        tiers.push(with_counts(
            json!({
                "tier": outer.name().as_str(),
                "up": outer.is_up(),
                "queued_bytes": outer.queued_bytes(),
                "purges_pending": outer.purges_pending(),
            }),
            outer.counters(),
        ));
    }
    let recent = parts.metrics.rates(Instant::now()).hit_ratio;
    json!({
        "tiers": tiers,
        "flights": parts.flights.len(),
        "recent": {
            "window_s": 300,
            "hit_ratio": recent.all,
            "memory": recent.memory,
            "redis": recent.redis,
            "memcached": recent.memcached,
            "postgres": recent.postgres,
            "disk": recent.disk,
            "collapsed": recent.collapsed,
        },
    })
}

fn with_counts(mut tier: Value, counters: &TierCounters) -> Value {
    let failed = [&counters.errors, &counters.timeouts, &counters.skipped];
    let failed: u64 = failed.map(|count| count.value()).iter().sum();
    let not_there = [
        &counters.misses,
        &counters.expired,
        &counters.purged,
        &counters.collisions,
        &counters.foreign,
        &counters.oversized,
        &counters.locked,
    ];
    let misses: u64 = not_there.map(|count| count.value()).iter().sum();
    let dropped = [
        &counters.dropped_full,
        &counters.dropped_down,
        &counters.dropped_large,
        &counters.dropped_outranked,
        &counters.dropped_void,
    ];
    let dropped: u64 = dropped.map(|count| count.value()).iter().sum();
    let hits = counters.hits.value();
    let looked = hits.saturating_add(misses);
    let hit_ratio = (looked > 0).then(|| crate::scaling::ratio(hits, looked));
    let counts = json!({
        "hits": hits,
        "misses": misses,
        "failed": failed,
        "hit_ratio": hit_ratio,
        "stored": counters.stored.value(),
        "evictions": {
            "size": counters.evicted_for_room.value(),
            "expired": counters.evicted_expired.value(),
            "purged": counters.evicted_purged.value(),
        },
        "dropped_writes": dropped,
    });
    if let (Value::Object(tier), Value::Object(counts)) = (&mut tier, counts) {
        tier.extend(counts);
    }
    tier
}

/// `GET /api/upstreams`.
pub(super) fn upstreams(parts: &Parts) -> Value {
    let snapshot = parts.snapshot.load();
    let upstreams = snapshot.destinations.iter().map(|to| {
        let endpoints = to.upstream.health().map(|(it, health)| endpoint(it, health));
        json!({
            "upstream": to.config.name,
            "endpoints": endpoints.collect::<Vec<_>>(),
        })
    });
    json!({ "upstreams": upstreams.collect::<Vec<_>>() })
}

fn endpoint(endpoint: &Endpoint, health: Health) -> Value {
    let mut members = Map::new();
    members.insert("endpoint".to_owned(), (*endpoint.name).into());
    members.insert("inflight".to_owned(), endpoint.in_flight().into());
    members.insert("answered".to_owned(), endpoint.answered.load(Ordering::Relaxed).into());
    members.insert("failed".to_owned(), endpoint.failed.load(Ordering::Relaxed).into());
    members.insert("state".to_owned(), health.name().into());
    Value::Object(members)
}
