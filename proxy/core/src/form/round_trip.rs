//! Properties over generated answers: nothing is lost on the way from one form to
//! the other and back. What a stream amounts to is decided here by accumulators of
//! their own, written after the SDKs', not by the converters.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{stream_to_whole, whole_to_stream};
use crate::dialect::Operation::{self, AnthropicMessages, OpenAiChat};

fn parsed(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

/// The data of the events of a stream.
fn data(stream: &[u8]) -> Vec<Value> {
    let stream = std::str::from_utf8(stream).unwrap();
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// Adds the string at `place` of `more`, if it is one.
fn append(to: &mut Value, more: &Value) {
    if let Some(more) = more.as_str() {
        let text = to.as_str().unwrap_or_default().to_owned() + more;
        *to = Value::from(text);
    }
}

/// What a client has at the end of a chat stream.
fn accumulated_chat(stream: &[u8]) -> Value {
    let mut sum = json!({"calls": []});
    for chunk in data(stream) {
        sum["model"] = chunk["model"].clone();
        if !chunk["usage"].is_null() {
            sum["usage"] = chunk["usage"].clone();
        }
        let choice = &chunk["choices"][0];
        append(&mut sum["finish_reason"], &choice["finish_reason"]);
        for name in ["content", "reasoning_content", "refusal"] {
            append(&mut sum[name], &choice["delta"][name]);
        }
        for part in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let index = usize::try_from(part["index"].as_u64().unwrap()).unwrap();
            let calls = sum["calls"].as_array_mut().unwrap();
            if calls.len() <= index {
                calls.push(json!({}));
            }
            append(&mut calls[index]["id"], &part["id"]);
            append(&mut calls[index]["name"], &part["function"]["name"]);
            append(&mut calls[index]["arguments"], &part["function"]["arguments"]);
        }
    }
    sum
}

/// The same, read from the whole form.
fn accumulated_whole_chat(body: &Value) -> Value {
    let choice = &body["choices"][0];
    let message = &choice["message"];
    let calls: Vec<_> = message["tool_calls"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|call| {
            let function = &call["function"];
            json!({"id": call["id"], "name": function["name"], "arguments": function["arguments"]})
        })
        .collect();
    json!({
        "calls": calls, "model": body["model"], "usage": body["usage"],
        "finish_reason": choice["finish_reason"], "content": message["content"],
        "reasoning_content": message["reasoning_content"], "refusal": message["refusal"],
    })
}

/// What a client has at the end of a message stream: the whole message.
fn accumulated_message(stream: &[u8]) -> Value {
    let mut message = Value::Null;
    let mut inputs = Vec::new();
    for event in data(stream) {
        let index = event["index"].as_u64().map_or(0, |index| usize::try_from(index).unwrap());
        match event["type"].as_str().unwrap() {
            "message_start" => message = event["message"].clone(),
            "content_block_start" => {
                message["content"].as_array_mut().unwrap().push(event["content_block"].clone());
                inputs.push(Value::Null);
            }
            "content_block_delta" => {
                let (delta, block) = (&event["delta"], &mut message["content"][index]);
                append(&mut inputs[index], &delta["partial_json"]);
                for name in ["text", "thinking", "signature"] {
                    if delta[name].is_string() {
                        append(&mut block[name], &delta[name]);
                    }
                }
            }
            "message_delta" => {
                for part in ["delta", "usage"] {
                    for (name, value) in event[part].as_object().unwrap() {
                        let whole =
                            if part == "usage" { &mut message["usage"] } else { &mut message };
                        if !value.is_null() || whole.get(name).is_none() {
                            whole[name] = value.clone();
                        }
                    }
                }
            }
            _ => {}
        }
    }
    for (index, input) in inputs.iter().enumerate() {
        if let Some(input) = input.as_str().filter(|input| !input.is_empty()) {
            message["content"][index]["input"] = serde_json::from_str(input).unwrap();
        }
    }
    message
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), ".{0,12}", Just("\n\r\"\\ data: [DONE]\n\n".to_owned())]
}

fn text_or_null() -> impl Strategy<Value = Value> {
    prop_oneof![Just(Value::Null), text().prop_map(Value::from)]
}

