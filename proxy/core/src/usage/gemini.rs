//! `GenerateContentResponse` and its like, as far as they say what was used and how it
//! ended. Shapes: ai.google.dev/api/generate-content, "UsageMetadata", "FinishReason".

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::probe::{Count, Filled, Object, Objects, Text, Weight};
use super::reason;
use super::said::{Said, Tally};
use crate::dialect::Operation;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Answer {
    candidates: Objects<Candidate>,
    usage_metadata: Object<Meta>,
    model_version: Text,
    prompt_feedback: Object<Feedback>,
    error: Option<IgnoredAny>,
    /// `countTokens`.
    total_tokens: Count,
    /// `embedContent`.
    embedding: Object<Embedding>,
    /// `batchEmbedContents`.
    embeddings: Filled,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Candidate {
    index: Count,
    finish_reason: Text,
    content: Object<Content>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Content {
    parts: Weight,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Feedback {
    block_reason: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Embedding {
    values: Filled,
}

/// Every chunk has it, as far as the answer has come.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Meta {
    prompt_token_count: Count,
    tool_use_prompt_token_count: Count,
    cached_content_token_count: Count,
    candidates_token_count: Count,
    thoughts_token_count: Count,
    total_token_count: Count,
    prompt_tokens_details: Objects<Modality>,
    cache_tokens_details: Objects<Modality>,
    candidates_tokens_details: Objects<Modality>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Modality {
    modality: Text,
    token_count: Count,
}

pub(super) fn read(operation: Operation, json: &[u8]) -> Option<Said> {
    let answer = serde_json::from_slice::<Object<Answer>>(json).ok()?.0?;
    let mut said = Said {
        tally: answer.usage_metadata.0.as_ref().map(Meta::tally).unwrap_or_default(),
        model: answer.model_version.filled(),
        ..Said::default()
    };
    if operation == Operation::GeminiGenerate {
        for candidate in &answer.candidates.0 {
            candidate.read(&mut said);
        }
    } else {
        (said.seen, said.ended) = (1, 1);
        said.has_answer = if operation == Operation::GeminiCountTokens {
            answer.total_tokens.0.is_some()
        } else {
            answer.embeddings.0 || answer.embedding.0.is_some_and(|one| one.values.0)
        };
    }
    let is_blocked = answer.prompt_feedback.0.is_some_and(|said| said.block_reason.is_filled());
    if answer.error.is_some() {
        said.fault = Some(reason::ERROR);
    } else if is_blocked {
        said.fault = Some(reason::CONTENT_FILTER);
    }
    Some(said)
}

impl Candidate {
    fn read(&self, said: &mut Said) {
        // Nobody asks for more than eight.
        let bit = 1_u64 << self.index.0.unwrap_or(0).min(63);
        said.seen |= bit;
        if let Some(end) = self.finish_reason.0.as_deref().filter(|end| !end.is_empty()) {
            said.ended |= bit;
            said.fault = said.fault.or(fault(end));
        }
        let weight = self.content.0.as_ref().map_or(0, |content| content.parts.0);
        said.weight = said.weight.saturating_add(weight);
        said.has_answer |= weight > 0;
    }
}

/// Why an answer that ended so is not kept. A word we never heard of is no good end.
fn fault(end: &str) -> Option<&'static str> {
    match end {
        "STOP" | "MAX_TOKENS" => None,
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "MODEL_ARMOR" => Some(reason::CONTENT_FILTER),
        _ => Some(reason::NOT_COMPLETED),
    }
}

impl Meta {
    pub(super) fn tally(&self) -> Tally {
        let audio = |details: &Objects<Modality>| {
            let mut audio = details.0.iter().filter(|detail| detail.modality.is("AUDIO"));
            audio.find_map(|detail| detail.token_count.0)
        };
        // Of what was read from a cache some may be audio: it is counted as the former.
        let cached_audio = audio(&self.cache_tokens_details).unwrap_or(0);
        let audio_input = audio(&self.prompt_tokens_details);
        Tally {
            input: self.prompt_token_count,
            tool_input: self.tool_use_prompt_token_count,
            cached_input: self.cached_content_token_count,
            audio_input: Count(audio_input.map(|audio| audio.saturating_sub(cached_audio))),
            output: self.candidates_token_count,
            reasoning: self.thoughts_token_count,
            audio_output: Count(audio(&self.candidates_tokens_details)),
            total: self.total_token_count,
            requests: Count(None),
        }
    }
}
