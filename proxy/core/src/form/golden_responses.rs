//! A response as OpenAI's reference writes it ("Streaming events" and "Create a model
//! response", platform.openai.com/docs/api-reference/responses-streaming), both ways.

use serde_json::{Value, json};

use super::{stream_to_whole, whole_to_stream};
use crate::dialect::Operation::OpenAiResponses;

const WHOLE: &str = r#"{"id":"resp_67c9","object":"response","created_at":1741290958,"status":"completed","completed_at":1741290960,"error":null,"incomplete_details":null,"instructions":"You are a helpful assistant.","max_output_tokens":null,"model":"gpt-4.1-2025-04-14","output":[{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"Greet."}],"encrypted_content":"gAAA=="},{"id":"msg_67c9","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hi there! \"How\"\ncan I ☂?","annotations":[]},{"type":"refusal","refusal":"No."}]},{"id":"fc_1","type":"function_call","status":"completed","call_id":"call_1","name":"sun","arguments":"{\"at\":1.50}"}],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":true,"temperature":1.0,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled","usage":{"input_tokens":37,"output_tokens":11,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":48},"user":null,"metadata":{},"brand_new":7}"#;

fn events(stream: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(stream).unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

fn stream(body: &str) -> Option<Vec<u8>> {
    whole_to_stream(OpenAiResponses, body.as_bytes()).map(|frames| frames.concat())
}

#[test]
fn a_whole_response_becomes_the_events_that_a_provider_sends_and_comes_back() {
    let stream = stream(WHOLE).unwrap();
    let events = events(&stream);
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    #[rustfmt::skip] // a table
    let expected = [
        "response.created", "response.in_progress",
        "response.output_item.added", "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta", "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done", "response.output_item.done",
        "response.output_item.added", "response.content_part.added",
        "response.output_text.delta", "response.output_text.done", "response.content_part.done",
        "response.content_part.added", "response.refusal.delta", "response.refusal.done",
        "response.content_part.done", "response.output_item.done",
        "response.output_item.added", "response.function_call_arguments.delta",
        "response.function_call_arguments.done", "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(kinds, expected);
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    let begun = &events[0]["response"];
    assert_eq!((&begun["status"], &begun["output"]), (&json!("in_progress"), &json!([])));
    assert_eq!((&begun["usage"], &begun["brand_new"]), (&Value::Null, &json!(7)));
    let added = json!({"id":"msg_67c9","type":"message","status":"in_progress","role":"assistant","content":[]});
    assert_eq!((&events[8]["item"], &events[8]["output_index"]), (&added, &json!(1)));
    let delta = json!({"type":"response.output_text.delta","sequence_number":10,"item_id":"msg_67c9","output_index":1,"content_index":0,"logprobs":[],"delta":"Hi there! \"How\"\ncan I ☂?"});
    assert_eq!(events[10], delta);
    let whole = stream_to_whole(OpenAiResponses, &stream).unwrap();
    assert_eq!(std::str::from_utf8(&whole).unwrap(), WHOLE, "to the byte");
}

#[test]
fn a_response_that_is_not_complete_or_cannot_be_told_is_refused() {
    for (from, to) in [
        (r#""status":"completed","completed_at""#, r#""status":"incomplete","completed_at""#),
        (r#""error":null"#, r#""error":{"code":"server_error"}"#),
        (r#""incomplete_details":null"#, r#""incomplete_details":{"reason":"x"}"#),
        (r#""usage":{"#, r#""usage":null,"use":{"#),
        (r#""type":"message","#, r#""type":"web_search_call","#),
        (r#""type":"message","#, r#""type":"message","mood":1,"#),
        (r#""annotations":[]"#, r#""annotations":[{"type":"url_citation"}]"#),
        (r#""type":"refusal""#, r#""type":"output_audio""#),
        (r#""object":"response""#, r#""object":"list""#),
        (r#""id":"fc_1","#, ""),
    ] {
        assert!(WHOLE.contains(from), "{from}");
        assert_eq!(stream(&WHOLE.replacen(from, to, 1)), None, "{from} → {to}");
    }
}

#[test]
fn a_stream_that_was_cut_or_failed_is_refused() {
    let stream = stream(WHOLE).unwrap();
    let last = stream.len() - 3;
    for end in (0..last).step_by(7).chain([last]) {
        assert_eq!(stream_to_whole(OpenAiResponses, &stream[..end]), None, "{end}");
    }
    let text = String::from_utf8(stream).unwrap();
    for (from, to) in [
        ("event: response.in_progress", "event: response.queued"),
        (
            "event: response.in_progress\ndata: {\"type\":\"response.in_progress\"",
            "event: error\ndata: {\"type\":\"error\"",
        ),
        (
            "event: response.completed\ndata: {\"type\":\"response.completed\"",
            "event: response.incomplete\ndata: {\"type\":\"response.incomplete\"",
        ),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text);
        assert_eq!(stream_to_whole(OpenAiResponses, changed.as_bytes()), None, "{from} → {to}");
    }
    // What other servers say behind it says nothing.
    let done = text + "data: [DONE]\n\n";
    assert!(stream_to_whole(OpenAiResponses, done.as_bytes()).is_some());
}
