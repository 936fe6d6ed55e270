//! One answer in its two forms: a caller of either is given what was recorded in the
//! other, and nothing is lost on the way.

use crate::cache_stage::{
    CHAT, COLLAPSED, MESSAGES, MISS, Told as _, answered, assert_hit, assert_miss, chat, content,
    events, is_cached, message, send, streamed, told_text, with,
};
use serde_json::{Value, json};
use tollgate_tests::{
    Reply, World,
    standin::{Gate, Options},
};

/// A chat question whose answer is a call of a tool.
fn tool_chat() -> Value {
    let parameters = json!({
        "type": "object",
        "properties": { "city": { "type": "string" } },
        "required": ["city"],
    });
    let function = json!({ "name": "weather", "parameters": parameters });
    with(
        &chat("use the weather tool"),
        json!({ "tools": [{ "type": "function", "function": function }] }),
    )
}

fn tool_message() -> Value {
    let schema = json!({
        "type": "object",
        "properties": { "city": { "type": "string" } },
        "required": ["city"],
    });
    let tools = json!([{ "name": "weather", "input_schema": schema }]);
    with(&message("use the weather tool"), json!({ "tools": tools }))
}

/// What is of one call and not of the answer.
fn without_ids(mut answer: Value) -> Value {
    fn scrub(value: &mut Value) {
        match value {
            Value::Object(members) => {
                for name in ["id", "created"] {
                    members.remove(name);
                }
                members.values_mut().for_each(scrub);
            }
            Value::Array(items) => items.iter_mut().for_each(scrub),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    scrub(&mut answer);
    answer
}

/// The answer that the provider itself gives in one body.
async fn from_the_provider(world: &World, path: &str, question: &Value) -> Reply {
    world.client.post_with(path, &[("cache-control", "no-store")], question).await
}

fn questions() -> Vec<(&'static str, Value)> {
    vec![
        (CHAT, chat("a")),
        (CHAT, with(&chat("a"), json!({ "max_tokens": 3 }))),
        (CHAT, tool_chat()),
        (MESSAGES, message("a")),
        (MESSAGES, with(&message("a"), json!({ "max_tokens": 3 }))),
        (MESSAGES, tool_message()),
    ]
}

#[tokio::test]
async fn a_recorded_stream_answers_who_wants_one_body_as_the_provider_would() {
    let world = content(json!({})).start().await;
    for (path, question) in questions() {
        let stream = world.client.post(path, &streamed(&question)).await;
        assert_eq!(stream.cache_status(), MISS);
        let calls = world.standin.counts().calls;

        let whole = world.client.post(path, &question).await;
        assert_hit(&whole);
        assert_eq!(world.standin.counts().calls, calls);
        assert_eq!(whole.header("content-type"), "application/json");
        let expected = from_the_provider(&world, path, &question).await.json();
        let told = without_ids(whole.json());
        for (name, value) in without_ids(expected).as_object().unwrap() {
            if name == "choices" {
                // What a stream does not tell (`annotations`) nobody can make up.
                let (told, value) = (&told["choices"][0], &value[0]);
                assert_eq!(told["finish_reason"], value["finish_reason"]);
                for name in ["role", "content", "tool_calls"] {
                    assert_eq!(told["message"][name], value["message"][name], "{path}");
                }
                continue;
            }
            assert_eq!(told.get(name), Some(value), "{name} of {path} {question}");
        }
    }
}

#[tokio::test]
async fn a_recorded_body_answers_who_wants_a_stream() {
    let world = content(json!({})).start().await;
    for (path, question) in questions() {
        let whole = world.client.post(path, &question).await;
        assert_eq!(whole.cache_status(), MISS);
        let calls = world.standin.counts().calls;

        let stream = world.client.post(path, &streamed(&question)).await;
        assert_hit(&stream);
        assert_eq!(world.standin.counts().calls, calls);
        assert!(stream.header("content-type").starts_with("text/event-stream"), "{stream:?}");
        let (whole, text) = (whole.json(), stream.text());
        let expected =
            whole.pointer("/choices/0/message/content").or(whole.pointer("/content/0/text"));
        assert_eq!(
            told_text(&text),
            expected.and_then(Value::as_str).unwrap_or_default(),
            "{text}"
        );
        let arguments: String = events(&text)
            .iter()
            .filter_map(|data| serde_json::from_str::<Value>(data).ok())
            .filter_map(|event| {
                let openai = event.pointer("/choices/0/delta/tool_calls/0/function/arguments");
                let part = openai.or(event.pointer("/delta/partial_json"));
                part.and_then(Value::as_str).map(str::to_owned)
            })
            .collect();
        let call = whole.pointer("/choices/0/message/tool_calls/0/function/arguments");
        let input = whole.pointer("/content/0/input");
        match (call.and_then(Value::as_str), input) {
            (Some(call), _) => assert_eq!(arguments, call),
            (None, Some(input)) => {
                assert_eq!(&serde_json::from_str::<Value>(&arguments).unwrap(), input);
            }
            (None, None) => assert_eq!(arguments, ""),
        }
        let end = if path == CHAT { "[DONE]" } else { "{\"type\":\"message_stop\"}" };
        assert_eq!(events(&text).last(), Some(&end), "{text}");
    }
}

#[tokio::test]
async fn going_there_and_back_loses_nothing() {
    // Recorded whole, told as a stream, and that stream recorded by a second proxy.
    let first = content(json!({})).start().await;
    let second = content(json!({})).upstream(format!("http://{}", first.addr())).start().await;
    for (path, question) in questions() {
        let whole = first.client.post(path, &question).await;
        second.client.post(path, &streamed(&question)).await;
        let back = second.client.post(path, &question).await;
        assert!(back.is_hit() || back.cache_status().contains("tollgate; hit"), "{back:?}");
        let (whole, back) = (whole.json(), back.json());
        for pointer in [
            "/id",
            "/model",
            "/choices/0/message/content",
            "/choices/0/message/tool_calls",
            "/choices/0/finish_reason",
            "/content",
            "/stop_reason",
            "/usage/prompt_tokens",
            "/usage/completion_tokens",
            "/usage/input_tokens",
            "/usage/output_tokens",
        ] {
            assert_eq!(back.pointer(pointer), whole.pointer(pointer), "{pointer} of {question}");
        }
    }
}

/// The sizes of the chunks in which a body came.
fn chunk_ends(raw: &[u8]) -> Vec<Vec<u8>> {
    let text = raw;
    let at = text.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let mut rest = &text[at..];
    let mut chunks = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return chunks;
        }
        let start = line + 2;
        chunks.push(rest[start..start + size].to_vec());
        rest = &rest[start + size + 2..];
    }
}

