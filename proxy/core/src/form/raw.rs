//! JSON values as the bytes they were written in.
//!
//! A parsed tree loses what an answer must keep: the lexeme of a number (`1.10`,
//! integers above 2^64), the order of members, and that a member came twice. So a
//! text is checked once by `serde_json` and from then on only cut at its commas.
//! Cutting checked text is a loop that counts brackets; it has no error cases of
//! its own and no recursion, so depth costs nothing.

use std::collections::HashSet;

use serde::de::IgnoredAny;

/// The white space of JSON.
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// One value inside a checked JSON text, without white space around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<'a> {
    document: &'a str,
    /// Byte offsets into `document`.
    start: usize,
    end: usize,
}

impl<'a> Raw<'a> {
    /// `None` if `bytes` are not one JSON value in UTF-8.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let document = std::str::from_utf8(bytes).ok()?;
        serde_json::from_str::<IgnoredAny>(document).ok()?;
        Some(Self { document, start: 0, end: document.len() }.trimmed())
    }

    pub(super) fn text(self) -> &'a str {
        self.document.get(self.start..self.end).unwrap_or_default()
    }

    /// Offset of the first byte in the document.
    pub(super) fn start(self) -> usize {
        self.start
    }

    /// Offset behind the last byte in the document.
    pub(super) fn end(self) -> usize {
        self.end
    }

    pub(super) fn is_null(self) -> bool {
        self.text() == "null"
    }

    pub(super) fn is_object(self) -> bool {
        self.text().starts_with('{')
    }

    pub(super) fn is_string(self) -> bool {
        self.text().starts_with('"')
    }

    pub(super) fn is_number(self) -> bool {
        self.text().starts_with(|first: char| first == '-' || first.is_ascii_digit())
    }

    /// The string this is. `None` also for a string with half a surrogate pair.
    pub(super) fn string(self) -> Option<String> {
        serde_json::from_str(self.text()).ok()
    }

    /// Without the white space between tokens, so also without line breaks.
    pub(super) fn compact(self) -> String {
        let mut in_string = InString::default();
        let keep = |c: &char| in_string.step(*c) || !SPACE.contains(c);
        self.text().chars().filter(keep).collect()
    }

    /// The members in their order, as they stand; `None` if this is no object.
    pub(super) fn members(self) -> Option<Vec<(String, Self)>> {
        if !self.is_object() {
            return None;
        }
        self.items().into_iter().map(Self::member).collect()
    }

    /// As [`Self::members`], and `None` also where a name comes twice: readers
    /// disagree about which of the two counts.
    pub(super) fn unique_members(self) -> Option<Vec<(String, Self)>> {
        let members = self.members()?;
        let mut names = HashSet::with_capacity(members.len());
        members.iter().all(|(name, _)| names.insert(name.as_str())).then_some(())?;
        Some(members)
    }

    /// The elements of an array; `None` if this is none.
    pub(super) fn elements(self) -> Option<Vec<Self>> {
        self.text().starts_with('[').then(|| self.items())
    }

    /// What stands between the commas of this object or array.
    fn items(self) -> Vec<Self> {
        let (first, last) = (self.start + 1, self.end.saturating_sub(1));
        let inner = self.document.get(first..last).unwrap_or_default();
        let mut items = Vec::new();
        let mut in_string = InString::default();
        let (mut depth, mut start) = (0_usize, first);
        for (place, c) in inner.char_indices() {
            if in_string.step(c) {
                continue;
            }
            match c {
                '{' | '[' => depth += 1,
                '}' | ']' => depth = depth.saturating_sub(1),
                ',' if depth == 0 => {
                    items.push(self.part(start, first + place));
                    start = first + place + 1;
                }
                _ => {}
            }
        }
        let rest = self.part(start, last);
        if !rest.text().is_empty() {
            items.push(rest);
        }
        items
    }

    /// `"name": value` cut at its colon.
    fn member(self) -> Option<(String, Self)> {
        let mut in_string = InString::default();
        let (colon, _) =
            self.text().char_indices().find(|&(_, c)| !in_string.step(c) && c == ':')?;
        let name = self.part(self.start, self.start + colon).string()?;
        Some((name, self.part(self.start + colon + 1, self.end)))
    }

    fn part(self, start: usize, end: usize) -> Self {
        Self { document: self.document, start, end }.trimmed()
    }

    fn trimmed(self) -> Self {
        let text = self.text();
        let start = self.start + (text.len() - text.trim_start_matches(SPACE).len());
        let end = start + text.trim_matches(SPACE).len();
        Self { document: self.document, start, end }
    }
}

