//! The shapes of OpenAI's Responses API: named, numbered events around one
//! growing response object.

use super::{
    answer::{Answer, Choice, Finish, Usage},
    counts::Tokens,
    openai::{quoted, whole_piece},
    told::Piece,
};

fn usage_json(usage: Usage) -> String {
    format!(
        concat!(
            r#"{{"input_tokens":{},"input_tokens_details":{{"cached_tokens":{}}},"#,
            r#""output_tokens":{},"output_tokens_details":{{"reasoning_tokens":{}}},"#,
            r#""total_tokens":{}}}"#
        ),
        usage.input,
        usage.cache_read,
        usage.output,
        usage.reasoning,
        usage.input + usage.output,
    )
}

/// `status` and `incomplete_details`.
fn ending(finish: Finish) -> (&'static str, &'static str) {
    match finish {
        Finish::Stop | Finish::Tool => ("completed", "null"),
        Finish::Length => ("incomplete", r#"{"reason":"max_output_tokens"}"#),
        Finish::Filtered => ("incomplete", r#"{"reason":"content_filter"}"#),
        Finish::Unfinished => ("in_progress", "null"),
    }
}

/// A response object around `output`, which is JSON.
fn response(answer: &Answer, finish: Finish, output: &str, usage: bool) -> String {
    let (status, details) = ending(finish);
    let usage =
        if usage && answer.tell_usage { usage_json(answer.usage) } else { "null".to_owned() };
    format!(
        concat!(
            r#"{{"id":"resp_{}","object":"response","created_at":{},"status":"{}","error":null,"#,
            r#""incomplete_details":{},"instructions":null,"metadata":{{}},"model":{},"output":[{}],"#,
            r#""parallel_tool_calls":true,"previous_response_id":null,"service_tier":"default","#,
            r#""store":false,"temperature":1.0,"tool_choice":"auto","tools":[],"top_p":1.0,"usage":{}}}"#
        ),
        answer.id,
        answer.created,
        status,
        details,
        quoted(&answer.model),
        output,
        usage,
    )
}

fn text_part(text: &str) -> String {
    format!(r#"{{"type":"output_text","annotations":[],"logprobs":[],"text":{}}}"#, quoted(text))
}

fn item_id(answer: &Answer, choice: &Choice) -> String {
    let prefix = if choice.tool.is_some() { "fc" } else { "msg" };
    format!("{prefix}_{}", answer.id)
}

/// An output item: a message with one text, or a call of a function. With no
/// `text` it is the item as it begins.
fn item(answer: &Answer, choice: &Choice, text: Option<&str>) -> String {
    let id = item_id(answer, choice);
    let status = if text.is_some() { "completed" } else { "in_progress" };
    match &choice.tool {
        None => {
            let content = text.map(text_part).unwrap_or_default();
            format!(
                r#"{{"id":"{id}","type":"message","status":"{status}","content":[{content}],"role":"assistant"}}"#
            )
        }
        Some(tool) => format!(
            r#"{{"id":"{id}","type":"function_call","status":"{status}","arguments":{},"call_id":"call_{}","name":{}}}"#,
            quoted(text.unwrap_or_default()),
            answer.id,
            quoted(tool),
        ),
    }
}

/// The answer as one body.
pub(super) fn whole(answer: &Answer) -> Piece {
    let choice = answer.choices.first();
    let output = match choice {
        Some(choice) if !choice.parts.is_empty() => item(answer, choice, Some(&choice.text())),
        Some(_) | None => String::new(),
    };
    let finish = choice.map_or(Finish::Stop, |choice| choice.finish);
    whole_piece(response(answer, finish, &output, true), answer)
}

/// Numbers events from 0.
struct Events {
    pieces: Vec<Piece>,
}

impl Events {
    /// `more` begins with a comma.
    fn push(&mut self, name: &str, more: &str) -> Option<&mut Piece> {
        let number = self.pieces.len();
        self.pieces.push(Piece::new(format!(
            "event: {name}\ndata: {{\"type\":\"{name}\",\"sequence_number\":{number}{more}}}\n\n"
        )));
        self.pieces.last_mut()
    }
}

/// The answer as events; usage is in the last.
pub(super) fn stream(answer: &Answer) -> Vec<Piece> {
    let mut events = Events { pieces: Vec::new() };
    let begun = format!(r#","response":{}"#, response(answer, Finish::Unfinished, "", false));
    if let Some(piece) = events.push("response.created", &begun) {
        piece.billed.input = answer.usage.input;
    }
    events.push("response.in_progress", &begun);
    let choice = answer.choices.first();
    let mut output = String::new();
    if let Some(choice) = choice
        && !choice.parts.is_empty()
    {
        output = item(answer, choice, Some(&choice.text()));
        push_item(&mut events, answer, choice, &output);
    }
    let finish = choice.map_or(Finish::Stop, |choice| choice.finish);
    let name = match finish {
        Finish::Length | Finish::Filtered => "response.incomplete",
        Finish::Stop | Finish::Tool | Finish::Unfinished => "response.completed",
    };
    let ended = response(answer, finish, &output, true);
    if let Some(piece) = events.push(name, &format!(r#","response":{ended}"#)) {
        piece.closing = true;
        if answer.tell_usage {
            piece.told = Tokens { input: answer.usage.input, output: answer.usage.output };
        }
    }
    events.pieces
}

fn push_item(events: &mut Events, answer: &Answer, choice: &Choice, ended: &str) {
    let id = item_id(answer, choice);
    let begun = item(answer, choice, None);
    events.push("response.output_item.added", &format!(r#","output_index":0,"item":{begun}"#));
    let of_item = format!(r#","item_id":"{id}","output_index":0"#);
    let of_text = format!(r#"{of_item},"content_index":0"#);
    let is_text = choice.tool.is_none();
    if is_text {
        let part = text_part("");
        events.push("response.content_part.added", &format!(r#"{of_text},"part":{part}"#));
    }
    let (delta_name, done_name) = if is_text {
        ("response.output_text.delta", "response.output_text.done")
    } else {
        ("response.function_call_arguments.delta", "response.function_call_arguments.done")
    };
    let logprobs = if is_text { r#","logprobs":[]"# } else { "" };
    let of_delta = if is_text { &of_text } else { &of_item };
    for part in &choice.parts {
        let delta = quoted(&part.text);
        let data = format!(r#"{of_delta},"delta":{delta}{logprobs}"#);
        if let Some(piece) = events.push(delta_name, &data) {
            piece.billed.output = part.tokens;
        }
    }
    let text = choice.text();
    if is_text {
        let done = format!(r#"{of_text},"text":{}{logprobs}"#, quoted(&text));
        events.push(done_name, &done);
        let part = text_part(&text);
        events.push("response.content_part.done", &format!(r#"{of_text},"part":{part}"#));
    } else {
        let name = quoted(choice.tool.as_deref().unwrap_or_default());
        let done = format!(r#"{of_item},"name":{name},"arguments":{}"#, quoted(&text));
        events.push(done_name, &done);
    }
    events.push("response.output_item.done", &format!(r#","output_index":0,"item":{ended}"#));
}

pub(super) fn error_event(message: &str) -> String {
    let message = quoted(message);
    format!(
        "event: error\ndata: {{\"type\":\"error\",\"sequence_number\":99,\"code\":\"server_error\",\"message\":{message},\"param\":null}}\n\n"
    )
}
