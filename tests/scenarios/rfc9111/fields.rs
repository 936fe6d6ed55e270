//! RFC 9111 §3.1 and RFC 9211: which fields are kept, and what is said about it.

use super::case::{Case, Check, FRESH, HOUR, Lines, get, method, two};

/// The fields of a kept answer are as the checks have it.
const fn given(name: &'static str, answer: Lines, checks: &'static [Check]) -> Case {
    two(name, get().gives(answer), get().cached(0).and(checks))
}

macro_rules! kept {
    ($name:literal, $field:literal, $value:literal) => {
        given($name, &[HOUR, ($field, $value)], &[Check::Has($field, $value)])
    };
}

macro_rules! not_kept {
    ($name:literal, $field:literal, $value:literal) => {
        given($name, &[HOUR, ($field, $value)], &[Check::Lacks($field)])
    };
}

pub(super) const CASES: &[Case] = &[
    kept!("§3.1 a field that nobody knows", "test-header", "1"),
    kept!("§3.1 an x- field", "x-test-header", "1"),
    kept!("§3.1 content-type", "content-type", "text/plain"),
    kept!("§3.1 content-language", "content-language", "de"),
    kept!("§3.1 etag", "etag", "\"a\""),
    kept!("§3.1 last-modified", "last-modified", "{now-60}"),
    kept!("§3.1 x-frame-options", "x-frame-options", "deny"),
    kept!("§3.1 clear-site-data", "clear-site-data", "cookies"),
    kept!("§3.1 strict-transport-security", "strict-transport-security", "max-age=1"),
    kept!("§3.1 link", "link", "</a>; rel=next"),
    kept!("§3.1 access-control-allow-origin", "access-control-allow-origin", "*"),
    kept!("§3.1 www-authenticate", "www-authenticate", "Basic"),
    not_kept!("§3.1 proxy-authenticate", "proxy-authenticate", "Basic"),
    not_kept!("§3.1 proxy-authentication-info", "proxy-authentication-info", "x"),
    not_kept!("§3.1 proxy-connection", "proxy-connection", "keep-alive"),
    not_kept!("§3.1 keep-alive", "keep-alive", "timeout=5"),
    not_kept!("§3.1 upgrade", "upgrade", "h2c"),
    not_kept!("§3.1 te", "te", "trailers"),
    given(
        "§3.1 what connection names",
        &[HOUR, ("connection", "a, B"), ("a", "1"), ("b", "2"), ("c", "3")],
        &[Check::Lacks("a"), Check::Lacks("b"), Check::Has("c", "3")],
    ),
    two(
        "RFC 9110 §7.6.1 what connection names is not passed on either",
        get()
            .gives(&[HOUR, ("connection", "a"), ("a", "1"), ("c", "3")])
            .and(&[Check::Lacks("a"), Check::Has("c", "3")]),
        get().cached(0),
    ),
    given(
        "§3.1 lines of one name stay lines",
        &[HOUR, ("link", "</a>"), ("link", "</b>")],
        &[Check::Says("link", "</a>"), Check::Says("link", "</b>")],
    ),
    given(
        "RFC 9211 §2 a hit is called one",
        FRESH,
        &[Check::Says("cache-status", "tollgate; hit")],
    ),
    two(
        "RFC 9211 §2.3 a miss is called one",
        get().gives(FRESH).and(&[Check::Says("cache-status", "tollgate; fwd=uri-miss")]),
        get().cached(0),
    ),
    two(
        "RFC 9211 §2.3 a stale one is called one",
        get().gives(&[("cache-control", "max-age=60"), ("age", "70"), ("etag", "\"a\"")]),
        get().validated(0).gives(&[HOUR]).and(&[Check::Says("cache-status", "fwd=stale")]),
    ),
    two(
        "RFC 9211 §2.3 another variant is called one",
        get().lines(&[("foo", "1")]).gives(&[HOUR, ("vary", "foo")]),
        get().lines(&[("foo", "2")]).and(&[Check::Says("cache-status", "fwd=vary-miss")]),
    ),
    two(
        "RFC 9211 §2.3 a caller's wish is called one",
        get().gives(FRESH),
        get()
            .lines(&[("cache-control", "no-cache")])
            .and(&[Check::Says("cache-status", "fwd=request")]),
    ),
    two(
        "RFC 9211 §2.3 another method is called one",
        get().gives(FRESH),
        method("POST").sends("x").and(&[Check::Says("cache-status", "fwd=")]),
    ),
];
