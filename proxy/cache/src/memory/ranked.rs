//! Slots with a rank each, of which the lowest leaves first.
//!
//! One structure for two policies that differ only in what the rank is: by recency it is the
//! moment of the last use (an exact LRU); by worth it is GDSF's `level + seen × worth / bytes`,
//! the level being the rank of what left last, so that what is not used any more sinks below what
//! comes. A newcomer that ranks no higher than what it would push out is not let in: a scan of
//! cheap large answers finds nothing cheaper than itself. How often a key was seen outlives its
//! entry in a [`Sketch`].
//!
//! Ranks only rise, so the heap may lag behind: a hit writes two numbers under a read lock, and
//! what is found at the heap's top with a rank of old is put back with its rank of today. What
//! leaves is exactly the lowest.

use super::{Slot, sketch::Sketch};
use crate::key::CacheKey;
use quick_cache::DefaultHashBuilder;
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// What a slot's rank is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Recency,
    Worth,
}

/// What a slot takes here beyond what it takes in quick_cache: its ticket, its place in a sparser
/// table. Measured, see `tollgate-bench entry-cost`.
pub(super) const BOOKKEEPING_BYTES: u64 = 128;
/// Beyond, a worth counts as this: about a thousand dollars in billionths.
const WORTH_MAX: u64 = 1 << 40;
/// Worth per byte is a whole number; this many times it.
const DENSITY_SCALE: u64 = 1 << 16;
const SEEN_MAX: u64 = 255;
/// Beyond, all ranks are counted from the level anew. Far from the end of the numbers: a rank is
/// above the level by less than 2^56.
const LEVEL_MAX: u64 = 1 << 62;
/// One counter for so many bytes of the tier: 0.8 % of it.
const BYTES_PER_COUNTER: u64 = 128;
const HEAP_SLACK: usize = 64;

#[derive(Debug)]
pub(super) struct Ranked {
    shards: Box<[RwLock<Shard>]>,
    shard_bytes_max: u64,
}

#[derive(Debug)]
struct Shard {
    order: Order,
    held: HashMap<CacheKey, Held, DefaultHashBuilder>,
    /// Every held slot once, with a rank it had; and some that are held no more.
    heap: BinaryHeap<Reverse<Ticket>>,
    bytes: u64,
    bytes_max: u64,
    /// By worth: the rank of what left last. By recency: the moment.
    level: AtomicU64,
    next_number: u64,
    sketch: Sketch,
}

#[derive(Debug)]
struct Held {
    slot: Slot,
    number: u64,
    rank: AtomicU64,
    seen: AtomicU64,
}

/// Of equal ranks the older leaves first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket {
    rank: u64,
    number: u64,
    key: CacheKey,
}

/// What became of a store. The slots are for the caller to free, after the lock is.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) is_admitted: bool,
    /// For room.
    pub(super) pushed_out: Vec<Slot>,
    _replaced: Option<Slot>,
}

impl Ranked {
    /// `shards` is a power of two.
    pub(super) fn new(order: Order, shards: u64, size_max: u64) -> Self {
        let shard_bytes_max = size_max / shards.max(1);
        let shard = |_| RwLock::new(Shard::new(order, shard_bytes_max));
        Self { shards: (0..shards.max(1)).map(shard).collect(), shard_bytes_max }
    }

    pub(super) fn shard_bytes_max(&self) -> u64 {
        self.shard_bytes_max
    }

    pub(super) fn find(&self, key: &CacheKey) -> Option<Slot> {
        self.read(key)?.find(key)
    }

    pub(super) fn store(&self, key: CacheKey, slot: Slot) -> Option<Stored> {
        Some(self.write(&key)?.store(key, slot))
    }

    /// Gives what is under `key`, if it is what the caller means, so many bytes `more`. What was
    /// pushed out for them; `None`: nothing was done.
    pub(super) fn grow(
        &self,
        key: &CacheKey,
        meant: impl Fn(&Slot) -> bool,
        more: u64,
    ) -> Option<Vec<Slot>> {
        self.write(key)?.grow(key, meant, more)
    }

    /// Removes what is under `key` if it is what the caller means.
    pub(super) fn remove_if(&self, key: &CacheKey, meant: impl Fn(&Slot) -> bool) -> Option<Slot> {
        let mut shard = self.write(key)?;
        if shard.held.get(key).is_none_or(|held| !meant(&held.slot)) {
            return None;
        }
        shard.take(key)
    }

