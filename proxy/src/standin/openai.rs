//! OpenAI's shapes: chat, completions, embeddings, moderations, models, errors.
//!
//! Written by hand in the order in which the real API writes its members, so
//! that a scanner in front meets what it will meet.

use super::{
    answer::{Answer, Choice, Finish, Part, Usage},
    counts::Tokens,
    question::Question,
    told::Piece,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::StatusCode;

const FINGERPRINT: &str = "fp_standin";

/// Chat or the older completions: one envelope, two shapes of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Completions,
}

/// `text` as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => r#""stop""#,
        Finish::Length => r#""length""#,
        Finish::Tool => r#""tool_calls""#,
        Finish::Filtered => r#""content_filter""#,
        Finish::Unfinished => "null",
    }
}

fn usage_json(usage: Usage) -> String {
    format!(
        concat!(
            r#"{{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},"#,
            r#""prompt_tokens_details":{{"cached_tokens":{},"audio_tokens":0}},"#,
            r#""completion_tokens_details":{{"reasoning_tokens":{},"audio_tokens":0,"#,
            r#""accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#
        ),
        usage.input,
        usage.output,
        usage.input + usage.output,
        usage.cache_read,
        usage.reasoning,
    )
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Chat => "chatcmpl-",
            Self::Completions => "cmpl-",
        }
    }

    /// `{"id":…,"object":…,"created":…,"model":…` without the closing brace.
    fn head(self, answer: &Answer, streamed: bool) -> String {
        let object = match (self, streamed) {
            (Self::Chat, false) => "chat.completion",
            (Self::Chat, true) => "chat.completion.chunk",
            (Self::Completions, _) => "text_completion",
        };
        format!(
            r#"{{"id":"{}{}","object":"{object}","created":{},"model":{}"#,
            self.prefix(),
            answer.id,
            answer.created,
            quoted(&answer.model),
        )
    }

    /// The answer as one body.
    pub(super) fn whole(self, answer: &Answer) -> Piece {
        let choices: Vec<String> = answer
            .choices
            .iter()
            .enumerate()
            .map(|(index, choice)| self.whole_choice(answer, index, choice))
            .collect();
        let usage = if answer.tell_usage {
            format!(r#","usage":{}"#, usage_json(answer.usage))
        } else {
            String::new()
        };
        let head = self.head(answer, false);
        let choices = choices.join(",");
        let body = format!(
            r#"{head},"choices":[{choices}]{usage},"service_tier":"default","system_fingerprint":"{FINGERPRINT}"}}"#,
        );
        whole_piece(body, answer)
    }

    fn whole_choice(self, answer: &Answer, index: usize, choice: &Choice) -> String {
        let finish = finish_reason(choice.finish);
        let text = quoted(&choice.text());
        match (self, &choice.tool) {
            (Self::Completions, _) => format!(
                r#"{{"text":{text},"index":{index},"logprobs":null,"finish_reason":{finish}}}"#
            ),
            (Self::Chat, None) => format!(
                r#"{{"index":{index},"message":{{"role":"assistant","content":{text},"refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":{finish}}}"#
            ),
            (Self::Chat, Some(tool)) => format!(
                concat!(
                    r#"{{"index":{},"message":{{"role":"assistant","content":null,"tool_calls":[{{"#,
                    r#""id":"call_{}_{}","type":"function","function":{{"name":{},"arguments":{}}}}}],"#,
                    r#""refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":{}}}"#
                ),
                index,
                answer.id,
                index,
                quoted(tool),
                text,
                finish,
            ),
        }
    }

    /// The answer as events; the usage event only for who asked.
    pub(super) fn stream(self, answer: &Answer, include_usage: bool) -> Vec<Piece> {
        let chunk = |choices: &str, usage: Option<&str>| {
            let usage = match usage {
                Some(usage) => format!(r#","usage":{usage}"#),
                None if include_usage => r#","usage":null"#.to_owned(),
                None => String::new(),
            };
            let obfuscation = if answer.obfuscation && !choices.is_empty() {
                r#","obfuscation":"kFq1Zx""#
            } else {
                ""
            };
            let head = self.head(answer, true);
            event(&format!(
                r#"{head},"service_tier":"default","system_fingerprint":"{FINGERPRINT}","choices":[{choices}]{usage}{obfuscation}}}"#,
            ))
        };
        let mut pieces = Vec::new();
        for (index, choice) in answer.choices.iter().enumerate() {
            if self == Self::Chat {
                pieces.push(Piece::new(chunk(&first_delta(answer, index, choice), None)));
            }
            pieces.extend(choice.parts.iter().map(|part| Piece {
                billed: Tokens { input: 0, output: part.tokens },
                ..Piece::new(chunk(&self.delta(index, choice, part), None))
            }));
            let last = self.choice(index, "", "{}", finish_reason(choice.finish));
            pieces.push(Piece { closing: true, ..Piece::new(chunk(&last, None)) });
        }
        if include_usage && answer.tell_usage {
            let usage = usage_json(answer.usage);
            pieces.push(Piece {
                told: Tokens { input: answer.usage.input, output: answer.usage.output },
                closing: true,
                ..Piece::new(chunk("", Some(&usage)))
            });
        }
        pieces.push(Piece { closing: true, ..Piece::new("data: [DONE]\n\n") });
        if let Some(first) = pieces.first_mut() {
            first.billed.input = answer.usage.input;
        }
        pieces
    }

    fn delta(self, index: usize, choice: &Choice, part: &Part) -> String {
        let text = quoted(&part.text);
        let delta = if choice.tool.is_some() {
            format!(r#"{{"tool_calls":[{{"index":0,"function":{{"arguments":{text}}}}}]}}"#)
        } else {
            format!(r#"{{"content":{text}}}"#)
        };
        self.choice(index, &part.text, &delta, "null")
    }

    fn choice(self, index: usize, text: &str, delta: &str, finish: &str) -> String {
        match self {
            Self::Chat => format!(
                r#"{{"index":{index},"delta":{delta},"logprobs":null,"finish_reason":{finish}}}"#
            ),
            Self::Completions => {
                let text = quoted(text);
                format!(
                    r#"{{"text":{text},"index":{index},"logprobs":null,"finish_reason":{finish}}}"#
                )
            }
        }
    }
}

/// The chunk that says who speaks, and which tool is called.
fn first_delta(answer: &Answer, index: usize, choice: &Choice) -> String {
    let delta = match &choice.tool {
        None => r#"{"role":"assistant","content":"","refusal":null}"#.to_owned(),
        Some(tool) => format!(
            concat!(
                r#"{{"role":"assistant","content":null,"tool_calls":[{{"index":0,"id":"call_{}_{}","#,
                r#""type":"function","function":{{"name":{},"arguments":""}}}}],"refusal":null}}"#
            ),
            answer.id,
            index,
            quoted(tool),
        ),
    };
    Kind::Chat.choice(index, "", &delta, "null")
}

/// A whole body that bills and, where it has a usage member, tells everything.
pub(super) fn whole_piece(body: String, answer: &Answer) -> Piece {
    let tokens = Tokens { input: answer.usage.input, output: answer.usage.output };
    let told = if answer.tell_usage { tokens } else { Tokens::default() };
    Piece { billed: tokens, told, ..Piece::new(body) }
}

/// An event without a name.
pub(super) fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}

/// A vector per input: as JSON numbers, or as base64 of little-endian `f32`.
pub(super) fn embeddings(question: &Question, model: &str, tell_usage: bool) -> Piece {
    let data: Vec<String> = question
        .inputs
        .iter()
        .enumerate()
        .map(|(index, seed)| {
            let vector = vector(*seed, question.dimensions.min(4096));
            let embedding = if question.base64 {
                let bytes: Vec<u8> = vector.iter().flat_map(|n| n.to_le_bytes()).collect();
                quoted(&STANDARD.encode(bytes))
            } else {
                serde_json::Value::from(vector).to_string()
            };
            format!(r#"{{"object":"embedding","index":{index},"embedding":{embedding}}}"#)
        })
        .collect();
    let tokens = Tokens { input: question.input_tokens, output: 0 };
    let usage = if tell_usage {
        format!(r#","usage":{{"prompt_tokens":{0},"total_tokens":{0}}}"#, tokens.input)
    } else {
        String::new()
    };
    let (data, model) = (data.join(","), quoted(model));
    let body = format!(r#"{{"object":"list","data":[{data}],"model":{model}{usage}}}"#);
    let told = if tell_usage { tokens } else { Tokens::default() };
    Piece { billed: tokens, told, ..Piece::new(body) }
}

/// Numbers from ±[0.125, 0.25): sign and mantissa from the hash.
pub(super) fn vector(seed: blake3::Hash, dimensions: usize) -> Vec<f32> {
    let mut random = blake3::Hasher::new().update(seed.as_bytes()).finalize_xof();
    let mut number = || {
        let mut bytes = [0; 4];
        random.fill(&mut bytes);
        f32::from_bits((u32::from_le_bytes(bytes) & 0x807F_FFFF) | 0x3E00_0000)
    };
    (0..dimensions).map(|_| number()).collect()
}

/// A verdict per input: nothing is ever flagged.
pub(super) fn moderations(question: &Question, id: &str, model: &str) -> Piece {
    let names = ["harassment", "hate", "self-harm", "sexual", "violence"];
    let members = |value: &str| names.map(|name| format!(r#""{name}":{value}"#)).join(",");
    let result = format!(
        r#"{{"flagged":false,"categories":{{{}}},"category_scores":{{{}}}}}"#,
        members("false"),
        members("0.0001"),
    );
    let results = vec![result; question.inputs.len()].join(",");
    let model = quoted(model);
    Piece::new(format!(r#"{{"id":"modr-{id}","model":{model},"results":[{results}]}}"#))
}

/// The models anyone may list.
pub(super) const MODELS: [&str; 3] = ["gpt-4o", "gpt-4o-mini", "text-embedding-3-small"];

pub(super) fn model(name: &str) -> String {
    let name = quoted(name);
    format!(r#"{{"id":{name},"object":"model","created":1760000000,"owned_by":"standin"}}"#)
}

pub(super) fn models() -> String {
    format!(r#"{{"object":"list","data":[{}]}}"#, MODELS.map(model).join(","))
}

/// An error body, without an answer.
pub(super) fn error(status: StatusCode, message: &str, param: Option<&str>) -> String {
    let (kind, code) = match status.as_u16() {
        401 => ("invalid_request_error", r#""invalid_api_key""#),
        403 => ("permission_error", "null"),
        404 => ("invalid_request_error", r#""model_not_found""#),
        429 => ("rate_limit_error", r#""rate_limit_exceeded""#),
        400..=499 => ("invalid_request_error", "null"),
        _ => ("server_error", "null"),
    };
    let message = quoted(message);
    let param = param.map_or("null".to_owned(), quoted);
    format!(r#"{{"error":{{"message":{message},"type":"{kind}","param":{param},"code":{code}}}}}"#)
}
