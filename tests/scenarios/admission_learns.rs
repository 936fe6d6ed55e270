//! What admission learns of calls: how long to send them away, what they take, how many can run.

use crate::{
    ask::{self, CHAT, chat, send},
    busy::{Busy, MODEL, one_class},
};
use serde_json::json;
use std::time::Duration;
use tollgate_tests::{World, standin::Options};

#[tokio::test]
async fn a_crowd_that_comes_back_is_sent_away_for_longer() {
    let busy = Busy::new(|settings| one_class(settings, 0, "60s")).await;
    let mut told = Vec::new();
    // Three in a second are a crowd; these are as many as come, until it is seen.
    while !told.contains(&2) {
        assert!(told.len() < 10_000, "{told:?}");
        let shed = busy.world.client.post(CHAT, &chat(MODEL, "again")).await;
        assert_eq!(shed.refusal(), (429, "queue_full"));
        told.push(shed.header("retry-after").parse::<u32>().unwrap());
    }
    assert_eq!(told[0], 1);
    assert!(told.iter().all(|seconds| (1..=2).contains(seconds)), "{told:?}");
    let shed = "tollgate_queue_shed_total{class=\"only\",reason=\"queue_full\"}";
    assert_eq!(busy.world.metric(shed), Some(told.len() as f64));
    assert_eq!(busy.run().await, ["first"]);
}

/// Every decision of the queue is counted by what it was, also where callers got an older answer.
#[tokio::test]
async fn what_the_queue_refuses_is_counted_by_its_reason() {
    let busy = Busy::new(|settings| one_class(settings, 8, "30ms")).await;
    busy.world.client.post(CHAT, &chat(MODEL, "second")).await;
    let hurried = [("tollgate-timeout", "5ms")];
    busy.world.client.post_with(CHAT, &hurried, &chat(MODEL, "third")).await;
    let of = |reason: &str| {
        let series = format!("tollgate_queue_shed_total{{class=\"only\",reason=\"{reason}\"}}");
        busy.world.metric(&series)
    };
    assert_eq!([of("queue_timeout"), of("deadline_unmeetable")], [Some(1.0), Some(1.0)]);
    assert_eq!([of("pushed_out"), of("draining"), of("preempted")], [Some(0.0); 3]);
    assert_eq!(busy.run().await, ["first"]);
}

#[tokio::test]
async fn who_cannot_be_answered_in_time_is_told_so_without_asking_the_provider() {
    let options = Options { first_token_delay: Duration::from_millis(500), ..Options::default() };
    let off = |settings: &mut tollgate_tests::Settings| {
        settings.set("routes.0.cache", json!({ "mode": "off" }));
    };
    let world = World::builder().standin(options).config(off).start().await;
    let mut calls = ask::calls();
    for nth in 0..12 {
        send(&mut calls, &world.client, &[], chat(MODEL, &nth.to_string()));
    }
    for reply in calls.join_all().await {
        assert_eq!(reply.status, 200);
    }
    let asked = world.standin.counts().calls;

    let hurried = [("tollgate-timeout", "20ms")];
    let told = world.client.post_with(CHAT, &hurried, &chat(MODEL, "hurried")).await;

    assert_eq!(told.refusal(), (504, "deadline_unmeetable"));
    assert_eq!(world.standin.counts().calls, asked);
    let reply = world.client.post(CHAT, &chat(MODEL, "patient")).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn a_limit_that_follows_its_provider_backs_off_when_that_says_it_has_too_much_to_do() {
    let adaptive = |settings: &mut tollgate_tests::Settings| {
        settings.set("routes.0.cache", json!({ "mode": "off" }));
        settings.set("upstreams.model.concurrency", json!({ "adaptive": { "min": 2, "max": 5 } }));
    };
    let world = World::builder().config(adaptive).start().await;
    assert_eq!(world.metric("concurrency_limit"), Some(5.0));
    for expected in [4.0, 3.0, 2.0, 2.0] {
        let told = world.client.post(CHAT, &chat("fail-429", "?")).await;
        assert_eq!(told.status, 429);
        world.metric_when("concurrency_limit", expected).await;
    }
}

#[tokio::test]
async fn a_tenant_with_more_weight_gets_as_much_more_of_its_class() {
    let mut busy = Busy::new(|settings| {
        one_class(settings, 64, "60s");
        settings.set("identity.tenant", json!({ "header": "x-tenant" }));
        let weights = json!({ "limit": 1, "weights": { "big": 3 } });
        settings.set("upstreams.model.concurrency", weights);
    })
    .await;
    for _ in 0..6 {
        for tenant in ["small", "big"] {
            busy.waits(&[("x-tenant", tenant)], tenant).await;
        }
    }

    let order = busy.run().await;

    let big = order[1..=8].iter().filter(|tenant| *tenant == "big").count();
    assert_eq!(big, 6, "{order:?}");
}
