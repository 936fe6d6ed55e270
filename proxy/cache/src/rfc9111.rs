//! A shared HTTP cache's policy: RFC 9111 in full, with 5861 (stale), 8246 (immutable), 9213
//! (targeted fields) and the conditions and ranges of RFC 9110 that a cache answers itself.
//!
//! ```text
//!   request::Request::read ─ may the cache have a part in this call, and what does it ask for
//!   reuse::reuse ─────────── fresh | stale while revalidating | revalidate | miss | not cached
//!     conditional, range ─── … of what is given: 304, 206, 416 or the whole
//!   conditional::validation  the question a revalidation asks
//!   update ───────────────── what a 304, or the answer to a HEAD, does to what is stored
//!   reuse::on_error ──────── may a stale answer stand in for a failure
//!   store::judge ─────────── may this answer be kept, for how long, and without which fields
//!     vary ───────────────── and for whom
//!   invalidate ───────────── which URLs a change voids
//!   cdn ──────────────────── what a cache before this one is told
//! ```
//!
//! Functions of values only: no clock, no task, no store. Whoever calls them keeps what they
//! return. Everything that came over a network is read totally and within bounds; where a text is
//! not what its grammar says, the reading errs towards asking the upstream again.

pub mod fields;
pub mod date;
pub mod directives;
pub mod targeted;
pub mod request;
pub mod vary;
pub mod surrogate;
pub mod store;
pub mod reuse;
pub mod etag;
pub mod conditional;
pub mod range;
pub mod update;
pub mod invalidate;
pub mod query;
pub mod cdn;
pub mod property;

/// Why the cache is left out of a call or an answer is not kept, as in `cache-status: …; detail=`.
pub type Reason = &'static str;

#[cfg(test)]
pub(crate) mod testing {
    use super::{
        request::Request,
        store::{Rules, Times, Verdict, judge},
    };
    use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

    /// Sun, 06 Nov 1994 08:49:37 GMT
    pub(crate) const NOW_MS: u64 = 784_111_777_000;
    pub(crate) const TIMES: Times = Times { request_ms: NOW_MS - 200, response_ms: NOW_MS };

    pub(crate) fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    pub(crate) fn get(lines: &[(&str, &str)]) -> Request {
        Request::read(&Method::GET, &headers(lines))
    }

    /// What a 200 with these fields, come now, is judged to be.
    pub(crate) fn stored(lines: &[(&str, &str)]) -> Verdict {
        judge(&get(&[]), StatusCode::OK, &headers(lines), TIMES, &Rules::default()).unwrap()
    }
}
