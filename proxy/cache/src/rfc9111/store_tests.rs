//! What is kept, and for how long.

use super::*;
use crate::rfc9111::testing::{NOW_MS, TIMES, get, headers, stored};
use http::Method;
use proptest::prelude::*;

type Lines<'a> = &'a [(&'a str, &'a str)];

const DATE: (&str, &str) = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
/// 100 s before.
const CHANGED: (&str, &str) = ("last-modified", "Sun, 06 Nov 1994 08:47:57 GMT");
const FRESH: (&str, &str) = ("cache-control", "max-age=60");
const TAG: (&str, &str) = ("etag", "\"a\"");

fn judged(request: Lines<'_>, status: u16, answer: Lines<'_>) -> Result<Verdict, Reason> {
    let status = StatusCode::from_u16(status).unwrap();
    judge(&get(request), status, &headers(answer), TIMES, &Rules::default())
}

#[track_caller]
fn check(answer: Lines<'_>, expected: Result<(u64, u64), Reason>) {
    check_status(200, answer, expected);
}

/// Lifetime and age in seconds; answers take 0.2 s.
#[track_caller]
fn check_status(status: u16, answer: Lines<'_>, expected: Result<(u64, u64), Reason>) {
    let found = judged(&[], status, answer)
        .map(|verdict| (verdict.stored.lifetime_ms / 1_000, verdict.stored.age_ms(NOW_MS) / 1_000));
    assert_eq!(found, expected, "{status} {answer:?}");
}

fn control(text: &str) -> [(&str, &str); 1] {
    [("cache-control", text)]
}

#[test]
fn an_answer_is_kept_for_as_long_as_it_says() {
    check(&[FRESH], Ok((60, 0)));
    check(&control("max-age=60, s-maxage=5"), Ok((5, 0)));
    check(&control("s-maxage=60, max-age=0"), Ok((60, 0)));
    check(&control("max-age=\"60\""), Ok((60, 0)));
    check(&control("max-age=99999999999"), Ok((SECONDS_MAX, 0)));
    check(&control("max-age=0"), Err("stale"));
    check(&control("max-age=-1"), Err("stale"));
    check(&[("cache-control", "max-age=0"), TAG], Ok((0, 0)));
    check(&control("max-age=0, stale-while-revalidate=5"), Ok((0, 0)));
    check(&[], Err("no-freshness"));
}

#[test]
fn expires_is_counted_from_the_answers_own_date() {
    let until = |text| ("expires", text);
    check(&[DATE, until("Sun, 06 Nov 1994 08:50:37 GMT")], Ok((60, 0)));
    check(&[DATE, until("SUN, 06 NOV 1994 08:50:37 gmt")], Ok((60, 0)));
    check(&[DATE, until("Sunday, 06-Nov-94 08:50:37 GMT")], Ok((60, 0)));
    check(&[DATE, until("Sun Nov  6 08:50:37 1994")], Ok((60, 0)));
    check(&[("date", "foo"), until("Sun, 06 Nov 1994 08:50:37 GMT")], Ok((60, 0)));
    check(&[until("Sun, 06 Nov 1994 08:50:37 GMT")], Ok((60, 0)));
    // A fast clock upstream makes it no older.
    let fast = ("date", "Sun, 06 Nov 1994 09:49:37 GMT");
    check(&[fast, until("Sun, 06 Nov 1994 09:50:37 GMT")], Ok((60, 0)));
    check(&[fast, until("Sun, 06 Nov 1994 09:49:37 GMT")], Err("stale"));
    check(&[DATE, until("0")], Err("stale"));
    check(&[DATE, until("Sun, 06 Nov 1994 08:50:37 UTC")], Err("stale"));
    let line = until("Sun, 06 Nov 1994 08:50:37 GMT");
    check(&[DATE, line, line], Err("stale"));
    check(&[DATE, line, ("cache-control", "max-age=5")], Ok((5, 0)));
    check(&[DATE, until("0"), FRESH], Ok((60, 0)));
    check(&[DATE, line, ("cache-control", "max-age=0")], Err("stale"));
}

