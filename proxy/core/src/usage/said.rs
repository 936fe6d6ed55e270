//! What the answers of Gemini, Ollama, Cohere and TGI say, piece by piece.
//!
//! In these dialects every piece of a stream has the shape of the whole answer, so both
//! are read by one reader: each piece is parsed into the same few facts, and the facts
//! are put together. Numbers are snapshots: of each the last that was said counts.

use super::probe::{Count, Counts, Details, Object};
use super::sse::{Event, Name, Splitter};
use super::tail::{TailBuffer, value_at_the_end};
use super::values::Values;
use super::{Heard, Verdict, cohere, cohere_v1, gemini, ollama, reason, tgi};
use crate::dialect::{Dialect, Framing, Operation};

/// What one event, line or element says, or a whole body.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) tally: Tally,
    pub(super) model: Option<String>,
    /// Bytes of what the model said.
    pub(super) weight: u64,
    /// There is an answer in it, of whatever kind.
    pub(super) has_answer: bool,
    /// It brings a token, even one that says nothing.
    pub(super) is_delta: bool,
    /// Places of the candidates it is about, and of those that have ended with it. In a
    /// dialect that has no candidates there is one.
    pub(super) seen: u64,
    pub(super) ended: u64,
    pub(super) fault: Option<&'static str>,
}

/// Numbers in the words of all these dialects. `reasoning` is beside `output` unless the
/// total says that it is inside; `cached_input` and the audio ones are inside.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) input: Count,
    /// What tools gave the model to read, beside `input`.
    pub(super) tool_input: Count,
    pub(super) cached_input: Count,
    pub(super) audio_input: Count,
    pub(super) output: Count,
    pub(super) reasoning: Count,
    pub(super) audio_output: Count,
    pub(super) total: Count,
    /// What it is charged as, where that is no token.
    pub(super) requests: Count,
}

/// Reads one answer of these dialects.
#[derive(Debug)]
pub(super) struct Reader {
    operation: Operation,
    split: Split,
    seen: Seen,
}

#[derive(Debug)]
enum Split {
    Whole(TailBuffer),
    Events(Splitter),
    Values(Values),
}

#[derive(Debug, Default)]
struct Seen {
    tally: Tally,
    model: Option<String>,
    seen: u64,
    ended: u64,
    has_answer: bool,
    fault: Option<&'static str>,
    deltas: u64,
    weight: u64,
}

/// Whether this module reads the answers of a dialect.
pub(super) fn reads(dialect: Dialect) -> bool {
    match dialect {
        Dialect::Gemini | Dialect::Ollama | Dialect::Cohere | Dialect::Tgi => true,
        Dialect::OpenAi | Dialect::Anthropic | Dialect::Http => false,
    }
}

/// One JSON text; `None` if it is not the dialect's.
fn read(operation: Operation, json: &[u8]) -> Option<Said> {
    match operation.dialect() {
        Dialect::Gemini => gemini::read(operation, json),
        Dialect::Ollama => ollama::read(operation, json),
        Dialect::Cohere if operation == Operation::CohereChatV1 => cohere_v1::read(json),
        Dialect::Cohere => cohere::read(operation, json),
        Dialect::Tgi => tgi::read(json),
        Dialect::OpenAi | Dialect::Anthropic | Dialect::Http => None,
    }
}

/// The numbers in the end of a text that was too long to keep.
fn tally_at_the_end(operation: Operation, end: &[u8]) -> Tally {
    let count = |name: &[u8]| value_at_the_end::<Count>(end, name).unwrap_or_default();
    match operation.dialect() {
        Dialect::Gemini => value_at_the_end::<Object<gemini::Meta>>(end, b"\"usageMetadata\"")
            .and_then(|meta| meta.0)
            .map(|meta| meta.tally())
            .unwrap_or_default(),
        Dialect::Cohere => value_at_the_end::<Object<cohere::Units>>(end, b"\"billed_units\"")
            .and_then(|units| units.0)
            .map(|units| units.tally())
            .unwrap_or_default(),
        Dialect::Ollama => Tally {
            input: count(b"\"prompt_eval_count\""),
            output: count(b"\"eval_count\""),
            ..Tally::default()
        },
        Dialect::Tgi => Tally { output: count(b"\"generated_tokens\""), ..Tally::default() },
        Dialect::OpenAi | Dialect::Anthropic | Dialect::Http => Tally::default(),
    }
}

impl Reader {
    pub(super) fn new(operation: Operation, framing: Framing) -> Self {
        let split = match framing {
            Framing::Whole => Split::Whole(TailBuffer::default()),
            Framing::Events => Split::Events(Splitter::default()),
            Framing::Lines => Split::Values(Values::new(false)),
            Framing::Array => Split::Values(Values::new(true)),
        };
        Self { operation, split, seen: Seen::default() }
    }

    /// What the head said of the tokens; the body knows better if it says anything.
    pub(super) fn told(&mut self, input: Option<u64>, output: Option<u64>) {
        self.seen.tally.input = Count(input);
        self.seen.tally.output = Count(output);
    }

