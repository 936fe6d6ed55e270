//! What is asked for often, in content mode: good for longer, and renewed before its time is over,
//! by one call, for an instance and for a fleet.
//!
//! Nearly all of an answer's time is its last part here, so that it begins a moment after the answer
//! was stored.

use crate::{
    cache_lease::Fleet,
    cache_stage::{
        CHAT, Told as _, assert_hit, assert_miss, chat, content, purge, streamed, told_text,
    },
    cache_when::service,
};
use http::StatusCode;
use serde_json::{Value, json};
use tollgate_ledger::CacheOutcome;
use tollgate_tests::{
    Reply, World,
    standin::{Fault, Gate},
    until,
};

const HOUR_S: i64 = 3600;

/// What is left of a hit's time, in seconds.
#[track_caller]
fn left_s(reply: &Reply) -> i64 {
    assert_hit(reply);
    let left = reply.cache_status().split("ttl=").nth(1);
    left.and_then(|rest| rest.split(';').next()?.parse().ok()).unwrap()
}

async fn ask(world: &World) -> Reply {
    world.client.post(CHAT, &chat("a")).await
}

fn renewed_early() -> Value {
    json!({ "ttl": "60s", "hot": { "hits": 1, "refresh_ahead": "99%" } })
}

#[tokio::test]
async fn an_answer_that_is_given_often_is_good_for_longer_once() {
    let hot = json!({ "hits": 3, "extend": "30m" });
    let world = content(json!({ "ttl": "1h", "hot": hot })).start().await;
    assert_miss(&ask(&world).await);
    for _ in 0..2 {
        assert!(left_s(&ask(&world).await) <= HOUR_S);
    }
    for _ in 0..5 {
        let left = left_s(&ask(&world).await);
        assert!(left > HOUR_S && left <= HOUR_S + HOUR_S / 2, "{left}");
    }
    // What others ask is not.
    assert_miss(&world.client.post(CHAT, &chat("b")).await);
    assert!(left_s(&world.client.post(CHAT, &chat("b")).await) <= HOUR_S);
    purge(&world, json!({ "all": true })).await;
    assert_miss(&ask(&world).await);
    assert!(left_s(&ask(&world).await) <= HOUR_S, "the next one is not hot yet");
}

#[tokio::test]
async fn no_answer_is_extended_past_what_its_upstream_allows() {
    let policy = json!({ "upstream_ttl": true, "ttl": "1h", "hot": { "hits": 1, "extend": "1h" } });
    let world = service(policy, "200 OK\r\ncache-control: max-age=600", "x").await;
    let ask = || async { world.client.post("/", &json!({})).await };
    assert_miss(&ask().await);
    for _ in 0..3 {
        assert!(left_s(&ask().await) <= 600);
    }
}

#[tokio::test]
async fn a_hot_answer_is_renewed_before_its_end_by_one_call_and_nobody_waits() {
    let world = content(renewed_early()).start().await;
    let old = ask(&world).await;
    assert_miss(&old);
    let gate = Gate::heads();
    world.standin.set_gate(Some(gate.clone()));
    let look = || async {
        let reply = ask(&world).await;
        assert_hit(&reply);
        assert_eq!(reply.body, old.body);
        world.standin.counts().in_flight
    };
    until("the call that renews it", look, |in_flight| *in_flight == 1).await;
    for _ in 0..50 {
        assert_eq!(look().await, 1, "one renewal for all");
    }
    gate.open();
    let new = until("the new answer", || ask(&world), |reply| reply.body != old.body).await;
    assert_hit(&new);
    assert_eq!(world.standin.counts().calls, 2);
    let records = world.records_when(52).await;
    let misses: Vec<_> =
        records.iter().filter(|view| view.record.outcome == CacheOutcome::Miss).collect();
    assert!(misses.len() == 2 && misses[1].record.tokens.output > 0, "a record of its own");
}

#[tokio::test]
async fn what_nobody_asks_for_often_is_not_renewed() {
    let hot = json!({ "hits": 1_000_000, "refresh_ahead": "99%", "extend": "1s" });
    let world = content(json!({ "ttl": "1s", "hot": hot })).start().await;
    let old = ask(&world).await;
    let end = until("its end", || ask(&world), |reply| !reply.is_hit()).await;
    assert_miss(&end);
    assert!(end.body != old.body && world.standin.counts().calls == 2);
}

