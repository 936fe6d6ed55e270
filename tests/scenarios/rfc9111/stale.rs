//! RFC 9111 §4.2.4, RFC 5861 and RFC 8246: answers past their time, and answers that cannot change.

use super::case::{Case, Check, FRESH, Lines, four, get, three, two};

const AGE: (&str, &str) = ("age", "70");
const TAG: (&str, &str) = ("etag", "\"a\"");

/// The upstream cannot be reached; the stale answer is given.
const fn stands_in(name: &'static str, kept: Lines) -> Case {
    two(name, get().gives(kept), get().hangs_up().stale(0))
}

const fn fails(name: &'static str, kept: Lines) -> Case {
    two(name, get().gives(kept), get().hangs_up().failed(502))
}

/// The upstream answers with an error; the stale answer is given.
const fn covers(name: &'static str, kept: Lines, status: u16) -> Case {
    two(name, get().gives(kept), get().status(status).stale(0))
}

const fn shows(name: &'static str, kept: Lines, status: u16) -> Case {
    two(name, get().gives(kept), get().status(status))
}

const ERROR: Lines = &[("cache-control", "max-age=60, stale-if-error=60"), AGE];
const RENEWED: Lines = &[("cache-control", "max-age=60, stale-while-revalidate=60"), AGE];

pub(super) const CASES: &[Case] = &[
    stands_in("§4.2.4 a broken connection", &[("cache-control", "max-age=60"), AGE]),
    stands_in(
        "§4.2.4 a broken connection, by expires",
        &[("expires", "{now-10}"), ("date", "{now-70}"), TAG],
    ),
    stands_in(
        "§4.2.4 a broken connection, with a tag",
        &[("cache-control", "max-age=60"), AGE, TAG],
    ),
    fails("§4.2.4 must-revalidate", &[("cache-control", "max-age=60, must-revalidate"), AGE]),
    fails("§4.2.4 proxy-revalidate", &[("cache-control", "max-age=60, proxy-revalidate"), AGE]),
    fails("§4.2.4 s-maxage", &[("cache-control", "max-age=60, s-maxage=60"), AGE]),
    fails("§4.2.4 no-cache", &[("cache-control", "max-age=60, no-cache"), AGE, TAG]),
    fails("§4.2.4 no-cache of a fresh one", &[("cache-control", "max-age=600, no-cache"), TAG]),
    fails(
        "§4.2.4 must-revalidate before stale-if-error",
        &[("cache-control", "max-age=60, stale-if-error=600, must-revalidate"), AGE],
    ),
    two(
        "§4.2.4 a caller that wants none from the cache",
        get().gives(&[("cache-control", "max-age=60"), AGE]),
        get().lines(&[("cache-control", "no-cache")]).hangs_up().failed(502),
    ),
    two(
        "§4.2.4 a stale one says how old it is",
        get().gives(&[("cache-control", "max-age=60"), AGE]),
        get().hangs_up().stale(0).and(&[Check::Age(70, 80)]),
    ),
    shows("§4.2.4 an error is no broken connection", &[("cache-control", "max-age=60"), AGE], 503),
    stands_in("RFC 5861 §4 stale-if-error and a broken connection", ERROR),
    covers("RFC 5861 §4 stale-if-error and 500", ERROR, 500),
    covers("RFC 5861 §4 stale-if-error and 502", ERROR, 502),
    covers("RFC 5861 §4 stale-if-error and 503", ERROR, 503),
    covers("RFC 5861 §4 stale-if-error and 504", ERROR, 504),
    shows("RFC 5861 §4 stale-if-error and 501", ERROR, 501),
    shows("RFC 5861 §4 stale-if-error and 404", ERROR, 404),
    shows(
        "RFC 5861 §4 stale-if-error that is over",
        &[("cache-control", "max-age=60, stale-if-error=5"), AGE],
        503,
    ),
    fails(
        "RFC 5861 §4 stale-if-error that is over, and a broken connection",
        &[("cache-control", "max-age=60, stale-if-error=5"), AGE],
    ),
    shows(
        "RFC 5861 §4 must-revalidate before stale-if-error",
        &[("cache-control", "max-age=60, stale-if-error=60, must-revalidate"), AGE],
        503,
    ),
    two(
        "RFC 5861 §4 a caller's stale-if-error",
        get().gives(&[("cache-control", "max-age=60"), AGE]),
        get().lines(&[("cache-control", "stale-if-error=60")]).status(503).stale(0),
    ),
    two("RFC 5861 §3 stale while it is renewed", get().gives(RENEWED), get().gives(FRESH).stale(0)),
    three(
        "RFC 5861 §3 and then renewed",
        get().gives(RENEWED),
        get().gives(FRESH).stale(0),
        get().settles(1),
    ),
    four(
        "RFC 5861 §3 and then fresh",
        [get().gives(RENEWED), get().gives(FRESH).stale(0), get().settles(1), get().cached(1)],
    ),
    two(
        "RFC 5861 §3 not longer than said",
        get().gives(&[("cache-control", "max-age=60, stale-while-revalidate=5"), AGE]),
        get().gives(FRESH),
    ),
    two(
        "RFC 5861 §3 must-revalidate before it",
        get().gives(&[
            ("cache-control", "max-age=60, stale-while-revalidate=60, must-revalidate"),
            AGE,
        ]),
        get().gives(FRESH),
    ),
    two(
        "RFC 5861 §3 not for a caller that wants a young one",
        get().gives(RENEWED),
        get().lines(&[("cache-control", "max-age=65")]).gives(FRESH),
    ),
    two(
        "RFC 5861 §3 not for a caller that wants none from the cache",
        get().gives(RENEWED),
        get().lines(&[("cache-control", "no-cache")]).gives(FRESH),
    ),
    two(
        "RFC 8246 §2 a reload of what cannot change",
        get().gives(&[("cache-control", "max-age=3600, immutable"), TAG]),
        get().lines(&[("cache-control", "max-age=0")]).cached(0),
    ),
    two(
        "RFC 8246 §2 no-cache of what cannot change",
        get().gives(&[("cache-control", "max-age=3600, immutable"), TAG]),
        get().lines(&[("cache-control", "no-cache")]).validated(0),
    ),
    two(
        "RFC 8246 §2 past its time it may have changed",
        get().gives(&[("cache-control", "max-age=60, immutable"), TAG, AGE]),
        get().lines(&[("cache-control", "max-age=0")]).validated(0),
    ),
    two(
        "RFC 8246 §2 immutable with a value is not it",
        get().gives(&[("cache-control", "max-age=3600, immutable=1"), TAG]),
        get().lines(&[("cache-control", "max-age=0")]).validated(0),
    ),
];
