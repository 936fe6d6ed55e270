//! Equal calls at one time: one upstream call, and each caller gets all of the answer.
//!
//! A gate at the provider holds the answer where a scenario wants it. Where its head has
//! gone out, whoever opens the same question has joined when it has the head; where
//! nothing has come yet, `come_so_far` waits until all who were sent have joined.

use crate::cache_stage::{
    Asked, CHAT, COLLAPSED, MISS, Told as _, answered, assert_bypass, assert_hit, assert_miss,
    chat, come_so_far, content, cost_pico, events, is_cached, marker_route, outcome, send,
    streamed,
};
use serde_json::json;
use tollgate_ledger::{CacheOutcome, Quality, RecordView};
use tollgate_tests::{
    Live, Reply, World, WorldBuilder,
    standin::{Fault, Gate, Options, StandIn},
};

/// A world whose provider is held by `gate`, and another provider that nobody holds.
pub(crate) async fn gated(gate: &Gate, change: impl FnOnce(WorldBuilder) -> WorldBuilder) -> World {
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tasks = tokio_util::task::TaskTracker::new();
    let free = StandIn::start(Options::default(), free, &tasks, Default::default());
    let url = free.url();
    let builder = content(json!({})).standin(options);
    change(builder).config(move |settings| marker_route(settings, &url)).start().await
}

fn by_outcome(records: &[RecordView], wanted: CacheOutcome) -> Vec<&RecordView> {
    records.iter().filter(|record| record.record.outcome == wanted).collect()
}

#[tokio::test]
async fn equal_calls_at_one_time_are_one_upstream_call_and_each_gets_all() {
    let gate = Gate::heads();
    let world = gated(&gate, |builder| builder).await;
    let asked: Vec<Asked> = (0..20).map(|_| send(&world.client, CHAT, &[], &chat("a"))).collect();
    world.provider("the leader", |counts| counts.in_flight == 1).await;
    come_so_far(&world).await;
    gate.open();

    let mut replies = Vec::new();
    for asked in asked {
        replies.push(answered(asked).await);
    }
    assert_eq!(world.standin.counts().calls, 1);
    assert!(replies.iter().all(|reply| reply.status == 200 && !reply.cut));
    assert!(replies.iter().all(|reply| reply.body == replies[0].body));
    let with = |status: &str| replies.iter().filter(|reply| reply.cache_status() == status).count();
    assert_eq!((with(MISS), with(COLLAPSED)), (1, 19));

    let records = world.records_when(21).await;
    let followers = by_outcome(&records, CacheOutcome::Collapsed);
    let leaders = by_outcome(&records, CacheOutcome::Miss);
    assert_eq!((leaders.len(), followers.len()), (1, 19));
    for follower in followers {
        assert_eq!(outcome(follower), (CacheOutcome::Collapsed, "none"));
        assert_eq!(cost_pico(follower), 0);
        assert_eq!(follower.record.saved_pico, cost_pico(leaders[0]));
        assert_eq!(follower.record.tokens, leaders[0].record.tokens);
        assert_eq!(follower.record.reason.name(), "none");
    }
    let all = "tollgate_cache_requests_total{route=\"all\",tier=\"none\",outcome=\"collapsed\"}";
    assert_eq!(world.metric(all), Some(19.0));
    let marker_and_leader = Some(2.0);
    assert_eq!(world.metric("tollgate_dispatched_total{class=\"normal\"}"), marker_and_leader);
}

