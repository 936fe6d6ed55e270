//! Counts over the recent past: a ring of time slots that forgets the oldest.
//!
//! Adding is two atomic operations. Only the first call of a slot takes a lock,
//! to clear what the slot held one turn ago; nobody can count into a slot while
//! it is being cleared, so no call is lost or counted twice.

use std::sync::{
    Mutex, OnceLock, PoisonError,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

/// `slots` × `width` counts, each slot `slot_ms` long.
#[derive(Debug)]
pub struct Ring {
    slots: Box<[Slot]>,
    slot_ms: u64,
    width: usize,
}

#[derive(Debug, Default)]
struct Slot {
    /// Number of the stretch of time counted here, from 1; 0 = none yet.
    number: AtomicU64,
    /// Made on first use: an idle proxy pays nothing for its windows.
    counts: OnceLock<Box<[AtomicU32]>>,
    turning: Mutex<()>,
}

impl Ring {
    /// A ring of `slots` slots of `slot_ms` each (both at least 1), `width` counts in each.
    pub fn new(slots: usize, slot_ms: u64, width: usize) -> Self {
        let slots = (0..slots.max(1)).map(|_| Slot::default()).collect();
        Self { slots, slot_ms: slot_ms.max(1), width }
    }

    /// Counts one at each of `places`. A call that reports a whole turn late is
    /// dropped: its time is no longer in the window.
    pub fn add(&self, now_ms: u64, places: impl IntoIterator<Item = usize>) {
        let number = self.number(now_ms);
        let Some(slot) = self.slot(number) else { return };
        if slot.number.load(Ordering::Acquire) != number && !slot.turn_to(number, self.width) {
            return;
        }
        let Some(counts) = slot.counts.get() else { return };
        for count in places.into_iter().filter_map(|place| counts.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The sum of every place over the whole ring, the running slot included.
    pub fn sums(&self, now_ms: u64) -> Vec<u64> {
        let mut sums = vec![0; self.width];
        let oldest_age = self.slots.len() as u64 - 1;
        for counts in (0..=oldest_age).filter_map(|age| self.counts(now_ms, age)) {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += u64::from(count.load(Ordering::Relaxed));
            }
        }
        sums
    }

    /// The sum of one place over the finished slots, and how many ms those are.
    pub fn finished(&self, now_ms: u64, place: usize) -> (u64, u64) {
        let oldest_age = self.slots.len() as u64 - 1;
        let sum = (1..=oldest_age)
            .filter_map(|age| self.counts(now_ms, age)?.get(place))
            .map(|count| u64::from(count.load(Ordering::Relaxed)))
            .sum();
        (sum, oldest_age * self.slot_ms)
    }

    /// Whether no slot has taken memory for its counts yet.
    #[cfg(test)]
    pub(super) fn is_untouched(&self) -> bool {
        self.slots.iter().all(|slot| slot.counts.get().is_none())
    }

    /// The counts of the slot `age` slots ago, if anything was counted then.
    fn counts(&self, now_ms: u64, age: u64) -> Option<&[AtomicU32]> {
        let number = self.number(now_ms).checked_sub(age).filter(|number| *number > 0)?;
        let slot = self.slot(number)?;
        if slot.number.load(Ordering::Acquire) != number {
            return None;
        }
        slot.counts.get().map(|counts| &**counts)
    }

    fn number(&self, now_ms: u64) -> u64 {
        now_ms / self.slot_ms + 1
    }

    fn slot(&self, number: u64) -> Option<&Slot> {
        let place = number % self.slots.len() as u64;
        self.slots.get(usize::try_from(place).ok()?)
    }
}

impl Slot {
    /// Clears the slot for the stretch `number`; false if it is already in a later one.
    fn turn_to(&self, number: u64, width: usize) -> bool {
        let _turning = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.number.load(Ordering::Acquire);
        if current >= number {
            return current == number;
        }
        let counts = self.counts.get_or_init(|| (0..width).map(|_| AtomicU32::new(0)).collect());
        for count in counts {
            count.store(0, Ordering::Relaxed);
        }
        // Who sees the number also sees the zeros.
        self.number.store(number, Ordering::Release);
        true
    }
}
