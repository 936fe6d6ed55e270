//! Which fields of a request an answer depends on, and the part of the key they make (RFC 9111
//! §4.1).
//!
//! Two requests share an answer only if every named field says the same. What may differ is what
//! cannot mean anything: how a value is spread over lines, white space around commas, and in the
//! `accept` lists of RFC 9110 §12.5 also case and order, where each member carries its own weight.
//! A field that is no list (a cookie, a user agent) is taken to the byte.

use super::{Reason, fields};
use http::{HeaderMap, HeaderName, header};

/// What `vary` says, all lines together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vary {
    /// Everybody may have it.
    Nothing,
    /// Nobody else may: `*`, a name that is none, or more names than we compare.
    Star,
    /// In lower case, sorted, each once.
    Fields(Vec<HeaderName>),
}

/// The most fields an answer may depend on; with more it is not kept.
pub const FIELDS_MAX: usize = 16;

impl Vary {
    /// From all lines of an answer.
    pub fn read(headers: &HeaderMap) -> Self {
        let members = fields::all_members(headers, &header::VARY);
        // `*` is a token too, so it would pass for a name.
        let members: Vec<&[u8]> = members.take(4 * FIELDS_MAX + 1).collect();
        if members.len() > 4 * FIELDS_MAX || members.contains(&b"*".as_slice()) {
            return Self::Star;
        }
        let Some(mut names) = fields::names(members.into_iter(), 4 * FIELDS_MAX) else {
            return Self::Star;
        };
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        match names.len() {
            0 => Self::Nothing,
            1..=FIELDS_MAX => Self::Fields(names),
            _ => Self::Star,
        }
    }

    /// The fields to compare.
    ///
    /// # Errors
    /// The answer is for one caller only.
    pub fn fields(self) -> Result<Vec<HeaderName>, Reason> {
        match self {
            Self::Nothing => Ok(Vec::new()),
            Self::Fields(names) => Ok(names),
            Self::Star => Err("vary"),
        }
    }
}

/// The secondary key of a request: what it says in each of the fields, as bytes to be hashed.
/// Every part carries its length, so that no two requests run into the same bytes; a field that is
/// absent differs from one that is empty.
pub fn secondary(names: &[HeaderName], request: &HeaderMap) -> Vec<u8> {
    let mut key = Vec::new();
    for name in names {
        part(&mut key, name.as_str().as_bytes());
        if request.contains_key(name) {
            key.push(1);
            part(&mut key, &value(name, request));
        } else {
            key.push(0);
        }
    }
    key
}

fn part(key: &mut Vec<u8>, bytes: &[u8]) {
    let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    key.extend_from_slice(&len.to_be_bytes());
    key.extend_from_slice(bytes);
}

/// Fields whose commas are no separators, or whose white space may mean something.
const NO_LISTS: [HeaderName; 9] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::HOST,
    header::IF_MODIFIED_SINCE,
    header::ORIGIN,
    header::RANGE,
    header::REFERER,
    header::USER_AGENT,
    HeaderName::from_static("forwarded"),
];

fn value(name: &HeaderName, request: &HeaderMap) -> Vec<u8> {
    let lines = || request.get_all(name).into_iter().map(|line| line.as_bytes());
    if NO_LISTS.contains(name) || lines().any(|line| line.contains(&b'"')) {
        // Lengths again: two lines are not one with a comma.
        let mut exact = Vec::new();
        for line in lines() {
            part(&mut exact, fields::trim(line));
        }
        return exact;
    }
    let is_weighted =
        [header::ACCEPT_ENCODING, header::ACCEPT_LANGUAGE, header::ACCEPT_CHARSET].contains(name);
    let mut members: Vec<Vec<u8>> = lines()
        .flat_map(fields::members)
        .map(|member| match is_weighted {
            true => weighted(&member.to_ascii_lowercase()),
            false if *name == header::ACCEPT => weighted(&media(member)),
            false => member.to_vec(),
        })
        .collect();
    if is_weighted || *name == header::ACCEPT {
        members.sort_unstable();
        members.dedup();
    }
    members.join(&b","[..])
}