/// An object of at most these members, each there or not.
fn some_of(
    members: Vec<(&'static str, BoxedStrategy<Value>)>,
) -> BoxedStrategy<Map<String, Value>> {
    let members: Vec<_> = members
        .into_iter()
        .map(|(name, value)| {
            prop::option::of(value).prop_map(move |value| value.map(|v| (name.to_owned(), v)))
        })
        .collect();
    members.prop_map(|members| members.into_iter().flatten().collect()).boxed()
}

fn null() -> BoxedStrategy<Value> {
    Just(Value::Null).boxed()
}

fn number() -> BoxedStrategy<Value> {
    any::<u64>().prop_map(Value::from).boxed()
}

fn merged(parts: [Map<String, Value>; 2]) -> Value {
    parts.into_iter().flatten().collect::<Map<_, _>>().into()
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn usage(output: &'static str) -> impl Strategy<Value = Value> {
    let details = some_of(vec![("a_tokens", number()), ("b_tokens", number())]);
    let some = some_of(vec![
        ("input_tokens", number()),
        ("output_tokens_details", details.clone().prop_map(Value::from).boxed()),
        ("prompt_tokens_details", prop_oneof![null(), details.prop_map(Value::from)].boxed()),
        ("service_tier", text().prop_map(Value::from).boxed()),
        ("server_tool_use", null()),
    ]);
    (number(), some).prop_map(move |(tokens, some)| {
        merged([some, Map::from_iter([(output.to_owned(), tokens)])])
    })
}

fn whole_chat() -> impl Strategy<Value = Value> {
    let call = (text(), text(), text()).prop_map(|(id, name, arguments)| {
        let function = json!({"name": name, "arguments": arguments});
        json!({"id": id, "type": "function", "function": function})
    });
    let calls = prop::collection::vec(call, 0..4).prop_map(Value::from);
    let message = some_of(vec![
        ("reasoning_content", text_or_null().boxed()),
        ("reasoning", text_or_null().boxed()),
        ("refusal", text_or_null().boxed()),
        ("tool_calls", prop_oneof![null(), calls].boxed()),
        ("annotations", prop_oneof![null(), Just(json!([]))].boxed()),
        ("audio", null()),
        ("function_call", null()),
    ]);
    let choice = some_of(vec![
        ("logprobs", null()),
        ("stop_reason", prop_oneof![text_or_null(), number()].boxed()),
        ("token_ids", null()),
    ]);
    let envelope = some_of(vec![
        ("service_tier", text_or_null().boxed()),
        ("system_fingerprint", text_or_null().boxed()),
        ("prompt_logprobs", null()),
        ("kv_transfer_params", null()),
    ]);
    let said = (text(), number(), text(), text_or_null());
    (said, message, choice, envelope, usage("completion_tokens")).prop_map(
        |((id, created, model, content), message, choice, envelope, usage)| {
            let said = json!({"role": "assistant", "content": content});
            let message = merged([message, object(said)]);
            let said = json!({"index": 0, "message": message, "finish_reason": "stop"});
            let choice = merged([choice, object(said)]);
            let body = json!({
                "id": id, "object": "chat.completion", "created": created, "model": model,
                "choices": [choice], "usage": usage,
            });
            merged([envelope, object(body)])
        },
    )
}

fn whole_message() -> impl Strategy<Value = Value> {
    let input = prop::collection::hash_map(text(), prop_oneof![number(), text_or_null()], 0..3);
    let block = prop_oneof![
        text().prop_map(|text| json!({"type": "text", "text": text})),
        text().prop_map(|text| json!({"type": "text", "text": text, "citations": null})),
        (text(), text())
            .prop_map(|(t, s)| json!({"type": "thinking", "thinking": t, "signature": s})),
        text().prop_map(|t| json!({"type": "thinking", "thinking": t})),
        text().prop_map(|data| json!({"type": "redacted_thinking", "data": data})),
        (text(), text(), input).prop_map(
            |(id, name, input)| json!({"type": "tool_use", "id": id, "name": name, "input": input})
        ),
    ];
    let some = some_of(vec![
        ("stop_sequence", text_or_null().boxed()),
        ("container", prop_oneof![null(), Just(json!({"id": "c"}))].boxed()),
        ("context_management", null()),
    ]);
    let content = prop::collection::vec(block, 0..5);
    (text(), text(), content, usage("output_tokens"), some).prop_map(
        |(id, model, content, usage, some)| {
            let body = json!({
                "id": id, "type": "message", "role": "assistant", "model": model,
                "content": content, "stop_reason": "end_turn", "usage": usage,
            });
            merged([some, object(body)])
        },
    )
}

/// A chat stream of fragments in any order, with calls that begin in order.
fn chat_stream() -> impl Strategy<Value = Vec<u8>> {
    let delta = prop_oneof![
        text_or_null().prop_map(|text| json!({"content": text})),
        text_or_null().prop_map(|text| json!({"reasoning_content": text})),
        text_or_null().prop_map(|text| json!({"refusal": text})),
        (any::<prop::sample::Index>(), text()).prop_map(|(index, arguments)| {
            json!({"tool_calls": [{"index": index.index(60), "function": {"arguments": arguments}}]})
        }),
        Just(json!({"begin": null})),
    ];
    let said = (text(), text(), usage("completion_tokens"));
    (prop::collection::vec(delta, 0..16), said).prop_map(|(deltas, (id, model, usage))| {
        let mut stream = String::new();
        let mut push = |choices: Value, usage: &Value| {
            let chunk = json!({
                "id": id, "object": "chat.completion.chunk", "created": 1, "model": model,
                "choices": choices, "usage": usage,
            });
            stream += &format!("data: {chunk}\n\n");
        };
        let mut calls = 0;
        for mut delta in deltas {
            if delta.get("begin").is_some() {
                let function = json!({"name": "f", "arguments": ""});
                delta = json!({"tool_calls": [
                    {"index": calls, "id": format!("t{calls}"), "type": "function", "function": function}
                ]});
                calls += 1;
            } else if let Some(index) = delta["tool_calls"][0]["index"].as_u64() {
                if calls == 0 {
                    continue;
                }
                delta["tool_calls"][0]["index"] = json!(index % calls);
            } else if let Some(members) = delta.as_object_mut() {
                // Looking for it has put a `null` there.
                members.remove("tool_calls");
            }
            push(json!([{"index": 0, "delta": delta, "finish_reason": null}]), &Value::Null);
        }
        push(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]), &Value::Null);
        push(json!([]), &usage);
        (stream + "data: [DONE]\n\n").into_bytes()
    })
}

