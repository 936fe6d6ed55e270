//! Anthropic messages: `message_start` … `message_stop` and the whole message.
//!
//! A block begins with an object that has all of its members, only its text (or
//! thinking, or input) still empty; so a block is read the same way in both forms
//! and grows by its deltas in the streamed one. Known are text, thinking, redacted
//! thinking and tool use; citations, server tools and other blocks make the
//! conversion end.
//!
//! Usage in a stream is cumulative per member: a later value replaces, `null` or
//! absent keeps (`metering.md`, B2).

use super::carried::{Carried, Known, Rule};
use super::raw::{Object, Raw, quoted, take_out};
use super::sse;

/// What is known from the start.
const HEAD: Known = &[("id", Rule::Text), ("model", Rule::Text)];

/// What is known at the end, and `null` before.
const END: Known = &[
    ("stop_reason", Rule::Text),
    ("stop_sequence", Rule::Text),
    ("stop_details", Rule::Any),
    ("container", Rule::Any),
];

/// Members of the message that we only know as empty.
const EMPTY: Known = &[("context_management", Rule::Nothing)];

/// Members of usage that are final only at the end.
const USAGE_OF_OUTPUT: [&str; 3] = [OUTPUT_TOKENS, "output_tokens_details", "server_tool_use"];
const OUTPUT_TOKENS: &str = "output_tokens";

pub(super) fn stream_to_whole(frames: &[u8]) -> Option<Vec<u8>> {
    let mut message = Message::new();
    for event in sse::events(frames)? {
        let data = Raw::parse(event.data.as_bytes())?;
        message.take_event(event.name.as_deref(), data)?;
    }
    (message.phase == Phase::Stopped).then(|| message.whole())?.map(String::into_bytes)
}

pub(super) fn whole_to_stream(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut message = Message::new();
    message.take_message(Raw::parse(body)?)?;
    message.stream()
}

/// How far a stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Before,
    Between,
    InBlock,
    Stopped,
}

#[derive(Debug)]
struct Message {
    phase: Phase,
    head: Carried,
    end: Carried,
    empty: Carried,
    blocks: Vec<Block>,
    /// Name and compact JSON.
    usage: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    RedactedThinking,
    ToolUse,
}

#[derive(Debug)]
struct Block {
    kind: Kind,
    /// What its start says once and for all.
    fixed: Carried,
    /// The text, the thinking, or the JSON of the input.
    grown: String,
    /// Of thinking; absent where the server gives none.
    signature: Option<String>,
}

impl Message {
    fn new() -> Self {
        Self {
            phase: Phase::Before,
            head: Carried::new(HEAD),
            end: Carried::new(END),
            empty: Carried::new(EMPTY),
            blocks: Vec::new(),
            usage: Vec::new(),
        }
    }

    fn take_event(&mut self, name: Option<&str>, data: Raw<'_>) -> Option<()> {
        let mut members = data.unique_members()?;
        let kind = take_out(&mut members, "type")?.string()?;
        if name.is_some_and(|name| name != kind) {
            return None;
        }
        match (kind.as_str(), self.phase) {
            ("ping", _) => {}
            ("message_start", Phase::Before) => {
                self.take_message(take_out(&mut members, "message")?)?;
                if !self.blocks.is_empty() || self.end.says("stop_reason") {
                    return None;
                }
                self.phase = Phase::Between;
            }
            ("content_block_start", Phase::Between) => {
                self.take_index(&mut members, self.blocks.len())?;
                self.blocks.push(Block::read(take_out(&mut members, "content_block")?)?);
                self.phase = Phase::InBlock;
            }
            ("content_block_delta", Phase::InBlock) => {
                self.take_index(&mut members, self.blocks.len().checked_sub(1)?)?;
                let delta = take_out(&mut members, "delta")?;
                self.blocks.last_mut()?.take_delta(delta)?;
            }
            ("content_block_stop", Phase::InBlock) => {
                self.take_index(&mut members, self.blocks.len().checked_sub(1)?)?;
                self.phase = Phase::Between;
            }
            ("message_delta", Phase::Between) => self.take_message_delta(&mut members)?,
            ("message_stop", Phase::Between) => self.phase = Phase::Stopped,
            _ => return None,
        }
        members.is_empty().then_some(())
    }

