//! A share of the hits is checked against the provider, beside the call: whether it would still say
//! the same; and times are learned from how often it does not.
//!
//! The stand-in gives each answer its own id and says the same to the same question, until its
//! version is another one, which it does not tell here.

use crate::cache_stage::{
    CHAT, MESSAGES, Told as _, answered, assert_hit, assert_miss, chat, content, message, purge,
    send, streamed,
};
use http::StatusCode;
use serde_json::{Value, json};
use tollgate_tests::{
    Reply, World,
    standin::{Fault, Gate},
    until,
};

/// The outcomes of checks, in the order same, differs, unread, failed.
fn checks(world: &World) -> [f64; 4] {
    ["same", "differs", "unread", "failed"].map(|outcome| {
        let series = format!("tollgate_cache_shadow_total{{route=\"all\",outcome=\"{outcome}\"}}");
        world.metric(&series).unwrap_or_default()
    })
}

async fn checked(world: &World, expected: [f64; 4]) {
    let look = || async { checks(world) };
    until("what checks came to", look, |found| *found == expected).await;
}

/// A world whose provider changes its mind and tells nobody.
async fn world(policy: Value) -> World {
    let version = json!({ "from": "static", "value": "1" });
    content(policy).set("upstreams.model.model_version", version).start().await
}

fn all_checked() -> Value {
    json!({ "shadow": { "share": "100%" } })
}

async fn ask(world: &World) -> Reply {
    world.client.post(CHAT, &chat("a")).await
}

fn says(reply: &Reply) -> Value {
    reply.json()["choices"][0]["message"]["content"].clone()
}

/// That an answer was good for so many seconds when it was stored.
#[track_caller]
fn assert_life_s(reply: &Reply, expected: i64) {
    assert_hit(reply);
    let left = reply.cache_status().split("ttl=").nth(1);
    let left: i64 = left.and_then(|rest| rest.split(';').next()?.parse().ok()).unwrap();
    let life = left + reply.header("age").parse::<i64>().unwrap();
    // The parts of seconds are cut off, unless there are none yet.
    assert!(life == expected - 1 || life == expected, "{life}, not {expected}: {reply:?}");
}

#[tokio::test]
async fn a_check_tells_whether_the_provider_still_says_the_same() {
    let world = world(all_checked()).await;
    let old = ask(&world).await;
    assert_miss(&old);
    let hit = ask(&world).await;
    assert_hit(&hit);
    checked(&world, [1.0, 0.0, 0.0, 0.0]).await;
    world.standin.set_model_version(Some("other"));
    assert_hit(&ask(&world).await);
    checked(&world, [1.0, 1.0, 0.0, 0.0]).await;
    // It only tells: what is kept stays.
    let again = ask(&world).await;
    assert_hit(&again);
    assert_eq!((&hit.body, &again.body), (&old.body, &old.body));
    checked(&world, [1.0, 2.0, 0.0, 0.0]).await;
    assert_eq!(world.standin.counts().calls, 4);
}

#[tokio::test]
async fn streams_and_other_dialects_are_compared_by_what_they_come_to() {
    let world = world(all_checked()).await;
    for (path, question) in [
        (CHAT, streamed(&chat("a"))),
        (MESSAGES, message("a")),
        (MESSAGES, streamed(&message("b"))),
        ("/v1/embeddings", json!({ "model": "text-embedding-3-small", "input": "a" })),
    ] {
        let is_stream = question.get("stream").is_some();
        let ask = || async {
            if is_stream {
                world.client.stream(path, &question).await.finish().await
            } else {
                world.client.post(path, &question).await
            }
        };
        let before = checks(&world);
        assert_miss(&ask().await);
        assert_hit(&ask().await);
        checked(&world, [before[0] + 1.0, 0.0, 0.0, 0.0]).await;
    }
}

#[tokio::test]
async fn nobody_waits_for_a_check_and_one_runs_for_a_question() {
    let world = world(all_checked()).await;
    assert_miss(&ask(&world).await);
    let gate = Gate::heads();
    world.standin.set_gate(Some(gate.clone()));
    for _ in 0..20 {
        assert_hit(&ask(&world).await);
    }
    world.standin.wait_for_in_flight(1).await;
    assert_eq!(world.standin.counts().in_flight, 1);
    gate.open();
    checked(&world, [1.0, 0.0, 0.0, 0.0]).await;
    assert_eq!(world.standin.counts().calls, 2);
}

#[tokio::test]
async fn a_check_that_fails_is_no_callers_problem_and_in_no_number_about_callers() {
    let world = world(all_checked()).await;
    assert_miss(&ask(&world).await);
    world.standin.fault_next(Fault::Fail(StatusCode::SERVICE_UNAVAILABLE), 1);
    assert_hit(&ask(&world).await);
    checked(&world, [0.0, 0.0, 0.0, 1.0]).await;
    let records = world.records_when(3).await;
    let own: Vec<_> = records.iter().filter(|view| view.record.own).collect();
    assert!(own.len() == 1 && own[0].record.status == 503, "{records:?}");
    let misses = "tollgate_cache_requests_total{route=\"all\",tier=\"none\",outcome=\"miss\"}";
    assert_eq!(world.metric(misses), Some(1.0));
    let failed = |(name, value): &(String, f64)| {
        name.starts_with("tollgate_requests_total") && name.contains("503") && *value > 0.0
    };
    assert!(!world.metrics().into_iter().any(|series| failed(&series)));
}

