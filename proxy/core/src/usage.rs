//! What an answer used and whether it is finished: read from its bytes as they pass.
//!
//! An [`AnswerReader`] is fed the same (decoded) bytes that go to the caller, cut
//! wherever the network cut them, and never holds anybody up: it does no I/O,
//! keeps at most a few MiB, and takes whatever a server sends. At the end it says
//! two things about the answer:
//!
//! * its [`Usage`]: tokens in buckets that do not overlap, and how far they can
//!   be believed ([`Quality`]). A provider's running totals replace each other
//!   and are never added; a zero is a zero and not a gap; a gap is filled by an
//!   estimate that says so ([`Reading::fill_gaps`]), never by nothing.
//! * its [`Verdict`]: whether it is the dialect's finished answer, which alone
//!   may be stored. In doubt it is not.
//!
//! ```text
//! bytes ─┬─ stream: sse (lines → events) → stream (which events matter) ─┐
//!        └─ body:   tail (≤ 1 MiB, else its end)   → body ───────────────┤
//!                        probe (serde: what JSON says) → normal (buckets) → Reading
//! ```
//!
//! In Gemini, Ollama, Cohere and TGI a piece of a stream has the shape of the whole:
//! there `said` reads both, a dialect a module.

mod body;
mod cohere;
mod cohere_v1;
mod gemini;
mod normal;
mod ollama;
mod probe;
mod said;
mod sse;
mod stream;
mod tail;
mod tgi;
mod values;

use self::probe::Counts;
use self::stream::Stream;
use self::tail::TailBuffer;
use crate::dialect::{Framing, Operation};

/// Bytes of text per token where nobody counted: near 4 for English in every
/// tokenizer. Too few tokens are assumed for Chinese, too many for JSON and base64.
const BYTES_PER_TOKEN: u64 = 4;

/// The most tokens of one call that are believed: the largest contexts there are hold
/// ten million. More is a defect of the server; believed, it would fill the counts and
/// the money of a record and say something else in each.
pub const TOKENS_BELIEVED_MAX: u64 = 100_000_000;

/// Tokens, each in exactly one bucket: their sum is all that was read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Read afresh, as text.
    pub input: u64,
    /// Read from the provider's prompt cache.
    pub cached_input: u64,
    /// Read, and written to the provider's prompt cache for its usual time.
    pub cache_write: u64,
    /// … for an hour.
    pub cache_write_1h: u64,
    pub audio_input: u64,
    /// Written, as text that the caller sees.
    pub output: u64,
    /// Written, as thoughts.
    pub reasoning: u64,
    pub audio_output: u64,
}

/// How far the numbers can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quality {
    /// The provider's own final numbers, and they add up.
    Reported,
    /// The provider's numbers, but not its last ones or not consistent; or the
    /// answer was cut and what came through was counted.
    Partial,
    /// The provider said nothing: derived from lengths.
    Estimated,
    /// Nothing is known, or this operation has no tokens.
    Absent,
}

/// Whether an answer may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The dialect's finished answer.
    Finished,
    /// Not, for one of the closed list of reasons in [`reason`].
    Unfinished(&'static str),
}

/// Why an answer is not the dialect's finished one.
pub mod reason {
    /// The bytes ended before the body did.
    pub const CUT: &str = "cut";
    /// An error object or event, also after content.
    pub const ERROR: &str = "error";
    /// A filter ended it (`content_filter`, Anthropic's `refusal`).
    pub const CONTENT_FILTER: &str = "content_filter";
    /// A `status` other than `completed`.
    pub const NOT_COMPLETED: &str = "not_completed";
    /// Complete, but nothing is said in it.
    pub const EMPTY: &str = "empty";
    /// It does not say why it ended, or the stream ended without the event that ends an answer.
    pub const NO_END: &str = "no_end";
    /// Not the JSON that the dialect has.
    pub const MALFORMED: &str = "malformed";
    /// Too large to be judged.
    pub const TOO_LARGE: &str = "too_large";
}

/// What an answer said about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    pub usage: Usage,
    pub quality: Quality,
    /// As the answer names it, at most 128 bytes.
    pub model: Option<String>,
    /// As the answer names it, at most 128 bytes; may differ from the request's.
    pub service_tier: Option<String>,
    /// All bytes of the (decoded) body.
    pub output_bytes: u64,
    /// How many events brought a piece of the answer; 0 for a body.
    pub content_deltas: u64,
    pub verdict: Verdict,
    /// How many requests the provider charges it as: more than one is a rerank of more
    /// documents than a search has.
    pub requests: u64,
    /// It named more than [`TOKENS_BELIEVED_MAX`] tokens, and was not believed.
    pub disbelieved: bool,
    gaps: Gaps,
}

