//! An answer in events: what is said in which of them, and how it must end.
//!
//! Of a thousand events three matter. The first ones are parsed until the model
//! and some content were seen; after that an event is parsed only if it has one
//! of the dialect's words in it, found by substring search, and all others are
//! counted. A word inside a text has its quotes escaped, so it is not mistaken.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::probe::{Counts, Inner, Probe, Text};
use super::sse::{Event, Name, Splitter};
use super::tail::usage_at_the_end;
use super::{Heard, Verdict, reason};
use crate::dialect::{Dialect, Operation};

/// How many first events are parsed in the search for model and content.
const PARSED_FIRST_MAX: u8 = 16;

/// The words that make an event worth parsing.
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));
/// Why a choice ended; a null until then, which is no word.
static FINISH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"finish_reason\""));
/// The same of a message.
static REASON: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"stop_reason\""));
static STOP: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"message_stop\""));
static COMPLETED: LazyLock<Finder<'static>> =
    LazyLock::new(|| Finder::new(b"\"response.completed\""));

#[derive(Debug)]
pub(super) struct Stream {
    splitter: Splitter,
    seen: Seen,
}

#[derive(Debug)]
struct Seen {
    operation: Operation,
    /// The words of this dialect; `USAGE` and `ERROR` are everyone's.
    words: [Option<&'static Finder<'static>>; 2],
    /// The dialect says in `event:` what an event is, reliably.
    names_its_events: bool,
    parsed_first: u8,
    counts: Counts,
    has_final_usage: bool,
    model: Option<String>,
    service_tier: Option<String>,
    has_content: bool,
    has_ended: bool,
    /// It has said why it ended.
    has_reason: bool,
    /// Places of the choices of which anything was read, and of those that have ended.
    choices: [u64; 2],
    fault: Option<&'static str>,
    deltas: u64,
    /// Of the deltas' data: their bytes in all, and those of the smallest.
    delta_bytes: u64,
    delta_len_min: u64,
}

impl Stream {
    pub(super) fn new(operation: Operation) -> Self {
        let words: [Option<&Finder<'_>>; 2] = match operation {
            Operation::AnthropicMessages => [Some(&STOP), Some(&REASON)],
            Operation::OpenAiResponses => [Some(&COMPLETED), None],
            Operation::OpenAiChat | Operation::OpenAiCompletions => [Some(&FINISH), None],
            Operation::OpenAiEmbeddings
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
            | Operation::Other => [None, None],
        };
        let seen = Seen {
            operation,
            words,
            names_its_events: matches!(
                operation,
                Operation::AnthropicMessages | Operation::OpenAiResponses
            ),
            parsed_first: 0,
            counts: Counts::default(),
            has_final_usage: false,
            model: None,
            service_tier: None,
            has_content: false,
            has_ended: false,
            has_reason: false,
            choices: [0; 2],
            fault: None,
            deltas: 0,
            delta_bytes: 0,
            delta_len_min: u64::MAX,
        };
        Self { splitter: Splitter::default(), seen }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) {
        let Self { splitter, seen } = self;
        splitter.push(chunk, |event| seen.take(&event));
    }

    pub(super) fn finish(self, complete: bool) -> Heard {
        let Self { splitter, mut seen } = self;
        splitter.finish(|event| seen.take(&event));
        seen.finish(complete)
    }
}

