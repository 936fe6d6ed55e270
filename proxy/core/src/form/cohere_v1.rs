//! Cohere's first chat API: `stream-start` … `stream-end` and the whole answer.
//!
//! The last event of a stream holds the whole answer, so that what came before only has to agree
//! with it. A stream is lines, or server-sent events where the caller's `accepts` says so; both are
//! read here and made of each other. What is on no list ends the conversion. Shapes:
//! docs.cohere.com/v1/docs/streaming, cohere-openapi.yaml (/v1/chat) of
//! cohere-ai/cohere-developer-experience, and what langchain-ai/langchain-cohere recorded.

use super::{
    raw::{Object, Raw, quoted, take_out},
    sse,
};
use crate::dialect::Framing;

/// Members of the whole answer beside those that are looked into.
const REST: [&str; 4] = ["response_id", "chat_history", "is_search_required", "prompt"];

/// An event, and members of the whole answer.
type Kind = (&'static str, &'static [&'static str]);

/// Events that bring a part of the answer, and the members of the answer that they bring.
static PARTS: [Kind; 4] = [
    ("search-queries-generation", &["search_queries"]),
    ("search-results", &["search_results", "documents"]),
    ("citation-generation", &["citations"]),
    (CALLS, &["tool_calls"]),
];
/// Of these, what is searched for and found is told before the text.
const BEFORE_TEXT: usize = 2;

const TEXT: &str = "text-generation";
/// A piece of the plan beside calls, or of a call.
const CALLS_CHUNK: &str = "tool-calls-chunk";
/// The plan and the calls once more, whole.
const CALLS: &str = "tool-calls-generation";
const END: &str = "stream-end";

pub(super) fn stream_to_whole(stream: &[u8]) -> Option<Vec<u8>> {
    let mut told = Told::default();
    for json in jsons(stream)? {
        told.take(Raw::parse(json.as_bytes())?)?;
    }
    told.whole.map(String::into_bytes)
}

/// In events.
pub(super) fn whole_to_stream(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let answer = Raw::parse(body)?;
    let Whole { text, generation_id, finish_reason, parts } = Whole::read(answer)?;
    let calls = part(&parts, "tool_calls");
    let mut frames = Frames::default();
    frames.tell("stream-start", &[("generation_id", &*generation_id)]);
    let (before, after) = PARTS.split_at_checked(BEFORE_TEXT)?;
    frames.tell_parts(before, &parts, None);
    let text = Some(quoted(&text)).filter(|_| !text.is_empty());
    if let Some(text) = &text {
        frames.tell(if calls.is_some() { CALLS_CHUNK } else { TEXT }, &[("text", text)]);
    }
    if let Some(calls) = calls {
        frames.tell_calls(Raw::parse(calls.as_bytes())?)?;
    }
    frames.tell_parts(after, &parts, text.as_deref());
    let compact = answer.compact();
    frames.tell(END, &[("finish_reason", &*finish_reason), ("response", &*compact)]);
    Some(frames.0)
}

/// A stream in the making.
#[derive(Debug, Default)]
struct Frames(Vec<Vec<u8>>);

impl Frames {
    fn tell(&mut self, kind: &str, members: &[(&str, &str)]) {
        let mut event = Object::new();
        event.raw("is_finished", if kind == END { "true" } else { "false" });
        event.string("event_type", kind);
        for (name, json) in members {
            event.raw(name, json);
        }
        self.0.push(sse::frame(Some(kind), &event.end()));
    }

    /// `plan`: what is said beside calls, where there are any.
    fn tell_parts(&mut self, kinds: &[Kind], parts: &[(String, String)], plan: Option<&str>) {
        for (kind, names) in kinds {
            let of = |name: &&'static str| Some((*name, part(parts, name)?));
            let mut members: Vec<(&str, &str)> = names.iter().filter_map(of).collect();
            if members.is_empty() {
                continue;
            }
            if *kind == CALLS {
                members.splice(..0, plan.map(|plan| ("text", plan)));
            }
            self.tell(kind, &members);
        }
    }

    /// Each call in two pieces, its name and its parameters: there are callers that know a call by
    /// its pieces only.
    fn tell_calls(&mut self, calls: Raw<'_>) -> Option<()> {
        for (index, call) in calls.elements()?.into_iter().enumerate() {
            let mut members = call.unique_members()?;
            let name = take_out(&mut members, "name").filter(|name| name.is_string())?;
            let parameters = take_out(&mut members, "parameters").filter(|all| all.is_object())?;
            for (member, json) in
                [("name", name.compact()), ("parameters", quoted(&parameters.compact()))]
            {
                let mut delta = Object::new();
                delta.raw("index", &index.to_string());
                delta.raw(member, &json);
                self.tell(CALLS_CHUNK, &[("tool_call_delta", &delta.end())]);
            }
        }
        Some(())
    }
}

fn part<'a>(parts: &'a [(String, String)], name: &str) -> Option<&'a str> {
    parts.iter().find(|(own, _)| own == name).map(|(_, json)| &**json)
}