    pub(super) fn push(&mut self, chunk: &[u8]) {
        let Self { operation, split, seen } = self;
        match split {
            Split::Whole(body) => body.push(chunk),
            Split::Events(splitter) => splitter.push(chunk, |event| seen.take(*operation, &event)),
            Split::Values(values) => values.push(chunk, |event| seen.take(*operation, &event)),
        }
    }

    pub(super) fn finish(self, complete: bool) -> Heard {
        let Self { operation, split, mut seen } = self;
        let mut is_closed = true;
        match split {
            Split::Whole(body) => seen.take_body(operation, &body, complete),
            Split::Events(splitter) => splitter.finish(|event| seen.take(operation, &event)),
            Split::Values(mut values) => {
                values.finish(|event| seen.take(operation, &event));
                is_closed = values.is_closed();
            }
        }
        seen.finish(complete, is_closed)
    }
}

impl Seen {
    fn take(&mut self, operation: Operation, event: &Event<'_>) {
        if event.name == Name::Error {
            self.fault.get_or_insert(reason::ERROR);
        }
        let data = event.data.trim_ascii();
        if event.is_cut {
            self.fault.get_or_insert(reason::TOO_LARGE);
            self.tally.replace_with(tally_at_the_end(operation, event.data));
        } else if !data.is_empty() && data != b"[DONE]" {
            match read(operation, data) {
                Some(said) => self.merge(said),
                None => {
                    self.fault.get_or_insert(reason::MALFORMED);
                }
            }
        }
    }

    fn take_body(&mut self, operation: Operation, body: &TailBuffer, complete: bool) {
        if body.is_cut() {
            self.fault = Some(if complete { reason::TOO_LARGE } else { reason::CUT });
            self.tally.replace_with(tally_at_the_end(operation, body.bytes()));
            self.model = body.model();
            return;
        }
        let said = if operation == Operation::TgiRoot {
            tgi::read_list(body.bytes())
        } else {
            read(operation, body.bytes())
        };
        match said {
            Some(said) => {
                self.merge(said);
                self.deltas = 0;
            }
            None => {
                let is_empty = body.bytes().trim_ascii().is_empty();
                self.weight = u64::try_from(body.bytes().len()).unwrap_or(u64::MAX);
                self.fault = Some(match (complete, is_empty) {
                    (false, _) => reason::CUT,
                    (true, true) => reason::EMPTY,
                    (true, false) => reason::MALFORMED,
                });
            }
        }
    }

    fn merge(&mut self, said: Said) {
        self.tally.replace_with(said.tally);
        if self.model.is_none() {
            self.model = said.model;
        }
        self.seen |= said.seen;
        self.ended |= said.ended;
        self.has_answer |= said.has_answer;
        if let Some(fault) = said.fault {
            self.fault.get_or_insert(fault);
        }
        self.weight = self.weight.saturating_add(said.weight);
        if said.is_delta || said.weight > 0 {
            self.deltas = self.deltas.saturating_add(1);
        }
    }

    fn finish(self, complete: bool, is_closed: bool) -> Heard {
        let has_ended = self.seen != 0 && self.seen == self.ended;
        let verdict = match self.fault {
            Some(reason) => Verdict::Unfinished(reason),
            None if !complete => Verdict::Unfinished(reason::CUT),
            None if self.has_answer && !(has_ended && is_closed) => {
                Verdict::Unfinished(reason::NO_END)
            }
            None if !self.has_answer => Verdict::Unfinished(reason::EMPTY),
            None => Verdict::Finished,
        };
        let requests = self.tally.requests.0;
        let counts = self.tally.counts();
        Heard {
            counts: counts.has_any().then_some(counts),
            is_final: complete || has_ended,
            model: self.model,
            service_tier: None,
            content_bytes: self.weight,
            content_deltas: self.deltas,
            requests,
            verdict: Some(verdict),
        }
    }
}

impl Tally {
    fn replace_with(&mut self, later: Self) {
        for (own, later) in [
            (&mut self.input, later.input),
            (&mut self.tool_input, later.tool_input),
            (&mut self.cached_input, later.cached_input),
            (&mut self.audio_input, later.audio_input),
            (&mut self.output, later.output),
            (&mut self.reasoning, later.reasoning),
            (&mut self.audio_output, later.audio_output),
            (&mut self.total, later.total),
            (&mut self.requests, later.requests),
        ] {
            own.replace_with(later);
        }
    }

    /// The same in the words that `normal` makes buckets of.
    fn counts(&self) -> Counts {
        let sum = |one: Count, other: Count| match (one.0, other.0) {
            (None, None) => Count(None),
            (one, other) => Count(Some(one.unwrap_or(0).saturating_add(other.unwrap_or(0)))),
        };
        // Where there is a total it says whether the thoughts are inside.
        let output = match self.total.0 {
            Some(_) => self.output,
            None => sum(self.output, self.reasoning),
        };
        Counts {
            prompt_tokens: sum(self.input, self.tool_input),
            completion_tokens: output,
            total_tokens: self.total,
            prompt_tokens_details: Object(Some(Details {
                cached_tokens: self.cached_input,
                audio_tokens: self.audio_input,
                ..Details::default()
            })),
            completion_tokens_details: Object(Some(Details {
                reasoning_tokens: self.reasoning,
                audio_tokens: self.audio_output,
                ..Details::default()
            })),
            ..Counts::default()
        }
    }
}
