//! What the memory tier promises, whatever its policy.

use super::*;
use crate::{
    entry::tests::{entry, key},
    generations::{Subject, Target},
};
use proptest::prelude::*;

const CHECK: Check = Check { len: 2, digest128: [9; 16] };

const POLICIES: [Policy; 3] = [Policy::Lfu, Policy::Lru, Policy::Cost];

fn with_one() -> (MemoryTier, Generations) {
    with_one_in(MemoryTier::new(1 << 20))
}

fn with_one_in(tier: MemoryTier) -> (MemoryTier, Generations) {
    let generations = Generations::default();
    let mut entry = entry(key(1), b"{}");
    entry.stamp = generations.stamp();
    tier.store(key(1), Arc::new(entry), 31_000);
    (tier, generations)
}

#[test]
fn an_entry_is_given_until_its_time_in_this_tier_is_over() {
    let (tier, generations) = with_one();
    assert!(tier.look_up(&key(1), &CHECK, 30_999, &generations).is_some());
    assert!(tier.look_up(&key(2), &CHECK, 30_999, &generations).is_none());
    assert!(tier.look_up(&key(1), &CHECK, 31_000, &generations).is_none());
    assert_eq!((tier.entries(), tier.bytes()), (0, 0));
    let counters = tier.counters();
    let values = [&counters.hits, &counters.misses, &counters.expired, &counters.evicted_expired];
    assert_eq!(values.map(|count| count.value()), [1, 1, 1, 1]);
}

#[test]
fn a_purged_entry_is_gone_and_frees_its_bytes() {
    let (tier, generations) = with_one();
    generations.purge_here(Subject::of(Target::Tag("kb:7")));
    assert!(tier.look_up(&key(1), &CHECK, 1_000, &generations).is_none());
    assert_eq!((tier.entries(), tier.counters().purged.value()), (0, 1));
}

#[test]
fn another_question_under_the_same_key_is_a_counted_miss() {
    let (tier, generations) = with_one();
    for check in [Check { len: 3, ..CHECK }, Check { digest128: [8; 16], ..CHECK }] {
        assert!(tier.look_up(&key(1), &check, 1_000, &generations).is_none());
    }
    assert_eq!(tier.counters().collisions.value(), 2);
    assert!(tier.look_up(&key(1), &CHECK, 1_000, &generations).is_some());
}

#[test]
fn an_answer_that_takes_the_place_of_an_older_one_pushes_nothing_out() {
    let (tier, _) = with_one();
    tier.store(key(1), Arc::new(entry(key(1), b"{}")), 31_000);
    assert_eq!((tier.entries(), tier.counters().evicted_for_room.value()), (1, 0));
    for n in 2..9 {
        let mut large = entry(key(n), b"");
        large.body = vec![0; 300_000].into();
        tier.store(key(n), Arc::new(large), 31_000);
    }
    let pushed_out = 8 - u64::try_from(tier.entries()).unwrap();
    assert_eq!(tier.counters().evicted_for_room.value(), pushed_out);
}

#[test]
fn a_second_look_counts_only_what_it_finds() {
    let (tier, generations) = with_one();
    assert!(tier.look_again(&key(2), &CHECK, 1_000, &generations).is_none());
    assert!(tier.look_again(&key(1), &CHECK, 1_000, &generations).is_some());
    let counters = tier.counters();
    assert_eq!((counters.misses.value(), counters.hits.value()), (0, 1));
}

#[test]
fn a_sweep_removes_what_nobody_asks_for_any_more() {
    let (tier, generations) = with_one();
    tier.sweep(1_000, &generations);
    assert_eq!(tier.entries(), 1);
    tier.sweep(31_000, &generations);
    assert_eq!((tier.entries(), tier.counters().evicted_expired.value()), (0, 1));
}

