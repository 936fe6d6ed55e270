//! Ranges of a kept answer (RFC 9110 §14): one range is cut out of the whole body; several are
//! answered with the whole, which every caller must understand.

use super::{
    conditional, date,
    etag::Tag,
    request::{Kind, Request},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// What `range` asks for. What cannot be read is as if it were not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// Bytes, both included, from 0. Without a last one: to the end.
    From { first: u64, last: Option<u64> },
    /// The last so many bytes.
    Suffix(u64),
    /// Several, or of a unit that is not ours: the whole is the answer.
    Other,
}

/// What is to be sent of a kept answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All of it, with its own status.
    Whole,
    /// 206, these bytes, both included, and [`content_range`].
    Part { first: u64, last: u64 },
    /// 416, no body, and [`unsatisfied`].
    Unsatisfiable,
}

/// Reads a value of `range`; `None`: no range.
pub fn parse(value: &[u8]) -> Option<Range> {
    let text = super::fields::trim(value);
    let equals = text.iter().position(|byte| *byte == b'=')?;
    let (unit, set) = text.split_at_checked(equals)?;
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut ranges = set.get(1..)?.split(|byte| *byte == b',').map(super::fields::trim);
    let mut ranges = ranges.by_ref().filter(|range| !range.is_empty());
    let first = one(ranges.next()?)?;
    match ranges.next() {
        None => Some(first),
        // Each must be one, or there is no range at all.
        Some(second) => {
            one(second)?;
            ranges.all(|range| one(range).is_some()).then_some(Range::Other)
        }
    }
}

fn one(text: &[u8]) -> Option<Range> {
    let dash = text.iter().position(|byte| *byte == b'-')?;
    let (first, last) = text.split_at_checked(dash)?;
    let last = last.get(1..)?;
    match (number(first), number(last)) {
        (Some(first), Some(last)) => {
            (first <= last).then_some(Range::From { first, last: Some(last) })
        }
        (Some(first), None) if last.is_empty() => Some(Range::From { first, last: None }),
        (None, Some(last)) if first.is_empty() => Some(Range::Suffix(last)),
        _ => None,
    }
}

/// What does not fit is the greatest there is: it is past every end.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| {
        sum.saturating_mul(10).saturating_add(u64::from(digit.saturating_sub(b'0')))
    };
    Some(text.iter().fold(0, add))
}

/// What a caller is to be sent of a complete kept answer, its conditions apart (they are judged
/// first, [`conditional::evaluate`]).
pub fn cut(request: &Request, status: StatusCode, stored: &HeaderMap, len: u64) -> Cut {
    let is_for_ranges = request.kind == Kind::Get && status == StatusCode::OK;
    let Some(range) = request.range.filter(|_| is_for_ranges) else { return Cut::Whole };
    if let Some(condition) = &request.conditions.if_range
        && !still_holds(condition, stored)
    {
        return Cut::Whole;
    }
    place(range, len)
}

fn place(range: Range, len: u64) -> Cut {
    let Some(end) = len.checked_sub(1) else {
        // Nothing can be said of no bytes but that they are none.
        let is_suffix = matches!(range, Range::Suffix(1..) | Range::Other);
        return if is_suffix { Cut::Whole } else { Cut::Unsatisfiable };
    };
    match range {
        Range::Other => Cut::Whole,
        Range::From { first, .. } if first > end => Cut::Unsatisfiable,
        Range::From { first, last } => Cut::Part { first, last: last.unwrap_or(end).min(end) },
        Range::Suffix(0) => Cut::Unsatisfiable,
        Range::Suffix(bytes) => Cut::Part { first: len.saturating_sub(bytes), last: end },
    }
}

/// `if-range` (RFC 9110 §13.1.5): the same strong tag, or the very date, where that tells
/// representations apart.
fn still_holds(condition: &HeaderValue, stored: &HeaderMap) -> bool {
    let condition = condition.as_bytes();
    let is_tag = condition.contains(&b'"');
    if is_tag {
        let (one, other) = (
            Tag::read(condition),
            stored.get(header::ETAG).and_then(|tag| Tag::read(tag.as_bytes())),
        );
        return matches!((one, other), (Some(one), Some(other)) if one.matches_strongly(other));
    }
    // Any century will do: both dates are read in the same one.
    let read = |value: &[u8]| date::parse(value, 0);
    let changed = stored.get(header::LAST_MODIFIED).and_then(|value| read(value.as_bytes()));
    let made = stored.get(header::DATE).and_then(|value| read(value.as_bytes()));
    match (read(condition), changed, made) {
        // Changed in the second it was made: it may have been changed again (§8.8.2.2).
        (Some(asked), Some(changed), Some(made)) => asked == changed && changed < made,
        _ => false,
    }
}

/// `bytes 0-9/100`
pub fn content_range(first: u64, last: u64, len: u64) -> HeaderValue {
    HeaderValue::try_from(format!("bytes {first}-{last}/{len}"))
        .unwrap_or(HeaderValue::from_static("bytes */*"))
}

/// `bytes */100`
pub fn unsatisfied(len: u64) -> HeaderValue {
    HeaderValue::try_from(format!("bytes */{len}")).unwrap_or(HeaderValue::from_static("bytes */*"))
}

