//! Cohere's second chat API: `message-start` … `message-end` and the whole message.
//!
//! A block of content begins empty and grows; a plan and the arguments of a call grow; a
//! citation comes whole. What is empty at the start of a stream a whole message leaves
//! out. Logprobs, sources of other kinds and members we never heard of end the
//! conversion. Shapes: docs.cohere.com/reference/chat-stream and /v2/docs/streaming.

use super::raw::{Object, Raw, quoted, take_out};
use super::sse;

type Members<'a> = Vec<(String, Raw<'a>)>;

pub(super) fn stream_to_whole(frames: &[u8]) -> Option<Vec<u8>> {
    let mut message = Message::default();
    for event in sse::events(frames)? {
        let data = Raw::parse(event.data.as_bytes())?;
        message.take_event(event.name.as_deref(), data)?;
    }
    message.whole().map(String::into_bytes)
}

pub(super) fn whole_to_stream(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut message = Message::default();
    message.take_whole(Raw::parse(body)?)?;
    message.stream()
}

#[derive(Debug, Default)]
struct Message {
    /// A JSON string.
    id: Option<String>,
    has_begun: bool,
    blocks: Vec<Block>,
    plan: String,
    calls: Vec<Call>,
    /// Compact JSON.
    citations: Vec<String>,
    /// Why it ended and what it used, both JSON.
    end: Option<(String, String)>,
}

#[derive(Debug)]
struct Block {
    /// `text` or `thinking`: its type, and the member that grows.
    kind: &'static str,
    text: String,
}

#[derive(Debug)]
struct Call {
    /// JSON strings.
    id: String,
    name: String,
    arguments: String,
}

impl Message {
    fn take_event(&mut self, name: Option<&str>, data: Raw<'_>) -> Option<()> {
        // Nothing may be said behind the end, or the end was not one.
        if self.end.is_some() {
            return None;
        }
        let mut members = data.unique_members()?;
        let kind = take_out(&mut members, "type")?.string()?;
        if name.is_some_and(|name| name != kind) || self.has_begun == (kind == "message-start") {
            return None;
        }
        let place = match take_out(&mut members, "index") {
            Some(place) => Some(place.text().parse::<usize>().ok()?),
            None => None,
        };
        let id = take_out(&mut members, "id");
        let delta = take_out(&mut members, "delta");
        if !members.is_empty() {
            return None;
        }
        match kind.as_str() {
            "message-start" => {
                self.id = Some(id.filter(|id| id.is_string())?.compact());
                self.has_begun = true;
                begins_empty(&mut message_of(delta)?)
            }
            "message-end" => self.take_end(delta?.unique_members()?),
            "content-end" | "tool-call-end" | "citation-end" => delta.is_none().then_some(()),
            _ => self.take_part(&kind, place, message_of(delta)?),
        }
    }

    /// One part of what is said: a delta's message has that member only.
    fn take_part(
        &mut self,
        kind: &str,
        place: Option<usize>,
        mut message: Members<'_>,
    ) -> Option<()> {
        let (_, part) = message.pop().filter(|(name, _)| name == member_of(kind))?;
        if !message.is_empty() {
            return None;
        }
        match kind {
            "content-start" if place? == self.blocks.len() => {
                self.blocks.push(Block::read(part)?);
            }
            "content-delta" => {
                let block = self.blocks.get_mut(place?)?;
                let mut members = part.unique_members()?;
                take_out(&mut members, "type");
                block.text.push_str(&take_out(&mut members, block.kind)?.string()?);
                return members.is_empty().then_some(());
            }
            "tool-plan-delta" => self.plan.push_str(&part.string()?),
            "tool-call-start" if place? == self.calls.len() => self.calls.push(Call::read(part)?),
            "tool-call-delta" => {
                let call = self.calls.get_mut(place?)?;
                let mut members = part.unique_members()?;
                let mut function = take_out(&mut members, "function")?.unique_members()?;
                call.arguments.push_str(&take_out(&mut function, "arguments")?.string()?);
                return (members.is_empty() && function.is_empty()).then_some(());
            }
            "citation-start" if place? == self.citations.len() && part.is_object() => {
                self.citations.push(part.compact());
            }
            _ => return None,
        }
        Some(())
    }

