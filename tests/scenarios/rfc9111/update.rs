//! RFC 9111 §3.2, §4.3.4 and §4.3.5: newer fields for a kept answer, from a 304 and from HEAD.

use super::case::{
    Case, Check, DATED, FRESH, HOUR, Lines, MINUTE, OLD_AGE, get, method, three, two,
};

const TAG: (&str, &str) = ("etag", "\"a\"");
const STALE: [(&str, &str); 3] = [("cache-control", "max-age=60"), ("age", "70"), TAG];

/// A 304's value of this field is given to the caller that caused it, and to the next.
const fn taken(name: &'static str, old: Lines, newer: Lines, checks: &'static [Check]) -> Case {
    three(
        name,
        get().gives(old),
        get().validated(0).gives(newer).and(checks),
        get().cached(0).and(checks),
    )
}

macro_rules! field {
    ($name:literal, $field:literal, $old:literal, $newer:literal) => {
        taken(
            $name,
            &[MINUTE, OLD_AGE, TAG, ($field, $old)],
            &[HOUR, TAG, ($field, $newer)],
            &[Check::Has($field, $newer)],
        )
    };
    ($name:literal, $field:literal, $old:literal, not $newer:literal) => {
        taken(
            $name,
            &[MINUTE, OLD_AGE, TAG, ($field, $old)],
            &[HOUR, TAG, ($field, $newer)],
            &[Check::Has($field, $old)],
        )
    };
}

/// 70 s old, fresh for 60, then asked about by HEAD.
const fn head(name: &'static str, answer: Lines, status: u16, last: super::case::Step) -> Case {
    three(
        name,
        get().gives(&[MINUTE, OLD_AGE, TAG, ("x-a", "1")]),
        method("HEAD").status(status).gives(answer),
        last,
    )
}

pub(super) const CASES: &[Case] = &[
    field!("§3.2 a field", "test-header", "1", "2"),
    field!("§3.2 an x- field", "x-test-header", "1", "2"),
    field!("§3.2 a content- field", "content-foo", "1", "2"),
    field!("§3.2 content-type", "content-type", "text/plain", "text/plain;charset=utf-8"),
    field!("§3.2 content-location", "content-location", "/foo", "/bar"),
    field!(
        "§3.2 content-security-policy",
        "content-security-policy",
        "default-src 'self'",
        "default-src x"
    ),
    field!("§3.2 x-frame-options", "x-frame-options", "deny", "sameorigin"),
    field!("§3.2 x-xss-protection", "x-xss-protection", "1", "1; mode=block"),
    field!("§3.2 clear-site-data", "clear-site-data", "cache", "cookies"),
    field!("§3.2 public-key-pins", "public-key-pins", "a", "b"),
    field!("§3.2 expires", "expires", "{now-60}", "{now+3600}"),
    field!("§3.2 content-encoding stays", "content-encoding", "x-a", not "x-b"),
    taken(
        "§3.2 what a 304 leaves out stays",
        &[MINUTE, OLD_AGE, TAG, ("x-a", "1")],
        &[HOUR, TAG],
        &[Check::Has("x-a", "1")],
    ),
    taken(
        "§3.2 what a 304 adds is added",
        &STALE,
        &[HOUR, TAG, ("x-a", "1")],
        &[Check::Has("x-a", "1")],
    ),
    taken(
        "§3.2 two lines are replaced by one",
        &[MINUTE, OLD_AGE, TAG, ("x-a", "1"), ("x-a", "2")],
        &[HOUR, TAG, ("x-a", "3")],
        &[Check::Has("x-a", "3")],
    ),
    taken(
        "§3.2 cache-control",
        &STALE,
        &[("cache-control", "max-age=1000"), TAG],
        &[Check::Has("cache-control", "max-age=1000")],
    ),
    taken(
        "§3.2 what connection names is not taken over",
        &[MINUTE, OLD_AGE, TAG, ("x-a", "1")],
        &[HOUR, TAG, ("connection", "x-a"), ("x-a", "2")],
        &[Check::Has("x-a", "1")],
    ),
    taken(
        "§3.2 a cookie is not taken over for all",
        &STALE,
        &[HOUR, TAG, ("set-cookie", "a=b")],
        &[Check::Lacks("set-cookie")],
    ),
    taken("§3.2 the age begins anew", &STALE, &[HOUR, DATED, TAG], &[Check::Age(0, 5)]),
    taken(
        "§3.2 the length stays the body's",
        &STALE,
        &[HOUR, TAG, ("content-length", "99")],
        &[Check::Has("etag", "\"a\"")],
    ),
    three(
        "§3.2 a 304 may end it",
        get().gives(&STALE),
        get().validated(0).gives(&[("cache-control", "max-age=0"), TAG]),
        get().validated(0).gives(&[HOUR, TAG]),
    ),
    three(
        "§3.2 a 304 that forbids keeping ends it",
        get().gives(&STALE),
        get().validated(0).gives(&[("cache-control", "no-store"), TAG]),
        get().gives(FRESH).and(&[Check::NotSent("if-none-match")]),
    ),
    three(
        "§4.3.4 a date's 304 updates too",
        get().gives(&[MINUTE, OLD_AGE, ("last-modified", "{now-86400}"), ("x-a", "1")]),
        get().validated(0).gives(&[HOUR, ("last-modified", "{now-86400}"), ("x-a", "2")]),
        get().cached(0).and(&[Check::Has("x-a", "2")]),
    ),
    two(
        "§4.3.5 HEAD is passed on when what is kept is stale",
        get().gives(&[MINUTE, OLD_AGE]),
        method("HEAD").gives(FRESH),
    ),
    head("§4.3.5 HEAD with the tag makes it fresh", &[HOUR, TAG], 200, get().cached(0)),
    head("§4.3.5 HEAD without a tag makes it fresh", FRESH, 200, get().cached(0)),
    head(
        "§4.3.5 HEAD brings newer fields",
        &[HOUR, TAG, ("x-a", "2")],
        200,
        get().cached(0).and(&[Check::Has("x-a", "2")]),
    ),
    head(
        "§4.3.5 HEAD leaves fields that it does not name",
        &[HOUR, TAG],
        200,
        get().cached(0).and(&[Check::Has("x-a", "1")]),
    ),
    head("§4.3.5 HEAD with another tag makes it fresh not", &[HOUR, ("etag", "\"b\"")], 200, get()),
    head(
        "§4.3.5 HEAD with an error changes nothing",
        FRESH,
        500,
        get().validated(0).gives(&[HOUR, TAG]),
    ),
    head("§4.3.5 HEAD with a 410 makes it fresh not", FRESH, 410, get()),
    three(
        "§4.3.5 HEAD with another tag voids a fresh one",
        get().gives(&[HOUR, TAG]),
        method("HEAD").lines(&[("cache-control", "no-cache")]).gives(&[HOUR, ("etag", "\"b\"")]),
        get(),
    ),
    three(
        "§4.3.5 HEAD with another length voids a fresh one",
        get().body("12345").gives(FRESH),
        method("HEAD").lines(&[("cache-control", "no-cache")]).body("1234567").gives(FRESH),
        get(),
    ),
];