/// As the stream's first byte says it: no event begins with a brace.
pub(super) fn framing(stream: &[u8]) -> Framing {
    if stream.trim_ascii_start().first() == Some(&b'{') { Framing::Lines } else { Framing::Events }
}

pub(super) fn reframe(stream: &[u8], wanted: Framing) -> Option<Vec<Vec<u8>>> {
    let frame = |json: String| {
        let event = Raw::parse(json.as_bytes())?;
        let compact = event.compact();
        match wanted {
            Framing::Lines => Some((compact + "\n").into_bytes()),
            Framing::Events => {
                let kind = take_out(&mut event.unique_members()?, "event_type")?.string()?;
                // It is to stand in a line of its own.
                let is_word = kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
                is_word.then(|| sse::frame(Some(&kind), &compact))
            }
            Framing::Whole | Framing::Array => None,
        }
    };
    jsons(stream)?.into_iter().map(frame).collect()
}

/// The events of a stream in either framing, as JSON.
fn jsons(stream: &[u8]) -> Option<Vec<String>> {
    if framing(stream) == Framing::Events {
        return Some(sse::events(stream)?.into_iter().map(|event| event.data).collect());
    }
    let lines = stream.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    lines.map(|line| Some(std::str::from_utf8(line).ok()?.to_owned())).collect()
}

/// What a stream has told so far.
#[derive(Debug, Default)]
struct Told {
    has_begun: bool,
    text: String,
    /// Members that the whole answer must have.
    parts: Vec<&'static str>,
    /// Compact JSON.
    whole: Option<String>,
}

impl Told {
    fn take(&mut self, event: Raw<'_>) -> Option<()> {
        // Nothing may be said behind the end, or the end was not one.
        if self.whole.is_some() {
            return None;
        }
        let mut members = event.unique_members()?;
        let kind = take_out(&mut members, "event_type")?.string()?;
        let is_end = kind == END;
        let is_finished = take_out(&mut members, "is_finished");
        let agrees = |is: Raw<'_>| is.text() == if is_end { "true" } else { "false" };
        if is_finished.is_some_and(|is| !agrees(is)) || self.has_begun == (kind == "stream-start") {
            return None;
        }
        match kind.as_str() {
            "stream-start" => {
                take_out(&mut members, "generation_id")?.string()?;
                self.has_begun = true;
            }
            TEXT => self.text.push_str(&take_out(&mut members, "text")?.string()?),
            CALLS_CHUNK => match take_out(&mut members, "text") {
                Some(plan) => self.text.push_str(&plan.string()?),
                // All calls come once more, whole.
                None => {
                    take_out(&mut members, "tool_call_delta").filter(|delta| delta.is_object())?;
                    self.parts.push("tool_calls");
                }
            },
            END => {
                let reason = take_out(&mut members, "finish_reason")?.string()?;
                let response = take_out(&mut members, "response")?;
                self.end(&reason, response)?;
            }
            _ => return self.take_part(&kind, members),
        }
        members.is_empty().then_some(())
    }

