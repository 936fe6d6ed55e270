//! May a kept answer be given to this request, now (RFC 9111 §4, §5.2.1)?
//!
//! **Invariant:** an answer that must be validated is never given past its time, whatever the
//! caller, the route or a failure says.

use super::{Reason, request::Request, store::Stored};

/// What to do with a kept answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Give it.
    Fresh { age_ms: u64, fresh_for_ms: u64 },
    /// Give it, though it is past its time.
    Stale { age_ms: u64, why: Why },
    /// Ask the upstream whether it still holds ([`super::conditional::validation`]).
    Revalidate(Reason),
    /// It is as if it were not there.
    Miss(Reason),
    /// The caller wants no other than a kept answer, and this one it may not have: 504.
    NotCached,
}

/// Why a stale answer may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is to be renewed meanwhile, by one caller for all (RFC 5861 §3).
    WhileRevalidate,
    /// This caller said so; nobody needs to renew it.
    MaxStale,
}

/// What went wrong upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No answer came: no connection, a time-out, a broken one.
    Unreachable,
    /// An answer with this status.
    Status(u16),
    /// It was not asked, for want of a turn; the route gives what is past its time by less than
    /// this instead.
    Shed { window_ms: u64 },
}

/// Decides about an answer whose key, `vary` included, is the request's.
pub fn reuse(stored: &Stored, request: &Request, now_ms: u64) -> Reuse {
    let found = consider(stored, request, now_ms);
    let is_given = matches!(found, Reuse::Fresh { .. } | Reuse::Stale { .. });
    if request.control.only_if_cached && !is_given { Reuse::NotCached } else { found }
}

fn consider(stored: &Stored, request: &Request, now_ms: u64) -> Reuse {
    if let Some(why) = request.passed {
        return Reuse::Miss(why);
    }
    // More than RFC 9111 §3.5 asks for: what was kept from an anonymous call is not given to a
    // caller with credentials either, who may be meant to see something else.
    if request.authorized && !stored.shareable {
        return Reuse::Miss("authorization");
    }
    let wish = &request.control;
    if wish.no_cache {
        return Reuse::Revalidate("no-cache");
    }
    if stored.no_cache {
        return Reuse::Revalidate("upstream-no-cache");
    }
    let age_ms = stored.age_ms(now_ms);
    let fresh_for_ms = stored.fresh_for_ms(now_ms);
    // Ages are told in whole seconds, so they are judged so. A reload (`max-age=0`) of what cannot
    // change asks for nothing (RFC 8246 §2.1).
    let held = stored.immutable && fresh_for_ms.is_some();
    if !held && wish.max_age_s.is_some_and(|max_s| age_ms / 1_000 > max_s || max_s == 0) {
        return Reuse::Revalidate("max-age");
    }
    if let Some(fresh_for_ms) = fresh_for_ms {
        return match wish.min_fresh_s {
            Some(min_s) if fresh_for_ms / 1_000 < min_s => Reuse::Revalidate("min-fresh"),
            _ => Reuse::Fresh { age_ms, fresh_for_ms },
        };
    }
    if stored.must_revalidate || wish.min_fresh_s.is_some() {
        return Reuse::Revalidate("stale");
    }
    let stale_ms = age_ms.saturating_sub(stored.lifetime_ms);
    if stale_ms < stored.stale_while_revalidate_ms {
        return Reuse::Stale { age_ms, why: Why::WhileRevalidate };
    }
    match wish.max_stale_s {
        Some(max_s) if stale_ms <= max_s.saturating_mul(1_000) => {
            Reuse::Stale { age_ms, why: Why::MaxStale }
        }
        _ => Reuse::Revalidate("stale"),
    }
}