#[test]
fn the_age_it_came_with_counts() {
    check(&[FRESH, ("age", "10")], Ok((60, 10)));
    check(&[FRESH, ("age", "10, 50")], Ok((60, 10)));
    check(&[FRESH, ("age", "10"), ("age", "50")], Ok((60, 10)));
    for broken in ["abc", "-50", "50.0", "", "1e3", "'50'"] {
        check(&[FRESH, ("age", broken)], Ok((60, 0)));
    }
    let ancient = ("age", "99999999999999999999");
    assert_eq!(initial_age_ms(&headers(&[ancient]), TIMES), SECONDS_MAX * 1_000);
    let ever = stored(&[("cache-control", "max-age=99999999999"), ancient]);
    assert_eq!(ever.stored.fresh_for_ms(NOW_MS), None);
    check(&[FRESH, ("date", "Sun, 06 Nov 1994 08:49:07 GMT")], Ok((60, 30)));
    check(&[FRESH, ("date", "Sun, 06 Nov 1994 08:49:07 GMT"), ("age", "40")], Ok((60, 40)));
    assert_eq!(stored(&[FRESH, ("age", "10")]).stored.made_at_ms, NOW_MS - 10_200);
}

#[test]
fn what_says_nothing_is_kept_by_how_long_it_was_unchanged() {
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        check_status(status, &[DATE, CHANGED], Ok((10, 0)));
    }
    for status in [201, 202, 302, 303, 307, 400, 403, 500, 502, 503, 504, 599] {
        check_status(status, &[DATE, CHANGED], Err("status"));
        let public = ("cache-control", "public");
        check_status(status, &[DATE, CHANGED, public], Ok((10, 0)));
    }
    check(&[DATE, ("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT")], Ok((24 * 3600, 0)));
    check(&[DATE, ("last-modified", "Mon, 07 Nov 1994 08:49:37 GMT")], Ok((0, 0)));
    check(&[DATE, CHANGED, ("pragma", "no-cache")], Ok((0, 0)));
    check(&[DATE, ("last-modified", "soon")], Err("no-freshness"));
    assert!(stored(&[DATE, CHANGED]).stored.heuristic);
    let rules = Rules { heuristic: None, ..Rules::default() };
    let found = judge(&get(&[]), StatusCode::OK, &headers(&[DATE, CHANGED]), TIMES, &rules);
    assert_eq!(found.unwrap().stored.lifetime_ms, 0);
}

#[test]
fn any_final_status_is_kept_if_it_says_for_how_long() {
    for status in [200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499] {
        check_status(status, &[FRESH], Ok((60, 0)));
    }
    for status in [500, 502, 503, 504, 599, 201, 202, 416] {
        check_status(status, &[FRESH], Ok((60, 0)));
    }
    for status in [100, 101, 102, 103, 206, 304] {
        check_status(status, &[FRESH], Err("status"));
    }
    check(&[FRESH, ("content-range", "bytes 0-1/2")], Err("range"));
    assert_eq!(judged(&[("range", "bytes=9-")], 416, &[FRESH]).unwrap_err(), "range");
}

#[test]
fn what_forbids_is_obeyed() {
    for (text, why) in [
        ("no-store", "no-store"),
        ("No-StOrE, max-age=60", "no-store"),
        ("private, max-age=60", "private"),
        ("no-cache, max-age=60", "no-cache"),
    ] {
        check(&control(text), Err(why));
    }
    assert!(stored(&[("cache-control", "no-cache, max-age=60"), TAG]).stored.no_cache);
    assert!(stored(&[("cache-control", "no-cache"), TAG]).stored.no_cache);
    for (name, why) in [("*", "vary"), ("a b", "vary")] {
        check(&[FRESH, ("vary", name)], Err(why));
    }
    assert_eq!(judged(&[("cache-control", "no-store")], 200, &[FRESH]).unwrap_err(), "no-store");
    let post = Request::read(&Method::POST, &headers(&[]));
    let found = judge(&post, StatusCode::OK, &headers(&[FRESH]), TIMES, &Rules::default());
    assert_eq!(found.unwrap_err(), "method");
}

#[test]
fn who_understands_the_status_need_not_obey_the_no_store_beside_it() {
    let both = control("no-store, must-understand, max-age=60");
    check_status(200, &both, Ok((60, 0)));
    check_status(404, &both, Ok((60, 0)));
    check_status(499, &both, Err("must-understand"));
    check_status(299, &control("must-understand, max-age=60"), Err("must-understand"));
}