/// What [`Reading::fill_gaps`] has to make up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Gaps {
    input: bool,
    /// Tokens to assume for the output.
    output: u64,
}

/// Reads one answer. See the module's text.
#[derive(Debug)]
pub struct AnswerReader {
    operation: Operation,
    output_bytes: u64,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// Not a call whose answer we understand: bytes.
    Opaque,
    Body(TailBuffer),
    Stream(Box<Stream>),
    Said(Box<said::Reader>),
}

/// What a form's reader heard, before it is put in order.
#[derive(Debug, Default)]
struct Heard {
    counts: Option<Counts>,
    /// `counts` are the last ones.
    is_final: bool,
    model: Option<String>,
    service_tier: Option<String>,
    content_bytes: u64,
    content_deltas: u64,
    requests: Option<u64>,
    /// `None`: as good as its transport.
    verdict: Option<Verdict>,
}

impl Usage {
    pub fn input_total(&self) -> u64 {
        [self.input, self.cached_input, self.cache_write, self.cache_write_1h, self.audio_input]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    pub fn output_total(&self) -> u64 {
        self.output.saturating_add(self.reasoning).saturating_add(self.audio_output)
    }

    pub fn total(&self) -> u64 {
        self.input_total().saturating_add(self.output_total())
    }
}

impl Quality {
    pub fn name(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Partial => "partial",
            Self::Estimated => "estimated",
            Self::Absent => "absent",
        }
    }
}

impl Verdict {
    pub fn is_finished(self) -> bool {
        self == Self::Finished
    }
}

impl AnswerReader {
    /// `framing`: the answer's own, see [`Framing::of_answer`].
    pub fn new(operation: Operation, framing: Framing) -> Self {
        let form = match (operation, framing) {
            (Operation::Other, _) => Form::Opaque,
            _ if said::reads(operation.dialect()) => {
                Form::Said(Box::new(said::Reader::new(operation, framing)))
            }
            (_, Framing::Events) => Form::Stream(Box::new(Stream::new(operation))),
            (_, Framing::Whole | Framing::Lines | Framing::Array) => {
                Form::Body(TailBuffer::default())
            }
        };
        Self { operation, output_bytes: 0, form }
    }

    /// What the head of a TGI answer says of its tokens.
    pub fn told(&mut self, input: Option<u64>, output: Option<u64>) {
        if let Form::Said(reader) = &mut self.form {
            reader.told(input, output);
        }
    }

    /// The next bytes of the body, without their content-encoding.
    pub fn push(&mut self, bytes: &[u8]) {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.output_bytes = self.output_bytes.saturating_add(len);
        match &mut self.form {
            Form::Opaque => {}
            Form::Body(body) => body.push(bytes),
            Form::Stream(stream) => stream.push(bytes),
            Form::Said(reader) => reader.push(bytes),
        }
    }

    /// There is no more; `complete` says whether the body ended as HTTP says it must.
    pub fn finish(self, complete: bool) -> Reading {
        let Self { operation, output_bytes, form } = self;
        let heard = match form {
            Form::Opaque => Heard::default(),
            Form::Body(body) => body::finish(operation, &body, complete),
            Form::Stream(stream) => stream.finish(complete),
            Form::Said(reader) => reader.finish(complete),
        };
        let verdict = heard.verdict.unwrap_or(match (complete, output_bytes) {
            (false, _) => Verdict::Unfinished(reason::CUT),
            (true, 0) => Verdict::Unfinished(reason::EMPTY),
            (true, _) => Verdict::Finished,
        });
        let mut heard = heard;
        let disbelieved = heard.disbelieve(operation);
        let (usage, quality, gaps) = heard.settle(operation, verdict, complete);
        Reading {
            usage,
            quality,
            model: heard.model,
            service_tier: heard.service_tier,
            output_bytes,
            content_deltas: heard.content_deltas,
            verdict,
            requests: heard
                .requests
                .filter(|requests| *requests <= TOKENS_BELIEVED_MAX)
                .unwrap_or(1),
            disbelieved,
            gaps,
        }
    }
}

impl Reading {
    /// Puts an estimate where the provider left out a number: an exchange in which
    /// something was asked or said never counts as zero tokens. Call it for the
    /// answers that are paid for (2xx); a refused call used nothing.
    #[must_use]
    pub fn fill_gaps(mut self, request_bytes: u64) -> Self {
        if self.gaps.input {
            self.usage.input = tokens_in(request_bytes);
        }
        self.usage.output = self.usage.output.saturating_add(self.gaps.output);
        if self.quality == Quality::Absent && self.gaps != Gaps::default() {
            self.quality = Quality::Estimated;
        }
        self.gaps = Gaps::default();
        self
    }
}

