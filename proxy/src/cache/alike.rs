//! Whether two answers to one question say the same.
//!
//! What a provider makes anew for each answer (its id, the time, what it counted, how long it took)
//! says nothing; all the rest does. Streams are compared by the whole answer they come to.

use crate::route::whole_form;
use serde_json::Value;
use tollgate_cache::{entry::Form, omit::Omit, pointer::Pointer};
use tollgate_core::dialect::{Dialect, Operation};

/// How far apart two numbers may be that were measured: the same weights give other last digits in
/// a batch of another size, or on another machine.
const NUMBERS_APART_MAX: f64 = 1e-3;

/// An answer as it is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said<'a> {
    pub(super) status: u16,
    pub(super) form: Form,
    pub(super) body: &'a [u8],
}

/// `None`: one of them cannot be read.
pub(super) fn say_the_same(operation: Operation, one: Said<'_>, other: Said<'_>) -> Option<bool> {
    if one.status != other.status {
        return Some(false);
    }
    if one.form == other.form && one.body == other.body {
        return Some(true);
    }
    let omit = unsaid(operation.dialect());
    let form = |said: Said<'_>| whole_form(operation, said.form, said.body, &omit);
    let (one, other) = match (form(one), form(other)) {
        (Some(one), Some(other)) => (one, other),
        // Not JSON, and their bytes are not the same.
        (None, _) | (_, None) if operation == Operation::Other => return Some(false),
        (None, _) | (_, None) => return None,
    };
    if one == other {
        return Some(true);
    }
    if !is_measured(operation) {
        return Some(false);
    }
    let parsed = |form: &[u8]| serde_json::from_slice::<Value>(form).ok();
    Some(is_near(&parsed(&one)?, &parsed(&other)?))
}

/// Its answer is made of numbers that a machine has computed.
fn is_measured(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::OpenAiEmbeddings
            | Operation::OpenAiModerations
            | Operation::OpenAiRerank
            | Operation::GeminiEmbed
            | Operation::OllamaEmbed
            | Operation::CohereEmbed
            | Operation::CohereRerank
    )
}

#[expect(clippy::float_arithmetic, reason = "no money: how near two measured numbers are")]
fn is_near(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => match (one.as_f64(), other.as_f64()) {
            (Some(one), Some(other)) => {
                (one - other).abs() <= NUMBERS_APART_MAX * one.abs().max(other.abs()).max(1.0)
            }
            (None, _) | (_, None) => one == other,
        },
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| is_near(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let has_near = |(name, one): (&String, &Value)| {
                other.get(name).is_some_and(|other| is_near(one, other))
            };
            one.len() == other.len() && one.iter().all(has_near)
        }
        (one, other) => one == other,
    }
}

/// What is made anew for each answer.
fn unsaid(dialect: Dialect) -> Omit {
    let pointers: &[&str] = match dialect {
        Dialect::OpenAi => &[
            "/id",
            "/created",
            "/created_at",
            "/completed_at",
            "/system_fingerprint",
            "/service_tier",
            "/usage",
            "/meta",
            "/choices/*/message/tool_calls/*/id",
            "/output/*/id",
            "/output/*/call_id",
            "/output/*/encrypted_content",
        ],
        Dialect::Anthropic => &["/id", "/usage", "/content/*/id", "/content/*/signature"],
        Dialect::Gemini => &[
            "/responseId",
            "/createTime",
            "/usageMetadata",
            "/candidates/*/avgLogprobs",
            "/candidates/*/content/parts/*/thoughtSignature",
        ],
        Dialect::Ollama => &[
            "/created_at",
            "/total_duration",
            "/load_duration",
            "/prompt_eval_count",
            "/prompt_eval_duration",
            "/eval_count",
            "/eval_duration",
        ],
        Dialect::Cohere => &[
            "/id",
            "/meta",
            "/usage",
            "/message/tool_calls/*/id",
            "/response_id",
            "/generation_id",
            "/search_queries/*/generation_id",
            "/search_results/*/search_query/generation_id",
        ],
        Dialect::Tgi => &["/details/seed", "/*/details/seed"],
        // Nobody knows what such an answer says.
        Dialect::Http => &[],
    };
    let pointers: Vec<Pointer> =
        pointers.iter().filter_map(|text| Pointer::parse(text).ok()).collect();
    Omit::new(&pointers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Operation::{AnthropicMessages, OpenAiChat, OpenAiEmbeddings, Other};

    fn of(body: &str) -> Said<'_> {
        Said { status: 200, form: Form::Whole, body: body.as_bytes() }
    }

    #[track_caller]
    fn check(operation: Operation, one: &str, other: &str, expected: Option<bool>) {
        assert_eq!(say_the_same(operation, of(one), of(other)), expected, "{one} {other}");
        assert_eq!(say_the_same(operation, of(other), of(one)), expected, "{other} {one}");
    }

    #[test]
    fn what_is_made_anew_for_each_answer_says_nothing() {
        check(
            OpenAiChat,
            r#"{"id":"a","created":1,"choices":[{"message":{"content":"x"}}],"usage":{"n":1}}"#,
            r#"{"choices":[{"message":{"content":"x"}}],"id":"b","created":2}"#,
            Some(true),
        );
        let call = |id: &str, name: &str| {
            format!(
                r#"{{"choices":[{{"message":{{"tool_calls":[{{"id":"{id}","name":"{name}"}}]}}}}]}}"#
            )
        };
        check(OpenAiChat, &call("1", "f"), &call("2", "f"), Some(true));
        check(OpenAiChat, &call("1", "f"), &call("1", "g"), Some(false));
        let message = |id: &str, text: &str| {
            format!(r#"{{"id":"{id}","content":[{{"type":"text","text":"{text}"}}]}}"#)
        };
        check(AnthropicMessages, &message("1", "x"), &message("2", "x"), Some(true));
        check(AnthropicMessages, &message("1", "x"), &message("1", "y"), Some(false));
    }

    #[test]
    fn of_a_service_nobody_knows_every_member_says_something() {
        check(Other, r#"{"id":1}"#, r#"{"id":2}"#, Some(false));
        check(Other, r#"{"a":1,"b":2}"#, r#"{ "b": 2, "a": 1 }"#, Some(true));
        check(Other, "text", "other text", Some(false));
        check(Other, "text", "text", Some(true));
    }

    #[test]
    fn numbers_that_were_measured_need_only_be_near() {
        let vector = |numbers: &str| format!(r#"{{"data":[{{"embedding":[{numbers}]}}]}}"#);
        check(OpenAiEmbeddings, &vector("0.1,0.2"), &vector("0.1000001,0.2"), Some(true));
        check(OpenAiEmbeddings, &vector("0.1,0.2"), &vector("0.11,0.2"), Some(false));
        check(OpenAiEmbeddings, &vector("0.1,0.2"), &vector("0.1"), Some(false));
        check(OpenAiChat, r#"{"choices":[0.1]}"#, r#"{"choices":[0.1000001]}"#, Some(false));
    }

    #[test]
    fn what_cannot_be_read_is_neither() {
        check(OpenAiChat, "{}", "data: x", None);
    }

    #[test]
    fn another_status_says_something_else() {
        let gone = Said { status: 404, ..of("{}") };
        assert_eq!(say_the_same(Other, of("{}"), gone), Some(false));
    }
}
