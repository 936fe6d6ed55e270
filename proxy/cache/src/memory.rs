//! The memory tier: bounded in bytes, and never over.
//!
//! `quick_cache` does the bounding and the choice of what to push out. Time is ours: each slot
//! carries the moment until which this tier may give it (the lesser of the entry's and the
//! route's), judged when it is looked at; what is past its time or purged leaves then, or at the
//! next [`MemoryTier::sweep`]. The clock is an argument.

use crate::{
    counters::{Count, TierCounters},
    entry::Entry,
    generations::Generations,
    key::{CacheKey, Check},
};
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter, sync::Cache};
use std::sync::Arc;

/// A shard of the cache holds nothing larger than itself; few, large shards leave room for large
/// answers.
const SHARD_BYTES_MIN: u64 = 16 * 1024 * 1024;
const SHARDS_MAX: u64 = 16;
/// Only a guess for the size of the table of ghosts.
const ENTRY_BYTES_GUESS: u64 = 4 * 1024;

/// Entries in this process's memory.
#[derive(Debug)]
pub struct MemoryTier {
    slots: Cache<CacheKey, Slot, ByWeight, DefaultHashBuilder, Evictions>,
    counters: Arc<TierCounters>,
    weight_max: u64,
}

#[derive(Clone, Debug)]
struct Slot {
    entry: Arc<Entry>,
    until_ms: u64,
    weight: u64,
}

#[derive(Clone, Debug)]
struct ByWeight;

/// Tells [`MemoryTier::store`] what was pushed out.
#[derive(Clone, Debug)]
struct Evictions;