#[tokio::test]
async fn followers_of_a_stream_get_its_bytes_as_they_come() {
    let gate = Gate::chunks();
    let world = gated(&gate, |builder| builder).await;
    let mut leader = world.client.stream(CHAT, &streamed(&chat("a"))).await;
    assert_eq!(leader.cache_status(), MISS);
    gate.release_chunks(1);
    let mut seen = [leader.read_until("\n\n").await, String::new(), String::new()];
    let mut followers = Vec::new();
    for _ in 0..2 {
        followers.push(world.client.stream(CHAT, &streamed(&chat("a"))).await);
    }
    for (follower, seen) in followers.iter_mut().zip(&mut seen[1..]) {
        assert_eq!(follower.cache_status(), COLLAPSED);
        // What came before they joined is theirs too.
        *seen = follower.read_until("\n\n").await;
    }
    for _ in 0..3 {
        gate.release_chunks(1);
        for (live, seen) in std::iter::once(&mut leader).chain(&mut followers).zip(&mut seen) {
            seen.push_str(&live.read_until("\n\n").await);
        }
    }
    assert!(world.standin.counts().in_flight == 1 && seen[0].matches("data:").count() == 4);
    gate.open();
    let mut wholes = Vec::new();
    for (live, seen) in std::iter::once(leader).chain(followers).zip(seen) {
        let rest = live.finish().await;
        assert!(!rest.cut);
        wholes.push(seen + &rest.text());
    }
    assert_eq!(events(&wholes[0]).last(), Some(&"[DONE]"));
    assert!(wholes.iter().all(|whole| *whole == wholes[0]));
    assert_eq!(world.standin.counts().calls, 1);
}

#[tokio::test]
async fn a_follower_reads_no_further_than_the_leader_and_is_not_held_by_it() {
    let gate = Gate::chunks();
    let world = gated(&gate, |builder| builder).await;
    let leader = world.client.stream(CHAT, &streamed(&chat("a"))).await;
    let follower = world.client.stream(CHAT, &streamed(&chat("a"))).await;
    gate.open();
    // The leader does not read at all; the follower gets everything.
    let whole = follower.finish().await;
    assert_eq!(events(&whole.text()).last(), Some(&"[DONE]"));
    assert_eq!(leader.finish().await.body, whole.body);
}

#[tokio::test]
async fn no_cache_is_not_given_what_was_begun_before_it_asked() {
    let gate = Gate::heads();
    let world = gated(&gate, |builder| builder).await;
    let early = send(&world.client, CHAT, &[], &chat("a"));
    world.provider("the first", |counts| counts.in_flight == 1).await;
    let fresh = send(&world.client, CHAT, &[("cache-control", "no-cache")], &chat("a"));
    world.provider("one that was begun later", |counts| counts.in_flight == 2).await;
    let late = send(&world.client, CHAT, &[], &chat("a"));
    come_so_far(&world).await;
    gate.open();

    let (early, fresh, late) = (answered(early).await, answered(fresh).await, answered(late).await);
    assert_eq!((early.cache_status(), fresh.cache_status()), (MISS, MISS));
    assert_ne!(early.json()["id"], fresh.json()["id"]);
    assert_eq!((late.cache_status(), &late.body), (COLLAPSED, &fresh.body));
    assert_eq!(world.standin.counts().calls, 2);
}

#[tokio::test]
async fn what_was_said_to_the_leader_only_does_not_reach_its_followers() {
    let gate = Gate::heads_and_chunks();
    let world = gated(&gate, |builder| builder).await;
    gate.release(1);
    let leader = world.client.stream(CHAT, &chat("a")).await;
    let follower = world.client.stream(CHAT, &chat("a")).await;
    assert_eq!(follower.cache_status(), COLLAPSED);
    gate.open();
    let (leader, follower) = (leader.finish().await, follower.finish().await);
    assert_eq!(leader.body, follower.body);
    for name in ["set-cookie", "x-ratelimit-remaining-requests", "x-standin-call"] {
        assert_ne!(leader.header(name), "", "{name}");
        assert_eq!(follower.header(name), "", "{name}");
    }
    assert_ne!(leader.header("x-request-id"), follower.header("x-request-id"));
    assert_ne!(leader.header("tollgate-record"), follower.header("tollgate-record"));
    assert_eq!(leader.header("content-type"), follower.header("content-type"));
}