    fn take_end(&mut self, mut members: Members<'_>) -> Option<()> {
        let reason = take_out(&mut members, "finish_reason").filter(|reason| reason.is_string())?;
        let usage = take_out(&mut members, "usage").filter(|usage| usage.is_object())?;
        self.end = Some((reason.compact(), usage.compact()));
        members.is_empty().then_some(())
    }

    fn take_whole(&mut self, body: Raw<'_>) -> Option<()> {
        let mut members = body.unique_members()?;
        self.id = Some(take_out(&mut members, "id").filter(|id| id.is_string())?.compact());
        let mut message = take_out(&mut members, "message")?.unique_members()?;
        if take_out(&mut message, "role")?.string()? != "assistant" {
            return None;
        }
        for (name, value) in message {
            match name.as_str() {
                _ if value.is_null() => {}
                "tool_plan" => self.plan = value.string()?,
                "content" => {
                    for block in value.elements()? {
                        self.blocks.push(Block::read(block)?);
                    }
                }
                "tool_calls" => {
                    for call in value.elements()? {
                        self.calls.push(Call::read(call)?);
                    }
                }
                "citations" => {
                    self.citations = value.elements()?.into_iter().map(Raw::compact).collect();
                }
                _ => return None,
            }
        }
        self.take_end(members)
    }

    fn whole(&self) -> Option<String> {
        let (reason, usage) = self.end.as_ref()?;
        let list = |items: Vec<String>| format!("[{}]", items.join(","));
        let mut message = Object::new();
        message.string("role", "assistant");
        if !self.plan.is_empty() {
            message.string("tool_plan", &self.plan);
        }
        if !self.calls.is_empty() {
            message.raw("tool_calls", &list(self.calls.iter().map(Call::whole).collect()));
        }
        if !self.blocks.is_empty() {
            let blocks = self.blocks.iter().map(|block| block.json(&block.text)).collect();
            message.raw("content", &list(blocks));
        }
        if !self.citations.is_empty() {
            message.raw("citations", &list(self.citations.clone()));
        }
        let mut body = Object::new();
        body.raw("id", self.id.as_ref()?);
        body.raw("message", &message.end());
        body.raw("finish_reason", reason);
        body.raw("usage", usage);
        Some(body.end())
    }

