//! From what a provider reports to buckets that do not overlap.
//!
//! OpenAI's names count cached, written and audio tokens *inside* the prompt and
//! reasoning inside the completion: they are taken out, so that each token is
//! priced once. Anthropic's input fields are disjoint already. Where a part is
//! larger than its whole, the whole is believed, the part is cut to it, and the
//! caller is told that the numbers do not add up.

use super::Usage;
use super::probe::{Counts, Details};
use crate::dialect::{Dialect, Operation};

/// The buckets, and whether the numbers were complete and added up.
pub(super) fn buckets(operation: Operation, counts: &Counts) -> (Usage, bool) {
    match operation.dialect() {
        Dialect::Anthropic => disjoint(counts),
        Dialect::OpenAi
        | Dialect::Gemini
        | Dialect::Ollama
        | Dialect::Cohere
        | Dialect::Tgi
        | Dialect::Http => inclusive(counts),
    }
}

/// Some number of tokens read was reported. (Zero is a report, too.)
pub(super) fn says_input(counts: &Counts) -> bool {
    counts.prompt_tokens.0.is_some()
        || counts.input_tokens.0.is_some()
        || counts.total_tokens.0.is_some()
}

fn inclusive(counts: &Counts) -> (Usage, bool) {
    let mut whole = Taker { adds_up: true };
    let details_in =
        either(counts.prompt_tokens_details.0.as_ref(), counts.input_tokens_details.0.as_ref());
    let details_out = either(
        counts.completion_tokens_details.0.as_ref(),
        counts.output_tokens_details.0.as_ref(),
    );
    let reasoning = details_out.reasoning_tokens.or_zero();

    let total = counts.total_tokens.0;
    let prompt = counts.prompt_tokens.0.or(counts.input_tokens.0);
    let completion = counts.completion_tokens.0.or(counts.output_tokens.0);
    let mut input =
        prompt.unwrap_or_else(|| total.unwrap_or(0).saturating_sub(completion.unwrap_or(0)));
    let mut output =
        completion.unwrap_or_else(|| total.map_or(0, |total| total.saturating_sub(input)));

    // Some (xAI, Gemini's OpenAI form) count reasoning beside the completion and
    // inside the total only.
    let sum = input.saturating_add(output);
    if total.is_some_and(|total| reasoning > 0 && total == sum.saturating_add(reasoning)) {
        output = output.saturating_add(reasoning);
    } else if total.is_some_and(|total| total != sum) {
        whole.adds_up = false;
    }

    let cached = details_in.cached_tokens.0.or(counts.prompt_cache_hit_tokens.0).unwrap_or(0);
    let cached_input = whole.take(&mut input, cached);
    let cache_write = whole.take(&mut input, details_in.cache_write_tokens.or_zero());
    let audio_input = whole.take(&mut input, details_in.audio_tokens.or_zero());
    let reasoning = whole.take(&mut output, reasoning);
    let audio_output = whole.take(&mut output, details_out.audio_tokens.or_zero());
    let usage = Usage {
        input,
        cached_input,
        cache_write,
        cache_write_1h: 0,
        audio_input,
        output,
        reasoning,
        audio_output,
    };
    (usage, whole.adds_up)
}

fn disjoint(counts: &Counts) -> (Usage, bool) {
    let mut whole = Taker { adds_up: true };
    let split = counts.cache_creation.0.as_ref();
    let short = split.map_or(0, |split| split.ephemeral_5m_input_tokens.or_zero());
    let long = split.map_or(0, |split| split.ephemeral_1h_input_tokens.or_zero());

    let written = counts.cache_creation_input_tokens.0;
    let mut cache_write = written.unwrap_or_else(|| short.saturating_add(long));
    // An hour's lease costs more than five minutes'. Unsaid, the cheaper is assumed.
    if split.is_none() && cache_write > 0 {
        whole.adds_up = false;
    }
    let cache_write_1h = whole.take(&mut cache_write, long);

    let mut output = counts.output_tokens.or_zero();
    let details_out = counts.output_tokens_details.0.as_ref();
    let thinking = details_out.map_or(0, |details| details.thinking_tokens.or_zero());
    let reasoning = whole.take(&mut output, thinking);
    let usage = Usage {
        input: counts.input_tokens.or_zero(),
        cached_input: counts.cache_read_input_tokens.or_zero(),
        cache_write,
        cache_write_1h,
        audio_input: 0,
        output,
        reasoning,
        audio_output: 0,
    };
    (usage, whole.adds_up)
}

struct Taker {
    adds_up: bool,
}

impl Taker {
    /// Moves `part` out of what is left of a whole, at most all of it.
    fn take(&mut self, left: &mut u64, part: u64) -> u64 {
        let taken = part.min(*left);
        self.adds_up &= taken == part;
        *left -= taken;
        taken
    }
}

fn either(chat: Option<&Details>, responses: Option<&Details>) -> Details {
    chat.or(responses).cloned().unwrap_or_default()
}
