//! The memory tier: bounded in bytes, and never over.
//!
//! What is pushed out is the [`Policy`]'s to say: `quick_cache` does it by frequency, `ranked` by
//! recency or by what an answer's repeats save. Time is ours: each slot
//! carries the moment until which this tier may give it (the lesser of the entry's and the
//! route's), judged when it is looked at; what is past its time or purged leaves then, or at the
//! next [`MemoryTier::sweep`]. The clock is an argument.

mod beside;
mod ranked;
mod sketch;

use crate::{
    counters::{Count, TierCounters},
    entry::Entry,
    generations::{Generations, Standing},
    key::{CacheKey, Check},
};
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter, sync::Cache};
use ranked::{Order, Ranked};
use std::sync::{Arc, Mutex};

/// A shard of the cache holds nothing larger than itself; few, large shards leave room for large
/// answers.
const SHARD_BYTES_MIN: u64 = 16 * 1024 * 1024;
const SHARDS_MAX: u64 = 16;
/// Only a guess for the size of the table of ghosts.
const ENTRY_BYTES_GUESS: u64 = 4 * 1024;

/// What is kept when there is no room for everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// What is asked for often; a scan does not wash it out.
    #[default]
    Lfu,
    /// What was asked for last, exactly. A scan washes it out.
    Lru,
    /// What saves most per byte: [`Entry::worth`] times how often it was asked for, by its weight.
    Cost,
}

/// Entries in this process's memory.
#[derive(Debug)]
pub struct MemoryTier {
    slots: Slots,
    counters: Arc<TierCounters>,
    weight_max: u64,
    /// Held while room is taken beside an entry.
    grows: Mutex<()>,
}

/// What is in memory under a key.
#[derive(Clone, Debug)]
pub struct Kept {
    pub entry: Arc<Entry>,
    /// A soft purge was about it: it is past its time since then, 0 where that is not known.
    pub soft_since_ms: Option<u64>,
}

#[derive(Debug)]
enum Slots {
    Lfu(ByFrequency),
    Ranked(Ranked),
}