#[test]
fn an_answer_to_credentials_is_kept_only_if_it_says_that_it_is_for_all() {
    let found = |answer: Lines<'_>| judged(&[("authorization", "x")], 200, answer);
    let expires = ("expires", "Sun, 06 Nov 2094 08:50:37 GMT");
    assert_eq!(found(&[FRESH]).unwrap_err(), "authorization");
    assert_eq!(found(&[expires]).unwrap_err(), "authorization");
    let proxy = control("max-age=60, proxy-revalidate");
    assert_eq!(found(&proxy).unwrap_err(), "authorization");
    for text in ["max-age=60, public", "max-age=60, must-revalidate", "s-maxage=60"] {
        assert!(found(&control(text)).unwrap().stored.shareable, "{text}");
    }
    assert!(!stored(&[FRESH]).stored.shareable);
}

#[test]
fn cookies_are_never_kept_by_a_guess() {
    let cookie = ("set-cookie", "a=b");
    check(&[DATE, CHANGED, cookie], Err("set-cookie"));
    check(&[TAG, cookie], Err("set-cookie"));
    check(&[FRESH, cookie], Ok((60, 0)));
    let asked = |answer: Lines<'_>| judged(&[("cookie", "a=b")], 200, answer).map(drop);
    assert_eq!(asked(&[FRESH]), Ok(()));
    assert_eq!(asked(&[DATE, CHANGED]), Err("cookie"));
    assert_eq!(asked(&[TAG, ("cache-control", "no-cache")]), Ok(()));
    let drops = |set_cookie| {
        let rules = Rules { set_cookie, ..Rules::default() };
        let answer = headers(&[FRESH, cookie]);
        judge(&get(&[]), StatusCode::OK, &answer, TIMES, &rules)
            .map(|verdict| verdict.drop.contains(&header::SET_COOKIE))
    };
    assert_eq!(drops(SetCookie::Keep), Ok(false));
    assert_eq!(drops(SetCookie::Strip), Ok(true));
    assert_eq!(drops(SetCookie::Bypass), Err("set-cookie"));
}

#[test]
fn a_targeted_field_overrides_all_others() {
    let cdn = |text| ("cdn-cache-control", text);
    let none = ("cache-control", "no-store");
    check(&[cdn("max-age=60"), none], Ok((60, 0)));
    check(&[cdn("max-age=60"), DATE, ("expires", "0")], Ok((60, 0)));
    check(&[cdn("max-age=60"), ("age", "20")], Ok((60, 20)));
    check(&[cdn("max-age=5"), FRESH], Ok((5, 0)));
    check(&[cdn("no-store"), FRESH], Err("no-store"));
    check(&[cdn("private"), FRESH], Err("private"));
    check(&[cdn("no-cache"), FRESH], Err("no-cache"));
    check(&[cdn("max-age=0"), DATE, ("expires", "Sun, 06 Nov 2094 08:50:37 GMT")], Err("stale"));
    check(&[cdn("foo"), FRESH], Err("no-freshness"));
    for broken in ["max-age=60, &&&&&", "max-age=\"60\"", "", "Max-Age=60", "max-age = 60"] {
        check(&[cdn(broken), none], Err("no-store"));
    }
    check(&[cdn("max-age=5"), ("tollgate-cache-control", "max-age=7"), FRESH], Ok((7, 0)));
}

#[test]
fn fields_that_are_not_the_answers_are_not_kept() {
    let verdict = stored(&[
        ("connection", "a, close"),
        ("cache-control", "max-age=60, no-cache=\"b\", private=\"c\""),
        ("keep-alive", "x"),
        ("proxy-authenticate", "x"),
        ("x", "1"),
    ]);
    let names: Vec<&str> = verdict.drop.iter().map(HeaderName::as_str).collect();
    assert_eq!(
        names,
        [
            "a",
            "age",
            "b",
            "c",
            "close",
            "connection",
            "keep-alive",
            "proxy-authenticate",
            "set-cookie",
            "set-cookie2"
        ]
    );
}

