//! What an event says, and what a source's rules make of it.

use super::{EVENT_BYTES_MAX, PURGES_MAX};
use crate::purge::Aim;
use serde_json::{Map, Value};
use std::collections::HashSet;
use tollgate_config::{EventPart, EventPurge, PurgeKind};

/// The longest name: more than a tag, a model or a tenant has.
const NAME_BYTES_MAX: usize = 1024;

/// What an event says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Payload(Value);

/// Why an event purges nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unclear {
    #[error("longer than {EVENT_BYTES_MAX} bytes")]
    Long,
    #[error("neither JSON nor text")]
    Bytes,
    #[error("the entry has no such field")]
    Field,
    /// More than can be told apart: of [`EventSource::lost`](tollgate_config::EventSource).
    #[error("about more than {PURGES_MAX} things, or about one whose name cannot be purged by")]
    Much,
}

impl Payload {
    /// JSON, or text that does not look like it.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Unclear> {
        if bytes.len() > EVENT_BYTES_MAX {
            return Err(Unclear::Long);
        }
        if let Ok(value) = serde_json::from_slice(bytes) {
            return Ok(Self(value));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Unclear::Bytes)?.trim();
        if text.starts_with(['{', '[', '"']) {
            return Err(Unclear::Bytes);
        }
        Ok(Self(Value::String(text.to_owned())))
    }

    /// Of an entry of a stream: what `field` holds, or all fields as members.
    pub(crate) fn of_fields(
        fields: &[(Vec<u8>, Vec<u8>)],
        field: Option<&str>,
    ) -> Result<Self, Unclear> {
        let len: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        if len > EVENT_BYTES_MAX {
            return Err(Unclear::Long);
        }
        if let Some(field) = field {
            let found = fields.iter().find(|(name, _)| name == field.as_bytes());
            return found.map_or(Err(Unclear::Field), |(_, value)| Self::read(value));
        }
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned);
        let member = |(name, value): &(Vec<u8>, Vec<u8>)| {
            Some((text(name).ok()?, Value::String(text(value).ok()?)))
        };
        let members: Option<Map<String, Value>> = fields.iter().map(member).collect();
        members.map(|members| Self(Value::Object(members))).ok_or(Unclear::Bytes)
    }

    pub(super) fn nothing() -> Self {
        Self(Value::Null)
    }

    /// What stands at a place: one text, or those of a list. None for what is not there, empty, or
    /// no text, number or truth value.
    fn words(&self, pointer: &str) -> Vec<String> {
        match self.0.pointer(pointer) {
            Some(Value::Array(items)) => items.iter().filter_map(word).collect(),
            Some(value) => word(value).into_iter().collect(),
            None => Vec::new(),
        }
    }
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// What is to be purged, each once, and whether softly.
///
/// # Errors
/// It is more than can be done, or something that no purge can name.
pub(super) fn named(purges: &[EventPurge], payload: &Payload) -> Result<Vec<(Aim, bool)>, Unclear> {
    let mut seen = HashSet::new();
    let mut aims = Vec::new();
    for purge in purges {
        for name in names(purge, payload)? {
            if name.len() > NAME_BYTES_MAX {
                return Err(Unclear::Much);
            }
            let aim = Aim::new(purge.kind, &name).map_err(|_| Unclear::Much)?;
            if seen.insert((aim.clone(), purge.soft)) {
                aims.push((aim, purge.soft));
            }
        }
    }
    if aims.len() > PURGES_MAX { Err(Unclear::Much) } else { Ok(aims) }
}

/// The names that a rule makes of an event. None where the event lacks a part of them.
fn names(purge: &EventPurge, payload: &Payload) -> Result<Vec<String>, Unclear> {
    let mut names = vec![String::new()];
    for part in &purge.name {
        let words = match part {
            EventPart::Literal(text) => vec![text.clone()],
            EventPart::Pointer(pointer) if purge.kind == PurgeKind::Pattern => {
                payload.words(pointer).iter().map(|word| as_it_is(word)).collect()
            }
            EventPart::Pointer(pointer) => payload.words(pointer),
        };
        if names.len().saturating_mul(words.len()) > PURGES_MAX {
            return Err(Unclear::Much);
        }
        names = names
            .iter()
            .flat_map(|name| words.iter().map(move |word| name.clone() + word))
            .collect();
    }
    Ok(names)
}

