//! When an answer that a route keys by content may be given: in its time, for a while after it, or
//! no more. (For what a URL names, `rfc9111` has other words for the same.)
//!
//! An entry lies in the tiers for longer than it is fresh: what it may be good for afterwards is the
//! route's to say when somebody asks, so that a shorter window holds from the moment it is
//! configured. A soft purge ends an entry's time when it came.
//!
//! **Invariant:** nothing is given past its time for longer than the longest of the route's
//! windows, and nothing at all to a caller that wants it newer.

mod adapt;
mod times;

pub use adapt::{Adapt, Change};
pub use times::{Given, Hot, Left, Terms, Times};

use crate::{cache_control::RequestControl, entry::Entry};

/// An entry past its time is renewed no more often than this beside its hits: where the upstream fails, callers
/// would else make a call each.
pub const RENEWAL_PAUSE_MS: u64 = 1_000;

/// For how long past its time an entry may be given, in milliseconds; 0: not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// While one call renews it.
    pub while_revalidate_ms: u64,
    /// In place of an upstream's failure.
    pub if_error_ms: u64,
    /// In place of being shed.
    pub degrade_ms: u64,
}

/// Whether an entry is given to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fresh {
        for_ms: u64,
    },
    /// `renew`: while one call renews it; else because this caller takes an old one.
    Stale {
        by_ms: u64,
        renew: bool,
    },
    /// Not unless the upstream fails.
    Held,
}

/// Why there is no new answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The upstream could not be asked, did not answer, or answered that it cannot.
    Upstream,
    /// There was no turn for this call.
    Shed,
}

impl Entry {
    /// Whether the caller is given it now.
    pub fn judge(
        &self,
        left: Left,
        wish: &RequestControl,
        windows: Windows,
        now_ms: u64,
    ) -> Verdict {
        let age_ms = self.age_ms(now_ms);
        match left {
            Left::Fresh { for_ms, .. } if wish.accepts(age_ms, for_ms) => Verdict::Fresh { for_ms },
            Left::Fresh { .. } => Verdict::Held,
            Left::Stale { by_ms } if !takes_old(wish, age_ms) || by_ms >= windows.longest_ms() => {
                Verdict::Held
            }
            Left::Stale { by_ms } if by_ms < windows.while_revalidate_ms => {
                Verdict::Stale { by_ms, renew: true }
            }
            Left::Stale { by_ms } => match wish.max_stale_s {
                Some(max_s) if by_ms <= max_s.saturating_mul(1_000) => {
                    Verdict::Stale { by_ms, renew: false }
                }
                Some(_) | None => Verdict::Held,
            },
        }
    }

    /// Whether the caller is given what was [`Verdict::Held`], because there is nothing else.
    pub fn stands_in(
        &self,
        left: Left,
        wish: &RequestControl,
        windows: Windows,
        trouble: Trouble,
        now_ms: u64,
    ) -> bool {
        let Left::Stale { by_ms } = left else { return false };
        let window_ms = match trouble {
            Trouble::Upstream => {
                let asked_ms = wish.stale_if_error_s.unwrap_or(0).saturating_mul(1_000);
                windows.if_error_ms.max(asked_ms).min(windows.longest_ms())
            }
            Trouble::Shed => windows.degrade_ms,
        };
        by_ms < window_ms && takes_old(wish, self.age_ms(now_ms))
    }
}

/// Whether the caller says nothing against an answer of this age that is past its time.
fn takes_old(wish: &RequestControl, age_ms: u64) -> bool {
    let forbids = wish.no_cache || wish.no_store || wish.min_fresh_s.is_some();
    !forbids && wish.max_age_s.is_none_or(|max_s| max_s > 0 && age_ms / 1_000 <= max_s)
}

