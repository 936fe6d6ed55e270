//! For how long an entry is fresh: its own time, and what its route makes of that when somebody asks.
//!
//! What is asked for often may be good for longer, and is renewed before its time is over. How
//! often that was is counted in the entry ([`crate::entry::Hits`]), in this process's memory, so that
//! a hit neither locks nor allocates for it; that an entry is hot is said in its bytes, too, for
//! those who take it from another tier.

use crate::entry::{Entry, Rule};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The whole, where a part is said in millionths.
const PPM: u128 = 1_000_000;

/// The times of an entry that more is known of than when its time ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    /// From when it was stored.
    pub fresh_ms: u64,
    /// By how much it may be good for longer at most: its upstream may have said.
    pub extend_max_ms: u64,
    /// It was found to be asked for often, here or elsewhere.
    pub is_hot: bool,
    /// How long answers to its question are good, by what was seen of them, before anything made
    /// it less for this one; 0: nothing was seen.
    pub learned_ms: u64,
    pub given: Given,
}

/// What happened to an entry in this process's memory: no part of its meaning.
#[derive(Debug, Default)]
pub struct Given {
    renewed_at_ms: AtomicU64,
    is_told: AtomicBool,
}

/// What a route makes of the time of what it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    pub hot: Hot,
    /// The longest that the route's rules keep anything for this very caller: what another's rules
    /// have kept for longer is past its time for this one.
    pub allowed_ms: u64,
}

/// What holds for what is asked for often. The default: nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hot {
    /// How many hits make an entry hot; 0: none do.
    pub hits: u32,
    /// Its time is longer by so much, and at most doubled.
    pub extend_ms: u64,
    /// In the last millionths of its time it is renewed beside a hit.
    pub ahead_ppm: u32,
}

/// What is left of an entry's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Never for 0. `is_ending`: whoever is given it may begin to renew it.
    Fresh {
        for_ms: u64,
        is_ending: bool,
    },
    Stale {
        by_ms: u64,
    },
}

impl Entry {
    /// What is left of its time, which a soft purge may have ended.
    pub fn left(&self, soft_since_ms: Option<u64>, terms: &Terms, now_ms: u64) -> Left {
        let (life_ms, is_hot) = self.life(terms);
        let until_ms = self.stored_at_ms.saturating_add(life_ms);
        let until_ms = until_ms.min(soft_since_ms.unwrap_or(u64::MAX));
        // A clock that went back makes nothing younger than it was when it came.
        let now_ms = now_ms.max(self.stored_at_ms);
        match until_ms.checked_sub(now_ms) {
            Some(for_ms) if for_ms > 0 => {
                let ahead = u128::from(life_ms) * u128::from(terms.hot.ahead_ppm);
                let is_ending = is_hot && u128::from(for_ms) * PPM <= ahead;
                Left::Fresh { for_ms, is_ending }
            }
            Some(_) | None => Left::Stale { by_ms: now_ms.saturating_sub(until_ms) },
        }
    }

    /// How long an answer to its question is good, as far as it knows.
    pub fn learned_ms(&self) -> u64 {
        match &self.rule {
            Rule::Timed(times) if times.learned_ms > 0 => times.learned_ms,
            Rule::Timed(times) => times.fresh_ms,
            Rule::Ttl | Rule::Http(_) | Rule::Variants(_) => self.ttl_ms,
        }
    }

    /// For how long it is fresh from when it was stored, and whether it is hot.
    fn life(&self, terms: &Terms) -> (u64, bool) {
        let times = match &self.rule {
            Rule::Timed(times) => times,
            Rule::Ttl => return (self.ttl_ms.min(terms.allowed_ms), false),
            Rule::Http(_) | Rule::Variants(_) => return (self.ttl_ms, false),
        };
        let fresh_ms = times.fresh_ms.min(terms.allowed_ms);
        if !self.is_hot(times, terms.hot) {
            return (fresh_ms, false);
        }
        (fresh_ms.saturating_add(times.extension_ms(terms.hot).min(fresh_ms)), true)
    }

    fn is_hot(&self, times: &Times, hot: Hot) -> bool {
        hot.hits > 0 && (times.is_hot || self.hits.value() >= hot.hits)
    }

    /// Whether it has become hot by what was counted here, and this is the first to see it.
    pub fn becomes_hot(&self, hot: Hot) -> bool {
        let Rule::Timed(times) = &self.rule else { return false };
        let is_news = !times.is_hot && self.is_hot(times, hot);
        // What is told already is not written to by every hit.
        let told = &times.given.is_told;
        is_news && !told.load(Ordering::Relaxed) && !told.swap(true, Ordering::Relaxed)
    }
}

/// Nothing is hot, and everything is fresh for its own time.
impl Default for Terms {
    fn default() -> Self {
        Self { hot: Hot::default(), allowed_ms: u64::MAX }
    }
}

impl Times {
    /// Nothing is known but when it ends.
    pub fn new(fresh_ms: u64) -> Self {
        let given = Given::default();
        Self { fresh_ms, extend_max_ms: u64::MAX, is_hot: false, learned_ms: 0, given }
    }

    /// How much longer it is fresh once it is hot.
    pub fn extension_ms(&self, hot: Hot) -> u64 {
        hot.extend_ms.min(self.fresh_ms).min(self.extend_max_ms)
    }
}

