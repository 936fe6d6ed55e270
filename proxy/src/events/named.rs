//! What an event says, and what a source's rules make of it.
//!
//! JSON is read a level at a time, as far as a rule points, and a number keeps the text that it came
//! with: `1.10` is another version than `1.1`, and an id may have more digits than a number of ours.

use super::{EVENT_BYTES_MAX, PURGES_MAX};
use crate::purge::Aim;
use serde_json::value::RawValue;
use std::collections::{HashMap, HashSet};
use tollgate_config::{EventPart, EventPurge, PurgeKind};

/// The longest name: more than a tag, a model or a tenant has.
const NAME_BYTES_MAX: usize = 1024;

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Nothing,
    Text(String),
    /// The members of an object, in their order. Of two of one name the last counts.
    Members(Vec<(String, String)>),
    /// As it came.
    Json(Box<str>),
}

/// Why an event purges nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unclear {
    #[error("longer than {EVENT_BYTES_MAX} bytes")]
    Long,
    #[error("neither JSON nor text")]
    Bytes,
    #[error("the entry has no such field")]
    Field,
    /// More than can be told apart: of [`EventSource::lost`](tollgate_config::EventSource).
    #[error("about more than {PURGES_MAX} things")]
    Much,
    /// As [`Self::Much`].
    #[error("about something that cannot be purged by its name; {0}")]
    Name(String),
}

impl Payload {
    /// JSON, or text that does not look like it.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Unclear> {
        if bytes.len() > EVENT_BYTES_MAX {
            return Err(Unclear::Long);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Unclear::Bytes)?.trim();
        if serde_json::from_str::<&RawValue>(text).is_ok() {
            return Ok(Self::Json(text.into()));
        }
        if text.starts_with(['{', '[', '"']) {
            return Err(Unclear::Bytes);
        }
        Ok(Self::Text(text.to_owned()))
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
        let member =
            |(name, value): &(Vec<u8>, Vec<u8>)| Some((text(name).ok()?, text(value).ok()?));
        let members: Option<Vec<_>> = fields.iter().map(member).collect();
        members.map(Self::Members).ok_or(Unclear::Bytes)
    }

    /// What stands at a place: one text, or those of a list. None for what is not there, empty, or
    /// no text, number or truth value.
    fn words(&self, pointer: &str) -> Vec<String> {
        let word = match self {
            Self::Nothing => None,
            Self::Text(text) => Some(text.clone()).filter(|_| pointer.is_empty()),
            Self::Members(members) => {
                let mut steps = steps(pointer);
                let only = steps.next().filter(|_| steps.next().is_none());
                let found =
                    only.and_then(|step| members.iter().rev().find(|(own, _)| *own == step));
                found.map(|(_, value)| value.clone())
            }
            Self::Json(text) => return words(text, pointer).unwrap_or_default(),
        };
        word.into_iter().filter(|word| !word.is_empty()).collect()
    }
}

/// The names that a JSON pointer goes by.
fn steps(pointer: &str) -> impl Iterator<Item = String> {
    pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"))
}

/// Of a JSON text, as [`Payload::words`].
fn words(text: &str, pointer: &str) -> Option<Vec<String>> {
    let mut at: &RawValue = serde_json::from_str(text).ok()?;
    for step in steps(pointer) {
        at = match at.get().as_bytes().first()? {
            b'{' => {
                let mut members: HashMap<String, &RawValue> =
                    serde_json::from_str(at.get()).ok()?;
                members.remove(&step)?
            }
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(at.get()).ok()?;
                items.get(place(&step)?)?
            }
            _ => return None,
        };
    }
    if !at.get().starts_with('[') {
        return Some(word(at).into_iter().collect());
    }
    let items: Vec<&RawValue> = serde_json::from_str(at.get()).ok()?;
    Some(items.into_iter().filter_map(word).collect())
}

/// In a list: a number has one spelling there.
fn place(step: &str) -> Option<usize> {
    let is_plain = step.bytes().all(|digit| digit.is_ascii_digit());
    (is_plain && (step == "0" || !step.starts_with('0'))).then(|| step.parse().ok())?
}

