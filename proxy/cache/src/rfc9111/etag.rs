//! Entity tags (RFC 9110 §8.8.3), and how two of them are compared.
//!
//! Some servers send tags without quotes, or with `w/`. They are kept and compared as the bytes
//! they are: the same bytes are the same tag, by both rules' intent, and anything less equal is
//! not.

use super::fields;

/// One tag, as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag<'a> {
    text: &'a [u8],
    weak: bool,
}

impl<'a> Tag<'a> {
    /// A whole value; `None` if it is empty.
    pub fn read(value: &'a [u8]) -> Option<Self> {
        let text = fields::trim(value);
        if text.is_empty() {
            return None;
        }
        let weak = matches!(text, [b'W' | b'w', b'/' | b'\\', b'"', ..] | [b'W' | b'w', b'"', ..]);
        Some(Self { text, weak })
    }

    /// It says that it tells representations apart to the byte.
    pub fn is_strong(self) -> bool {
        !self.weak && self.is_quoted()
    }

    /// Both are strong and the same.
    pub fn matches_strongly(self, other: Self) -> bool {
        self.is_strong() && other.is_strong() && self.text == other.text
    }

    /// They are the same, weak or not.
    pub fn matches_weakly(self, other: Self) -> bool {
        self.opaque() == other.opaque()
    }

    fn is_quoted(self) -> bool {
        matches!(self.text, [b'"', inner @ .., b'"'] if !inner.contains(&b'"'))
    }

    fn opaque(self) -> &'a [u8] {
        match self.text {
            [b'W', b'/', quoted @ ..] if quoted.first() == Some(&b'"') => quoted,
            whole => whole,
        }
    }
}

/// What `if-none-match` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tags<'a> {
    /// `*`: whatever there is.
    Any,
    Some(Vec<Tag<'a>>),
}

/// A list with more tags than this matches by its first ones only.
const TAGS_MAX: usize = 256;

impl<'a> Tags<'a> {
    /// From all lines. A tag may hold commas and has no escapes.
    pub fn read(lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut tags = Vec::new();
        for line in lines {
            if fields::trim(line) == b"*" {
                return Self::Any;
            }
            let mut rest = line;
            while let Some((member, after)) = next(rest) {
                tags.extend(Tag::read(member));
                rest = after;
                if tags.len() == TAGS_MAX {
                    return Self::Some(tags);
                }
            }
        }
        Self::Some(tags)
    }

    /// Whether one of them is `tag`, weakly compared.
    pub fn contain(&self, tag: Option<Tag<'_>>) -> bool {
        match (self, tag) {
            (Self::Any, _) => true,
            (Self::Some(tags), Some(tag)) => tags.iter().any(|one| one.matches_weakly(tag)),
            (Self::Some(_), None) => false,
        }
    }
}

/// The first member and what follows its comma.
fn next(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = text.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
    let text = text.get(start..)?;
    let comma_from = |from: usize| {
        let comma = text.get(from..)?.iter().position(|byte| *byte == b',')?;
        Some(from + comma)
    };
    // The quote that opens may come after `W/`.
    let open = text.iter().take(3).position(|byte| *byte == b'"');
    let close = open.and_then(|open| {
        let inner = text.get(open + 1..)?.iter().position(|byte| *byte == b'"')?;
        Some(open + 1 + inner)
    });
    let end = comma_from(close.unwrap_or(0)).unwrap_or(text.len());
    let (member, after) = text.split_at_checked(end)?;
    Some((member, after.get(1..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tag(text: &str) -> Tag<'_> {
        Tag::read(text.as_bytes()).unwrap()
    }

    #[track_caller]
    fn check(list: &str, stored: &str, expected: bool) {
        let tags = Tags::read([list.as_bytes()]);
        assert_eq!(tags.contain(Tag::read(stored.as_bytes())), expected, "{list} of {stored}");
    }

    #[test]
    fn the_table_of_the_rfc_holds() {
        for (one, other, strong, weak) in [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
        ] {
            assert_eq!(tag(one).matches_strongly(tag(other)), strong, "{one} {other}");
            assert_eq!(tag(one).matches_weakly(tag(other)), weak, "{one} {other}");
        }
        assert!(!tag("abc").is_strong());
        assert!(!tag("w/\"abc\"").is_strong());
    }

    #[test]
    fn a_list_may_name_it_anywhere() {
        check("\"a\", \"b\", \"c\"", "\"a\"", true);
        check("\"x\",W/\"a\"", "\"a\"", true);
        check(" , \"x\",, \"a\"", "W/\"a\"", true);
        check("\"x, a\", \"y\"", "\"a\"", false);
        check("\"x, a\"", "\"x, a\"", true);
        check("*", "\"a\"", true);
        check("*", "", true);
        check("\"a\"", "", false);
        check("", "\"a\"", false);
        check("\"*\"", "\"a\"", false);
        check("\"A\"", "\"a\"", false);
    }

    #[test]
    fn what_is_no_tag_is_the_bytes_it_is() {
        check("abc", "abc", true);
        check("abc", "\"abc\"", false);
        check("\"abc\"", "abc", false);
        check("w/\"abc\"", "w/\"abc\"", true);
        check("W\\\"abc\"", "W\\\"abc\"", true);
        check("\"abc", "\"abc", true);
        check("\"abcü\"", "\"abcü\"", true);
    }

    proptest! {
        #[test]
        fn any_list_is_read(list in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Tags::read([list.as_slice()]);
        }

        #[test]
        fn a_tag_in_a_list_is_found(before in "(\"[a-z,]{0,4}\", ?){0,3}", tag in "\"[a-z,]{0,4}\"") {
            check(&format!("{before}{tag}"), &tag, true);
        }
    }
}
