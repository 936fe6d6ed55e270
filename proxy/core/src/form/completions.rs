//! OpenAI completions, the older of its two ways to ask for text: `text_completion`, whole
//! and as chunks of the same name
//! (platform.openai.com/docs/api-reference/completions, and vLLM's for what servers add).
//!
//! One choice of text. What says more (`n` or `best_of` > 1, `logprobs`, `echo` of token ids)
//! has no room here and is not converted.

use super::carried::{Carried, Known, Rule};
use super::raw::{Object, Raw};
use super::sse;

const ENVELOPE: Known = &[
    ("id", Rule::Text),
    ("created", Rule::FirstNumber),
    ("model", Rule::Text),
    ("service_tier", Rule::Text),
    ("system_fingerprint", Rule::Text),
    ("kv_transfer_params", Rule::Nothing),
];

/// What is said about the choice as it goes.
const CHOICE: Known = &[
    ("logprobs", Rule::Nothing),
    ("prompt_logprobs", Rule::Nothing),
    ("prompt_token_ids", Rule::Nothing),
    ("token_ids", Rule::Nothing),
];

/// What is said about it at its end.
const FINISH: Known =
    &[("finish_reason", Rule::Text), ("stop_reason", Rule::Scalar), ("matched_stop", Rule::Scalar)];

/// `needs_usage`: as for [`super::stream_to_whole`].
pub(super) fn stream_to_whole(frames: &[u8], needs_usage: bool) -> Option<Vec<u8>> {
    let mut answer = Answer::new();
    sse::chunks(frames, |chunk| answer.take(chunk))?;
    if !answer.is_finished() || (needs_usage && answer.usage.is_none()) {
        return None;
    }
    Some(answer.whole().into_bytes())
}

pub(super) fn whole_to_stream(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut answer = Answer::new();
    answer.take(Raw::parse(body)?)?;
    let usage = answer.usage.as_deref().filter(|_| answer.is_finished())?;
    let mut frames = Vec::new();
    if !answer.text.is_empty() {
        let mut choice = answer.choice_of(&answer.text);
        choice.raw("finish_reason", "null");
        frames.push(answer.chunk(&format!("[{}]", choice.end()), "null"));
    }
    let mut choice = answer.choice_of("");
    answer.finish.write(&mut choice);
    frames.push(answer.chunk(&format!("[{}]", choice.end()), "null"));
    frames.push(answer.chunk("[]", usage));
    frames.push(sse::frame(None, sse::DONE));
    Some(frames)
}

#[derive(Debug)]
struct Answer {
    envelope: Carried,
    choice: Carried,
    finish: Carried,
    text: String,
    /// A JSON object.
    usage: Option<String>,
}

impl Answer {
    fn new() -> Self {
        Self {
            envelope: Carried::new(ENVELOPE),
            choice: Carried::new(CHOICE),
            finish: Carried::new(FINISH),
            text: String::new(),
            usage: None,
        }
    }

    /// A chunk, or the whole answer: they differ in nothing but how much of it they are.
    fn take(&mut self, part: Raw<'_>) -> Option<()> {
        let mut choices = None;
        let mut is_one = false;
        for (name, value) in part.unique_members()? {
            match name.as_str() {
                "object" => is_one = value.string()? == "text_completion",
                "choices" => choices = Some(value.elements()?),
                "usage" if value.is_object() => self.usage = Some(value.compact()),
                "usage" if value.is_null() => {}
                "usage" => return None,
                // Random letters against guessing by length; they say nothing.
                "obfuscation" => {}
                other => self.envelope.take(other, value)?,
            }
        }
        match choices?.as_slice() {
            [] if is_one => Some(()),
            [choice] if is_one => self.take_choice(*choice),
            _ => None,
        }
    }

    fn take_choice(&mut self, choice: Raw<'_>) -> Option<()> {
        // Nothing may be said behind the end, or the end was not one.
        if self.finish.says("finish_reason") {
            return None;
        }
        let mut text = None;
        for (name, value) in choice.unique_members()? {
            match name.as_str() {
                "index" if value.text() == "0" => {}
                "index" => return None,
                "text" => text = Some(value.string()?),
                other if CHOICE.iter().any(|(known, _)| *known == other) => {
                    self.choice.take(other, value)?;
                }
                other => self.finish.take(other, value)?,
            }
        }
        self.text.push_str(&text?);
        Some(())
    }

    fn is_finished(&self) -> bool {
        self.envelope.says_all(&["id", "created", "model"]) && self.finish.says("finish_reason")
    }

