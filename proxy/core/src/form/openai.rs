//! OpenAI chat: `chat.completion.chunk` events and `chat.completion`.
//!
//! Both forms are read into one [`Answer`] and written from it. It has room for
//! exactly one choice, text, reasoning, refusal and function calls; n > 1,
//! logprobs, audio, annotations and members of which we never heard have no room,
//! so an answer with them is not converted. Model servers say many members as
//! `null` or `[]`; these are carried, not dropped.
//!
//! The whole form loses in which order reasoning, text and calls came. That is the
//! provider's own loss, not ours: it would have sent the same whole answer.

use super::carried::{Carried, Known, Rule};
use super::raw::{Object, Raw, quoted};
use super::sse;

/// What every chunk and the whole answer say about the answer.
const ENVELOPE: Known = &[
    ("id", Rule::Text),
    ("created", Rule::FirstNumber),
    ("model", Rule::Text),
    ("service_tier", Rule::Text),
    ("system_fingerprint", Rule::Text),
    ("prompt_logprobs", Rule::Nothing),
    ("prompt_token_ids", Rule::Nothing),
    ("kv_transfer_params", Rule::Nothing),
];

/// What is said about a choice as it goes.
const CHOICE: Known = &[("logprobs", Rule::Nothing)];

/// What is said about a choice at its end.
const FINISH: Known = &[
    ("finish_reason", Rule::Text),
    ("stop_reason", Rule::Scalar),
    ("matched_stop", Rule::Scalar),
    ("token_ids", Rule::Nothing),
];

/// Members of a message that we only know as empty.
const EMPTY: Known =
    &[("annotations", Rule::Nothing), ("audio", Rule::Nothing), ("function_call", Rule::Nothing)];

/// Members of a message that are text in fragments, in the order they are sent.
const TEXTS: [&str; 4] = ["reasoning_content", "reasoning", CONTENT, "refusal"];
const CONTENT: &str = "content";

/// Members of a call, beside its function.
const CALL: Known = &[("id", Rule::Text), ("type", Rule::Is("function"))];
/// Members of a call's function, beside its arguments.
const FUNCTION: Known = &[("name", Rule::Text)];

/// `needs_usage`: as for [`super::stream_to_whole`].
pub(super) fn stream_to_whole(frames: &[u8], needs_usage: bool) -> Option<Vec<u8>> {
    let mut answer = Answer::new();
    sse::chunks(frames, |chunk| answer.take_chunk(chunk))?;
    if !answer.is_finished() || (needs_usage && answer.usage.is_none()) {
        return None;
    }
    Some(answer.whole().into_bytes())
}

pub(super) fn whole_to_stream(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut answer = Answer::new();
    answer.take_whole(Raw::parse(body)?)?;
    answer.stream()
}

#[derive(Debug)]
struct Answer {
    envelope: Carried,
    choice: Carried,
    finish: Carried,
    empty: Carried,
    texts: [Text; TEXTS.len()],
    calls: Calls,
    role_said: bool,
    /// A JSON object.
    usage: Option<String>,
}

/// A text member of the message: `Some` once it was more than `null`.
#[derive(Debug, Default)]
struct Text {
    named: bool,
    text: Option<String>,
}

#[derive(Debug)]
enum Calls {
    Absent,
    Null,
    List(Vec<Call>),
}

#[derive(Debug)]
struct Call {
    call: Carried,
    function: Carried,
    arguments: String,
}

impl Answer {
    fn new() -> Self {
        Self {
            envelope: Carried::new(ENVELOPE),
            choice: Carried::new(CHOICE),
            finish: Carried::new(FINISH),
            empty: Carried::new(EMPTY),
            texts: Default::default(),
            calls: Calls::Absent,
            role_said: false,
            usage: None,
        }
    }

    fn take_chunk(&mut self, chunk: Raw<'_>) -> Option<()> {
        let mut choices = None;
        let mut is_chunk = false;
        for (name, value) in chunk.unique_members()? {
            match name.as_str() {
                "object" => is_chunk = value.string()? == "chat.completion.chunk",
                "choices" => choices = Some(value.elements()?),
                "usage" => self.take_usage(value)?,
                // Random letters against guessing by length; they say nothing.
                "obfuscation" => {}
                other => self.envelope.take(other, value)?,
            }
        }
        match choices?.as_slice() {
            [] if is_chunk => Some(()),
            [choice] if is_chunk => self.take_choice(*choice, "delta"),
            _ => None,
        }
    }

