//! Content mode, past an answer's time: given while one call renews it, for a failure of the
//! provider, for want of a turn; and never longer, nor to who wants it newer.
//!
//! A soft purge ends the time of what is kept when the scenario wants it.

use crate::{
    busy::one_class,
    cache_lease::Fleet,
    cache_stage::{
        Asked, CHAT, Told as _, answered, assert_hit, assert_miss, chat, content, purge, record_of,
        send, streamed, told_text,
    },
};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;
use tollgate_ledger::{CacheOutcome, Reason};
use tollgate_tests::{
    Reply, World,
    standin::{Fault, Gate},
    until,
};

/// A world that has an answer to "a" whose time is over.
async fn with_an_old_answer(stale: Value) -> (World, Reply) {
    let world = content(json!({ "stale": stale })).start().await;
    let old = world.client.post(CHAT, &chat("a")).await;
    assert_miss(&old);
    assert_hit(&world.client.post(CHAT, &chat("a")).await);
    purge(&world, json!({ "route": "all", "soft": true })).await;
    (world, old)
}

#[track_caller]
fn assert_stale(reply: &Reply) {
    let (status, ttl) = (reply.cache_status(), reply.cache_status().split("ttl=").nth(1));
    let ttl: i64 = ttl.and_then(|rest| rest.split(';').next()?.parse().ok()).unwrap();
    assert!(reply.status == 200 && ttl <= 0 && status.ends_with("detail=memory"), "{reply:?}");
}

fn says_instead(reply: &Reply, status: &str) -> bool {
    reply.cache_status().starts_with(&format!("tollgate; fwd=stale{status}; ttl="))
}

#[tokio::test]
async fn fifty_callers_are_given_what_is_old_and_one_call_renews_it() {
    let (world, old) = with_an_old_answer(json!({ "while_revalidate": "1h" })).await;
    let gate = Gate::heads();
    world.standin.set_gate(Some(gate.clone()));
    let asked: Vec<Asked> = (0..50).map(|_| send(&world.client, CHAT, &[], &chat("a"))).collect();
    for asked in asked {
        let reply = answered(asked).await;
        assert_stale(&reply);
        assert!(reply.cache_status().starts_with("tollgate; hit; "), "{reply:?}");
        assert_eq!(reply.body, old.body);
    }
    gate.open();
    let look = || async { world.client.post(CHAT, &chat("a")).await };
    let new = until("the new answer", look, |reply| reply.body != old.body).await;
    assert!(new.is_hit() && !new.cache_status().contains("ttl=-"), "{new:?}");
    assert_eq!(world.standin.counts().calls, 2, "one renewal for all");
    let records = world.records_when(54).await;
    let with = |outcome| records.iter().filter(|view| view.record.outcome == outcome).count();
    assert!(with(CacheOutcome::Stale) >= 50 && with(CacheOutcome::Miss) == 2, "{records:?}");
    // Nobody waits for the renewal, so it goes behind all who are waited for.
    let renewal = records.iter().rfind(|view| view.record.outcome == CacheOutcome::Miss);
    assert!(renewal.unwrap().record.tokens.output > 0);
}

#[tokio::test]
async fn without_a_window_what_was_purged_softly_is_a_miss() {
    let (world, old) = with_an_old_answer(json!({ "while_revalidate": "0s" })).await;
    let new = world.client.post_with(CHAT, &[("cache-control", "max-stale")], &chat("a")).await;
    assert_miss(&new);
    assert_ne!(new.body, old.body);
    assert_hit(&world.client.post(CHAT, &chat("a")).await);
}

#[tokio::test]
async fn while_the_provider_fails_what_is_old_is_given_and_then_what_is_new() {
    let (world, old) = with_an_old_answer(json!({ "if_error": "1h" })).await;
    let ask = || async { world.client.post(CHAT, &chat("a")).await };
    world.standin.fault_next(Fault::Reset, 1);
    let reply = ask().await;
    assert_stale(&reply);
    assert!(says_instead(&reply, "") && reply.body == old.body, "{reply:?}");
    let record = record_of(&world, &reply).await.record;
    assert_eq!((record.outcome, record.status), (CacheOutcome::Stale, 200));
    assert_eq!(record.reason, Reason::UpstreamReset);
    for status in [500, 502, 503, 504] {
        world.standin.fault_next(Fault::Fail(StatusCode::from_u16(status).unwrap()), 1);
        let reply = ask().await;
        assert_stale(&reply);
        assert!(says_instead(&reply, &format!("; fwd-status={status}")), "{reply:?}");
        assert_eq!(reply.body, old.body);
    }
    // Of others the provider means this caller.
    world.standin.fault_next(Fault::Fail(StatusCode::BAD_REQUEST), 1);
    assert_eq!(ask().await.status, 400);
    let new = ask().await;
    assert_eq!(new.cache_status(), "tollgate; fwd=stale");
    assert!(new.status == 200 && new.body != old.body);
    assert_hit(&ask().await);
    let rejected =
        world.metrics().into_iter().filter(|(name, _)| name.starts_with("tollgate_rejected_total"));
    assert!(rejected.into_iter().all(|(_, value)| value == 0.0));
}