type ByFrequency = Cache<CacheKey, Slot, ByWeight, DefaultHashBuilder, Evictions>;

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
    /// Keeps what is asked for often. `size_max` in bytes, overhead of the entries included.
    pub fn new(size_max: u64) -> Self {
        Self::with_policy(size_max, Policy::default())
    }

    /// `size_max` in bytes, overhead of the entries included.
    pub fn with_policy(size_max: u64, policy: Policy) -> Self {
        let shards = (size_max / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        let shards = 1 << shards.ilog2();
        let slots = match policy {
            Policy::Lfu => Slots::Lfu(by_frequency(shards, size_max)),
            Policy::Lru => Slots::Ranked(Ranked::new(Order::Recency, shards, size_max)),
            Policy::Cost => Slots::Ranked(Ranked::new(Order::Worth, shards, size_max)),
        };
        let weight_max = match &slots {
            Slots::Lfu(cache) => cache.shard_capacity(),
            Slots::Ranked(ranked) => ranked.shard_bytes_max(),
        };
        Self { slots, counters: Arc::default(), weight_max, grows: Mutex::default() }
    }

    /// The entry under `key`, if it may be given at `now_ms`. Neither waits nor allocates.
    pub fn look_up(
        &self,
        key: &CacheKey,
        check: &Check,
        now_ms: u64,
        generations: &Generations,
    ) -> Option<Kept> {
        let found = self.find(key, check, now_ms, generations);
        let count = found.as_ref().map_or_else(|why| *why, |_| &self.counters.hits);
        count.add_one();
        found.ok().inspect(|kept| kept.entry.hits.add_one())
    }

    /// A second look for one call, whose first has been counted: only what it finds counts.
    pub fn look_again(
        &self,
        key: &CacheKey,
        check: &Check,
        now_ms: u64,
        generations: &Generations,
    ) -> Option<Kept> {
        let found = self.find(key, check, now_ms, generations).ok()?;
        self.counters.hits.add_one();
        found.entry.hits.add_one();
        Some(found)
    }

    /// What lies under `key` and may be of use, for who is no caller: nothing counts.
    pub fn peek(
        &self,
        key: &CacheKey,
        check: &Check,
        now_ms: u64,
        generations: &Generations,
    ) -> Option<Kept> {
        self.find(key, check, now_ms, generations).ok()
    }

    /// The entry, or what its look-up counts as.
    fn find(
        &self,
        key: &CacheKey,
        check: &Check,
        now_ms: u64,
        generations: &Generations,
    ) -> Result<Kept, &Count> {
        let counters = &self.counters;
        let Some(slot) = self.slots.find(key) else { return Err(&counters.misses) };
        if slot.until_ms <= now_ms || slot.entry.fresh_for_ms(now_ms).is_none() {
            counters.evicted_expired.add(self.remove_slot(key, &slot));
            return Err(&counters.expired);
        }
        let entry = &slot.entry;
        let standing = generations.standing(entry.stamp, entry.about(), &entry.checked);
        if standing == Standing::Void {
            counters.evicted_purged.add(self.remove_slot(key, &slot));
            return Err(&counters.purged);
        }
        if entry.check != *check {
            return Err(&counters.collisions);
        }
        let soft_since_ms = match standing {
            Standing::Soft { since_ms } => Some(since_ms),
            Standing::Valid | Standing::Void => None,
        };
        Ok(Kept { entry: slot.entry, soft_since_ms })
    }

    /// Keeps `entry` until `until_ms` at the latest.
    pub fn store(&self, key: CacheKey, entry: Arc<Entry>, until_ms: u64) {
        let weight = self.weight_of(&entry);
        if weight > self.weight_max {
            // What was there is older: the new answer took its place, even if it does not fit.
            self.slots.remove_if(&key, |_| true);
            self.counters.dropped_large.add_one();
            return;
        }
        let (pushed_out, is_admitted) = self.slots.store(key, Slot { entry, until_ms, weight });
        let outcome =
            if is_admitted { &self.counters.stored } else { &self.counters.dropped_outranked };
        outcome.add_one();
        self.counters.evicted_for_room.add(pushed_out);
    }

    /// Whether it is no larger than what is kept here.
    pub fn fits(&self, entry: &Entry) -> bool {
        self.weight_of(entry) <= self.weight_max
    }

    /// Bytes that `entry` takes here.
    fn weight_of(&self, entry: &Entry) -> u64 {
        let bookkeeping = match &self.slots {
            // Is in what an entry weighs.
            Slots::Lfu(_) => 0,
            Slots::Ranked(_) => ranked::BOOKKEEPING_BYTES,
        };
        entry.weight().saturating_add(bookkeeping)
    }

    /// Takes out one entry at once (a purge by key frees its bytes without waiting for a look-up).
    pub fn remove(&self, key: &CacheKey) {
        self.counters.evicted_purged.add(self.slots.remove_if(key, |_| true));
    }

    /// Takes out everything at once.
    pub fn clear(&self) {
        self.counters.evicted_purged.add(self.slots.clear());
    }

    /// Removes whatever may no longer be given. O(entries), a shard at a time.
    pub fn sweep(&self, now_ms: u64, generations: &Generations) {
        let counters = &self.counters;
        self.slots.retain(|slot| {
            let entry = &slot.entry;
            if slot.until_ms <= now_ms || entry.fresh_for_ms(now_ms).is_none() {
                counters.evicted_expired.add_one();
                return false;
            }
            let standing = generations.standing(entry.stamp, entry.about(), &entry.checked);
            if standing == Standing::Void {
                counters.evicted_purged.add_one();
            }
            standing != Standing::Void
        });
    }

    /// How many entries `meant` is true of. O(entries), a shard at a time.
    pub fn count(&self, meant: impl Fn(&Entry) -> bool) -> usize {
        let mut count = 0;
        self.each(|_, entry| count += usize::from(meant(entry)));
        count
    }

    /// Shows every entry. O(entries), a shard at a time.
    pub(crate) fn each(&self, mut show: impl FnMut(&CacheKey, &Entry)) {
        self.each_until(|key, entry, _| show(key, entry));
    }

    /// The same, and until when it is kept here.
    pub(crate) fn each_until(&self, mut show: impl FnMut(&CacheKey, &Arc<Entry>, u64)) {
        self.slots.each(|key, slot| show(key, &slot.entry, slot.until_ms));
    }

    /// Whether something lies there, whatever it is worth.
    pub fn holds(&self, key: &CacheKey) -> bool {
        match &self.slots {
            Slots::Lfu(cache) => cache.contains_key(key),
            Slots::Ranked(ranked) => ranked.holds(key),
        }
    }

    /// Bytes held, overhead included. Never more than the tier's size.
    pub fn bytes(&self) -> u64 {
        self.slots.held().0
    }

    pub fn entries(&self) -> usize {
        self.slots.held().1
    }

    pub fn counters(&self) -> &Arc<TierCounters> {
        &self.counters
    }

    /// Only if it still is this slot: another may have been stored meanwhile. How many were
    /// removed.
    fn remove_slot(&self, key: &CacheKey, slot: &Slot) -> u64 {
        let same = |other: &Slot| Arc::ptr_eq(&other.entry, &slot.entry);
        self.slots.remove_if(key, same)
    }
}