impl Heard {
    /// Forgets numbers that cannot be; says whether it did.
    fn disbelieve(&mut self, operation: Operation) -> bool {
        let counts = self.counts.as_ref();
        let total = counts.map_or(0, |counts| normal::buckets(operation, counts).0.total());
        let is_absurd = total > TOKENS_BELIEVED_MAX;
        if is_absurd {
            self.counts = None;
        }
        is_absurd
    }

    fn settle(
        &self,
        operation: Operation,
        verdict: Verdict,
        complete: bool,
    ) -> (Usage, Quality, Gaps) {
        if !has_tokens(operation) {
            return (Usage::default(), Quality::Absent, Gaps::default());
        }
        let counted = if writes_text(operation) {
            tokens_in(self.content_bytes).max(self.content_deltas)
        } else {
            0
        };
        let Some(counts) = &self.counts else {
            let has_failed = verdict == Verdict::Unfinished(reason::ERROR);
            return match (complete, has_failed && self.content_deltas == 0) {
                (_, true) => (Usage::default(), Quality::Absent, Gaps::default()),
                (true, false) => {
                    let gaps = Gaps { input: true, output: counted };
                    (Usage::default(), Quality::Absent, gaps)
                }
                (false, false) => {
                    let usage = Usage { output: counted, ..Usage::default() };
                    (usage, Quality::Partial, Gaps { input: true, output: 0 })
                }
            };
        };
        let (mut usage, adds_up) = normal::buckets(operation, counts);
        let gaps = Gaps { input: !normal::says_input(counts), output: 0 };
        if !self.is_final {
            // The last running total may be older than the last words.
            let unreported = counted.saturating_sub(usage.output_total());
            usage.output = usage.output.saturating_add(unreported);
        }
        let is_whole = self.is_final && adds_up && !gaps.input;
        (usage, if is_whole { Quality::Reported } else { Quality::Partial }, gaps)
    }
}

/// Tokens to assume for so many bytes; only nothing is zero.
pub fn tokens_in(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

/// The provider charges by tokens. (Moderations and counting are free; Cohere charges a
/// rerank by searches.)
pub fn has_tokens(operation: Operation) -> bool {
    match operation {
        Operation::OpenAiChat
        | Operation::OpenAiCompletions
        | Operation::OpenAiResponses
        | Operation::OpenAiEmbeddings
        | Operation::OpenAiRerank
        | Operation::AnthropicMessages
        | Operation::GeminiGenerate
        | Operation::GeminiEmbed
        | Operation::OllamaChat
        | Operation::OllamaGenerate
        | Operation::OllamaEmbed
        | Operation::CohereChat
        | Operation::CohereChatV1
        | Operation::CohereEmbed
        | Operation::TgiGenerate
        | Operation::TgiRoot => true,
        Operation::OpenAiModerations
        | Operation::AnthropicCountTokens
        | Operation::GeminiCountTokens
        | Operation::CohereRerank
        | Operation::Other => false,
    }
}

/// The answer is words, not numbers about them.
pub fn writes_text(operation: Operation) -> bool {
    let is_of_numbers = matches!(
        operation,
        Operation::OpenAiEmbeddings
            | Operation::OpenAiRerank
            | Operation::GeminiEmbed
            | Operation::OllamaEmbed
            | Operation::CohereEmbed
    );
    has_tokens(operation) && !is_of_numbers
}

/// The property that unit tests, properties and the fuzz target share: where the
/// network cuts an answer must not change what is billed or stored, whatever the
/// dialect, and whether it is a stream or not.
///
/// # Panics
/// If it does.
#[doc(hidden)]
pub fn assert_cuts_do_not_matter(answer: &[u8], chunk_len: usize) {
    use Framing::{Array, Events, Lines, Whole};
    for (operation, framings) in [
        (Operation::OpenAiChat, &[Whole, Events][..]),
        (Operation::OpenAiResponses, &[Whole, Events]),
        (Operation::OpenAiEmbeddings, &[Whole, Events]),
        (Operation::AnthropicMessages, &[Whole, Events]),
        (Operation::GeminiGenerate, &[Whole, Array]),
        (Operation::OllamaChat, &[Lines]),
        (Operation::CohereChat, &[Events]),
        (Operation::CohereChatV1, &[Whole, Events, Lines]),
        (Operation::TgiRoot, &[Whole, Events]),
    ] {
        for (framing, complete) in framings.iter().flat_map(|one| [(*one, true), (*one, false)]) {
            let mut whole = AnswerReader::new(operation, framing);
            whole.push(answer);
            let mut pieces = AnswerReader::new(operation, framing);
            for chunk in answer.chunks(chunk_len.max(1)) {
                pieces.push(chunk);
            }
            let (whole, pieces) = (whole.finish(complete), pieces.finish(complete));
            assert_eq!(whole, pieces, "cut into {chunk_len} byte chunks");
        }
    }
}

#[cfg(test)]
mod tests;
