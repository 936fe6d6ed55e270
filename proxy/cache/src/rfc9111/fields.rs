//! What field values have in common: lists, quotes, seconds, and which fields belong to one
//! connection only.
//!
//! Values are bytes, not text: a byte that is no ASCII is no reason not to see a `no-store` beside
//! it.

use crate::cache_control::SECONDS_MAX;
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The members of a list, trimmed, without empty ones. A comma in a quoted string is no separator;
/// a quote that is never closed quotes nothing, so that it cannot hide what follows.
pub fn members(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    split(list, b',')
}

/// Like [`members`], at another separator.
pub fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    let mut quotes = true;
    std::iter::from_fn(move || {
        loop {
            let text = rest?;
            let end = end_of_member(text, separator, &mut quotes);
            let (member, after) = text.split_at_checked(end).unwrap_or((text, &[]));
            rest = after.split_first().map(|(_separator, after)| after);
            let member = trim(member);
            if !member.is_empty() {
                return Some(member);
            }
        }
    })
}

/// The members of all lines of a field, in order.
pub fn all_members<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).into_iter().flat_map(|value| members(value.as_bytes()))
}

/// Where the separator after the first member is. `quotes` becomes false at the first quote that
/// has no end: none after it has one either, so the rest need not be searched again.
fn end_of_member(text: &[u8], separator: u8, quotes: &mut bool) -> usize {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        if *byte == separator {
            return at;
        }
        if *byte == b'"' && *quotes {
            match quoted_len(text.get(at..).unwrap_or_default()) {
                Some(len) => at += len,
                None => *quotes = false,
            }
            continue;
        }
        at += 1;
    }
    text.len()
}

/// The length of the quoted string at the start, both quotes included.
fn quoted_len(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// What a quoted string says, without its escapes; `None` if it is not one, as a whole.
pub fn unquoted(text: &[u8]) -> Option<Vec<u8>> {
    if text.first() != Some(&b'"') || quoted_len(text) != Some(text.len()) {
        return None;
    }
    let inner = text.get(1..text.len().saturating_sub(1))?;
    let mut escaped = false;
    let mut said = Vec::with_capacity(inner.len());
    for byte in inner {
        if *byte == b'\\' && !escaped {
            escaped = true;
        } else {
            escaped = false;
            said.push(*byte);
        }
    }
    Some(said)
}

/// Without the white space (space and tab) around it.
pub fn trim(text: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().position(|byte| !is_space(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    text.get(start..end).unwrap_or_default()
}

/// Digits only; what does not fit is [`SECONDS_MAX`] (RFC 9111 §1.2.2).
pub fn seconds(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| {
        sum.saturating_mul(10).saturating_add(u64::from(digit.saturating_sub(b'0')))
    };
    Some(text.iter().fold(0, add).min(SECONDS_MAX))
}

/// The field names a list consists of; `None` if one of them is none, or there are more than
/// `max`.
pub fn names<'a>(list: impl Iterator<Item = &'a [u8]>, max: usize) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for member in list {
        if names.len() >= max {
            return None;
        }
        names.push(HeaderName::from_bytes(member).ok()?);
    }
    Some(names)
}

/// Fields that are about one connection or one hop, never about the answer (RFC 9110 §7.6.1 and
/// RFC 9111 §3.1).
pub const HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The most fields that a `connection` line may name; the names beyond are dropped with it.
const NAMED_MAX: usize = 64;

/// The fields of this message that end at this hop: [`HOP`] and what `connection` names.
pub fn of_this_hop(headers: &HeaderMap) -> Vec<HeaderName> {
    let named = all_members(headers, &header::CONNECTION)
        .filter_map(|member| HeaderName::from_bytes(member).ok())
        .take(NAMED_MAX);
    let present = HOP.into_iter().filter(|name| headers.contains_key(name));
    present.chain(named).collect()
}

/// The value of a field that occurs once, trimmed; `None` if it is absent or there are several.
pub fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).into_iter();
    let first = lines.next()?;
    lines.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfc9111::testing::headers;

    fn texts(list: &str) -> Vec<String> {
        members(list.as_bytes()).map(|member| String::from_utf8(member.to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_comma_separates_unless_it_is_quoted() {
        assert_eq!(texts(" a ,, b\t,"), ["a", "b"]);
        assert_eq!(texts("a=\"x, y\", b"), ["a=\"x, y\"", "b"]);
        assert_eq!(texts("a=\"x\\\", y\", b"), ["a=\"x\\\", y\"", "b"]);
        assert_eq!(texts(""), Vec::<String>::new());
    }

    #[test]
    fn an_open_quote_hides_nothing() {
        assert_eq!(texts("a=\"x, no-store"), ["a=\"x", "no-store"]);
        assert_eq!(texts("a=\"x\", b=\"y, no-store"), ["a=\"x\"", "b=\"y", "no-store"]);
    }

    #[test]
    fn a_quoted_string_says_what_is_in_it() {
        assert_eq!(unquoted(b"\"a\\\"b\"").as_deref(), Some(b"a\"b".as_slice()));
        assert_eq!(unquoted(b"\"\"").as_deref(), Some(b"".as_slice()));
        for text in ["a", "\"", "\"a", "\"a\"b", "'a'"] {
            assert_eq!(unquoted(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn seconds_are_digits_and_never_too_many() {
        assert_eq!(seconds(b"003600"), Some(3600));
        assert_eq!(seconds(b"99999999999999999999999"), Some(SECONDS_MAX));
        for text in ["", "-1", "+1", "1.0", " 1", "1 ", "a", "0x1", "'1'"] {
            assert_eq!(seconds(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_connection_names_ends_here() {
        let headers = headers(&[
            ("connection", "A, close"),
            ("connection", "b"),
            ("a", "1"),
            ("upgrade", "x"),
            ("c", "1"),
        ]);
        let names = of_this_hop(&headers);
        assert_eq!(names, ["connection", "upgrade", "a", "close", "b"]);
    }
}
