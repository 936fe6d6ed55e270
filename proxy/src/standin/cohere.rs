//! Cohere's shapes: chat whole and streamed, embeddings, rerank, errors.

use super::{
    answer::{Answer, Choice, Finish},
    counts::Tokens,
    openai::{quoted, vector, whole_piece},
    question::Question,
    told::Piece,
};

/// Documents of one search.
const SEARCH_DOCUMENTS: usize = 100;

/// What Cohere puts around a question and does not bill, in tokens.
const PREAMBLE_TOKENS: u64 = 66;

fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => r#""COMPLETE""#,
        Finish::Length => r#""MAX_TOKENS""#,
        Finish::Tool => r#""TOOL_CALL""#,
        Finish::Filtered => r#""ERROR_TOXIC""#,
        Finish::Unfinished => "null",
    }
}

fn usage(answer: &Answer) -> String {
    if !answer.tell_usage {
        return String::new();
    }
    let (input, output) = (answer.usage.input, answer.usage.output);
    format!(
        r#","usage":{{"billed_units":{{"input_tokens":{input}.0,"output_tokens":{output}.0}},"tokens":{{"input_tokens":{}.0,"output_tokens":{output}.0}}}}"#,
        input + PREAMBLE_TOKENS,
    )
}

fn call(answer: &Answer, choice: &Choice, arguments: &str) -> String {
    let name = quoted(choice.tool.as_deref().unwrap_or_default());
    let arguments = quoted(arguments);
    format!(
        r#"{{"id":"call_{}","type":"function","function":{{"name":{name},"arguments":{arguments}}}}}"#,
        answer.id
    )
}

pub(super) fn whole(answer: &Answer) -> Piece {
    let choice = answer.choices.first();
    let said = match choice {
        Some(choice) if choice.parts.is_empty() => String::new(),
        Some(choice) if choice.tool.is_some() => {
            let call = call(answer, choice, &choice.text());
            format!(r#","tool_plan":"I will look.","tool_calls":[{call}]"#)
        }
        Some(choice) => {
            format!(r#","content":[{{"type":"text","text":{}}}]"#, quoted(&choice.text()))
        }
        None => String::new(),
    };
    let finish = finish_reason(choice.map_or(Finish::Stop, |choice| choice.finish));
    let body = format!(
        r#"{{"id":"{}","message":{{"role":"assistant"{said}}},"finish_reason":{finish}{}}}"#,
        answer.id,
        usage(answer),
    );
    whole_piece(body, answer)
}

fn event(kind: &str, more: &str) -> String {
    format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{more}}}\n\n")
}

fn delta(kind: &str, index: &str, message: &str) -> Piece {
    let more = format!(r#"{index},"delta":{{"message":{{{message}}}}}"#);
    Piece::new(event(kind, &more))
}

pub(super) fn stream(answer: &Answer) -> Vec<Piece> {
    let start = r#""role":"assistant","content":[],"tool_plan":"","tool_calls":[],"citations":[]"#;
    let id = format!(r#","id":"{}""#, answer.id);
    let mut pieces = vec![delta("message-start", &id, start)];
    let index = r#","index":0"#;
    let choice = answer.choices.first().filter(|choice| !choice.parts.is_empty());
    if let Some(choice) = choice {
        let is_call = choice.tool.is_some();
        if is_call {
            pieces.push(delta("tool-plan-delta", "", r#""tool_plan":"I will look.""#));
            let call = call(answer, choice, "");
            pieces.push(delta("tool-call-start", index, &format!(r#""tool_calls":{call}"#)));
        } else {
            let block = r#""content":{"type":"text","text":""}"#;
            pieces.push(delta("content-start", index, block));
        }
        for part in &choice.parts {
            let text = quoted(&part.text);
            let piece = if is_call {
                let more = format!(r#""tool_calls":{{"function":{{"arguments":{text}}}}}"#);
                delta("tool-call-delta", index, &more)
            } else {
                delta("content-delta", index, &format!(r#""content":{{"text":{text}}}"#))
            };
            pieces.push(Piece { billed: Tokens { input: 0, output: part.tokens }, ..piece });
        }
        let kind = if is_call { "tool-call-end" } else { "content-end" };
        pieces.push(Piece::new(event(kind, index)));
    }
    let told = if answer.tell_usage {
        Tokens { input: answer.usage.input, output: answer.usage.output }
    } else {
        Tokens::default()
    };
    let finish = answer.choices.first().map_or(Finish::Stop, |choice| choice.finish);
    let finish = finish_reason(finish);
    let end = format!(r#","delta":{{"finish_reason":{finish}{}}}"#, usage(answer));
    pieces.push(Piece { told, closing: true, ..Piece::new(event("message-end", &end)) });
    if let Some(first) = pieces.first_mut() {
        first.billed.input = answer.usage.input;
    }
    pieces
}

pub(super) fn embeddings(question: &Question, id: &str) -> Piece {
    let vectors: Vec<_> =
        question.inputs.iter().map(|seed| vector(*seed, question.dimensions)).collect();
    let vectors = serde_json::Value::from(vectors);
    let tokens = Tokens { input: question.input_tokens, output: 0 };
    let body = format!(
        r#"{{"id":"{id}","embeddings":{{"float":{vectors}}},"meta":{{"api_version":{{"version":"2"}},"billed_units":{{"input_tokens":{}}}}},"response_type":"embeddings_by_type"}}"#,
        tokens.input
    );
    Piece { billed: tokens, told: tokens, ..Piece::new(body) }
}

/// The documents by their scores, each of which comes from it and the query alone. It is billed by
/// searches.
pub(super) fn rerank(question: &Question, id: &str) -> Piece {
    let documents = question.inputs.len();
    let score = |document: &blake3::Hash| {
        let both = blake3::Hasher::new()
            .update(question.query.as_bytes())
            .update(document.as_bytes())
            .finalize();
        u16::from_le_bytes(both.as_bytes().first_chunk().copied().unwrap_or_default())
    };
    let mut ranked: Vec<(usize, u16)> = question.inputs.iter().map(score).enumerate().collect();
    ranked.sort_by_key(|(index, score)| (std::cmp::Reverse(*score), *index));
    let results: Vec<String> = ranked
        .iter()
        .take(question.top_n)
        .map(|(index, score)| format!(r#"{{"index":{index},"relevance_score":0.{score:05}}}"#))
        .collect();
    let searches = documents.div_ceil(SEARCH_DOCUMENTS).max(1);
    Piece::new(format!(
        r#"{{"id":"{id}","results":[{}],"meta":{{"api_version":{{"version":"2"}},"billed_units":{{"search_units":{searches}}}}}}}"#,
        results.join(",")
    ))
}

pub(super) fn error(message: &str) -> String {
    format!(r#"{{"id":"err","message":{}}}"#, quoted(message))
}

pub(super) fn error_event(message: &str) -> String {
    let message = quoted(message);
    event("message-end", &format!(r#","delta":{{"finish_reason":"ERROR","error":{message}}}"#))
}
