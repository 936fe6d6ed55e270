//! Answers as providers send them, converted by hand: what the converters must
//! make of them, and what they must refuse.

use serde_json::Value;

use super::{UsageFilter, stream_to_whole, whole_to_stream};
use crate::dialect::Operation::{
    self, AnthropicMessages, OpenAiChat, OpenAiCompletions, OpenAiEmbeddings, OpenAiResponses,
};

const OPENAI_STREAM: &str = r#"data: {"id":"chatcmpl-A1","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"xY"}

: keep-alive

data: {"id":"chatcmpl-A1","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"content":"Hi "},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"a"}

data: {"id":"chatcmpl-A1","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"content":"\"you\"\n\u00e9"},"logprobs":null,"finish_reason":null}],"usage":null}

data: {"id":"chatcmpl-A1","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}

data: {"id":"chatcmpl-A1","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_1","choices":[],"usage":{"prompt_tokens":1500,"completion_tokens":320,"total_tokens":1820,"prompt_tokens_details":{"cached_tokens":1024,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":128}}}

data: [DONE]

"#;

const OPENAI_WHOLE: &str = r#"{"object":"chat.completion","id":"chatcmpl-A1","created":1760000000,"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_1","choices":[{"index":0,"message":{"role":"assistant","content":"Hi \"you\"\né","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":1500,"completion_tokens":320,"total_tokens":1820,"prompt_tokens_details":{"cached_tokens":1024,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":128}}}"#;

/// vLLM: members as `null`, reasoning, parallel calls in fragments, running usage.
const VLLM_STREAM: &str = r#"data: {"id":"c-2","object":"chat.completion.chunk","created":7,"model":"qwen","choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning_content":null},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null,"usage":{"prompt_tokens":16,"completion_tokens":0,"total_tokens":16}}

data: {"id":"c-2","object":"chat.completion.chunk","created":7,"model":"qwen","choices":[{"index":0,"delta":{"reasoning_content":"Let me "},"logprobs":null,"finish_reason":null}]}

data: {"id":"c-2","object":"chat.completion.chunk","created":8,"model":"qwen","choices":[{"index":0,"delta":{"reasoning_content":"see."},"logprobs":null,"finish_reason":null}]}

data: {"id":"c-2","object":"chat.completion.chunk","created":8,"model":"qwen","choices":[{"index":0,"delta":{"tool_calls":[{"id":"t1","type":"function","index":0,"function":{"name":"sun","arguments":""}}]},"finish_reason":null}]}

data: {"id":"c-2","object":"chat.completion.chunk","created":8,"model":"qwen","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":null,"function":{"name":null,"arguments":"{\"at\":"}}]},"finish_reason":null}]}

data: {"id":"c-2","object":"chat.completion.chunk","created":8,"model":"qwen","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1.50}"}},{"index":1,"id":"t2","type":"function","function":{"name":"rain","arguments":"{}"}}]},"finish_reason":null}]}

data: {"id":"c-2","object":"chat.completion.chunk","created":8,"model":"qwen","choices":[{"index":0,"delta":{"content":null},"logprobs":null,"finish_reason":"tool_calls","stop_reason":128001,"token_ids":null}],"usage":{"prompt_tokens":16,"completion_tokens":9,"total_tokens":25}}

data: [DONE]
"#;

const VLLM_WHOLE: &str = r#"{"id":"c-2","object":"chat.completion","created":7,"model":"qwen","prompt_token_ids":null,"choices":[{"index":0,"message":{"role":"assistant","content":"","reasoning_content":"Let me see.","tool_calls":[{"id":"t1","type":"function","function":{"name":"sun","arguments":"{\"at\":1.50}"}},{"id":"t2","type":"function","function":{"name":"rain","arguments":"{}"}}]},"logprobs":null,"finish_reason":"tool_calls","stop_reason":128001,"token_ids":null}],"usage":{"prompt_tokens":16,"completion_tokens":9,"total_tokens":25}}"#;

