//! OpenAI Responses: `response.created` … `response.completed` and the response object.
//!
//! The last event holds the whole response, so a stream becomes the whole answer by
//! taking it out, whatever events came before. The other way each output item is told
//! as the provider tells it: it begins empty, grows by its deltas, is said to be done,
//! and stands in the last event as it came. So a member of the response that we never
//! heard of is lost in neither form; an *item* or a *part* that we never heard of has
//! events we cannot make up, and then there is no stream. Shapes: OpenAI's reference,
//! "Streaming events" of the Responses API.

use super::raw::{Object, Raw, quoted};
use super::sse;

/// Members of a response that are known only at its end, and what they are before.
const AT_THE_END: [(&str, &str); 5] = [
    ("status", r#""in_progress""#),
    ("output", "[]"),
    ("usage", "null"),
    ("completed_at", "null"),
    ("output_text", r#""""#),
];

pub(super) fn stream_to_whole(frames: &[u8]) -> Option<Vec<u8>> {
    let mut whole = None;
    for event in sse::events(frames)? {
        // Nothing is said behind the end, except by servers that say OpenAI's other one.
        if whole.is_some() {
            if event.data == "[DONE]" {
                continue;
            }
            return None;
        }
        let data = Raw::parse(event.data.as_bytes())?;
        let members = data.unique_members()?;
        let kind = member(&members, "type")?.string()?;
        if event.name.is_some_and(|name| name != kind) {
            return None;
        }
        match kind.as_str() {
            "error" | "response.failed" | "response.incomplete" | "response.cancelled" => {
                return None;
            }
            "response.completed" => {
                let response = member(&members, "response")?;
                completed(response)?;
                whole = Some(response.compact().into_bytes());
            }
            _ => {}
        }
    }
    whole
}

pub(super) fn whole_to_stream(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let response = Raw::parse(body)?;
    let members = completed(response)?;
    let mut begun = Object::new();
    for (name, value) in &members {
        let before = AT_THE_END.iter().find(|(late, _)| late == name);
        match before {
            Some((_, before)) => begun.raw(name, before),
            None => begun.raw(name, &value.compact()),
        }
    }
    let begun = begun.end();
    let mut events = Events(Vec::new());
    events.push("response.created", &[("response", &begun)]);
    events.push("response.in_progress", &[("response", &begun)]);
    let output = member(&members, "output")?.elements()?;
    for (index, item) in output.iter().enumerate() {
        events.item(index, *item)?;
    }
    events.push("response.completed", &[("response", &response.compact())]);
    Some(events.0)
}

/// The members of a response that came to its end, with nothing missing that a caller
/// counts on.
fn completed(response: Raw<'_>) -> Option<Vec<(String, Raw<'_>)>> {
    let members = response.unique_members()?;
    let says = |name: &str, text: &str| {
        member(&members, name).and_then(Raw::string).is_some_and(|said| said == text)
    };
    let is_null = |name: &str| member(&members, name).is_none_or(Raw::is_null);
    let is_whole = says("object", "response")
        && says("status", "completed")
        && is_null("error")
        && is_null("incomplete_details")
        && member(&members, "usage").is_some_and(Raw::is_object)
        && member(&members, "output").and_then(Raw::elements).is_some();
    is_whole.then_some(members)
}

fn member<'a>(members: &[(String, Raw<'a>)], name: &str) -> Option<Raw<'a>> {
    members.iter().find(|(own, _)| own == name).map(|(_, value)| *value)
}

/// Numbers its events from 0.
struct Events(Vec<Vec<u8>>);

impl Events {
    fn push(&mut self, kind: &str, members: &[(&str, &str)]) {
        let mut event = Object::new();
        event.string("type", kind);
        event.raw("sequence_number", &self.0.len().to_string());
        for (name, json) in members {
            event.raw(name, json);
        }
        self.0.push(sse::frame(Some(kind), &event.end()));
    }