impl Slots {
    fn find(&self, key: &CacheKey) -> Option<Slot> {
        match self {
            Self::Lfu(cache) => cache.get(key),
            Self::Ranked(ranked) => ranked.find(key),
        }
    }

    /// How many were pushed out for room, and whether the new one was let in. What leaves is freed
    /// after the shard's lock is: an answer may be megabytes.
    fn store(&self, key: CacheKey, slot: Slot) -> (u64, bool) {
        match self {
            Self::Lfu(cache) => {
                let new = slot.entry.clone();
                let mut left = Vec::new();
                cache.insert_with_lifecycle(key, slot, &mut left);
                // What it took the place of is among them.
                let others = left.iter().filter(|(left, _)| *left != key).count();
                let is_admitted = !left.iter().any(|(_, slot)| Arc::ptr_eq(&slot.entry, &new));
                (u64::try_from(others).unwrap_or(u64::MAX), is_admitted)
            }
            Self::Ranked(ranked) => {
                let Some(stored) = ranked.store(key, slot) else { return (0, false) };
                let pushed_out = stored.pushed_out.len();
                (u64::try_from(pushed_out).unwrap_or(u64::MAX), stored.is_admitted)
            }
        }
    }

    /// How many were removed.
    fn remove_if(&self, key: &CacheKey, meant: impl Fn(&Slot) -> bool) -> u64 {
        let removed = match self {
            Self::Lfu(cache) => cache.remove_if(key, meant).map(|(_, slot)| slot),
            Self::Ranked(ranked) => ranked.remove_if(key, meant),
        };
        u64::from(removed.is_some())
    }

    /// How many were removed.
    fn clear(&self) -> u64 {
        match self {
            Self::Lfu(cache) => cache.drain().fold(0, |removed, _| removed + 1),
            Self::Ranked(ranked) => ranked.clear(),
        }
    }

    fn retain(&self, keep: impl Fn(&Slot) -> bool) {
        match self {
            Self::Lfu(cache) => cache.retain(|_, slot| keep(slot)),
            Self::Ranked(ranked) => ranked.retain(keep),
        }
    }

    fn each(&self, mut show: impl FnMut(&CacheKey, &Slot)) {
        match self {
            Self::Lfu(cache) => cache.iter().for_each(|(key, slot)| show(&key, &slot)),
            Self::Ranked(ranked) => ranked.each(show),
        }
    }

    /// Bytes and entries.
    fn held(&self) -> (u64, usize) {
        match self {
            Self::Lfu(cache) => (cache.weight(), cache.len()),
            Self::Ranked(ranked) => ranked.held(),
        }
    }
}

fn by_frequency(shards: u64, size_max: u64) -> ByFrequency {
    let to_usize = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let options = OptionsBuilder::new()
        .shards(to_usize(shards))
        // Bytes are rounded up to a multiple of the shards.
        .weight_capacity(size_max / shards * shards)
        .estimated_items_capacity(to_usize((size_max / ENTRY_BYTES_GUESS).max(32 * shards)))
        .build();
    match options {
        Ok(options) => {
            Cache::with_options(options, ByWeight, DefaultHashBuilder::default(), Evictions)
        }
        // Only for an option left out, which is none above.
        Err(_) => Cache::with(32, size_max, ByWeight, DefaultHashBuilder::default(), Evictions),
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
mod tests;
