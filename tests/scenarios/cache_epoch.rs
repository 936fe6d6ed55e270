//! A rollout of a model stops its old answers, wherever the upstream says its version.

use crate::cache_stage::{CHAT, Told as _, assert_hit, assert_miss, chat, content, streamed};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tollgate_tests::{Scripted, World, until};

/// A service whose version can be changed while it runs.
#[derive(Clone)]
struct Service {
    version: Arc<Mutex<String>>,
    server: Scripted,
}

impl Service {
    /// Says it in its answers' bodies, and under `/info` and `/v1/models` when it is asked.
    async fn start(version: &str) -> Self {
        let version = Arc::new(Mutex::new(version.to_owned()));
        let said = version.clone();
        let server = Scripted::start(move |mut line| {
            let said = said.clone();
            async move {
                while let Some(request) = line.request().await {
                    let version = said.lock().unwrap().clone();
                    let wants_stream =
                        request.body.windows(13).any(|part| part == b"\"stream\":true");
                    let answer = match request.line() {
                        first if first.starts_with("GET /info") => {
                            json!({ "sha": version }).to_string()
                        }
                        first if first.starts_with("GET") => json!({ "data": [
                            { "id": "gpt-4o-mini", "root": version },
                            { "id": "other", "root": "1" },
                        ]})
                        .to_string(),
                        _ if wants_stream => stream(&version),
                        _ => whole(&version),
                    };
                    let kind = if wants_stream { "text/event-stream" } else { "application/json" };
                    let len = answer.len();
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len}\r\n\r\n"
                    );
                    line.wire.send(head + &answer).await;
                }
            }
        })
        .await;
        Self { version, server }
    }

    fn roll_out(&self, version: &str) {
        *self.version.lock().unwrap() = version.to_owned();
    }

    /// How often it was asked for answers.
    fn calls(&self) -> usize {
        self.server.seen().iter().filter(|seen| seen.line().starts_with("POST")).count()
    }

    /// How often it was asked for its version.
    fn polls(&self) -> usize {
        self.server.seen().iter().filter(|seen| seen.line().starts_with("GET")).count()
    }
}

fn whole(version: &str) -> String {
    let mut answer = json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
        "choices": [{
            "index": 0, "finish_reason": "stop", "logprobs": null,
            "message": { "role": "assistant", "content": "because" },
        }],
        "usage": { "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 },
    });
    if !version.is_empty() {
        answer["system_fingerprint"] = json!(version);
    }
    answer.to_string()
}