#[tokio::test]
async fn a_leader_who_hangs_up_in_the_middle_leaves_the_answer_to_the_others() {
    let gate = Gate::chunks();
    let world = gated(&gate, |builder| builder).await;
    let mut leader = world.client.stream(CHAT, &streamed(&chat("a"))).await;
    gate.release_chunks(2);
    leader.read_until("\n\n").await;
    let mut follower = world.client.stream(CHAT, &streamed(&chat("a"))).await;
    let seen = follower.read_until("\n\n").await;
    drop(leader);
    come_so_far(&world).await;
    gate.open();

    let whole = seen + &follower.finish().await.text();
    assert_eq!(events(&whole).last(), Some(&"[DONE]"));
    let counts = world.standin.counts();
    assert_eq!((counts.calls, counts.finished, counts.aborted), (1, 1, 0));
    assert!(is_cached(&world.client, CHAT, &streamed(&chat("a"))).await);

    let records = world.records_when(3).await;
    let leader = by_outcome(&records, CacheOutcome::Miss)[0];
    // What the provider bills was spent for this call, though its caller has gone.
    assert_eq!(leader.record.reason.name(), "downstream_gone");
    assert!(cost_pico(leader) > 0 && leader.record.quality == Quality::Reported, "{leader:#?}");
    let follower = by_outcome(&records, CacheOutcome::Collapsed)[0];
    assert_eq!((follower.record.reason.name(), follower.record.status), ("none", 200));
    assert_eq!(follower.record.saved_pico, cost_pico(leader));
}

#[tokio::test]
async fn a_leader_who_hangs_up_before_the_answer_leaves_it_to_the_others() {
    let gate = Gate::heads();
    let world = gated(&gate, |builder| builder).await;
    let leader = send(&world.client, CHAT, &[], &chat("a"));
    world.provider("the leader", |counts| counts.in_flight == 1).await;
    let follower = send(&world.client, CHAT, &[], &chat("a"));
    come_so_far(&world).await;
    leader.abort();
    leader.await.unwrap_err();
    come_so_far(&world).await;
    gate.open();

    let reply = answered(follower).await;
    assert_eq!((reply.status.as_u16(), reply.cache_status()), (200, COLLAPSED));
    assert_eq!((world.standin.counts().calls, world.standin.counts().aborted), (1, 0));
    let records = world.records_when(4).await;
    let leader = by_outcome(&records, CacheOutcome::Miss)[0];
    assert_eq!(leader.record.reason.name(), "downstream_gone");
    assert_eq!(leader.record.status, 499, "nothing was answered to it");
}

#[tokio::test]
async fn the_last_to_leave_takes_the_upstream_call_along_and_nothing_is_kept() {
    let gate = Gate::chunks();
    let world = gated(&gate, |builder| builder).await;
    let question = streamed(&chat("a"));
    let mut leader = world.client.stream(CHAT, &question).await;
    gate.release_chunks(2);
    leader.read_until("\n\n").await;
    let follower = world.client.stream(CHAT, &question).await;
    drop(follower);
    come_so_far(&world).await;
    assert_eq!(world.standin.counts().in_flight, 1);
    drop(leader);
    world.provider("the upstream call to be given up", |counts| counts.aborted == 1).await;

    let records = world.records_when(3).await;
    let leader = by_outcome(&records, CacheOutcome::Miss)[0];
    assert_eq!(leader.record.reason.name(), "downstream_gone");
    assert_eq!(leader.record.quality, Quality::Partial);
    assert!(leader.record.tokens.output > 0 && cost_pico(leader) > 0, "{leader:#?}");
    let follower = by_outcome(&records, CacheOutcome::Collapsed)[0];
    assert_eq!(follower.record.reason.name(), "downstream_gone");
    assert_eq!((follower.record.status, cost_pico(follower)), (200, 0));
    gate.open();
    assert!(!is_cached(&world.client, CHAT, &question).await);
    assert_miss(&world.client.post(CHAT, &question).await);
}

