//! Who runs, who waits, who is turned away, seen from outside: by the order in which
//! the provider is asked, by what callers are told and by what autoscalers read.

use crate::{
    ask::{self, CHAT, acquaint, cached, chat, limited, records_of, send, streamed},
    busy::{Busy, MODEL, check_rest, four_classes, one_class},
};
use serde_json::json;
use std::{future::poll_fn, pin::Pin, task::Poll};
use tokio::task::JoinSet;
use tollgate_ledger::Reason;
use tollgate_tests::{
    World,
    standin::{Gate, Options},
};

#[tokio::test]
async fn an_emergency_runs_before_a_vip_and_a_vip_before_a_batch_whoever_came_first() {
    let mut busy = Busy::new(four_classes).await;
    for class in ["batch", "vip", "emergency", "batch", "emergency"] {
        busy.waits(&[("x-priority", class)], class).await;
    }

    let order = busy.run().await;

    assert_eq!(order, ["first", "emergency", "emergency", "vip", "batch", "batch"]);
}

#[tokio::test]
async fn the_classes_share_by_their_weights() {
    let mut busy = Busy::new(four_classes).await;
    for _ in 0..18 {
        for class in ["batch", "vip"] {
            busy.waits(&[("x-priority", class)], class).await;
        }
    }

    let order = busy.run().await;

    // 8 to 1, and nobody starves.
    let batches = order[1..=18].iter().filter(|class| *class == "batch").count();
    assert!((1..=3).contains(&batches), "{order:?}");
}

#[tokio::test]
async fn tenants_take_turns_inside_a_class() {
    let mut busy = Busy::new(four_classes).await;
    for (tenant, calls) in [("loud", 6), ("quiet", 2)] {
        for _ in 0..calls {
            busy.waits(&[("authorization", tenant)], tenant).await;
        }
    }

    let order = busy.run().await;

    assert_eq!(order[1..], ["loud", "quiet", "loud", "quiet", "loud", "loud", "loud", "loud"]);
}

#[tokio::test]
async fn one_tenants_calls_run_in_the_order_they_came_in() {
    let mut busy = Busy::new(four_classes).await;
    for text in ["a", "b", "c", "d"] {
        busy.waits(&[], text).await;
    }

    assert_eq!(busy.run().await, ["first", "a", "b", "c", "d"]);
}

#[tokio::test]
async fn a_full_queue_turns_away_with_a_reason_and_a_time_to_come_back() {
    let mut busy = Busy::new(|settings| one_class(settings, 1, "60s")).await;
    busy.waits(&[], "second").await;

    let shed = busy.world.client.post(CHAT, &chat(MODEL, "third")).await;

    assert_eq!(shed.refusal(), (429, "queue_full"));
    assert!(shed.header("retry-after").parse::<u32>().unwrap() >= 1);
    assert_eq!(shed.json()["error"]["type"], "rate_limit_error");
    assert_eq!(shed.json()["error"]["code"], "queue_full");
    let rejected = "tollgate_rejected_total{class=\"only\",reason=\"queue_full\"}";
    assert_eq!(busy.world.metric(rejected), Some(1.0));
    assert_eq!(busy.run().await, ["first", "second"]);
}

#[tokio::test]
async fn who_waits_longer_than_its_class_allows_is_told_to_come_back() {
    for cache in ["off", "content"] {
        let busy = Busy::new(move |settings| {
            one_class(settings, 8, "30ms");
            settings.set("routes.0.cache", json!({ "mode": cache }));
        })
        .await;

        let shed = busy.world.client.post(CHAT, &chat(MODEL, "second")).await;

        assert_eq!(shed.refusal(), (429, "queue_timeout"), "{cache}");
        assert!(!shed.header("retry-after").is_empty());
        let record = &busy.world.records_when(1).await[0].record;
        assert_eq!((record.status, record.reason), (429, Reason::QueueTimeout));
        assert!(record.times.queue_us >= 30_000, "{record:?}");
        assert_eq!(busy.run().await, ["first"]);
    }
}

#[tokio::test]
async fn who_has_no_time_to_wait_for_its_turn_is_told_so() {
    for cache in ["off", "content"] {
        let busy = Busy::new(move |settings| {
            settings.set("routes.0.cache", json!({ "mode": cache }));
        })
        .await;
        for _ in 0..10 {
            let hurried = [("tollgate-timeout", "20ms")];
            let shed = busy.world.client.post_with(CHAT, &hurried, &chat(MODEL, "second")).await;
            assert_eq!(shed.refusal(), (504, "deadline_unmeetable"), "{cache}");
        }
        let records = busy.world.records_when(10).await;
        assert!(
            records.iter().all(|r| r.record.reason == Reason::DeadlineUnmeetable),
            "{records:?}"
        );
        assert_eq!(busy.run().await, ["first"]);
    }
}