fn stream(version: &str) -> String {
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({
            "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini",
            "system_fingerprint": version, "choices": choices, "usage": usage,
        });
        format!("data: {chunk}\n\n")
    };
    let choice =
        |delta: Value, end: Value| json!([{ "index": 0, "delta": delta, "finish_reason": end }]);
    let usage = json!({ "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 });
    let first = chunk(
        choice(json!({ "role": "assistant", "content": "because" }), Value::Null),
        Value::Null,
    );
    let last = chunk(choice(json!({}), json!("stop")), Value::Null);
    first + &last + &chunk(json!([]), usage) + "data: [DONE]\n\n"
}

async fn world(service: &Service, version: Value) -> World {
    let url = service.server.url();
    content(json!({})).upstream(url).set("upstreams.model.model_version", version).start().await
}

#[tokio::test]
async fn an_answer_is_kept_under_the_version_that_its_own_body_says() {
    let service = Service::start("fp_1").await;
    let world = world(&service, json!({ "from": "body", "pointer": "/system_fingerprint" })).await;
    let ask = async |text: &str| world.client.post(CHAT, &chat(text)).await;
    assert_miss(&ask("a").await);
    assert_hit(&ask("a").await);
    service.roll_out("fp_2");
    // Nobody knows of it yet; the first answer tells.
    assert_hit(&ask("a").await);
    assert_miss(&ask("b").await);
    assert_miss(&ask("a").await);
    assert_hit(&ask("a").await);
    assert_hit(&ask("b").await);
    // While it goes on, what the older one answers is not kept, and moves nothing.
    service.roll_out("fp_1");
    for _ in 0..2 {
        assert_miss(&ask("c").await);
    }
    assert_hit(&ask("a").await);
    // Nor is an answer that says none.
    service.roll_out("");
    for _ in 0..2 {
        assert_miss(&ask("d").await);
    }
}

#[tokio::test]
async fn a_streams_version_is_that_of_its_events() {
    let service = Service::start("fp_1").await;
    let world = world(&service, json!({ "from": "body", "pointer": "/system_fingerprint" })).await;
    let ask =
        async |text: &str| world.client.stream(CHAT, &streamed(&chat(text))).await.finish().await;
    assert_miss(&ask("a").await);
    assert_hit(&ask("a").await);
    assert_hit(&world.client.post(CHAT, &chat("a")).await);
    service.roll_out("fp_2");
    assert_miss(&ask("b").await);
    assert_miss(&ask("a").await);
    assert_hit(&ask("a").await);
    assert_eq!(service.calls(), 3);
}

#[tokio::test]
async fn a_version_that_is_asked_for_stops_old_answers_without_a_call_that_tells() {
    for version in [
        json!({ "from": "poll", "path": "/info", "pointer": "/sha", "interval": "20ms" }),
        json!({ "from": "poll", "list": "/data", "pointer": "/root", "interval": "20ms" }),
    ] {
        let service = Service::start("1").await;
        let world = world(&service, version).await;
        let ask = async |text: &str| world.client.post(CHAT, &chat(text)).await;
        // Before it is known nothing is kept.
        let kept = async || {
            ask("a").await;
            ask("a").await.is_hit()
        };
        until("the version to be known", kept, |hit| *hit).await;
        service.roll_out("2");
        let old = async || ask("a").await.is_miss();
        until("the old answer to be void", old, |miss| *miss).await;
        until("the new one to be kept", kept, |hit| *hit).await;
        let calls = service.calls();
        assert_hit(&ask("a").await);
        assert_eq!(service.calls(), calls);
        assert!(service.polls() > 1);
        // It is asked without anybody's credentials.
        let seen = service.server.seen();
        let polls = seen.iter().filter(|seen| seen.line().starts_with("GET"));
        assert!(polls.clone().all(|poll| poll.fields("authorization").is_empty()));
    }
}

#[tokio::test]
async fn a_model_that_the_list_does_not_name_is_not_kept() {
    let service = Service::start("1").await;
    let version =
        json!({ "from": "poll", "list": "/data", "pointer": "/root", "interval": "20ms" });
    let world = world(&service, version).await;
    let kept = async || {
        world.client.post(CHAT, &chat("a")).await;
        world.client.post(CHAT, &chat("a")).await.is_hit()
    };
    until("the version to be known", kept, |hit| *hit).await;
    let mut unknown = chat("a");
    unknown["model"] = json!("unheard-of");
    for _ in 0..2 {
        assert_miss(&world.client.post(CHAT, &unknown).await);
    }
}

#[tokio::test]
async fn a_rollout_that_is_taken_back_brings_the_answers_of_before_back() {
    let service = Service::start("1").await;
    let version =
        json!({ "from": "poll", "list": "/data", "pointer": "/root", "interval": "20ms" });
    let world = world(&service, version).await;
    let ask = async || world.client.post(CHAT, &chat("a")).await;
    let kept = async || {
        ask().await;
        ask().await.is_hit()
    };
    until("the version to be known", kept, |hit| *hit).await;
    let calls = service.calls();
    service.roll_out("2");
    let is_miss = async || ask().await.is_miss();
    until("the old answer to be void", is_miss, |miss| *miss).await;
    until("the new one to be kept", kept, |hit| *hit).await;
    assert!(service.calls() > calls);
    // Asked for it, the service says so itself: nobody waits for ten minutes to believe it.
    service.roll_out("1");
    let polls = service.polls();
    until("two more polls", async || service.polls(), |now| *now >= polls + 2).await;
    let calls = service.calls();
    assert_hit(&ask().await);
    assert_eq!(service.calls(), calls);
}
