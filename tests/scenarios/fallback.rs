//! Where an upstream fails or has no turn for a call, another is asked in its place, and the
//! caller is told.

use crate::{
    busy::one_class,
    cache_stage::{Told as _, assert_hit, assert_miss, content, purge, send},
};
use http::StatusCode;
use serde_json::{Value, json};
use std::net::TcpListener;
use tollgate_ledger::Reason;
use tollgate_tests::{CHAT, Reply, Scripted, Settings, World, WorldBuilder, chat};

const CALLS: &str = "tollgate_upstream_fallback_calls_total{upstream=\"spare\"}";

/// The upstream `model` cannot be reached, and the stand-in is `spare`.
fn unreachable(builder: WorldBuilder, fallback: Value) -> WorldBuilder {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    spared(builder, format!("http://{closed}"), fallback)
}

/// The upstream `model` is at `url`, and the stand-in is `spare`.
fn spared(builder: WorldBuilder, url: String, fallback: Value) -> WorldBuilder {
    builder.config(move |yaml| {
        let own = yaml.get("upstreams.model.endpoints.0.url");
        yaml.set("upstreams.spare", json!({ "endpoints": [{ "url": own }] }));
        yaml.set("upstreams.model.endpoints.0.url", json!(url));
        yaml.set("upstreams.model.fallback", fallback);
    })
}

async fn ask(world: &World) -> Reply {
    world.client.post(CHAT, &chat("a")).await
}

#[track_caller]
fn assert_spare(reply: &Reply) {
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("tollgate-degraded"), "fallback");
    assert!(reply.cache_status().ends_with("detail=fallback"), "{reply:?}");
}

#[tokio::test]
async fn where_an_upstream_cannot_be_reached_another_answers_and_the_caller_is_told() {
    let world = unreachable(World::builder(), json!("spare")).start().await;
    assert_spare(&ask(&world).await);
    let record = world.record().await.record;
    assert_eq!((record.status, record.fallback), (200, true));
    assert_eq!(record.reason, Reason::UpstreamUnreachable);
    assert!(record.tokens.output > 0 && !record.unpriced);
    assert_eq!(world.metric(CALLS), Some(1.0));
    let rejected =
        world.metrics().into_iter().filter(|(name, _)| name.starts_with("tollgate_rejected_total"));
    assert!(rejected.into_iter().all(|(_, value)| value == 0.0), "it was no refusal");
}

#[tokio::test]
async fn what_another_answers_is_never_stored() {
    let world = unreachable(content(json!({})), json!("spare")).start().await;
    for calls in 1..=3 {
        let reply = ask(&world).await;
        assert_spare(&reply);
        assert_eq!(reply.cache_status(), "tollgate; fwd=miss; detail=fallback");
        assert_eq!(world.standin.counts().calls, calls);
    }
}

/// Goal: what is old and allowed comes before another's answer.
/// Method: the upstream answers once, then resets.
#[tokio::test]
async fn what_is_held_is_given_before_another_is_asked() {
    let answer = json!({
        "id": "x", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
        "choices": [{ "index": 0, "finish_reason": "stop",
            "message": { "role": "assistant", "content": "old" } }],
        "usage": { "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 },
    })
    .to_string();
    let upstream = Scripted::start(move |mut line| {
        let answer = answer.clone();
        async move {
            line.request().await;
            if line.connection == 0 {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
                let len = answer.len();
                line.wire.send(format!("{head}\r\ncontent-length: {len}\r\n\r\n{answer}")).await;
            }
        }
    })
    .await;
    let world = content(json!({ "stale": { "if_error": "1h" } }));
    let world = spared(world, upstream.url(), json!("spare")).start().await;
    let old = ask(&world).await;
    assert_miss(&old);
    assert_hit(&ask(&world).await);
    purge(&world, json!({ "all": true, "soft": true })).await;
    assert_eq!(ask(&world).await.body, old.body);
    assert_eq!(world.standin.counts().calls, 0);
    let new = world.client.post(CHAT, &chat("never asked before")).await;
    assert_spare(&new);
}

#[tokio::test]
async fn the_model_is_asked_for_by_the_name_it_has_there() {
    let to = json!({ "upstream": "spare", "model": "gpt-4o" });
    let world = unreachable(World::builder(), to).start().await;
    assert_spare(&ask(&world).await);
    let seen: Value = serde_json::from_slice(&world.standin.last_requests()[0].body).unwrap();
    assert_eq!(seen["model"], "gpt-4o");
    assert_eq!(world.record().await.words[7], "gpt-4o");
}

/// What an upstream says where it cannot answer anybody now.
const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";

#[tokio::test]
async fn a_call_to_a_model_goes_on_when_its_upstream_says_it_cannot_answer() {
    let upstream = Scripted::always(UNAVAILABLE).await;
    let world = spared(World::builder(), upstream.url(), json!("spare")).start().await;
    assert_spare(&ask(&world).await);
    // What may have been done is not done again elsewhere.
    let reply = world.client.post("/orders", &json!({ "buy": 1 })).await;
    assert_eq!((reply.status, reply.text().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "busy"));
    assert_eq!(world.standin.counts().calls, 1);
}

#[tokio::test]
async fn where_nobody_answers_the_caller_hears_of_its_own_upstream() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let reset = Scripted::once("").await;
    let world = spared(World::builder(), reset.url(), json!("spare"))
        .set("upstreams.spare.endpoints.0.url", json!(format!("http://{closed}")))
        .start()
        .await;
    let reply = ask(&world).await;
    assert_eq!(reply.refusal(), (502, "upstream_reset"));
    assert_eq!(reply.header("tollgate-degraded"), "");
    let record = world.record().await.record;
    assert_eq!((record.fallback, record.reason), (false, Reason::UpstreamReset));
}

/// One slot and no queue.
fn full(yaml: &mut Settings) {
    one_class(yaml, 0, "1s");
    yaml.set("upstreams.model.concurrency", json!({ "limit": 1 }));
}

#[tokio::test]
async fn a_call_without_a_turn_takes_one_elsewhere() {
    let silent = Scripted::start(|mut line| async move {
        line.request().await;
        line.wire.closed().await;
    })
    .await;
    let world = spared(World::builder(), silent.url(), json!("spare")).config(full).start().await;
    let held = send(&world.client, CHAT, &[], &chat("holds the place"));
    silent.requests(1).await;
    assert_spare(&ask(&world).await);
    held.abort();
    let records = world.records_when(2).await;
    let spare = records.iter().find(|view| view.record.fallback).unwrap();
    assert_eq!(spare.record.reason, Reason::QueueFull);
}

#[tokio::test]
async fn fallbacks_are_asked_one_after_the_other() {
    let world = unreachable(World::builder(), json!("between"))
        .config(|yaml| {
            let dead = yaml.get("upstreams.model.endpoints");
            yaml.set("upstreams.between", json!({ "endpoints": dead, "fallback": "spare" }));
        })
        .start()
        .await;
    assert_spare(&ask(&world).await);
    assert_eq!(world.metric(CALLS), Some(1.0));
}
