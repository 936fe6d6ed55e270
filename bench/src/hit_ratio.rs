//! How much of a trace the memory tier answers, by policy, beside what could be done at best.
//!
//! The tier is the proxy's own, with whole entries, its shards and its overhead; the traces are
//! drawn anew from fixed seeds. Beside it stand Belady's choice, which knows the future (the best
//! there can be where all sizes are equal; where they differ, only a good one), and W-TinyLFU,
//! the policy of Caffeine and moka, written down here so that no run needs another crate.

#![expect(
    clippy::float_arithmetic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "draws and ratios; no money, and nothing that anyone sends"
)]

mod rivals;
mod traces;

use crate::draw::Draw;
use rivals::TinyLfu;
use std::{io, sync::Arc, time::Instant};
use tollgate_cache::{
    delivery::Delivery,
    entry::{Entry, Form, Hits, Rule},
    generations::{CheckedAt, Generations, Stamp},
    key::{CacheKey, Check},
    memory::{MemoryTier, Policy},
};
pub(crate) use traces::key;
use traces::{Ask, Sizes, Trace};

const CHECK: Check = Check { len: 0, digest128: [0; 16] };
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// What part of the calls were hits, and of the worth of all answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Score {
    hits: f64,
    worth: f64,
}

/// Prints the table. `smoke`: a tenth of the calls.
pub(crate) fn run(smoke: bool) -> io::Result<()> {
    let calls = if smoke { 48_000 } else { 480_000 };
    let universe = calls / 12;
    println!("hits / worth saved, of {calls} calls about {universe} keys; sizes in bytes");
    println!(
        "| trace | sizes | room for | Belady | lru | lfu | cost | W-TinyLFU |\n\
         |---|---|---|---|---|---|---|---|"
    );
    for sizes in [Sizes::Equal, Sizes::Mixed] {
        for trace in Trace::ALL {
            let asks = trace.draw(calls, universe, sizes);
            for share in [100, 10] {
                line(trace, sizes, &asks, universe / share)?;
            }
        }
    }
    Ok(())
}

fn line(trace: Trace, sizes: Sizes, asks: &[Ask], entries: usize) -> io::Result<()> {
    let mean = asks.iter().map(weight).sum::<u64>() / len(asks.len()).max(1);
    // No smaller than the tier lets it be: the largest answer must fit.
    let bytes_max = (len(entries) * mean).max(1 << 20);
    let weighed: Vec<Ask> = asks.iter().map(|ask| Ask { bytes: weight(ask), ..*ask }).collect();
    let scores = [
        rivals::belady(&weighed, bytes_max),
        tier(asks, bytes_max, Policy::Lru)?,
        tier(asks, bytes_max, Policy::Lfu)?,
        tier(asks, bytes_max, Policy::Cost)?,
        rivals::play(&mut TinyLfu::new(bytes_max, bytes_max / mean), &weighed),
    ];
    let shown: Vec<String> =
        scores.iter().map(|score| format!("{:.3} / {:.3}", score.hits, score.worth)).collect();
    println!(
        "| {} | {} | {} | {} |",
        trace.name(),
        sizes.name(),
        bytes_max / mean,
        shown.join(" | ")
    );
    Ok(())
}

/// The tier in the place where the proxy has it: a look-up, and a store after a miss.
fn tier(asks: &[Ask], bytes_max: u64, policy: Policy) -> io::Result<Score> {
    let tier = MemoryTier::with_policy(bytes_max, policy);
    let generations = Generations::default();
    let mut count = rivals::Count::default();
    for ask in asks {
        let key = key(ask.name);
        let hit = tier.look_up(&key, &CHECK, 1, &generations).is_some();
        if !hit {
            tier.store(key, Arc::new(entry(ask)), u64::MAX);
        }
        count.add(ask, hit);
    }
    if tier.bytes() > bytes_max {
        return Err(io::Error::other(format!("{policy:?} holds {} bytes", tier.bytes())));
    }
    Ok(count.score())
}

/// What the tier says that it weighs.
fn weight(ask: &Ask) -> u64 {
    entry(ask).weight()
}

fn entry(ask: &Ask) -> Entry {
    let bytes = usize::try_from(ask.bytes).unwrap_or(ZEROS.len()).min(ZEROS.len());
    Entry {
        status: 200,
        headers: Vec::new(),
        body: bytes::Bytes::from_static(ZEROS.split_at(bytes).0),
        frame_ends: Box::default(),
        form: Form::Whole,
        check: CHECK,
        stored_at_ms: 1,
        ttl_ms: u64::MAX,
        rule: Rule::Ttl,
        model: Arc::default(),
        model_version: Arc::default(),
        tenant: Box::default(),
        route: Arc::default(),
        tags: Vec::new(),
        subjects: Box::default(),
        note: bytes::Bytes::new(),
        worth: ask.worth,
        stamp: Stamp::default(),
        checked: CheckedAt::default(),
        hits: Hits::default(),
        delivery: Delivery::default(),
    }
}

fn len(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// What a hit costs in each policy: nanoseconds, the least of interleaved rounds.
pub(crate) fn hit_cost(entries: u64) {
    let generations = Generations::default();
    let policies = [Policy::Lfu, Policy::Lru, Policy::Cost];
    let tiers = policies.map(|policy| MemoryTier::with_policy(256 << 20, policy));
    let keys: Vec<CacheKey> = (0..entries).map(key).collect();
    let ask = Ask { name: 0, bytes: 1_024, worth: 1_000 };
    for tier in &tiers {
        for key in &keys {
            tier.store(*key, Arc::new(entry(&ask)), u64::MAX);
        }
    }
    let mut least = [f64::MAX; 3];
    let mut draw = Draw::new(7);
    let order: Vec<CacheKey> =
        (0..1_000_000).filter_map(|_| keys.get(draw.below(keys.len())).copied()).collect();
    for _ in 0..9 {
        for (least, tier) in least.iter_mut().zip(&tiers) {
            let began = Instant::now();
            let found = order
                .iter()
                .filter(|key| tier.look_up(key, &CHECK, 1, &generations).is_some())
                .count();
            let nanoseconds = began.elapsed().as_nanos() as f64 / found.max(1) as f64;
            *least = least.min(nanoseconds);
        }
    }
    for (policy, least) in policies.iter().zip(least) {
        println!("a hit among {entries} entries, {policy:?}: {least:.0} ns");
    }
}
