//! RFC 9111 §4.1: answers that depend on the request.

use super::case::{Case, DATED, FRESH, HOUR, Lines, four, get, three, two};

const FOO: Lines = &[HOUR, DATED, ("vary", "Foo")];
const TWO: Lines = &[HOUR, DATED, ("vary", "Foo, Bar")];
const LANGUAGE: Lines = &[HOUR, DATED, ("vary", "Accept-Language")];
const ENCODING: Lines = &[HOUR, DATED, ("vary", "Accept-Encoding")];
const ONE: Lines = &[("foo", "1")];

const fn same(name: &'static str, answer: Lines, first: Lines, second: Lines) -> Case {
    two(name, get().lines(first).gives(answer), get().lines(second).cached(0))
}

const fn other(name: &'static str, answer: Lines, first: Lines, second: Lines) -> Case {
    two(name, get().lines(first).gives(answer), get().lines(second).gives(answer))
}

/// Nobody else is given an answer with these lines.
const fn star(name: &'static str, answer: Lines) -> Case {
    other(name, answer, &[("foo", "1"), ("baz", "789")], &[("foo", "1"), ("baz", "789")])
}

pub(super) const CASES: &[Case] = &[
    same("§4.1 the same value", FOO, ONE, ONE),
    other("§4.1 another value", FOO, ONE, &[("foo", "2")]),
    other("§4.1 no value", FOO, ONE, &[]),
    other("§4.1 a value where there was none", FOO, &[], ONE),
    other("§4.1 an empty value is not none", FOO, &[("foo", "")], &[]),
    same("§4.1 none and none", FOO, &[], &[]),
    same(
        "§4.1 other fields do not matter",
        FOO,
        &[("foo", "1"), ("x", "2")],
        &[("foo", "1"), ("x", "3")],
    ),
    other("§4.1 values in another case", FOO, &[("foo", "a")], &[("foo", "A")]),
    same("§4.1 names in any case", &[HOUR, ("vary", "fOO")], ONE, ONE),
    four(
        "§4.1 several answers stand beside each other",
        [
            get().lines(ONE).gives(FOO),
            get().lines(&[("foo", "2")]).gives(FOO),
            get().lines(ONE).cached(0),
            get().lines(&[("foo", "2")]).cached(1),
        ],
    ),
    same("§4.1 two fields", TWO, &[("foo", "1"), ("bar", "a")], &[("bar", "a"), ("foo", "1")]),
    other(
        "§4.1 the first of two differs",
        TWO,
        &[("foo", "1"), ("bar", "a")],
        &[("foo", "2"), ("bar", "a")],
    ),
    other(
        "§4.1 the second of two differs",
        TWO,
        &[("foo", "1"), ("bar", "a")],
        &[("foo", "1"), ("bar", "b")],
    ),
    other("§4.1 one of two is missing", TWO, &[("foo", "1")], &[("bar", "1")]),
    same("§4.1 one of two is missing each time", TWO, ONE, ONE),
    other(
        "§4.1 values do not run into each other",
        TWO,
        &[("foo", "1"), ("bar", "23")],
        &[("foo", "12"), ("bar", "3")],
    ),
    other(
        "§4.1 two lines of names, the second differs",
        &[HOUR, ("vary", "foo"), ("vary", "bar")],
        &[("foo", "1"), ("bar", "a")],
        &[("foo", "1"), ("bar", "b")],
    ),
    same(
        "§4.1 two lines of names, the same",
        &[HOUR, ("vary", "foo"), ("vary", "bar")],
        &[("foo", "1"), ("bar", "a")],
        &[("foo", "1"), ("bar", "a")],
    ),
    other(
        "§4.1 three fields, the middle one differs",
        &[HOUR, ("vary", "Foo, Bar, Baz")],
        &[("foo", "1"), ("bar", "a"), ("baz", "7")],
        &[("foo", "1"), ("bar", "b"), ("baz", "7")],
    ),
    same("§4.1 an empty vary", &[HOUR, ("vary", "")], ONE, &[("foo", "2")]),
    star("§4.1 *", &[HOUR, ("vary", "*")]),
    star("§4.1 *, *", &[HOUR, ("vary", "*, *")]),
    star("§4.1 * on two lines", &[HOUR, ("vary", "*"), ("vary", "*")]),
    star("§4.1 * after nothing", &[HOUR, ("vary", ", *")]),
    star("§4.1 * after an empty line", &[HOUR, ("vary", ""), ("vary", "*")]),
    star("§4.1 * before a name", &[HOUR, ("vary", "*, Foo")]),
    star("§4.1 * after a name", &[HOUR, ("vary", "Foo, *")]),
    star("§4.1 * on the line after a name", &[HOUR, ("vary", "Foo"), ("vary", "*")]),
    star("§4.1 what is no name", &[HOUR, ("vary", "a b")]),
    same("§4.1 space in a list does not matter", FOO, &[("foo", "1,2")], &[("foo", "1, 2")]),
    same("§4.1 space around does not matter", FOO, &[("foo", "1,2")], &[("foo", " 1,  2 ")]),
    same("§4.1 two lines are a list", FOO, &[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")]),
    other(
        "§4.1 the order of an unknown list may matter",
        FOO,
        &[("foo", "1, 2")],
        &[("foo", "2, 1")],
    ),
    other("§4.1 space in quotes may matter", FOO, &[("foo", "\"1,2\"")], &[("foo", "\"1, 2\"")]),
    same(
        "§4.1 the order of languages",
        LANGUAGE,
        &[("accept-language", "en, de")],
        &[("accept-language", "de, en")],
    ),
    same(
        "§4.1 the case of languages",
        LANGUAGE,
        &[("accept-language", "en, de")],
        &[("accept-language", "eN, De")],
    ),
    same(
        "§4.1 space between languages",
        LANGUAGE,
        &[("accept-language", "en,de;q=0.5")],
        &[("accept-language", "en , de; q=0.5")],
    ),
    same(
        "§4.1 weights written otherwise",
        LANGUAGE,
        &[("accept-language", "en;q=1.0, de;q=0.50")],
        &[("accept-language", "en, de;q=0.5")],
    ),
    other(
        "§4.1 other weights",
        LANGUAGE,
        &[("accept-language", "en, de;q=0.5")],
        &[("accept-language", "en;q=0.5, de")],
    ),
    other(
        "§4.1 another language",
        LANGUAGE,
        &[("accept-language", "en")],
        &[("accept-language", "de")],
    ),
    same(
        "§4.1 the order of codings",
        ENCODING,
        &[("accept-encoding", "gzip, br")],
        &[("accept-encoding", "br,gzip")],
    ),
    other(
        "§4.1 another coding",
        ENCODING,
        &[("accept-encoding", "gzip")],
        &[("accept-encoding", "br")],
    ),
    other(
        "§4.1 a coding that is refused",
        ENCODING,
        &[("accept-encoding", "gzip")],
        &[("accept-encoding", "gzip;q=0")],
    ),
    other("§4.1 no coding at all is not any", ENCODING, &[("accept-encoding", "")], &[]),
    same(
        "§4.1 the order of media types",
        &[HOUR, ("vary", "accept")],
        &[("accept", "text/html, */*;q=0.8")],
        &[("accept", "*/*;q=0.80,TEXT/html")],
    ),
    same(
        "§4.1 a cookie is taken as it is",
        &[HOUR, ("vary", "cookie")],
        &[("cookie", "a=1")],
        &[("cookie", "a=1")],
    ),
    other(
        "§4.1 another cookie",
        &[HOUR, ("vary", "cookie")],
        &[("cookie", "a=1")],
        &[("cookie", "a=2")],
    ),
    other(
        "§4.1 a coded answer is for who asked so",
        &[HOUR, ("vary", "accept-encoding"), ("content-encoding", "gzip")],
        &[("accept-encoding", "gzip")],
        &[],
    ),
    three(
        "§4.1 the newest answer says on what it depends",
        get().lines(ONE).gives(FRESH),
        get().lines(&[("foo", "1"), ("cache-control", "no-cache")]).gives(FOO),
        get().lines(&[("foo", "2")]).gives(FOO),
    ),
];
