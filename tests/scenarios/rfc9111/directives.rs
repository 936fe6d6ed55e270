//! RFC 9111 §5.2.2: what an answer forbids and allows, and §3.5: answers to credentials.

use super::case::{Case, Check, DATED, FRESH, HOUR, Lines, get, kept, not_kept, three, two};

const ETAG: (&str, &str) = ("etag", "\"abcd\"");
const LATER: (&str, &str) = ("expires", "{now+9000}");
const NOW: (&str, &str) = ("date", "{now}");
const CREDENTIALS: Lines = &[("authorization", "Bearer x")];

/// Of an answer to credentials: another caller is given it.
const fn shared(name: &'static str, fields: Lines) -> Case {
    two(name, get().lines(CREDENTIALS).gives(fields), get().cached(0))
}

const fn not_shared(name: &'static str, fields: Lines) -> Case {
    two(name, get().lines(CREDENTIALS).gives(fields), get())
}

/// A kept answer, to a caller with credentials.
const fn given(name: &'static str, fields: Lines) -> Case {
    two(name, get().gives(fields), get().lines(CREDENTIALS).cached(0))
}

const fn validated(name: &'static str, fields: Lines) -> Case {
    two(
        name,
        get().gives(fields),
        get().validated(0).and(&[Check::Sent("if-none-match", "\"abcd\"")]),
    )
}