impl Seen {
    fn take(&mut self, event: &Event<'_>) {
        let data = event.data.trim_ascii_start();
        if event.name == Name::Error {
            self.fault.get_or_insert(reason::ERROR);
        }
        if event.is_cut {
            self.fault.get_or_insert(reason::TOO_LARGE);
            self.counts.replace_with(usage_at_the_end(event.data).unwrap_or_default());
        } else if data.first().is_none_or(|&byte| byte == b'[') {
            self.has_ended |= self.operation.dialect() != Dialect::Anthropic
                && self.operation != Operation::OpenAiResponses
                && data.trim_ascii_end() == b"[DONE]";
        } else if self.is_at_the_start() || !self.is_surely_a_delta(event) {
            match Probe::read(event.data) {
                Some(probe) => self.read(event, probe),
                None => {
                    self.fault.get_or_insert(reason::MALFORMED);
                }
            }
        } else if matches!(event.name, Name::Delta | Name::Unnamed) {
            if !data.trim_ascii_end().ends_with(b"}") {
                // Not read, but plainly torn.
                self.fault.get_or_insert(reason::MALFORMED);
            }
            self.has_content = true;
            self.count_delta(event.data);
        }
    }

    fn is_at_the_start(&mut self) -> bool {
        if self.parsed_first >= PARSED_FIRST_MAX || (self.has_content && self.model.is_some()) {
            return false;
        }
        self.parsed_first += 1;
        true
    }

    /// Nothing in it but a piece of the answer (or nothing that matters at all).
    fn is_surely_a_delta(&self, event: &Event<'_>) -> bool {
        if event.name == Name::Delta && self.names_its_events {
            return true;
        }
        let Event { data, .. } = event;
        let own = self.words.iter().flatten();
        !(has_word(&USAGE, data)
            || has_word(&ERROR, data)
            || own.copied().any(|word| has_word(word, data)))
    }

    fn read(&mut self, event: &Event<'_>, probe: Probe) {
        self.judge(&probe);
        if self.is_delta(&probe) {
            self.has_content = true;
            self.count_delta(event.data);
        }
        let has_choices = !probe.choices.0.is_empty();
        let (message, response) = (probe.message.0, probe.response.0);
        let inner = [message, response].into_iter().flatten();
        let kind = probe.kind;
        let is_last = match self.operation.dialect() {
            Dialect::Anthropic => kind.is("message_delta"),
            Dialect::OpenAi if self.operation == Operation::OpenAiResponses => {
                matches!(&kind, Text(Some(kind)) if ends_response(kind))
            }
            Dialect::OpenAi
            | Dialect::Gemini
            | Dialect::Ollama
            | Dialect::Cohere
            | Dialect::Tgi
            | Dialect::Http => !has_choices,
        };
        self.note(probe.model, probe.service_tier, probe.usage.0, is_last);
        for Inner { model, service_tier, usage, .. } in inner {
            self.note(model, service_tier, usage.0, is_last);
        }
    }

    /// Whether the event ends the answer, and whether it spoils it.
    fn judge(&mut self, probe: &Probe) {
        let response = probe.response.0.as_ref();
        let refused = probe.delta.0.as_ref().is_some_and(|delta| delta.stop_reason.is("refusal"));
        let filtered =
            probe.choices.0.iter().any(|choice| choice.finish_reason.is("content_filter"));
        if probe.is_error() || response.is_some_and(|response| response.error.is_some()) {
            self.fault.get_or_insert(reason::ERROR);
        } else if refused || filtered {
            self.fault.get_or_insert(reason::CONTENT_FILTER);
        }
        self.has_reason |=
            probe.delta.0.as_ref().is_some_and(|delta| delta.stop_reason.is_filled());
        for choice in &probe.choices.0 {
            // Nobody asks for more than 64.
            let bit = 1_u64 << choice.index.0.unwrap_or(0).min(63);
            let [seen, ended] = &mut self.choices;
            *seen |= bit;
            *ended |= if choice.finish_reason.is_filled() { bit } else { 0 };
        }
        match probe.kind.0.as_deref() {
            Some("message_stop") => {
                self.has_ended |= self.operation.dialect() == Dialect::Anthropic
            }
            Some("response.completed") => {
                let status = response.and_then(|response| response.status.0.as_deref());
                if status.is_some_and(|status| status != "completed") {
                    self.fault.get_or_insert(reason::NOT_COMPLETED);
                }
                self.has_ended |= self.operation == Operation::OpenAiResponses;
                self.has_content |= response.is_some_and(|response| response.output.0 > 0);
            }
            Some(kind) if ends_response(kind) => {
                self.fault.get_or_insert(reason::NOT_COMPLETED);
            }
            Some(_) | None => {}
        }
    }

