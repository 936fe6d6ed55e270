//! What a request asks of the cache, read once.
//!
//! Owned and small, so that it can be kept while the upstream is asked.

use super::{
    Reason, fields,
    range::{self, Range},
};
use crate::cache_control::RequestControl;
use http::{HeaderMap, HeaderValue, Method, header};
use smallvec::SmallVec;

/// What the method means to a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Get,
    /// Answered from what GET stored; its own answer only updates that.
    Head,
    /// Its answer may be kept for GET if it says so ([`super::store::judge_posted`]); and it
    /// invalidates.
    Post,
    /// OPTIONS, TRACE: passed on, nothing is kept and nothing voided.
    Safe,
    /// Everything else, known or not: a success voids what is stored (RFC 9111 §4.4).
    Unsafe,
}

/// The caller's conditions that a cache may judge (RFC 9110 §13.1).
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// All lines of `if-none-match`.
    pub if_none_match: SmallVec<[HeaderValue; 1]>,
    /// `None` also if there are several lines, which is no date.
    pub if_modified_since: Option<HeaderValue>,
    pub if_range: Option<HeaderValue>,
}

/// What a request asks of the cache.
#[derive(Clone, Debug)]
pub struct Request {
    pub kind: Kind,
    pub control: RequestControl,
    /// Why the cache has no part in answering it, nor keeps its answer: it is passed on as it is.
    /// Invalidation goes by `kind`, whatever is here.
    pub passed: Option<Reason>,
    /// It carries credentials.
    pub authorized: bool,
    /// It carries cookies: what is kept without the upstream's word (a heuristic) may be personal.
    pub has_cookie: bool,
    pub range: Option<Range>,
    pub conditions: Conditions,
}

impl Conditions {
    /// A range is wanted if the answer was not changed since a date: which says nothing of the
    /// coding it had then.
    pub fn has_date_for_range(&self) -> bool {
        self.if_range.as_ref().is_some_and(|condition| !condition.as_bytes().contains(&b'"'))
    }
}

impl Request {
    /// Reads method and fields.
    pub fn read(method: &Method, headers: &HeaderMap) -> Self {
        let kind = kind(method);
        let control = control(headers);
        let range = match kind {
            // A range is defined for GET only (RFC 9110 §14.2).
            Kind::Get => fields::only(headers, &header::RANGE)
                .and_then(|value| range::parse(value.as_bytes())),
            Kind::Head | Kind::Post | Kind::Safe | Kind::Unsafe => None,
        };
        Self {
            kind,
            passed: passed(kind, headers, &control),
            control,
            authorized: headers.contains_key(header::AUTHORIZATION)
                || headers.contains_key(header::PROXY_AUTHORIZATION),
            has_cookie: headers.contains_key(header::COOKIE),
            range,
            conditions: Conditions {
                if_none_match: headers.get_all(header::IF_NONE_MATCH).iter().cloned().collect(),
                if_modified_since: fields::only(headers, &header::IF_MODIFIED_SINCE).cloned(),
                if_range: fields::only(headers, &header::IF_RANGE).cloned(),
            },
        }
    }

    /// A success of it voids what is stored for its URL.
    pub fn invalidates(&self) -> bool {
        matches!(self.kind, Kind::Post | Kind::Unsafe)
    }

    /// The caller judges the answer by conditions of its own.
    pub fn is_conditional(&self) -> bool {
        !self.conditions.if_none_match.is_empty() || self.conditions.if_modified_since.is_some()
    }
}

fn kind(method: &Method) -> Kind {
    match *method {
        Method::GET => Kind::Get,
        Method::HEAD => Kind::Head,
        Method::POST => Kind::Post,
        Method::OPTIONS | Method::TRACE => Kind::Safe,
        // The registered safe ones beside (RFC 3253, 5323, 4918; QUERY has its own body).
        _ if matches!(method.as_str(), "PROPFIND" | "REPORT" | "SEARCH" | "QUERY") => Kind::Safe,
        _ => Kind::Unsafe,
    }
}