impl MemoryTier {
    /// `size_max` in bytes, overhead of the entries included.
    pub fn new(size_max: u64) -> Self {
        let counters = Arc::<TierCounters>::default();
        let shards = (size_max / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        // The cache rounds shards up to a power of two and bytes up to a multiple of it.
        let shards = 1 << shards.ilog2();
        let to_usize = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let options = OptionsBuilder::new()
            .shards(to_usize(shards))
            .weight_capacity(size_max / shards * shards)
            .estimated_items_capacity(to_usize((size_max / ENTRY_BYTES_GUESS).max(32 * shards)))
            .build();
        let slots = match options {
            Ok(options) => {
                Cache::with_options(options, ByWeight, DefaultHashBuilder::default(), Evictions)
            }
            // Only for an option left out, which is none above.
            Err(_) => Cache::with(32, size_max, ByWeight, DefaultHashBuilder::default(), Evictions),
        };
        let weight_max = slots.shard_capacity();
        Self { slots, counters, weight_max }
    }

    /// The entry under `key`, if it may be given at `now_ms`. Neither waits nor allocates.
    pub fn look_up(
        &self,
        key: &CacheKey,
        check: &Check,
        now_ms: u64,
        generations: &Generations,
    ) -> Option<Arc<Entry>> {
        let found = self.find(key, check, now_ms, generations);
        let count = found.as_ref().map_or_else(|why| *why, |_| &self.counters.hits);
        count.add_one();
        found.ok()
    }

    /// A second look for one call, whose first has been counted: only what it finds counts.
    pub fn look_again(
        &self,
        key: &CacheKey,
        check: &Check,
        now_ms: u64,
        generations: &Generations,
    ) -> Option<Arc<Entry>> {
        let found = self.find(key, check, now_ms, generations).ok()?;
        self.counters.hits.add_one();
        Some(found)
    }

    /// The entry, or what its look-up counts as.
    fn find(
        &self,
        key: &CacheKey,
        check: &Check,
        now_ms: u64,
        generations: &Generations,
    ) -> Result<Arc<Entry>, &Count> {
        let counters = &self.counters;
        let Some(slot) = self.slots.get(key) else { return Err(&counters.misses) };
        if slot.until_ms <= now_ms || slot.entry.fresh_for_ms(now_ms).is_none() {
            counters.evicted_expired.add(self.remove_slot(key, &slot));
            return Err(&counters.expired);
        }
        let entry = &slot.entry;
        if !generations.is_valid(entry.stamp, &entry.subjects, &entry.checked) {
            counters.evicted_purged.add(self.remove_slot(key, &slot));
            return Err(&counters.purged);
        }
        if entry.check != *check {
            return Err(&counters.collisions);
        }
        Ok(slot.entry)
    }

    /// Keeps `entry` until `until_ms` at the latest.
    pub fn store(&self, key: CacheKey, entry: Arc<Entry>, until_ms: u64) {
        let weight = entry.weight();
        if weight > self.weight_max {
            // What was there is older: the new answer took its place, even if it does not fit.
            self.slots.remove(&key);
            self.counters.dropped_large.add_one();
            return;
        }
        // Freed after the shard's lock is: an answer may be megabytes.
        let mut pushed_out = Vec::new();
        self.slots.insert_with_lifecycle(key, Slot { entry, until_ms, weight }, &mut pushed_out);
        self.counters.stored.add_one();
        // What it took the place of is among them.
        for (pushed_out, _) in pushed_out {
            self.counters.evicted_for_room.add(u64::from(pushed_out != key));
        }
    }

    /// Takes out one entry at once (a purge by key frees its bytes without waiting for a look-up).
    pub fn remove(&self, key: &CacheKey) {
        if self.slots.remove(key).is_some() {
            self.counters.evicted_purged.add_one();
        }
    }

    /// Takes out everything at once.
    pub fn clear(&self) {
        for _purged in self.slots.drain() {
            self.counters.evicted_purged.add_one();
        }
    }

    /// Removes whatever may no longer be given. O(entries), a shard at a time.
    pub fn sweep(&self, now_ms: u64, generations: &Generations) {
        let counters = &self.counters;
        self.slots.retain(|_, slot| {
            let entry = &slot.entry;
            if slot.until_ms <= now_ms || entry.fresh_for_ms(now_ms).is_none() {
                counters.evicted_expired.add_one();
                return false;
            }
            let valid = generations.is_valid(entry.stamp, &entry.subjects, &entry.checked);
            if !valid {
                counters.evicted_purged.add_one();
            }
            valid
        });
    }

    /// Bytes held, overhead included. Never more than the tier's size.
    pub fn bytes(&self) -> u64 {
        self.slots.weight()
    }

    pub fn entries(&self) -> usize {
        self.slots.len()
    }

    pub fn counters(&self) -> &Arc<TierCounters> {
        &self.counters
    }

    /// Only if it still is this slot: another may have been stored meanwhile. How many were
    /// removed.
    fn remove_slot(&self, key: &CacheKey, slot: &Slot) -> u64 {
        let same = |other: &Slot| Arc::ptr_eq(&other.entry, &slot.entry);
        u64::from(self.slots.remove_if(key, same).is_some())
    }
}

impl Weighter<CacheKey, Slot> for ByWeight {
    fn weight(&self, _: &CacheKey, slot: &Slot) -> u64 {
        slot.weight
    }
}

impl Lifecycle<CacheKey, Slot> for Evictions {
    type RequestState = Vec<(CacheKey, Slot)>;

    fn on_evict(&self, state: &mut Self::RequestState, key: CacheKey, slot: Slot) {
        state.push((key, slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::tests::{entry, key},
        generations::{Subject, Target},
    };
    use bytes::Bytes;
    use proptest::prelude::*;

    const CHECK: Check = Check { len: 2, digest128: [9; 16] };

    fn with_one() -> (MemoryTier, Generations) {
        let (tier, generations) = (MemoryTier::new(1 << 20), Generations::default());
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
        let values =
            [&counters.hits, &counters.misses, &counters.expired, &counters.evicted_expired];
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

    proptest! {
        #[test]
        fn it_never_holds_more_than_its_size(sizes in proptest::collection::vec((0..40_u8, 0..60_000_usize), 1..200)) {
            let size_max = 256 * 1024;
            let tier = MemoryTier::new(size_max);
            for (n, len) in sizes {
                let mut entry = entry(key(n), b"");
                entry.body = Bytes::from(vec![0; len]);
                tier.store(key(n), Arc::new(entry), u64::MAX);
                prop_assert!(tier.bytes() <= size_max, "{}", tier.bytes());
            }
            let counters = tier.counters();
            let generations = Generations::default();
            let held: u64 = (0..40)
                .filter_map(|n| tier.look_up(&key(n), &CHECK, 1_000, &generations))
                .map(|entry| entry.weight())
                .sum();
            prop_assert_eq!(held, tier.bytes());
            prop_assert_eq!(counters.hits.value(), u64::try_from(tier.entries()).unwrap());
        }
    }
}
