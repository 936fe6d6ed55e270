//! The tags that an answer gives itself, for purges: `surrogate-key` and `xkey` (separated by
//! spaces), `cache-tag` (by commas).
//!
//! What is beyond the bounds is cut off, not refused: an answer with too many tags is still an
//! answer, only not to be found by all of them.

use super::fields;
use http::{HeaderMap, HeaderName};

/// The most tags of one answer.
pub const TAGS_MAX: usize = 128;
/// The longest tag in bytes; a longer one is dropped.
pub const TAG_BYTES_MAX: usize = 256;

/// The fields; they are for caches, so a cache that is asked to may keep them from callers.
pub const FIELDS: [HeaderName; 3] = [
    HeaderName::from_static("surrogate-key"),
    HeaderName::from_static("cache-tag"),
    HeaderName::from_static("xkey"),
];

/// The tags of an answer, in order, each once.
pub fn tags(headers: &HeaderMap) -> Vec<Box<str>> {
    let mut tags: Vec<Box<str>> = Vec::new();
    for name in &FIELDS {
        let separator = if *name == "cache-tag" { b',' } else { b' ' };
        for line in headers.get_all(name) {
            for tag in line.as_bytes().split(|byte| *byte == separator).map(fields::trim) {
                if tags.len() == TAGS_MAX {
                    return tags;
                }
                let tag = std::str::from_utf8(tag).unwrap_or_default();
                if !tag.is_empty()
                    && tag.len() <= TAG_BYTES_MAX
                    && !tags.iter().any(|t| **t == *tag)
                {
                    tags.push(tag.into());
                }
            }
        }
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfc9111::testing::headers;

    fn of(lines: &[(&str, &str)]) -> Vec<String> {
        tags(&headers(lines)).iter().map(|tag| tag.to_string()).collect()
    }

    #[test]
    fn all_three_fields_are_heard() {
        assert_eq!(
            of(&[
                ("cache-tag", "c, d e,,c"),
                ("surrogate-key", "a  b\tx"),
                ("surrogate-key", "a"),
                ("xkey", "f"),
            ]),
            ["a", "b\tx", "c", "d e", "f"]
        );
        assert!(of(&[("tag", "a")]).is_empty());
    }

    #[test]
    fn there_are_never_too_many_nor_too_long_ones() {
        let many: Vec<String> = (0..1000).map(|n| format!("t{n}")).collect();
        assert_eq!(of(&[("xkey", &many.join(" "))]).len(), TAGS_MAX);
        assert!(of(&[("xkey", &"x".repeat(TAG_BYTES_MAX + 1))]).is_empty());
    }
}