#[tokio::test]
async fn no_check_is_begun_while_the_provider_has_no_room() {
    let policy = json!({ "shadow": { "share": "100%" } });
    let limit = json!({ "limit": 1 });
    let world = content(policy).set("upstreams.model.concurrency", limit).start().await;
    assert_miss(&ask(&world).await);
    let gate = Gate::heads();
    world.standin.set_gate(Some(gate.clone()));
    let runs = send(&world.client, CHAT, &[], &chat("runs"));
    world.standin.wait_for_in_flight(1).await;
    for _ in 0..5 {
        assert_hit(&ask(&world).await);
        assert_eq!(world.metric("request_queue_length"), Some(0.0));
    }
    gate.open();
    assert_miss(&answered(runs).await);
    world.metric_when("request_inflight", 0.0).await;
    assert_eq!(checks(&world), [0.0; 4]);
    assert_hit(&ask(&world).await);
    checked(&world, [1.0, 0.0, 0.0, 0.0]).await;
    assert_eq!(world.standin.counts().calls, 3);
}

#[tokio::test]
async fn of_a_small_share_most_hits_are_not_checked() {
    let world = world(json!({ "shadow": { "share": "0.0001%" } })).await;
    assert_miss(&ask(&world).await);
    for _ in 0..20 {
        assert_hit(&ask(&world).await);
    }
    // One of a million: that it is one of these is as good as impossible.
    assert_eq!(world.standin.counts().calls, 1);
}

/// Asks for a new answer whatever is kept.
async fn renew(world: &World) {
    let anew = [("cache-control", "no-cache")];
    assert_miss(&world.client.post_with(CHAT, &anew, &chat("a")).await);
}

#[tokio::test]
async fn what_is_seen_to_change_is_good_for_less_down_to_the_least() {
    let policy = json!({ "ttl": "1h", "adapt": { "min": "20m", "max": "10h" } });
    let world = world(policy).await;
    assert_miss(&ask(&world).await);
    assert_life_s(&ask(&world).await, 3600);
    let mut said = says(&ask(&world).await);
    for (version, seconds) in [("2", 1800), ("3", 1200), ("4", 1200)] {
        world.standin.set_model_version(Some(version));
        renew(&world).await;
        let reply = ask(&world).await;
        assert_life_s(&reply, seconds);
        assert_ne!(says(&reply), said);
        said = says(&reply);
    }
    // What says the same, but has hardly stood yet, proves nothing.
    renew(&world).await;
    assert_life_s(&ask(&world).await, 1200);
}

#[tokio::test]
async fn what_is_seen_not_to_change_is_good_for_longer() {
    let policy = json!({ "ttl": "1s", "adapt": { "min": "1s", "max": "1h" } });
    let world = world(policy).await;
    let old = ask(&world).await;
    assert_miss(&old);
    let new = until("its end", || ask(&world), |reply| !reply.is_hit()).await;
    assert!(new.body != old.body && says(&new) == says(&old));
    assert_life_s(&ask(&world).await, 2);
}

#[tokio::test]
async fn what_was_purged_begins_with_the_least() {
    let policy = json!({ "ttl": "1h", "adapt": { "min": "5m", "max": "10h" } });
    let world = world(policy).await;
    for soft in [true, false] {
        assert_miss(&ask(&world).await);
        purge(&world, json!({ "route": "all", "soft": soft })).await;
        assert_miss(&ask(&world).await);
        assert_life_s(&ask(&world).await, 300);
        purge(&world, json!({ "all": true })).await;
    }
}

#[tokio::test]
async fn what_was_purged_by_a_pattern_over_its_tags_begins_with_the_least() {
    let adapt = json!({ "min": "5m", "max": "10h" });
    let world = world(json!({ "ttl": "1h", "adapt": adapt, "tags": ["kb:1"] })).await;
    assert_miss(&ask(&world).await);
    purge(&world, json!({ "pattern": "other:*" })).await;
    assert_life_s(&ask(&world).await, 3600);
    purge(&world, json!({ "pattern": "kb:*" })).await;
    assert_miss(&ask(&world).await);
    assert_life_s(&ask(&world).await, 300);
}

#[tokio::test]
async fn a_check_that_finds_another_answer_teaches_and_brings_it() {
    let mut policy = json!({ "ttl": "1h", "adapt": { "min": "10m", "max": "10h" } });
    policy["shadow"] = json!({ "share": "100%" });
    let world = world(policy).await;
    let old = ask(&world).await;
    assert_miss(&old);
    assert_life_s(&ask(&world).await, 3600);
    checked(&world, [1.0, 0.0, 0.0, 0.0]).await;
    assert_eq!(ask(&world).await.body, old.body, "what says the same is not put in its place");
    checked(&world, [2.0, 0.0, 0.0, 0.0]).await;
    world.standin.set_model_version(Some("other"));
    let new = until("the other answer", || ask(&world), |reply| reply.body != old.body).await;
    assert_life_s(&new, 1800);
    assert_ne!(says(&new), says(&old));
}
