//! What only the whole shows: addresses that overlap, and what is valid but deserves a word.

use super::claims;
use crate::{
    AdminAddress, CacheMode, CachePolicy, CacheStore, Config, Listener, TenantSource, Tier, Trust,
    Upstream, review::Review,
};
use std::net::SocketAddr;
use tollgate_core::dialect::Dialect;

/// Two sockets that cannot both be bound.
pub(super) fn addresses(review: &mut Review<'_>, config: &Config) {
    let mut taken: Vec<(String, SocketAddr)> = Vec::new();
    let listeners = config.listeners.iter().enumerate();
    let mut all: Vec<_> =
        listeners.map(|(i, one)| (format!("listeners[{i}].address"), one.address)).collect();
    if let AdminAddress::Tcp(address) = config.admin.address {
        all.push(("admin.address".to_owned(), address));
    }
    all.push(("telemetry.metrics.address".to_owned(), config.metrics.address));
    for (path, address) in all {
        match taken.iter().find(|(_, other)| overlap(*other, address)) {
            Some((other, _)) => review.report(path, format!("{address} is taken by {other}")),
            None => taken.push((path, address)),
        }
    }
}

fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    // Port 0 is any free port.
    a.port() == b.port()
        && a.port() != 0
        && (a.ip() == b.ip()
            || (a.ip().is_unspecified() && (a.is_ipv4() == b.is_ipv4() || a.is_ipv6()))
            || (b.ip().is_unspecified() && (a.is_ipv4() == b.is_ipv4() || b.is_ipv6())))
}

pub(super) fn warnings(review: &mut Review<'_>, config: &Config) {
    claims_of_strangers(review, config);
    claims::idle(review, config);
    sampled_answers(review, config);
    ignored_in_vain(review, config);
    unused(review, config);
    stores(review, config);
    cdns(review, config);
}

fn cdns(review: &mut Review<'_>, config: &Config) {
    if config.identity.tenant.is_none() {
        return;
    }
    for (i, _) in config.routes.iter().enumerate().filter(|(_, it)| it.cache.http.cdn.is_some()) {
        let message =
            "has no effect: identity.tenant tells callers apart, so no answer is everybody's";
        review.advise(format!("routes[{i}].cache.cdn"), message);
    }
}

fn stores(review: &mut Review<'_>, config: &Config) {
    let cache = &config.cache;
    let stores = [
        (Tier::Redis, config.redis.is_some(), &cache.redis),
        (Tier::Memcached, config.memcached.is_some(), &cache.memcached),
        (Tier::Postgres, config.postgres.is_some(), &cache.postgres.store),
    ];
    if cache.namespace.is_none()
        && let Some((tier, ..)) = stores.iter().find(|(_, is_there, _)| *is_there)
    {
        let store = match tier {
            Tier::Redis => "Redis",
            Tier::Memcached => "Memcached",
            Tier::Postgres => "PostgreSQL",
            Tier::Memory | Tier::Disk => "nothing",
        };
        let message = format!(
            "not set while {store} is shared: instances whose upstreams have equal names \
            share their entries; set it, or TOLLGATE_NAMESPACE"
        );
        review.advise("cache.namespace", message);
    }
    if cache.disk.is_some()
        && !config.routes.iter().any(|route| uses(&route.cache.tiers, Tier::Disk))
    {
        review.advise("cache.disk", "no route's cache.tiers names disk");
    }
    if cache.warm.restore_hot > 0 && !config.routes.iter().any(|route| restores(&route.cache)) {
        let message = "has no effect: no route's cache.tiers has a tier behind memory";
        review.advise("cache.warm.restore_hot", message);
    }
    // Decision 0032; nobody listens to Memcached.
    let keeper = [Tier::Redis, Tier::Postgres]
        .into_iter()
        .find(|keeper| stores.iter().any(|(tier, is_there, _)| tier == keeper && *is_there));
    for (tier, is_there, entries) in stores {
        let name = tier.name();
        if !is_there && *entries != CacheStore::default() {
            let message = format!("has no effect without stores.{name}");
            review.advise(format!("cache.{name}"), message);
        }
        let is_heard = cache.events.iter().any(|source| source.origin.store() == Some(tier));
        let is_used = config.routes.iter().any(|route| uses(&route.cache.tiers, tier));
        if is_there && !is_used && !is_heard {
            let message = format!("no route's cache.tiers names {name}");
            review.advise(format!("stores.{name}"), message);
        }
        if is_there && !is_used && is_heard && (keeper == Some(tier) || tier == Tier::Postgres) {
            let keeps = if keeper == Some(tier) { ", and keeps the fleet's purges" } else { "" };
            let needs = if tier == Tier::Postgres { ", for which it needs its tables" } else { "" };
            let message = format!(
                "no route's cache.tiers names {name}; it is listened to all the same{keeps}{needs}"
            );
            review.advise(format!("stores.{name}"), message);
        }
    }
}

