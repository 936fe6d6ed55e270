//! The answers of Cohere's first chat API, as far as they say what is billed and how they ended.
//!
//! The last event of a stream holds the whole answer, what is billed included; the text in it was
//! told before, and is not counted again. Shapes: see `form::cohere_v1`.

use super::{
    cohere::{Usage, fault},
    probe::{Filled, Object, Text, Weight},
    said::Said,
};
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    /// Of a stream.
    event_type: Text,
    text: Weight,
    tool_calls: Filled,
    tool_call_delta: Weight,
    /// All that is answered where nothing else was asked for.
    search_queries: Filled,
    finish_reason: Text,
    meta: Object<Usage>,
    response: Object<Response>,
}

/// In the last event of a stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Response {
    meta: Object<Usage>,
}

pub(super) fn read(json: &[u8]) -> Option<Said> {
    let answer = serde_json::from_slice::<Object<Answer>>(json).ok()?.0?;
    let is_whole = answer.event_type.0.is_none();
    let is_end = answer.event_type.is("stream-end");
    let in_end = answer.response.0.unwrap_or_default().meta;
    let usage = if is_whole { answer.meta.0 } else { in_end.0 };
    // What is beside whole calls was told before, in pieces.
    let text = if answer.event_type.is("tool-calls-generation") { 0 } else { answer.text.0 };
    let weight = text.saturating_add(answer.tool_call_delta.0);
    let mut said = Said {
        tally: usage.as_ref().map(Usage::tally).unwrap_or_default(),
        seen: 1,
        weight,
        has_answer: weight > 0 || answer.tool_calls.0 || answer.search_queries.0,
        ..Said::default()
    };
    if let Some(end) = answer.finish_reason.filled().filter(|_| is_whole || is_end) {
        said.ended = 1;
        said.fault = fault(&end);
    }
    Some(said)
}
