//! An upstream that fails again and again is left alone, and found out about with one call.

use crate::{
    ask,
    busy::four_classes,
    cache_stage::{assert_hit, assert_miss, content, purge},
};
use http::StatusCode;
use serde_json::{Value, json};
use std::{net::TcpListener, sync::Arc};
use tokio::sync::Notify;
use tollgate_ledger::{CacheOutcome, Reason};
use tollgate_tests::{CHAT, Reply, Scripted, World, chat, standin::Fault, until};

const OPEN: &str = "tollgate_upstream_breakers_open{upstream=\"model\"}";
const OPENED: &str = "tollgate_upstream_breaker_opened_total{upstream=\"model\"}";

async fn world(failures: u32, open_for: &str) -> World {
    let breaker = json!({ "consecutive_failures": failures, "open_for": open_for });
    World::builder().set("upstreams.model.breaker", breaker).start().await
}

async fn ask(world: &World) -> Reply {
    world.client.post(CHAT, &chat("a")).await
}

#[tokio::test]
async fn an_upstream_that_fails_is_left_alone_and_the_caller_told_for_how_long() {
    let world = world(3, "1h").await;
    for fault in [Fault::Reset, Fault::Fail(StatusCode::SERVICE_UNAVAILABLE), Fault::Reset] {
        assert_eq!(world.metric(OPEN), Some(0.0));
        world.standin.fault_next(fault, 1);
        assert!(ask(&world).await.status.is_server_error());
    }
    let refused = ask(&world).await;
    assert_eq!(refused.refusal(), (503, "breaker_open"));
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((3000..=3600).contains(&wait), "{wait}");
    assert_eq!(world.standin.counts().calls, 3, "nothing was sent");
    assert_eq!((world.metric(OPEN), world.metric(OPENED)), (Some(1.0), Some(1.0)));
    let records = world.records_when(4).await;
    assert_eq!(records.last().unwrap().record.reason, Reason::BreakerOpen);
}

#[tokio::test]
async fn what_the_caller_does_opens_nothing() {
    let world = world(1, "1h").await;
    world.standin.fault_next(Fault::Fail(StatusCode::BAD_REQUEST), 1);
    assert_eq!(ask(&world).await.status, 400);
    world.standin.fault_next(Fault::Fail(StatusCode::INTERNAL_SERVER_ERROR), 1);
    assert_eq!(ask(&world).await.status, 500);
    world.standin.fault_next(Fault::Hang, 1);
    let patience = [("tollgate-timeout", "2s")];
    let reply = world.client.post_with(CHAT, &patience, &chat("a")).await;
    assert_eq!(reply.refusal(), (504, "upstream_timeout"));
    assert_eq!(ask(&world).await.status, 200);
    assert_eq!(world.metric(OPENED), Some(0.0));
}

#[tokio::test]
async fn an_upstream_that_answers_again_is_given_everything() {
    let world = world(1, "1ms").await;
    world.standin.fault_next(Fault::Reset, 3);
    assert_eq!(ask(&world).await.refusal(), (502, "upstream_reset"));
    until("an answer", || ask(&world), |reply| reply.status == 200).await;
    assert_eq!(world.metric(OPEN), Some(0.0));
    assert_eq!(world.metric(OPENED), Some(3.0), "two probes failed");
    assert_eq!(ask(&world).await.status, 200);
}

#[tokio::test]
async fn while_it_is_left_alone_what_is_old_is_given() {
    let breaker = json!({ "consecutive_failures": 1, "open_for": "1h" });
    let world = content(json!({ "stale": { "if_error": "1h" } }))
        .set("upstreams.model.breaker", breaker)
        .start()
        .await;
    let old = ask(&world).await;
    assert_miss(&old);
    assert_hit(&ask(&world).await);
    purge(&world, json!({ "all": true, "soft": true })).await;
    world.standin.fault_next(Fault::Reset, 1);
    for _ in 0..3 {
        let reply = ask(&world).await;
        assert_eq!((reply.status, &reply.body), (StatusCode::OK, &old.body));
    }
    assert_eq!(world.standin.counts().calls, 2);
    let record = world.records_when(5).await.pop().unwrap().record;
    assert_eq!((record.outcome, record.reason), (CacheOutcome::Stale, Reason::BreakerOpen));
}