const ANTHROPIC_STREAM: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_01","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":12,"cache_creation_input_tokens":2048,"cache_read_input_tokens":null,"cache_creation":{"ephemeral_5m_input_tokens":1024},"output_tokens":1,"service_tier":"standard"}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"m."}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB=="}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"Em"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"Look: "}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"☂"}}

event: content_block_stop
data: {"type":"content_block_stop","index":2}

event: content_block_start
data: {"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_1","name":"rain","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"at\": 1."}}

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"50}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":3}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":null,"output_tokens":89,"server_tool_use":{"web_search_requests":0}}}

event: message_stop
data: {"type":"message_stop"}

"#;

const ANTHROPIC_WHOLE: &str = r#"{"type":"message","role":"assistant","id":"msg_01","model":"claude-sonnet-4-5","content":[{"type":"thinking","thinking":"Hmm.","signature":"EqQB=="},{"type":"redacted_thinking","data":"Em"},{"type":"text","text":"Look: ☂"},{"type":"tool_use","id":"toolu_1","name":"rain","input":{"at":1.50}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":12,"cache_creation_input_tokens":2048,"cache_read_input_tokens":null,"cache_creation":{"ephemeral_5m_input_tokens":1024},"output_tokens":89,"service_tier":"standard","server_tool_use":{"web_search_requests":0}}}"#;

fn whole(operation: Operation, stream: &str) -> Option<String> {
    stream_to_whole(operation, stream.as_bytes()).map(|body| String::from_utf8(body).unwrap())
}

fn stream(operation: Operation, body: &str) -> Option<String> {
    let frames = whole_to_stream(operation, body.as_bytes())?;
    Some(String::from_utf8(frames.concat()).unwrap())
}

#[track_caller]
fn check_whole(operation: Operation, stream: &str, expected: &str) {
    let body: Value = serde_json::from_str(&whole(operation, stream).unwrap()).unwrap();
    assert_eq!(body, serde_json::from_str::<Value>(expected).unwrap());
}

/// `stream` is converted, but not after `from` in it became `to`.
#[track_caller]
fn refuses(operation: Operation, answer: &str, from: &str, to: &str) {
    assert!(answer.contains(from), "nothing to replace: {from}");
    let changed = answer.replacen(from, to, 1);
    let convert = if answer.starts_with('{') { stream } else { whole };
    assert!(convert(operation, answer).is_some(), "not converted at all");
    assert_eq!(convert(operation, &changed), None, "{from} → {to}");
}

#[test]
fn a_streamed_chat_becomes_the_whole_one() {
    assert_eq!(whole(OpenAiChat, OPENAI_STREAM).as_deref(), Some(OPENAI_WHOLE));
    check_whole(OpenAiChat, VLLM_STREAM, VLLM_WHOLE);
    assert_eq!(
        whole(OpenAiChat, &OPENAI_STREAM.replace('\n', "\r\n")).as_deref(),
        Some(OPENAI_WHOLE)
    );
}