    /// All events of one output item. `None`: a kind of item, or a member, of which we
    /// do not know how it is told.
    fn item(&mut self, index: usize, item: Raw<'_>) -> Option<()> {
        let members = item.unique_members()?;
        let kind = member(&members, "type")?.string()?;
        let (lists, grown): (&[&str], &str) = match kind.as_str() {
            "message" => (&["content"], ""),
            "reasoning" => (&["summary", "content"], ""),
            "function_call" => (&[], "arguments"),
            "custom_tool_call" => (&[], "input"),
            _ => return None,
        };
        let id = member(&members, "id")?.compact();
        let at = index.to_string();
        let mut begun = Object::new();
        for (name, value) in &members {
            match name.as_str() {
                "type" | "id" | "role" | "call_id" | "name" | "namespace" | "encrypted_content"
                | "phase" => begun.raw(name, &value.compact()),
                "status" if value.is_null() => begun.raw(name, "null"),
                "status" if value.string()? == "completed" => {
                    begun.raw(name, r#""in_progress""#);
                }
                other if other == grown => begun.raw(name, r#""""#),
                other if lists.contains(&other) && value.is_null() => begun.raw(name, "null"),
                other if lists.contains(&other) => begun.raw(name, "[]"),
                _ => return None,
            }
        }
        let place = ("output_index", at.as_str());
        self.push("response.output_item.added", &[place, ("item", &begun.end())]);
        let of_item = [("item_id", id.as_str()), place];
        for list in lists {
            let Some(parts) = member(&members, list).filter(|parts| !parts.is_null()) else {
                continue;
            };
            for (place, part) in parts.elements()?.into_iter().enumerate() {
                self.part(&of_item, list, place, part)?;
            }
        }
        if !grown.is_empty() {
            let name = if grown == "input" {
                "response.custom_tool_call_input"
            } else {
                "response.function_call_arguments"
            };
            self.grow(name, &of_item, grown, member(&members, grown)?)?;
        }
        self.push("response.output_item.done", &[place, ("item", &item.compact())]);
        Some(())
    }

    /// A text, refusal, thought or summary: it begins empty, grows, and is done.
    fn part(
        &mut self,
        of_item: &[(&str, &str)],
        list: &str,
        place: usize,
        part: Raw<'_>,
    ) -> Option<()> {
        let members = part.unique_members()?;
        let kind = member(&members, "type")?.string()?;
        let (event, around, text) = match (list, kind.as_str()) {
            ("summary", "summary_text") => {
                ("response.reasoning_summary_text", "response.reasoning_summary_part", "text")
            }
            (_, "reasoning_text") => ("response.reasoning_text", "response.content_part", "text"),
            (_, "output_text") => ("response.output_text", "response.content_part", "text"),
            (_, "refusal") => ("response.refusal", "response.content_part", "refusal"),
            _ => return None,
        };
        let mut begun = Object::new();
        for (name, value) in &members {
            match name.as_str() {
                "type" => begun.raw(name, &value.compact()),
                other if other == text => begun.raw(name, r#""""#),
                // Only as empty: their events are many, and of their own.
                "annotations" | "logprobs" if value.is_null() || value.compact() == "[]" => {
                    begun.raw(name, &value.compact());
                }
                _ => return None,
            }
        }
        let place = place.to_string();
        let index = if list == "summary" { "summary_index" } else { "content_index" };
        let of_part = [of_item, &[(index, place.as_str())]].concat();
        self.push_of(&format!("{around}.added"), &of_part, ("part", &begun.end()));
        self.grow(event, &of_part, text, member(&members, text)?)?;
        self.push_of(&format!("{around}.done"), &of_part, ("part", &part.compact()));
        Some(())
    }

    fn push_of(&mut self, kind: &str, of: &[(&str, &str)], member: (&str, &str)) {
        self.push(kind, &[of, &[member]].concat());
    }

    /// `event.delta`, unless there is nothing to tell, and `event.done`.
    fn grow(&mut self, event: &str, of: &[(&str, &str)], name: &str, text: Raw<'_>) -> Option<()> {
        let text = quoted(&text.string()?);
        // Of its logprobs a stream always says something.
        let of = match event {
            "response.output_text" => [of, &[("logprobs", "[]")]].concat(),
            _ => of.to_vec(),
        };
        if text != r#""""# {
            self.push_of(&format!("{event}.delta"), &of, ("delta", &text));
        }
        self.push_of(&format!("{event}.done"), &of, (name, &text));
        Some(())
    }
}
