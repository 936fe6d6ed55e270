//! RFC 9110 §14 and RFC 9111 §3.3: parts of a kept answer.

use super::case::{Case, Check, FRESH, HOUR, Lines, get, method, one, three, two};

const BODY: &str = "0123456789A";
const TAGGED: Lines =
    &[HOUR, ("date", "{now}"), ("etag", "\"a\""), ("last-modified", "{now-86400}")];

/// Of a kept answer, this part.
const fn part(name: &'static str, asked: Lines, checks: &'static [Check]) -> Case {
    two(name, get().body(BODY).gives(TAGGED), get().lines(asked).cached(0).and(checks))
}

const fn whole(name: &'static str, asked: Lines) -> Case {
    part(name, asked, &[Check::Lacks("content-range")])
}

const fn none(name: &'static str, asked: Lines) -> Case {
    part(
        name,
        asked,
        &[Check::Status(416), Check::Body(""), Check::Has("content-range", "bytes */11")],
    )
}

pub(super) const CASES: &[Case] = &[
    part(
        "RFC 9110 §14.1.2 from and to",
        &[("range", "bytes=0-1")],
        &[Check::Status(206), Check::Body("01"), Check::Has("content-range", "bytes 0-1/11")],
    ),
    part(
        "RFC 9110 §14.1.2 from",
        &[("range", "bytes=1-")],
        &[
            Check::Status(206),
            Check::Body("123456789A"),
            Check::Has("content-range", "bytes 1-10/11"),
        ],
    ),
    part(
        "RFC 9110 §14.1.2 the end",
        &[("range", "bytes=-1")],
        &[Check::Status(206), Check::Body("A"), Check::Has("content-range", "bytes 10-10/11")],
    ),
    part(
        "RFC 9110 §14.1.2 more than there is, from and to",
        &[("range", "bytes=9-99")],
        &[Check::Status(206), Check::Body("9A"), Check::Has("content-range", "bytes 9-10/11")],
    ),
    part(
        "RFC 9110 §14.1.2 more than there is, the end",
        &[("range", "bytes=-99")],
        &[Check::Status(206), Check::Body(BODY), Check::Has("content-range", "bytes 0-10/11")],
    ),
    part(
        "RFC 9110 §14.1.2 a number beyond any",
        &[("range", "bytes=9-99999999999999999999999999")],
        &[Check::Status(206), Check::Body("9A")],
    ),
    part(
        "RFC 9110 §14.1 the unit in any case",
        &[("range", "BYTES=0-0")],
        &[Check::Status(206), Check::Body("0")],
    ),
    part(
        "RFC 9110 §15.3.7 what a part says",
        &[("range", "bytes=0-1")],
        &[
            Check::Status(206),
            Check::Body("01"),
            Check::Has("etag", "\"a\""),
            Check::Has("date", "{now}"),
            Check::Has("cache-control", "max-age=3600"),
            Check::Has("content-length", "2"),
            Check::Age(0, 5),
        ],
    ),
    none("RFC 9110 §15.5.17 past the end", &[("range", "bytes=11-")]),
    none("RFC 9110 §15.5.17 far past the end", &[("range", "bytes=99999999999999999999999-")]),
    none("RFC 9110 §15.5.17 the last no bytes", &[("range", "bytes=-0")]),
    whole("RFC 9110 §14.2 another unit", &[("range", "lines=0-1")]),
    whole("RFC 9110 §14.2 backwards", &[("range", "bytes=5-2")]),
    whole("RFC 9110 §14.2 letters", &[("range", "bytes=a-b")]),
    whole("RFC 9110 §14.2 nothing", &[("range", "bytes=")]),
    whole("RFC 9110 §14.2 several", &[("range", "bytes=0-1,3-4")]),
    whole("RFC 9110 §14.2 very many", &[("range", "bytes=0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-")]),
    part(
        "RFC 9110 §13.1.5 if-range, the tag",
        &[("range", "bytes=0-1"), ("if-range", "\"a\"")],
        &[Check::Status(206), Check::Body("01")],
    ),
    part(
        "RFC 9110 §13.1.5 if-range, the date",
        &[("range", "bytes=0-1"), ("if-range", "{now-86400}")],
        &[Check::Status(206), Check::Body("01")],
    ),
    whole(
        "RFC 9110 §13.1.5 if-range, another tag",
        &[("range", "bytes=0-1"), ("if-range", "\"b\"")],
    ),
    whole(
        "RFC 9110 §13.1.5 if-range, a weak tag",
        &[("range", "bytes=0-1"), ("if-range", "W/\"a\"")],
    ),
    whole(
        "RFC 9110 §13.1.5 if-range, another date",
        &[("range", "bytes=0-1"), ("if-range", "{now-86399}")],
    ),
    whole("RFC 9110 §13.1.5 if-range, neither", &[("range", "bytes=0-1"), ("if-range", "x")]),
    whole("RFC 9110 §13.1.5 if-range without a range", &[("if-range", "\"a\"")]),
    part(
        "RFC 9110 §13.2.2 a condition before the range",
        &[("range", "bytes=0-1"), ("if-none-match", "\"a\"")],
        &[Check::Status(304), Check::Body("")],
    ),
    two(
        "RFC 9110 §14.2 HEAD has no range",
        get().body(BODY).gives(TAGGED),
        method("HEAD")
            .lines(&[("range", "bytes=0-1")])
            .cached(0)
            .and(&[Check::Lacks("content-range")]),
    ),
    two(
        "RFC 9110 §14.2 only a 200 has ranges",
        get().status(404).body(BODY).gives(TAGGED),
        get().lines(&[("range", "bytes=0-1")]).cached(0),
    ),
    one(
        "§3.3 a range is passed on where nothing is kept",
        get()
            .lines(&[("range", "bytes=0-1")])
            .status(206)
            .body("01")
            .gives(&[HOUR, ("content-range", "bytes 0-1/11")])
            .and(&[Check::Sent("range", "bytes=0-1"), Check::Has("content-range", "bytes 0-1/11")]),
    ),
    two(
        "§3.3 a part is never given as the whole",
        get()
            .lines(&[("range", "bytes=0-1")])
            .status(206)
            .body("01")
            .gives(&[HOUR, ("content-range", "bytes 0-1/11")]),
        get().body(BODY).gives(FRESH),
    ),
    three(
        "§3.3 a part leaves the kept whole",
        get().body(BODY).gives(FRESH),
        get()
            .lines(&[("range", "bytes=2-3"), ("cache-control", "no-cache")])
            .status(206)
            .body("23")
            .gives(&[("cache-control", "no-store"), ("content-range", "bytes 2-3/11")]),
        get().cached(0),
    ),
    two(
        "§3.3 a whole answer to a range is kept",
        get().lines(&[("range", "bytes=0-1")]).body(BODY).gives(FRESH),
        get().cached(0),
    ),
    two(
        "§4.3.1 a part of what is validated first",
        get().body(BODY).gives(&[
            ("cache-control", "max-age=60"),
            ("age", "70"),
            ("etag", "\"a\""),
        ]),
        get()
            .lines(&[("range", "bytes=0-1")])
            .validated(0)
            .gives(&[HOUR, ("etag", "\"a\"")])
            .and(&[Check::Status(206), Check::Body("01"), Check::NotSent("range")]),
    ),
];
