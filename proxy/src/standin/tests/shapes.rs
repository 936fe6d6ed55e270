//! Bodies and streams have the shapes of the real APIs, and both forms of an
//! answer say the same.

use super::*;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

fn data(events: &[(String, String)]) -> Vec<Value> {
    let parse = |(_, data): &(String, String)| serde_json::from_str(data).unwrap();
    events.iter().map(parse).collect()
}

/// What a client makes of chat chunks: text, arguments, finish, usage.
fn chat_heard(got: &Got) -> (String, String, Value, Value) {
    let mut events = got.events();
    assert_eq!(events.pop().unwrap().1, "[DONE]");
    let (mut text, mut arguments) = (String::new(), String::new());
    let (mut finish, mut usage) = (Value::Null, Value::Null);
    for (no, chunk) in data(&events).iter().enumerate() {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        let Some(choice) = chunk["choices"].get(0) else {
            usage = chunk["usage"].clone();
            continue;
        };
        assert_eq!(choice["delta"].get("role").is_some(), no == 0, "a role is said once, first");
        text += choice["delta"]["content"].as_str().unwrap_or_default();
        let call = &choice["delta"]["tool_calls"][0]["function"]["arguments"];
        arguments += call.as_str().unwrap_or_default();
        finish = choice["finish_reason"].clone();
    }
    (text, arguments, finish, usage)
}

#[tokio::test]
async fn a_chat_stream_says_what_the_whole_answer_says() {
    let world = World::new(Options::default()).await;
    let whole = world.post(CHAT, &chat("m", "hello", &json!({}))).await.json();
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let streamed = world.post(CHAT, &chat("m", "hello", &more)).await;
    assert_eq!(streamed.headers["content-type"], "text/event-stream; charset=utf-8");
    let (text, arguments, finish, usage) = chat_heard(&streamed);
    assert_eq!(whole["choices"][0]["message"]["content"], text);
    assert_eq!(whole["choices"][0]["finish_reason"], finish);
    assert_eq!(whole["usage"], usage);
    assert_eq!(arguments, "");
    assert_eq!(usage["total_tokens"], 14);
}

#[tokio::test]
async fn usage_is_streamed_to_who_asks_and_null_until_then() {
    let world = World::new(Options::default()).await;
    let asked = json!({"stream": true, "stream_options": {"include_usage": true}});
    let got = world.post(CHAT, &chat("m", "hello", &asked)).await;
    let mut chunks = got.events();
    chunks.pop();
    let chunks = data(&chunks);
    let (last, others) = chunks.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert!(last["usage"].is_object());
    assert!(others.iter().all(|chunk| chunk.get("usage") == Some(&Value::Null)));

    let got = world.post(CHAT, &chat("m", "hello", &json!({"stream": true}))).await;
    assert!(!String::from_utf8_lossy(&got.body).contains("usage"));
    assert_eq!(world.standin.counts().told.output, 12, "told once, billed twice");
    assert_eq!(world.standin.counts().billed.output, 24);
}

