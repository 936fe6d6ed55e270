//! Room in memory for what is made of an entry while it lies there: its coded forms.
//!
//! The room is taken before a form is kept, so that the tier is never over. It is taken only for
//! the very entry that the form was made of: a newer answer under its key is left alone.

use super::{ByFrequency, MemoryTier, Slot, Slots};
use crate::{coding::Coding, delivery::weight_added, entry::Entry, key::CacheKey};
use bytes::Bytes;
use quick_cache::sync::{EntryAction, EntryResult};
use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

impl MemoryTier {
    /// Keeps `form` beside `entry`, if that lies under `key` and there is room. What is pushed out
    /// for it is what would be for an entry.
    pub fn keep_beside(
        &self,
        key: &CacheKey,
        entry: &Arc<Entry>,
        coding: Coding,
        form: Bytes,
    ) -> bool {
        let more = weight_added(&form);
        if self.weight_of(entry).saturating_add(more) > self.weight_max {
            return false;
        }
        // One at a time: two forms of one entry made at once would each miss it while the other has
        // it out, and a form that found no room is not made again.
        let one_at_a_time = self.grows.lock().unwrap_or_else(PoisonError::into_inner);
        let grown = self.slots.grow(key, entry, more);
        drop(one_at_a_time);
        let Some(pushed_out) = grown else { return false };
        self.counters.evicted_for_room.add(pushed_out);
        entry.delivery.keep(coding, form);
        true
    }
}

impl Slots {
    /// How many were pushed out for room. `None`: it is not there, or there is no room, and nothing
    /// was done.
    fn grow(&self, key: &CacheKey, entry: &Arc<Entry>, more: u64) -> Option<u64> {
        match self {
            Self::Lfu(cache) => grow(cache, key, entry, more),
            Self::Ranked(ranked) => {
                let pushed_out = ranked.grow(key, |slot| Arc::ptr_eq(&slot.entry, entry), more)?;
                Some(u64::try_from(pushed_out.len()).unwrap_or(u64::MAX))
            }
        }
    }
}

/// quick_cache makes room when something is put in, and only then: the slot is taken out and put in
/// again, its place kept meanwhile. Whoever looks just then misses, and looks once more as a leader.
fn grow(cache: &ByFrequency, key: &CacheKey, entry: &Arc<Entry>, more: u64) -> Option<u64> {
    let same = |slot: &Slot| Arc::ptr_eq(&slot.entry, entry);
    if !cache.peek(key).is_some_and(|slot| same(&slot)) {
        return None;
    }
    let taken = cache.entry(key, Some(Duration::ZERO), |_, slot| match same(slot) {
        true => EntryAction::ReplaceWithGuard,
        false => EntryAction::Retain(()),
    });
    // A place that was empty after all is given back as it is dropped.
    let EntryResult::Replaced(place, slot) = taken else { return None };
    let weight = slot.weight.saturating_add(more);
    let mut left = Vec::new();
    let put = place.insert_with_lifecycle(Slot { weight, ..slot }, &mut left);
    let others = left.iter().filter(|(left, _)| left != key).count();
    put.is_ok().then(|| u64::try_from(others).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::tests::{entry, key},
        generations::Generations,
        memory::Policy,
    };

    const POLICIES: [Policy; 3] = [Policy::Lfu, Policy::Lru, Policy::Cost];

    fn tier(policy: Policy) -> (MemoryTier, Arc<Entry>) {
        let tier = MemoryTier::with_policy(16 * 1024, policy);
        let one = Arc::new(entry(key(1), &[b'a'; 4096]));
        tier.store(key(1), one.clone(), 60_000);
        (tier, one)
    }

    #[test]
    fn a_form_is_counted_in_the_tiers_bytes_and_leaves_with_its_entry() {
        for policy in POLICIES {
            let (tier, one) = tier(policy);
            let before = tier.bytes();
            let form = Bytes::from(vec![b'f'; 1000]);
            assert!(tier.keep_beside(&key(1), &one, Coding::Br, form.clone()), "{policy:?}");
            assert_eq!(one.delivery.coded(Coding::Br), Some(&form));
            assert_eq!(tier.bytes() - before, weight_added(&form), "{policy:?}");
            assert_eq!(tier.entries(), 1);
            let found = tier.look_up(&key(1), &one.check, 2_000, &Generations::default());
            assert!(Arc::ptr_eq(&found.unwrap().entry, &one), "{policy:?}");
            tier.remove(&key(1));
            assert_eq!(tier.bytes(), 0, "{policy:?}");
        }
    }

    #[test]
    fn forms_of_one_entry_that_are_made_at_once_are_all_kept() {
        for _ in 0..500 {
            let (tier, one) = &tier(Policy::Lfu);
            let begin = &std::sync::Barrier::new(Coding::ALL.len());
            std::thread::scope(|scope| {
                for coding in Coding::ALL {
                    scope.spawn(move || {
                        begin.wait();
                        tier.keep_beside(&key(1), one, coding, Bytes::from_static(b"form"));
                    });
                }
            });
            let made =
                Coding::ALL.into_iter().filter(|coding| one.delivery.coded(*coding).is_some());
            assert_eq!(made.count(), Coding::ALL.len());
        }
    }

    #[test]
    fn a_newer_answer_under_the_key_is_left_alone() {
        for policy in POLICIES {
            let (tier, old) = tier(policy);
            let new = Arc::new(entry(key(1), b"new"));
            tier.store(key(1), new.clone(), 60_000);
            let before = tier.bytes();
            assert!(!tier.keep_beside(&key(1), &old, Coding::Br, Bytes::from_static(b"form")));
            tier.remove(&key(2));
            assert!(!tier.keep_beside(&key(2), &old, Coding::Br, Bytes::from_static(b"form")));
            assert_eq!((tier.bytes(), tier.entries()), (before, 1), "{policy:?}");
            let found = tier.look_up(&key(1), &new.check, 2_000, &Generations::default());
            assert!(Arc::ptr_eq(&found.unwrap().entry, &new), "{policy:?}");
            assert_eq!(old.delivery.coded(Coding::Br), None);
        }
    }

    #[test]
    fn forms_never_make_the_tier_larger_than_it_may_be() {
        for policy in POLICIES {
            let tier = MemoryTier::with_policy(16 * 1024, policy);
            for n in 0..40 {
                let one = Arc::new(entry(key(n), &[b'a'; 1024]));
                tier.store(key(n), one.clone(), 60_000);
                for coding in Coding::ALL {
                    tier.keep_beside(&key(n), &one, coding, Bytes::from(vec![0; 900]));
                    assert!(tier.bytes() <= 16 * 1024, "{policy:?} {n}: {}", tier.bytes());
                }
            }
            let (_, one) = self::tier(policy);
            let huge = Bytes::from(vec![0; 64 * 1024]);
            assert!(!tier.keep_beside(&key(1), &one, Coding::Br, huge), "{policy:?}");
        }
    }
}
