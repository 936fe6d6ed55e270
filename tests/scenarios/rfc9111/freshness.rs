//! RFC 9111 §4.2: how long an answer is fresh, by `cache-control`.

use super::case::{Case, get, kept, not_kept, two};

pub(super) const CASES: &[Case] = &[
    not_kept("§3 what says nothing is not given again", &[]),
    kept("§4.2.1 max-age", &[("cache-control", "max-age=3600")]),
    kept("§4.2.1 max-age with a date", &[("cache-control", "max-age=3600"), ("date", "{now}")]),
    not_kept("§4.2.1 max-age=0", &[("cache-control", "max-age=0")]),
    kept("§4.2.1 s-maxage", &[("cache-control", "s-maxage=3600")]),
    kept("§4.2.1 s-maxage before max-age", &[("cache-control", "max-age=0, s-maxage=3600")]),
    kept(
        "§4.2.1 s-maxage before max-age, turned",
        &[("cache-control", "s-maxage=3600, max-age=0")],
    ),
    not_kept("§4.2.1 a short s-maxage", &[("cache-control", "max-age=3600, s-maxage=0")]),
    not_kept(
        "§4.2.1 a short s-maxage on a line of its own",
        &[("cache-control", "max-age=3600"), ("cache-control", "s-maxage=0")],
    ),
    kept(
        "§4.2.1 max-age on the second line",
        &[("cache-control", "public"), ("cache-control", "max-age=3600")],
    ),
    kept("§4.2.1 of two times the first, fresh", &[("cache-control", "max-age=1800, max-age=0")]),
    not_kept(
        "§4.2.1 of two times the first, stale",
        &[("cache-control", "max-age=0, max-age=1800")],
    ),
    kept(
        "§4.2.1 of two lines the first, fresh",
        &[("cache-control", "max-age=1800"), ("cache-control", "max-age=0")],
    ),
    not_kept(
        "§4.2.1 of two lines the first, stale",
        &[("cache-control", "max-age=0"), ("cache-control", "max-age=1800")],
    ),
    kept("§1.2.2 a great time", &[("cache-control", "max-age=2147483648")]),
    kept("§1.2.2 too great a time", &[("cache-control", "max-age=99999999999")]),
    kept(
        "§1.2.2 a time beyond any number",
        &[("cache-control", "max-age=99999999999999999999999")],
    ),
    kept("§1.2.2 a time with zeros before", &[("cache-control", "max-age=003600")]),
    not_kept("§4.2.1 a negative time", &[("cache-control", "max-age=-3600")]),
    not_kept("§4.2.1 a decimal time", &[("cache-control", "max-age=3600.0")]),
    not_kept("§4.2.1 a time that begins with a letter", &[("cache-control", "max-age=a3600")]),
    not_kept("§4.2.1 a time that ends with a letter", &[("cache-control", "max-age=3600a")]),
    not_kept("§4.2.1 max-age without a time", &[("cache-control", "max-age")]),
    not_kept("§4.2.1 max-age with nothing", &[("cache-control", "max-age=")]),
    kept("§5.2 a time in quotes", &[("cache-control", "max-age=\"3600\"")]),
    not_kept("§5.2 a time in single quotes", &[("cache-control", "max-age='3600'")]),
    not_kept("§5.2 a space before the equals sign", &[("cache-control", "max-age =3600")]),
    not_kept("§5.2 a space after the equals sign", &[("cache-control", "max-age= 3600")]),
    not_kept(
        "§5.2 what is quoted is no directive, before",
        &[("cache-control", "extension=\"max-age=3600\", max-age=0")],
    ),
    not_kept(
        "§5.2 what is quoted is no directive, after",
        &[("cache-control", "max-age=0, extension=\"max-age=3600\"")],
    ),
    not_kept(
        "§5.2 what is quoted is no directive, alone",
        &[("cache-control", "extension=\"a, max-age=3600\"")],
    ),
    kept(
        "§5.2 an escaped quote does not end the quotes",
        &[("cache-control", "extension=\"a\\\", no-store\", max-age=3600")],
    ),
    not_kept(
        "§5.2 an open quote hides nothing",
        &[("cache-control", "max-age=3600, extension=\"a, no-store")],
    ),
    kept("§5.2 names in any case", &[("cache-control", "MaX-aGe=3600")]),
    kept("§5.2.3 what is not known is ignored", &[("cache-control", "foobar, max-age=3600, x=y")]),
    kept("§5.2 empty members", &[("cache-control", ", ,max-age=3600,,")]),
    kept("§5.2 no space between", &[("cache-control", "public,max-age=3600")]),
    kept("§5.2 tabs between", &[("cache-control", "public\t,\tmax-age=3600")]),
    kept(
        "§5.3 max-age before a past expires",
        &[("cache-control", "max-age=3600"), ("expires", "{now-9000}"), ("date", "{now}")],
    ),
    kept(
        "§5.3 max-age before an expires that is none",
        &[("cache-control", "max-age=3600"), ("expires", "0"), ("date", "{now}")],
    ),
    not_kept(
        "§5.3 max-age=0 before a future expires",
        &[("cache-control", "max-age=0"), ("expires", "{now+9000}"), ("date", "{now}")],
    ),
    not_kept(
        "§5.3 a max-age that is none before a future expires",
        &[("cache-control", "max-age=x"), ("expires", "{now+9000}"), ("date", "{now}")],
    ),
    kept(
        "§5.3 s-maxage before a past expires",
        &[("cache-control", "s-maxage=3600"), ("expires", "{now-9000}"), ("date", "{now}")],
    ),
    two(
        "§2 another query is another answer",
        get().at("?a=1").gives(&[("cache-control", "max-age=3600")]),
        get().at("?a=2").gives(&[("cache-control", "max-age=3600")]),
    ),
    two(
        "§2 the same query is the same answer",
        get().at("?a=1").gives(&[("cache-control", "max-age=3600")]),
        get().at("?a=1").cached(0),
    ),
    two(
        "§2 no query is another than an empty one",
        get().gives(&[("cache-control", "max-age=3600")]),
        get().at("?"),
    ),
    two(
        "§2 another path is another answer",
        get().at("/a").gives(&[("cache-control", "max-age=3600")]),
        get().at("/b"),
    ),
    two(
        "§2 another host is another answer",
        get().lines(&[("host", "a.example")]).gives(&[("cache-control", "max-age=3600")]),
        get().lines(&[("host", "b.example")]),
    ),
];
