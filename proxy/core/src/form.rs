//! The two forms of one answer (a stream of events, a whole JSON body), and what
//! of a request decides which of them its caller wants.
//!
//! An answer recorded in one form serves callers of the other, so both converters
//! must be exact. They read with lists of the members they know and carry numbers
//! and foreign objects as their own bytes; whatever is on no list makes the answer
//! `None`, which the cache treats as a miss. **Invariant:** never a lossy answer.
//!
//! Two converters rather than one neutral model of an answer: the dialects differ
//! in exactly the details (null members, block starts, cumulative usage) that a
//! neutral model would smooth over, and smoothing is loss.

mod raw;
mod sse;
mod carried;
mod openai;
mod completions;
mod anthropic;
mod responses;
mod gemini;
mod ollama;
mod cohere;
mod cohere_v1;
mod tgi;
mod boundary;
mod filter;
mod inject;
mod request;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod golden_responses;
#[cfg(test)]
mod golden_others;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod round_trip_others;

pub use filter::{Filtered, Keep, UsageFilter, assert_filter_cuts_do_not_matter};
pub use inject::{inject_usage, rename_model};
pub use request::{MODEL_LEN_MAX, NotJson, NotPure, RequestFacts, read_request};

use crate::dialect::{Dialect, Framing, Operation};

/// The whole JSON answer that a complete, recorded stream amounts to.
///
/// `None`: no converter for `operation`, the stream is not complete, it says no
/// usage (a caller of the whole form would miss it), or it holds something the
/// converter does not know.
pub fn stream_to_whole(operation: Operation, frames: &[u8]) -> Option<Vec<u8>> {
    match operation {
        Operation::OpenAiChat => openai::stream_to_whole(frames, true),
        Operation::OpenAiCompletions => completions::stream_to_whole(frames, true),
        Operation::OpenAiResponses => responses::stream_to_whole(frames),
        Operation::AnthropicMessages => anthropic::stream_to_whole(frames),
        Operation::GeminiGenerate => gemini::stream_to_whole(frames),
        Operation::OllamaChat => ollama::stream_to_whole(true, frames),
        Operation::OllamaGenerate => ollama::stream_to_whole(false, frames),
        Operation::CohereChat => cohere::stream_to_whole(frames),
        Operation::CohereChatV1 => cohere_v1::stream_to_whole(frames),
        Operation::TgiGenerate => tgi::stream_to_whole(frames, false),
        Operation::TgiRoot => tgi::stream_to_whole(frames, true),
        Operation::OpenAiEmbeddings
        | Operation::OpenAiModerations
        | Operation::OpenAiRerank
        | Operation::AnthropicCountTokens
        | Operation::GeminiCountTokens
        | Operation::GeminiEmbed
        | Operation::OllamaEmbed
        | Operation::CohereEmbed
        | Operation::CohereRerank
        | Operation::Other => None,
    }
}

/// What a complete, recorded stream says, to be read and given to nobody: as
/// [`stream_to_whole`], also where it says no usage.
pub fn stream_to_read(operation: Operation, frames: &[u8]) -> Option<Vec<u8>> {
    if operation == Operation::OpenAiChat {
        openai::stream_to_whole(frames, false)
    } else if operation == Operation::OpenAiCompletions {
        completions::stream_to_whole(frames, false)
    } else {
        stream_to_whole(operation, frames)
    }
}

/// The stream, one element per event or line, that the provider would have sent
/// instead of the whole answer `body`. An OpenAI stream has its usage chunk; for a
/// caller that did not ask for it, send the frames through a [`UsageFilter`]. Where a
/// dialect has two framings of a stream it is the one of events; see [`reframe`].
///
/// `None` as for [`stream_to_whole`].
pub fn whole_to_stream(operation: Operation, body: &[u8]) -> Option<Vec<Vec<u8>>> {
    match operation {
        Operation::OpenAiChat => openai::whole_to_stream(body),
        Operation::OpenAiCompletions => completions::whole_to_stream(body),
        Operation::OpenAiResponses => responses::whole_to_stream(body),
        Operation::AnthropicMessages => anthropic::whole_to_stream(body),
        Operation::GeminiGenerate => gemini::whole_to_stream(body),
        Operation::OllamaChat => ollama::whole_to_stream(true, body),
        Operation::OllamaGenerate => ollama::whole_to_stream(false, body),
        Operation::CohereChat => cohere::whole_to_stream(body),
        Operation::CohereChatV1 => cohere_v1::whole_to_stream(body),
        Operation::OpenAiEmbeddings
        | Operation::OpenAiModerations
        | Operation::OpenAiRerank
        | Operation::AnthropicCountTokens
        | Operation::GeminiCountTokens
        | Operation::GeminiEmbed
        | Operation::OllamaEmbed
        | Operation::CohereEmbed
        | Operation::CohereRerank
        | Operation::TgiGenerate
        | Operation::TgiRoot
        | Operation::Other => None,
    }
}

/// The framing of a recorded stream, where its dialect has several; else the only one.
pub fn framing_of_stream(operation: Operation, stream: &[u8]) -> Framing {
    if operation == Operation::CohereChatV1 {
        return cohere_v1::framing(stream);
    }
    match operation.dialect() {
        Dialect::Gemini => gemini::framing(stream),
        Dialect::Ollama => Framing::Lines,
        Dialect::OpenAi | Dialect::Anthropic | Dialect::Cohere | Dialect::Tgi | Dialect::Http => {
            Framing::Events
        }
    }
}

/// The framing of what [`whole_to_stream`] makes.
pub fn framing_of_made(operation: Operation) -> Framing {
    if operation.dialect() == Dialect::Ollama { Framing::Lines } else { Framing::Events }
}

/// A recorded stream in another framing, `None` where its dialect has one only.
pub fn reframe(operation: Operation, stream: &[u8], wanted: Framing) -> Option<Vec<Vec<u8>>> {
    if operation == Operation::CohereChatV1 {
        return cohere_v1::reframe(stream, wanted);
    }
    if operation.dialect() == Dialect::Gemini { gemini::reframe(stream, wanted) } else { None }
}

/// What the unit tests, properties and the fuzz target share: whatever whole answer a
/// converter makes of some bytes, its own stream of it is that answer again.
///
/// # Panics
/// If it is not.
#[doc(hidden)]
pub fn assert_forms_agree(answer: &[u8]) {
    let parsed = |body: &[u8]| serde_json::from_slice::<serde_json::Value>(body).ok();
    for operation in [
        Operation::OpenAiChat,
        Operation::OpenAiCompletions,
        Operation::OpenAiResponses,
        Operation::AnthropicMessages,
        Operation::GeminiGenerate,
        Operation::OllamaChat,
        Operation::OllamaGenerate,
        Operation::CohereChat,
        Operation::CohereChatV1,
        Operation::TgiGenerate,
    ] {
        let Some(whole) = stream_to_whole(operation, answer) else { continue };
        // Not every whole answer has a stream.
        let Some(frames) = whole_to_stream(operation, &whole) else { continue };
        let back = stream_to_whole(operation, &frames.concat());
        let back = back.as_deref().and_then(parsed);
        assert!(back == parsed(&whole), "{operation:?}: another answer came back");
    }
}
