//! Conditions: those of a caller, judged against a kept answer, and those with which the upstream
//! is asked whether the kept answer still holds (RFC 9110 §13, RFC 9111 §4.3).

use super::{
    date,
    etag::{Tag, Tags},
    fields,
    request::Conditions,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// What a caller with conditions is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// It has it already: 304 with [`not_modified`].
    NotModified,
    /// The answer, or the range of it that was asked for.
    Whole,
}

/// Judges the caller's conditions in the order of RFC 9110 §13.2.2. Only a 200 is ever "not
/// modified": for other statuses conditions mean nothing.
pub fn evaluate(
    conditions: &Conditions,
    status: StatusCode,
    stored: &HeaderMap,
    now_ms: u64,
) -> Given {
    if status != StatusCode::OK {
        return Given::Whole;
    }
    if !conditions.if_none_match.is_empty() {
        let tags = Tags::read(conditions.if_none_match.iter().map(HeaderValue::as_bytes));
        let held = tags.contain(stored.get(header::ETAG).and_then(|tag| Tag::read(tag.as_bytes())));
        // With tags given, the date does not count, whatever it says.
        return if held { Given::NotModified } else { Given::Whole };
    }
    let now_s = now_ms / 1_000;
    let read = |value: &HeaderValue| date::parse(value.as_bytes(), now_s);
    let since_s = conditions.if_modified_since.as_ref().and_then(read);
    // Where the answer does not say when it was changed, it was not after it was made
    // (RFC 9111 §4.3.2).
    let changed = stored.get(header::LAST_MODIFIED).or_else(|| stored.get(header::DATE));
    match (since_s, changed.and_then(read)) {
        (Some(since_s), Some(changed_s)) if changed_s <= since_s => Given::NotModified,
        _ => Given::Whole,
    }
}

/// The fields of a kept answer that a 304 carries (RFC 9110 §15.4.5), beside its age.
pub fn not_modified(stored: &HeaderMap) -> HeaderMap {
    let mut said = HeaderMap::new();
    for name in CARRIED {
        for value in stored.get_all(&name) {
            said.append(name.clone(), value.clone());
        }
    }
    // Where there is a tag, the date would only be a second word on the same matter.
    if !said.contains_key(header::ETAG)
        && let Some(changed) = stored.get(header::LAST_MODIFIED)
    {
        said.insert(header::LAST_MODIFIED, changed.clone());
    }
    said
}

/// Of a representation that is the same in other bytes: its tag no longer tells bytes apart (RFC 9110
/// §8.8.1). What is no strong tag stays.
pub fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(header::ETAG) else { return };
    if !Tag::read(tag.as_bytes()).is_some_and(Tag::is_strong) {
        return;
    }
    match HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        Ok(weak) => headers.insert(header::ETAG, weak),
        Err(_) => headers.remove(header::ETAG),
    };
}

const CARRIED: [HeaderName; 6] = [
    header::CACHE_CONTROL,
    header::CONTENT_LOCATION,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::VARY,
];

/// The upstream can be asked whether this answer still holds.
pub fn has_validator(stored: &HeaderMap) -> bool {
    tag(stored).is_some() || changed(stored).is_some()
}

/// Makes of a caller's request the one that asks whether the kept answer still holds: the caller's
/// own conditions and range go, the kept answer's validators come. `false`: it has none, and the
/// request asks for the whole answer.
pub fn validation(stored: &HeaderMap, request: &mut HeaderMap) -> bool {
    for name in CONDITIONS {
        request.remove(name);
    }
    let (tag, changed) = (tag(stored), changed(stored));
    let asks = tag.is_some() || changed.is_some();
    // Both: an upstream that knows only dates understands the second (RFC 9111 §4.3.1).
    if let Some(tag) = tag {
        request.insert(header::IF_NONE_MATCH, tag.clone());
    }
    if let Some(changed) = changed {
        request.insert(header::IF_MODIFIED_SINCE, changed.clone());
    }
    asks
}

/// What is replaced in a request by a question of our own.
pub const CONDITIONS: [HeaderName; 6] = [
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::RANGE,
];

fn tag(stored: &HeaderMap) -> Option<&HeaderValue> {
    fields::only(stored, &header::ETAG).filter(|tag| Tag::read(tag.as_bytes()).is_some())
}

