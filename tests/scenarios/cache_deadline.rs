//! Callers of one answer who have different amounts of time for it.

use crate::cache_stage::{
    Asked, CHAT, MISS, Told as _, answered, assert_hit, chat, come_so_far, content, marker_route,
    record_of, send,
};
use serde_json::json;
use tollgate_ledger::{CacheOutcome, Reason};
use tollgate_tests::{
    World,
    standin::{Gate, Options, StandIn},
};

/// A caller whose question is at the provider, which holds it until the gate opens.
async fn leading(gate: &Gate, headers: &[(&'static str, &'static str)]) -> (World, Asked) {
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tasks = tokio_util::task::TaskTracker::new();
    let url = StandIn::start(Options::default(), free, &tasks, Default::default()).url();
    let world = content(json!({}))
        .standin(options)
        .config(move |settings| marker_route(settings, &url))
        .start()
        .await;
    let leader = send(&world.client, CHAT, headers, &chat("a"));
    world.provider("the leader", |counts| counts.in_flight == 1).await;
    (world, leader)
}

#[tokio::test]
async fn a_follower_whose_time_is_up_goes_and_the_leader_hears_nothing_of_it() {
    let gate = Gate::heads();
    let (world, leader) = leading(&gate, &[]).await;

    let follower = send(&world.client, CHAT, &[("tollgate-timeout", "30ms")], &chat("a"));
    let late = answered(follower).await;
    assert_eq!(late.refusal(), (504, "upstream_timeout"), "{late:?}");
    assert_eq!(world.standin.counts().aborted, 0);
    assert_eq!(world.metric("request_inflight"), Some(1.0));
    gate.open();
    let whole = answered(leader).await;

    assert_eq!((whole.status.as_u16(), whole.cache_status()), (200, MISS));
    assert_hit(&world.client.post(CHAT, &chat("a")).await);
    assert_eq!(world.standin.counts().calls, 1);
    let record = record_of(&world, &late).await.record;
    assert_eq!((record.status, record.reason), (504, Reason::UpstreamTimeout));
    assert_eq!((record.cost.total(), record.saved_pico), (0, 0), "it had nothing");
    assert!(record.times.total_us >= 30_000, "{record:?}");
    let record = record_of(&world, &whole).await.record;
    assert_eq!((record.status, record.reason), (200, Reason::None));
    assert!(record.cost.total() > 0);
    assert_eq!(world.metric("tollgate_permits_leaked_total"), Some(0.0));
}

/// The provider is asked again: whose time was up took its own call along.
#[tokio::test]
async fn a_leader_whose_time_is_up_at_the_provider_leaves_its_followers_theirs() {
    let gate = Gate::heads();
    let (world, leader) = leading(&gate, &[("tollgate-timeout", "300ms")]).await;
    let follower = send(&world.client, CHAT, &[], &chat("a"));
    come_so_far(&world).await;
    assert_eq!(world.standin.counts().calls, 1, "it follows");

    let late = answered(leader).await;
    assert_eq!(late.refusal(), (504, "upstream_timeout"), "{late:?}");
    world.provider("the follower's own call", |counts| counts.calls == 2).await;
    gate.open();
    let whole = answered(follower).await;

    assert_eq!((whole.status.as_u16(), whole.cache_status()), (200, MISS));
    let record = record_of(&world, &whole).await.record;
    assert_eq!((record.outcome, record.reason), (CacheOutcome::Miss, Reason::None));
    let record = record_of(&world, &late).await.record;
    assert_eq!((record.status, record.reason), (504, Reason::UpstreamTimeout));
    assert_eq!(world.metric("request_inflight"), Some(0.0));
    assert_eq!(world.metric("tollgate_permits_leaked_total"), Some(0.0));
}