    fn take_part(&mut self, kind: &str, mut members: Vec<(String, Raw<'_>)>) -> Option<()> {
        let (_, names) = PARTS.iter().find(|(part, _)| *part == kind)?;
        let plan = take_out(&mut members, "text").filter(|text| !text.is_null());
        if let Some(plan) = plan {
            let plan = plan.string()?;
            // Where it did not come in pieces it comes here.
            if self.text.is_empty() {
                self.text.clone_from(&plan);
            }
            if kind != CALLS || self.text != plan {
                return None;
            }
        }
        for (name, _) in members {
            self.parts.push(names.iter().find(|known| **known == name)?);
        }
        Some(())
    }

    fn end(&mut self, reason: &str, response: Raw<'_>) -> Option<()> {
        let whole = Whole::read(response)?;
        let has = |part: &&str| whole.parts.iter().any(|(name, _)| name == part);
        let says_so = whole.finish_reason == quoted(reason) && whole.text == self.text;
        if !says_so || !self.parts.iter().all(has) {
            return None;
        }
        self.whole = Some(response.compact());
        Some(())
    }
}

/// A whole answer, as far as a stream has to be told of it.
#[derive(Debug)]
struct Whole {
    text: String,
    /// JSON strings.
    generation_id: String,
    finish_reason: String,
    /// Compact JSON, by name; only lists that hold something.
    parts: Vec<(String, String)>,
}

impl Whole {
    fn read(body: Raw<'_>) -> Option<Self> {
        let mut members = body.unique_members()?;
        let text = take_out(&mut members, "text")?.string()?;
        let mut string =
            |name| take_out(&mut members, name).filter(|value| value.is_string()).map(Raw::compact);
        let (generation_id, finish_reason) = (string("generation_id")?, string("finish_reason")?);
        // Who wants the whole answer would miss what it has used.
        take_out(&mut members, "meta").filter(|meta| meta.is_object())?;
        let mut parts = Vec::new();
        for (name, value) in members {
            let is_part = PARTS.iter().any(|(_, names)| names.contains(&name.as_str()));
            if is_part && !value.is_null() {
                let holds = !value.elements()?.is_empty();
                parts.extend(holds.then(|| (name, value.compact())));
            } else if !is_part && !REST.contains(&name.as_str()) {
                return None;
            }
        }
        Some(Self { text, generation_id, finish_reason, parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"{"is_finished":false,"event_type":"stream-start","generation_id":"g1"}
{"is_finished":false,"event_type":"search-results","documents":[{"id":"d1","text":"Rain."}]}
{"is_finished":false,"event_type":"text-generation","text":"Look "}
{"is_finished":false,"event_type":"text-generation","text":"☂"}
{"is_finished":false,"event_type":"citation-generation","citations":[{"start":0,"end":4,"text":"Look","document_ids":["d1"]}]}
{"is_finished":true,"event_type":"stream-end","response":{"response_id":"r1","text":"Look ☂","generation_id":"g1","chat_history":[{"role":"USER","message":"?"}],"finish_reason":"COMPLETE","citations":[{"start":0,"end":4,"text":"Look","document_ids":["d1"]}],"documents":[{"id":"d1","text":"Rain."}],"meta":{"api_version":{"version":"1"},"billed_units":{"input_tokens":5,"output_tokens":1.50}}},"finish_reason":"COMPLETE"}
"#;
    const WHOLE: &str = r#"{"response_id":"r1","text":"Look ☂","generation_id":"g1","chat_history":[{"role":"USER","message":"?"}],"finish_reason":"COMPLETE","citations":[{"start":0,"end":4,"text":"Look","document_ids":["d1"]}],"documents":[{"id":"d1","text":"Rain."}],"meta":{"api_version":{"version":"1"},"billed_units":{"input_tokens":5,"output_tokens":1.50}}}"#;

    fn whole(stream: &[u8]) -> Option<String> {
        stream_to_whole(stream).map(|whole| String::from_utf8(whole).unwrap())
    }

    #[test]
    fn a_stream_amounts_to_the_answer_in_its_last_event_in_either_framing() {
        assert_eq!(whole(LINES.as_bytes()).as_deref(), Some(WHOLE));
        let events = reframe(LINES.as_bytes(), Framing::Events).unwrap();
        assert!(events[0].starts_with(b"event: stream-start\ndata: {\"is_finished\":false"));
        let events = events.concat();
        assert_eq!(framing(&events), Framing::Events);
        assert_eq!(whole(&events).as_deref(), Some(WHOLE));
        let lines = reframe(&events, Framing::Lines).unwrap().concat();
        assert_eq!(String::from_utf8(lines).unwrap(), LINES);
        assert_eq!(framing(LINES.as_bytes()), Framing::Lines);
        assert_eq!(reframe(LINES.as_bytes(), Framing::Array), None);
    }

    #[test]
    fn a_whole_answer_is_told_in_the_order_of_a_stream_and_comes_back() {
        let frames = whole_to_stream(WHOLE.as_bytes()).unwrap();
        let lines = reframe(&frames.concat(), Framing::Lines).unwrap();
        let kinds: Vec<String> = lines
            .iter()
            .map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap())
            .map(|event| event["event_type"].as_str().unwrap().to_owned())
            .collect();
        let expected = [
            "stream-start",
            "search-results",
            "text-generation",
            "citation-generation",
            "stream-end",
        ];
        assert_eq!(kinds, expected);
        assert_eq!(whole(&frames.concat()).as_deref(), Some(WHOLE));
        let calls = r#"{"text":"","generation_id":"g","finish_reason":"COMPLETE","tool_calls":[{"name":"rain","parameters":{"at":1.50}}],"search_queries":null,"meta":{}}"#;
        let frames = whole_to_stream(calls.as_bytes()).unwrap();
        assert_eq!(frames.len(), 5);
        assert_eq!(whole(&frames.concat()).as_deref(), Some(calls));
    }

    /// As the provider streamed it, but for the words.
    const CALLS_LINES: &str = r#"{"is_finished":false,"event_type":"stream-start","generation_id":"g"}
{"is_finished":false,"event_type":"tool-calls-chunk","text":"I will "}
{"is_finished":false,"event_type":"tool-calls-chunk","text":"look."}
{"is_finished":false,"event_type":"tool-calls-chunk","tool_call_delta":{"index":0,"name":"rain"}}
{"is_finished":false,"event_type":"tool-calls-chunk","tool_call_delta":{"index":0,"parameters":"{\n \"at\""}}
{"is_finished":false,"event_type":"tool-calls-chunk","tool_call_delta":{"index":0,"parameters":": 1.50}"}}
{"is_finished":false,"event_type":"tool-calls-generation","text":"I will look.","tool_calls":[{"name":"rain","parameters":{"at":1.50}}]}
{"is_finished":true,"event_type":"stream-end","response":{"response_id":"r","text":"I will look.","generation_id":"g","finish_reason":"COMPLETE","meta":{"billed_units":{"input_tokens":21,"output_tokens":41}},"tool_calls":[{"name":"rain","parameters":{"at":1.50}}]},"finish_reason":"COMPLETE"}
"#;

    #[test]
    fn calls_come_with_their_plan_in_pieces_and_whole() {
        let answer = whole(CALLS_LINES.as_bytes()).unwrap();
        assert!(answer.starts_with(r#"{"response_id":"r","text":"I will look.","#), "{answer}");
        let told = whole_to_stream(answer.as_bytes()).unwrap().concat();
        let lines = reframe(&told, Framing::Lines).unwrap().concat();
        let lines = String::from_utf8(lines).unwrap();
        let expected = [
            r#""tool-calls-chunk","text":"I will look."}"#,
            r#""tool-calls-chunk","tool_call_delta":{"index":0,"name":"rain"}}"#,
            r#""tool-calls-chunk","tool_call_delta":{"index":0,"parameters":"{\"at\":1.50}"}}"#,
            r#""tool-calls-generation","text":"I will look.","tool_calls":[{"name":"#,
        ];
        let mut rest = lines.as_str();
        for part in expected {
            let (_, behind) = rest.split_once(part).unwrap_or_else(|| panic!("{part} in {lines}"));
            rest = behind;
        }
        assert_eq!(whole(lines.as_bytes()).as_deref(), Some(&*answer));
        // Before there were pieces, the plan came with the calls only.
        let without_pieces: String = CALLS_LINES
            .lines()
            .filter(|line| !line.contains(CALLS_CHUNK))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(whole(without_pieces.as_bytes()).as_deref(), Some(&*answer));
        for (from, to) in [
            (r#"-generation","text":"I will look.""#, r#"-generation","text":"I look.""#),
            (r#","tool_calls":[{"name":"rain","parameters":{"at":1.50}}]},"#, "},"),
            (r#""text":"look."}"#, r#""text":"look.","mood":1}"#),
            (r#"{"index":0,"name":"rain"}"#, "1"),
        ] {
            assert!(CALLS_LINES.contains(from), "{from}");
            assert_eq!(whole(CALLS_LINES.replacen(from, to, 1).as_bytes()), None, "{to}");
        }
        let nameless = answer.replace(r#"{"name":"rain","#, "{");
        assert_eq!(whole_to_stream(nameless.as_bytes()), None);
    }

    #[test]
    fn what_does_not_agree_with_itself_or_is_unknown_is_not_converted() {
        for (from, to) in [
            ("\"text\":\"Look \"", "\"text\":\"Look, \""),
            ("},\"finish_reason\":\"COMPLETE\"}", "},\"finish_reason\":\"MAX_TOKENS\"}"),
            ("citation-generation", "poem-generation"),
            ("\"response_id\"", "\"response_idea\""),
            ("\"meta\"", "\"prompt\""),
            ("\"documents\":[{\"id\":\"d1\",\"text\":\"Rain.\"}],\"meta\"", "\"meta\""),
            (
                "{\"is_finished\":false,\"event_type\":\"stream-start\",\"generation_id\":\"g1\"}\n",
                "",
            ),
            ("true", "false"),
            ("\"text\":\"Look \"", "\"text\":\"Look \",\"logprobs\":[]"),
        ] {
            assert!(LINES.contains(from), "{from}");
            assert_eq!(whole(LINES.replacen(from, to, 1).as_bytes()), None, "{to}");
        }
        let twice = format!("{LINES}{}", LINES.lines().nth(2).unwrap());
        assert_eq!(whole(twice.as_bytes()), None, "behind the end");
        for end in (0..LINES.len() - 1).filter(|end| LINES.is_char_boundary(*end)) {
            assert_eq!(whole(&LINES.as_bytes()[..end]), None, "{end}");
        }
        for body in
            ["{}", "[]", "", r#"{"text":"a","generation_id":"g","finish_reason":"COMPLETE"}"#]
        {
            assert_eq!(whole_to_stream(body.as_bytes()), None, "{body}");
        }
    }
}