/// A member without white space around `;` and `=`, and with its weight in its shortest form.
fn weighted(member: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(member.len());
    for (place, piece) in fields::split(member, b';').enumerate() {
        let (name, value) = match piece.iter().position(|byte| *byte == b'=') {
            Some(at) => piece.split_at_checked(at).unwrap_or((piece, &[])),
            None => (piece, [].as_slice()),
        };
        let name = fields::trim(name);
        let value = fields::trim(value.get(1..).unwrap_or_default());
        if place > 0 && name.eq_ignore_ascii_case(b"q") && is_weight(value) {
            let short = shortest(value);
            if short != b"1" {
                plain.extend_from_slice(b";q=");
                plain.extend_from_slice(short);
            }
            continue;
        }
        if place > 0 {
            plain.push(b';');
        }
        plain.extend_from_slice(name);
        if piece.contains(&b'=') {
            plain.push(b'=');
            plain.extend_from_slice(value);
        }
    }
    plain
}

/// `0`, `0.5`, `1.000`: RFC 9110 §12.4.2.
fn is_weight(value: &[u8]) -> bool {
    match value {
        [b'0' | b'1'] => true,
        [b'0', b'.', after @ ..] => after.len() <= 3 && after.iter().all(u8::is_ascii_digit),
        [b'1', b'.', after @ ..] => after.len() <= 3 && after.iter().all(|digit| *digit == b'0'),
        _ => false,
    }
}

fn shortest(weight: &[u8]) -> &[u8] {
    if !weight.contains(&b'.') {
        return weight;
    }
    let end = weight.iter().rposition(|byte| *byte != b'0').unwrap_or(0);
    let end = if weight.get(end) == Some(&b'.') { end } else { end + 1 };
    weight.get(..end).unwrap_or(weight)
}

