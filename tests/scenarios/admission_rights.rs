//! Caps, floors, reserve, push-out and who is served first when all are late, as they are
//! configured and seen from outside.

use crate::{
    ask::{self, CHAT, chat, send},
    busy::{Busy, MODEL, check_rest, four_classes, one_class},
};
use serde_json::json;
use tokio::task::JoinSet;
use tollgate_tests::{
    Reply, Settings, World,
    standin::{Gate, Options},
};

const BATCH: [(&str, &str); 1] = [("x-priority", "batch")];
const VIP: [(&str, &str); 1] = [("x-priority", "vip")];

/// The only one that ends before the provider answers anything.
async fn first_told(calls: &mut JoinSet<Reply>) -> Reply {
    calls.join_next().await.unwrap().unwrap()
}

#[tokio::test]
async fn a_full_queue_pushes_out_the_newest_of_the_loudest_tenant() {
    let mut busy = Busy::new(|settings| one_class(settings, 2, "60s")).await;
    for text in ["loud", "loud again"] {
        busy.waits(&[("authorization", "loud")], text).await;
    }
    let quiet = [("authorization", "quiet".to_owned())];
    send(&mut busy.calls, &busy.world.client, &quiet, chat(MODEL, "quiet"));

    let told = first_told(&mut busy.calls).await;
    assert_eq!(told.refusal(), (429, "pushed_out"));
    assert!(!told.header("retry-after").is_empty());
    let rejected = "tollgate_rejected_total{class=\"only\",reason=\"pushed_out\"}";
    assert_eq!(busy.world.metric(rejected), Some(1.0));
    // Whoever is the loudest is told itself that there is no room.
    let loud = [("authorization", "loud")];
    let told = busy.world.client.post_with(CHAT, &loud, &chat(MODEL, "more")).await;
    assert_eq!(told.refusal(), (429, "queue_full"));
    let order = busy.run().await;
    assert_eq!(order, ["first", "loud", "quiet"]);
}

#[tokio::test]
async fn where_all_queues_together_are_full_the_least_important_makes_place() {
    let mut busy = Busy::new(|settings| {
        four_classes(settings);
        settings.set("upstreams.model.concurrency", json!({ "limit": 1, "queue": 1 }));
    })
    .await;
    busy.waits(&BATCH, "batch").await;
    let vip = VIP.map(|(name, value)| (name, value.to_owned()));
    send(&mut busy.calls, &busy.world.client, &vip, chat(MODEL, "vip"));

    let told = first_told(&mut busy.calls).await;
    assert_eq!(told.refusal(), (429, "pushed_out"));
    let told = busy.world.client.post_with(CHAT, &BATCH, &chat(MODEL, "late")).await;
    assert_eq!(told.refusal(), (429, "queue_full"));
    assert_eq!(busy.run().await, ["first", "vip"]);
}

#[tokio::test]
async fn a_class_with_a_floor_runs_that_many_before_weights_are_asked() {
    let mut busy = Busy::new(|settings| {
        four_classes(settings);
        settings.set("classes.3.floor", json!(1));
    })
    .await;
    for headers in [VIP, VIP, BATCH, BATCH] {
        busy.waits(&headers, headers[0].1).await;
    }
    let turns = "tollgate_queue_turns_total{class=\"batch\",way=\"floor\"}";
    assert_eq!(busy.world.metric(turns), Some(0.0));
    assert_eq!(busy.run().await, ["first", "batch", "batch", "vip", "vip"]);
}

#[tokio::test]
async fn once_the_first_has_waited_its_lifo_target_the_newest_goes_first() {
    let mut busy = Busy::new(|settings| {
        one_class(settings, 9, "60s");
        settings.set("classes.0.lifo_target", json!("0s"));
    })
    .await;
    for text in ["a", "b", "c"] {
        busy.waits(&[], text).await;
    }
    assert_eq!(busy.run().await, ["first", "c", "b", "a"]);
}

/// A world with two places, and what a call of a class does in it: `None`, it waits.
async fn two_places(change: impl FnOnce(&mut Settings) + Send + 'static) -> (World, Gate) {
    let gate = Gate::heads();
    let options =
        Options { gate: Some(gate.clone()), concurrency_limit: Some(2), ..Options::default() };
    let change = move |settings: &mut Settings| {
        four_classes(settings);
        settings.set("upstreams.model.concurrency", json!({ "limit": 2 }));
        change(settings);
    };
    (World::builder().standin(options).config(change).start().await, gate)
}

/// Of two batch calls one waits beside a free place, which an emergency takes.
async fn one_batch_waits_and_an_emergency_does_not(world: World, gate: Gate) {
    let mut calls = ask::calls();
    let batch = BATCH.map(|(name, value)| (name, value.to_owned()));
    send(&mut calls, &world.client, &batch, chat(MODEL, "a"));
    world.standin.wait_for_calls(1).await;
    send(&mut calls, &world.client, &batch, chat(MODEL, "b"));
    world.metric_when("request_queue_length", 1.0).await;
    assert_eq!(world.metric("request_inflight"), Some(1.0));
    let urgent = [("x-priority", "emergency".to_owned())];
    send(&mut calls, &world.client, &urgent, chat(MODEL, "c"));
    world.standin.wait_for_calls(2).await;
    assert_eq!(world.metric("request_queue_length"), Some(1.0));
    gate.open();
    for reply in calls.join_all().await {
        assert_eq!(reply.status, 200);
    }
    check_rest(&world);
}

#[tokio::test]
async fn a_reserved_place_is_kept_for_the_strict_class() {
    let reserve = json!({ "limit": 2, "reserve": 1 });
    let (world, gate) = two_places(|settings| {
        settings.set("upstreams.model.concurrency", reserve);
    })
    .await;
    one_batch_waits_and_an_emergency_does_not(world, gate).await;
}

#[tokio::test]
async fn a_class_with_a_cap_leaves_the_rest_to_the_others() {
    let (world, gate) = two_places(|settings| {
        settings.set("classes.3.max", json!(1));
    })
    .await;
    one_batch_waits_and_an_emergency_does_not(world, gate).await;
}

#[tokio::test]
async fn a_batch_call_that_nobody_has_seen_a_byte_of_makes_place_for_an_emergency() {
    let (world, gate) = two_places(|settings| {
        settings.set("classes.3.preemptible", json!(true));
        let concurrency = json!({ "limit": 1, "preempt": 1 });
        settings.set("upstreams.model.concurrency", concurrency);
    })
    .await;
    let mut calls = ask::calls();
    let batch = BATCH.map(|(name, value)| (name, value.to_owned()));
    send(&mut calls, &world.client, &batch, chat(MODEL, "batch"));
    world.standin.wait_for_calls(1).await;
    let urgent = [("x-priority", "emergency".to_owned())];
    send(&mut calls, &world.client, &urgent, chat(MODEL, "urgent"));

    let told = first_told(&mut calls).await;
    assert_eq!(told.refusal(), (503, "preempted"));
    assert!(!told.header("retry-after").is_empty());
    world.standin.wait_for_calls(2).await;
    assert_eq!(world.metric("tollgate_queue_preempted_total"), Some(1.0));
    gate.open();
    assert_eq!(first_told(&mut calls).await.status, 200);
    check_rest(&world);
}