fn word(value: &RawValue) -> Option<String> {
    let text = value.get();
    match text.as_bytes().first()? {
        b'"' => serde_json::from_str(text).ok().filter(|text: &String| !text.is_empty()),
        b'{' | b'[' | b'n' => None,
        // A number, or a truth value.
        _ => Some(text.to_owned()),
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
                let kind = purge.kind;
                return Err(Unclear::Name(format!("{kind}: longer than {NAME_BYTES_MAX} bytes")));
            }
            let aim = Aim::new(purge.kind, &name).map_err(Unclear::Name)?;
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
        let name = |why: &str| Err(Unclear::Name(why.to_owned()));
        let why = "pattern: longer than 128 bytes";
        check(PurgeKind::Pattern, &["{/id}", "*"], &long, name(why));
        let why = "key: not the 64 hexadecimal digits that explain shows";
        check(PurgeKind::Key, &["{/id}"], &long, name(why));
        let longer = json!({ "id": "a".repeat(1025) }).to_string();
        check(PurgeKind::Tag, &["{/id}"], &longer, name("tag: longer than 1024 bytes"));
    }

    #[test]
    fn a_number_is_named_as_it_is_written() {
        let own = ["kb:", "{}"];
        for number in ["1.10", "1e2", "-0", "123456789012345678901234567890", "1E400"] {
            let name = format!("kb:{number}");
            check(PurgeKind::Tag, &own, &format!(" {number}\n"), Ok(&[&name]));
            let inside = format!("{{\"a\": [{{\"id\" : {number} }}]}}");
            check(PurgeKind::Tag, &["kb:", "{/a/0/id}"], &inside, Ok(&[&name]));
            check(PurgeKind::Tag, &own, &format!("[{number}, true]"), Ok(&[&name, "kb:true"]));
        }
        check(PurgeKind::Tag, &own, "007", Ok(&["kb:007"]));
    }

    #[test]
    fn a_pointer_finds_what_json_pointers_find() {
        let event = r#"{"a":{"":"none","b/c":{"~1":"x"}},"a":{"d":"last"},"l":["p",["q"]]}"#;
        let event_of_one = r#"{"a":{"":"none","b/c":{"~1":"x","\u00e9":"y"}},"l":["p",["q"]]}"#;
        let at = |pointer: &str, event: &str, expected: &[&str]| {
            check(PurgeKind::Tag, &[&format!("{{{pointer}}}")], event, Ok(expected));
        };
        at("/a/", event_of_one, &["none"]);
        at("/a/b~1c/~01", event_of_one, &["x"]);
        at("/a/b~1c/é", event_of_one, &["y"]);
        at("/a/d", event, &["last"]);
        at("/a/b~1c/~01", event, &[]);
        at("/l", event, &["p"]);
        at("/l/1/0", event, &["q"]);
        for none in ["/l/01", "/l/+1", "/l/-", "/l/2", "/l/0/0", "/x", "/a/d/e"] {
            at(none, event, &[]);
        }
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
            let payload = Payload::read(json!({ "id": id }).to_string().as_bytes()).unwrap();
            let aims = named(&[rule(PurgeKind::Pattern, &["{/id}", ":*"])], &payload).unwrap();
            let Target::Pattern(glob) = aims[0].0.target() else { panic!() };
            prop_assert_eq!(glob.matches(&tag), tag.starts_with(&(id + ":")));
        }

        #[test]
        fn each_item_is_named_once_and_in_full(ids in proptest::collection::vec("[a-c]{1,2}", 0..20)) {
            let payload = Payload::read(json!({ "id": ids }).to_string().as_bytes()).unwrap();
            let aims = named(&[rule(PurgeKind::Tag, &["kb:", "{/id}"])], &payload).unwrap();
            let names: HashSet<String> = aims.iter().map(|(aim, _)| aim.to_string()).collect();
            let expected: HashSet<String> = ids.iter().map(|id| format!("kb:{id}")).collect();
            prop_assert_eq!(aims.len(), names.len());
            prop_assert_eq!(names, expected);
        }
    }
}