fn control(headers: &HeaderMap) -> RequestControl {
    let lines = headers.get_all(header::CACHE_CONTROL);
    let mut control = RequestControl::parse(lines.iter().map(HeaderValue::as_bytes));
    // An HTTP/1.0 caller's no-cache: heard where the newer field is silent (RFC 9111 §5.4).
    if !headers.contains_key(header::CACHE_CONTROL) {
        let mut pragma = fields::all_members(headers, &header::PRAGMA);
        control.no_cache |= pragma.any(|member| member.eq_ignore_ascii_case(b"no-cache"));
    }
    control
}

fn passed(kind: Kind, headers: &HeaderMap, control: &RequestControl) -> Option<Reason> {
    if !matches!(kind, Kind::Get | Kind::Head) {
        return Some("method");
    }
    // A body of GET has no meaning that a cache could know (RFC 9110 §9.3.1).
    let length = headers.get_all(header::CONTENT_LENGTH);
    let has_body = length.iter().any(|length| length.as_bytes().iter().any(|digit| *digit != b'0'));
    if has_body || headers.contains_key(header::TRANSFER_ENCODING) {
        return Some("request-body");
    }
    if headers.contains_key(header::UPGRADE) {
        return Some("upgrade");
    }
    // These two are for the origin alone (RFC 9111 §4.3.2).
    if headers.contains_key(header::IF_MATCH) || headers.contains_key(header::IF_UNMODIFIED_SINCE) {
        return Some("conditional");
    }
    control.no_store.then_some("no-store")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfc9111::testing::headers;

    fn read(method: &str, lines: &[(&str, &str)]) -> Request {
        Request::read(&method.parse().unwrap(), &headers(lines))
    }

    #[track_caller]
    fn check(method: &str, lines: &[(&str, &str)], passed: Option<Reason>) {
        assert_eq!(read(method, lines).passed, passed, "{method} {lines:?}");
    }

    #[test]
    fn reads_have_to_do_with_the_cache_and_the_rest_says_why_not() {
        check("GET", &[], None);
        check("HEAD", &[("content-length", "0")], None);
        check("GET", &[("cookie", "a=b"), ("authorization", "x"), ("range", "bytes=0-1")], None);
        check("GET", &[("if-none-match", "\"a\""), ("if-modified-since", "x")], None);
        check("POST", &[], Some("method"));
        check("get", &[], Some("method"));
        check("OPTIONS", &[], Some("method"));
        check("GET", &[("content-length", "3")], Some("request-body"));
        check("GET", &[("transfer-encoding", "chunked")], Some("request-body"));
        check("GET", &[("upgrade", "websocket")], Some("upgrade"));
        check("GET", &[("if-match", "*")], Some("conditional"));
        check("GET", &[("if-unmodified-since", "x")], Some("conditional"));
        check("GET", &[("cache-control", "no-store")], Some("no-store"));
    }

    #[test]
    fn what_is_not_known_to_be_safe_invalidates() {
        for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "PURGE", "get", "WHATEVER"] {
            assert!(read(method, &[]).invalidates(), "{method}");
        }
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND"] {
            assert!(!read(method, &[]).invalidates(), "{method}");
        }
        assert!(read("PUT", &[("cache-control", "no-store")]).invalidates());
    }

    #[test]
    fn an_old_callers_pragma_is_heard_unless_it_says_more() {
        let no_cache = |lines: &[(&str, &str)]| read("GET", lines).control.no_cache;
        assert!(no_cache(&[("pragma", "x, No-Cache")]));
        assert!(!no_cache(&[("pragma", "no-cache"), ("cache-control", "max-age=5")]));
        assert!(!no_cache(&[("pragma", "no-cached")]));
    }

    #[test]
    fn a_range_is_one_of_a_get() {
        assert!(read("GET", &[("range", "bytes=0-1")]).range.is_some());
        assert!(read("HEAD", &[("range", "bytes=0-1")]).range.is_none());
        assert!(read("GET", &[("range", "bytes=0-1"), ("range", "bytes=2-3")]).range.is_none());
    }
}