    fn take_whole(&mut self, body: Raw<'_>) -> Option<()> {
        let mut choices = None;
        let mut is_whole = false;
        for (name, value) in body.unique_members()? {
            match name.as_str() {
                "object" => is_whole = value.string()? == "chat.completion",
                "choices" => choices = Some(value.elements()?),
                "usage" => self.take_usage(value)?,
                other => self.envelope.take(other, value)?,
            }
        }
        match choices?.as_slice() {
            [choice] if is_whole => self.take_choice(*choice, "message")?,
            _ => return None,
        }
        self.role_said.then_some(())
    }

    /// Servers that say it in every chunk say running totals: the last one counts.
    fn take_usage(&mut self, usage: Raw<'_>) -> Option<()> {
        if usage.is_object() {
            self.usage = Some(usage.compact());
        } else if !usage.is_null() {
            return None;
        }
        Some(())
    }

    /// `part` is the name of what was said: `delta` or `message`.
    fn take_choice(&mut self, choice: Raw<'_>, part: &str) -> Option<()> {
        // Nothing may be said behind the end, or the end was not one.
        if self.finish.says("finish_reason") {
            return None;
        }
        let mut said = None;
        for (name, value) in choice.unique_members()? {
            match name.as_str() {
                "index" if value.text() == "0" => {}
                "index" => return None,
                "logprobs" => self.choice.take(&name, value)?,
                other if other == part => said = Some(value),
                other => self.finish.take(other, value)?,
            }
        }
        for (name, value) in said?.unique_members()? {
            self.take_said(&name, value, part == "delta")?;
        }
        Some(())
    }

    /// Takes over one member of a delta or a message.
    fn take_said(&mut self, name: &str, value: Raw<'_>, is_delta: bool) -> Option<()> {
        if let Some(place) = TEXTS.iter().position(|text| *text == name) {
            return self.texts.get_mut(place)?.take(value);
        }
        match name {
            "role" if is_delta && value.is_null() => Some(()),
            "role" => {
                self.role_said = true;
                (value.string()? == "assistant").then_some(())
            }
            "tool_calls" => self.calls.take(value, is_delta),
            other => self.empty.take(other, value),
        }
    }

    /// It came to its end, and nothing is missing that a caller counts on.
    fn is_finished(&self) -> bool {
        self.envelope.says_all(&["id", "created", "model"])
            && self.finish.says("finish_reason")
            && self.calls.are_whole()
    }

    fn whole(&self) -> String {
        let mut message = Object::new();
        message.string("role", "assistant");
        for (name, text) in TEXTS.iter().zip(&self.texts) {
            match &text.text {
                Some(text) => message.string(name, text),
                // The one member that a message always has.
                None if text.named || *name == CONTENT => message.raw(name, "null"),
                None => {}
            }
        }
        self.calls.write(&mut message);
        self.empty.write(&mut message);

        let mut choice = Object::new();
        choice.raw("index", "0");
        choice.raw("message", &message.end());
        self.choice.write(&mut choice);
        self.finish.write(&mut choice);

        let mut body = Object::new();
        body.string("object", "chat.completion");
        self.envelope.write(&mut body);
        body.raw("choices", &format!("[{}]", choice.end()));
        if let Some(usage) = &self.usage {
            body.raw("usage", usage);
        }
        body.end()
    }

    fn stream(&self) -> Option<Vec<Vec<u8>>> {
        let usage = self.usage.as_deref().filter(|_| self.is_finished())?;
        let mut frames = vec![self.delta_frame(self.first_delta())];
        for (name, text) in TEXTS.iter().zip(&self.texts) {
            if let Some(text) = text.text.as_ref().filter(|text| !text.is_empty()) {
                let mut delta = Object::new();
                delta.string(name, text);
                frames.push(self.delta_frame(delta));
            }
        }
        for delta in self.calls.deltas() {
            frames.push(self.delta_frame(delta));
        }
        let mut choice = self.choice_of(Object::new());
        self.finish.write(&mut choice);
        frames.push(self.chunk_frame(&format!("[{}]", choice.end()), "null"));
        frames.push(self.chunk_frame("[]", usage));
        frames.push(sse::frame(None, sse::DONE));
        Some(frames)
    }

    /// The role, and which members the message has, as far as no later delta shows
    /// it. `content` begins as `""`, as providers send it.
    fn first_delta(&self) -> Object {
        let mut delta = Object::new();
        delta.string("role", "assistant");
        for (name, text) in TEXTS.iter().zip(&self.texts) {
            match &text.text {
                Some(text) if text.is_empty() || *name == CONTENT => delta.string(name, ""),
                Some(_) => {}
                None if text.named => delta.raw(name, "null"),
                None => {}
            }
        }
        match &self.calls {
            Calls::Null => delta.raw("tool_calls", "null"),
            Calls::List(calls) if calls.is_empty() => delta.raw("tool_calls", "[]"),
            Calls::Absent | Calls::List(_) => {}
        }
        self.empty.write(&mut delta);
        delta
    }

