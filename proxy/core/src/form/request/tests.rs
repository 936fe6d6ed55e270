//! What is read of a request, in each dialect, and what is not.

use proptest::prelude::*;

use super::*;

fn read(operation: Operation, body: &str) -> RequestFacts<'_> {
    read_request(operation, body.as_bytes()).unwrap()
}

#[test]
fn the_facts_of_a_chat_are_read() {
    let body = r#"{"model":"gpt-5","messages":[{"role":"user","content":"stream"}],"n":2,
        "stream":true,"stream_options":{"x":[1],"include_usage":true},"temperature":0,
        "max_tokens":7,"max_completion_tokens":5,"user":"ann","priority":-3,
        "service_tier":"flex","tools":[{"a":{"b":[{}]}}]}"#;
    let expected = RequestFacts {
        model: Some("gpt-5".into()),
        stream: true,
        include_usage: true,
        temperature: Some(0.0),
        n: Some(2),
        max_tokens: Some(5),
        user: Some("ann".into()),
        priority: Some(-3),
        service_tier: Some("flex".into()),
        not_pure: None,
    };
    let facts = read(Operation::OpenAiChat, body);
    assert_eq!(facts, expected);
    assert!(matches!(facts.model, Some(Cow::Borrowed(_))), "no copy where none is needed");
}

#[test]
fn the_user_of_a_message_is_in_its_metadata() {
    let body = r#"{"user":"no","metadata":{"user_id":"bob"},"max_tokens":9,"temperature":0.5}"#;
    let facts = read(Operation::AnthropicMessages, body);
    assert_eq!((facts.user.as_deref(), facts.max_tokens), (Some("bob"), Some(9)));
    assert_eq!(facts.temperature, Some(0.5));
    assert_eq!(read(Operation::OpenAiChat, body).user.as_deref(), Some("no"));
}

#[test]
fn a_member_of_the_wrong_type_counts_as_absent() {
    let body = r#"{"model":{"a":1},"stream":"true","stream_options":[{"include_usage":true}],
        "temperature":"0","n":1.5,"max_tokens":-1,"max_output_tokens":8,"user":7,
        "priority":99999999999999999999,"service_tier":false,"metadata":"x"}"#;
    let expected = RequestFacts {
        max_tokens: Some(8),
        not_pure: Some(NotPure::Form),
        ..RequestFacts::default()
    };
    assert_eq!(read(Operation::OpenAiChat, body), expected);
}