    fn take_index(&self, members: &mut Vec<(String, Raw<'_>)>, expected: usize) -> Option<()> {
        let index: usize = take_out(members, "index")?.text().parse().ok()?;
        (index == expected).then_some(())
    }

    fn take_message_delta(&mut self, members: &mut Vec<(String, Raw<'_>)>) -> Option<()> {
        for (name, value) in take_out(members, "delta")?.unique_members()? {
            self.end.take(&name, value)?;
        }
        if let Some(usage) = take_out(members, "usage") {
            self.take_usage(usage)?;
        }
        if let Some(value) = take_out(members, "context_management") {
            self.empty.take("context_management", value)?;
        }
        Some(())
    }

    /// The whole message, or the one of `message_start`.
    fn take_message(&mut self, message: Raw<'_>) -> Option<()> {
        let mut members = message.unique_members()?;
        let kind = take_out(&mut members, "type")?.string()?;
        let role = take_out(&mut members, "role")?.string()?;
        if kind != "message" || role != "assistant" {
            return None;
        }
        for block in take_out(&mut members, "content")?.elements()? {
            self.blocks.push(Block::read(block)?);
        }
        for (name, value) in members {
            match name.as_str() {
                "id" | "model" => self.head.take(&name, value)?,
                "usage" => self.take_usage(value)?,
                "context_management" => self.empty.take(&name, value)?,
                other => self.end.take(other, value)?,
            }
        }
        Some(())
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

    /// It came to its end, and nothing is missing that a caller counts on.
    fn is_finished(&self) -> bool {
        let output = self.usage.iter().find(|(name, _)| name == OUTPUT_TOKENS);
        self.head.says_all(&["id", "model"])
            && self.end.says("stop_reason")
            && output.is_some_and(|(_, tokens)| tokens != "null")
    }

    fn whole(&self) -> Option<String> {
        if !self.is_finished() {
            return None;
        }
        let blocks: Option<Vec<String>> = self.blocks.iter().map(Block::whole).collect();
        let mut body = Object::new();
        self.write_head(&mut body, &format!("[{}]", blocks?.join(",")));
        self.end.write(&mut body);
        body.raw("usage", &usage_json(&self.usage));
        self.empty.write(&mut body);
        Some(body.end())
    }

    fn stream(&self) -> Option<Vec<Vec<u8>>> {
        if !self.is_finished() {
            return None;
        }
        let (at_end, mut at_start): (Vec<_>, Vec<_>) = self
            .usage
            .iter()
            .cloned()
            .partition(|(name, _)| USAGE_OF_OUTPUT.contains(&name.as_str()));
        // Nothing is out yet when a message starts.
        at_start.push((OUTPUT_TOKENS.to_owned(), "0".to_owned()));

        let mut message = Object::new();
        self.write_head(&mut message, "[]");
        self.end.write_nulls(&mut message);
        message.raw("usage", &usage_json(&at_start));
        self.empty.write(&mut message);
        let mut frames = vec![frame("message_start", "message", &message.end())];

        for (index, block) in self.blocks.iter().enumerate() {
            block.stream(index, &mut frames)?;
        }

        let mut delta = Object::new();
        self.end.write(&mut delta);
        let mut end = event("message_delta");
        end.raw("delta", &delta.end());
        end.raw("usage", &usage_json(&at_end));
        frames.push(sse::frame(Some("message_delta"), &end.end()));
        frames.push(sse::frame(Some("message_stop"), &event("message_stop").end()));
        Some(frames)
    }

    fn write_head(&self, object: &mut Object, content: &str) {
        object.string("type", "message");
        object.string("role", "assistant");
        self.head.write(object);
        object.raw("content", content);
    }
}

impl Block {
    /// A block of a whole message, or the one of `content_block_start`.
    fn read(block: Raw<'_>) -> Option<Self> {
        let mut members = block.unique_members()?;
        let kind = Kind::of(&take_out(&mut members, "type")?.string()?)?;
        let grown = match kind {
            Kind::Text => take_out(&mut members, "text")?.string()?,
            Kind::Thinking => take_out(&mut members, "thinking")?.string()?,
            Kind::RedactedThinking => String::new(),
            Kind::ToolUse => {
                let input = take_out(&mut members, "input").filter(|input| input.is_object())?;
                // The start of a streamed input, and all of an empty one.
                if input.compact() == "{}" { String::new() } else { input.text().to_owned() }
            }
        };
        let signature = match take_out(&mut members, "signature") {
            Some(signature) if kind == Kind::Thinking => Some(signature.string()?),
            Some(_) => return None,
            None => None,
        };
        let mut fixed = Carried::new(kind.fixed());
        for (name, value) in members {
            fixed.take(&name, value)?;
        }
        fixed.says_all(kind.required()).then_some(Self { kind, fixed, grown, signature })
    }

    fn take_delta(&mut self, delta: Raw<'_>) -> Option<()> {
        let mut members = delta.unique_members()?;
        let kind = take_out(&mut members, "type")?.string()?;
        let (name, value) = members.pop().filter(|_| members.is_empty())?;
        let value = value.string()?;
        match (self.kind, kind.as_str(), name.as_str()) {
            (Kind::Text, "text_delta", "text")
            | (Kind::Thinking, "thinking_delta", "thinking")
            | (Kind::ToolUse, "input_json_delta", "partial_json") => self.grown.push_str(&value),
            // Signatures come in one piece; of two we would not know the meaning.
            (Kind::Thinking, "signature_delta", "signature")
                if self.signature.as_ref().is_none_or(String::is_empty) =>
            {
                self.signature = Some(value);
            }
            _ => return None,
        }
        Some(())
    }

    fn whole(&self) -> Option<String> {
        self.json(&self.grown, self.signature.as_deref())
    }

    /// `None` if `grown` is meant as JSON and is none: an input that was cut.
    fn json(&self, grown: &str, signature: Option<&str>) -> Option<String> {
        let mut block = Object::new();
        block.string("type", self.kind.name());
        self.fixed.write(&mut block);
        match self.kind {
            Kind::Text => block.string("text", grown),
            Kind::Thinking => block.string("thinking", grown),
            Kind::RedactedThinking => {}
            Kind::ToolUse => {
                let input = if grown.is_empty() { "{}" } else { grown };
                let input = Raw::parse(input.as_bytes()).filter(|input| input.is_object())?;
                block.raw("input", &input.compact());
            }
        }
        if let Some(signature) = signature {
            block.string("signature", signature);
        }
        Some(block.end())
    }

    fn stream(&self, index: usize, frames: &mut Vec<Vec<u8>>) -> Option<()> {
        let index = index.to_string();
        let start = self.json("", self.signature.as_ref().map(|_| ""))?;
        let mut first = event("content_block_start");
        first.raw("index", &index);
        first.raw("content_block", &start);
        frames.push(sse::frame(Some("content_block_start"), &first.end()));

        let grown = match self.kind {
            Kind::Text => ("text_delta", "text", &self.grown),
            Kind::Thinking => ("thinking_delta", "thinking", &self.grown),
            Kind::RedactedThinking | Kind::ToolUse => {
                ("input_json_delta", "partial_json", &self.grown)
            }
        };
        let signature = self.signature.as_ref().map(|s| ("signature_delta", "signature", s));
        for (kind, name, value) in std::iter::once(grown).chain(signature) {
            if !value.is_empty() {
                let mut delta = event("content_block_delta");
                delta.raw("index", &index);
                let value = quoted(value);
                delta.raw("delta", &format!(r#"{{"type":"{kind}","{name}":{value}}}"#));
                frames.push(sse::frame(Some("content_block_delta"), &delta.end()));
            }
        }
        frames.push(frame("content_block_stop", "index", &index));
        Some(())
    }
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        [Self::Text, Self::Thinking, Self::RedactedThinking, Self::ToolUse]
            .into_iter()
            .find(|kind| kind.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Thinking => "thinking",
            Self::RedactedThinking => "redacted_thinking",
            Self::ToolUse => "tool_use",
        }
    }

    fn fixed(self) -> Known {
        match self {
            Self::Text => &[("citations", Rule::Nothing)],
            Self::Thinking => &[],
            Self::RedactedThinking => &[("data", Rule::Text)],
            Self::ToolUse => &[("id", Rule::Text), ("name", Rule::Text), ("caller", Rule::Any)],
        }
    }

    fn required(self) -> &'static [&'static str] {
        match self {
            Self::Text | Self::Thinking => &[],
            Self::RedactedThinking => &["data"],
            Self::ToolUse => &["id", "name"],
        }
    }
}

fn usage_json(usage: &[(String, String)]) -> String {
    let mut object = Object::new();
    for (name, value) in usage {
        object.raw(name, value);
    }
    object.end()
}

fn event(kind: &str) -> Object {
    let mut event = Object::new();
    event.string("type", kind);
    event
}

/// An event with one member beside its type.
fn frame(kind: &str, name: &str, json: &str) -> Vec<u8> {
    let mut event = event(kind);
    event.raw(name, json);
    sse::frame(Some(kind), &event.end())
}