fn restores(policy: &CachePolicy) -> bool {
    let is_first = policy.tiers.first().is_some_and(|first| first.tier == Tier::Memory);
    policy.mode != CacheMode::Off && is_first && policy.tiers.len() > 1 && policy.promotes
}

fn uses(tiers: &[crate::TierUse], tier: Tier) -> bool {
    tiers.iter().any(|own| own.tier == tier)
}

fn claims_of_strangers(review: &mut Review<'_>, config: &Config) {
    let identity = &config.identity;
    let mut claims = Vec::new();
    if let Some(TenantSource::Header(header)) = &identity.tenant {
        claims.push(header.as_str());
    }
    let others = [&identity.user, &identity.tier, &identity.project, &identity.business];
    claims.extend(others.into_iter().flatten().map(String::as_str));
    let believing = config.routes.iter().map(|route| &route.class);
    let believing = believing.filter(|class| class.trust != Trust::Only(Vec::new()));
    claims.extend(believing.flat_map(|class| class.headers()));
    claims.sort_unstable();
    claims.dedup();
    if claims.is_empty() {
        return;
    }
    let is_open = |listener: &Listener| {
        !listener.address.ip().is_loopback()
            && listener.trusted.is_none()
            && listener.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none())
    };
    for (i, _) in config.listeners.iter().enumerate().filter(|(_, listener)| is_open(listener)) {
        let message = format!(
            "anyone who reaches this address may claim {}; set trusted or tls.client_ca",
            claims.join(", ")
        );
        review.advise(format!("listeners[{i}]"), message);
    }
}

fn sampled_answers(review: &mut Review<'_>, config: &Config) {
    let caching = config
        .routes
        .iter()
        .filter(|route| matches!(route.cache.mode, CacheMode::Content | CacheMode::Auto));
    let names: Vec<_> = caching.map(|route| route.name.as_str()).collect();
    if !names.is_empty() {
        let message = format!(
            "sampled answers are reused, too: an equal question gets the first answer, whatever its temperature (on {})",
            names.join(", ")
        );
        review.advise("routes", message);
    }
}

/// What an `ignore` names that says nothing of its own in a dialect's call.
fn ignored_in_vain(review: &mut Review<'_>, config: &Config) {
    for (i, route) in config.routes.iter().enumerate() {
        // Of a plain service these are members like any other.
        let is_plain = route.dialect == Some(Dialect::Http);
        let is_by_content = matches!(route.cache.mode, CacheMode::Content | CacheMode::Auto);
        if is_plain || !is_by_content {
            continue;
        }
        for (j, pointer) in route.cache.key.ignore.iter().enumerate() {
            let message = match pointer.as_str() {
                "/model" => {
                    "does nothing: the model and its version are part of every key; calls that \
                    name another model are another question"
                }
                "/stream" | "/stream_options" => {
                    "does nothing: one entry serves both forms where one can be made of the other, \
                    and where none can, they are two answers"
                }
                _ => continue,
            };
            review.advise(format!("routes[{i}].cache.key.ignore[{j}]"), message);
        }
    }
}

fn unused(review: &mut Review<'_>, config: &Config) {
    for upstream in &config.upstreams {
        let stands_in =
            |other: &Upstream| other.fallback.as_ref().is_some_and(|to| to.upstream == upstream.id);
        let is_used = config.routes.iter().any(|route| route.upstream == upstream.id);
        if !is_used && !config.upstreams.iter().any(stands_in) {
            review.advise(format!("upstreams.{}", upstream.name), "no route leads to it");
        }
    }
}