    /// Removes everything; how many that were.
    pub(super) fn clear(&self) -> u64 {
        let mut removed = 0;
        for shard in self.every() {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            let held = std::mem::take(&mut shard.held);
            shard.heap.clear();
            shard.bytes = 0;
            drop(shard);
            removed += u64::try_from(held.len()).unwrap_or(u64::MAX);
        }
        removed
    }

    /// Removes what `keep` says no to, a shard at a time.
    pub(super) fn retain(&self, keep: impl Fn(&Slot) -> bool) {
        for shard in self.every() {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            let gone: Vec<Held> =
                shard.held.extract_if(|_, held| !keep(&held.slot)).map(|(_, held)| held).collect();
            for held in &gone {
                shard.bytes = shard.bytes.saturating_sub(held.slot.weight);
            }
            shard.tidy();
            drop(shard);
        }
    }

    /// Shows every slot, a shard at a time.
    pub(super) fn each(&self, mut show: impl FnMut(&CacheKey, &Slot)) {
        for shard in self.every() {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            shard.held.iter().for_each(|(key, held)| show(key, &held.slot));
        }
    }

    pub(super) fn holds(&self, key: &CacheKey) -> bool {
        self.read(key).is_some_and(|shard| shard.held.contains_key(key))
    }

    /// The bytes and the number of what is held.
    pub(super) fn held(&self) -> (u64, usize) {
        self.every().fold((0, 0), |(bytes, entries), shard| {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            (bytes.saturating_add(shard.bytes), entries.saturating_add(shard.held.len()))
        })
    }

    fn every(&self) -> impl Iterator<Item = &RwLock<Shard>> {
        self.shards.iter()
    }

    fn read(&self, key: &CacheKey) -> Option<RwLockReadGuard<'_, Shard>> {
        Some(self.shard(key)?.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, key: &CacheKey) -> Option<RwLockWriteGuard<'_, Shard>> {
        Some(self.shard(key)?.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// There always is one.
    fn shard(&self, key: &CacheKey) -> Option<&RwLock<Shard>> {
        let byte = key.as_bytes().last().copied().unwrap_or(0);
        self.shards.get(usize::from(byte) & self.shards.len().saturating_sub(1))
    }
}

impl Shard {
    fn new(order: Order, bytes_max: u64) -> Self {
        let counters = match order {
            Order::Recency => 0,
            Order::Worth => bytes_max / BYTES_PER_COUNTER,
        };
        Self {
            order,
            held: HashMap::default(),
            heap: BinaryHeap::new(),
            bytes: 0,
            bytes_max,
            level: AtomicU64::new(0),
            next_number: 0,
            sketch: Sketch::new(usize::try_from(counters).unwrap_or(0)),
        }
    }

    fn find(&self, key: &CacheKey) -> Option<Slot> {
        let held = self.held.get(key)?;
        // Two hits at once may count as one: a count, not an account.
        let seen = held.seen.load(Relaxed).saturating_add(1).min(SEEN_MAX);
        held.seen.store(seen, Relaxed);
        held.rank.fetch_max(self.rank(&held.slot, seen), Relaxed);
        Some(held.slot.clone())
    }

    fn rank(&self, slot: &Slot, seen: u64) -> u64 {
        match self.order {
            Order::Recency => self.level.fetch_add(1, Relaxed),
            Order::Worth => {
                let worth = slot.entry.worth.clamp(1, WORTH_MAX).saturating_mul(DENSITY_SCALE);
                let density = worth.checked_div(slot.weight).unwrap_or(worth).max(1);
                self.level.load(Relaxed).saturating_add(seen.saturating_mul(density))
            }
        }
    }