#[test]
fn a_name_written_with_escapes_is_the_same_name() {
    let facts = read(Operation::OpenAiChat, r#"{"mod\u0065l":"g\u0070t","stream":true}"#);
    assert_eq!((facts.model.as_deref(), facts.stream), (Some("gpt"), true));
}

#[test]
fn a_model_longer_than_the_bound_counts_as_absent() {
    for (len, kept) in [(MODEL_LEN_MAX, true), (MODEL_LEN_MAX + 1, false)] {
        let body = format!(r#"{{"model":"{}"}}"#, "m".repeat(len));
        assert_eq!(read(Operation::OpenAiChat, &body).model.is_some(), kept);
    }
}

#[test]
fn a_response_that_goes_on_from_a_kept_one_is_not_pure() {
    for (body, reason) in [
        (r#"{"previous_response_id":"r"}"#, Some(NotPure::PreviousResponse)),
        (r#"{"previous_response_id":5}"#, Some(NotPure::PreviousResponse)),
        (r#"{"conversation":{"id":"c"}}"#, Some(NotPure::Conversation)),
        (r#"{"background":true}"#, Some(NotPure::Background)),
        (r#"{"background":false,"conversation":null,"previous_response_id":null}"#, None),
        (r#"{"store":true}"#, None),
    ] {
        assert_eq!(read(Operation::OpenAiResponses, body).not_pure, reason, "{body}");
        assert_eq!(read(Operation::OpenAiChat, body).not_pure, None, "{body}");
        let other = read(Operation::Other, body);
        assert_eq!((other.not_pure, other.is_pure()), (Some(NotPure::Operation), false));
    }
}

#[test]
fn whoever_asks_for_a_form_in_the_wrong_type_is_kept_from_the_cache() {
    for (body, expected) in [
        (r#"{"stream":"true"}"#, Some(NotPure::Form)),
        (r#"{"stream":1}"#, Some(NotPure::Form)),
        (r#"{"stream_options":"x"}"#, Some(NotPure::Form)),
        (r#"{"stream_options":{"include_usage":"true"}}"#, Some(NotPure::Form)),
        (r#"{"stream":null,"stream_options":null}"#, None),
        (r#"{"stream":false,"stream_options":{"include_usage":null}}"#, None),
        (r#"{"stream":true,"stream_options":{"include_usage":true}}"#, None),
    ] {
        assert_eq!(read(Operation::OpenAiChat, body).not_pure, expected, "{body}");
    }
}

#[test]
fn what_is_no_json_object_is_an_error() {
    for body in ["", "[]", "1", "\"a\"", "{", "{}{}", "{\"model\":}", "\u{feff}{}"] {
        assert!(read_request(Operation::OpenAiChat, body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn what_is_asked_is_found_where_each_dialect_says_it() {
    let gemini = r#"{"contents":[{"parts":[{"text":"temperature"}]}],"generationConfig":
        {"temperature":0,"maxOutputTokens":9,"candidateCount":2},"temperature":null}"#;
    let ollama =
        r#"{"model":"llama3.2","messages":[],"options":{"temperature":0,"num_predict":9}}"#;
    let tgi = r#"{"inputs":"a","parameters":{"temperature":0.0,"max_new_tokens":9,"best_of":2}}"#;
    for (operation, body, n) in [
        (Operation::GeminiGenerate, gemini, Some(2)),
        (Operation::OllamaChat, ollama, None),
        (Operation::TgiGenerate, tgi, Some(2)),
    ] {
        let facts = read(operation, body);
        assert_eq!((facts.temperature, facts.max_tokens, facts.n), (Some(0.0), Some(9), n));
        assert_eq!(facts.not_pure, None, "{body}");
        // To another dialect these are members like any other.
        assert_eq!(read(Operation::OpenAiChat, body).temperature, None, "{body}");
    }
    // Beside their object of parameters these servers read none.
    for (operation, body, temperature) in [
        (Operation::OllamaChat, r#"{"messages":[],"temperature":0}"#, None),
        (Operation::OllamaChat, r#"{"temperature":0,"options":{"temperature":0.7}}"#, Some(0.7)),
        (
            Operation::OllamaGenerate,
            r#"{"temperature":0.7,"options":{"temperature":0}}"#,
            Some(0.0),
        ),
        (Operation::TgiGenerate, r#"{"inputs":"a","temperature":0}"#, None),
    ] {
        assert_eq!(read(operation, body).temperature, temperature, "{body}");
    }
    let kept = r#"{"contents":[],"cachedContent":"cachedContents/1"}"#;
    assert_eq!(read(Operation::GeminiGenerate, kept).not_pure, Some(NotPure::KeptContent));
    assert_eq!(read(Operation::OpenAiChat, kept).not_pure, None);
}

#[test]
fn ollama_streams_unless_it_is_told_not_to() {
    for (body, streams) in
        [("{}", true), (r#"{"stream":null}"#, true), (r#"{"stream":false}"#, false)]
    {
        for operation in [Operation::OllamaChat, Operation::OllamaGenerate] {
            assert_eq!(read(operation, body).stream, streams, "{body}");
        }
        assert!(!read(Operation::CohereChat, body).stream, "{body}");
        assert!(!read(Operation::CohereChatV1, body).stream, "{body}");
    }
    let odd = read(Operation::OllamaChat, r#"{"stream":"no"}"#);
    assert_eq!((odd.stream, odd.not_pure), (false, Some(NotPure::Form)));
}

proptest! {
    #[test]
    fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        prop_assert!(read_request(Operation::OpenAiChat, &bytes).is_err());
    }
}
