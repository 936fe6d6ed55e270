//! RFC 9111 §4.3 and RFC 9110 §13: conditions of callers, and questions to the upstream.

use super::case::{
    Case, Check, DATED, FRESH, HOUR, Lines, MINUTE, OLD_AGE, get, method, one, three, two,
};

const DAY_AGO: &str = "{now-86400}";
const TAGGED: Lines = &[HOUR, DATED, ("etag", "\"abcdef\"")];
const WEAK: Lines = &[HOUR, DATED, ("etag", "W/\"abcdef\"")];
const CHANGED: Lines = &[HOUR, DATED, ("last-modified", DAY_AGO)];
const BOTH: Lines = &[HOUR, DATED, ("etag", "\"abcdef\""), ("last-modified", DAY_AGO)];
/// 70 s old, fresh for 60.
const STALE: Lines = &[("cache-control", "max-age=60"), ("age", "70"), ("etag", "\"abcdef\"")];
const STALE_WEAK: Lines =
    &[("cache-control", "max-age=60"), ("age", "70"), ("etag", "W/\"abcdef\"")];
const STALE_CHANGED: Lines =
    &[("cache-control", "max-age=60"), ("age", "70"), ("last-modified", DAY_AGO)];
const STALE_BARE: Lines = &[("cache-control", "max-age=60"), ("age", "70")];
const SAME_TAG: Lines = &[HOUR, ("etag", "\"abcdef\"")];

/// The caller has it already.
const fn held(name: &'static str, kept: Lines, asked: Lines) -> Case {
    let second = get().lines(asked).cached(0).and(&[Check::Status(304), Check::Body("")]);
    two(name, get().gives(kept), second)
}

const fn whole(name: &'static str, kept: Lines, asked: Lines) -> Case {
    two(name, get().gives(kept), get().lines(asked).cached(0))
}

