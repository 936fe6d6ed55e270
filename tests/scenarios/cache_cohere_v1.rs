//! Cohere's first chat API: one question, and three ways of being answered from one entry.

use crate::{
    ask::input_and_output,
    cache_stage::{
        assert_bypass, assert_hit, assert_miss, content, cost_pico, record_of, streamed, with,
    },
};
use serde_json::{Value, json};
use tollgate_tests::{Reply, Scripted, World};

const CHAT: &str = "/v1/chat";
/// As the provider documents it, and as everybody else says it.
const SSE: [(&str, &str); 2] = [("accepts", "text/event-stream"), ("accept", "text/event-stream")];

fn whole() -> String {
    let meta = json!({ "billed_units": { "input_tokens": 5, "output_tokens": 7 } });
    json!({
        "response_id": "r", "text": "Look up", "generation_id": "g", "finish_reason": "COMPLETE",
        "chat_history": [{ "role": "USER", "message": "?" }], "meta": meta,
    })
    .to_string()
}

fn lines() -> String {
    let events = [
        json!({ "is_finished": false, "event_type": "stream-start", "generation_id": "g" }),
        json!({ "is_finished": false, "event_type": "text-generation", "text": "Look " }),
        json!({ "is_finished": false, "event_type": "text-generation", "text": "up" }),
    ];
    let end = format!(
        r#"{{"is_finished":true,"event_type":"stream-end","finish_reason":"COMPLETE","response":{}}}"#,
        whole()
    );
    events.iter().map(|event| format!("{event}\n")).collect::<String>() + &end + "\n"
}

fn events() -> String {
    let event = |line: &str| {
        let json: Value = serde_json::from_str(line).unwrap();
        format!("event: {}\ndata: {line}\n\n", json["event_type"].as_str().unwrap())
    };
    lines().lines().map(event).collect()
}

/// A world before an upstream that always answers so.
async fn before(kind: &str, body: &str) -> (World, Scripted) {
    let len = body.len();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len}\r\n\r\n");
    let upstream = Scripted::always(head + body).await;
    let world = content(json!({ "scope": "shared" }))
        .set("routes.0.dialect", json!("cohere"))
        .upstream(upstream.url())
        .start()
        .await;
    (world, upstream)
}

fn question() -> Value {
    json!({ "model": "command-r", "message": "where is the rain?" })
}

/// What the texts of a stream add up to, and the answer in its end.
fn told(stream: &str) -> (String, Value) {
    let events: Vec<Value> = stream
        .lines()
        .map(|line| line.strip_prefix("data: ").unwrap_or(line))
        .filter(|line| line.starts_with('{'))
        .map(|json| serde_json::from_str(json).unwrap())
        .collect();
    let texts = events.iter().filter(|event| event["event_type"] == "text-generation");
    let text = texts.map(|event| event["text"].as_str().unwrap()).collect();
    (text, events.last().unwrap()["response"].clone())
}

async fn all_forms_are_hits(world: &World) {
    let expected: Value = serde_json::from_str(&whole()).unwrap();
    let reply = world.client.post(CHAT, &question()).await;
    assert_hit(&reply);
    assert_eq!(reply.json(), expected);
    let is_told = |reply: &Reply, kind: &str, first: &str| {
        assert_hit(reply);
        assert_eq!(reply.header("content-type"), kind);
        assert!(reply.text().starts_with(first), "{reply:?}");
        assert_eq!(told(&reply.text()), ("Look up".to_owned(), expected.clone()));
    };
    for accepts in SSE {
        let reply = world.client.post_with(CHAT, &[accepts], &streamed(&question())).await;
        is_told(&reply, "text/event-stream", "event: stream-start\ndata: {");
    }
    let reply = world.client.post(CHAT, &streamed(&question())).await;
    is_told(&reply, "application/stream+json", "{\"");
    let record = record_of(world, &reply).await;
    assert_eq!(input_and_output(&record), (5, 7));
    assert_eq!(cost_pico(&record), 0, "a hit costs nothing");
}

/// The one answer that the upstream is asked for is metered, and then given in every form.
async fn asked_once(kind: &str, body: &str, headers: &[(&str, &str)], question: &Value) {
    let (world, upstream) = before(kind, body).await;
    let reply = world.client.post_with(CHAT, headers, question).await;
    assert_miss(&reply);
    assert_eq!(reply.text(), body, "passed as it is");
    assert_eq!(input_and_output(&record_of(&world, &reply).await), (5, 7));
    all_forms_are_hits(&world).await;
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_whole_answer_is_given_as_lines_and_as_events() {
    asked_once("application/json", &whole(), &[], &question()).await;
}

#[tokio::test]
async fn a_stream_of_lines_is_given_whole_and_as_events() {
    asked_once("application/stream+json", &lines(), &[], &streamed(&question())).await;
}

#[tokio::test]
async fn a_stream_of_events_is_given_whole_and_as_lines() {
    asked_once("text/event-stream", &events(), &SSE[..1], &streamed(&question())).await;
}

#[tokio::test]
async fn a_conversation_that_the_provider_keeps_is_no_question_of_its_own() {
    let (world, upstream) = before("application/json", &whole()).await;
    let ask = with(&question(), json!({ "conversation_id": "c" }));
    for _ in 0..2 {
        assert_bypass(&world.client.post(CHAT, &ask).await, "not-pure");
    }
    assert_eq!(upstream.seen().len(), 2);
}