#[tokio::test]
async fn only_who_is_trusted_may_claim_a_class() {
    let world = World::builder()
        .config(|settings| {
            four_classes(settings);
            settings.set("identity.tenant", json!({ "header": "x-tenant" }));
            settings.set("routes.0.class.trust", json!(["known"]));
        })
        .start()
        .await;
    let mut replies = Vec::new();
    for (tenant, claim) in
        [("known", "vip"), ("stranger", "vip"), ("known", "unheard-of"), ("", "vip")]
    {
        let headers = [("x-tenant", tenant), ("x-priority", claim)];
        replies.push(world.client.post_with(CHAT, &headers, &chat(MODEL, "hello")).await);
    }

    let records = records_of(&world, &replies.iter().collect::<Vec<_>>()).await;

    let classes: Vec<&str> = records.iter().map(|record| record.words[6].as_str()).collect();
    assert_eq!(classes, ["vip", "normal", "normal", "normal"]);
    for (class, calls) in [("emergency", 0.0), ("vip", 1.0), ("normal", 3.0), ("batch", 0.0)] {
        let dispatched = format!("tollgate_dispatched_total{{class=\"{class}\"}}");
        assert_eq!(world.metric(&dispatched), Some(calls), "{class}");
    }
}

#[tokio::test]
async fn a_caller_that_leaves_the_queue_frees_its_place_at_once() {
    for cache in ["off", "content"] {
        let mut busy = Busy::new(move |settings| {
            one_class(settings, 1, "60s");
            settings.set("routes.0.cache", json!({ "mode": cache }));
        })
        .await;
        let mut leaves = ask::calls();
        send(&mut leaves, &busy.world.client, &[], chat(MODEL, "second"));
        busy.world.metric_when("request_queue_length", 1.0).await;

        leaves.shutdown().await;
        busy.world.metric_when("request_queue_length", 0.0).await;
        busy.waits(&[], "third").await;

        assert_eq!(busy.run().await, ["first", "third"]);
    }
}

#[tokio::test]
async fn a_permit_is_held_until_the_body_ends() {
    let gate = Gate::chunks();
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let world =
        World::builder().standin(options).config(|settings| limited(settings, 1)).start().await;
    let mut first = world.client.stream(CHAT, &streamed(MODEL, "first")).await;
    gate.release_chunks(2);
    first.read_until("data:").await;
    let mut second = ask::calls();
    send(&mut second, &world.client, &[], chat(MODEL, "second"));
    world.metric_when("request_queue_length", 1.0).await;
    assert_eq!(world.metric("request_inflight"), Some(1.0));
    assert_eq!(world.standin.counts().calls, 1);

    gate.open();
    assert!(!first.finish().await.cut);
    second.join_all().await;

    assert_eq!((world.standin.counts().calls, world.standin.counts().max_in_flight), (2, 1));
    check_rest(&world);
}

#[tokio::test]
async fn a_permit_of_a_caller_that_hangs_up_mid_stream_goes_to_the_next() {
    let gate = Gate::chunks();
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let world =
        World::builder().standin(options).config(|settings| limited(settings, 1)).start().await;
    let mut first = world.client.stream(CHAT, &streamed(MODEL, "first")).await;
    gate.release_chunks(2);
    first.read_until("data:").await;
    let mut second = ask::calls();
    send(&mut second, &world.client, &[], chat(MODEL, "second"));
    world.metric_when("request_queue_length", 1.0).await;

    drop(first);
    world.provider("the next call", |counts| counts.calls == 2 && counts.aborted == 1).await;
    gate.open();

    assert_eq!(second.join_all().await[0].status, 200);
    check_rest(&world);
}

#[tokio::test]
async fn hits_and_followers_never_queue_and_count_in_no_gauge() {
    let gate = Gate::chunks();
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let world = World::builder()
        .standin(options)
        .config(|settings| {
            cached(settings);
            limited(settings, 1);
        })
        .start()
        .await;
    acquaint(&world, &gate).await;
    let leader = world.client.stream(CHAT, &streamed(MODEL, "busy")).await;

    let hit = world.client.post(CHAT, &chat(MODEL, "which one are you?")).await;
    let follower = world.client.stream(CHAT, &streamed(MODEL, "busy")).await;

    assert!(hit.header("cache-status").starts_with("tollgate; hit"), "{hit:?}");
    assert!(follower.header("cache-status").contains("collapsed"));
    let gauge = |name: &str| world.metric(name).unwrap();
    assert_eq!((gauge("request_inflight"), gauge("request_concurrency")), (1.0, 1.0));
    assert_eq!(gauge("request_queue_length"), 0.0);
    gate.open();
    assert!(!leader.finish().await.cut && !follower.finish().await.cut);
    check_rest(&world);
    let served = "tollgate_queue_wait_seconds_count{class=\"normal\",outcome=\"served\"}";
    assert_eq!(world.metric(served), Some(2.0), "the first question and the leader");
}