#[tokio::test]
async fn an_error_of_the_upstream_is_everybodys() {
    let gate = Gate::heads();
    let world = gated(&gate, |builder| builder).await;
    world.standin.fault_next(Fault::Fail(http::StatusCode::SERVICE_UNAVAILABLE), 1);
    let asked: Vec<Asked> = (0..5).map(|_| send(&world.client, CHAT, &[], &chat("a"))).collect();
    world.provider("the leader", |counts| counts.in_flight == 1).await;
    come_so_far(&world).await;
    gate.open();
    let mut bodies = Vec::new();
    for asked in asked {
        let reply = answered(asked).await;
        assert_eq!(reply.status, 503);
        bodies.push(reply.body);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    assert_eq!(world.standin.counts().calls, 1);
}

#[tokio::test]
async fn an_answer_that_is_cut_is_cut_for_everybody_and_not_kept() {
    let gate = Gate::chunks();
    let world = gated(&gate, |builder| builder).await;
    world.standin.fault_next(Fault::CutMidstream, 1);
    let question = streamed(&chat("a"));
    let leader = world.client.stream(CHAT, &question).await;
    let follower = world.client.stream(CHAT, &question).await;
    gate.open();
    let (leader, follower): (Reply, Reply) = (leader.finish().await, follower.finish().await);
    assert!(leader.cut && follower.cut);
    assert!(!is_cached(&world.client, CHAT, &question).await);
    let records = world.records_when(3).await;
    let cut: Vec<_> = records.iter().filter(|record| record.record.status == 200).collect();
    assert_eq!(cut.len(), 2, "{records:#?}");
    for record in cut {
        assert_eq!(record.record.reason.name(), "upstream_reset", "{record:#?}");
    }
}

#[tokio::test]
async fn a_bad_key_where_all_share_is_not_the_followers() {
    let gate = Gate::heads();
    let world = gated(&gate, |builder| {
        builder.config(|settings| {
            settings.set("routes.0.cache.scope", json!("shared"));
        })
    })
    .await;
    world.standin.fault_next(Fault::Fail(http::StatusCode::UNAUTHORIZED), 1);
    let leader = send(&world.client, CHAT, &[("authorization", "bad")], &chat("a"));
    world.provider("the leader", |counts| counts.in_flight == 1).await;
    let follower = send(&world.client, CHAT, &[("authorization", "good")], &chat("a"));
    come_so_far(&world).await;
    gate.open();
    assert_eq!(answered(leader).await.status, 401);
    let reply = answered(follower).await;
    assert_eq!((reply.status.as_u16(), reply.cache_status()), (200, MISS));
    assert_eq!(world.standin.counts().calls, 2);
}

/// One call at a time at the upstream, and one there that holds the only place.
async fn with_one_place(gate: &Gate) -> (World, Asked) {
    let world = gated(gate, |builder| {
        builder.config(|settings| {
            settings.set("upstreams.model.concurrency", json!({ "limit": 1 }));
            let map = json!({ "vip": "vip", "normal": "normal" });
            settings.set("routes.0.class", json!({ "header": "x-priority", "map": map }));
        })
    })
    .await;
    let occupant = send(&world.client, CHAT, &[], &chat("the one before"));
    world.provider("the one before", |counts| counts.in_flight == 1).await;
    (world, occupant)
}

#[tokio::test]
async fn when_the_leaders_time_is_up_a_follower_leads() {
    let gate = Gate::heads();
    let (world, occupant) = with_one_place(&gate).await;
    let leader = send(&world.client, CHAT, &[("tollgate-timeout", "300ms")], &chat("a"));
    world.metric_when("tollgate_queue_length{class=\"normal\"}", 1.0).await;
    let follower = send(&world.client, CHAT, &[], &chat("a"));
    come_so_far(&world).await;
    assert_eq!(world.metric("tollgate_queue_length{class=\"normal\"}"), Some(1.0), "it joined");

    let refused = answered(leader).await;
    assert_eq!(refused.refusal(), (504, "deadline_unmeetable"), "{refused:?}");
    gate.open();
    let reply = answered(follower).await;
    assert_eq!((reply.status.as_u16(), reply.cache_status()), (200, MISS));
    assert_eq!(answered(occupant).await.status, 200);
    assert_eq!(world.standin.counts().calls, 2);
}

#[tokio::test]
async fn a_leader_who_leaves_the_queue_loses_its_followers_nothing() {
    let gate = Gate::heads();
    let (world, occupant) = with_one_place(&gate).await;
    let leader = send(&world.client, CHAT, &[], &chat("a"));
    world.metric_when("tollgate_queue_length{class=\"normal\"}", 1.0).await;
    let follower = send(&world.client, CHAT, &[], &chat("a"));
    come_so_far(&world).await;
    leader.abort();
    leader.await.unwrap_err();
    come_so_far(&world).await;
    assert_eq!(world.metric("tollgate_queue_length{class=\"normal\"}"), Some(1.0));
    gate.open();
    assert_eq!(answered(follower).await.status, 200);
    assert_eq!(answered(occupant).await.status, 200);
    assert_eq!(world.standin.counts().calls, 2);
}

#[tokio::test]
async fn a_more_important_caller_lifts_a_queued_leader_and_follows_it() {
    let gate = Gate::heads();
    let (world, occupant) = with_one_place(&gate).await;
    let normal = send(&world.client, CHAT, &[("x-priority", "normal")], &chat("a"));
    world.metric_when("tollgate_queue_length{class=\"normal\"}", 1.0).await;
    // Of the same class: behind the leader, not beside it.
    let equal = send(&world.client, CHAT, &[("x-priority", "normal")], &chat("a"));
    come_so_far(&world).await;
    assert_eq!(world.metric("tollgate_queue_length{class=\"normal\"}"), Some(1.0));
    let vip = send(&world.client, CHAT, &[("x-priority", "vip")], &chat("a"));
    world.metric_when("tollgate_queue_length{class=\"vip\"}", 1.0).await;
    assert_eq!(world.metric("tollgate_queue_length{class=\"normal\"}"), Some(0.0));
    assert_eq!(world.metric("tollgate_queue_lifted_total"), Some(1.0));
    gate.open();
    let vip = answered(vip).await;
    assert_eq!((vip.status.as_u16(), vip.cache_status()), (200, COLLAPSED));
    for asked in [occupant, normal, equal] {
        assert_eq!(answered(asked).await.status, 200);
    }
    assert_eq!(world.standin.counts().calls, 2, "one call for the three of them");
}

#[tokio::test]
async fn a_more_important_caller_joins_a_leader_whose_turn_has_come() {
    let gate = Gate::chunks();
    let (world, occupant) = with_one_place(&Gate::heads()).await;
    world.standin.set_gate(Some(gate.clone()));
    occupant.abort();
    let normal: Live =
        world.client.stream_with(CHAT, &[("x-priority", "normal")], &streamed(&chat("a"))).await;
    let vip = world.client.stream_with(CHAT, &[("x-priority", "vip")], &streamed(&chat("a"))).await;
    assert_eq!(vip.cache_status(), COLLAPSED);
    gate.open();
    assert_eq!(vip.finish().await.body, normal.finish().await.body);
}

#[tokio::test]
async fn no_store_neither_leads_nor_follows() {
    let gate = Gate::heads_and_chunks();
    let world = gated(&gate, |builder| builder).await;
    let no_store = [("cache-control", "no-store")];
    gate.release(3);
    let alone = world.client.stream_with(CHAT, &no_store, &chat("a")).await;
    let leader = world.client.stream(CHAT, &chat("a")).await;
    let alone_too = world.client.stream_with(CHAT, &no_store, &chat("a")).await;
    assert_eq!(leader.cache_status(), MISS);
    assert_eq!(world.standin.counts().calls, 3);
    gate.open();
    for alone in [alone, alone_too] {
        assert_bypass(&alone.finish().await, "no-store");
    }
    leader.finish().await;
    assert_hit(&world.client.post(CHAT, &chat("a")).await);
}

#[tokio::test]
async fn callers_who_may_not_share_an_entry_do_not_share_a_flight() {
    let gate = Gate::heads_and_chunks();
    let world = gated(&gate, |builder| builder).await;
    gate.release(2);
    let one = world.client.stream_with(CHAT, &[("authorization", "one")], &chat("a")).await;
    let two = world.client.stream_with(CHAT, &[("authorization", "two")], &chat("a")).await;
    assert_eq!((one.cache_status(), two.cache_status()), (MISS, MISS));
    assert_eq!(world.standin.counts().calls, 2);
    gate.open();
    let (one, two) = (one.finish().await, two.finish().await);
    assert_ne!(one.json()["id"], two.json()["id"]);
}