/// Type and parameter names in lower case; the values of parameters may mean what they say.
fn media(member: &[u8]) -> Vec<u8> {
    let mut in_value = false;
    member
        .iter()
        .map(|byte| {
            match byte {
                b'=' => in_value = true,
                b';' => in_value = false,
                _ => {}
            }
            if in_value { *byte } else { byte.to_ascii_lowercase() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfc9111::testing::headers;
    use proptest::prelude::*;

    fn names(names: &[&str]) -> Vec<HeaderName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn key(name: &str, lines: &[&str]) -> Vec<u8> {
        let lines: Vec<_> = lines.iter().map(|line| (name, *line)).collect();
        secondary(&names(&[name]), &headers(&lines))
    }

    #[track_caller]
    fn same(name: &str, one: &[&str], other: &[&str]) {
        assert_eq!(key(name, one), key(name, other), "{name}: {one:?} {other:?}");
    }

    #[track_caller]
    fn differ(name: &str, one: &[&str], other: &[&str]) {
        assert_ne!(key(name, one), key(name, other), "{name}: {one:?} {other:?}");
    }

    #[test]
    fn all_lines_make_one_list_of_names() {
        let read = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("vary", *line)).collect();
            Vary::read(&headers(&lines))
        };
        assert_eq!(read(&[]), Vary::Nothing);
        assert_eq!(read(&["", " , "]), Vary::Nothing);
        assert_eq!(
            read(&["Foo, accept", "BAR,foo"]),
            Vary::Fields(names(&["accept", "bar", "foo"]))
        );
        for lines in [
            &["*"][..],
            &["*, *"],
            &["*", "*"],
            &[", *"],
            &["", "*"],
            &["*, Foo"],
            &["Foo, *"],
            &["Foo", "bar,*"],
            &["a b"],
            &["a=b"],
        ] {
            assert_eq!(read(lines), Vary::Star, "{lines:?}");
        }
        let many: Vec<String> = (0..=FIELDS_MAX).map(|n| format!("f{n}")).collect();
        assert_eq!(read(&[&many.join(",")]), Vary::Star);
        assert_eq!(read(&[&vec!["a"; 1000].join(",")]), Vary::Star);
    }

    #[test]
    fn what_means_the_same_is_the_same() {
        same("foo", &["1,2"], &["1, 2 "]);
        same("foo", &["1, 2"], &["1", "2"]);
        same("foo", &["1"], &["1"]);
        same("accept-language", &["en, de"], &["de, en"]);
        same("accept-language", &["EN, De"], &["en,de"]);
        same("accept-language", &["en;q=1.0, de;q=0.50"], &["de ; q=0.5,en"]);
        same("accept-encoding", &["gzip, br"], &["BR;q=1,, gzip"]);
        same("accept", &["Text/HTML;q=0.90, */*"], &["*/*", "text/html; Q=0.9"]);
    }

    #[test]
    fn what_may_mean_something_else_is_not() {
        differ("foo", &["1"], &["2"]);
        differ("foo", &["1"], &[]);
        differ("foo", &[""], &[]);
        differ("foo", &["a"], &["A"]);
        differ("foo", &["1, 2"], &["2, 1"]);
        differ("foo", &["a b"], &["ab"]);
        differ("foo", &["\"a, b\""], &["\"a,b\""]);
        differ("user-agent", &["x (a, b)"], &["x (a,b)"]);
        differ("cookie", &["a=1, 2"], &["a=1,2"]);
        differ("accept-language", &["en;q=0.5, de"], &["en, de;q=0.5"]);
        differ("accept-encoding", &["gzip;q=0"], &["gzip"]);
        differ("accept-encoding", &["gzip;q=0.0001"], &["gzip;q=0"]);
        differ("accept-encoding", &[""], &["identity"]);
        differ("accept", &["text/plain;profile=A"], &["text/plain;profile=a"]);
    }

    #[test]
    fn a_value_cannot_pass_for_two_fields() {
        let two = names(&["a", "b"]);
        let key = |lines: &[(&str, &str)]| secondary(&two, &headers(lines));
        assert_ne!(key(&[("a", "1")]), key(&[("b", "1")]));
        assert_ne!(key(&[("a", "1"), ("b", "")]), key(&[("a", "1")]));
        assert_ne!(key(&[("a", "1"), ("b", "2")]), key(&[("a", "2"), ("b", "1")]));
    }

    /// What a list means: its members, without the space around them.
    fn meaning(text: &str) -> Vec<&str> {
        text.split(',')
            .map(|part| part.trim_matches([' ', '\t']))
            .filter(|p| !p.is_empty())
            .collect()
    }

    proptest! {
        #[test]
        fn requests_that_differ_in_meaning_never_share_a_key(
            one in "[ab1 ,]{0,8}", other in "[ab1 ,]{0,8}"
        ) {
            let share = key("foo", &[&one]) == key("foo", &[&other]);
            prop_assert_eq!(share, meaning(&one) == meaning(&other));
        }

        #[test]
        fn no_accept_list_is_merged_with_one_of_other_members(
            one in "[ab](;q=0[.][1-9])?(,[ab](;q=0[.][1-9])?){0,2}",
            other in "[ab](;q=0[.][1-9])?(,[ab](;q=0[.][1-9])?){0,2}",
        ) {
            let set = |text: &str| {
                text.split(',').map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
            };
            let share = key("accept-language", &[&one]) == key("accept-language", &[&other]);
            prop_assert_eq!(share, set(&one) == set(&other));
        }

        #[test]
        fn any_value_has_a_key(value in "[ -~\\x80-\\xff]{0,60}") {
            for name in ["foo", "accept", "accept-language", "cookie"] {
                let _ = key(name, &[&value]);
            }
        }
    }
}