/// As it was sent: some upstreams compare it by the byte.
fn changed(stored: &HeaderMap) -> Option<&HeaderValue> {
    // Any century will do to see that it is a date.
    fields::only(stored, &header::LAST_MODIFIED)
        .filter(|changed| date::parse(changed.as_bytes(), 0).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfc9111::testing::{NOW_MS, get, headers};

    const EARLIER: &str = "Sun, 06 Nov 1994 07:00:00 GMT";
    const DATE: &str = "Sun, 06 Nov 1994 08:00:00 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:30:00 GMT";

    #[track_caller]
    fn check(stored: &[(&str, &str)], asked: &[(&str, &str)], expected: Given) {
        let conditions = get(asked).conditions;
        let found = evaluate(&conditions, StatusCode::OK, &headers(stored), NOW_MS);
        assert_eq!(found, expected, "{stored:?} {asked:?}");
    }

    #[test]
    fn who_names_the_tag_has_it() {
        let stored = [("etag", "\"a\"")];
        check(&stored, &[("if-none-match", "\"a\"")], Given::NotModified);
        check(&stored, &[("if-none-match", "W/\"a\"")], Given::NotModified);
        check(
            &stored,
            &[("if-none-match", "\"x\""), ("if-none-match", "\"a\"")],
            Given::NotModified,
        );
        check(&stored, &[("if-none-match", "*")], Given::NotModified);
        check(&stored, &[("if-none-match", "\"b\"")], Given::Whole);
        check(&stored, &[("if-none-match", "a")], Given::Whole);
        check(&[], &[("if-none-match", "\"a\"")], Given::Whole);
        check(&stored, &[], Given::Whole);
    }

    #[test]
    fn tags_come_before_dates() {
        let stored = [("etag", "\"a\""), ("last-modified", DATE)];
        check(
            &stored,
            &[("if-none-match", "\"a\""), ("if-modified-since", EARLIER)],
            Given::NotModified,
        );
        check(&stored, &[("if-none-match", "\"b\""), ("if-modified-since", LATER)], Given::Whole);
    }

    #[test]
    fn what_was_not_changed_since_need_not_be_sent() {
        let stored = [("last-modified", DATE)];
        check(&stored, &[("if-modified-since", DATE)], Given::NotModified);
        check(&stored, &[("if-modified-since", LATER)], Given::NotModified);
        check(
            &stored,
            &[("if-modified-since", "Sunday, 06-Nov-94 08:00:00 GMT")],
            Given::NotModified,
        );
        check(&stored, &[("if-modified-since", EARLIER)], Given::Whole);
        check(&stored, &[("if-modified-since", "yesterday")], Given::Whole);
        check(&stored, &[("if-modified-since", LATER), ("if-modified-since", LATER)], Given::Whole);
        check(&[("date", DATE)], &[("if-modified-since", LATER)], Given::NotModified);
        check(&[("date", DATE)], &[("if-modified-since", EARLIER)], Given::Whole);
        check(&[], &[("if-modified-since", LATER)], Given::Whole);
    }

    #[test]
    fn only_a_200_can_be_not_modified() {
        let conditions = get(&[("if-none-match", "*")]).conditions;
        for status in [StatusCode::NOT_FOUND, StatusCode::MOVED_PERMANENTLY] {
            assert_eq!(evaluate(&conditions, status, &headers(&[]), NOW_MS), Given::Whole);
        }
    }

    #[test]
    fn a_304_says_what_a_200_would_say_about_keeping_it() {
        let stored = [
            ("cache-control", "max-age=1"),
            ("etag", "\"a\""),
            ("last-modified", DATE),
            ("vary", "a"),
            ("vary", "b"),
            ("content-type", "text/plain"),
            ("content-length", "3"),
            ("x-other", "1"),
        ];
        let said = not_modified(&headers(&stored));
        let names: Vec<&str> = said.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["cache-control", "etag", "vary", "vary"]);
        let said = not_modified(&headers(&stored[2..]));
        assert!(said.contains_key("last-modified"));
    }

    #[test]
    fn the_upstream_is_asked_with_the_kept_validators_and_nothing_of_the_callers() {
        let mut request = headers(&[
            ("if-none-match", "\"old\""),
            ("if-modified-since", EARLIER),
            ("if-range", "\"old\""),
            ("range", "bytes=0-1"),
            ("accept", "x"),
        ]);
        let stored = headers(&[("etag", "W/\"a\""), ("last-modified", DATE)]);
        assert!(validation(&stored, &mut request));
        let expected =
            headers(&[("accept", "x"), ("if-none-match", "W/\"a\""), ("if-modified-since", DATE)]);
        assert_eq!(request, expected);
        assert!(!validation(&headers(&[("last-modified", "soon")]), &mut request));
        assert_eq!(request, headers(&[("accept", "x")]));
    }

    #[test]
    fn an_unquoted_tag_is_sent_as_it_came() {
        let mut request = headers(&[]);
        assert!(validation(&headers(&[("etag", "abc")]), &mut request));
        assert_eq!(request, headers(&[("if-none-match", "abc")]));
    }
}
