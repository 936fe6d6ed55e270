//! Ollama: lines of `/api/chat` and `/api/generate`, and the whole answer.
//!
//! A line is the whole answer's shape with a piece of what is said; the last one (`done`)
//! has everything else: why it ended, how long it took, what was read and written. So the
//! whole answer is the last line with all that was said in its place, and the stream of a
//! whole answer is told in as few lines as there are kinds of things said. Shapes:
//! docs.ollama.com/api, "Generate a chat message" and "Streaming".

use super::raw::{Object, Raw, take_out};

/// Members of every line.
const EVERY: [&str; 4] = ["model", "created_at", "remote_model", "remote_host"];

/// Members of the last line beside those, and beside what is said.
const LAST: [&str; 10] = [
    "done",
    "done_reason",
    "context",
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_cached_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
];

pub(super) fn stream_to_whole(is_chat: bool, stream: &[u8]) -> Option<Vec<u8>> {
    let mut answer = Answer::new(is_chat);
    for line in stream.split(|byte| *byte == b'\n') {
        if !line.trim_ascii().is_empty() {
            answer.take_line(Raw::parse(line)?)?;
        }
    }
    answer.whole().map(String::into_bytes)
}

pub(super) fn whole_to_stream(is_chat: bool, body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut answer = Answer::new(is_chat);
    answer.take_line(Raw::parse(body)?)?;
    answer.stream()
}

#[derive(Debug)]
struct Answer {
    is_chat: bool,
    content: String,
    thinking: String,
    /// Compact JSON.
    calls: Vec<String>,
    model: Option<String>,
    /// Name and compact JSON of the members of the last line; what is said is only named.
    last: Vec<(String, Option<String>)>,
}

impl Answer {
    fn new(is_chat: bool) -> Self {
        Self {
            is_chat,
            content: String::new(),
            thinking: String::new(),
            calls: Vec::new(),
            model: None,
            last: Vec::new(),
        }
    }

    fn take_line(&mut self, line: Raw<'_>) -> Option<()> {
        // Nothing may be said behind the end, or the end was not one.
        if !self.last.is_empty() {
            return None;
        }
        let mut members = line.unique_members()?;
        let done = members.iter().find(|(name, _)| name == "done")?.1;
        let is_last = match done.text() {
            "true" => true,
            "false" => false,
            _ => return None,
        };
        if !is_last {
            take_out(&mut members, "done")?;
        }
        for (name, value) in members {
            let is_said = match (self.is_chat, name.as_str()) {
                (true, "message") => {
                    self.take_message(value)?;
                    true
                }
                (false, "response") => {
                    self.content.push_str(&value.string()?);
                    true
                }
                (false, "thinking") => {
                    self.thinking.push_str(&value.string()?);
                    true
                }
                (_, name) if EVERY.contains(&name) || (is_last && LAST.contains(&name)) => false,
                _ => return None,
            };
            if name == "model" {
                let model = self.model.get_or_insert_with(|| value.compact());
                if *model != value.compact() {
                    return None;
                }
            }
            if is_last {
                self.last.push((name, (!is_said).then(|| value.compact())));
            }
        }
        Some(())
    }

    fn take_message(&mut self, message: Raw<'_>) -> Option<()> {
        for (name, value) in message.unique_members()? {
            match name.as_str() {
                "role" if value.string()? == "assistant" => {}
                "content" => self.content.push_str(&value.string()?),
                "thinking" => self.thinking.push_str(&value.string()?),
                "images" if value.is_null() => {}
                "tool_calls" if value.is_null() => {}
                "tool_calls" => {
                    self.calls.extend(value.elements()?.into_iter().map(Raw::compact));
                }
                _ => return None,
            }
        }
        Some(())
    }

    fn is_finished(&self) -> bool {
        let says = |name: &str| self.last.iter().any(|(own, _)| own == name);
        says("done") && says("model") && says("created_at")
    }

    fn whole(&self) -> Option<String> {
        self.is_finished().then(|| {
            let calls = (!self.calls.is_empty()).then(|| self.calls.join(","));
            self.line(&self.content, &self.thinking, calls.as_deref(), true)
        })
    }

    fn stream(&self) -> Option<Vec<Vec<u8>>> {
        if !self.is_finished() {
            return None;
        }
        let mut lines = Vec::new();
        if !self.thinking.is_empty() {
            lines.push(self.line("", &self.thinking, None, false));
        }
        if !self.content.is_empty() {
            lines.push(self.line(&self.content, "", None, false));
        }
        if !self.calls.is_empty() {
            lines.push(self.line("", "", Some(&self.calls.join(",")), false));
        }
        lines.push(self.line("", "", None, true));
        Some(lines.into_iter().map(|line| (line + "\n").into_bytes()).collect())
    }

    /// A line that says this much; all of the last one's other members are in it if it
    /// is that one.
    fn line(&self, content: &str, thinking: &str, calls: Option<&str>, is_last: bool) -> String {
        let mut line = Object::new();
        let in_every = |name: &str| EVERY.contains(&name);
        for (name, value) in self.last.iter().filter(|(name, _)| in_every(name)) {
            line.raw(name, value.as_deref().unwrap_or("null"));
        }
        if self.is_chat {
            let mut message = Object::new();
            message.string("role", "assistant");
            message.string("content", content);
            if !thinking.is_empty() {
                message.string("thinking", thinking);
            }
            if let Some(calls) = calls {
                message.raw("tool_calls", &format!("[{calls}]"));
            }
            line.raw("message", &message.end());
        } else {
            line.string("response", content);
            if !thinking.is_empty() {
                line.string("thinking", thinking);
            }
        }
        if !is_last {
            line.raw("done", "false");
            return line.end();
        }
        for (name, value) in self.last.iter().filter(|(name, _)| !in_every(name)) {
            if let Some(value) = value {
                line.raw(name, value);
            }
        }
        line.end()
    }
}
