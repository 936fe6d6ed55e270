//! What a new configuration does to those who run and wait.

use crate::{
    ask::{self, chat, limited, send},
    busy::{Busy, MODEL, four_classes, one_class},
};
use serde_json::json;

#[tokio::test]
async fn a_new_limit_lets_those_who_wait_run() {
    let mut busy = Busy::new(|_| {}).await;
    busy.waits(&[], "second").await;

    busy.world.reload(|settings| limited(settings, 2)).unwrap();

    busy.world.provider("the second call", |counts| counts.calls == 2).await;
    busy.gate.open();
    busy.calls.join_all().await;
}

/// One upstream has one limit, whatever its classes are called.
#[tokio::test]
async fn under_other_classes_a_call_still_waits_for_the_one_that_runs() {
    let mut busy = Busy::new(|settings| one_class(settings, 8, "60s")).await;

    busy.world.reload(four_classes).unwrap();
    busy.waits(&[("x-priority", "batch")], "batch").await;
    busy.waits(&[("x-priority", "vip")], "vip").await;

    assert_eq!(busy.world.metric("request_inflight"), Some(1.0));
    let waits =
        |class: &str| busy.world.metric(&format!("tollgate_queue_length{{class=\"{class}\"}}"));
    assert_eq!([waits("vip"), waits("batch"), waits("only")], [Some(1.0), Some(1.0), None]);
    assert_eq!(busy.run().await, ["first", "vip", "batch"]);
}

/// The queue is the same one: nobody loses its place, and no class's new rules wait for
/// the next call.
#[tokio::test]
async fn who_waits_keeps_its_place_under_new_rules() {
    let mut busy = Busy::new(four_classes).await;
    busy.waits(&[("x-priority", "batch")], "batch").await;
    busy.waits(&[("x-priority", "vip")], "vip").await;
    busy.waits(&[], "normal").await;

    busy.world
        .reload(|settings| {
            settings.set(
                "classes",
                json!([
                    { "name": "batch", "strict": true, "queue": 9, "max_wait": "60s" },
                    { "name": "rest", "default": true, "queue": 9, "max_wait": "60s" },
                ]),
            );
            settings.set("routes.0.class.map", json!({ "batch": "batch" }));
        })
        .unwrap();

    let rest = "tollgate_queue_length{class=\"rest\"}";
    assert_eq!(busy.world.metric(rest), Some(2.0), "whose classes are gone");
    assert_eq!(busy.run().await, ["first", "batch", "vip", "normal"]);
}

#[tokio::test]
async fn a_shorter_queue_turns_away_those_who_came_last() {
    let mut busy = Busy::new(|settings| one_class(settings, 8, "60s")).await;
    busy.waits(&[], "second").await;
    let mut last = ask::calls();
    send(&mut last, &busy.world.client, &[], chat(MODEL, "last"));
    busy.world.metric_when("request_queue_length", 2.0).await;

    busy.world.reload(|settings| one_class(settings, 1, "60s")).unwrap();

    assert_eq!(last.join_all().await[0].refusal(), (429, "queue_full"));
    assert_eq!(busy.run().await, ["first", "second"]);
}