pub(super) const CASES: &[Case] = &[
    held("RFC 9110 §13.1.2 the same tag", TAGGED, &[("if-none-match", "\"abcdef\"")]),
    held(
        "RFC 9110 §13.1.2 a weak tag of a strong one",
        TAGGED,
        &[("if-none-match", "W/\"abcdef\"")],
    ),
    held("RFC 9110 §13.1.2 the same weak tag", WEAK, &[("if-none-match", "W/\"abcdef\"")]),
    held("RFC 9110 §13.1.2 a strong tag of a weak one", WEAK, &[("if-none-match", "\"abcdef\"")]),
    held(
        "RFC 9110 §13.1.2 the first of several",
        TAGGED,
        &[("if-none-match", "\"abcdef\", \"1\", \"2\"")],
    ),
    held(
        "RFC 9110 §13.1.2 the second of several",
        TAGGED,
        &[("if-none-match", "\"1\", \"abcdef\", \"2\"")],
    ),
    held(
        "RFC 9110 §13.1.2 the last of several",
        TAGGED,
        &[("if-none-match", "\"1\", \"2\", \"abcdef\"")],
    ),
    held(
        "RFC 9110 §13.1.2 on the second line",
        TAGGED,
        &[("if-none-match", "\"1\""), ("if-none-match", "\"abcdef\"")],
    ),
    held("RFC 9110 §13.1.2 without space", TAGGED, &[("if-none-match", "\"1\",\"abcdef\"")]),
    held("RFC 9110 §13.1.2 any", TAGGED, &[("if-none-match", "*")]),
    held("RFC 9110 §13.1.2 any, without a tag", FRESH, &[("if-none-match", "*")]),
    held(
        "RFC 9110 §13.1.2 a comma in a tag",
        &[HOUR, ("etag", "\"a,b\"")],
        &[("if-none-match", "\"a,b\"")],
    ),
    whole("RFC 9110 §13.1.2 another tag", TAGGED, &[("if-none-match", "\"other\"")]),
    whole("RFC 9110 §13.1.2 a tag in another case", TAGGED, &[("if-none-match", "\"ABCDEF\"")]),
    whole("RFC 9110 §13.1.2 a part of a tag", TAGGED, &[("if-none-match", "\"abc\"")]),
    whole("RFC 9110 §13.1.2 a tag where there is none", FRESH, &[("if-none-match", "\"abcdef\"")]),
    whole("RFC 9110 §13.1.2 a tag without quotes", TAGGED, &[("if-none-match", "abcdef")]),
    held(
        "RFC 9110 §8.8.3 no quotes on either side",
        &[HOUR, ("etag", "abcdef")],
        &[("if-none-match", "abcdef")],
    ),
    held(
        "RFC 9110 §8.8.3 a small w on either side",
        &[HOUR, ("etag", "w/\"a\"")],
        &[("if-none-match", "w/\"a\"")],
    ),
    whole("RFC 9110 §13.1.2 a tag inside another", TAGGED, &[("if-none-match", "\"x, abcdef\"")]),
    held(
        "RFC 9110 §13.2.2 the tag before the date",
        BOTH,
        &[("if-none-match", "\"abcdef\""), ("if-modified-since", "{now-90000}")],
    ),
    whole(
        "RFC 9110 §13.2.2 another tag before the date",
        BOTH,
        &[("if-none-match", "\"x\""), ("if-modified-since", "{now}")],
    ),
    held("RFC 9110 §13.1.3 the same date", CHANGED, &[("if-modified-since", DAY_AGO)]),
    held("RFC 9110 §13.1.3 a later date", CHANGED, &[("if-modified-since", "{now-3600}")]),
    held(
        "RFC 9110 §13.1.3 a later date in rfc850",
        CHANGED,
        &[("if-modified-since", "{rfc850-3600}")],
    ),
    held(
        "RFC 9110 §13.1.3 the same date in asctime",
        CHANGED,
        &[("if-modified-since", "{asctime-86400}")],
    ),
    whole("RFC 9110 §13.1.3 an earlier date", CHANGED, &[("if-modified-since", "{now-90000}")]),
    whole("RFC 9110 §13.1.3 what is no date", CHANGED, &[("if-modified-since", "yesterday")]),
    whole(
        "RFC 9110 §13.1.3 two dates",
        CHANGED,
        &[("if-modified-since", "{now}"), ("if-modified-since", "{now}")],
    ),
    held("§4.3.2 without a change, the date counts", FRESH, &[("if-modified-since", "{now+60}")]),
    whole("§4.3.2 without a change, an earlier date", FRESH, &[("if-modified-since", "{now-60}")]),
    two(
        "RFC 9110 §13.2.1 only a 200 can be held already",
        get().status(404).gives(TAGGED),
        get().lines(&[("if-none-match", "\"abcdef\"")]).cached(0),
    ),
    two(
        "RFC 9110 §15.4.5 what a 304 says",
        get().gives(&[HOUR, DATED, ("etag", "\"a\""), ("vary", "foo"), ("content-location", "/x")]),
        get().lines(&[("if-none-match", "\"a\"")]).cached(0).and(&[
            Check::Status(304),
            Check::Body(""),
            Check::Has("etag", "\"a\""),
            Check::Has("cache-control", "max-age=3600"),
            Check::Has("date", "{now}"),
            Check::Has("vary", "foo"),
            Check::Has("content-location", "/x"),
            Check::Age(0, 5),
        ]),
    ),
    two(
        "RFC 9110 §13.1.2 HEAD with the tag",
        get().gives(TAGGED),
        method("HEAD")
            .lines(&[("if-none-match", "\"abcdef\"")])
            .cached(0)
            .and(&[Check::Status(304)]),
    ),
    two(
        "§4.3.1 asked by the tag",
        get().gives(STALE),
        get().validated(0).gives(SAME_TAG).and(&[Check::Sent("if-none-match", "\"abcdef\"")]),
    ),
    two(
        "§4.3.1 asked by the weak tag",
        get().gives(STALE_WEAK),
        get().validated(0).gives(FRESH).and(&[Check::Sent("if-none-match", "W/\"abcdef\"")]),
    ),
    two(
        "§4.3.1 asked by the tag as it came",
        get().gives(&[("cache-control", "max-age=60"), ("age", "70"), ("etag", "abc")]),
        get().validated(0).gives(FRESH).and(&[Check::Sent("if-none-match", "abc")]),
    ),
    two(
        "§4.3.1 asked by the date",
        get().gives(STALE_CHANGED),
        get()
            .validated(0)
            .gives(FRESH)
            .and(&[Check::Sent("if-modified-since", DAY_AGO), Check::NotSent("if-none-match")]),
    ),
    two(
        "§4.3.1 not asked by a date that is none",
        get().gives(&[("cache-control", "max-age=60"), ("age", "70"), ("last-modified", "x")]),
        get().gives(FRESH).and(&[Check::NotSent("if-modified-since")]),
    ),
    two(
        "§4.3.1 asked without a condition where there is none",
        get().gives(STALE_BARE),
        get()
            .gives(FRESH)
            .and(&[Check::NotSent("if-none-match"), Check::NotSent("if-modified-since")]),
    ),
    three(
        "§4.3.3 what holds is fresh again",
        get().gives(STALE),
        get().validated(0).gives(SAME_TAG),
        get().cached(0),
    ),
    three(
        "§4.3.3 what holds by its date is fresh again",
        get().gives(STALE_CHANGED),
        get().validated(0).gives(&[HOUR, ("last-modified", DAY_AGO)]),
        get().cached(0),
    ),
    three(
        "§4.3.4 a 304 that names nothing is about what was asked",
        get().gives(STALE),
        get().validated(0).gives(&[HOUR]),
        get().cached(0),
    ),
    three(
        "§4.3.3 what does not hold is replaced",
        get().gives(STALE),
        get()
            .gives(&[HOUR, ("etag", "\"new\"")])
            .and(&[Check::Sent("if-none-match", "\"abcdef\"")]),
        get().cached(1),
    ),
    three(
        "§4.3.3 what is gone is replaced",
        get().gives(STALE),
        get().status(410).gives(FRESH),
        get().status(410).cached(1),
    ),
    three(
        "§4.3.3 an error is passed on and does not replace",
        get().gives(STALE),
        get().status(500).gives(&[("cache-control", "no-store")]),
        get().validated(0).gives(SAME_TAG),
    ),
    two(
        "§4.3.2 a caller's tag is not the question",
        get().gives(STALE),
        get()
            .lines(&[("if-none-match", "\"callers\"")])
            .validated(0)
            .gives(SAME_TAG)
            .and(&[Check::Sent("if-none-match", "\"abcdef\"")]),
    ),
    two(
        "§4.3.2 a caller that has it, after a validation",
        get().gives(STALE),
        get()
            .lines(&[("if-none-match", "\"abcdef\"")])
            .validated(0)
            .gives(SAME_TAG)
            .and(&[Check::Status(304), Check::Body("")]),
    ),
    two(
        "§4.3.2 a caller that has it by date, after a validation",
        get().gives(STALE_CHANGED),
        get()
            .lines(&[("if-modified-since", DAY_AGO)])
            .validated(0)
            .gives(&[HOUR, ("last-modified", DAY_AGO)])
            .and(&[Check::Status(304), Check::Body("")]),
    ),
    one(
        "§4.3.2 a caller's tag is passed on where nothing is kept",
        get()
            .lines(&[("if-none-match", "\"a\"")])
            .gives(FRESH)
            .and(&[Check::Sent("if-none-match", "\"a\"")]),
    ),
    one(
        "§4.3.2 a caller's 304 is passed on where nothing is kept",
        get().lines(&[("if-none-match", "\"a\"")]).status(304).gives(&[("etag", "\"a\"")]),
    ),
    two(
        "§4.3.2 a passed on 304 is not kept",
        get().lines(&[("if-none-match", "\"a\"")]).status(304).gives(&[HOUR, ("etag", "\"a\"")]),
        get().gives(FRESH),
    ),
    two(
        "§4.3.2 a whole answer to a caller's tag is kept",
        get().lines(&[("if-none-match", "\"a\"")]).gives(TAGGED),
        get().cached(0),
    ),
    two(
        "§4.3.1 a validation carries the fields of vary",
        get().lines(&[("abc", "123")]).gives(&[
            MINUTE,
            OLD_AGE,
            ("etag", "\"abcdef\""),
            ("vary", "abc"),
        ]),
        get()
            .lines(&[("abc", "123")])
            .validated(0)
            .gives(SAME_TAG)
            .and(&[Check::Sent("abc", "123")]),
    ),
    two(
        "§4.1 another variant's tag is no question",
        get().lines(&[("abc", "1")]).gives(&[HOUR, ("etag", "\"abcdef\""), ("vary", "abc")]),
        get().lines(&[("abc", "2")]).gives(FRESH).and(&[Check::NotSent("if-none-match")]),
    ),
];
