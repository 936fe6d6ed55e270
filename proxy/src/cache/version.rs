//! Which version of a model a key is of: what is known when it is asked, and what an answer says.
//!
//! An answer is kept under the version that it says itself, in its head or, where that is where it
//! stands, in its body, which is read at its end. Where versions are asked for beside the calls, an
//! answer is of the one that held from its call to its end, and of none if that changed.

use super::{Question, now_ms};
use crate::app::{Destination, Parts};
use http::response;
use std::sync::Arc;
use tollgate_cache::{
    canonical::{Bounds, canonicalise},
    entry::Form,
    pointer::Pointer,
    versions::{Current, Observed, Said},
};
use tollgate_core::{dialect::Operation, form};

/// How many first events of a stream are looked into for a version.
const EVENTS_MAX: usize = 64;

/// What the head of an answer says of its version.
pub(super) enum OfHead {
    Version(Arc<str>),
    /// Its body will say it.
    Later,
    /// An older one, or none that could be asked for.
    NotKept,
}

/// `None`: the upstream has not said one yet.
pub(super) fn current(parts: &Parts, destination: &Destination, model: &str) -> Option<Arc<str>> {
    if let Some(version) = &destination.version_static {
        return Some(version.clone());
    }
    let model = destination.version_poll.as_ref().map_or(model, |poll| poll.model(model));
    match parts.cache.versions.current(&destination.upstream.name, model) {
        Current::Known(version) => Some(version),
        Current::Unknown => None,
    }
}

pub(super) fn of_head(parts: &Parts, question: &Question, answer: &response::Parts) -> OfHead {
    let destination = &question.route.destination;
    if let Some(version) = &destination.version_static {
        return OfHead::Version(version.clone());
    }
    if destination.version_body.is_some() {
        return OfHead::Later;
    }
    if destination.version_poll.is_some() {
        return still(parts, question).map_or(OfHead::NotKept, OfHead::Version);
    }
    observe(parts, question, destination.version_said(&answer.headers))
        .map_or(OfHead::NotKept, OfHead::Version)
}

/// What the body says of the version of its answer; `None`: it is not kept.
pub(super) fn of_body(
    parts: &Parts,
    question: &Question,
    (form, body): (Form, &[u8]),
) -> Option<Arc<str>> {
    let pointer = question.route.destination.version_body.as_ref()?;
    let found = match form {
        Form::Whole => {
            canonicalise(body, &[], Bounds::default()).ok().map(|form| at(pointer, &form))
        }
        Form::Stream => Some(in_stream(pointer, question.operation, body)),
    };
    // What cannot be read does not say that there is none.
    match found? {
        Found::Nothing => observe(parts, question, Said::Nothing),
        Found::Version(version) => observe(parts, question, Said::of([version.as_bytes()])),
        Found::Unclear => None,
    }
}

/// The version that is asked for beside the calls, if it still is what it was for this one.
pub(super) fn still(parts: &Parts, question: &Question) -> Option<Arc<str>> {
    let version = current(parts, &question.route.destination, &question.model)?;
    (question.version.as_ref() == Some(&version)).then_some(version)
}

fn observe(parts: &Parts, question: &Question, said: Said<'_>) -> Option<Arc<str>> {
    let upstream = &question.route.destination.upstream.name;
    match parts.cache.versions.observe(upstream, &question.model, said, now_ms()) {
        Observed::Store => Some(Arc::from(said.as_str())),
        Observed::DoNotStore => None,
    }
}

enum Found {
    Nothing,
    Version(String),
    Unclear,
}

fn at(pointer: &Pointer, form: &[u8]) -> Found {
    let Some(value) = pointer.find(form) else { return Found::Nothing };
    match serde_json::from_slice(value) {
        Ok(serde_json::Value::Null) => Found::Nothing,
        Ok(serde_json::Value::String(text)) => Found::Version(text),
        Ok(serde_json::Value::Number(number)) => Found::Version(number.to_string()),
        Ok(_) | Err(_) => Found::Unclear,
    }
}

/// In the answer that a stream comes to, or else in its first events.
fn in_stream(pointer: &Pointer, operation: Operation, body: &[u8]) -> Found {
    let whole = form::stream_to_whole(operation, body);
    let whole = whole.and_then(|whole| canonicalise(&whole, &[], Bounds::default()).ok());
    let events = body.split(|byte| matches!(byte, b'\n' | b'\r'));
    // Of lines of JSON, each is an event.
    let events = events.map(|line| line.strip_prefix(b"data:").unwrap_or(line));
    let events = events.filter(|data| data.trim_ascii_start().first() == Some(&b'{'));
    let events = events.take(EVENTS_MAX);
    let events = events.filter_map(|data| canonicalise(data, &[], Bounds::default()).ok());
    let forms = whole.into_iter().chain(events);
    let mut found = forms.map(|form| at(pointer, &form));
    found.find(|found| !matches!(found, Found::Nothing)).unwrap_or(Found::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: Result<Option<&str>, ()>) {
        let pointer = Pointer::parse("/fp").unwrap();
        let found = match in_stream(&pointer, Operation::Other, body.as_bytes()) {
            Found::Nothing => Ok(None),
            Found::Version(version) => Ok(Some(version)),
            Found::Unclear => Err(()),
        };
        assert_eq!(found, expected.map(|version| version.map(str::to_owned)), "{body}");
    }

    #[test]
    fn the_events_of_a_stream_say_its_version() {
        check("data: {\"fp\":\"a\"}\n\ndata: [DONE]\n\n", Ok(Some("a")));
        check("event: x\r\ndata: {\"fp\":null}\r\n\r\ndata:{\"fp\":7}\r\n\r\n", Ok(Some("7")));
        check("data: {\"x\":1}\n\ndata: [DONE]\n\n", Ok(None));
        check("data: {\"fp\":[1]}\n\n", Err(()));
        check("data: {\"fp\":\"a\",\"fp\":\"b\"}\n\n", Ok(None));
        check("", Ok(None));
    }
}
