//! An answer in one piece of JSON.

use super::probe::{Count, Probe, Text};
use super::tail::{TailBuffer, usage_at_the_end};
use super::{Heard, Verdict, reason};
use crate::dialect::Operation;

pub(super) fn finish(operation: Operation, body: &TailBuffer, complete: bool) -> Heard {
    if body.is_cut() {
        let verdict = Verdict::Unfinished(if complete { reason::TOO_LARGE } else { reason::CUT });
        return Heard {
            counts: usage_at_the_end(body.bytes()),
            is_final: true,
            model: body.model(),
            verdict: Some(verdict),
            ..Heard::default()
        };
    }
    let Some(probe) = Probe::read(body.bytes()) else {
        let reason = match (complete, body.bytes().trim_ascii().is_empty()) {
            (false, _) => reason::CUT,
            (true, true) => reason::EMPTY,
            (true, false) => reason::MALFORMED,
        };
        // What is there of the text cannot be told from what is around it.
        let content_bytes = u64::try_from(body.bytes().len()).unwrap_or(u64::MAX);
        return Heard {
            content_bytes,
            verdict: Some(Verdict::Unfinished(reason)),
            ..Heard::default()
        };
    };
    let verdict = match fault(operation, &probe) {
        Some(reason) => Verdict::Unfinished(reason),
        None if complete => Verdict::Finished,
        None => Verdict::Unfinished(reason::CUT),
    };
    let content_bytes = probe.weight();
    let counts = probe.usage.0.filter(super::probe::Counts::has_any);
    let service_tier = counts.as_ref().and_then(|counts| counts.service_tier.clone().filled());
    Heard {
        counts,
        is_final: true,
        model: probe.model.filled(),
        service_tier: probe.service_tier.filled().or(service_tier),
        content_bytes,
        content_deltas: 0,
        requests: None,
        verdict: Some(verdict),
    }
}

/// Why this is not the dialect's finished answer.
fn fault(operation: Operation, probe: &Probe) -> Option<&'static str> {
    if probe.is_error() {
        return Some(reason::ERROR);
    }
    let filtered = probe.choices.0.iter().any(|choice| choice.finish_reason.is("content_filter"));
    if filtered || probe.stop_reason.is("refusal") {
        return Some(reason::CONTENT_FILTER);
    }
    let has_answer = match operation {
        Operation::OpenAiResponses => {
            if matches!(&probe.status, Text(Some(status)) if status != "completed") {
                return Some(reason::NOT_COMPLETED);
            }
            probe.output.0 > 0
        }
        Operation::OpenAiChat | Operation::OpenAiCompletions | Operation::AnthropicMessages => {
            probe.weight() > 0
        }
        Operation::OpenAiEmbeddings => probe.data.0,
        Operation::OpenAiModerations | Operation::OpenAiRerank => probe.results.0 || probe.data.0,
        Operation::AnthropicCountTokens => probe.input_tokens != Count(None),
        // What `said` does not read either.
        Operation::GeminiGenerate
        | Operation::GeminiCountTokens
        | Operation::GeminiEmbed
        | Operation::OllamaChat
        | Operation::OllamaGenerate
        | Operation::OllamaEmbed
        | Operation::CohereChat
        | Operation::CohereChatV1
        | Operation::CohereEmbed
        | Operation::CohereRerank
        | Operation::TgiGenerate
        | Operation::TgiRoot
        | Operation::Other => true,
    };
    if !has_answer {
        return Some(reason::EMPTY);
    }
    let has_ended = match operation {
        Operation::OpenAiChat | Operation::OpenAiCompletions => {
            probe.choices.0.iter().all(|choice| choice.finish_reason.is_filled())
        }
        Operation::AnthropicMessages => probe.stop_reason.is_filled(),
        Operation::OpenAiResponses
        | Operation::OpenAiEmbeddings
        | Operation::OpenAiModerations
        | Operation::OpenAiRerank
        | Operation::AnthropicCountTokens
        | Operation::GeminiGenerate
        | Operation::GeminiCountTokens
        | Operation::GeminiEmbed
        | Operation::OllamaChat
        | Operation::OllamaGenerate
        | Operation::OllamaEmbed
        | Operation::CohereChat
        | Operation::CohereChatV1
        | Operation::CohereEmbed
        | Operation::CohereRerank
        | Operation::TgiGenerate
        | Operation::TgiRoot
        | Operation::Other => true,
    };
    (!has_ended).then_some(reason::NO_END)
}