#[tokio::test]
async fn an_anthropic_stream_has_its_events_in_order_and_says_what_the_whole_says() {
    let world = World::new(Options::default()).await;
    let whole = world.post(MESSAGES, &chat("c", "hello", &json!({}))).await.json();
    let streamed = world.post(MESSAGES, &chat("c", "hello", &json!({"stream": true}))).await;
    let events = streamed.events();
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[..3], ["message_start", "content_block_start", "ping"]);
    assert_eq!(names[names.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    let data = data(&events);
    assert!(events.iter().zip(&data).all(|((name, _), data)| data["type"] == **name));
    let text: String = data.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(whole["content"], json!([{"type": "text", "text": text}]));
    let start = &data[0]["message"];
    let end = &data[data.len() - 2];
    assert_eq!(start["usage"]["input_tokens"], whole["usage"]["input_tokens"]);
    assert_eq!(end["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
    assert_eq!(end["delta"]["stop_reason"], whole["stop_reason"]);
    assert_eq!(whole["stop_reason"], "end_turn");
    let counts = world.standin.counts();
    assert_eq!(counts.told, counts.billed);
}

#[tokio::test]
async fn a_responses_stream_is_numbered_and_ends_with_the_whole_response() {
    let world = World::new(Options::default()).await;
    let ask = |stream: bool| json!({"model": "m", "input": "hello", "stream": stream});
    let whole = world.post(RESPONSES, &ask(false)).await.json();
    let streamed = world.post(RESPONSES, &ask(true)).await;
    let events = streamed.events();
    let data = data(&events);
    for (no, ((name, _), data)) in events.iter().zip(&data).enumerate() {
        assert_eq!((&data["type"], &data["sequence_number"]), (&json!(name), &json!(no)));
    }
    assert_eq!(events[0].0, "response.created");
    let (last_name, _) = events.last().unwrap();
    assert_eq!(last_name, "response.completed");
    let ended = &data.last().unwrap()["response"];
    assert_eq!(ended["output"][0]["content"], whole["output"][0]["content"]);
    assert_eq!(ended["usage"], whole["usage"]);
    let text: String = data
        .iter()
        .filter(|event| event["type"] == "response.output_text.delta")
        .filter_map(|event| event["delta"].as_str())
        .collect();
    assert_eq!(ended["output"][0]["content"][0]["text"], text);
}

#[tokio::test]
async fn a_tool_call_says_the_same_arguments_in_every_form_and_dialect() {
    let world = World::new(Options::default()).await;
    let schema = json!({"type": "object", "properties": {
        "city": {"type": "string"}, "days": {"type": "integer"},
    }});
    let function = json!({"name": "weather", "parameters": schema});
    let tools = json!([{"type": "function", "function": function}]);
    let more = |stream: bool| json!({"tools": tools, "stream": stream});
    let question = "what is the weather?";
    let whole = world.post(CHAT, &chat("m", question, &more(false))).await.json();
    let call = &whole["choices"][0]["message"]["tool_calls"][0];
    let arguments = call["function"]["arguments"].as_str().unwrap();
    assert_eq!(call["function"]["name"], "weather");
    let parsed: Value = serde_json::from_str(arguments).unwrap();
    assert!(parsed["city"].is_string() && parsed["days"].is_u64());
    let streamed = world.post(CHAT, &chat("m", question, &more(true))).await;
    let (text, heard, finish, _) = chat_heard(&streamed);
    assert_eq!((text.as_str(), heard.as_str(), finish), ("", arguments, json!("tool_calls")));

    let more = |stream: bool| {
        json!({
            "tools": [{"name": "weather", "input_schema": schema}], "stream": stream,
        })
    };
    let whole = world.post(MESSAGES, &chat("m", question, &more(false))).await.json();
    assert_eq!(whole["content"][0]["input"], parsed);
    assert_eq!(whole["stop_reason"], "tool_use");
    let streamed = world.post(MESSAGES, &chat("m", question, &more(true))).await;
    let heard: String = data(&streamed.events())
        .iter()
        .filter_map(|event| event["delta"]["partial_json"].as_str())
        .collect();
    assert_eq!(heard, arguments);

    let tools = json!([{"type": "function", "name": "weather", "parameters": schema}]);
    let body = json!({"model": "m", "input": question, "tools": tools, "stream": true});
    let streamed = world.post(RESPONSES, &body).await;
    let ended = data(&streamed.events()).pop().unwrap();
    assert_eq!(ended["response"]["output"][0]["type"], "function_call");
    assert_eq!(ended["response"]["output"][0]["arguments"], arguments);
}

#[tokio::test]
async fn completions_stream_texts_and_every_choice_of_n_is_there() {
    let world = World::new(Options::default()).await;
    let ask = |stream: bool| json!({"model": "m", "prompt": "hello", "n": 2, "stream": stream});
    let whole = world.post("/v1/completions", &ask(false)).await.json();
    let streamed = world.post("/v1/completions", &ask(true)).await;
    let mut events = streamed.events();
    assert_eq!(events.pop().unwrap().1, "[DONE]");
    let mut texts = [String::new(), String::new()];
    for chunk in data(&events) {
        let index = usize::try_from(chunk["choices"][0]["index"].as_u64().unwrap()).unwrap();
        texts[index] += chunk["choices"][0]["text"].as_str().unwrap();
    }
    assert_ne!(texts[0], texts[1]);
    assert_eq!(whole["choices"][0]["text"], texts[0]);
    assert_eq!(whole["choices"][1]["text"], texts[1]);
}

#[tokio::test]
async fn an_embedding_is_the_same_in_base64_and_in_numbers() {
    let world = World::new(Options::default()).await;
    let ask = |format: &str| json!({"model": "m", "input": ["a", "b"], "encoding_format": format});
    let numbers = world.post("/v1/embeddings", &ask("float")).await.json();
    let coded = world.post("/v1/embeddings", &ask("base64")).await.json();
    assert_eq!(numbers["data"].as_array().unwrap().len(), 2);
    assert_ne!(numbers["data"][0]["embedding"], numbers["data"][1]["embedding"]);
    let bytes = STANDARD.decode(coded["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let decoded: Vec<f32> =
        bytes.chunks_exact(4).map(|n| f32::from_le_bytes(n.try_into().unwrap())).collect();
    assert_eq!(numbers["data"][0]["embedding"], json!(decoded));
    assert!(decoded.iter().all(|n| (0.125..0.25).contains(&n.abs())));
}

#[tokio::test]
async fn moderations_token_counts_and_models_are_answered() {
    let world = World::new(Options::default()).await;
    let verdict = world.post("/v1/moderations", &json!({"input": ["a", "b"]})).await.json();
    assert_eq!(verdict["results"].as_array().unwrap().len(), 2);
    let counted = world.post("/v1/messages/count_tokens", &chat("c", "hello", &json!({}))).await;
    let whole = world.post(MESSAGES, &chat("c", "hello", &json!({}))).await.json();
    assert_eq!(counted.json()["input_tokens"], whole["usage"]["input_tokens"]);
    assert_eq!(world.get("/v1/models", &[]).await.json()["object"], "list");
    let anthropic = [("anthropic-version", "2023-06-01")];
    assert_eq!(world.get("/v1/models", &anthropic).await.json()["has_more"], false);
    assert_eq!(world.get("/v1/models/x", &anthropic).await.json()["id"], "x");
}

#[tokio::test]
async fn the_same_question_gets_the_same_text_under_a_new_id_until_the_version_changes() {
    let world = World::new(Options::default()).await;
    let ask = async || world.post(CHAT, &chat("m", "hello", &json!({}))).await;
    let (first, again) = (ask().await, ask().await);
    assert!(!first.headers.contains_key("x-model-version"));
    let (first, again) = (first.json(), again.json());
    assert_eq!(first["choices"], again["choices"]);
    assert_ne!(first["id"], again["id"]);
    world.standin.set_model_version(Some("v2"));
    let newer = ask().await;
    assert_eq!(newer.headers["x-model-version"], "v2");
    assert_ne!(newer.json()["choices"], first["choices"]);
    assert_eq!(world.standin.calls_of_model("m"), 3);
}

#[tokio::test]
async fn an_answer_is_as_long_as_the_options_and_the_caller_allow() {
    for bytes in [1, 2, 1000, 16_384] {
        let world =
            World::new(Options { answer: AnswerLength::Bytes(bytes), ..Options::default() }).await;
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}]});
        let whole = world.post(CHAT, &body).await.json();
        let text = whole["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
        assert_eq!(text.len(), bytes);
    }
    let world = World::new(Options::default()).await;
    let whole = world.post(CHAT, &chat("m", "hello", &json!({"max_tokens": 3}))).await.json();
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    assert_eq!(whole["usage"]["completion_tokens"], 3);
}

#[tokio::test]
async fn cached_usage_is_inside_the_input_of_openai_and_beside_it_for_anthropic() {
    let world = World::new(Options::default()).await;
    let question = "x".repeat(400);
    let openai = world.post(CHAT, &chat("m+cached-usage", &question, &json!({}))).await.json();
    assert_eq!(openai["model"], "m");
    let input = openai["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(openai["usage"]["prompt_tokens_details"]["cached_tokens"], input / 2);
    let more = json!({});
    let anthropic = world.post(MESSAGES, &chat("m+cached-usage", &question, &more)).await.json();
    let usage = &anthropic["usage"];
    let sum: u64 = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"]
        .iter()
        .map(|name| usage[name].as_u64().unwrap())
        .sum();
    assert_eq!(sum, input);
}