#[tokio::test]
async fn of_two_endpoints_only_the_one_that_fails_is_left_alone() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = World::builder()
        .config(move |yaml| {
            yaml.set("upstreams.model.endpoints.1", json!({ "url": format!("http://{closed}") }));
            yaml.set("upstreams.model.balance", json!("round_robin"));
            let breaker = json!({ "consecutive_failures": 1, "open_for": "1h" });
            yaml.set("upstreams.model.breaker", breaker);
        })
        .start()
        .await;
    let mut answers = Vec::new();
    for _ in 0..6 {
        answers.push(ask(&world).await.status.as_u16());
    }
    answers.sort_unstable();
    assert_eq!(answers, [200, 200, 200, 200, 200, 502]);
    assert_eq!(world.metric(OPEN), Some(1.0));
}

/// Goal: the one call that finds out is of the most important class that waits, whatever the
/// shares say.
/// Method: a call of `vip` runs, so that by its share `batch` would be next; it is reset while a
/// call of each waits.
#[tokio::test]
async fn the_call_that_finds_out_is_of_the_most_important_class_that_waits() {
    let fail = Arc::new(Notify::new());
    let told = fail.clone();
    let upstream = Scripted::start(move |mut line| {
        let told = told.clone();
        async move {
            while line.request().await.is_some() {
                if line.connection == 0 {
                    return told.notified().await;
                }
                line.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    let world = World::builder()
        .upstream(upstream.url())
        .config(|yaml| {
            four_classes(yaml);
            yaml.set("upstreams.model.concurrency", json!({ "limit": 1 }));
            let breaker = json!({ "consecutive_failures": 1, "open_for": "20ms" });
            yaml.set("upstreams.model.breaker", breaker);
        })
        .start()
        .await;
    let mut calls = ask::calls();
    let vip = [("x-priority", "vip".to_owned())];
    let batch = [("x-priority", "batch".to_owned())];
    ask::send(&mut calls, &world.client, &vip, chat("first"));
    upstream.requests(1).await;
    for (headers, waiting) in [(&batch, 1.0), (&vip, 2.0)] {
        ask::send(&mut calls, &world.client, headers, chat(headers[0].1.as_str()));
        world.metric_when("request_queue_length", waiting).await;
    }
    fail.notify_one();
    let mut statuses = Vec::new();
    while let Some(reply) = calls.join_next().await {
        statuses.push(reply.unwrap().status.as_u16());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 502]);
    let texts: Vec<String> = upstream.seen().iter().map(|seen| text_of(&seen.body)).collect();
    assert_eq!(texts, ["first", "vip", "batch"]);
    let probes = "tollgate_queue_turns_total{class=\"vip\",way=\"probe\"}";
    assert_eq!(world.metric(probes), Some(1.0));
}

fn text_of(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap();
    body["messages"][0]["content"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_reload_that_changes_the_breaker_begins_anew() {
    let mut world = world(1, "1h").await;
    world.standin.fault_next(Fault::Reset, 1);
    assert_eq!(ask(&world).await.status, 502);
    assert_eq!(ask(&world).await.refusal(), (503, "breaker_open"));
    world
        .reload(|yaml| {
            yaml.set("upstreams.model.breaker.consecutive_failures", json!(2));
        })
        .unwrap();
    assert_eq!(ask(&world).await.status, 200);
    world
        .reload(|yaml| {
            yaml.set("upstreams.model.breaker", Value::Null);
        })
        .unwrap();
    world.standin.fault_next(Fault::Reset, 3);
    for _ in 0..3 {
        assert_eq!(ask(&world).await.refusal(), (502, "upstream_reset"));
    }
    assert_eq!(ask(&world).await.status, 200);
    assert_eq!(world.metric(OPEN), None);
}