impl Given {
    /// Whether it is this caller who begins to renew it: one in `pause_ms`.
    pub fn renews(&self, pause_ms: u64, now_ms: u64) -> bool {
        let before = self.renewed_at_ms.load(Ordering::Relaxed);
        let is_due = before == 0 || now_ms.abs_diff(before) >= pause_ms;
        is_due
            && self
                .renewed_at_ms
                .compare_exchange(before, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// A copy has not been given.
impl Clone for Given {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// It is a memory, not a part of an entry's meaning.
impl PartialEq for Given {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Given {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::tests::{entry, key};
    use proptest::prelude::*;

    const HOT: Hot = Hot { hits: 3, extend_ms: 30_000, ahead_ppm: 100_000 };
    const TERMS: Terms = Terms { hot: HOT, allowed_ms: u64::MAX };

    /// Stored at second 1, fresh for 60 s.
    fn kept(times: Times) -> Entry {
        Entry { ttl_ms: 200_000, rule: Rule::Timed(Box::new(times)), ..entry(key(1), b"{}") }
    }

    fn given(entry: Entry, hits: u32) -> Entry {
        (0..hits).for_each(|_| entry.hits.add_one());
        entry
    }

    fn heated(times: Times) -> Entry {
        given(kept(times), 5)
    }

    #[test]
    fn what_was_given_often_is_fresh_for_longer_once() {
        let cold = given(kept(Times::new(60_000)), 2);
        assert_eq!(cold.left(None, &TERMS, 61_000), Left::Stale { by_ms: 0 });
        assert!(!cold.becomes_hot(HOT));
        let hot = given(cold, 1);
        assert!(hot.becomes_hot(HOT) && !hot.becomes_hot(HOT), "it is told once");
        let left = |now_ms| hot.left(None, &TERMS, now_ms);
        assert_eq!(left(61_000), Left::Fresh { for_ms: 30_000, is_ending: false });
        assert_eq!(left(82_000), Left::Fresh { for_ms: 9_000, is_ending: true });
        assert_eq!(left(91_000), Left::Stale { by_ms: 0 });
        // To a route that goes by it no more.
        assert_eq!(hot.left(None, &Terms::default(), 61_000), Left::Stale { by_ms: 0 });
    }

    #[test]
    fn what_is_hot_elsewhere_is_hot_here() {
        let hot = kept(Times { is_hot: true, ..Times::new(60_000) });
        assert!(matches!(hot.left(None, &TERMS, 61_000), Left::Fresh { .. }));
        assert!(!given(hot, 9).becomes_hot(HOT), "it has been told");
    }

    #[test]
    fn no_extension_is_longer_than_the_own_time_or_what_the_upstream_allows() {
        let until = |times: Times| {
            let Left::Fresh { for_ms, .. } = heated(times).left(None, &TERMS, 1_000) else {
                return 0;
            };
            for_ms
        };
        assert_eq!(until(Times::new(20_000)), 40_000);
        assert_eq!(until(Times { extend_max_ms: 5_000, ..Times::new(60_000) }), 65_000);
        assert_eq!(until(Times { extend_max_ms: 0, ..Times::new(60_000) }), 60_000);
    }

    #[test]
    fn no_caller_is_given_it_for_longer_than_its_own_rules_allow() {
        let terms = Terms { allowed_ms: 10_000, ..TERMS };
        let cold = kept(Times::new(60_000));
        let plain = Entry { ttl_ms: 60_000, ..entry(key(1), b"{}") };
        for entry in [&cold, &plain] {
            let left = |now_ms| entry.left(None, &terms, now_ms);
            assert_eq!(left(10_999), Left::Fresh { for_ms: 1, is_ending: false });
            assert_eq!(left(11_000), Left::Stale { by_ms: 0 });
        }
        let hot = heated(Times::new(60_000));
        assert_eq!(hot.left(None, &terms, 21_000), Left::Stale { by_ms: 0 }, "at most doubled");
    }

    #[test]
    fn a_soft_purge_ends_the_time_of_what_is_hot() {
        let hot = heated(Times::new(60_000));
        assert_eq!(hot.left(Some(31_000), &TERMS, 33_000), Left::Stale { by_ms: 2_000 });
    }

    #[test]
    fn it_is_renewed_by_one_caller_at_a_time() {
        let given = Given::default();
        let renews = |now_ms| given.renews(1_000, now_ms);
        assert!(renews(5_000) && !renews(5_000) && !renews(5_999));
        assert!(renews(6_000));
    }

    proptest! {
        #[test]
        fn hits_only_lengthen_a_life_and_never_beyond_twice_its_time(
            fresh_ms in 1..100_000_u64, extend_max_ms in any::<u64>(), now_ms in 0..400_000_u64,
            hits in 0..9_u32, hot in (0..5_u32, 0..200_000_u64, 0..1_000_000_u32),
        ) {
            let (needed, extend_ms, ahead_ppm) = hot;
            let hot = Hot { hits: needed, extend_ms, ahead_ppm };
            let times = Times { extend_max_ms, ..Times::new(fresh_ms) };
            let warm = given(kept(times.clone()), hits);
            prop_assert_eq!(warm.becomes_hot(hot), needed > 0 && hits >= needed);
            let terms = Terms { hot, ..Terms::default() };
            let cold = kept(times).left(None, &terms, now_ms);
            let warm = warm.left(None, &terms, now_ms);
            let end = |left| match left {
                Left::Fresh { for_ms, .. } => now_ms.max(1_000) + for_ms,
                Left::Stale { by_ms } => now_ms.max(1_000) - by_ms,
            };
            prop_assert!(end(cold) <= end(warm) && end(warm) <= 1_000 + 2 * fresh_ms);
            if needed == 0 || hits < needed {
                prop_assert_eq!(cold, warm);
            }
        }
    }
}
