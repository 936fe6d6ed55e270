//! What lies in memory, for who asks about all of it, a page at a time.
//!
//! A page is cut by keys, which are digests: they have no order that an entry could lose, so that
//! nothing that stays is left out or shown twice, whatever comes and goes between two pages.

use super::Tiers;
use crate::{entry::Entry, generations::Standing, key::CacheKey};
use std::{cmp::Ordering, collections::BinaryHeap, sync::Arc};

/// Which entries are meant; what is `None` is not looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    pub key: Option<CacheKey>,
    pub route: Option<&'a str>,
    pub model: Option<&'a str>,
    pub tenant: Option<&'a str>,
    pub tag: Option<&'a str>,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Listed {
    pub key: CacheKey,
    pub entry: Arc<Entry>,
    /// Unix time until which memory keeps it at the latest.
    pub until_ms: u64,
    /// A soft purge was about it: it is past its time since then, 0 where that is not known.
    pub soft_since_ms: Option<u64>,
}

impl Wanted<'_> {
    fn is(&self, key: &CacheKey, entry: &Entry) -> bool {
        let says = |wanted: Option<&str>, own: &str| wanted.is_none_or(|wanted| *wanted == *own);
        self.key.is_none_or(|wanted| wanted == *key)
            && says(self.route, &entry.route)
            && says(self.model, &entry.model)
            && says(self.tenant, &entry.tenant)
            && self.tag.is_none_or(|wanted| entry.tags.iter().any(|own| **own == *wanted))
    }
}

impl Ord for Listed {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

impl PartialOrd for Listed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Listed {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Listed {}

impl Tiers {
    /// The first `most` that are meant of the entries in memory whose keys come after `after`, in
    /// the order of their keys. Nothing that is purged or over, and none of it counts as asked for.
    /// O(entries), a shard at a time: not for a thread that serves callers.
    pub fn list(
        &self,
        wanted: &Wanted<'_>,
        after: Option<&CacheKey>,
        most: usize,
        now_ms: u64,
    ) -> Vec<Listed> {
        let mut first: BinaryHeap<Listed> = BinaryHeap::new();
        self.memory().each_until(|key, entry, until_ms| {
            let is_late = first.len() >= most && first.peek().is_none_or(|last| *key > last.key);
            let is_before = after.is_some_and(|after| key <= after);
            let is_over = until_ms <= now_ms || entry.fresh_for_ms(now_ms).is_none();
            if is_late || is_before || is_over || !wanted.is(key, entry) {
                return;
            }
            let soft_since_ms =
                match self.generations.standing(entry.stamp, entry.about(), &entry.checked) {
                    Standing::Void => return,
                    Standing::Soft { since_ms } => Some(since_ms),
                    Standing::Valid => None,
                };
            first.push(Listed { key: *key, entry: entry.clone(), until_ms, soft_since_ms });
            if first.len() > most {
                first.pop();
            }
        });
        first.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::{
            subjects,
            tests::{entry, key},
        },
        generations::Target,
        memory::MemoryTier,
        tiers::{Plan, TierName, TierUse},
    };

    fn tiers() -> Tiers {
        let tiers =
            Tiers::new(MemoryTier::new(1 << 20), Vec::new(), Arc::default(), Arc::default());
        let plan = Plan::new([TierUse::new(TierName::Memory, 50_000)]);
        for n in 0..9 {
            let tags: Vec<Box<str>> = vec![format!("kb:{}", n % 3).into()];
            let subjects = subjects(key(n), "chat", "m", "acme", &tags);
            let stamp = tiers.stamp();
            let entry = Entry { stamp, subjects, tags, ..entry(key(n), b"{}") };
            tiers.store(key(n), Arc::new(entry), &plan, 2_000);
        }
        tiers
    }

    #[track_caller]
    fn check(tiers: &Tiers, wanted: Wanted<'_>, after: Option<u8>, most: usize, expected: &[u8]) {
        let found = tiers.list(&wanted, after.map(key).as_ref(), most, 3_000);
        let expected: Vec<CacheKey> = expected.iter().map(|n| key(*n)).collect();
        assert_eq!(found.iter().map(|one| one.key).collect::<Vec<_>>(), expected, "{wanted:?}");
    }

    #[test]
    fn pages_follow_each_other_without_a_gap_or_anything_twice() {
        let tiers = tiers();
        let all = Wanted::default();
        check(&tiers, all, None, 4, &[0, 1, 2, 3]);
        check(&tiers, all, Some(3), 4, &[4, 5, 6, 7]);
        check(&tiers, all, Some(7), 4, &[8]);
        check(&tiers, all, Some(8), 4, &[]);
        check(&tiers, all, None, 0, &[]);
    }

    #[test]
    fn only_what_is_meant_and_may_still_be_of_use_is_shown() {
        let tiers = tiers();
        let of_tag = Wanted { tag: Some("kb:1"), ..Wanted::default() };
        check(&tiers, of_tag, None, 9, &[1, 4, 7]);
        check(&tiers, Wanted { key: Some(key(5)), ..Wanted::default() }, None, 9, &[5]);
        for nobody in [
            Wanted { route: Some("other"), ..of_tag },
            Wanted { model: Some("other"), ..of_tag },
            Wanted { tenant: Some("other"), ..of_tag },
            Wanted { key: Some(key(0)), ..of_tag },
        ] {
            check(&tiers, nobody, None, 9, &[]);
        }
        tiers.generations.purge_here(crate::generations::Subject::of(Target::Key(key(4))));
        tiers.generations.purge_here(crate::generations::Subject::of(Target::Key(key(7))).softly());
        check(&tiers, of_tag, None, 9, &[1, 7]);
        let shown = tiers.list(&of_tag, None, 9, 3_000);
        assert_eq!(shown[0].soft_since_ms, None);
        assert!(shown[1].soft_since_ms.is_some());
        assert_eq!(shown[0].until_ms, 52_000);
        assert_eq!(tiers.list(&of_tag, None, 9, 52_000).len(), 0, "its tier's time is over");
        assert_eq!(shown[0].entry.hits.value(), 0);
    }
}