#[test]
fn windows_past_its_time_are_what_it_or_the_route_says() {
    let windows = |text: &str, rules: &Rules| {
        let answer = headers(&control(text));
        let stored = judge(&get(&[]), StatusCode::OK, &answer, TIMES, rules).unwrap().stored;
        [stored.stale_while_revalidate_ms, stored.stale_if_error_ms, stored.stale_if_unreachable_ms]
    };
    let rules = Rules {
        stale_while_revalidate_ms: 1_000,
        stale_if_error_ms: 2_000,
        stale_if_unreachable_ms: 3_000,
        ..Rules::default()
    };
    assert_eq!(windows("max-age=1", &rules), [1_000, 2_000, 3_000]);
    let both = "max-age=1, stale-while-revalidate=7, stale-if-error=8";
    assert_eq!(windows(both, &rules), [7_000, 8_000, 8_000]);
    assert_eq!(windows("max-age=1, stale-if-error=0", &rules), [1_000, 0, 0]);
    for text in ["must-revalidate", "proxy-revalidate", "s-maxage=5"] {
        assert_eq!(windows(&format!("{both}, {text}"), &rules), [0, 0, 0], "{text}");
    }
    let kept = stored(&[("cache-control", "max-age=1"), TAG]).stored;
    assert_eq!(kept.useful_until_ms(5), kept.made_at_ms + 1_000 + DAY_MS);
}

#[test]
fn an_answer_to_post_is_kept_only_as_its_own_urls() {
    let target: Uri = "http://a/b".parse().unwrap();
    let post = Request::read(&Method::POST, &headers(&[("content-length", "3")]));
    let found = |status: u16, answer: Lines<'_>| {
        let status = StatusCode::from_u16(status).unwrap();
        judge_posted(&target, &post, status, &headers(answer), TIMES, &Rules::default()).map(drop)
    };
    let itself = ("content-location", "/b");
    assert_eq!(found(200, &[FRESH, itself]), Ok(()));
    assert_eq!(found(200, &[FRESH, ("content-location", "http://A/b")]), Ok(()));
    assert_eq!(found(200, &[FRESH]), Err("method"));
    assert_eq!(found(200, &[FRESH, ("content-location", "/c")]), Err("method"));
    assert_eq!(found(201, &[FRESH, itself]), Err("method"));
    assert_eq!(found(200, &[DATE, CHANGED, itself]), Err("no-freshness"));
    assert_eq!(found(200, &[("cache-control", "private, max-age=9"), itself]), Err("private"));
}

#[test]
fn an_answer_without_a_date_is_given_one() {
    assert!(stored(&[FRESH]).lacks_date);
    assert!(stored(&[FRESH, ("date", "foo")]).lacks_date);
    assert!(!stored(&[FRESH, DATE]).lacks_date);
}

proptest! {
    #[test]
    fn no_age_and_no_clock_overflow(
        request_ms: u64, response_ms: u64, age in "[0-9]{0,30}", now_ms: u64, max_age in "[0-9]{1,30}"
    ) {
        let control = format!("max-age={max_age}, stale-while-revalidate={max_age}");
        let answer = headers(&[("age", &age), ("cache-control", &control), DATE, CHANGED]);
        let times = Times { request_ms, response_ms };
        let age_ms = initial_age_ms(&answer, times);
        prop_assert!(age_ms <= SECONDS_MAX * 1_000);
        let found = judge(&get(&[]), StatusCode::OK, &answer, times, &Rules::default());
        if let Ok(verdict) = found {
            let stored = verdict.stored;
            prop_assert!(stored.lifetime_ms <= SECONDS_MAX * 1_000);
            prop_assert!(stored.fresh_for_ms(now_ms).is_none_or(|left| left <= stored.lifetime_ms));
            prop_assert!(stored.useful_until_ms(u64::MAX) >= stored.made_at_ms);
        }
    }

    #[test]
    fn an_older_answer_is_never_fresh_for_longer(age in 0_u64..100, older in 0_u64..100) {
        let fresh = |age: u64| {
            let age = age.to_string();
            judged(&[], 200, &[FRESH, ("age", &age)])
                .map(|verdict| verdict.stored.fresh_for_ms(NOW_MS).unwrap_or(0))
        };
        prop_assert!(fresh(age + older) <= fresh(age));
    }
}
