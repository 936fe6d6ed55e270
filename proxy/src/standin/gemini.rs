//! Gemini's shapes: generated content whole, as events and as an array; counts,
//! embeddings, errors.

use super::{
    answer::{Answer, Choice, Finish},
    counts::Tokens,
    openai::{quoted, vector, whole_piece},
    question::{Question, Shape},
    told::Piece,
};
use http::StatusCode;

fn finish_reason(finish: Finish) -> Option<&'static str> {
    match finish {
        Finish::Stop | Finish::Tool => Some("STOP"),
        Finish::Length => Some("MAX_TOKENS"),
        Finish::Filtered => Some("SAFETY"),
        Finish::Unfinished => None,
    }
}

/// What has been used when so much was written; thoughts come first.
fn usage_json(answer: &Answer, written: u64) -> String {
    let usage = answer.usage;
    let thoughts = usage.reasoning.min(written);
    let mut members = vec![format!(r#""promptTokenCount":{}"#, usage.input)];
    if usage.cache_read > 0 {
        members.push(format!(r#""cachedContentTokenCount":{}"#, usage.cache_read));
    }
    if written > thoughts {
        members.push(format!(r#""candidatesTokenCount":{}"#, written - thoughts));
    }
    if thoughts > 0 {
        members.push(format!(r#""thoughtsTokenCount":{thoughts}"#));
    }
    members.push(format!(r#""totalTokenCount":{}"#, usage.input + written));
    members.push(format!(
        r#""promptTokensDetails":[{{"modality":"TEXT","tokenCount":{}}}]"#,
        usage.input
    ));
    format!("{{{}}}", members.join(","))
}

/// A response with these parts; `end`: it is the last one.
fn chunk(answer: &Answer, parts: &str, end: Option<Finish>, written: u64) -> String {
    let finish = end.and_then(finish_reason);
    let finish = finish.map(|reason| format!(r#","finishReason":"{reason}""#)).unwrap_or_default();
    let usage = if answer.tell_usage {
        format!(r#","usageMetadata":{}"#, usage_json(answer, written))
    } else {
        String::new()
    };
    format!(
        r#"{{"candidates":[{{"content":{{"parts":[{parts}],"role":"model"}}{finish},"index":0}}]{usage},"modelVersion":{},"responseId":"{}"}}"#,
        quoted(&answer.model),
        answer.id,
    )
}

fn part(choice: &Choice, text: &str) -> String {
    match &choice.tool {
        None => format!(r#"{{"text":{}}}"#, quoted(text)),
        Some(tool) => format!(r#"{{"functionCall":{{"name":{},"args":{text}}}}}"#, quoted(tool)),
    }
}

/// The answer as one body.
pub(super) fn whole(answer: &Answer) -> Piece {
    let choice = answer.choices.first();
    let parts = match choice {
        Some(choice) if !choice.parts.is_empty() => part(choice, &choice.text()),
        Some(_) | None => String::new(),
    };
    let finish = choice.map_or(Finish::Stop, |choice| choice.finish);
    whole_piece(chunk(answer, &parts, Some(finish), answer.usage.output), answer)
}

/// The answer in chunks, in either framing.
pub(super) fn stream(answer: &Answer, shape: Shape) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut written = 0;
    let finish = answer.choices.first().map_or(Finish::Stop, |choice| choice.finish);
    for choice in answer.choices.iter().take(1) {
        // A call comes in one piece.
        let texts: Vec<(String, u64)> = match &choice.tool {
            Some(_) => vec![(choice.text(), choice.parts.iter().map(|part| part.tokens).sum())],
            None => choice.parts.iter().map(|part| (part.text.clone(), part.tokens)).collect(),
        };
        for (text, tokens) in texts {
            written += tokens;
            pieces.push(Piece {
                billed: Tokens { input: 0, output: tokens },
                ..Piece::new(chunk(answer, &part(choice, &text), None, written))
            });
        }
    }
    let told = if answer.tell_usage {
        Tokens { input: answer.usage.input, output: answer.usage.output }
    } else {
        Tokens::default()
    };
    let empty = if written == 0 { "" } else { r#"{"text":""}"# };
    let last = chunk(answer, empty, Some(finish), answer.usage.output);
    pieces.push(Piece { told, closing: true, ..Piece::new(last) });
    if let Some(first) = pieces.first_mut() {
        first.billed.input = answer.usage.input;
    }
    framed(pieces, shape)
}

fn framed(mut pieces: Vec<Piece>, shape: Shape) -> Vec<Piece> {
    for (place, piece) in pieces.iter_mut().enumerate() {
        let (before, after): (&[u8], &[u8]) = match (shape, place) {
            (Shape::Array, 0) => (b"[", b""),
            (Shape::Array, _) => (b",\r\n", b""),
            _ => (b"data: ", b"\r\n\r\n"),
        };
        piece.bytes = [before, &piece.bytes, after].concat().into();
    }
    if shape == Shape::Array {
        pieces.push(Piece { closing: true, ..Piece::new("]") });
    }
    pieces
}

pub(super) fn count_tokens(question: &Question) -> Piece {
    let tokens = question.input_tokens;
    Piece::new(format!(r#"{{"totalTokens":{tokens},"promptTokensDetails":[]}}"#))
}

/// A vector for one content, or a list of them for a batch.
pub(super) fn embeddings(question: &Question, in_batch: bool) -> Piece {
    let vectors: Vec<String> = question
        .inputs
        .iter()
        .map(|seed| {
            let values = serde_json::Value::from(vector(*seed, question.dimensions));
            format!(r#"{{"values":{values}}}"#)
        })
        .collect();
    let tokens = Tokens { input: question.input_tokens, output: 0 };
    let usage = format!(
        r#","usageMetadata":{{"promptTokenCount":{0},"totalTokenCount":{0}}}"#,
        tokens.input
    );
    let body = if in_batch {
        format!(r#"{{"embeddings":[{}]{usage}}}"#, vectors.join(","))
    } else {
        let vector = vectors.into_iter().next().unwrap_or_default();
        format!(r#"{{"embedding":{vector}{usage}}}"#)
    };
    Piece { billed: tokens, told: tokens, ..Piece::new(body) }
}

pub(super) fn error(status: StatusCode, message: &str) -> String {
    let name = match status.as_u16() {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        400..=499 => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    };
    let (code, message) = (status.as_u16(), quoted(message));
    format!(r#"{{"error":{{"code":{code},"message":{message},"status":"{name}"}}}}"#)
}