#[test]
fn an_answer_larger_than_the_tier_replaces_the_old_one_with_nothing() {
    let (tier, generations) = with_one();
    let mut huge = entry(key(1), b"");
    huge.body = vec![0; 2 << 20].into();
    tier.store(key(1), Arc::new(huge), 31_000);
    assert!(tier.look_up(&key(1), &CHECK, 1_000, &generations).is_none());
    assert_eq!((tier.bytes(), tier.counters().dropped_large.value()), (0, 1));
}

/// Spread over the shards as real keys are.
fn spread(n: u64) -> CacheKey {
    CacheKey::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn of_len(n: u64, len: usize, worth: u64) -> Arc<Entry> {
    Arc::new(Entry { body: vec![0; len].into(), worth, ..entry(spread(n), b"") })
}

fn is_there(tier: &MemoryTier, n: u64) -> bool {
    tier.look_up(&spread(n), &CHECK, 1_000, &Generations::default()).is_some()
}

#[test]
fn whatever_the_policy_time_and_purges_are_obeyed_and_counted() {
    for policy in POLICIES {
        let (tier, generations) = with_one_in(MemoryTier::with_policy(1 << 20, policy));
        let look = |n, now_ms| tier.look_up(&key(n), &CHECK, now_ms, &generations).is_some();
        assert!(look(1, 30_999) && !look(1, 31_000), "{policy:?}");
        let stamped = |n| Arc::new(Entry { stamp: generations.stamp(), ..entry(key(n), b"{}") });
        for n in 1..=6 {
            tier.store(key(n), stamped(n), 31_000 + u64::from(n));
        }
        tier.remove(&key(1));
        tier.remove(&key(1));
        tier.sweep(31_002, &generations);
        assert_eq!(tier.entries(), 4, "{policy:?}");
        generations.purge_here(Subject::of(Target::Key(key(3))));
        assert!(!look(3, 2_000), "{policy:?}");
        generations.purge_here(Subject::of(Target::Key(key(4))));
        tier.sweep(2_000, &generations);
        tier.clear();
        let counters = tier.counters();
        let left =
            [&counters.evicted_expired, &counters.evicted_purged, &counters.evicted_for_room];
        assert_eq!(left.map(Count::value), [2, 5, 0], "{policy:?}");
        assert_eq!((tier.entries(), tier.bytes()), (0, 0), "{policy:?}");
    }
}

#[test]
fn lru_pushes_out_exactly_what_was_used_longest_ago() {
    let tier = MemoryTier::with_policy(1 << 20, Policy::Lru);
    let fit = (1 << 20) / tier.weight_of(&of_len(0, 10_000, 1));
    for n in 0..fit {
        tier.store(spread(n), of_len(n, 10_000, 1), u64::MAX);
    }
    assert!(is_there(&tier, 0) && is_there(&tier, 2));
    for n in fit..fit + 3 {
        tier.store(spread(n), of_len(n, 10_000, 1), u64::MAX);
    }
    let gone: Vec<u64> = (0..fit + 3).filter(|n| !is_there(&tier, *n)).collect();
    assert_eq!(gone, [1, 3, 4]);
    assert_eq!(tier.counters().evicted_for_room.value(), 3);
}

#[test]
fn a_scan_of_cheap_large_answers_cannot_wash_out_dear_small_ones() {
    let tier = MemoryTier::with_policy(1 << 20, Policy::Cost);
    for n in 0..300 {
        tier.store(spread(n), of_len(n, 1_000, 500_000), u64::MAX);
    }
    for n in 1_000..9_000 {
        tier.store(spread(n), of_len(n, 50_000, 1_000), u64::MAX);
    }
    assert_eq!((0..300).filter(|n| is_there(&tier, *n)).count(), 300);
    let counters = tier.counters();
    let fate = [&counters.stored, &counters.evicted_for_room, &counters.dropped_outranked];
    let [stored, pushed_out, outranked] = fate.map(Count::value);
    assert_eq!(stored + outranked, 8_300);
    assert_eq!(stored - pushed_out, u64::try_from(tier.entries()).unwrap());
}

#[test]
fn a_scan_cannot_wash_out_what_is_asked_for_again_and_again() {
    for policy in [Policy::Lfu, Policy::Cost] {
        let tier = MemoryTier::with_policy(1 << 20, policy);
        let mut scanned = 1_000;
        let mut hits = 0;
        for _ in 0..50 {
            for n in 0..20 {
                if is_there(&tier, n) {
                    hits += 1;
                } else {
                    tier.store(spread(n), of_len(n, 10_000, 1_000), u64::MAX);
                }
            }
            for _ in 0..200 {
                tier.store(spread(scanned), of_len(scanned, 10_000, 1_000), u64::MAX);
                scanned += 1;
            }
        }
        // Of 1,000 looks; with an LRU it is none.
        assert!(hits > 900, "{policy:?}: {hits}");
    }
}

#[test]
fn what_was_dear_yesterday_makes_room_for_what_is_asked_for_today() {
    let tier = MemoryTier::with_policy(1 << 20, Policy::Cost);
    for n in 0..90 {
        tier.store(spread(n), of_len(n, 10_000, 10_000), u64::MAX);
        assert!(is_there(&tier, n));
    }
    for _ in 0..60 {
        for n in 100..150 {
            if !is_there(&tier, n) {
                tier.store(spread(n), of_len(n, 10_000, 1_000), u64::MAX);
            }
        }
    }
    assert!((100..150).all(|n| is_there(&tier, n)));
}

/// One of everything that happens to a tier.
#[derive(Clone, Debug)]
enum Step {
    Store(u64, usize, u64),
    LookUp(u64),
    Remove(u64),
    Sweep(u64),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => (0..40_u64, 0..60_000_usize, any::<u64>()).prop_map(|(n, l, w)| Step::Store(n, l, w)),
        40 => (0..40_u64).prop_map(Step::LookUp),
        10 => (0..40_u64).prop_map(Step::Remove),
        2 => (1_000..3_000_u64).prop_map(Step::Sweep),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_never_holds_more_than_its_size_and_every_entry_is_accounted_for(
        policy in proptest::sample::select(POLICIES.to_vec()),
        steps in proptest::collection::vec(step(), 1..200),
    ) {
        let size_max = 256 * 1024;
        let tier = MemoryTier::with_policy(size_max, policy);
        let generations = Generations::default();
        let found = |n| tier.look_again(&spread(n), &CHECK, 1_000, &generations);
        let mut replaced = 0;
        let mut latest = std::collections::HashMap::new();
        for step in steps {
            match step {
                Step::Store(n, len, worth) => {
                    let (was, entry) = (found(n), of_len(n, len, worth));
                    tier.store(spread(n), entry.clone(), 2_000 + n);
                    // In place of the old, or of nothing if it was not let in itself.
                    replaced += u64::from(was.is_some());
                    latest.insert(n, entry);
                }
                Step::LookUp(n) => {
                    let found = tier.look_up(&spread(n), &CHECK, 1_000, &generations);
                    prop_assert!(found.is_none_or(|found| Arc::ptr_eq(&found.entry, &latest[&n])));
                }
                Step::Remove(n) => tier.remove(&spread(n)),
                Step::Sweep(now_ms) => tier.sweep(now_ms, &generations),
                Step::Clear => tier.clear(),
            }
            prop_assert!(tier.bytes() <= size_max, "{}", tier.bytes());
        }
        let counters = tier.counters();
        let left = counters.evicted_for_room.value()
            + counters.evicted_expired.value()
            + counters.evicted_purged.value()
            + replaced;
        let entries = u64::try_from(tier.entries()).unwrap();
        prop_assert_eq!(counters.stored.value() - left, entries);
        let held: Vec<_> = (0..40).filter_map(found).collect();
        prop_assert_eq!(held.iter().map(|kept| tier.weight_of(&kept.entry)).sum::<u64>(), tier.bytes());
        prop_assert_eq!(held.len(), tier.entries());
    }
}
