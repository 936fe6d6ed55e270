//! May this be answered from the cache, may this be stored, and for how long: RFC 9111, its safe
//! core.
//!
//! Only what is plainly allowed is done: GET and HEAD, a 200 whose sender said how long it is good
//! for. Vary, cookies, credentials, ranges, conditions, heuristics and revalidation are bypassed,
//! each by name; the rules for them come with a later issue. A bypass costs time, never a wrong
//! answer.
//!
//! Pure functions of names and values; header names may be in any case.

use crate::cache_control::{RequestControl, ResponseControl, SECONDS_MAX, seconds};
use std::time::UNIX_EPOCH;

/// Why the cache is left out of a call, as in `cache-status: …; detail=`.
pub type Reason = &'static str;

/// How long an answer is good, and how old it was when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// From when it was made. More than `age_ms`.
    pub lifetime_ms: u64,
    /// RFC 9111 §4.2.3, corrected_initial_age.
    pub age_ms: u64,
}

/// What the exchange's clock said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Unix time at which the request was sent.
    pub request_ms: u64,
    /// Unix time at which the answer's head came.
    pub response_ms: u64,
}

impl Freshness {
    /// The entry's `stored_at_ms`: when the answer was made, in effect.
    pub fn made_at_ms(&self, times: Times) -> u64 {
        times.response_ms.saturating_sub(self.age_ms)
    }
}

/// Whether the cache has a part in this request at all.
///
/// Of the caller's `cache-control` only `no-store` is judged here, the rest is for a hit
/// ([`RequestControl::accepts`]).
pub fn may_use_cache<'a>(
    method: &str,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<RequestControl, Reason> {
    if !matches!(method, "GET" | "HEAD") {
        return Err("method");
    }
    let mut lines = Vec::new();
    let mut pragma = false;
    for (name, value) in headers {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if is("authorization") || is("proxy-authorization") {
            return Err("authorization");
        }
        if is("range") || is("if-range") {
            return Err("range");
        }
        if name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("if-")) {
            return Err("conditional");
        }
        if is("content-length") && value != b"0" || is("transfer-encoding") {
            return Err("request-body");
        }
        if is("upgrade") {
            return Err("upgrade");
        }
        if is("cache-control") {
            lines.push(value);
        }
        pragma |= is("pragma") && value.to_ascii_lowercase().windows(8).any(|w| w == b"no-cache");
    }
    let mut control = RequestControl::parse(lines.iter().copied());
    // An HTTP/1.0 caller's no-cache; only heard where the newer header is silent.
    control.no_cache |= pragma && lines.is_empty();
    if control.no_store {
        return Err("no-store");
    }
    Ok(control)
}

/// Whether this answer to a request that passed [`may_use_cache`] may be stored, and for how long.
pub fn may_store<'a>(
    status: u16,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    times: Times,
) -> Result<Freshness, Reason> {
    if status != 200 {
        return Err("status");
    }
    let mut fields = Fields::default();
    for (name, value) in headers {
        fields.take(name, value)?;
    }
    let control = ResponseControl::parse(fields.control.iter().copied());
    if control.no_store {
        return Err("no-store");
    }
    if control.no_cache {
        return Err("no-cache");
    }
    if control.private {
        return Err("private");
    }
    let date_s = match fields.date {
        Some(date) => Some(http_date_s(date).ok_or("date")?),
        None => None,
    };
    let lifetime_s = control
        .s_maxage_s
        .or(control.max_age_s)
        .or_else(|| fields.expires_s(date_s, times))
        .ok_or("no-freshness")?;
    let lifetime_ms = lifetime_s.min(SECONDS_MAX).saturating_mul(1_000);
    let age_ms = initial_age_ms(fields.age, date_s, times);
    if age_ms >= lifetime_ms {
        return Err("stale");
    }
    Ok(Freshness { lifetime_ms, age_ms })
}

/// RFC 9111 §4.2.3: the greater of what the clocks and what the `age` header say.
fn initial_age_ms(age: Option<&[u8]>, date_s: Option<u64>, times: Times) -> u64 {
    let apparent_ms =
        date_s.map_or(0, |date_s| times.response_ms.saturating_sub(date_s.saturating_mul(1_000)));
    // Dates have no fractions: within the second they say, an answer is new.
    let apparent_ms = if apparent_ms < 1_000 { 0 } else { apparent_ms };
    let delay_ms = times.response_ms.saturating_sub(times.request_ms);
    let told_ms = age.and_then(first_member_s).unwrap_or(0).saturating_mul(1_000);
    apparent_ms.max(told_ms.saturating_add(delay_ms))
}

/// The first member of a list counts; what is no number is ignored.
fn first_member_s(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    seconds(text.split(',').next()?.trim())
}

