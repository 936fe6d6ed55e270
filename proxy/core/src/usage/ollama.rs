//! Ollama's answers, as far as they say what was used and how it ended. Shapes:
//! docs.ollama.com/api, "Usage" and "Streaming".

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::probe::{Count, Filled, Flag, Object, Text, Weight};
use super::reason;
use super::said::{Said, Tally};
use crate::dialect::Operation;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    model: Text,
    message: Weight,
    response: Weight,
    thinking: Weight,
    done: Flag,
    done_reason: Text,
    error: Option<IgnoredAny>,
    prompt_eval_count: Count,
    prompt_eval_cached_count: Count,
    eval_count: Count,
    /// `/api/embed`, and the older `/api/embeddings`.
    embeddings: Filled,
    embedding: Filled,
}

pub(super) fn read(operation: Operation, json: &[u8]) -> Option<Said> {
    let answer = serde_json::from_slice::<Object<Answer>>(json).ok()?.0?;
    let said = [answer.message.0, answer.response.0, answer.thinking.0];
    let weight = said.into_iter().fold(0, u64::saturating_add);
    let is_embedding = operation == Operation::OllamaEmbed;
    let fault = match answer.done_reason.0.as_deref() {
        _ if answer.error.is_some() => Some(reason::ERROR),
        // Older servers do not say why; the others two of these mean that nothing was asked.
        None | Some("" | "stop" | "length" | "load" | "unload") => None,
        Some(_) => Some(reason::NOT_COMPLETED),
    };
    Some(Said {
        tally: Tally {
            input: answer.prompt_eval_count,
            cached_input: answer.prompt_eval_cached_count,
            output: answer.eval_count,
            ..Tally::default()
        },
        model: answer.model.filled(),
        weight: if is_embedding { 0 } else { weight },
        has_answer: if is_embedding {
            answer.embeddings.0 || answer.embedding.0
        } else {
            weight > 0
        },
        is_delta: false,
        seen: 1,
        ended: u64::from(is_embedding || answer.done.0),
        fault,
    })
}