    fn stream(&self) -> Option<Vec<Vec<u8>>> {
        let (reason, usage) = self.end.as_ref()?;
        let start =
            r#"{"role":"assistant","content":[],"tool_plan":"","tool_calls":[],"citations":[]}"#;
        let mut first = Object::new();
        first.raw("id", self.id.as_ref()?);
        first.string("type", "message-start");
        first.raw("delta", &format!(r#"{{"message":{start}}}"#));
        let mut frames = vec![sse::frame(Some("message-start"), &first.end())];
        if !self.plan.is_empty() {
            frames.push(part("tool-plan-delta", None, &quoted(&self.plan)));
        }
        for (place, call) in self.calls.iter().enumerate() {
            frames.push(part("tool-call-start", Some(place), &call.json("")));
            if !call.arguments.is_empty() {
                let arguments = quoted(&call.arguments);
                let more = format!(r#"{{"function":{{"arguments":{arguments}}}}}"#);
                frames.push(part("tool-call-delta", Some(place), &more));
            }
            frames.push(ended("tool-call-end", place));
        }
        for (place, block) in self.blocks.iter().enumerate() {
            frames.push(part("content-start", Some(place), &block.json("")));
            if !block.text.is_empty() {
                let (kind, text) = (block.kind, quoted(&block.text));
                let more = format!(r#"{{"{kind}":{text}}}"#);
                frames.push(part("content-delta", Some(place), &more));
            }
            frames.push(ended("content-end", place));
        }
        for (place, citation) in self.citations.iter().enumerate() {
            frames.push(part("citation-start", Some(place), citation));
            frames.push(ended("citation-end", place));
        }
        let delta = format!(r#"{{"finish_reason":{reason},"usage":{usage}}}"#);
        let mut last = Object::new();
        last.string("type", "message-end");
        last.raw("delta", &delta);
        frames.push(sse::frame(Some("message-end"), &last.end()));
        Some(frames)
    }
}

impl Block {
    fn read(block: Raw<'_>) -> Option<Self> {
        let mut members = block.unique_members()?;
        let kind = match take_out(&mut members, "type")?.string()?.as_str() {
            "text" => "text",
            "thinking" => "thinking",
            _ => return None,
        };
        let text = take_out(&mut members, kind)?.string()?;
        members.is_empty().then_some(Self { kind, text })
    }

    fn json(&self, text: &str) -> String {
        let mut block = Object::new();
        block.string("type", self.kind);
        block.string(self.kind, text);
        block.end()
    }
}

impl Call {
    fn read(call: Raw<'_>) -> Option<Self> {
        let mut members = call.unique_members()?;
        let id = take_out(&mut members, "id").filter(|id| id.is_string())?.compact();
        let is_function = take_out(&mut members, "type")?.string()? == "function";
        let mut function = take_out(&mut members, "function")?.unique_members()?;
        let name = take_out(&mut function, "name").filter(|name| name.is_string())?.compact();
        let arguments = take_out(&mut function, "arguments")?.string()?;
        let is_known = is_function && members.is_empty() && function.is_empty();
        is_known.then_some(Self { id, name, arguments })
    }

    fn whole(&self) -> String {
        self.json(&self.arguments)
    }

    fn json(&self, arguments: &str) -> String {
        let (id, name, arguments) = (&self.id, &self.name, quoted(arguments));
        let function = format!(r#"{{"name":{name},"arguments":{arguments}}}"#);
        format!(r#"{{"id":{id},"type":"function","function":{function}}}"#)
    }
}

/// The members of the message in a delta.
fn message_of(delta: Option<Raw<'_>>) -> Option<Members<'_>> {
    let mut members = delta?.unique_members()?;
    let message = take_out(&mut members, "message")?.unique_members()?;
    members.is_empty().then_some(message)
}

/// A message that begins with something in it is not told so by anybody we know.
fn begins_empty(message: &mut Members<'_>) -> Option<()> {
    if take_out(message, "role")?.string()? != "assistant" {
        return None;
    }
    let is_empty = |value: &Raw<'_>| matches!(value.compact().as_str(), "[]" | r#""""# | "null");
    let names = ["content", "tool_plan", "tool_calls", "citations"];
    let known = |(name, value): &(String, Raw<'_>)| names.contains(&&**name) && is_empty(value);
    message.iter().all(known).then_some(())
}

/// The member of a message that events of a kind are about.
fn member_of(kind: &str) -> &'static str {
    match kind {
        "content-start" | "content-delta" => "content",
        "tool-plan-delta" => "tool_plan",
        "tool-call-start" | "tool-call-delta" => "tool_calls",
        "citation-start" => "citations",
        _ => "",
    }
}

fn part(kind: &str, place: Option<usize>, json: &str) -> Vec<u8> {
    let mut event = Object::new();
    event.string("type", kind);
    if let Some(place) = place {
        event.raw("index", &place.to_string());
    }
    let member = member_of(kind);
    event.raw("delta", &format!(r#"{{"message":{{"{member}":{json}}}}}"#));
    sse::frame(Some(kind), &event.end())
}

fn ended(kind: &str, place: usize) -> Vec<u8> {
    let mut event = Object::new();
    event.string("type", kind);
    event.raw("index", &place.to_string());
    sse::frame(Some(kind), &event.end())
}