#[tokio::test]
async fn a_stream_replays_in_the_frames_it_came_in() {
    let gate = Gate::chunks();
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let world = content(json!({})).standin(options).start().await;
    let question =
        with(&streamed(&chat("a")), json!({ "stream_options": { "include_usage": true } }));
    let mut live = world.client.stream(CHAT, &question).await;
    let mut frames = Vec::new();
    // Each event is read before the next is let go, so each is a frame of its own.
    while frames.last().is_none_or(|frame: &Vec<u8>| frame != b"data: [DONE]\n\n") {
        gate.release_chunks(1);
        frames.push(live.next().await.unwrap().unwrap().to_vec());
    }
    live.finish().await;

    let body = question.to_string();
    let mut wire = world.wire().await;
    wire.send(format!(
        "POST {CHAT} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    let raw = wire.closed().await;
    assert!(String::from_utf8_lossy(&raw).contains("tollgate; hit"));
    assert_eq!(chunk_ends(&raw), frames);
    assert_eq!(world.standin.counts().calls, 1);
}

/// Whether some event of the stream tells usage.
fn tells_usage(stream: &str) -> bool {
    events(stream)
        .iter()
        .filter_map(|data| serde_json::from_str::<Value>(data).ok())
        .any(|chunk| chunk["usage"].is_object())
}

#[tokio::test]
async fn usage_is_told_to_who_asked_and_to_nobody_else_whoever_recorded_it() {
    let silent = streamed(&chat("a"));
    let curious = with(&silent, json!({ "stream_options": { "include_usage": true } }));
    let whole = chat("a");
    for recorder in [&silent, &curious, &whole] {
        let world = content(json!({})).start().await;
        world.client.post(CHAT, recorder).await;
        for (question, wants) in [(&silent, false), (&curious, true), (&silent, false)] {
            let reply = world.client.post(CHAT, question).await;
            assert_hit(&reply);
            let text = reply.text();
            assert_eq!(tells_usage(&text), wants, "recorded by {recorder}: {text}");
            assert_eq!(events(&text).last(), Some(&"[DONE]"));
            assert!(!told_text(&text).is_empty());
        }
        let reply = world.client.post(CHAT, &whole).await;
        assert_hit(&reply);
        assert_eq!(reply.json()["usage"]["completion_tokens"], 12);
        assert_eq!(world.standin.counts().calls, 1);
    }
}

#[tokio::test]
async fn usage_is_hidden_while_it_streams_from_the_leader_and_told_to_the_follower_who_asked() {
    let gate = Gate::chunks();
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let world = content(json!({})).standin(options).start().await;
    let silent = streamed(&chat("a"));
    let curious = with(&silent, json!({ "stream_options": { "include_usage": true } }));
    let leader = world.client.stream(CHAT, &silent).await;
    let follower = world.client.stream(CHAT, &curious).await;
    assert_eq!(follower.cache_status(), COLLAPSED);
    gate.open();
    let (leader, follower) = (leader.finish().await.text(), follower.finish().await.text());
    assert!(!tells_usage(&leader), "{leader}");
    assert!(tells_usage(&follower), "{follower}");
    assert_eq!(told_text(&leader), told_text(&follower));
}

#[tokio::test]
async fn what_no_converter_knows_is_a_miss_and_never_a_worse_answer() {
    let world = content(json!({})).start().await;
    // Several answers at once.
    let several = with(&chat("a"), json!({ "n": 2 }));
    world.client.post(CHAT, &streamed(&several)).await;
    let whole = world.client.post(CHAT, &several).await;
    assert_miss(&whole);
    assert_eq!(whole.json()["choices"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_follower_of_the_other_form_gets_its_form_of_the_same_answer() {
    for (path, question) in [(CHAT, chat("a")), (MESSAGES, message("a"))] {
        for leads_with_a_stream in [true, false] {
            let gate = Gate::heads_and_chunks();
            let options = Options { gate: Some(gate.clone()), ..Options::default() };
            let world = content(json!({})).standin(options).start().await;
            let (first, second) = if leads_with_a_stream {
                (streamed(&question), question.clone())
            } else {
                (question.clone(), streamed(&question))
            };
            gate.release(1);
            let leader = world.client.stream(path, &first).await;
            let follower = send(&world.client, path, &[], &second);
            // Refused at once, but only after the follower was let in.
            assert!(!is_cached(&world.client, path, &with(&question, json!({ "seed": 1 }))).await);
            gate.open();
            let (leader, follower) = (leader.finish().await, answered(follower).await);
            assert_hit(&follower);
            let (stream, whole) =
                if leads_with_a_stream { (&leader, &follower) } else { (&follower, &leader) };
            let whole = whole.json();
            let text =
                whole.pointer("/choices/0/message/content").or(whole.pointer("/content/0/text"));
            assert_eq!(Some(told_text(&stream.text()).as_str()), text.and_then(Value::as_str));
            assert_eq!(world.standin.calls_of_model(question["model"].as_str().unwrap()), 1);
        }
    }
}

#[tokio::test]
async fn a_follower_of_the_other_form_asks_itself_where_nobody_can_convert() {
    let gate = Gate::heads_and_chunks();
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let world = content(json!({})).standin(options).start().await;
    let several = with(&chat("a"), json!({ "n": 2 }));
    gate.release(1);
    let leader = world.client.stream(CHAT, &streamed(&several)).await;
    let follower = send(&world.client, CHAT, &[], &several);
    gate.open();
    assert_eq!(events(&leader.finish().await.text()).last(), Some(&"[DONE]"));
    let follower = answered(follower).await;
    assert_miss(&follower);
    assert_eq!(follower.json()["choices"].as_array().unwrap().len(), 2);
    assert_eq!(world.standin.counts().calls, 2);
}
