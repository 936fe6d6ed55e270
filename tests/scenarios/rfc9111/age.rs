//! RFC 9111 §4.2.3 and §5.1: how old an answer is.

use super::case::{Case, Check, FRESH, get, kept, not_kept, two};

const HOUR: (&str, &str) = ("cache-control", "max-age=3600");
const NOW: (&str, &str) = ("date", "{now}");

pub(super) const CASES: &[Case] = &[
    not_kept("§4.2 an age beyond max-age", &[NOW, HOUR, ("age", "7200")]),
    not_kept("§4.2 an age of max-age", &[NOW, HOUR, ("age", "3600")]),
    kept("§4.2 an age below max-age", &[NOW, HOUR, ("age", "1800")]),
    not_kept(
        "§4.2 an age beyond s-maxage",
        &[NOW, ("cache-control", "s-maxage=60"), ("age", "70")],
    ),
    not_kept("§4.2.3 a date long ago", &[HOUR, ("date", "{now-7200}")]),
    kept("§4.2.3 a date some time ago", &[HOUR, ("date", "{now-1800}")]),
    kept("§4.2.3 a date in the future", &[HOUR, ("date", "{now+7200}")]),
    not_kept(
        "§4.2.3 a date in the future and an age",
        &[HOUR, ("date", "{now+9}"), ("age", "4000")],
    ),
    not_kept(
        "§4.2.3 the older of date and age, age",
        &[HOUR, ("date", "{now-60}"), ("age", "4000")],
    ),
    not_kept(
        "§4.2.3 the older of date and age, date",
        &[HOUR, ("date", "{now-4000}"), ("age", "60")],
    ),
    kept("§4.2.3 a date that is none", &[HOUR, ("date", "yesterday")]),
    kept("§5.1 an age that is no number", &[NOW, HOUR, ("age", "abc")]),
    kept("§5.1 a negative age", &[NOW, HOUR, ("age", "-7200")]),
    kept("§5.1 a decimal age", &[NOW, HOUR, ("age", "7200.0")]),
    kept("§5.1 an age in quotes", &[NOW, HOUR, ("age", "\"7200\"")]),
    kept("§5.1 an empty age", &[NOW, HOUR, ("age", "")]),
    not_kept("§5.1 an age before others", &[NOW, HOUR, ("age", "7200, 0")]),
    not_kept("§5.1 an age on a line before others", &[NOW, HOUR, ("age", "7200"), ("age", "0")]),
    kept("§5.1 an age after others", &[NOW, HOUR, ("age", "0, 7200")]),
    kept("§5.1 an age on a line after others", &[NOW, HOUR, ("age", "0"), ("age", "7200")]),
    kept("§5.1 an age of 0 twice", &[NOW, HOUR, ("age", "0, 0")]),
    not_kept("§5.1 an old age twice", &[NOW, HOUR, ("age", "7200, 7200")]),
    not_kept("§5.1 an age beyond any number", &[NOW, HOUR, ("age", "99999999999999999999999")]),
    not_kept(
        "§1.2.2 the greatest age is past the greatest time",
        &[NOW, ("cache-control", "max-age=2147483648"), ("age", "2147483648")],
    ),
    two("§4 an age is told", get().gives(FRESH), get().cached(0).and(&[Check::Age(0, 5)])),
    two(
        "§4 the age it came with is told, max-age",
        get().gives(&[NOW, HOUR, ("age", "30")]),
        get().cached(0).and(&[Check::Age(30, 35)]),
    ),
    two(
        "§4 the age it came with is told, expires",
        get().gives(&[NOW, ("expires", "{now+3600}"), ("age", "30")]),
        get().cached(0).and(&[Check::Age(30, 35)]),
    ),
    two(
        "§4 the age that the date tells is told",
        get().gives(&[HOUR, ("date", "{now-100}")]),
        get().cached(0).and(&[Check::Age(100, 105)]),
    ),
    two(
        "§4 an age is told once",
        get().gives(&[NOW, HOUR, ("age", "30"), ("age", "40")]),
        get().cached(0).and(&[Check::Age(30, 35)]),
    ),
    two(
        "§4 an age is told to HEAD",
        get().gives(&[NOW, HOUR, ("age", "30")]),
        super::case::method("HEAD").cached(0).and(&[Check::Age(30, 35)]),
    ),
    two(
        "RFC 9110 §6.6.1 the date is the answer's own",
        get().gives(&[HOUR, ("date", "{now-100}")]),
        get().cached(0).and(&[Check::Has("date", "{now-100}")]),
    ),
    two(
        "RFC 9211 §2.2 the time left is told",
        get().gives(&[NOW, ("cache-control", "max-age=100000"), ("age", "1000")]),
        get().cached(0).and(&[Check::Says("cache-status", "tollgate; hit; ttl=9")]),
    ),
];