#[tokio::test]
async fn a_renewal_that_fails_leaves_the_answer_and_no_caller_hears_of_it() {
    let world = content(renewed_early()).start().await;
    let old = ask(&world).await;
    world.standin.fault_next(Fault::Fail(StatusCode::INTERNAL_SERVER_ERROR), 1);
    let look = || async {
        let reply = ask(&world).await;
        assert_hit(&reply);
        assert_eq!(reply.body, old.body);
        world.standin.counts().calls
    };
    until("the renewal that fails", look, |calls| *calls == 2).await;
    for _ in 0..20 {
        assert_eq!(look().await, 2, "the next try has to wait");
    }
}

#[tokio::test]
async fn a_hot_stream_is_renewed_and_given_in_either_form() {
    let world = content(renewed_early()).start().await;
    let stream = || async { world.client.stream(CHAT, &streamed(&chat("a"))).await.finish().await };
    let old = stream().await;
    assert_miss(&old);
    let new = until("the new answer", stream, |reply| reply.body != old.body).await;
    assert_hit(&new);
    let whole = ask(&world).await;
    assert_hit(&whole);
    let text = whole.json()["choices"][0]["message"]["content"].clone();
    assert_eq!(text, told_text(&new.text()));
}

#[tokio::test]
async fn who_wants_it_fresh_for_long_is_given_what_is_hot() {
    let hot = json!({ "hits": 2, "extend": "1h" });
    let world = content(json!({ "ttl": "1h", "hot": hot })).start().await;
    let long = [("cache-control", "min-fresh=5400, only-if-cached")];
    let ask_long = || async { world.client.post_with(CHAT, &long, &chat("a")).await };
    assert_miss(&ask(&world).await);
    // It counts as a look, too.
    assert_eq!(ask_long().await.refusal(), (504, "not_cached"));
    assert_hit(&ask(&world).await);
    assert_hit(&ask_long().await);
}

#[tokio::test]
async fn of_a_fleet_one_instance_renews_what_is_hot() {
    let fleet = Fleet::new().await;
    fleet.gate.release(1);
    let policy = json!({
        "tiers": ["memory", "redis"], "ttl": "60s",
        "hot": { "hits": 1, "refresh_ahead": "99%" },
    });
    let (a, b) = (fleet.member_by(policy.clone()).await, fleet.member_by(policy).await);
    let old = ask(&a).await;
    let look = || async {
        b.client.post_with(CHAT, &[("cache-control", "only-if-cached")], &chat("a")).await
    };
    until("the answer at the other", look, |reply| reply.status == 200).await;
    let look = || async {
        assert_hit(&ask(&a).await);
        fleet.provider.counts().in_flight
    };
    until("a call that renews it", look, |in_flight| *in_flight == 1).await;
    let look = || async {
        assert_hit(&ask(&b).await);
        fleet.has_waiter().await
    };
    until("the other's wait for it", look, |waits| *waits).await;
    assert_eq!(fleet.provider.counts().in_flight, 1);
    fleet.gate.open();
    for world in [&a, &b] {
        until("the new answer", || ask(world), |reply| reply.body != old.body).await;
    }
    assert_eq!(fleet.provider.counts().calls, 2);
}

#[tokio::test]
async fn what_is_hot_in_one_instance_is_hot_in_all() {
    let fleet = Fleet::new().await;
    fleet.gate.open();
    // Whose memory keeps nothing for long enough to count.
    let policy = |memory: &str| {
        json!({
            "ttl": "1h",
            "tiers": [{ "name": "memory", "ttl": memory }, "redis"],
            "hot": { "hits": 100, "extend": "1h" },
        })
    };
    let (a, b) = (fleet.member_by(policy("1h")).await, fleet.member_by(policy("1ms")).await);
    assert_miss(&ask(&a).await);
    let look = || async {
        b.client.post_with(CHAT, &[("cache-control", "only-if-cached")], &chat("a")).await
    };
    let reply = until("the answer at the other", look, |reply| reply.status == 200).await;
    assert!(left_s(&reply) <= HOUR_S);
    for _ in 0..100 {
        assert_hit(&ask(&a).await);
    }
    until("what the other gives for longer", look, |reply| left_s(reply) > HOUR_S).await;
    assert_eq!(fleet.provider.counts().calls, 1);
}
