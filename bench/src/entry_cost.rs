//! What an entry costs beside its bytes: resident memory against what the tier accounts for.
//!
//! One process measures one thing, so that nothing freed before is there to be used again.

use std::{io, sync::Arc};
use tollgate_cache::{
    delivery::Delivery,
    entry::{Entry, Form, Hits, Rule, storable_headers, subjects},
    generations::{CheckedAt, Stamp},
    key::{CacheKey, Check},
    memory::{MemoryTier, Policy},
};

const ENTRIES: u64 = 20_000;

/// Fills a tier with answers of `body` bytes, as a fill makes them, and prints what one takes.
pub(crate) fn run(policy: Policy, body: usize) -> io::Result<()> {
    // Nearly full: what a policy lays out for the tier's size is then shared by as many as can be.
    let bytes_max = ENTRIES * (len(body) * 11 / 10 + 1_400);
    let tier = MemoryTier::with_policy(bytes_max, policy);
    let before = resident()?;
    let mut content = 0;
    for n in 0..ENTRIES {
        let key = crate::hit_ratio::key(n);
        let entry = entry(key, body);
        content += content_of(&entry);
        tier.store(key, Arc::new(entry), u64::MAX);
    }
    let weight = tier.bytes();
    if len(tier.entries()) != ENTRIES {
        return Err(io::Error::other("not all of them were kept"));
    }
    let taken = resident()?.saturating_sub(before);
    let [taken, weight, content] = [taken, weight, content].map(|bytes| bytes / ENTRIES);
    println!(
        "{policy:?}, body {body}: resident {taken}, accounted {weight}, content {content}; \
         bookkeeping {} bytes an entry, accounted {} % of resident",
        taken.saturating_sub(content),
        weight * 100 / taken.max(1)
    );
    Ok(())
}

/// Key, headers, tags, names, note and body: what was to be kept.
fn content_of(entry: &Entry) -> u64 {
    let headers: usize = entry.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let tags: usize = entry.tags.iter().map(|tag| tag.len()).sum();
    let names = [&*entry.model, &entry.model_version, &entry.tenant, &entry.route];
    let names: usize = names.map(|name| name.len()).iter().sum();
    let all = 32 + headers + tags + names + entry.note.len() + entry.body.len();
    len(all)
}

fn len(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn entry(key: CacheKey, body: usize) -> Entry {
    let tags: Vec<Box<str>> = vec!["kb:7".into()];
    Entry {
        status: 200,
        headers: storable_headers(
            [
                ("content-type", b"application/json".as_slice()),
                ("date", b"Sat, 21 Nov 2026 07:12:55 GMT"),
            ],
            &[],
        ),
        // As a recording leaves it: grown, then frozen.
        body: bytes::BytesMut::from(&vec![7; body][..]).freeze(),
        frame_ends: Box::default(),
        form: Form::Whole,
        check: Check { len: 0, digest128: [0; 16] },
        stored_at_ms: 1,
        ttl_ms: u64::MAX,
        rule: Rule::Ttl,
        model: "gpt-4o-mini".into(),
        model_version: "2024-07-18".into(),
        tenant: "key-0123456789abcdef".into(),
        route: "chat".into(),
        subjects: subjects(key, "chat", "gpt-4o-mini", "key-0123456789abcdef", &tags),
        tags,
        note: vec![1; 118].into(),
        worth: 1_000,
        stamp: Stamp::default(),
        checked: CheckedAt::default(),
        hits: Hits::default(),
        delivery: Delivery::default(),
    }
}

fn resident() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.ok_or_else(|| io::Error::other("no VmRSS in /proc/self/status"))? * 1024)
}
