//! Gemini: chunks of `GenerateContentResponse`, and the whole one.
//!
//! A chunk is itself such a response, of a piece of the answer. So the stream of a whole
//! answer is that answer in one event, with whatever members it has. The other way, what
//! is said across chunks is put together: text goes on with the text of the chunk before,
//! a call or a signature stands for itself (Google: parts with signatures are not to be
//! merged), usage is a snapshot of which the last value of each member counts. Several
//! candidates, logprobs, citations, grounding and members we never heard of have no such
//! rule, and end the conversion. Shapes: ai.google.dev/api/generate-content.
//!
//! A stream has two framings: events (`alt=sse`), and one JSON array as it comes. One is
//! told as the other chunk by chunk, without being understood.

use super::carried::{Carried, Known, Rule};
use super::raw::{Object, Raw, take_out};
use super::sse;
use crate::dialect::Framing;

/// What every chunk says of the answer.
const HEAD: Known =
    &[("modelVersion", Rule::Text), ("responseId", Rule::Text), ("createTime", Rule::Text)];

/// What is said of the candidate beside its content.
const CANDIDATE: Known = &[
    ("finishReason", Rule::Text),
    ("finishMessage", Rule::Text),
    ("index", Rule::FirstNumber),
    ("safetyRatings", Rule::Any),
    ("avgLogprobs", Rule::Any),
    ("citationMetadata", Rule::Nothing),
    ("groundingMetadata", Rule::Nothing),
    ("logprobsResult", Rule::Nothing),
];

/// Parts that are whole in one chunk.
const OPAQUE: [&str; 3] = ["functionCall", "executableCode", "codeExecutionResult"];

/// The framing that a recorded stream has.
pub(super) fn framing(stream: &[u8]) -> Framing {
    if stream.trim_ascii_start().starts_with(b"[") { Framing::Array } else { Framing::Events }
}

/// A recorded stream in the other framing.
pub(super) fn reframe(stream: &[u8], wanted: Framing) -> Option<Vec<Vec<u8>>> {
    let chunks = chunks(stream)?;
    match wanted {
        Framing::Events => Some(chunks.iter().map(|chunk| sse::frame(None, chunk)).collect()),
        Framing::Array => {
            let mut frames: Vec<Vec<u8>> = Vec::with_capacity(chunks.len() + 1);
            for (place, chunk) in chunks.iter().enumerate() {
                let before = if place == 0 { "[" } else { ",\n" };
                frames.push([before, chunk].concat().into_bytes());
            }
            frames.push(if chunks.is_empty() { b"[]".to_vec() } else { b"]".to_vec() });
            Some(frames)
        }
        Framing::Whole | Framing::Lines => None,
    }
}

/// The chunks of a stream, each a compact JSON text.
fn chunks(stream: &[u8]) -> Option<Vec<String>> {
    if framing(stream) == Framing::Array {
        return Some(Raw::parse(stream)?.elements()?.into_iter().map(Raw::compact).collect());
    }
    let mut chunks = Vec::new();
    for event in sse::events(stream)? {
        if event.name.is_some() {
            return None;
        }
        chunks.push(Raw::parse(event.data.as_bytes())?.compact());
    }
    Some(chunks)
}

pub(super) fn stream_to_whole(stream: &[u8]) -> Option<Vec<u8>> {
    let mut answer = Answer::new();
    for chunk in chunks(stream)? {
        answer.take(Raw::parse(chunk.as_bytes())?)?;
    }
    answer.whole().map(String::into_bytes)
}

pub(super) fn whole_to_stream(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let whole = Raw::parse(body)?;
    let mut members = whole.unique_members()?;
    take_out(&mut members, "usageMetadata").filter(|usage| usage.is_object())?;
    let candidates = take_out(&mut members, "candidates")?.elements()?;
    let has_ended = |candidate: &Raw<'_>| {
        let members = candidate.unique_members();
        members.is_some_and(|mut members| take_out(&mut members, "finishReason").is_some())
    };
    let is_finished = !candidates.is_empty()
        && candidates.iter().all(has_ended)
        && take_out(&mut members, "error").is_none();
    is_finished.then(|| vec![sse::frame(None, &whole.compact())])
}

#[derive(Debug)]
struct Answer {
    head: Carried,
    candidate: Carried,
    parts: Vec<Part>,
    /// Name and compact JSON.
    usage: Vec<(String, String)>,
}

#[derive(Debug)]
enum Part {
    /// Grows with the text of later chunks, if it has no signature.
    Text {
        text: String,
        /// As it was said, if it was.
        thought: Option<String>,
    },
    Fixed(String),
}