    fn choice_of(&self, text: &str) -> Object {
        let mut choice = Object::new();
        choice.raw("index", "0");
        choice.string("text", text);
        self.choice.write(&mut choice);
        choice
    }

    fn chunk(&self, choices: &str, usage: &str) -> Vec<u8> {
        sse::frame(None, &self.said(choices, Some(usage)))
    }

    fn whole(&self) -> String {
        let mut choice = self.choice_of(&self.text);
        self.finish.write(&mut choice);
        self.said(&format!("[{}]", choice.end()), self.usage.as_deref())
    }

    fn said(&self, choices: &str, usage: Option<&str>) -> String {
        let mut part = Object::new();
        part.string("object", "text_completion");
        self.envelope.write(&mut part);
        part.raw("choices", choices);
        if let Some(usage) = usage {
            part.raw("usage", usage);
        }
        part.end()
    }
}

#[cfg(test)]
mod tests {
    use crate::{dialect::Operation, form};
    use serde_json::Value;

    const STREAM: &str = "data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":7,\"model\":\"m\",\"choices\":[{\"index\":0,\"text\":\"An \",\"logprobs\":null,\"finish_reason\":null,\"stop_reason\":null}],\"usage\":null}\n\ndata: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":8,\"model\":\"m\",\"choices\":[{\"index\":0,\"text\":\"\u{2602}.\",\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null}],\"usage\":null}\n\ndata: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":8,\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}\n\ndata: [DONE]\n\n";
    const WHOLE: &str = r#"{"object":"text_completion","id":"cmpl-1","created":7,"model":"m","choices":[{"index":0,"text":"An ☂.","logprobs":null,"finish_reason":"stop","stop_reason":null}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;

    fn whole(stream: &str) -> Option<String> {
        let body = form::stream_to_whole(Operation::OpenAiCompletions, stream.as_bytes())?;
        Some(String::from_utf8(body).unwrap())
    }

    fn stream(body: &str) -> Option<String> {
        let frames = form::whole_to_stream(Operation::OpenAiCompletions, body.as_bytes())?;
        Some(String::from_utf8(frames.concat()).unwrap())
    }

    #[test]
    fn either_form_becomes_the_other_and_comes_back() {
        assert_eq!(whole(STREAM).as_deref(), Some(WHOLE));
        let told = stream(WHOLE).unwrap();
        assert_eq!(whole(&told).as_deref(), Some(WHOLE), "{told}");
        assert_eq!(told.matches("data: ").count(), 4);
        assert!(told.ends_with("data: [DONE]\n\n"));
        let parsed: Value = serde_json::from_str(WHOLE).unwrap();
        let back = whole(&stream(&format!("{parsed:#}")).unwrap()).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&back).unwrap(), parsed);
        form::assert_forms_agree(STREAM.as_bytes());
    }

    #[test]
    fn what_has_no_room_or_no_end_is_refused() {
        for end in (0..STREAM.trim_end().len()).filter(|end| STREAM.is_char_boundary(*end)) {
            assert_eq!(whole(STREAM.get(..end).unwrap()), None, "{end}");
        }
        assert_eq!(whole(&format!("{STREAM}{STREAM}")), None);
        for (from, to) in [
            (r#""logprobs":null"#, r#""logprobs":{"tokens":["An"]}"#),
            (r#""index":0"#, r#""index":1"#),
            (r#""finish_reason":"stop""#, r#""finish_reason":null"#),
            (r#""text":"#, r#""texts":"#),
            (r#""id":"cmpl-1""#, r#""id":"cmpl-1","mood":1"#),
        ] {
            for (answer, convert) in [(STREAM, whole as fn(&str) -> _), (WHOLE, stream)] {
                assert!(answer.contains(from), "nothing to replace: {from}");
                assert_eq!(convert(&answer.replace(from, to)), None, "{from} → {to}");
            }
        }
        let two = WHOLE.replace(r#""choices":["#, r#""choices":[{"index":0,"text":""},"#);
        assert_eq!(stream(&two), None);
    }

    #[test]
    fn a_stream_that_says_no_usage_can_be_read_and_not_given() {
        let silent: String =
            STREAM.split_inclusive("\n\n").filter(|event| !event.contains("\"usage\":{")).collect();
        assert_eq!(whole(&silent), None);
        let read = form::stream_to_read(Operation::OpenAiCompletions, silent.as_bytes()).unwrap();
        let read: Value = serde_json::from_slice(&read).unwrap();
        assert_eq!(read["choices"][0]["text"], "An ☂.");
        assert_eq!(read["choices"][0]["finish_reason"], "stop");
        assert_eq!(read.get("usage"), None);
    }
}