    /// Every choice, or the message, has said why it ended, in a dialect that says so.
    fn says_why(&self) -> bool {
        match self.operation {
            Operation::OpenAiChat | Operation::OpenAiCompletions => {
                let [seen, ended] = self.choices;
                ended != 0 && seen == ended
            }
            Operation::AnthropicMessages => self.has_reason,
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
        }
    }

    fn is_delta(&self, probe: &Probe) -> bool {
        match (self.operation, probe.kind.0.as_deref()) {
            (Operation::AnthropicMessages, kind) => kind == Some("content_block_delta"),
            (Operation::OpenAiResponses, kind) => kind.is_some_and(|kind| kind.ends_with(".delta")),
            _ => probe.weight() > 0,
        }
    }

    fn note(&mut self, model: Text, tier: Text, usage: Option<Counts>, is_last: bool) {
        if self.model.is_none() {
            self.model = model.filled();
        }
        if let Some(tier) = tier.filled() {
            self.service_tier = Some(tier);
        }
        if let Some(usage) = usage.filter(Counts::has_any) {
            self.counts.replace_with(usage);
            self.has_final_usage |= is_last;
        }
    }

    fn count_delta(&mut self, data: &[u8]) {
        let len = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.deltas += 1;
        self.delta_bytes = self.delta_bytes.saturating_add(len);
        self.delta_len_min = self.delta_len_min.min(len);
    }

    fn finish(self, complete: bool) -> Heard {
        let verdict = match self.fault {
            Some(reason) => Verdict::Unfinished(reason),
            None if !complete => Verdict::Unfinished(reason::CUT),
            None if !self.has_ended => Verdict::Unfinished(reason::NO_END),
            None if !self.has_content => Verdict::Unfinished(reason::EMPTY),
            None if !self.says_why() => Verdict::Unfinished(reason::NO_END),
            None => Verdict::Finished,
        };
        // Anthropic's first event has a usage that is only a beginning.
        let may_be_whole = self.operation.dialect() != Dialect::Anthropic;
        // The envelope is the same around every delta, and the smallest of them
        // has hardly anything in it.
        let envelopes = self.deltas.saturating_mul(self.delta_len_min.saturating_sub(1));
        let service_tier = self.counts.service_tier.clone().filled();
        Heard {
            is_final: self.has_final_usage || (complete && may_be_whole),
            counts: self.counts.has_any().then_some(self.counts),
            model: self.model,
            service_tier: self.service_tier.or(service_tier),
            content_bytes: self.delta_bytes.saturating_sub(envelopes),
            content_deltas: self.deltas,
            requests: None,
            verdict: Some(verdict),
        }
    }
}

fn ends_response(kind: &str) -> bool {
    matches!(
        kind,
        "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled"
    )
}

/// `data` has the word, other than as the name of a null.
fn has_word(word: &Finder<'_>, data: &[u8]) -> bool {
    let mut rest = data;
    while let Some(at) = word.find(rest) {
        rest = rest.get(at + word.needle().len()..).unwrap_or_default();
        let value = rest.trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start);
        if !value.is_some_and(|value| value.starts_with(b"null")) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_null_is_no_word_and_a_quoted_word_is_none() {
        for (data, expected) in [
            (r#"{"usage":null}"#, false),
            (r#"{"usage" : null}"#, false),
            (r#"{"usage":{"a":1}}"#, true),
            (r#"{"usage":null,"x":{"usage":{}}}"#, true),
            (r#"{"content":"\"usage\":1"}"#, false),
            (r#"{"type":"usage"}"#, true),
            (r#"{"usages":1}"#, false),
        ] {
            assert_eq!(has_word(&USAGE, data.as_bytes()), expected, "{data}");
        }
    }
}
