//! RFC 9111 §5.2.1 and §5.4: what a caller asks of the cache.

use super::case::{Case, Check, DATED, FRESH, HOUR, Lines, get, one, three, two};

const ETAG: (&str, &str) = ("etag", "\"abc\"");

/// A kept answer is good enough for this caller.
const fn enough(name: &'static str, kept: Lines, asked: Lines) -> Case {
    two(name, get().gives(kept), get().lines(asked).cached(0))
}

const fn not_enough(name: &'static str, kept: Lines, asked: Lines) -> Case {
    two(name, get().gives(kept), get().lines(asked))
}

/// 70 s old, fresh for 60.
const STALE: Lines = &[("cache-control", "max-age=60"), ("age", "70")];
const OLD: Lines = &[("cache-control", "max-age=3600"), ("age", "1800")];

pub(super) const CASES: &[Case] = &[
    not_enough("§5.2.1.1 max-age=0", FRESH, &[("cache-control", "max-age=0")]),
    not_enough("§5.2.1.1 too old", OLD, &[("cache-control", "max-age=600")]),
    enough("§5.2.1.1 young enough", OLD, &[("cache-control", "max-age=2000")]),
    not_enough("§5.2.1.1 max-age that is none", FRESH, &[("cache-control", "max-age=x")]),
    enough("§5.2.1.2 max-stale", STALE, &[("cache-control", "max-stale=1000")]),
    enough("§5.2.1.2 max-stale without a time", STALE, &[("cache-control", "max-stale")]),
    not_enough("§5.2.1.2 too stale", STALE, &[("cache-control", "max-stale=5")]),
    not_enough(
        "§5.2.1.2 max-stale against must-revalidate",
        &[("cache-control", "max-age=60, must-revalidate"), ("age", "70")],
        &[("cache-control", "max-stale")],
    ),
    not_enough(
        "§5.2.1.2 max-stale against proxy-revalidate",
        &[("cache-control", "max-age=60, proxy-revalidate"), ("age", "70")],
        &[("cache-control", "max-stale")],
    ),
    not_enough(
        "§5.2.1.2 max-stale against s-maxage",
        &[("cache-control", "s-maxage=60"), ("age", "70")],
        &[("cache-control", "max-stale")],
    ),
    not_enough(
        "§5.2.1.2 max-stale against no-cache",
        &[("cache-control", "max-age=3600, no-cache"), ETAG],
        &[("cache-control", "max-stale")],
    ),
    enough("§5.2.1.2 max-stale of a fresh one", FRESH, &[("cache-control", "max-stale=5")]),
    not_enough("§5.2.1.3 not fresh for long enough", FRESH, &[("cache-control", "min-fresh=9000")]),
    not_enough(
        "§5.2.1.3 not fresh for long enough, by its age",
        OLD,
        &[("cache-control", "min-fresh=1900")],
    ),
    enough("§5.2.1.3 fresh for long enough", OLD, &[("cache-control", "min-fresh=1000")]),
    not_enough("§5.2.1.3 min-fresh that is none", FRESH, &[("cache-control", "min-fresh=x")]),
    not_enough("§5.2.1.4 no-cache", FRESH, &[("cache-control", "no-cache")]),
    not_enough("§5.2.1.4 no-cache in any case", FRESH, &[("cache-control", "NO-Cache")]),
    two(
        "§5.2.1.4 no-cache validates by tag",
        get().gives(&[HOUR, ETAG]),
        get()
            .lines(&[("cache-control", "no-cache")])
            .validated(0)
            .and(&[Check::Sent("if-none-match", "\"abc\"")]),
    ),
    two(
        "§5.2.1.4 no-cache validates by date",
        get().gives(&[HOUR, DATED, ("last-modified", "{now-10000}")]),
        get()
            .lines(&[("cache-control", "no-cache")])
            .validated(0)
            .and(&[Check::Sent("if-modified-since", "{now-10000}")]),
    ),
    three(
        "§5.2.1.4 what no-cache brings is kept",
        get().gives(FRESH),
        get().lines(&[("cache-control", "no-cache")]).gives(FRESH),
        get().cached(1),
    ),
    not_enough("§5.2.1.5 no-store", FRESH, &[("cache-control", "no-store")]),
    two(
        "§5.2.1.5 an answer to no-store is not kept",
        get().lines(&[("cache-control", "no-store")]).gives(FRESH),
        get(),
    ),
    three(
        "§5.2.1.5 an answer to no-store leaves the kept one",
        get().gives(FRESH),
        get().lines(&[("cache-control", "no-store")]).gives(FRESH),
        get().cached(0),
    ),
    one(
        "§5.2.1.7 only-if-cached without one",
        get().lines(&[("cache-control", "only-if-cached")]).refused(504),
    ),
    enough("§5.2.1.7 only-if-cached with one", FRESH, &[("cache-control", "only-if-cached")]),
    two(
        "§5.2.1.7 only-if-cached with a stale one",
        get().gives(STALE),
        get().lines(&[("cache-control", "only-if-cached")]).refused(504),
    ),
    enough(
        "§5.2.1.7 only-if-cached with an acceptable one",
        STALE,
        &[("cache-control", "only-if-cached, max-stale=60")],
    ),
    two(
        "§5.2.1.7 only-if-cached and no-cache",
        get().gives(FRESH),
        get().lines(&[("cache-control", "only-if-cached, no-cache")]).refused(504),
    ),
    not_enough("§5.4 pragma", FRESH, &[("pragma", "no-cache")]),
    enough(
        "§5.4 pragma beside cache-control",
        FRESH,
        &[("pragma", "no-cache"), ("cache-control", "max-age=60")],
    ),
    enough("§5.4 another pragma", FRESH, &[("pragma", "unrecognised-extension")]),
    enough("§5.2 an unknown wish", FRESH, &[("cache-control", "foo, bar=\"no-cache\"")]),
    two("RFC 9110 §9.3.1 a GET with a body passes by", get().gives(FRESH), get().sends("a body")),
    two(
        "RFC 9110 §13.1.1 if-match is the origin's",
        get().gives(&[HOUR, ETAG]),
        get().lines(&[("if-match", "\"abc\"")]).and(&[Check::Sent("if-match", "\"abc\"")]),
    ),
    two(
        "RFC 9110 §13.1.4 if-unmodified-since is the origin's",
        get().gives(&[HOUR, ETAG]),
        get()
            .lines(&[("if-unmodified-since", "{now}")])
            .and(&[Check::Sent("if-unmodified-since", "{now}")]),
    ),
];