fn http_date_s(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let time = httpdate::parse_http_date(text).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// The fields that decide.
#[derive(Default)]
struct Fields<'a> {
    control: Vec<&'a [u8]>,
    age: Option<&'a [u8]>,
    date: Option<&'a [u8]>,
    /// `Some(None)`: several lines, which is a date in the past.
    expires: Option<Option<&'a [u8]>>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, name: &str, value: &'a [u8]) -> Result<(), Reason> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if is("vary") {
            return Err("vary");
        }
        if is("set-cookie") || is("set-cookie2") {
            return Err("set-cookie");
        }
        if is("content-range") {
            return Err("range");
        }
        if is("cdn-cache-control") || is("surrogate-control") {
            // Would override what we can read.
            return Err("cdn-cache-control");
        }
        if is("cache-control") {
            self.control.push(value);
        } else if is("age") {
            self.age = self.age.or(Some(value));
        } else if is("date") {
            self.date = self.date.or(Some(value));
        } else if is("expires") {
            self.expires = Some(if self.expires.is_some() { None } else { Some(value) });
        }
        Ok(())
    }

    /// Seconds from the answer's own date on, 0 for what is past or cannot be read.
    fn expires_s(&self, date_s: Option<u64>, times: Times) -> Option<u64> {
        let expires = self.expires?;
        let date_s = date_s.unwrap_or(times.response_ms / 1_000);
        Some(expires.and_then(http_date_s).unwrap_or(0).saturating_sub(date_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT
    const DATE_MS: u64 = 784_111_777_000;
    const TIMES: Times = Times { request_ms: DATE_MS - 200, response_ms: DATE_MS };

    #[track_caller]
    fn check_request(method: &str, headers: &[(&str, &str)], expected: Result<(), Reason>) {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        assert_eq!(may_use_cache(method, headers).map(drop), expected);
    }

    #[track_caller]
    fn check(headers: &[(&str, &str)], expected: Result<(u64, u64), Reason>) {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        let stored = may_store(200, headers, TIMES);
        assert_eq!(stored.map(|fresh| (fresh.lifetime_ms, fresh.age_ms)), expected);
    }

    #[test]
    fn only_plain_reads_use_the_cache() {
        check_request("GET", &[("accept", "*/*"), ("cookie", "a=b")], Ok(()));
        check_request("HEAD", &[("content-length", "0")], Ok(()));
        check_request("POST", &[], Err("method"));
        check_request("get", &[], Err("method"));
        check_request("GET", &[("Authorization", "x")], Err("authorization"));
        check_request("GET", &[("Range", "bytes=0-1")], Err("range"));
        check_request("GET", &[("If-None-Match", "\"a\"")], Err("conditional"));
        check_request("GET", &[("content-length", "3")], Err("request-body"));
        check_request("GET", &[("cache-control", "no-store")], Err("no-store"));
    }

    #[test]
    fn an_old_callers_pragma_is_heard_unless_it_says_more() {
        let control = |headers: &[(&'static str, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
            may_use_cache("GET", headers).unwrap().no_cache
        };
        assert!(control(&[("Pragma", "No-Cache")]));
        assert!(!control(&[("pragma", "no-cache"), ("cache-control", "max-age=5")]));
    }

    #[test]
    fn an_answer_is_stored_for_as_long_as_its_sender_said() {
        check(&[("cache-control", "max-age=60")], Ok((60_000, 200)));
        check(&[("cache-control", "max-age=60, s-maxage=5")], Ok((5_000, 200)));
        check(&[("cache-control", "public, must-revalidate, max-age=60")], Ok((60_000, 200)));
        check(
            &[
                ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"),
                ("Expires", "Sun, 06 Nov 1994 08:50:37 GMT"),
            ],
            Ok((60_000, 200)),
        );
        check(
            &[("expires", "Sun, 06 Nov 1994 08:50:37 GMT"), ("cache-control", "max-age=5")],
            Ok((5_000, 200)),
        );
        check(&[("cache-control", "max-age=99999999999")], Ok((SECONDS_MAX * 1_000, 200)));
    }

    #[test]
    fn the_age_it_came_with_is_taken_off() {
        let fresh = ("cache-control", "max-age=60");
        check(&[fresh, ("age", "10")], Ok((60_000, 10_200)));
        check(&[fresh, ("age", "10, 50")], Ok((60_000, 10_200)));
        check(&[fresh, ("age", "7.5")], Ok((60_000, 200)));
        check(&[fresh, ("age", "-5")], Ok((60_000, 200)));
        check(&[fresh, ("age", "99999999999999999999")], Err("stale"));
        check(&[fresh, ("age", "60")], Err("stale"));
        check(&[fresh, ("date", "Sun, 06 Nov 1994 08:49:07 GMT")], Ok((60_000, 30_000)));
        check(&[fresh, ("date", "Sun, 06 Nov 1994 08:48:37 GMT")], Err("stale"));
        let fresh = Freshness { lifetime_ms: 60_000, age_ms: 10_000 };
        assert_eq!(fresh.made_at_ms(TIMES), DATE_MS - 10_000);
    }

    #[test]
    fn whatever_is_not_plainly_allowed_is_not_stored() {
        let fresh = ("cache-control", "max-age=60");
        check(&[], Err("no-freshness"));
        check(&[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")], Err("no-freshness"));
        check(&[fresh, ("Vary", "accept")], Err("vary"));
        check(&[fresh, ("Set-Cookie", "a=b")], Err("set-cookie"));
        check(&[fresh, ("cache-control", "no-store")], Err("no-store"));
        check(&[fresh, ("cache-control", "no-cache=\"x\"")], Err("no-cache"));
        check(&[fresh, ("cache-control", "Private")], Err("private"));
        check(&[fresh, ("cdn-cache-control", "max-age=1")], Err("cdn-cache-control"));
        check(&[fresh, ("date", "yesterday")], Err("date"));
        check(&[("cache-control", "max-age=0")], Err("stale"));
        check(&[("expires", "0")], Err("stale"));
        let line = ("expires", "Sun, 06 Nov 1994 08:50:37 GMT");
        check(&[line, line], Err("stale"));
        let headers = || [("cache-control", b"max-age=60".as_slice())];
        assert_eq!(may_store(206, headers(), TIMES), Err("status"));
        assert_eq!(may_store(404, headers(), TIMES), Err("status"));
    }
}