    fn choice_of(&self, delta: Object) -> Object {
        let mut choice = Object::new();
        choice.raw("index", "0");
        choice.raw("delta", &delta.end());
        self.choice.write(&mut choice);
        choice
    }

    fn delta_frame(&self, delta: Object) -> Vec<u8> {
        let mut choice = self.choice_of(delta);
        choice.raw("finish_reason", "null");
        self.chunk_frame(&format!("[{}]", choice.end()), "null")
    }

    fn chunk_frame(&self, choices: &str, usage: &str) -> Vec<u8> {
        let mut chunk = Object::new();
        chunk.string("object", "chat.completion.chunk");
        self.envelope.write(&mut chunk);
        chunk.raw("choices", choices);
        chunk.raw("usage", usage);
        sse::frame(None, &chunk.end())
    }
}

impl Text {
    fn take(&mut self, value: Raw<'_>) -> Option<()> {
        self.named = true;
        if !value.is_null() {
            self.text.get_or_insert_default().push_str(&value.string()?);
        }
        Some(())
    }
}

impl Calls {
    fn take(&mut self, value: Raw<'_>, is_delta: bool) -> Option<()> {
        if value.is_null() {
            if matches!(self, Self::Absent) {
                *self = Self::Null;
            }
            return Some(());
        }
        let parts = value.elements()?;
        if !matches!(self, Self::List(_)) {
            *self = Self::List(Vec::new());
        }
        let Self::List(calls) = self else { return None };
        for part in parts {
            let mut members = part.unique_members()?;
            let index = members.iter().position(|(name, _)| name == "index");
            let index = index.map(|index| members.swap_remove(index).1.text().parse());
            let place = match index {
                Some(index) => index.ok()?,
                None if is_delta => return None,
                None => calls.len(),
            };
            // Some servers number the calls of a whole answer too.
            if !is_delta && place != calls.len() {
                return None;
            }
            // Calls begin in order; a gap is a call that we did not see begin.
            if place == calls.len() {
                calls.push(Call::new());
            }
            calls.get_mut(place)?.take(members)?;
        }
        Some(())
    }

    fn are_whole(&self) -> bool {
        match self {
            Self::Absent | Self::Null => true,
            Self::List(calls) => calls.iter().all(Call::is_whole),
        }
    }

    fn write(&self, message: &mut Object) {
        match self {
            Self::Absent => {}
            Self::Null => message.raw("tool_calls", "null"),
            Self::List(calls) => {
                let calls: Vec<_> =
                    calls.iter().map(|call| call.json(None, &call.arguments)).collect();
                message.raw("tool_calls", &format!("[{}]", calls.join(",")));
            }
        }
    }

    /// Two for every call: its beginning, and all of its arguments.
    fn deltas(&self) -> Vec<Object> {
        let Self::List(calls) = self else { return Vec::new() };
        let mut deltas = Vec::new();
        for (index, call) in calls.iter().enumerate() {
            deltas.push(calls_delta(&call.json(Some(index), "")));
            if !call.arguments.is_empty() {
                let arguments = quoted(&call.arguments);
                let more = format!(r#"{{"index":{index},"function":{{"arguments":{arguments}}}}}"#);
                deltas.push(calls_delta(&more));
            }
        }
        deltas
    }
}

fn calls_delta(call: &str) -> Object {
    let mut delta = Object::new();
    delta.raw("tool_calls", &format!("[{call}]"));
    delta
}

impl Call {
    fn new() -> Self {
        Self {
            call: Carried::new(CALL),
            function: Carried::new(FUNCTION),
            arguments: String::new(),
        }
    }

    fn take(&mut self, members: Vec<(String, Raw<'_>)>) -> Option<()> {
        for (name, value) in members {
            if name != "function" {
                // `null` in a later part means only that there is nothing new.
                if !value.is_null() {
                    self.call.take(&name, value)?;
                }
                continue;
            }
            for (name, value) in value.unique_members()? {
                if name == "arguments" {
                    self.arguments.push_str(&value.string()?);
                } else if !value.is_null() {
                    self.function.take(&name, value)?;
                }
            }
        }
        Some(())
    }

    fn is_whole(&self) -> bool {
        self.call.says_all(&["id", "type"]) && self.function.says("name")
    }

    fn json(&self, index: Option<usize>, arguments: &str) -> String {
        let mut function = Object::new();
        self.function.write(&mut function);
        function.string("arguments", arguments);
        let mut call = Object::new();
        if let Some(index) = index {
            call.raw("index", &index.to_string());
        }
        self.call.write(&mut call);
        call.raw("function", &function.end());
        call.end()
    }
}