#[tokio::test]
async fn all_who_asked_together_are_given_what_each_holds() {
    let (world, old) = with_an_old_answer(json!({ "if_error": "1h" })).await;
    let gate = Gate::heads();
    world.standin.set_gate(Some(gate.clone()));
    world.standin.fault_next(Fault::Fail(StatusCode::SERVICE_UNAVAILABLE), 1);
    let leader = send(&world.client, CHAT, &[], &chat("a"));
    world.standin.wait_for_in_flight(1).await;
    let follower = [("cache-control", "max-stale=1, stale-if-error=60")];
    let asked: Vec<Asked> =
        (0..10).map(|nth| send(&world.client, CHAT, &follower[..nth % 2], &chat("a"))).collect();
    world.metric_when("request_concurrency", 1.0).await;
    gate.open();
    for asked in asked.into_iter().chain([leader]) {
        let reply = answered(asked).await;
        // Who came too late asked anew, and was given what is new.
        assert!(reply.status == 200 && !reply.cut, "{reply:?}");
        if reply.body == old.body {
            assert_stale(&reply);
        }
    }
    assert!(world.standin.counts().calls <= 3);
}

#[tokio::test]
async fn a_caller_that_wants_it_newer_is_never_given_what_is_old() {
    let windows = json!({ "while_revalidate": "1h", "if_error": "1h", "degrade": "1h" });
    let (world, old) = with_an_old_answer(windows).await;
    for control in ["no-cache", "max-age=0", "min-fresh=1", "no-store"] {
        world.standin.fault_next(Fault::Fail(StatusCode::BAD_GATEWAY), 1);
        let reply = world.client.post_with(CHAT, &[("cache-control", control)], &chat("a")).await;
        assert_eq!(reply.status, 502, "{control}: {reply:?}");
    }
    let only = [("cache-control", "only-if-cached, max-age=0")];
    let reply = world.client.post_with(CHAT, &only, &chat("a")).await;
    assert_eq!(reply.refusal(), (504, "not_cached"));
    // And to who says nothing it is.
    let reply = world.client.post(CHAT, &chat("a")).await;
    assert_stale(&reply);
    assert_eq!(reply.body, old.body);
}

#[tokio::test]
async fn a_caller_that_takes_it_old_is_given_it_and_nothing_is_renewed() {
    let (world, old) = with_an_old_answer(json!({ "if_error": "1h" })).await;
    for control in ["max-stale", "max-stale=60", "max-stale, only-if-cached"] {
        let reply = world.client.post_with(CHAT, &[("cache-control", control)], &chat("a")).await;
        assert_stale(&reply);
        assert_eq!(reply.body, old.body);
    }
    assert_eq!(world.standin.counts().calls, 1);
}

#[tokio::test]
async fn nothing_is_given_past_its_window() {
    let stale = json!({ "while_revalidate": "1ms", "if_error": "2ms", "degrade": "2ms" });
    let world = content(json!({ "ttl": "1ms", "stale": stale })).start().await;
    assert_miss(&world.client.post(CHAT, &chat("a")).await);
    world.standin.fault_next(Fault::Reset, 10_000);
    let look = || async { world.client.post(CHAT, &chat("a")).await };
    let refused = until("the end of the window", look, |reply| reply.status != 200).await;
    assert_eq!(refused.refusal(), (502, "upstream_reset"));
    assert_eq!(look().await.status, 502);
}

#[tokio::test]
async fn a_stream_is_given_past_its_time_in_either_form() {
    let world = content(json!({ "stale": { "if_error": "1h" } })).start().await;
    let old = world.client.stream(CHAT, &streamed(&chat("a"))).await.finish().await;
    assert_miss(&old);
    purge(&world, json!({ "all": true, "soft": true })).await;
    world.standin.fault_next(Fault::Reset, 2);
    let again = world.client.stream(CHAT, &streamed(&chat("a"))).await.finish().await;
    assert_stale(&again);
    assert_eq!(again.body, old.body);
    let whole = world.client.post(CHAT, &chat("a")).await;
    assert_stale(&whole);
    let text = whole.json()["choices"][0]["message"]["content"].clone();
    assert_eq!(text, told_text(&old.text()));
}