#[test]
fn what_was_said_stays_said_when_a_later_chunk_says_null() {
    let (first, later) = OPENAI_STREAM.split_at(OPENAI_STREAM.find("keep-alive").unwrap());
    let later = later.replace(r#""service_tier":"default""#, r#""service_tier":null"#);
    assert_eq!(whole(OpenAiChat, &[first, &later].concat()).as_deref(), Some(OPENAI_WHOLE));
}

#[test]
fn a_whole_chat_always_has_content() {
    let no_content = VLLM_STREAM.replace(r#""content":"","#, "").replace(r#""content":null"#, "");
    check_whole(
        OpenAiChat,
        &no_content,
        &VLLM_WHOLE.replace(r#""content":"""#, r#""content":null"#),
    );
}

#[test]
fn a_streamed_message_becomes_the_whole_one() {
    assert_eq!(whole(AnthropicMessages, ANTHROPIC_STREAM).as_deref(), Some(ANTHROPIC_WHOLE));
}

#[test]
fn a_whole_chat_becomes_the_frames_a_provider_sends() {
    let body = r#"{
      "id": "c", "object": "chat.completion", "created": 7, "model": "m",
      "choices": [{"index": 0, "finish_reason": "tool_calls", "logprobs": null,
        "message": {"role": "assistant", "content": "A\nb", "annotations": [], "tool_calls": [
          {"id": "t", "type": "function", "index": 0,
           "function": {"name": "f", "arguments": "{\"a\": 1}"}}]}}],
      "usage": {"prompt_tokens": 1,
                "completion_tokens": 2}
    }"#;
    let envelope = r#""object":"chat.completion.chunk","id":"c","created":7,"model":"m""#;
    let choice = |delta: &str, reason: &str| {
        format!(
            "data: {{{envelope},\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{reason}}}],\"usage\":null}}\n\n"
        )
    };
    let frames = whole_to_stream(OpenAiChat, body.as_bytes()).unwrap();
    let frames: Vec<_> = frames.into_iter().map(|f| String::from_utf8(f).unwrap()).collect();
    let expected = [
        choice(r#"{"role":"assistant","content":"","annotations":[]}"#, "null"),
        choice(r#"{"content":"A\nb"}"#, "null"),
        choice(
            r#"{"tool_calls":[{"index":0,"id":"t","type":"function","function":{"name":"f","arguments":""}}]}"#,
            "null",
        ),
        choice(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\": 1}"}}]}"#, "null"),
        choice("{}", r#""tool_calls""#),
        format!(
            "data: {{{envelope},\"choices\":[],\"usage\":{{\"prompt_tokens\":1,\"completion_tokens\":2}}}}\n\n"
        ),
        "data: [DONE]\n\n".to_owned(),
    ];
    assert_eq!(frames, expected);

    // And of these the filter takes the usage chunk only.
    let mut kept = Vec::new();
    let stream = frames.concat();
    UsageFilter::new().push(stream.as_bytes()).append_to(stream.as_bytes(), &mut kept);
    let rest = [&expected[..5], &expected[6..]].concat().concat();
    assert_eq!(String::from_utf8(kept).unwrap(), rest);
}

#[test]
fn a_whole_message_becomes_the_frames_a_provider_sends() {
    let frames = stream(AnthropicMessages, ANTHROPIC_WHOLE).unwrap();
    let expected = r#"event: message_start
data: {"type":"message_start","message":{"type":"message","role":"assistant","id":"msg_01","model":"claude-sonnet-4-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":12,"cache_creation_input_tokens":2048,"cache_read_input_tokens":null,"cache_creation":{"ephemeral_5m_input_tokens":1024},"service_tier":"standard","output_tokens":0}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hmm."}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB=="}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"Em"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"Look: ☂"}}

event: content_block_stop
data: {"type":"content_block_stop","index":2}

event: content_block_start
data: {"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_1","name":"rain","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"at\":1.50}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":3}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":89,"server_tool_use":{"web_search_requests":0}}}

event: message_stop
data: {"type":"message_stop"}

"#;
    assert_eq!(frames, expected);
}

#[test]
fn a_whole_answer_comes_back_from_its_stream() {
    for (operation, body) in
        [(OpenAiChat, OPENAI_WHOLE), (OpenAiChat, VLLM_WHOLE), (AnthropicMessages, ANTHROPIC_WHOLE)]
    {
        check_whole(operation, &stream(operation, body).unwrap(), body);
    }
}

