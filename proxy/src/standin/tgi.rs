//! TGI's shapes: a generation whole and token by token, errors.

use super::{
    answer::{Answer, Finish},
    counts::Tokens,
    openai::{quoted, whole_piece},
    told::Piece,
};

fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Length => "length",
        Finish::Stop | Finish::Tool | Finish::Filtered | Finish::Unfinished => "eos_token",
    }
}

fn token(index: usize, text: &str) -> String {
    format!(r#"{{"id":{index},"text":{},"logprob":-0.5,"special":false}}"#, quoted(text))
}

/// `details`: it was asked for them. `in_list`: as the root answers.
pub(super) fn whole(answer: &Answer, details: bool, in_list: bool) -> Piece {
    let choice = answer.choices.first();
    let text = choice.map(|choice| choice.text()).unwrap_or_default();
    let details = match choice {
        Some(choice) if details => {
            let tokens: Vec<String> = choice
                .parts
                .iter()
                .enumerate()
                .map(|(index, part)| token(index, &part.text))
                .collect();
            format!(
                r#","details":{{"finish_reason":"{}","generated_tokens":{},"seed":null,"prefill":[],"tokens":[{}]}}"#,
                finish_reason(choice.finish),
                answer.usage.output,
                tokens.join(","),
            )
        }
        Some(_) | None => String::new(),
    };
    let body = format!(r#"{{"generated_text":{}{details}}}"#, quoted(&text));
    whole_piece(if in_list { format!("[{body}]") } else { body }, answer)
}

pub(super) fn stream(answer: &Answer, details: bool) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for choice in answer.choices.iter().take(1) {
        let last = choice.parts.len().saturating_sub(1);
        for (index, part) in choice.parts.iter().enumerate() {
            let token = token(index, &part.text);
            let is_last = index == last;
            let text = if is_last { quoted(&choice.text()) } else { "null".to_owned() };
            let details = if is_last && details && answer.tell_usage {
                format!(
                    r#"{{"finish_reason":"{}","generated_tokens":{},"seed":null,"input_length":{}}}"#,
                    finish_reason(choice.finish),
                    answer.usage.output,
                    answer.usage.input,
                )
            } else {
                "null".to_owned()
            };
            let told = if details == "null" {
                Tokens::default()
            } else {
                Tokens { input: answer.usage.input, output: answer.usage.output }
            };
            pieces.push(Piece {
                billed: Tokens { input: 0, output: part.tokens },
                told,
                closing: is_last,
                ..Piece::new(format!(
                    "data:{{\"index\":{},\"token\":{token},\"generated_text\":{text},\"details\":{details}}}\n\n",
                    index + 1
                ))
            });
        }
    }
    if let Some(first) = pieces.first_mut() {
        first.billed.input = answer.usage.input;
    }
    pieces
}

pub(super) fn error(status: http::StatusCode, message: &str) -> String {
    let kind = match status.as_u16() {
        429 | 503 => "overloaded",
        400..=499 => "validation",
        _ => "generation",
    };
    format!(r#"{{"error":{},"error_type":"{kind}"}}"#, quoted(message))
}