/// In a pattern.
fn as_it_is(word: &str) -> String {
    let mut escaped = String::with_capacity(word.len());
    for c in word.chars() {
        if matches!(c, '*' | '?' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use tollgate_cache::generations::Target;

    fn rule(kind: PurgeKind, parts: &[&str]) -> EventPurge {
        let part = |part: &&str| match part.strip_prefix('{') {
            Some(pointer) => EventPart::Pointer(pointer.trim_end_matches('}').to_owned()),
            None => EventPart::Literal((*part).to_owned()),
        };
        EventPurge { kind, name: parts.iter().map(part).collect(), soft: false }
    }

    #[track_caller]
    fn check(kind: PurgeKind, parts: &[&str], event: &str, expected: Result<&[&str], Unclear>) {
        let payload = Payload::read(event.as_bytes()).unwrap();
        let found = named(&[rule(kind, parts)], &payload);
        let found: Result<Vec<String>, Unclear> =
            found.map(|aims| aims.iter().map(|(aim, _)| aim.to_string()).collect());
        let expected = expected.map(|names| names.iter().map(ToString::to_string).collect());
        assert_eq!(found, expected, "{event}");
    }

    #[test]
    fn a_name_is_filled_in_from_the_event() {
        let kb = ["kb:", "{/id}"];
        check(PurgeKind::Tag, &kb, r#"{"id":7}"#, Ok(&["kb:7"]));
        check(PurgeKind::Tag, &kb, r#"{"id":"a b","x":1}"#, Ok(&["kb:a b"]));
        check(PurgeKind::Tag, &kb, r#"{"id":true}"#, Ok(&["kb:true"]));
        check(PurgeKind::Tag, &kb, r#"{"id":[1,"b",null,[2],1]}"#, Ok(&["kb:1", "kb:b"]));
        for lacking in [r#"{}"#, r#"{"id":null}"#, r#"{"id":""}"#, r#"{"id":{}}"#, "7", "text"] {
            check(PurgeKind::Tag, &kb, lacking, Ok(&[]));
        }
        let two = ["{/a/b}", ":", "{/c~1d}"];
        check(PurgeKind::Tag, &two, r#"{"a":{"b":1},"c/d":[2,3]}"#, Ok(&["1:2", "1:3"]));
        check(PurgeKind::Tag, &["kb:", "{}"], "42", Ok(&["kb:42"]));
        check(PurgeKind::Tag, &["kb:", "{}"], " 42:page\n", Ok(&["kb:42:page"]));
        check(PurgeKind::Route, &["chat"], "{}", Ok(&["chat"]));
        check(PurgeKind::All, &[], "{}", Ok(&[""]));
    }

    #[test]
    fn what_cannot_be_named_is_about_too_much() {
        let many = json!({ "id": (0..257).collect::<Vec<_>>() }).to_string();
        check(PurgeKind::Tag, &["{/id}"], &many, Err(Unclear::Much));
        let ids: Vec<_> = (0..16).collect();
        let both = json!({ "a": ids, "b": ids }).to_string();
        let payload = Payload::read(both.as_bytes()).unwrap();
        let of_two = rule(PurgeKind::Tag, &["{/a}", ":", "{/b}"]);
        assert_eq!(named(std::slice::from_ref(&of_two), &payload).unwrap().len(), 256);
        let more = [of_two, rule(PurgeKind::Tag, &["x"])];
        assert_eq!(named(&more, &payload), Err(Unclear::Much));
        let long = json!({ "id": "a".repeat(200) }).to_string();
        check(PurgeKind::Pattern, &["{/id}", "*"], &long, Err(Unclear::Much));
        check(PurgeKind::Key, &["{/id}"], &long, Err(Unclear::Much));
    }

    #[test]
    fn what_is_neither_json_nor_text_is_unclear() {
        for bad in [b"{".as_slice(), b"[1,", b"\"a", b"\xff\xfe"] {
            assert_eq!(Payload::read(bad), Err(Unclear::Bytes));
        }
        assert_eq!(Payload::read(&vec![b' '; EVENT_BYTES_MAX + 1]), Err(Unclear::Long));
    }

    #[test]
    fn an_entrys_fields_are_the_event_or_hold_it() {
        let fields = [(b"id".to_vec(), b"7".to_vec()), (b"body".to_vec(), br#"{"id":8}"#.to_vec())];
        let tag = |payload: &Payload| {
            let aims = named(&[rule(PurgeKind::Tag, &["{/id}"])], payload).unwrap();
            aims[0].0.to_string()
        };
        assert_eq!(tag(&Payload::of_fields(&fields, None).unwrap()), "7");
        assert_eq!(tag(&Payload::of_fields(&fields, Some("body")).unwrap()), "8");
        assert_eq!(Payload::of_fields(&fields, Some("none")), Err(Unclear::Field));
        let odd = [(b"\xff".to_vec(), Vec::new())];
        assert_eq!(Payload::of_fields(&odd, None), Err(Unclear::Bytes));
    }

    proptest! {
        #[test]
        fn no_event_panics(bytes in any::<Vec<u8>>(), pointer in ".*") {
            let rules = [rule(PurgeKind::Tag, &["kb:", &format!("{{{pointer}")])];
            if let Ok(payload) = Payload::read(&bytes) {
                drop(named(&rules, &payload));
            }
        }

        #[test]
        fn what_comes_from_an_event_stands_for_itself_in_a_pattern(
            id in "[ab*?\\\\]{1,6}",
            tag in "[ab*?\\\\:]{1,8}",
        ) {
            let payload = Payload(json!({ "id": id }));
            let aims = named(&[rule(PurgeKind::Pattern, &["{/id}", ":*"])], &payload).unwrap();
            let Target::Pattern(glob) = aims[0].0.target() else { panic!() };
            prop_assert_eq!(glob.matches(&tag), tag.starts_with(&(id + ":")));
        }

        #[test]
        fn each_item_is_named_once_and_in_full(ids in proptest::collection::vec("[a-c]{1,2}", 0..20)) {
            let payload = Payload(json!({ "id": ids }));
            let aims = named(&[rule(PurgeKind::Tag, &["kb:", "{/id}"])], &payload).unwrap();
            let names: HashSet<String> = aims.iter().map(|(aim, _)| aim.to_string()).collect();
            let expected: HashSet<String> = ids.iter().map(|id| format!("kb:{id}")).collect();
            prop_assert_eq!(aims.len(), names.len());
            prop_assert_eq!(names, expected);
        }
    }
}
