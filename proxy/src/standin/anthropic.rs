//! Anthropic's shapes: messages, count_tokens, models, errors.

use super::{
    answer::{Answer, Choice, Finish, Usage},
    counts::Tokens,
    openai::{quoted, whole_piece},
    told::Piece,
};
use http::StatusCode;

fn stop_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => r#""end_turn""#,
        Finish::Length => r#""max_tokens""#,
        Finish::Tool => r#""tool_use""#,
        Finish::Filtered => r#""refusal""#,
        Finish::Unfinished => "null",
    }
}

/// Three disjoint inputs, where OpenAI counts the cached inside.
fn usage_json(usage: Usage, output: u64) -> String {
    format!(
        concat!(
            r#"{{"input_tokens":{},"cache_creation_input_tokens":{},"cache_read_input_tokens":{},"#,
            r#""cache_creation":{{"ephemeral_5m_input_tokens":{},"ephemeral_1h_input_tokens":0}},"#,
            r#""output_tokens":{},"service_tier":"standard"}}"#
        ),
        usage.input - usage.cache_read - usage.cache_write,
        usage.cache_write,
        usage.cache_read,
        usage.cache_write,
        output,
    )
}

/// A `message` object; `content` and `stop_reason` are JSON.
fn message(answer: &Answer, content: &str, stop_reason: &str, output: u64) -> String {
    let usage = if answer.tell_usage {
        format!(r#","usage":{}"#, usage_json(answer.usage, output))
    } else {
        String::new()
    };
    format!(
        concat!(
            r#"{{"model":{},"id":"msg_{}","type":"message","role":"assistant","content":[{}],"#,
            r#""stop_reason":{},"stop_sequence":null{}}}"#
        ),
        quoted(&answer.model),
        answer.id,
        content,
        stop_reason,
        usage,
    )
}

/// The answer as one body. There is no `n` here: only the first choice.
pub(super) fn whole(answer: &Answer) -> Piece {
    let choice = answer.choices.first();
    let content = match choice {
        None => String::new(),
        Some(choice) if choice.parts.is_empty() => String::new(),
        Some(choice) => block(answer, choice, &choice.text()),
    };
    let stop = stop_reason(choice.map_or(Finish::Stop, |choice| choice.finish));
    whole_piece(message(answer, &content, stop, answer.usage.output), answer)
}

/// A content block; `text` is the text, or the JSON of a tool's input.
fn block(answer: &Answer, choice: &Choice, text: &str) -> String {
    match &choice.tool {
        None => format!(r#"{{"type":"text","text":{}}}"#, quoted(text)),
        Some(tool) => format!(
            r#"{{"type":"tool_use","id":"toolu_{}","name":{},"input":{}}}"#,
            answer.id,
            quoted(tool),
            if text.is_empty() { "{}" } else { text },
        ),
    }
}

/// The answer as events. Usage comes in two of them: the input in the first,
/// the output, cumulative, in the last but one.
pub(super) fn stream(answer: &Answer) -> Vec<Piece> {
    let mut pieces = vec![start(answer)];
    let choice = answer.choices.first();
    if let Some(choice) = choice
        && !choice.parts.is_empty()
    {
        let block = block(answer, choice, "");
        pieces.push(Piece::new(event(
            "content_block_start",
            &format!(r#","index":0,"content_block":{block}"#),
        )));
        pieces.push(Piece::new(event("ping", "")));
        pieces.extend(choice.parts.iter().map(|part| {
            let text = quoted(&part.text);
            let delta = match choice.tool {
                None => format!(r#"{{"type":"text_delta","text":{text}}}"#),
                Some(_) => format!(r#"{{"type":"input_json_delta","partial_json":{text}}}"#),
            };
            let data = format!(r#","index":0,"delta":{delta}"#);
            Piece {
                billed: Tokens { input: 0, output: part.tokens },
                ..Piece::new(event("content_block_delta", &data))
            }
        }));
        pieces.push(Piece::new(event("content_block_stop", r#","index":0"#)));
    }
    let finish = choice.map_or(Finish::Stop, |choice| choice.finish);
    pieces.push(end(answer, finish));
    pieces.push(Piece { closing: true, ..Piece::new(event("message_stop", "")) });
    pieces
}

fn start(answer: &Answer) -> Piece {
    let said_output = answer.usage.output.min(1);
    let message = message(answer, "", "null", said_output);
    let input = Tokens { input: answer.usage.input, output: 0 };
    Piece {
        billed: input,
        told: if answer.tell_usage { input } else { Tokens::default() },
        ..Piece::new(event("message_start", &format!(r#","message":{message}"#)))
    }
}

fn end(answer: &Answer, finish: Finish) -> Piece {
    let output = answer.usage.output;
    let usage = if answer.tell_usage {
        format!(r#","usage":{{"output_tokens":{output}}}"#)
    } else {
        String::new()
    };
    let stop = stop_reason(finish);
    let data = format!(r#","delta":{{"stop_reason":{stop},"stop_sequence":null}}{usage}"#);
    Piece {
        told: Tokens { input: 0, output: if answer.tell_usage { output } else { 0 } },
        closing: true,
        ..Piece::new(event("message_delta", &data))
    }
}

/// An event whose data repeats its name as `type`; `more` begins with a comma.
fn event(name: &str, more: &str) -> String {
    format!("event: {name}\ndata: {{\"type\":\"{name}\"{more}}}\n\n")
}

pub(super) fn error_event(message: &str) -> String {
    let message = quoted(message);
    event("error", &format!(r#","error":{{"type":"overloaded_error","message":{message}}}"#))
}

pub(super) fn count_tokens(input_tokens: u64) -> Piece {
    Piece::new(format!(r#"{{"input_tokens":{input_tokens}}}"#))
}

/// The models anyone may list.
pub(super) const MODELS: [&str; 2] = ["claude-haiku-4-5", "claude-sonnet-4-5"];

pub(super) fn model(name: &str) -> String {
    let name = quoted(name);
    format!(
        r#"{{"type":"model","id":{name},"display_name":{name},"created_at":"2026-01-01T00:00:00Z"}}"#
    )
}

pub(super) fn models() -> String {
    let [first, last] = MODELS.map(quoted);
    let data = MODELS.map(model).join(",");
    format!(r#"{{"data":[{data}],"has_more":false,"first_id":{first},"last_id":{last}}}"#)
}

pub(super) fn error(status: StatusCode, message: &str, request_id: &str) -> String {
    let kind = match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    let (message, request_id) = (quoted(message), quoted(request_id));
    format!(
        r#"{{"type":"error","error":{{"type":"{kind}","message":{message}}},"request_id":{request_id}}}"#
    )
}