#[test]
fn a_stream_of_a_chat_that_holds_something_unknown_is_refused() {
    for (from, to) in [
        (r#""refusal":null"#, r#""refusal":null,"mood":null"#),
        (r#""refusal":null"#, r#""audio":{"id":"a"}"#),
        (r#""refusal":null"#, r#""function_call":{"name":"f"}"#),
        (r#""refusal":null"#, r#""annotations":[{}]"#),
        (r#""content":"Hi ""#, r#""content":[{"type":"text","text":"Hi"}]"#),
        (r#""content":"Hi ""#, r#""content":"\ud800""#),
        (r#""role":"assistant""#, r#""role":"tool""#),
        (r#""logprobs":null"#, r#""logprobs":{"content":[]}"#),
        (r#""obfuscation":"a""#, r#""x_groq":{}"#),
        (r#""obfuscation":"a""#, r#""model":"twice""#),
        (r#""index":0"#, r#""index":1"#),
        (r#"[{"index":0,"delta":{"content":"Hi "}"#, r#"[{},{"index":0,"delta":{"content":"Hi "}"#),
        (r#""object":"chat.completion.chunk""#, r#""object":"text_completion""#),
        (r#""usage":null"#, r#""usage":7"#),
        (": keep-alive", "id: 7"),
        (": keep-alive", "event: error\ndata: {}"),
        (": keep-alive", r#"data: {"error":{"message":"overloaded"}}"#),
        ("chatcmpl-A1", "another"),
        ("fp_1", "fp_2"),
    ] {
        refuses(OpenAiChat, OPENAI_STREAM, from, to);
    }
    for (from, to) in [
        (r#"{"index":1,"id":"t2""#, r#"{"index":2,"id":"t2""#),
        (r#""type":"function""#, r#""type":"custom""#),
        (r#""name":null"#, r#""name":"sunrise""#),
        (r#""id":null"#, r#""id":"t9""#),
        (r#""id":"t2","#, ""),
        (r#""name":"rain","#, ""),
        (r#","token_ids":null"#, r#","token_ids":[1]"#),
        (r#""stop_reason":128001"#, r#""stop_reason":{}"#),
    ] {
        refuses(OpenAiChat, VLLM_STREAM, from, to);
    }
}

#[test]
fn a_stream_of_a_chat_that_is_not_complete_is_refused() {
    let usage = OPENAI_STREAM.split_once("],\"usage\":{").unwrap().1.split_once("\n\n").unwrap().0;
    refuses(OpenAiChat, OPENAI_STREAM, &format!("\"usage\":{{{usage}"), "\"usage\":null}");
    refuses(OpenAiChat, OPENAI_STREAM, r#""finish_reason":"stop""#, r#""finish_reason":null"#);
    refuses(OpenAiChat, OPENAI_STREAM, "data: [DONE]", "");
    refuses(OpenAiChat, OPENAI_STREAM, "data: [DONE]", "data: [DONE]\n\ndata: [DONE]");
    let done = OPENAI_STREAM.find("[DONE]").unwrap();
    for end in 0..done + "[DONE]".len() {
        assert_eq!(stream_to_whole(OpenAiChat, &OPENAI_STREAM.as_bytes()[..end]), None, "{end}");
    }
    // Nothing is said behind the finish.
    let finish = r#""finish_reason":null}],"usage":null,"obfuscation":"a""#;
    refuses(OpenAiChat, OPENAI_STREAM, finish, &finish.replacen("null", "\"stop\"", 1));
}

#[test]
fn a_whole_chat_that_holds_something_unknown_is_refused() {
    for (from, to) in [
        (r#""refusal":null"#, r#""refusal":null,"mood":null"#),
        (r#""refusal":null"#, r#""audio":{"id":"a"}"#),
        (r#""refusal":null"#, r#""annotations":[{}]"#),
        (r#""role":"assistant","#, ""),
        (r#""logprobs":null"#, r#""logprobs":{"content":[]}"#),
        (r#""finish_reason":"stop"}"#, r#""finish_reason":"stop"},{"index":1}"#),
        (r#""finish_reason":"stop""#, r#""finish_reason":null"#),
        (r#""index":0"#, r#""index":1"#),
        (r#""id":"chatcmpl-A1""#, r#""error":{},"id":"chatcmpl-A1""#),
        (r#""id":"chatcmpl-A1","#, ""),
        (r#""object":"chat.completion""#, r#""object":"chat.completion.chunk""#),
        (r#""usage":{"#, r#""usage":null,"use":{"#),
        (r#""created":1760000000"#, r#""created":1760000000,"created":1"#),
    ] {
        refuses(OpenAiChat, OPENAI_WHOLE, from, to);
    }
    let again =
        r#"{"index":0,"id":"t1","type":"function","function":{"arguments":""}},{"id":"t2","#;
    refuses(OpenAiChat, VLLM_WHOLE, r#"{"id":"t2","#, again);
    refuses(OpenAiChat, VLLM_WHOLE, r#""type":"function","#, r#""type":"custom","#);
}

#[test]
fn a_stream_of_a_message_that_holds_something_unknown_is_refused() {
    for (from, to) in [
        (r#""type":"text_delta""#, r#""type":"citations_delta""#),
        (r#""text":"Look: ""#, r#""text":"Look: ","mood":1"#),
        (r#""type":"text","text":"""#, r#""type":"text","text":"","citations":[{}]"#),
        (r#""type":"redacted_thinking""#, r#""type":"server_tool_use""#),
        (r#","index":2,"delta""#, r#","index":1,"delta""#),
        (r#""partial_json":"50}""#, r#""partial_json":"50""#),
        (r#""partial_json":"50}""#, r#""partial_json":"50}]""#),
        (r#""content":[]"#, r#""content":[{"type":"text","text":"a"}]"#),
        (r#""stop_reason":null"#, r#""stop_reason":"tool_use""#),
        (r#""signature":"""#, r#""signature":"EqQ""#),
        (r#""id":"toolu_1","#, ""),
        (r#","data":"Em""#, ""),
        (r#""role":"assistant""#, r#""role":"assistant","mood":null"#),
        (r#""role":"assistant""#, r#""role":"assistant","context_management":{}"#),
        ("event: ping", "event: pong"),
        (r#"{"type": "ping"}"#, r#"{"type":"ping","a":1}"#),
        ("event: ping\ndata: {\"type\": \"ping\"}", "event: error\ndata: {\"type\":\"error\"}"),
        (r#""stop_reason":"tool_use""#, r#""stop_reason":null"#),
        (r#""output_tokens":89"#, r#""output_tokens":89,"output_tokens":90"#),
        (r#"{"type":"message_stop"}"#, r#"{"type":"message_stop","metrics":{}}"#),
    ] {
        refuses(AnthropicMessages, ANTHROPIC_STREAM, from, to);
    }
    let stop = ANTHROPIC_STREAM.find(r#"{"type":"message_stop"}"#).unwrap();
    for end in 0..stop + r#"{"type":"message_stop""#.len() {
        let cut = ANTHROPIC_STREAM.as_bytes().get(..end).unwrap();
        assert_eq!(stream_to_whole(AnthropicMessages, cut), None, "{end}");
    }
}

#[test]
fn a_whole_message_that_holds_something_unknown_is_refused() {
    for (from, to) in [
        (r#""type":"text""#, r#""type":"image""#),
        (r#""text":"Look: ☂""#, r#""text":"Look: ☂","citations":[{}]"#),
        (r#""input":{"at":1.50}"#, r#""input":[]"#),
        (r#""data":"Em""#, r#""data":"Em","signature":"x""#),
        (r#""type":"message""#, r#""type":"error""#),
        (r#""stop_reason":"tool_use""#, r#""stop_reason":null"#),
        (r#""id":"msg_01""#, r#""id":"msg_01","mood":null"#),
        (r#""output_tokens":89,"#, ""),
    ] {
        refuses(AnthropicMessages, ANTHROPIC_WHOLE, from, to);
    }
}

#[test]
fn only_operations_with_a_converter_are_converted() {
    for operation in [OpenAiCompletions, OpenAiEmbeddings, OpenAiResponses, AnthropicMessages] {
        assert_eq!(whole(operation, OPENAI_STREAM), None);
        assert_eq!(stream(operation, OPENAI_WHOLE), None);
    }
    assert_eq!(whole(OpenAiChat, ANTHROPIC_STREAM), None);
    assert_eq!(stream(OpenAiChat, ANTHROPIC_WHOLE), None);
}