impl Windows {
    /// For how long past its time an entry can be of use.
    pub fn longest_ms(&self) -> u64 {
        self.while_revalidate_ms.max(self.if_error_ms).max(self.degrade_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{
        Rule,
        tests::{entry, key},
    };
    use proptest::prelude::*;

    const WINDOWS: Windows =
        Windows { while_revalidate_ms: 10_000, if_error_ms: 60_000, degrade_ms: 30_000 };

    const TERMS: Terms =
        Terms { hot: Hot { hits: 0, extend_ms: 0, ahead_ppm: 0 }, allowed_ms: u64::MAX };

    /// Stored at second 1, fresh for 60 s.
    fn kept() -> Entry {
        let times = Times::new(60_000);
        Entry { ttl_ms: 200_000, rule: Rule::Timed(Box::new(times)), ..entry(key(1), b"{}") }
    }

    fn wish(control: &str) -> RequestControl {
        RequestControl::parse([control.as_bytes()])
    }

    /// So many seconds past its time.
    #[track_caller]
    fn check(control: &str, late_s: u64, expected: &str) {
        let (kept, now_ms) = (kept(), 61_000 + late_s * 1_000);
        let left = kept.left(None, &TERMS, now_ms);
        let stands_in = |trouble| kept.stands_in(left, &wish(control), WINDOWS, trouble, now_ms);
        let found = match kept.judge(left, &wish(control), WINDOWS, now_ms) {
            Verdict::Fresh { .. } => "fresh",
            Verdict::Stale { renew: true, .. } => "renewed",
            Verdict::Stale { renew: false, .. } => "old",
            Verdict::Held => match (stands_in(Trouble::Upstream), stands_in(Trouble::Shed)) {
                (true, true) => "instead",
                (true, false) => "instead of an error",
                (false, true) => "instead of nothing",
                (false, false) => "never",
            },
        };
        assert_eq!(found, expected, "{control} {late_s} s past its time");
    }

    #[test]
    fn past_its_time_it_is_given_within_the_windows_alone() {
        check("", 0, "renewed");
        check("", 9, "renewed");
        check("", 10, "instead");
        check("", 30, "instead of an error");
        check("", 59, "instead of an error");
        check("", 60, "never");
    }

    #[test]
    fn a_caller_may_want_it_newer_or_take_it_older() {
        for control in ["no-cache", "no-store", "min-fresh=1", "max-age=0", "max-age=60"] {
            check(control, 1, "never");
        }
        check("max-age=61", 1, "renewed");
        check("max-stale=20", 20, "old");
        check("max-stale=20", 21, "instead");
        check("max-stale", 59, "old");
        check("max-stale", 60, "never");
        check("stale-if-error=500", 60, "never");
    }

    #[test]
    fn a_soft_purge_ends_its_time_when_it_came() {
        let kept = kept();
        let left = |now_ms| kept.left(Some(31_000), &TERMS, now_ms);
        assert_eq!(left(30_999), Left::Fresh { for_ms: 1, is_ending: false });
        assert_eq!(left(33_000), Left::Stale { by_ms: 2_000 });
        assert_eq!(kept.left(Some(u64::MAX), &TERMS, 61_000), Left::Stale { by_ms: 0 });
        let long_ago = kept.left(Some(0), &TERMS, 33_000);
        assert_eq!(
            kept.judge(long_ago, &wish("max-stale"), Windows::default(), 33_000),
            Verdict::Held
        );
    }

    fn controls() -> impl Strategy<Value = RequestControl> {
        let seconds = || prop::option::of(0..200_u64);
        (any::<[bool; 3]>(), seconds(), seconds(), seconds(), seconds()).prop_map(
            |(
                [no_cache, no_store, only_if_cached],
                max_age_s,
                min_fresh_s,
                max_stale_s,
                stale_if_error_s,
            )| {
                RequestControl {
                    no_cache,
                    no_store,
                    only_if_cached,
                    max_age_s,
                    min_fresh_s,
                    max_stale_s,
                    stale_if_error_s,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn nobody_is_given_anything_past_the_longest_window_or_against_a_word(
            control in controls(), soft in prop::option::of(0..300_000_u64), now_ms in 0..400_000_u64,
            (while_revalidate_ms, if_error_ms, degrade_ms) in (0..90_000_u64, 0..90_000_u64, 0..90_000_u64),
        ) {
            let windows = Windows { while_revalidate_ms, if_error_ms, degrade_ms };
            let kept = kept();
            let left = kept.left(soft, &TERMS, now_ms);
            let given = match kept.judge(left, &control, windows, now_ms) {
                Verdict::Fresh { .. } | Verdict::Stale { .. } => true,
                Verdict::Held => [Trouble::Upstream, Trouble::Shed].into_iter().any(|trouble| {
                    kept.stands_in(left, &control, windows, trouble, now_ms)
                }),
            };
            let end_ms = soft.unwrap_or(u64::MAX).min(61_000);
            if given {
                prop_assert!(!control.no_cache && !control.no_store);
                prop_assert!(now_ms.max(1_000) < end_ms.max(1_000) + windows.longest_ms().max(1));
                prop_assert!(control.max_age_s.is_none_or(|max_s| kept.age_ms(now_ms) / 1_000 <= max_s));
            }
        }
    }
}