    fn store(&mut self, key: CacheKey, slot: Slot) -> Stored {
        let replaced = self.held.remove(&key);
        if let Some(replaced) = &replaced {
            self.bytes = self.bytes.saturating_sub(replaced.slot.weight);
        }
        let seen = match (&replaced, self.order) {
            (Some(replaced), _) => replaced.seen.load(Relaxed),
            (None, Order::Recency) => 0,
            (None, Order::Worth) => {
                let seen = self.sketch.count(&key).saturating_add(1);
                self.sketch.raise(&key, seen);
                u64::from(seen).min(SEEN_MAX)
            }
        };
        let replaced = replaced.map(|held| held.slot);
        let rank = self.rank(&slot, seen);
        let Some(victims) = self.victims(slot.weight, rank) else {
            return Stored { is_admitted: false, pushed_out: Vec::new(), _replaced: replaced };
        };
        let pushed_out = victims.into_iter().filter_map(|ticket| self.push_out(ticket)).collect();
        self.bytes = self.bytes.saturating_add(slot.weight);
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        self.heap.push(Reverse(Ticket { rank, number, key }));
        self.held.insert(key, Held { slot, number, rank: rank.into(), seen: seen.into() });
        self.tidy();
        Stored { is_admitted: true, pushed_out, _replaced: replaced }
    }

    fn grow(
        &mut self,
        key: &CacheKey,
        meant: impl Fn(&Slot) -> bool,
        more: u64,
    ) -> Option<Vec<Slot>> {
        let held = self.held.get(key).filter(|held| meant(&held.slot))?;
        // Only what ranks lower makes room, and so not this one itself.
        let rank = held.rank.load(Relaxed);
        let victims = self.victims(more, rank)?;
        let pushed_out = victims.into_iter().filter_map(|ticket| self.push_out(ticket)).collect();
        let held = self.held.get_mut(key)?;
        held.slot.weight = held.slot.weight.saturating_add(more);
        self.bytes = self.bytes.saturating_add(more);
        self.tidy();
        Some(pushed_out)
    }

    /// The lowest, taken from the heap, until there is room for `weight`. `None`, and nothing
    /// taken: something among them ranks no lower than `rank`.
    fn victims(&mut self, weight: u64, rank: u64) -> Option<Vec<Ticket>> {
        let mut victims = Vec::new();
        let mut left = self.bytes;
        while left.saturating_add(weight) > self.bytes_max {
            let lowest = self.lowest().filter(|lowest| lowest.0.rank < rank);
            let Some((lowest, freed)) = lowest else {
                self.heap.extend(victims.into_iter().map(Reverse));
                return None;
            };
            self.heap.pop();
            left = left.saturating_sub(freed);
            victims.push(lowest);
        }
        Some(victims)
    }

    /// The heap's top, once it is held and its rank is that of today; and its bytes.
    fn lowest(&mut self) -> Option<(Ticket, u64)> {
        loop {
            let mut top = self.heap.peek_mut()?;
            let ticket = top.0;
            match self.held.get(&ticket.key) {
                Some(held) if held.number == ticket.number => {
                    let rank = held.rank.load(Relaxed);
                    if rank == ticket.rank {
                        return Some((ticket, held.slot.weight));
                    }
                    // Sinks to its place as the guard is dropped.
                    top.0.rank = rank;
                }
                Some(_) | None => {
                    std::collections::binary_heap::PeekMut::pop(top);
                }
            }
        }
    }

    fn push_out(&mut self, ticket: Ticket) -> Option<Slot> {
        let held = self.held.remove(&ticket.key)?;
        self.bytes = self.bytes.saturating_sub(held.slot.weight);
        if self.order == Order::Worth {
            self.level.fetch_max(ticket.rank, Relaxed);
            let seen = held.seen.load(Relaxed);
            self.sketch.raise(&ticket.key, u32::try_from(seen).unwrap_or(u32::MAX));
        }
        Some(held.slot)
    }

    fn take(&mut self, key: &CacheKey) -> Option<Slot> {
        let held = self.held.remove(key)?;
        self.bytes = self.bytes.saturating_sub(held.slot.weight);
        self.tidy();
        Some(held.slot)
    }

    /// Keeps the heap from filling with what is held no more, and the level from its end.
    fn tidy(&mut self) {
        let level = self.level.load(Relaxed);
        let is_high = self.order == Order::Worth && level > LEVEL_MAX;
        let is_full = self.heap.len() > self.held.len().saturating_mul(2) + HEAP_SLACK;
        if !is_high && !is_full {
            return;
        }
        if is_high {
            self.level.store(0, Relaxed);
        }
        let down = if is_high { level } else { 0 };
        let tickets = self.held.iter().map(|(key, held)| {
            let rank = held.rank.load(Relaxed).saturating_sub(down);
            held.rank.store(rank, Relaxed);
            Reverse(Ticket { rank, number: held.number, key: *key })
        });
        self.heap = tickets.collect();
    }
}