/// Removes and returns the member `name`.
pub(super) fn take_out<'a>(members: &mut Vec<(String, Raw<'a>)>, name: &str) -> Option<Raw<'a>> {
    let place = members.iter().position(|(member, _)| member == name)?;
    Some(members.remove(place).1)
}

/// Follows a checked JSON text and knows what is inside a string.
#[derive(Default)]
struct InString {
    inside: bool,
    escaped: bool,
}

impl InString {
    /// Whether `c` belongs to a string; its quotes do.
    fn step(&mut self, c: char) -> bool {
        let was_inside = self.inside;
        if self.escaped {
            self.escaped = false;
        } else if self.inside && c == '\\' {
            self.escaped = true;
        } else if c == '"' {
            self.inside = !self.inside;
        }
        was_inside || self.inside
    }
}

/// A JSON object being written.
#[derive(Debug)]
pub(super) struct Object(String);

impl Object {
    pub(super) fn new() -> Self {
        Self(String::from("{"))
    }

    /// `json` is written as it stands.
    pub(super) fn raw(&mut self, name: &str, json: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&quoted(name));
        self.0.push(':');
        self.0.push_str(json);
    }

    pub(super) fn string(&mut self, name: &str, value: &str) {
        self.raw(name, &quoted(value));
    }

    pub(super) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// `text` as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_cut_at_its_own_commas_and_colons_only() {
        let raw = Raw::parse(br#" { "a,\"b" : [1, {"c":","}] , "d":"x:\\" ,"e" :{} } "#).unwrap();
        let members = raw.members().unwrap();
        let cut: Vec<_> =
            members.iter().map(|(name, value)| (name.as_str(), value.text())).collect();
        assert_eq!(cut, [("a,\"b", r#"[1, {"c":","}]"#), ("d", r#""x:\\""#), ("e", "{}")]);
        let elements = members[0].1.elements().unwrap();
        assert_eq!(elements.iter().map(|e| e.text()).collect::<Vec<_>>(), ["1", r#"{"c":","}"#]);
    }

    #[test]
    fn empty_containers_have_no_items() {
        assert_eq!(Raw::parse(b"{ }").unwrap().members().unwrap().len(), 0);
        assert_eq!(Raw::parse(b"[ ]").unwrap().elements().unwrap().len(), 0);
    }

    #[test]
    fn a_name_that_comes_twice_is_noticed_however_it_is_written() {
        assert!(Raw::parse(br#"{"a":1,"\u0061":2}"#).unwrap().unique_members().is_none());
        assert!(Raw::parse(br#"{"a":1,"b":2}"#).unwrap().unique_members().is_some());
    }

    #[test]
    fn compacting_leaves_strings_and_numbers_as_they_are() {
        let raw = Raw::parse(b"{ \"a b\" : 1.10,\n \"c\": \"\\\" , \\\\\" }").unwrap();
        assert_eq!(raw.compact(), r#"{"a b":1.10,"c":"\" , \\"}"#);
    }

    #[test]
    fn what_is_not_json_is_not_read() {
        for text in ["", "{", "{} {}", "{\"a\":01}", "nul", "{\"a\":\"\n\"}"] {
            assert!(Raw::parse(text.as_bytes()).is_none(), "{text}");
        }
        assert!(Raw::parse(b"\"\xff\"").is_none());
    }
}