/// Whole → stream → whole; returns the stream.
fn there_and_back(operation: Operation, body: &Value) -> Result<Vec<u8>, TestCaseError> {
    let frames = whole_to_stream(operation, format!("{body:#}").as_bytes());
    let stream = frames.expect("the answer is known").concat();
    let back = stream_to_whole(operation, &stream).expect("its stream is known");
    prop_assert_eq!(&parsed(&back), body);
    Ok(stream)
}

proptest! {
    #[test]
    fn a_whole_chat_comes_back_the_same(body in whole_chat()) {
        let stream = there_and_back(OpenAiChat, &body)?;
        prop_assert_eq!(accumulated_chat(&stream), accumulated_whole_chat(&body));
    }

    #[test]
    fn a_whole_message_comes_back_the_same(body in whole_message()) {
        let stream = there_and_back(AnthropicMessages, &body)?;
        prop_assert_eq!(accumulated_message(&stream), body);
    }

    #[test]
    fn a_streamed_chat_comes_back_with_the_same_content(stream in chat_stream()) {
        let body = stream_to_whole(OpenAiChat, &stream).expect("the stream is known");
        prop_assert_eq!(accumulated_whole_chat(&parsed(&body)), accumulated_chat(&stream));
        let back = whole_to_stream(OpenAiChat, &body).expect("the answer is known").concat();
        prop_assert_eq!(accumulated_chat(&back), accumulated_chat(&stream));
    }

    /// The stream of a message, its deltas cut into letters.
    #[test]
    fn a_streamed_message_comes_back_with_the_same_content(body in whole_message()) {
        let frames = whole_to_stream(AnthropicMessages, body.to_string().as_bytes()).unwrap();
        let stream: Vec<u8> = frames.iter().flat_map(|frame| in_letters(frame)).collect();
        let whole = stream_to_whole(AnthropicMessages, &stream).expect("the stream is known");
        prop_assert_eq!(parsed(&whole), accumulated_message(&stream));
        prop_assert_eq!(parsed(&whole), body);
    }

    #[test]
    fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        for operation in [OpenAiChat, AnthropicMessages] {
            prop_assert_eq!(stream_to_whole(operation, &bytes), None);
            prop_assert_eq!(whole_to_stream(operation, &bytes), None);
        }
    }
}

/// A delta of text, thinking or input as one event for each of its letters; any
/// other frame as it is.
fn in_letters(frame: &[u8]) -> Vec<u8> {
    let event = data(frame).remove(0);
    let names = ["text", "thinking", "partial_json"];
    let Some(name) = names.into_iter().find(|name| event["delta"][name].is_string()) else {
        return frame.to_vec();
    };
    let letter = |letter: char| {
        let mut event = event.clone();
        event["delta"][name] = Value::from(letter.to_string());
        format!("event: content_block_delta\ndata: {event}\n\n").into_bytes()
    };
    event["delta"][name].as_str().unwrap().chars().flat_map(letter).collect()
}
