//! Equal calls at one time on several instances: one upstream call for the fleet, and nobody who
//! waits for another is worse off than alone for long.
//!
//! A gate at the provider holds the heads of answers. That somebody waits for another instance
//! stands in the lease itself, in Redis.

use crate::{
    cache_entries::{put, said},
    cache_redis::{Line, Server, member_with},
    cache_stage::{
        Asked, CHAT, Told as _, answered, assert_hit, cached_is, chat, content, is_cached, send,
    },
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tollgate_tests::{
    Client, Process, Settings, World,
    standin::{Fault, Gate, Options, StandIn},
    until,
};

const UP: &str = "tollgate_store_up{store=\"redis\"}";

/// A Redis, and a provider that holds heads until its gate lets them go.
pub(crate) struct Fleet {
    server: Server,
    line: Line,
    pub(crate) provider: StandIn,
    pub(crate) gate: Gate,
}

impl Fleet {
    pub(crate) async fn new() -> Self {
        let server = Server::start().await;
        let line = Line::to(&server).await;
        let gate = Gate::heads();
        let options = Options { gate: Some(gate.clone()), ..Options::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stop = CancellationToken::new();
        let provider = StandIn::start(options, listener, &TaskTracker::new(), stop);
        Self { server, line, provider, gate }
    }

    async fn member(&self) -> World {
        self.member_of(json!({ "ttl": "5s", "wait": "10s" }), json!(["memory", "redis"])).await
    }

    async fn member_of(&self, lease: Value, tiers: Value) -> World {
        self.member_with(lease, json!({ "tiers": tiers })).await
    }

    pub(crate) async fn member_by(&self, policy: Value) -> World {
        self.member_with(json!({ "ttl": "5s", "wait": "10s" }), policy).await
    }

    async fn member_with(&self, lease: Value, policy: Value) -> World {
        let builder = content(policy).set("cache.redis", json!({ "lease": lease }));
        let world = member_with(builder, &self.line, &self.provider.url(), "2s").await;
        world.metric_when(UP, 1.0).await;
        world
    }

    /// Waits until so many calls are held at the provider.
    pub(crate) async fn in_flight(&self, n: u64) {
        self.provider.wait_for_in_flight(n).await;
    }

    /// Waits until somebody waits for another instance's lease.
    pub(crate) async fn somebody_waits(&self) {
        until("somebody who waits", || self.has_waiter(), |waits| *waits).await;
    }

    /// Whether somebody waits for another instance's lease.
    pub(crate) async fn has_waiter(&self) -> bool {
        let all = self.server.all_there_is().await;
        all.lines().any(|line| line.starts_with("tollgate:l{") && line.ends_with('w'))
    }
}

fn waits(world: &World, outcome: &str) -> f64 {
    let series = format!("tollgate_cache_lease_waits_total{{outcome=\"{outcome}\"}}");
    world.metric(&series).unwrap_or_default()
}

fn leases(world: &World, outcome: &str) -> f64 {
    let series = format!("tollgate_cache_leases_total{{outcome=\"{outcome}\"}}");
    world.metric(&series).unwrap_or_default()
}

fn is(value: f64, wanted: f64) -> bool {
    value.total_cmp(&wanted).is_eq()
}

/// A hundred callers on two instances, of a question that nobody has asked before.
async fn a_hundred_on(fleet: &Fleet, [a, b]: [&World; 2]) {
    let mut asked: Vec<Asked> = (0..50).map(|_| send(&a.client, CHAT, &[], &chat("a"))).collect();
    fleet.in_flight(1).await;
    asked.extend((0..50).map(|_| send(&b.client, CHAT, &[], &chat("a"))));
    fleet.somebody_waits().await;
    assert_eq!(fleet.provider.counts().in_flight, 1);
    fleet.gate.open();

    let mut bodies = Vec::new();
    for asked in asked {
        let reply = answered(asked).await;
        assert!(reply.status == 200 && !reply.cut, "{reply:?}");
        bodies.push(reply.body);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    assert_eq!(fleet.provider.counts().calls, 1);
    assert!(is(waits(b, "found"), 1.0), "{}", b.app.metrics_text());
    assert!(is(leases(a, "taken"), 1.0) && is(leases(a, "lost"), 0.0));
}

#[tokio::test]
async fn a_hundred_callers_of_two_instances_are_one_upstream_call() {
    let fleet = Fleet::new().await;
    let (a, b) = (fleet.member().await, fleet.member().await);
    a_hundred_on(&fleet, [&a, &b]).await;
    // Nothing is left behind, and nobody waits for what is there.
    assert!(!fleet.server.all_there_is().await.contains("tollgate:l{"));
    assert_hit(&b.client.post(CHAT, &chat("a")).await);
}

#[tokio::test]
async fn who_keeps_nothing_in_memory_makes_one_call_too() {
    let fleet = Fleet::new().await;
    let lease = json!({ "ttl": "5s", "wait": "10s" });
    let (a, b) = (
        fleet.member_of(lease.clone(), json!(["redis"])).await,
        fleet.member_of(lease, json!(["redis"])).await,
    );
    a_hundred_on(&fleet, [&a, &b]).await;
}

#[tokio::test]
async fn a_stream_is_waited_for_to_its_end_and_given_in_the_form_that_was_asked_for() {
    let fleet = Fleet::new().await;
    let (a, b) = (fleet.member().await, fleet.member().await);
    let streamed = crate::cache_stage::streamed(&chat("a"));
    let leader = send(&a.client, CHAT, &[], &streamed);
    fleet.in_flight(1).await;
    let waiter = send(&b.client, CHAT, &[], &chat("a"));
    fleet.somebody_waits().await;
    fleet.gate.open();
    let (stream, whole) = (answered(leader).await, answered(waiter).await);
    assert!(whole.cache_status().ends_with("detail=redis"), "{whole:?}");
    let told = crate::cache_stage::told_text(&stream.text());
    assert_eq!(whole.json()["choices"][0]["message"]["content"], told);
    assert_eq!(fleet.provider.counts().calls, 1);
}

#[tokio::test]
async fn a_leader_that_is_killed_is_missed_when_its_lease_ends() {
    let fleet = Fleet::new().await;
    let dir = TempDir::new().unwrap();
    let mut settings = Settings::new(&fleet.provider.url(), &dir.path().join("data"));
    settings
        .set("upstreams.model.host", json!("upstream"))
        .set("stores.redis", json!({ "urls": [fleet.line.url()], "timeout": "2s" }))
        .set("routes.0.cache", json!({ "mode": "content", "tiers": ["memory", "redis"] }))
        .set("cache", json!({ "namespace": "fleet", "redis": { "lease": { "ttl": "1s" } } }));
    let mut process = Process::start(dir.path(), &settings).await;
    let b = fleet.member_of(json!({ "ttl": "1s" }), json!(["memory", "redis"])).await;
    let leader = send(&Client::new(process.addr), CHAT, &[], &chat("a"));
    fleet.in_flight(1).await;
    // It has found Redis, and has the lease.
    let look = || fleet.server.all_there_is();
    until("a lease", look, |all| all.contains("tollgate:l{")).await;
    let waiter = send(&b.client, CHAT, &[], &chat("a"));
    fleet.somebody_waits().await;

    process.signal(Signal::KILL);
    process.gone().await;
    leader.abort();
    fleet.provider.wait_for_calls(2).await;
    fleet.gate.open();
    assert_eq!(answered(waiter).await.status, 200);
    assert!(is(waits(&b, "led"), 1.0), "{}", b.app.metrics_text());
}

#[tokio::test]
async fn a_leader_whose_callers_all_hang_up_hands_over_at_once() {
    let fleet = Fleet::new().await;
    let long = json!({ "ttl": "5m", "wait": "5m" });
    let tiers = json!(["memory", "redis"]);
    let (a, b) =
        (fleet.member_of(long.clone(), tiers.clone()).await, fleet.member_of(long, tiers).await);
    let leader = send(&a.client, CHAT, &[], &chat("a"));
    fleet.in_flight(1).await;
    let waiter = send(&b.client, CHAT, &[], &chat("a"));
    fleet.somebody_waits().await;

    leader.abort();
    fleet.provider.wait_for_calls(2).await;
    fleet.gate.open();
    assert_eq!(answered(waiter).await.status, 200);
    assert!(is(waits(&b, "led"), 1.0), "{}", b.app.metrics_text());
    cached_is(&a.client, &chat("a"), true).await;
    assert_eq!(fleet.provider.counts().calls, 2);
}

#[tokio::test]
async fn who_waits_when_redis_stops_asks_for_itself() {
    let fleet = Fleet::new().await;
    let (a, b) = (fleet.member().await, fleet.member().await);
    let leader = send(&a.client, CHAT, &[], &chat("a"));
    fleet.in_flight(1).await;
    let waiter = send(&b.client, CHAT, &[], &chat("a"));
    fleet.somebody_waits().await;

    fleet.server.signal(Signal::STOP);
    fleet.in_flight(2).await;
    fleet.gate.open();
    for asked in [leader, waiter] {
        assert_eq!(answered(asked).await.status, 200);
    }
    assert!(is(waits(&b, "away"), 1.0), "{}", b.app.metrics_text());
    fleet.server.signal(Signal::CONT);
    b.metric_when(UP, 1.0).await;
    let next = send(&b.client, CHAT, &[], &chat("b"));
    assert_eq!(answered(next).await.status, 200);
}

#[tokio::test]
async fn nobody_waits_for_longer_than_the_wait() {
    let fleet = Fleet::new().await;
    let short = json!({ "ttl": "1s", "wait": "1s" });
    let (a, b) = (fleet.member().await, fleet.member_of(short, json!(["memory", "redis"])).await);
    let leader = send(&a.client, CHAT, &[], &chat("a"));
    fleet.in_flight(1).await;
    let waiter = send(&b.client, CHAT, &[], &chat("a"));
    fleet.in_flight(2).await;
    assert!(is(waits(&b, "timeout"), 1.0), "{}", b.app.metrics_text());
    fleet.gate.open();
    for asked in [leader, waiter] {
        assert_eq!(answered(asked).await.status, 200);
    }
}

#[tokio::test]
async fn who_asks_after_a_wait_in_vain_does_not_wait_again() {
    let fleet = Fleet::new().await;
    let short = json!({ "ttl": "3s", "wait": "3s" });
    let (a, b) = (fleet.member().await, fleet.member_of(short, json!(["memory", "redis"])).await);
    let leader = send(&a.client, CHAT, &[], &chat("a"));
    fleet.in_flight(1).await;
    let waiter = send(&b.client, CHAT, &[], &chat("a"));
    fleet.in_flight(2).await;
    assert!(is(waits(&b, "timeout"), 1.0), "{}", b.app.metrics_text());
    waiter.abort();
    fleet.provider.wait_for_aborted(1).await;
    let next = send(&b.client, CHAT, &[], &chat("a"));
    fleet.in_flight(2).await;
    fleet.gate.open();
    for asked in [leader, next] {
        assert_eq!(answered(asked).await.status, 200);
    }
    assert!(is(waits(&b, "timeout"), 1.0), "{}", b.app.metrics_text());
}

/// Goal: what one is refused, or given alone, the others do not queue for one by one.
#[tokio::test]
async fn an_answer_that_is_not_to_be_shared_lets_everybody_go_at_once() {
    let fleet = Fleet::new().await;
    let (a, b, c) = (fleet.member().await, fleet.member().await, fleet.member().await);
    fleet.provider.fault_next(Fault::Fail(http::StatusCode::INTERNAL_SERVER_ERROR), 1);
    let leader = send(&a.client, CHAT, &[], &chat("a"));
    fleet.in_flight(1).await;
    let waiters = [send(&b.client, CHAT, &[], &chat("a")), send(&c.client, CHAT, &[], &chat("a"))];
    fleet.somebody_waits().await;
    fleet.gate.release(1);
    assert_eq!(answered(leader).await.status, 500);
    fleet.in_flight(2).await;
    // Nor does who comes meanwhile.
    let late = send(&a.client, CHAT, &[], &chat("a"));
    fleet.in_flight(3).await;
    fleet.gate.open();
    for asked in waiters.into_iter().chain([late]) {
        assert_eq!(answered(asked).await.status, 200);
    }
    assert_eq!(fleet.provider.counts().calls, 4);
}

/// Goal: who wants no stored answer asks, and nobody else asks because of that.
#[tokio::test]
async fn who_wants_no_cache_waits_for_nobody_and_others_are_given_its_answer() {
    let fleet = Fleet::new().await;
    let (a, b) = (fleet.member().await, fleet.member().await);
    let anew = [("cache-control", "no-cache")];
    let first = send(&a.client, CHAT, &anew, &chat("a"));
    fleet.in_flight(1).await;
    let waits = send(&b.client, CHAT, &[], &chat("a"));
    fleet.somebody_waits().await;
    // Each of them was begun later than what there is.
    let others = [
        send(&a.client, CHAT, &[("cache-control", "no-store")], &chat("a")),
        send(&b.client, CHAT, &anew, &chat("a")),
    ];
    fleet.in_flight(3).await;
    fleet.gate.release(1);
    let first = answered(first).await;
    assert_eq!(answered(waits).await.body, first.body);
    fleet.gate.open();
    for asked in others {
        assert_ne!(answered(asked).await.body, first.body);
    }
    assert_eq!(fleet.provider.counts().calls, 3);
    assert!(is(leases(&a, "taken"), 1.0) && is(leases(&b, "taken"), 0.0));
}

/// Goal: the call that was under way when another wanted no stored answer still answers the fleet.
#[tokio::test]
async fn a_call_that_wants_no_cache_beside_equal_calls_makes_one_more_and_not_two() {
    let fleet = Fleet::new().await;
    let (a, b) = (fleet.member().await, fleet.member().await);
    let leads = send(&a.client, CHAT, &[], &chat("a"));
    fleet.in_flight(1).await;
    let waits = send(&b.client, CHAT, &[], &chat("a"));
    fleet.somebody_waits().await;
    let anew = send(&a.client, CHAT, &[("cache-control", "no-cache")], &chat("a"));
    fleet.in_flight(2).await;
    fleet.gate.release(1);
    let led = answered(leads).await;
    assert_eq!(answered(waits).await.body, led.body);
    fleet.gate.open();
    assert_ne!(answered(anew).await.body, led.body);
    assert_eq!(fleet.provider.counts().calls, 2);
}

/// Goal: of two answers the one that was begun later stays, whichever instance it came to.
#[tokio::test]
async fn an_older_answer_is_not_stored_over_what_another_instance_asked_for_anew() {
    let fleet = Fleet::new().await;
    let (a, b, c) = (fleet.member().await, fleet.member().await, fleet.member().await);
    // So that all have the same key for it.
    fleet.gate.release(1);
    a.client.post(CHAT, &chat("before")).await;
    for world in [&b, &c] {
        cached_is(&world.client, &chat("before"), true).await;
    }
    let older = send(&a.client, CHAT, &[], &chat("a"));
    fleet.in_flight(1).await;
    let waits = send(&c.client, CHAT, &[], &chat("a"));
    fleet.somebody_waits().await;
    let other = Gate::heads();
    fleet.provider.set_gate(Some(other.clone()));
    let newer = send(&b.client, CHAT, &[("cache-control", "no-cache")], &chat("a"));
    fleet.in_flight(2).await;
    other.open();
    let newer = answered(newer).await;
    assert_eq!(answered(waits).await.body, newer.body, "nobody waits for the older one any more");
    fleet.gate.open();
    assert_ne!(answered(older).await.body, newer.body);
    let fenced = || async { leases(&a, "fenced") };
    until("the older one's refusal", fenced, |fenced| is(*fenced, 1.0)).await;
    let fresh = fleet.member().await;
    cached_is(&fresh.client, &chat("before"), true).await;
    cached_is(&fresh.client, &chat("a"), true).await;
    assert_eq!(fresh.client.post(CHAT, &chat("a")).await.body, newer.body);
    assert_eq!(fleet.provider.counts().calls, 3);
}

/// Goal: who comes late, with a lease that another has had since, writes over nothing.
#[tokio::test]
async fn an_answer_whose_lease_has_ended_is_not_stored_over_a_newer_one() {
    let fleet = Fleet::new().await;
    let (a, b, c) = (fleet.member().await, fleet.member().await, fleet.member().await);
    // So that all have the same key for it.
    fleet.gate.release(1);
    a.client.post(CHAT, &chat("before")).await;
    for world in [&b, &c] {
        cached_is(&world.client, &chat("before"), true).await;
    }
    let first = send(&a.client, CHAT, &[], &chat("a"));
    fleet.in_flight(1).await;
    let all = fleet.server.all_there_is().await;
    let lease = all
        .lines()
        .find_map(|line| line.split_once(' ').filter(|(key, _)| key.starts_with("tollgate:l{")));
    fleet.server.cli(&["DEL", lease.unwrap().0]).await;
    let second = send(&b.client, CHAT, &[], &chat("a"));
    fleet.in_flight(2).await;
    fleet.gate.open();
    let (first, second) = (answered(first).await, answered(second).await);
    assert_ne!(first.body, second.body);
    let fenced = || async { leases(&a, "fenced") };
    until("the late one's refusal", fenced, |fenced| is(*fenced, 1.0)).await;
    cached_is(&c.client, &chat("a"), true).await;
    assert_eq!(c.client.post(CHAT, &chat("a")).await.body, second.body);
}

/// Goal: what an administrator puts is the fleet's, also where somebody asks for it at that moment.
#[tokio::test]
async fn who_waits_for_another_instance_is_given_what_is_put_meanwhile_and_that_stays() {
    let fleet = Fleet::new().await;
    let (a, b, c) = (fleet.member().await, fleet.member().await, fleet.member().await);
    // So that all have the same key for it.
    fleet.gate.release(1);
    a.client.post(CHAT, &chat("before")).await;
    for world in [&b, &c] {
        cached_is(&world.client, &chat("before"), true).await;
    }
    let asks = send(&b.client, CHAT, &[], &chat("a"));
    fleet.in_flight(1).await;
    let waits = send(&c.client, CHAT, &[], &chat("a"));
    fleet.somebody_waits().await;
    let order = json!({
        "request": { "path": CHAT, "body": chat("a") }, "answer": { "body": said("put") },
    });
    assert_eq!(put(&a, &order).await.status, 200);
    let given = answered(waits).await;
    assert_eq!(given.json()["choices"][0]["message"]["content"], "put");
    fleet.gate.open();
    assert_ne!(answered(asks).await.body, given.body);
    for world in [&a, &b, &c] {
        cached_is(&world.client, &chat("a"), true).await;
        assert_eq!(world.client.post(CHAT, &chat("a")).await.body, given.body);
    }
    // What is put where nobody asks has a lease of its own, which ends with it.
    let order = json!({
        "request": { "path": CHAT, "body": chat("b") }, "answer": { "body": said("put") },
    });
    let taken = leases(&a, "taken");
    assert_eq!(put(&a, &order).await.status, 200);
    assert!(is(leases(&a, "taken"), taken + 1.0));
    assert!(!fleet.server.all_there_is().await.contains("tollgate:l{"));
    assert_eq!(fleet.provider.counts().calls, 2);
}

#[tokio::test]
async fn who_waits_for_another_instance_holds_no_place_at_the_upstream() {
    let fleet = Fleet::new().await;
    let a = fleet.member().await;
    let builder = content(json!({ "tiers": ["memory", "redis"] }))
        .set("upstreams.model.concurrency", json!({ "limit": 1 }));
    let b = member_with(builder, &fleet.line, &fleet.provider.url(), "2s").await;
    b.metric_when(UP, 1.0).await;
    let leader = send(&a.client, CHAT, &[], &chat("a"));
    fleet.in_flight(1).await;
    let waiter = send(&b.client, CHAT, &[], &chat("a"));
    fleet.somebody_waits().await;
    let other = send(&b.client, CHAT, &[], &chat("b"));
    fleet.in_flight(2).await;
    fleet.gate.open();
    for asked in [leader, waiter, other] {
        assert_eq!(answered(asked).await.status, 200);
    }
    assert_eq!(fleet.provider.counts().calls, 2);
}

#[tokio::test]
async fn instances_that_are_told_not_to_wait_do_not() {
    let fleet = Fleet::new().await;
    let tiers = json!(["memory", "redis"]);
    let (a, b) = (
        fleet.member_of(json!(false), tiers.clone()).await,
        fleet.member_of(json!("off"), tiers).await,
    );
    let asked = [send(&a.client, CHAT, &[], &chat("a")), send(&b.client, CHAT, &[], &chat("a"))];
    fleet.in_flight(2).await;
    fleet.gate.open();
    for asked in asked {
        assert_eq!(answered(asked).await.status, 200);
    }
    assert!(is(leases(&a, "taken"), 0.0));
    assert!(is_cached(&a.client, CHAT, &chat("a")).await);
}