impl Answer {
    fn new() -> Self {
        Self {
            head: Carried::new(HEAD),
            candidate: Carried::new(CANDIDATE),
            parts: Vec::new(),
            usage: Vec::new(),
        }
    }

    fn take(&mut self, chunk: Raw<'_>) -> Option<()> {
        for (name, value) in chunk.unique_members()? {
            match name.as_str() {
                "candidates" => match value.elements()?.as_slice() {
                    [] => {}
                    [candidate] => self.take_candidate(*candidate)?,
                    _ => return None,
                },
                "usageMetadata" => self.take_usage(value)?,
                other => self.head.take(other, value)?,
            }
        }
        Some(())
    }

    fn take_candidate(&mut self, candidate: Raw<'_>) -> Option<()> {
        for (name, value) in candidate.unique_members()? {
            match name.as_str() {
                "content" => self.take_content(value)?,
                // Of a second candidate alone we would not know the first.
                "index" if value.text() != "0" => return None,
                other => self.candidate.take(other, value)?,
            }
        }
        Some(())
    }

    fn take_content(&mut self, content: Raw<'_>) -> Option<()> {
        for (name, value) in content.unique_members()? {
            match name.as_str() {
                "role" if value.string()? == "model" => {}
                "parts" => {
                    let is_first_chunk = self.parts.is_empty();
                    for (place, part) in value.elements()?.into_iter().enumerate() {
                        self.take_part(Part::read(part)?, !is_first_chunk && place == 0);
                    }
                }
                _ => return None,
            }
        }
        Some(())
    }

    /// `goes_on`: a chunk begins with it, so it may go on with what the one before said.
    fn take_part(&mut self, part: Part, goes_on: bool) {
        if let Part::Text { text, thought } = &part
            && goes_on
        {
            if let Some(Part::Text { text: said, thought: before }) = self.parts.last_mut()
                && before == thought
            {
                said.push_str(text);
                return;
            }
            // The last chunk often says that it says nothing.
            if text.is_empty() {
                return;
            }
        }
        self.parts.push(part);
    }

    fn take_usage(&mut self, usage: Raw<'_>) -> Option<()> {
        for (name, value) in usage.unique_members()? {
            match self.usage.iter_mut().find(|(said, _)| *said == name) {
                None => self.usage.push((name, value.compact())),
                Some((_, said)) if !value.is_null() => *said = value.compact(),
                Some(_) => {}
            }
        }
        Some(())
    }

    fn whole(&self) -> Option<String> {
        if !self.candidate.says("finishReason") || self.usage.is_empty() {
            return None;
        }
        let parts: Vec<String> = self.parts.iter().map(Part::json).collect();
        let mut content = Object::new();
        content.raw("parts", &format!("[{}]", parts.join(",")));
        content.string("role", "model");
        let mut candidate = Object::new();
        candidate.raw("content", &content.end());
        self.candidate.write(&mut candidate);
        let mut usage = Object::new();
        for (name, value) in &self.usage {
            usage.raw(name, value);
        }
        let mut body = Object::new();
        body.raw("candidates", &format!("[{}]", candidate.end()));
        body.raw("usageMetadata", &usage.end());
        self.head.write(&mut body);
        Some(body.end())
    }
}

impl Part {
    fn read(part: Raw<'_>) -> Option<Self> {
        let members = part.unique_members()?;
        let (mut text, mut thought, mut is_fixed, mut kinds) = (None, None, false, 0);
        for (name, value) in members {
            match name.as_str() {
                "text" => {
                    text = Some(value.string()?);
                    kinds += 1;
                }
                "thought" if matches!(value.text(), "true" | "false") => {
                    thought = Some(value.compact());
                }
                "thoughtSignature" if value.is_string() => is_fixed = true,
                other if OPAQUE.contains(&other) => {
                    // A call in pieces.
                    let mut inner = value.unique_members()?;
                    if take_out(&mut inner, "partialArgs").is_some()
                        || take_out(&mut inner, "willContinue").is_some()
                    {
                        return None;
                    }
                    is_fixed = true;
                    kinds += 1;
                }
                _ => return None,
            }
        }
        match text {
            Some(text) if kinds == 1 && !is_fixed => Some(Self::Text { text, thought }),
            _ if kinds <= 1 && is_fixed => Some(Self::Fixed(part.compact())),
            _ => None,
        }
    }

    fn json(&self) -> String {
        match self {
            Self::Fixed(json) => json.clone(),
            Self::Text { text, thought } => {
                let mut part = Object::new();
                part.string("text", text);
                if let Some(thought) = thought {
                    part.raw("thought", thought);
                }
                part.end()
            }
        }
    }
}
