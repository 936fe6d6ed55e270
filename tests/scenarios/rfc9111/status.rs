//! RFC 9111 §3 and §4.2.2: which statuses are kept, with a time and by a guess; interim answers.

use super::case::{
    Case, Check, DATED, FRESH, HOUR, Lines, get, kept, method, not_kept, status_kept,
    status_not_kept, two,
};

const STALE: Lines = &[("expires", "{now-5000}"), ("date", "{now}")];
const UNCHANGED: Lines = &[("last-modified", "{now-86400}"), ("date", "{now}")];
const PUBLIC: Lines =
    &[("last-modified", "{now-86400}"), ("date", "{now}"), ("cache-control", "public")];

const fn unchanged(name: &'static str, fields: Lines) -> Case {
    kept(name, fields)
}

pub(super) const CASES: &[Case] = &[
    status_kept("§3 a fresh 200", 200, FRESH),
    status_kept("§3 a fresh 201", 201, FRESH),
    status_kept("§3 a fresh 202", 202, FRESH),
    status_kept("§3 a fresh 203", 203, FRESH),
    status_kept("§3 a fresh 204", 204, FRESH),
    status_kept("§3 a fresh 299", 299, FRESH),
    status_kept("§3 a fresh 300", 300, FRESH),
    status_kept("§3 a fresh 301", 301, FRESH),
    status_kept("§3 a fresh 302", 302, FRESH),
    status_kept("§3 a fresh 303", 303, FRESH),
    status_kept("§3 a fresh 307", 307, FRESH),
    status_kept("§3 a fresh 308", 308, FRESH),
    status_kept("§3 a fresh 400", 400, FRESH),
    status_kept("§3 a fresh 403", 403, FRESH),
    status_kept("§3 a fresh 404", 404, FRESH),
    status_kept("§3 a fresh 405", 405, FRESH),
    status_kept("§3 a fresh 410", 410, FRESH),
    status_kept("§3 a fresh 499", 499, FRESH),
    status_kept("§3 a fresh 500", 500, FRESH),
    status_kept("§3 a fresh 502", 502, FRESH),
    status_kept("§3 a fresh 503", 503, FRESH),
    status_kept("§3 a fresh 504", 504, FRESH),
    status_kept("§3 a fresh 599", 599, FRESH),
    status_not_kept("§3 a stale 203", 203, STALE),
    status_not_kept("§3 a stale 204", 204, STALE),
    status_not_kept("§3 a stale 299", 299, STALE),
    status_not_kept("§3 a stale 301", 301, STALE),
    status_not_kept("§3 a stale 302", 302, STALE),
    status_not_kept("§3 a stale 308", 308, STALE),
    status_not_kept("§3 a stale 400", 400, STALE),
    status_not_kept("§3 a stale 404", 404, STALE),
    status_not_kept("§3 a stale 410", 410, STALE),
    status_not_kept("§3 a stale 500", 500, STALE),
    status_not_kept("§3 a stale 503", 503, STALE),
    status_not_kept("§3 a stale 599", 599, STALE),
    status_kept("§4.2.2 an unchanged 200", 200, UNCHANGED),
    status_kept("§4.2.2 an unchanged 203", 203, UNCHANGED),
    status_kept("§4.2.2 an unchanged 204", 204, UNCHANGED),
    status_kept("§4.2.2 an unchanged 300", 300, UNCHANGED),
    status_kept("§4.2.2 an unchanged 301", 301, UNCHANGED),
    status_kept("§4.2.2 an unchanged 308", 308, UNCHANGED),
    status_kept("§4.2.2 an unchanged 404", 404, UNCHANGED),
    status_kept("§4.2.2 an unchanged 405", 405, UNCHANGED),
    status_kept("§4.2.2 an unchanged 410", 410, UNCHANGED),
    status_kept("§4.2.2 an unchanged 414", 414, UNCHANGED),
    status_kept("§4.2.2 an unchanged 501", 501, UNCHANGED),
    status_not_kept("§4.2.2 an unchanged 201", 201, UNCHANGED),
    status_not_kept("§4.2.2 an unchanged 202", 202, UNCHANGED),
    status_not_kept("§4.2.2 an unchanged 302", 302, UNCHANGED),
    status_not_kept("§4.2.2 an unchanged 307", 307, UNCHANGED),
    status_not_kept("§4.2.2 an unchanged 403", 403, UNCHANGED),
    status_not_kept("§4.2.2 an unchanged 500", 500, UNCHANGED),
    status_not_kept("§4.2.2 an unchanged 502", 502, UNCHANGED),
    status_not_kept("§4.2.2 an unchanged 503", 503, UNCHANGED),
    status_not_kept("§4.2.2 an unchanged 504", 504, UNCHANGED),
    status_not_kept("§4.2.2 an unchanged 599", 599, UNCHANGED),
    status_kept("§4.2.2 an unchanged public 403", 403, PUBLIC),
    status_kept("§4.2.2 an unchanged public 599", 599, PUBLIC),
    unchanged("§4.2.2 unchanged for an hour", &[("last-modified", "{now-3600}"), ("date", "{now}")]),
    unchanged("§4.2.2 unchanged, without a date", &[("last-modified", "{now-3600}")]),
    not_kept(
        "§4.2.2 a tenth of the time it was unchanged",
        &[("last-modified", "{now-1000}"), ("date", "{now}"), ("age", "110")],
    ),
    not_kept(
        "§4.2.2 a day at the most",
        &[("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT"), ("date", "{now}"), ("age", "86401")],
    ),
    not_kept("§4.2.2 changed in the future", &[("last-modified", "{now+3600}"), ("date", "{now}")]),
    not_kept("§4.2.2 changed at a date that is none", &[("last-modified", "x"), ("date", "{now}")]),
    not_kept(
        "§4.2.2 no guess beside a time",
        &[("last-modified", "{now-86400}"), ("date", "{now}"), ("cache-control", "max-age=0")],
    ),
    not_kept(
        "§4.2.2 no guess beside pragma",
        &[("last-modified", "{now-86400}"), ("date", "{now}"), ("pragma", "no-cache")],
    ),
    kept(
        "§4.2.2 a download is guessed too",
        &[
            ("last-modified", "{now-86400}"),
            ("date", "{now}"),
            ("content-disposition", "attachment; filename=example.txt"),
        ],
    ),
    status_not_kept("§3 a 206 is not kept as it is", 206, &[HOUR, ("content-range", "bytes 0-3/9")]),
    status_not_kept("§3 a 304 is not kept", 304, FRESH),
    two(
        "§3 an interim 103 is not kept, the final answer is",
        get().gives(FRESH).early("HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\ncache-control: max-age=9\r\n\r\n"),
        get().cached(0).and(&[Check::Lacks("link")]),
    ),
    two(
        "§3 an interim 102 is not kept, the final answer is",
        get().gives(FRESH).early("HTTP/1.1 102 Processing\r\n\r\n"),
        get().cached(0),
    ),
    two("§3 an answer to OPTIONS is not kept", method("OPTIONS").gives(FRESH), method("OPTIONS").gives(FRESH)),
    two("§3 an answer to OPTIONS is not for GET", method("OPTIONS").gives(FRESH), get()),
    two("§3 an answer to PUT is not kept", method("PUT").gives(FRESH), get()),
    two("§3 an answer to POST is not kept", method("POST").sends("x").gives(FRESH), get()),
    two(
        "RFC 9110 §9.3.3 an answer to POST that is its own URL's",
        method("POST").sends("x").gives(&[HOUR, DATED, ("content-location", "{base}")]),
        get().cached(0),
    ),
    two(
        "RFC 9110 §9.3.3 an answer to POST that is another URL's",
        method("POST").sends("x").gives(&[HOUR, DATED, ("content-location", "{base}/x")]),
        get(),
    ),
    two(
        "RFC 9110 §9.3.3 an answer to POST without a time",
        method("POST").sends("x").gives(&[("last-modified", "{now-86400}"), DATED, ("content-location", "{base}")]),
        get(),
    ),
    two(
        "RFC 9110 §9.3.3 POST is never answered from the cache",
        get().gives(FRESH),
        method("POST").sends("x"),
    ),
    two("§4 HEAD is answered from GET", get().gives(FRESH), method("HEAD").cached(0)),
    two("§3 HEAD brings nothing for GET", method("HEAD").gives(FRESH), get()),
];
