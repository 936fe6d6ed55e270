//! Cohere's answers, as far as they say what is billed and how they ended.
//!
//! Money is on `billed_units`: `tokens` beside them count what Cohere itself put around
//! the question, too. A rerank is billed by searches, not by tokens. The numbers are
//! written as `5.0`. Shapes: docs.cohere.com/reference/chat, /embed, /rerank.

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, SeqAccess};

use super::probe::{Count, Filled, Leaf, Object, Text, Weight};
use super::reason;
use super::said::{Said, Tally};
use crate::dialect::Operation;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    #[serde(rename = "type")]
    kind: Text,
    message: Weight,
    finish_reason: Text,
    usage: Object<Usage>,
    /// Embed and rerank.
    meta: Object<Usage>,
    delta: Object<Delta>,
    error: Option<IgnoredAny>,
    embeddings: Vectors,
    results: Filled,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delta {
    message: Weight,
    finish_reason: Text,
    usage: Object<Usage>,
    error: Option<IgnoredAny>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Usage {
    billed_units: Object<Units>,
    tokens: Object<Units>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Units {
    input_tokens: Number,
    output_tokens: Number,
    search_units: Number,
}

/// A whole number, however it is written.
#[derive(Clone, Copy, Debug, Default)]
struct Number(Option<u64>);

/// A list, or lists by their type.
#[derive(Clone, Copy, Debug, Default)]
struct Vectors(bool);

impl Leaf for Number {
    fn number(value: u64) -> Self {
        Self(Some(value))
    }

    fn float(value: f64) -> Self {
        // A text of digits is a whole number; of a minus sign or of infinity it is none.
        Self(format!("{value:.0}").parse().ok())
    }
}

impl Leaf for Vectors {
    fn list<'de, A: SeqAccess<'de>>(items: A) -> Result<Self, A::Error> {
        Filled::list(items).map(|list| Self(list.0))
    }

    fn map<'de, A: MapAccess<'de>>(mut members: A) -> Result<Self, A::Error> {
        let mut filled = false;
        while let Some((_, Filled(one))) = members.next_entry::<IgnoredAny, Filled>()? {
            filled |= one;
        }
        Ok(Self(filled))
    }
}

super::probe::impl_leaf!(Number, Vectors);

pub(super) fn read(operation: Operation, json: &[u8]) -> Option<Said> {
    let answer = serde_json::from_slice::<Object<Answer>>(json).ok()?.0?;
    let delta = answer.delta.0.unwrap_or_default();
    let usages = [&answer.usage, &answer.meta, &delta.usage];
    let usage = usages.into_iter().find_map(|usage| usage.0.as_ref());
    let mut said =
        Said { tally: usage.map(Usage::tally).unwrap_or_default(), seen: 1, ..Said::default() };
    if operation == Operation::CohereEmbed {
        (said.ended, said.has_answer) = (1, answer.embeddings.0);
    } else if operation == Operation::CohereRerank {
        (said.ended, said.has_answer) = (1, answer.results.0);
    } else {
        said.weight = answer.message.0.saturating_add(delta.message.0);
        said.has_answer = said.weight > 0;
        let ends = [answer.finish_reason, delta.finish_reason];
        let end = ends.into_iter().find_map(Text::filled);
        // Of a stream only its last event ends it.
        let may_end = answer.kind.0.is_none() || answer.kind.is("message-end");
        if let Some(end) = end.filter(|_| may_end) {
            said.ended = 1;
            said.fault = fault(&end);
        }
    }
    if answer.error.is_some() || delta.error.is_some() {
        said.fault = Some(reason::ERROR);
    }
    Some(said)
}

/// Why an answer that ended so is not kept. A word we never heard of is no good end.
pub(super) fn fault(end: &str) -> Option<&'static str> {
    match end {
        "COMPLETE" | "STOP_SEQUENCE" | "MAX_TOKENS" | "TOOL_CALL" => None,
        "ERROR" => Some(reason::ERROR),
        "ERROR_TOXIC" => Some(reason::CONTENT_FILTER),
        _ => Some(reason::NOT_COMPLETED),
    }
}

impl Usage {
    pub(super) fn tally(&self) -> Tally {
        [&self.billed_units, &self.tokens]
            .into_iter()
            .find_map(|units| units.0.as_ref())
            .map(Units::tally)
            .unwrap_or_default()
    }
}

impl Units {
    pub(super) fn tally(&self) -> Tally {
        Tally {
            input: Count(self.input_tokens.0),
            output: Count(self.output_tokens.0),
            requests: Count(self.search_units.0),
            ..Tally::default()
        }
    }
}
