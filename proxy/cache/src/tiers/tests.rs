//! The order of the tiers, without a store outside memory.

use super::*;
use crate::entry::tests::{entry, key};

fn plan() -> Plan {
    Plan::new([TierUse::new(TierName::Memory, 10_000), TierUse::new(TierName::Redis, 60_000)])
}

/// An entry that fits everywhere.
pub(super) fn small() -> Entry {
    entry(key(1), b"{}")
}

fn with_one() -> (Tiers, Arc<Entry>) {
    let memory = MemoryTier::new(1 << 20);
    let tiers = Tiers::new(memory, Vec::new(), Arc::default(), Arc::default());
    let entry = Arc::new(Entry { stamp: tiers.stamp(), ..small() });
    assert!(tiers.store(key(1), entry.clone(), &plan(), 2_000).is_kept());
    (tiers, entry)
}

#[test]
fn memory_keeps_an_entry_for_the_lesser_of_its_time_and_the_tiers() {
    let (tiers, entry) = with_one();
    let there = |now_ms| tiers.look_up_now(&key(1), &entry.check, now_ms).is_some();
    assert!(there(11_999));
    assert!(!there(12_000));
    assert!(!tiers.store(key(1), entry.clone(), &plan(), 61_000).is_kept(), "past its own time");
    assert!(tiers.store(key(1), entry.clone(), &plan(), 60_000).is_kept());
    assert!(there(60_999));
    assert!(!there(61_000));
}

#[test]
fn a_route_that_does_not_use_memory_is_not_kept_there() {
    let (tiers, entry) = with_one();
    tiers.sweep(u64::MAX);
    assert!(tiers.store(key(1), entry, &Plan::default(), 2_000).is_kept());
    assert_eq!(tiers.memory().entries(), 0);
}

#[test]
fn a_tier_keeps_nothing_larger_than_the_route_lets_it() {
    let (tiers, entry) = with_one();
    tiers.sweep(u64::MAX);
    let memory = TierUse::new(TierName::Memory, 10_000);
    let bounded = TierUse { entry_bytes_max: entry.weight() - 1, ..memory };
    tiers.store(key(1), entry.clone(), &Plan::new([bounded]), 2_000);
    assert_eq!(tiers.memory().entries(), 0);
    let bounded = TierUse { entry_bytes_max: entry.weight(), ..memory };
    tiers.store(key(1), entry, &Plan::new([bounded]), 2_000);
    assert_eq!(tiers.memory().entries(), 1);
}

#[tokio::test]
async fn without_redis_a_purge_reaches_this_instance_and_waits_for_nothing() {
    let alone = Purged { reach: Reach::Instance, pending: false };
    for target in [Target::Key(key(1)), Target::Tag("kb:7"), Target::All] {
        let (tiers, entry) = with_one();
        assert_eq!(tiers.purge(target).await, alone);
        assert!(tiers.look_up_now(&key(1), &entry.check, 2_000).is_none(), "{target:?}");
        assert_eq!(tiers.memory().bytes(), 0, "{target:?}");
    }
}