#[tokio::test]
async fn for_want_of_a_turn_what_is_old_is_given_and_not_a_refusal() {
    // Without a mode, pages are kept as their headers say, and model calls by what they ask.
    let world = World::builder()
        .config(|settings| {
            settings.set("routes.0.cache", json!({ "stale": { "degrade": "10m" } }));
            settings.set("upstreams.model.concurrency", json!({ "limit": 1 }));
            one_class(settings, 1, "60s");
        })
        .start()
        .await;
    let page = "/static/page?cache-control=max-age%3D600";
    let old = world.client.post(CHAT, &chat("a")).await;
    assert_miss(&old);
    assert_miss(&world.client.get(page).await);
    purge(&world, json!({ "all": true, "soft": true })).await;
    let gate = Gate::heads();
    world.standin.set_gate(Some(gate.clone()));
    let runs = send(&world.client, CHAT, &[], &chat("runs"));
    world.standin.wait_for_in_flight(1).await;
    let waits = send(&world.client, CHAT, &[], &chat("waits"));
    world.metric_when("request_queue_length", 1.0).await;

    for (reply, is_old) in [
        (world.client.post(CHAT, &chat("a")).await, true),
        (world.client.get(page).await, true),
        (world.client.post_with(CHAT, &[("cache-control", "no-cache")], &chat("a")).await, false),
        (world.client.post(CHAT, &chat("b")).await, false),
    ] {
        if is_old {
            let said = reply.cache_status();
            assert!(said.starts_with("tollgate; hit; ttl="), "{reply:?}");
            assert!(reply.status == 200 && said.ends_with("; detail=degrade"), "{reply:?}");
            let record = record_of(&world, &reply).await.record;
            assert_eq!((record.outcome, record.reason), (CacheOutcome::Stale, Reason::QueueFull));
        } else {
            assert_eq!(reply.refusal(), (429, "queue_full"));
        }
    }
    let rejected = "tollgate_rejected_total{class=\"only\",reason=\"queue_full\"}";
    assert_eq!(world.metric(rejected), Some(2.0), "those who were refused");
    gate.open();
    for asked in [runs, waits] {
        assert_eq!(answered(asked).await.status, 200);
    }
}

#[tokio::test]
async fn of_a_fleet_one_instance_renews() {
    let fleet = Fleet::new().await;
    fleet.gate.release(1);
    let policy = json!({ "tiers": ["memory", "redis"], "stale": { "while_revalidate": "1h" } });
    let (a, b) = (fleet.member_by(policy.clone()).await, fleet.member_by(policy).await);
    let old = a.client.post(CHAT, &chat("a")).await;
    let look = || async {
        b.client.post_with(CHAT, &[("cache-control", "only-if-cached")], &chat("a")).await
    };
    until("the answer at the other", look, |reply| reply.status == 200).await;
    purge(&a, json!({ "all": true, "soft": true })).await;
    let ask = |world: &World| {
        let client = world.client.clone();
        async move { client.post(CHAT, &chat("a")).await }
    };
    assert_stale(&ask(&a).await);
    fleet.in_flight(1).await;
    until("the purge at the other", || ask(&b), |reply| reply.cache_status().contains("ttl=-"))
        .await;
    fleet.somebody_waits().await;
    assert_eq!(fleet.provider.counts().in_flight, 1);
    fleet.gate.open();
    for world in [&a, &b] {
        until("the new answer", || ask(world), |reply| reply.body != old.body).await;
    }
    assert_eq!(fleet.provider.counts().calls, 2);
}

/// Goal: a provider that fails is left in peace, whatever the number of callers and tiers.
#[tokio::test]
async fn of_what_lies_in_two_tiers_one_renewal_a_second_is_tried() {
    let fleet = Fleet::new().await;
    fleet.gate.open();
    let world = fleet
        .member_by(json!({
            "tiers": ["memory", "redis"], "writes": "through", "ttl": "1ms",
            "stale": { "while_revalidate": "1h" },
        }))
        .await;
    assert_miss(&world.client.post(CHAT, &chat("a")).await);
    fleet.provider.fault_next(Fault::Fail(StatusCode::SERVICE_UNAVAILABLE), 10_000);
    let began = Instant::now();
    for _ in 0..200 {
        let reply = world.client.post(CHAT, &chat("a")).await;
        assert!(reply.status == 200 && reply.cache_status().contains("; hit; "), "{reply:?}");
        fleet.in_flight(0).await;
    }
    let tried = fleet.provider.counts().calls - 1;
    assert!((1..=2 + began.elapsed().as_secs()).contains(&tried), "{tried} in {began:?}");
}

/// Goal: a provider that fails is not asked by everybody who is given what is old. Method: where nothing
/// lies in memory, which would know when it was asked last; or what there is was kept before its
/// route gave anything old.
#[tokio::test]
async fn a_renewal_that_fails_is_tried_once_a_second_wherever_the_answer_lies() {
    let fleet = Fleet::new().await;
    fleet.gate.open();
    let policy = json!({ "tiers": ["redis"], "stale": { "while_revalidate": "1h" } });
    let world = fleet.member_by(policy).await;
    let ask = || async { world.client.post(CHAT, &chat("a")).await };
    assert_miss(&ask().await);
    until("the answer in redis", ask, |reply| reply.is_hit()).await;
    purge(&world, json!({ "route": "all", "soft": true })).await;
    fleet.provider.fault_next(Fault::Reset, 1_000_000);
    let (began, calls) = (Instant::now(), fleet.provider.counts().calls);
    let look = || async {
        for _ in 0..20 {
            assert_eq!(ask().await.status, 200);
        }
        fleet.provider.counts().calls - calls
    };
    let tried = until("two tries", look, |tried| *tried >= 2).await;
    assert!(tried <= began.elapsed().as_secs() + 1, "{tried} in {:?}", began.elapsed());
}