pub(super) const CASES: &[Case] = &[
    not_kept("§5.2.2.5 no-store", &[("cache-control", "no-store")]),
    not_kept("§5.2.2.5 no-store in any case", &[("cache-control", "No-StOrE")]),
    not_kept(
        "§5.2.2.5 no-store of a fresh one",
        &[("cache-control", "max-age=9000, no-store"), LATER, NOW],
    ),
    not_kept(
        "§5.2.2.5 no-store on another line",
        &[("cache-control", "max-age=9000"), ("cache-control", "no-store")],
    ),
    not_kept("§5.2.2.5 no-store with a value", &[("cache-control", "max-age=9000, no-store=x")]),
    three(
        "§5.2.2.5 a newer no-store leaves the kept one to others",
        get().gives(FRESH),
        get().lines(&[("cache-control", "no-cache")]).gives(&[("cache-control", "no-store")]),
        get().cached(0),
    ),
    not_kept("§5.2.2.7 private", &[("cache-control", "private, max-age=3600")]),
    not_kept("§5.2.2.7 private in any case", &[("cache-control", "PRIVATE, max-age=3600")]),
    not_kept("§5.2.2.7 private and public", &[("cache-control", "public, private, max-age=3600")]),
    two(
        "§5.2.2.7 private fields are not kept",
        get().gives(&[("cache-control", "private=\"a\", max-age=3600"), ("a", "1"), ("b", "2")]),
        get().cached(0).and(&[Check::Lacks("a"), Check::Has("b", "2")]),
    ),
    not_kept("§5.2.2.7 private of a token", &[("cache-control", "private=a, max-age=3600")]),
    not_kept("§5.2.2.7 private of nothing", &[("cache-control", "private=\"\", max-age=3600")]),
    not_kept("§5.2.2.4 no-cache", &[("cache-control", "max-age=9000, no-cache"), LATER, NOW]),
    not_kept("§5.2.2.4 no-cache in any case", &[("cache-control", "max-age=9000, No-CaChE")]),
    validated("§5.2.2.4 no-cache is kept and validated", &[("cache-control", "no-cache"), ETAG]),
    validated(
        "§5.2.2.4 a fresh no-cache is validated",
        &[("cache-control", "max-age=9000, no-cache"), LATER, NOW, ETAG],
    ),
    two(
        "§5.2.2.4 a field with no-cache is not kept",
        get().gives(&[("cache-control", "no-cache=\"a\", max-age=3600"), ("a", "1"), ("b", "2")]),
        get().cached(0).and(&[Check::Lacks("a"), Check::Has("b", "2")]),
    ),
    two(
        "§5.2.2.4 fields with no-cache are not kept",
        get().gives(&[
            ("cache-control", "no-cache=\"a, B\""),
            ("cache-control", "max-age=3600"),
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
        ]),
        get().cached(0).and(&[Check::Lacks("a"), Check::Lacks("b"), Check::Has("c", "3")]),
    ),
    two(
        "§5.2.2.4 the first caller gets the fields with no-cache",
        get()
            .gives(&[("cache-control", "no-cache=\"a\", max-age=3600"), ("a", "1")])
            .and(&[Check::Has("a", "1")]),
        get().cached(0),
    ),
    validated(
        "§5.2.2.4 no-cache of what is no field",
        &[("cache-control", "no-cache=\"a b\", max-age=3600"), ETAG],
    ),
    kept(
        "§5.2.2.2 must-revalidate while fresh",
        &[("cache-control", "max-age=9000, must-revalidate"), ETAG],
    ),
    validated(
        "§5.2.2.2 must-revalidate when stale",
        &[("cache-control", "max-age=60, must-revalidate"), ETAG, ("age", "70")],
    ),
    kept(
        "§5.2.2.8 proxy-revalidate while fresh",
        &[("cache-control", "max-age=9000, proxy-revalidate")],
    ),
    validated(
        "§5.2.2.8 proxy-revalidate when stale",
        &[("cache-control", "max-age=60, proxy-revalidate"), ETAG, ("age", "70")],
    ),
    kept("§5.2.2.6 no-transform does not matter", &[("cache-control", "max-age=60, no-transform")]),
    kept(
        "§5.2.2.3 must-understand instead of no-store",
        &[("cache-control", "no-store, must-understand, max-age=3600")],
    ),
    two(
        "§5.2.2.3 must-understand of an unknown status",
        get().status(499).gives(&[("cache-control", "no-store, must-understand, max-age=3600")]),
        get().status(499),
    ),
    two(
        "§5.2.2.3 must-understand alone of an unknown status",
        get().status(299).gives(&[("cache-control", "must-understand, max-age=3600")]),
        get().status(299),
    ),
    kept("§5.4 pragma of an answer means nothing", &[("pragma", "no-cache"), HOUR, DATED]),
    not_shared("§3.5 credentials and max-age", FRESH),
    not_shared("§3.5 credentials and expires", &[LATER, NOW]),
    not_shared(
        "§3.5 credentials and proxy-revalidate",
        &[("cache-control", "max-age=9, proxy-revalidate")],
    ),
    shared("§3.5 credentials and public", &[("cache-control", "max-age=3600, public")]),
    shared(
        "§3.5 credentials and must-revalidate",
        &[("cache-control", "max-age=3600, must-revalidate")],
    ),
    shared("§3.5 credentials and s-maxage", &[("cache-control", "s-maxage=3600")]),
    two(
        "§3.5 what is not shared is not the same caller's either",
        get().lines(CREDENTIALS).gives(FRESH),
        get().lines(CREDENTIALS),
    ),
    two(
        "§3.5 credentials pass unchanged",
        get().lines(CREDENTIALS).gives(FRESH).and(&[Check::Sent("authorization", "Bearer x")]),
        get(),
    ),
    two("§3.5 a caller with credentials asks itself", get().gives(FRESH), get().lines(CREDENTIALS)),
    given(
        "§3.5 public is for callers with credentials",
        &[("cache-control", "max-age=3600, public")],
    ),
    given("§3.5 s-maxage is for callers with credentials", &[("cache-control", "s-maxage=3600")]),
    three(
        "§3.5 what credentials brought does not replace what is for all",
        get().gives(FRESH),
        get().lines(CREDENTIALS).gives(&[("cache-control", "max-age=3600")]),
        get().cached(0),
    ),
    two(
        "§7.3 a caller's cookie does not matter",
        get().gives(FRESH),
        get().lines(&[("cookie", "a=b")]).cached(0),
    ),
    two(
        "§7.3 an answer to a cookie is kept if it says for how long",
        get().lines(&[("cookie", "a=b")]).gives(FRESH),
        get().cached(0),
    ),
    two(
        "§7.3 an answer to a cookie is not kept by a guess",
        get().lines(&[("cookie", "a=b")]).gives(&[("last-modified", "{now-100000}"), NOW]),
        get(),
    ),
    kept(
        "§7.3 an answer with a cookie is kept if it says for how long",
        &[HOUR, ("set-cookie", "a=b")],
    ),
    not_kept(
        "§7.3 an answer with a cookie is not kept by a guess",
        &[("last-modified", "{now-100000}"), NOW, ("set-cookie", "a=b")],
    ),
    two(
        "§7.3 one caller's cookie is not everybody's",
        get().gives(&[HOUR, ("set-cookie", "a=b")]).and(&[Check::Has("set-cookie", "a=b")]),
        get().cached(0).and(&[Check::Lacks("set-cookie")]),
    ),
];