/// May the answer, which [`reuse`] wanted validated, be given instead of a failure? If so, its age.
pub fn on_error(stored: &Stored, request: &Request, now_ms: u64, failure: Failure) -> Option<u64> {
    let wish = &request.control;
    let foreign = request.authorized && !stored.shareable;
    if request.passed.is_some() || foreign || wish.no_cache || stored.no_cache {
        return None;
    }
    let asked_ms = wish.stale_if_error_s.unwrap_or(0).saturating_mul(1_000);
    let window_ms = match failure {
        Failure::Unreachable => stored.stale_if_unreachable_ms.max(asked_ms),
        // RFC 5861 §4.
        Failure::Status(500 | 502 | 503 | 504) => stored.stale_if_error_ms.max(asked_ms),
        Failure::Status(_) => return None,
        Failure::Shed { window_ms } => window_ms,
    };
    let age_ms = stored.age_ms(now_ms);
    if stored.fresh_for_ms(now_ms).is_some() {
        // Validated only because this caller wanted a younger one: it may rather have this than
        // nothing, but an upstream's own words come before it.
        return (window_ms > 0 || failure == Failure::Unreachable).then_some(age_ms);
    }
    let stale_ms = age_ms.saturating_sub(stored.lifetime_ms);
    (!stored.must_revalidate && stale_ms < window_ms).then_some(age_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfc9111::testing::{NOW_MS, get, stored as judged};
    use http::Method;
    use proptest::prelude::*;

    fn stored(control: &str) -> Stored {
        judged(&[("cache-control", control)]).stored
    }

    fn wishing(control: &str) -> Request {
        get(&[("cache-control", control)])
    }

    /// After so many seconds; answers are 0.2 s old when they come.
    #[track_caller]
    fn check(kept: &str, wish: &str, after_s: u64, expected: &str) {
        let found = reuse(&stored(kept), &wishing(wish), NOW_MS + after_s * 1_000);
        let name = match found {
            Reuse::Fresh { .. } => "fresh",
            Reuse::Stale { why: Why::MaxStale, .. } => "max-stale",
            Reuse::Stale { why: Why::WhileRevalidate, .. } => "while-revalidate",
            Reuse::Revalidate(why) | Reuse::Miss(why) => why,
            Reuse::NotCached => "not-cached",
        };
        assert_eq!(name, expected, "{kept} / {wish} after {after_s} s");
    }

    #[test]
    fn it_is_fresh_up_to_its_time_and_not_at_it() {
        let kept = Stored { made_at_ms: 1_000, lifetime_ms: 60_000, ..Stored::default() };
        let at = |now_ms| reuse(&kept, &get(&[]), now_ms);
        assert_eq!(at(60_999), Reuse::Fresh { age_ms: 59_999, fresh_for_ms: 1 });
        assert_eq!(at(61_000), Reuse::Revalidate("stale"));
        assert_eq!(at(0), Reuse::Fresh { age_ms: 0, fresh_for_ms: 60_000 }, "the clock went back");
    }

    #[test]
    fn a_caller_may_want_a_younger_or_longer_lasting_one() {
        check("max-age=60", "", 30, "fresh");
        check("max-age=60", "max-age=30", 30, "fresh");
        check("max-age=60", "max-age=29", 30, "max-age");
        check("max-age=60", "max-age=0", 0, "max-age");
        check("max-age=60", "min-fresh=29", 30, "fresh");
        check("max-age=60", "min-fresh=31", 30, "min-fresh");
        check("max-age=60", "no-cache", 0, "no-cache");
        check("max-age=60", "no-store", 0, "no-store");
    }

    #[test]
    fn a_caller_may_accept_a_stale_one_unless_it_is_forbidden() {
        check("max-age=60", "", 70, "stale");
        check("max-age=60", "max-stale", 70_000, "max-stale");
        check("max-age=60", "max-stale=11", 70, "max-stale");
        check("max-age=60", "max-stale=9", 70, "stale");
        check("max-age=60", "max-stale, max-age=65", 70, "max-age");
        check("max-age=60", "max-stale, min-fresh=1", 70, "stale");
        for forbidding in ["must-revalidate", "proxy-revalidate", "s-maxage=60"] {
            check(&format!("max-age=60, {forbidding}"), "max-stale", 70, "stale");
        }
    }

    #[test]
    fn while_it_is_renewed_it_may_be_given_for_a_while() {
        let kept = "max-age=60, stale-while-revalidate=30";
        check(kept, "", 70, "while-revalidate");
        check(kept, "", 89, "while-revalidate");
        check(kept, "", 90, "stale");
        check(kept, "only-if-cached", 70, "while-revalidate");
        check(&format!("{kept}, must-revalidate"), "", 70, "stale");
        check(kept, "no-cache", 70, "no-cache");
        check(kept, "max-age=60", 70, "max-age");
    }

    #[test]
    fn what_is_not_there_is_not_asked_for_by_only_if_cached() {
        check("max-age=60", "only-if-cached", 30, "fresh");
        check("max-age=60", "only-if-cached", 70, "not-cached");
        check("max-age=60", "only-if-cached, max-stale", 70, "max-stale");
        check("max-age=60", "only-if-cached, no-cache", 0, "not-cached");
    }

    #[test]
    fn what_cannot_change_is_not_validated_by_a_reload() {
        check("max-age=60, immutable", "max-age=0", 30, "fresh");
        check("max-age=60, immutable", "no-cache", 30, "no-cache");
        check("max-age=60, immutable", "max-age=0", 70, "max-age");
        check("max-age=60, immutable", "", 70, "stale");
    }

    #[test]
    fn no_cache_is_kept_and_always_validated() {
        let kept = judged(&[("cache-control", "no-cache, max-age=60"), ("etag", "\"a\"")]).stored;
        assert_eq!(reuse(&kept, &get(&[]), NOW_MS), Reuse::Revalidate("upstream-no-cache"));
        assert_eq!(on_error(&kept, &get(&[]), NOW_MS, Failure::Unreachable), None);
    }

    #[test]
    fn a_caller_with_credentials_is_given_only_what_is_for_all() {
        let caller = get(&[("authorization", "x")]);
        let found = |control: &str| reuse(&stored(control), &caller, NOW_MS);
        assert_eq!(found("max-age=60"), Reuse::Miss("authorization"));
        assert_eq!(found("max-age=60, proxy-revalidate"), Reuse::Miss("authorization"));
        for sharing in ["public", "must-revalidate", "s-maxage=60"] {
            let found = found(&format!("max-age=60, {sharing}"));
            assert!(matches!(found, Reuse::Fresh { .. }), "{sharing}");
        }
    }

    #[track_caller]
    fn check_error(kept: &str, wish: &str, after_s: u64, failure: Failure, given: bool) {
        let found = on_error(&stored(kept), &wishing(wish), NOW_MS + after_s * 1_000, failure);
        assert_eq!(found.is_some(), given, "{kept} / {wish} after {after_s} s, {failure:?}");
    }

    #[test]
    fn who_cannot_be_reached_is_stood_in_for_unless_it_is_forbidden() {
        use Failure::Unreachable;
        check_error("max-age=60", "", 70, Unreachable, true);
        check_error("max-age=60", "", 60 + 24 * 3600, Unreachable, false);
        check_error("max-age=60, stale-if-error=5", "", 64, Unreachable, true);
        check_error("max-age=60, stale-if-error=5", "", 66, Unreachable, false);
        for forbidding in ["must-revalidate", "proxy-revalidate", "s-maxage=60"] {
            let kept = format!("max-age=60, stale-if-error=99, {forbidding}");
            check_error(&kept, "stale-if-error=99", 70, Unreachable, false);
            check_error(&kept, "", 30, Unreachable, true);
        }
        check_error("max-age=60", "no-cache", 30, Unreachable, false);
    }

    #[test]
    fn an_error_is_replaced_only_where_someone_said_so() {
        for status in [500, 502, 503, 504] {
            check_error("max-age=60, stale-if-error=30", "", 70, Failure::Status(status), true);
            check_error("max-age=60, stale-if-error=30", "", 90, Failure::Status(status), false);
            check_error("max-age=60", "", 70, Failure::Status(status), false);
            check_error("max-age=60", "stale-if-error=30", 70, Failure::Status(status), true);
        }
        for status in [200, 304, 404, 429, 501, 505] {
            check_error("max-age=60, stale-if-error=30", "", 70, Failure::Status(status), false);
        }
    }

    fn any_stored() -> impl Strategy<Value = Stored> {
        (any::<[bool; 6]>(), any::<[u64; 5]>()).prop_map(|(flags, numbers)| Stored {
            made_at_ms: numbers[0],
            lifetime_ms: numbers[1],
            must_revalidate: flags[0],
            no_cache: flags[1],
            immutable: flags[2],
            shareable: flags[3],
            heuristic: flags[4],
            has_validator: flags[5],
            stale_while_revalidate_ms: numbers[2],
            stale_if_error_ms: numbers[3],
            stale_if_unreachable_ms: numbers[4],
        })
    }

    const WISHES: &str = "((max-age=[0-9]{1,9}|max-stale(=[0-9]{1,9})?|min-fresh=[0-9]{1,9}\
                          |no-cache|only-if-cached|stale-if-error=[0-9]{1,9}), ?){0,4}";

    proptest! {
        #[test]
        fn what_must_be_validated_is_never_given_stale(
            stored in any_stored(), wish in WISHES, now_ms: u64, status: u16
        ) {
            let stored = Stored { must_revalidate: true, ..stored };
            let request = wishing(&wish);
            let is_stale = stored.age_ms(now_ms) >= stored.lifetime_ms;
            let found = reuse(&stored, &request, now_ms);
            let is_found_stale = matches!(found, Reuse::Stale { .. });
            prop_assert!(!is_found_stale);
            let is_fresh = matches!(found, Reuse::Fresh { .. });
            prop_assert!(!(is_stale && is_fresh));
            for failure in [Failure::Unreachable, Failure::Status(status)] {
                let given = on_error(&stored, &request, now_ms, failure);
                prop_assert!(!(is_stale && given.is_some()));
            }
        }

        #[test]
        fn no_credentials_get_what_is_not_for_all(stored in any_stored(), now_ms: u64) {
            let stored = Stored { shareable: false, ..stored };
            let request = Request::read(
                &Method::GET,
                &crate::rfc9111::testing::headers(&[("authorization", "x")]),
            );
            prop_assert_eq!(reuse(&stored, &request, now_ms), Reuse::Miss("authorization"));
            prop_assert_eq!(on_error(&stored, &request, now_ms, Failure::Unreachable), None);
        }

        #[test]
        fn who_wants_only_what_is_kept_never_makes_a_call(
            stored in any_stored(), wish in WISHES, now_ms: u64
        ) {
            let request = wishing(&format!("only-if-cached, {wish}"));
            let found = reuse(&stored, &request, now_ms);
            let is_call = matches!(found, Reuse::Revalidate(_) | Reuse::Miss(_));
            prop_assert!(!is_call);
        }
    }
}
