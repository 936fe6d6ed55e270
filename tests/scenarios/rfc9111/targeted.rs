//! RFC 9213: `cdn-cache-control`, and our own `tollgate-cache-control`.

use super::case::{Case, Check, Lines, get, kept, not_kept, one, two};

const NO_STORE: (&str, &str) = ("cache-control", "no-store");
const FRESH: (&str, &str) = ("cache-control", "max-age=10000");
const LATER: (&str, &str) = ("expires", "{now+10000}");
const NOW: (&str, &str) = ("date", "{now}");

const fn cdn(value: &'static str) -> (&'static str, &'static str) {
    ("cdn-cache-control", value)
}

/// A field that is no dictionary is as if it were not there.
const fn ignored(name: &'static str, fields: Lines) -> Case {
    not_kept(name, fields)
}

pub(super) const CASES: &[Case] = &[
    kept("RFC 9213 §2.1 max-age", &[cdn("max-age=3600")]),
    kept("RFC 9213 §2.1 a great max-age", &[cdn("max-age=2147483648")]),
    kept("RFC 9213 §2.1 too great a max-age", &[cdn("max-age=99999999999")]),
    kept("RFC 9213 §2.1 what is not known", &[cdn("foobar, max-age=3600")]),
    kept("RFC 9213 §2.1 parameters are ignored", &[cdn("max-age=3600;x=1;y, foo;z=\"a\"")]),
    kept("RFC 9213 §2.1 two lines", &[cdn("public"), cdn("max-age=3600"), NO_STORE]),
    not_kept("RFC 9213 §2.1 max-age=0", &[cdn("max-age=0"), FRESH]),
    not_kept("RFC 9213 §2.1 an age beyond it", &[NOW, cdn("max-age=3600"), ("age", "7200"), FRESH]),
    kept(
        "RFC 9213 §2.2 before a past expires",
        &[cdn("max-age=3600"), ("expires", "{now-9000}"), NOW],
    ),
    kept(
        "RFC 9213 §2.2 before an expires that is none",
        &[cdn("max-age=3600"), ("expires", "0"), NOW],
    ),
    not_kept("RFC 9213 §2.2 max-age=0 before a future expires", &[cdn("max-age=0"), LATER, NOW]),
    not_kept("RFC 9213 §2.2 expires does not count beside it", &[cdn("foo"), LATER, NOW]),
    kept(
        "RFC 9213 §2.2 long before a short max-age",
        &[cdn("max-age=3600"), ("cache-control", "max-age=0")],
    ),
    not_kept("RFC 9213 §2.2 short before a long max-age", &[cdn("max-age=0"), FRESH]),
    kept("RFC 9213 §2.2 before no-store", &[cdn("max-age=3600"), NO_STORE]),
    kept("RFC 9213 §2.2 before private", &[cdn("max-age=3600"), ("cache-control", "private")]),
    not_kept("RFC 9213 §2.2 no-store", &[cdn("no-store"), FRESH, LATER, NOW]),
    not_kept("RFC 9213 §2.2 private", &[cdn("private"), FRESH, LATER, NOW]),
    not_kept("RFC 9213 §2.2 no-cache", &[cdn("no-cache"), FRESH, LATER, NOW]),
    two(
        "RFC 9213 §2.2 no-cache is validated",
        get().gives(&[cdn("no-cache"), FRESH, ("etag", "\"a\"")]),
        get().validated(0),
    ),
    ignored("RFC 9213 §2.2 an unknown type", &[cdn("max-age=10000, &&&&&"), NO_STORE]),
    ignored("RFC 9213 §2.2 a wrong type", &[cdn("max-age=\"10000\""), NO_STORE]),
    ignored("RFC 9213 §2.2 a decimal", &[cdn("max-age=10000.5"), NO_STORE]),
    ignored("RFC 9213 §2.2 capitals", &[cdn("MaX-aGe=3600"), NO_STORE]),
    ignored("RFC 9213 §2.2 a space before the equals sign", &[cdn("max-age =100"), NO_STORE]),
    ignored("RFC 9213 §2.2 a space after the equals sign", &[cdn("max-age= 100"), NO_STORE]),
    ignored("RFC 9213 §2.2 a comma at the end", &[cdn("max-age=3600,"), NO_STORE]),
    ignored("RFC 9213 §2.2 an empty field", &[cdn(""), NO_STORE]),
    kept("RFC 9213 §2.2 what is ignored leaves cache-control", &[cdn("max-age=\"0\""), FRESH]),
    kept(
        "RFC 9213 §2.2 ours comes first",
        &[cdn("no-store"), ("tollgate-cache-control", "max-age=3600"), NO_STORE],
    ),
    not_kept(
        "RFC 9213 §2.2 ours comes first, and forbids",
        &[("tollgate-cache-control", "no-store"), cdn("max-age=3600"), FRESH],
    ),
    kept(
        "RFC 9213 §2.2 ours is broken, the other one counts",
        &[("tollgate-cache-control", "max-age=x"), cdn("max-age=3600"), NO_STORE],
    ),
    not_kept(
        "RFC 9213 §2.2 another cache's field",
        &[("other-cache-control", "max-age=3600"), NO_STORE],
    ),
    one(
        "RFC 9213 §3.1 the field is passed on",
        get().gives(&[FRESH, cdn("foo")]).and(&[Check::Has("cdn-cache-control", "foo")]),
    ),
];