/// The fields of a 206 cut out of a kept 200: all of them, or, where the caller's `if-range` has
/// shown that it has the rest, those that a 304 has too (RFC 9110 §15.3.7).
pub fn part_fields(request: &Request, stored: &HeaderMap) -> HeaderMap {
    let mut fields = if request.conditions.if_range.is_some() {
        conditional::not_modified(stored)
    } else {
        stored.clone()
    };
    fields.remove(header::CONTENT_LENGTH);
    if let Some(kind) = stored.get(header::CONTENT_TYPE) {
        fields.insert(header::CONTENT_TYPE, kind.clone());
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfc9111::testing::{get, headers};
    use proptest::prelude::*;

    const LEN: u64 = 10;
    const DATE: (&str, &str) = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    const CHANGED: &str = "Sun, 06 Nov 1994 08:00:00 GMT";

    #[track_caller]
    fn check(range: &str, expected: Cut) {
        let found = cut(&get(&[("range", range)]), StatusCode::OK, &headers(&[]), LEN);
        assert_eq!(found, expected, "{range}");
    }

    #[test]
    fn one_range_is_cut_out() {
        check("bytes=0-1", Cut::Part { first: 0, last: 1 });
        check("bytes=1-", Cut::Part { first: 1, last: 9 });
        check("bytes=-1", Cut::Part { first: 9, last: 9 });
        check("bytes=-99", Cut::Part { first: 0, last: 9 });
        check("bytes=5-99999999999999999999999", Cut::Part { first: 5, last: 9 });
        check("Bytes= 0-0 ,", Cut::Part { first: 0, last: 0 });
    }

    #[test]
    fn what_is_past_the_end_cannot_be_had() {
        check("bytes=10-", Cut::Unsatisfiable);
        check("bytes=99999999999999999999-", Cut::Unsatisfiable);
        check("bytes=-0", Cut::Unsatisfiable);
    }

    #[test]
    fn what_is_no_range_or_several_is_answered_whole() {
        for range in [
            "bytes=5-2",
            "bytes=",
            "bytes",
            "bytes=a-b",
            "bytes=1",
            "bytes=1-2-3",
            "bytes=+1-2",
            "bytes= 1 - 2",
            "bytes=0-1,x",
            "bytes=0-1,3-4",
            "lines=0-1",
            "",
        ] {
            check(range, Cut::Whole);
        }
    }

    #[test]
    fn of_nothing_there_is_no_part() {
        let of_nothing =
            |range: &str| cut(&get(&[("range", range)]), StatusCode::OK, &headers(&[]), 0);
        assert_eq!(of_nothing("bytes=0-"), Cut::Unsatisfiable);
        assert_eq!(of_nothing("bytes=-5"), Cut::Whole);
    }

    #[test]
    fn only_a_200_has_ranges() {
        let request = get(&[("range", "bytes=0-1")]);
        assert_eq!(cut(&request, StatusCode::NOT_FOUND, &headers(&[]), LEN), Cut::Whole);
    }

    #[track_caller]
    fn check_if_range(condition: &str, stored: &[(&str, &str)], holds: bool) {
        let request = get(&[("range", "bytes=0-1"), ("if-range", condition)]);
        let found = cut(&request, StatusCode::OK, &headers(stored), LEN);
        assert_eq!(found != Cut::Whole, holds, "{condition} {stored:?}");
    }

    #[test]
    fn a_part_is_given_only_of_what_the_caller_has() {
        check_if_range("\"a\"", &[("etag", "\"a\"")], true);
        check_if_range("\"b\"", &[("etag", "\"a\"")], false);
        check_if_range("W/\"a\"", &[("etag", "W/\"a\"")], false);
        check_if_range("\"a\"", &[("etag", "W/\"a\"")], false);
        check_if_range("\"a\"", &[], false);
        let stored = [("last-modified", CHANGED), DATE];
        check_if_range(CHANGED, &stored, true);
        check_if_range("Sun, 06 Nov 1994 08:00:01 GMT", &stored, false);
        check_if_range(CHANGED, &stored[..1], false);
        check_if_range(DATE.1, &[("last-modified", DATE.1), DATE], false);
        check_if_range("rubbish", &stored, false);
    }

    #[test]
    fn a_part_says_of_what_it_is() {
        assert_eq!(content_range(0, 9, 100), "bytes 0-9/100");
        assert_eq!(unsatisfied(100), "bytes */100");
        let stored =
            [("etag", "\"a\""), ("x", "1"), ("content-length", "9"), ("content-type", "t")];
        let whole = part_fields(&get(&[("range", "bytes=0-1")]), &headers(&stored));
        assert_eq!(whole, headers(&[("etag", "\"a\""), ("x", "1"), ("content-type", "t")]));
        let request = get(&[("range", "bytes=0-1"), ("if-range", "\"a\"")]);
        let rest = part_fields(&request, &headers(&stored));
        assert_eq!(rest, headers(&[("etag", "\"a\""), ("content-type", "t")]));
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_nor_beyond_the_end(range in "bytes=[0-9]{0,21}-[0-9]{0,21}", len: u64) {
            let request = get(&[("range", &range)]);
            if let Cut::Part { first, last } = cut(&request, StatusCode::OK, &headers(&[]), len) {
                prop_assert!(first <= last && last < len);
            }
        }

        #[test]
        fn any_bytes_are_a_range_or_none(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&value);
        }
    }
}
