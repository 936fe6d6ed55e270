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
mod anthropic;
mod responses;
mod boundary;
mod filter;
mod inject;
mod request;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod golden_responses;
#[cfg(test)]
mod round_trip;

pub use filter::{Filtered, Keep, UsageFilter, assert_filter_cuts_do_not_matter};
pub use inject::inject_usage;
pub use request::{MODEL_LEN_MAX, NotJson, NotPure, RequestFacts, read_request};

use crate::dialect::Operation;

/// The whole JSON answer that a complete, recorded event stream amounts to.
///
/// `None`: no converter for `operation`, the stream is not complete, it says no
/// usage (a caller of the whole form would miss it), or it holds something the
/// converter does not know.
pub fn stream_to_whole(operation: Operation, frames: &[u8]) -> Option<Vec<u8>> {
    match operation {
        Operation::OpenAiChat => openai::stream_to_whole(frames),
        Operation::OpenAiResponses => responses::stream_to_whole(frames),
        Operation::AnthropicMessages => anthropic::stream_to_whole(frames),
        Operation::OpenAiCompletions
        | Operation::OpenAiEmbeddings
        | Operation::OpenAiModerations
        | Operation::OpenAiRerank
        | Operation::AnthropicCountTokens
        | Operation::Other => None,
    }
}

/// The event stream, one element per event, that the provider would have sent
/// instead of the whole answer `body`. An OpenAI stream has its usage chunk; for a
/// caller that did not ask for it, send the frames through a [`UsageFilter`].
///
/// `None` as for [`stream_to_whole`].
pub fn whole_to_stream(operation: Operation, body: &[u8]) -> Option<Vec<Vec<u8>>> {
    match operation {
        Operation::OpenAiChat => openai::whole_to_stream(body),
        Operation::OpenAiResponses => responses::whole_to_stream(body),
        Operation::AnthropicMessages => anthropic::whole_to_stream(body),
        Operation::OpenAiCompletions
        | Operation::OpenAiEmbeddings
        | Operation::OpenAiModerations
        | Operation::OpenAiRerank
        | Operation::AnthropicCountTokens
        | Operation::Other => None,
    }
}