#[tokio::test]
async fn the_gauges_are_exact_while_calls_run_and_wait() {
    let gate = Gate::heads();
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let world = World::builder()
        .standin(options)
        .config(|settings| {
            four_classes(settings);
            limited(settings, 2);
        })
        .start()
        .await;
    let mut calls = ask::calls();
    for place in 0..2 {
        send(&mut calls, &world.client, &[], chat(MODEL, "runs"));
        world.standin.wait_for_calls(place + 1).await;
    }
    for (place, class) in ["vip", "vip", "batch"].into_iter().enumerate() {
        send(&mut calls, &world.client, &[("x-priority", class.to_owned())], chat(MODEL, class));
        world.metric_when("request_queue_length", place as f64 + 1.0).await;
    }

    let metrics = world.metrics();

    let wanted = [
        ("request_queue_length", 3.0),
        ("request_inflight", 2.0),
        ("request_concurrency", 5.0),
        ("concurrency_limit", 2.0),
        ("tollgate_queue_length{class=\"emergency\"}", 0.0),
        ("tollgate_queue_length{class=\"vip\"}", 2.0),
        ("tollgate_queue_length{class=\"normal\"}", 0.0),
        ("tollgate_queue_length{class=\"batch\"}", 1.0),
    ];
    for (series, value) in wanted {
        assert_eq!(metrics.get(series), Some(&value), "{series}");
    }
    assert!(metrics["request_queue_oldest_seconds"] > 0.0);
    gate.open();
    calls.join_all().await;
    check_rest(&world);
}

/// A storm of callers of all classes, of whom many hang up somewhere on the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_of_hang_ups_no_permit_is_lost_and_the_limit_holds() {
    const CALLERS: u64 = 24;
    const ROUNDS: u64 = 12;
    let options = Options { concurrency_limit: Some(2), ..Options::default() };
    let world = World::builder()
        .standin(options)
        .config(|settings| {
            four_classes(settings);
            limited(settings, 2);
        })
        .start()
        .await;
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let client = world.client.clone();
        callers.spawn(async move {
            let mut finished = 0_u64;
            for round in 0..ROUNDS {
                let dice = (caller * 7919 + round * 104_729) % 97;
                let class = ["emergency", "vip", "normal", "batch"][(dice % 4) as usize];
                let headers = [("x-priority", class)];
                let ask = streamed(MODEL, &format!("{caller} {round}"));
                let asking = Box::pin(client.stream_with(CHAT, &headers, &ask));
                // A few turns of the executor are some point on the way.
                if dice % 3 == 0 {
                    poll_some(asking, dice).await;
                    continue;
                }
                let mut live = asking.await;
                assert_eq!(live.status, 200);
                if dice % 3 == 1 {
                    live.next().await;
                    continue;
                }
                finished += u64::from(!live.finish().await.cut);
            }
            finished
        });
    }
    let finished: u64 = callers.join_all().await.into_iter().sum();

    let counts = world
        .provider("the end of the storm", |counts| counts.in_flight == 0 && counts.calls >= 2)
        .await;
    assert_eq!(counts.limit_exceeded, 0, "{counts:?}");
    assert!(counts.max_in_flight <= 2, "{counts:?}");
    assert!(finished > 0 && counts.finished >= finished, "{finished} {counts:?}");
    world.metric_when("request_concurrency", 0.0).await;
    check_rest(&world);
    // The slots are all there: two run at once again.
    let gate = Gate::heads();
    world.standin.set_gate(Some(gate.clone()));
    let before = world.standin.counts().calls;
    let mut calls = ask::calls();
    for _ in 0..3 {
        send(&mut calls, &world.client, &[], chat(MODEL, "after"));
    }
    world.standin.wait_for_calls(before + 2).await;
    world.metric_when("request_queue_length", 1.0).await;
    assert_eq!(world.metric("request_inflight"), Some(2.0));
    gate.open();
    calls.join_all().await;
}

/// Polls `asking` some times, and drops it: the caller has hung up.
async fn poll_some<F: Future + Unpin>(mut asking: F, times: u64) {
    for _ in 0..times {
        let ready = poll_fn(|cx| Poll::Ready(Pin::new(&mut asking).poll(cx).is_ready())).await;
        if ready {
            return;
        }
        tokio::task::yield_now().await;
    }
}
