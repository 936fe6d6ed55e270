//! Where a record goes when both segments are full: first a bounded list, then sums.
//!
//! This happens when the database cannot be written (disk full) or the writer is
//! far behind. Detail is given up last but one, money never: what does not fit the
//! list is added to the 5-minute sums of its dimensions.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use uuid::Uuid;

use crate::{
    record::UsageRecord,
    sums::{RollupKey, Sums},
};

/// Sets of dimensions with sums of their own; further ones share one.
const KEYS_MAX: usize = 4096;
/// More than two segments hold open entries.
const COLLAPSED_MAX: usize = 65_536;

#[derive(Debug)]
pub(crate) struct Overflow {
    inner: Mutex<Spilled>,
    records_max: usize,
    /// Records in the list here and at the writer.
    waiting: AtomicUsize,
    has_any: AtomicUsize,
    collapsed: AtomicU64,
}

/// What was put aside, in the order it came.
#[derive(Debug, Default)]
pub(crate) struct Spilled {
    pub(crate) records: Vec<UsageRecord>,
    pub(crate) sums: HashMap<RollupKey, Sums>,
    /// Calls whose records are only in `sums` (the first [`COLLAPSED_MAX`] of them),
    /// so that their open entries do not count them a second time.
    pub(crate) collapsed: Vec<Uuid>,
}

impl Overflow {
    pub(crate) fn new(records_max: usize) -> Self {
        Self {
            inner: Mutex::default(),
            records_max,
            waiting: AtomicUsize::new(0),
            has_any: AtomicUsize::new(0),
            collapsed: AtomicU64::new(0),
        }
    }

    pub(crate) fn push(&self, record: &UsageRecord) {
        let mut spilled = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_any.store(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) < self.records_max {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            spilled.records.push(*record);
            return;
        }
        self.collapsed.fetch_add(1, Ordering::Relaxed);
        let key = RollupKey::of(record);
        let known = spilled.sums.contains_key(&key) || spilled.sums.len() < KEYS_MAX;
        let key = if known { key } else { RollupKey::other(key.start_ms) };
        *spilled.sums.entry(key).or_default() += &Sums::from(record);
        if spilled.collapsed.len() < COLLAPSED_MAX {
            spilled.collapsed.push(record.id);
        }
    }

    /// Takes everything; the writer says [`Overflow::stored`] when it is safe.
    pub(crate) fn take(&self) -> Spilled {
        if !self.has_any() {
            return Spilled::default();
        }
        let mut spilled = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_any.store(0, Ordering::SeqCst);
        std::mem::take(&mut spilled)
    }

    pub(crate) fn stored(&self, records: usize) {
        self.waiting.fetch_sub(records, Ordering::Relaxed);
    }

    pub(crate) fn has_any(&self) -> bool {
        self.has_any.load(Ordering::SeqCst) != 0
    }

    /// Calls whose detail was given up.
    pub(crate) fn collapsed(&self) -> u64 {
        self.collapsed.load(Ordering::Relaxed)
    }
}

impl Spilled {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.sums.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sums::tests::any_record;

    proptest! {
        #[test]
        fn beyond_the_list_detail_is_lost_but_no_money(
            records in prop::collection::vec(any_record(), 0..60), records_max in 0..20usize,
        ) {
            let overflow = Overflow::new(records_max);
            let mut expected = Sums::default();
            for record in &records {
                overflow.push(record);
                expected += &Sums::from(record);
            }
            let spilled = overflow.take();
            prop_assert_eq!(spilled.records.len(), records.len().min(records_max));
            let mut sums = Sums::default();
            for record in &spilled.records {
                sums += &Sums::from(record);
            }
            for part in spilled.sums.values() {
                sums += part;
            }
            prop_assert_eq!(sums, expected);
        }
    }
}
