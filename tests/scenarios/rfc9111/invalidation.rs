//! RFC 9111 §4.4: what a change voids.

use super::case::{Case, FRESH, HOUR, Lines, Step, get, method, three};

/// The kept answer is void after this.
const fn voids(name: &'static str, change: Step) -> Case {
    three(name, get().gives(FRESH), change, get())
}

/// It is not.
const fn leaves(name: &'static str, change: Step) -> Case {
    three(name, get().gives(FRESH), change, get().cached(0))
}

/// What is kept for `/named` is void after a POST elsewhere that names it so.
const fn named(name: &'static str, answer: Lines) -> Case {
    three(
        name,
        get().at("/named").gives(FRESH),
        method("POST").at("/change").sends("x").gives(answer),
        get().at("/named"),
    )
}

const fn not_named(name: &'static str, answer: Lines) -> Case {
    three(
        name,
        get().at("/named").gives(FRESH),
        method("POST").at("/change").sends("x").gives(answer),
        get().at("/named").cached(0),
    )
}

pub(super) const CASES: &[Case] = &[
    voids("§4.4 POST", method("POST").sends("abc")),
    voids("§4.4 PUT", method("PUT").sends("abc")),
    voids("§4.4 DELETE", method("DELETE")),
    voids("§4.4 PATCH", method("PATCH").sends("abc")),
    voids("§4.4 M-SEARCH", method("M-SEARCH")),
    voids("§4.4 a method that nobody knows", method("FROBNICATE")),
    voids("§4.4 POST with 201", method("POST").sends("abc").status(201)),
    voids("§4.4 POST with 204", method("POST").sends("abc").status(204)),
    voids(
        "§4.4 POST with 303",
        method("POST").sends("abc").status(303).gives(&[("location", "/x")]),
    ),
    voids(
        "§4.4 POST with credentials",
        method("POST").lines(&[("authorization", "x")]).sends("abc"),
    ),
    voids(
        "§4.4 POST with no-store",
        method("POST").lines(&[("cache-control", "no-store")]).sends("abc"),
    ),
    leaves("§4.4 POST that fails with 500", method("POST").sends("abc").status(500)),
    leaves("§4.4 PUT that fails with 500", method("PUT").sends("abc").status(500)),
    leaves("§4.4 DELETE that fails with 503", method("DELETE").status(503)),
    leaves("§4.4 M-SEARCH that fails with 500", method("M-SEARCH").status(500)),
    leaves("§4.4 POST that is refused with 400", method("POST").sends("abc").status(400)),
    leaves("§4.4 DELETE that finds nothing", method("DELETE").status(404)),
    leaves("§4.4 OPTIONS", method("OPTIONS")),
    leaves("§4.4 PROPFIND", method("PROPFIND")),
    leaves("§4.4 a change elsewhere", method("POST").at("/other").sends("abc")),
    leaves("§4.4 a change with another query", method("POST").at("?x").sends("abc")),
    named("§4.4 location", &[("location", "{base}/named")]),
    named("§4.4 content-location", &[("content-location", "{base}/named")]),
    named("§4.4 location, relative", &[("location", "named")]),
    named("§4.4 content-location, relative", &[("content-location", "./x/../named")]),
    named("§4.4 location, absolute", &[("location", "{origin}{base}/named")]),
    named("§4.4 location with a fragment", &[("location", "{base}/named#part")]),
    not_named("§4.4 location of another host", &[("location", "http://other.example{base}/named")]),
    not_named(
        "§4.4 content-location of another host",
        &[("content-location", "//other.example{base}/named")],
    ),
    not_named("§4.4 location of another scheme", &[("location", "gopher://other{base}/named")]),
    not_named("§4.4 location of another path", &[("location", "{base}/other")]),
    three(
        "§4.4 location of a failure",
        get().at("/named").gives(FRESH),
        method("POST").at("/change").sends("x").status(409).gives(&[("location", "{base}/named")]),
        get().at("/named").cached(0),
    ),
    three(
        "§4.4 every variant is void",
        get().lines(&[("foo", "1")]).gives(&[HOUR, ("vary", "foo")]),
        method("POST").sends("abc"),
        get().lines(&[("foo", "1")]).gives(&[HOUR, ("vary", "foo")]),
    ),
];
