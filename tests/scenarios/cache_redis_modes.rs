//! Answers shared through a cluster, and through a server that sentinels watch: masters are killed,
//! stopped and emptied under load. No call may fail, no answer may be another's, and the tier is
//! used again without anybody's help.

use crate::{
    cache_stage::{CHAT, Told as _, assert_hit, cached_is, chat, content, is_cached, purge},
    redis_sets::{Cluster, Kind, Watched, own_ip},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinSet, time};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tollgate_tests::{
    Authority, Client, Reply, World,
    standin::{Options, StandIn},
    until,
};

const UP: &str = "tollgate_store_up{store=\"redis\"}";
const NAMESPACE: &str = "fleet";

pub(crate) async fn provider() -> StandIn {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    StandIn::start(Options::default(), listener, &TaskTracker::new(), CancellationToken::new())
}

/// A proxy of the fleet, once it has found Redis.
pub(crate) async fn member(redis: Value, provider: &StandIn) -> World {
    member_with(redis, json!({}), provider).await
}

pub(crate) async fn member_with(redis: Value, entries: Value, provider: &StandIn) -> World {
    // So short in memory that Redis is asked all the time.
    let tiers = json!([{ "name": "memory", "ttl": "100ms" }, "redis"]);
    let world = content(json!({ "tiers": tiers, "tags": ["kb:{header.x-kb}"] }))
        .upstream(provider.url())
        .config(move |settings| {
            settings
                .set("stores.redis", redis)
                .set("cache.redis", entries)
                .set("cache.namespace", json!(NAMESPACE));
        })
        .start()
        .await;
    world.metric_when(UP, 1.0).await;
    world
}

fn look_ups(world: &World, wanted: &str) -> f64 {
    let series = format!("tollgate_cache_lookups_total{{tier=\"redis\",outcome=\"{wanted}\"}}");
    world.metric(&series).unwrap_or_default()
}

/// Waits until what one was answered the other finds in Redis.
pub(crate) async fn share(a: &World, b: &World, question: &Value) {
    a.client.post(CHAT, question).await;
    cached_is(&b.client, question, true).await;
}

/// Waits until every one of many answers is shared: all nodes of a cluster are in use.
async fn share_everywhere(a: &World, b: &World, name: &str) {
    for n in 0..24 {
        let question = chat(&format!("{name} {n}"));
        // What was asked while its node was away is only in the asker's memory.
        let look = || async {
            a.client.post_with(CHAT, &[("cache-control", "no-cache")], &question).await;
            is_cached(&b.client, CHAT, &question).await
        };
        until("an answer that is shared", look, |shared| *shared).await;
    }
}

/// Callers of all proxies who never stop asking the same forty questions.
struct Load {
    callers: JoinSet<()>,
    asked: Arc<AtomicUsize>,
}

impl Load {
    fn on(worlds: &[&World]) -> Self {
        let (mut callers, asked) = (JoinSet::new(), Arc::<AtomicUsize>::default());
        let answers = Arc::<Mutex<HashMap<usize, String>>>::default();
        for (at, world) in worlds.iter().enumerate() {
            let addr = world.app.addresses().listeners[0];
            for caller in 0..3 {
                let (asked, answers) = (asked.clone(), answers.clone());
                callers.spawn(async move {
                    let client = Client::new(addr);
                    let mut ticks = time::interval(Duration::from_millis(4));
                    for n in (at + caller * 7).. {
                        ticks.tick().await;
                        let n = n % 40;
                        let reply = client.post(CHAT, &chat(&format!("load {n}"))).await;
                        assert_eq!(reply.status, 200, "{reply:?}");
                        let content = reply.json()["choices"][0]["message"]["content"].to_string();
                        let mut answers = answers.lock().unwrap();
                        let first = answers.entry(n).or_insert_with(|| content.clone());
                        assert_eq!(*first, content, "another's answer: {reply:?}");
                        asked.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        }
        Self { callers, asked }
    }

    /// That every caller was answered every time, and goes on being answered.
    async fn is_fine(&mut self) {
        let before = self.asked.load(Ordering::SeqCst);
        let look = || async { self.asked.load(Ordering::SeqCst) };
        until("more answers", look, |asked| *asked > before + 20).await;
        assert!(self.callers.try_join_next().is_none(), "a caller was not answered");
    }
}

#[tokio::test]
async fn a_killed_master_that_sentinels_watch_is_replaced_without_a_call_that_fails() {
    let mut redis = Watched::start().await;
    let provider = provider().await;
    let (a, b) =
        (member(redis.settings(), &provider).await, member(redis.settings(), &provider).await);
    let mut load = Load::on(&[&a, &b]);
    share(&a, &b, &chat("before")).await;
    purge(&a, json!({ "tag": "kb:7" })).await;

    redis.servers[0].kill().await;
    for world in [&a, &b] {
        world.metric_when(UP, 0.0).await;
    }
    load.is_fine().await;
    redis.has_another_master().await;
    for world in [&a, &b] {
        world.metric_when(UP, 1.0).await;
    }
    share(&a, &b, &chat("after")).await;
    let said = purge(&b, json!({ "model": "gpt-4o-mini" })).await;
    assert_eq!(said["reach"], "fleet");
    cached_is(&a.client, &chat("after"), false).await;

    // The old one comes back, empty, and thinks at first that it is still who it was.
    redis.servers[0].start_again().await;
    share(&a, &b, &chat("with the old one back")).await;
    load.is_fine().await;
}

#[tokio::test]
async fn a_master_that_stood_still_is_not_written_to_when_it_goes_on() {
    let redis = Watched::start().await;
    let provider = provider().await;
    let (a, b) =
        (member(redis.settings(), &provider).await, member(redis.settings(), &provider).await);
    let mut load = Load::on(&[&a, &b]);
    share(&a, &b, &chat("before")).await;

    redis.servers[0].signal(Signal::STOP);
    for world in [&a, &b] {
        world.metric_when(UP, 0.0).await;
    }
    load.is_fine().await;
    redis.has_another_master().await;
    for world in [&a, &b] {
        world.metric_when(UP, 1.0).await;
    }
    redis.servers[0].signal(Signal::CONT);
    redis.servers[0].says(&["INFO", "replication"], "role:master").await;
    assert_eq!(purge(&a, json!({ "model": "gpt-4o-mini" })).await["reach"], "fleet");
    cached_is(&b.client, &chat("before"), false).await;
    load.callers.shutdown().await;
    // Nothing of what comes now goes where it would be lost, though that thinks it is the master.
    redis.servers[0].ok(&["FLUSHALL"]).await;
    share(&a, &b, &chat("after")).await;
    assert_eq!(redis.servers[0].cli(&["--scan", "--pattern", "tollgate:*"]).await, "");
    assert!(redis.servers[1].cli(&["--scan"]).await.contains("tollgate:fleet:e:"));
}

/// Goal: a purge that only the dead master had is still in force everywhere.
/// Method: the replica is locked out before the purge, and takes over without having heard of it.
#[tokio::test]
async fn a_purge_that_was_lost_in_a_failover_begins_a_new_epoch() {
    let mut redis = Watched::start().await;
    let provider = provider().await;
    let (a, b) =
        (member(redis.settings(), &provider).await, member(redis.settings(), &provider).await);
    let headers = [("x-kb", "7")];
    a.client.post_with(CHAT, &headers, &chat("a")).await;
    cached_is(&b.client, &chat("a"), true).await;
    // The replica has it too.
    redis.servers[1].says(&["--scan"], "tollgate:fleet:e:").await;

    // Who is in stays in; the replica must not come back.
    redis.servers[0].ok(&["CONFIG", "SET", "requirepass", "new"]).await;
    redis.servers[0].cli(&["-a", "new", "CLIENT", "KILL", "TYPE", "replica"]).await;
    redis.servers[1].says(&["INFO", "replication"], "master_link_status:down").await;
    assert_eq!(purge(&a, json!({ "tag": "kb:7" })).await["reach"], "fleet");
    redis.servers[0].kill().await;
    redis.has_another_master().await;
    for world in [&a, &b] {
        let look = || async { is_cached(&world.client, CHAT, &chat("a")).await };
        until("the purge", look, |cached| !cached).await;
        world.metric_when(UP, 1.0).await;
        assert!(!is_cached(&world.client, CHAT, &chat("a")).await, "it lies there, but is void");
    }
    // A newcomer knows no more than what is in Redis.
    let c = member(redis.settings(), &provider).await;
    assert!(!is_cached(&c.client, CHAT, &chat("a")).await);
    share(&a, &b, &chat("a")).await;
}

#[tokio::test]
async fn a_cluster_holds_entries_on_every_node_and_purges_reach_everybody() {
    let redis = Cluster::of_six().await;
    let provider = provider().await;
    let (a, b) =
        (member(redis.settings(), &provider).await, member(redis.settings(), &provider).await);
    share_everywhere(&a, &b, "question").await;
    for node in &redis.nodes[..3] {
        let keys = node.cli(&["--scan"]).await;
        assert!(keys.contains("tollgate:fleet:e:"), "{keys}");
    }
    assert!(look_ups(&a, "error") + look_ups(&b, "error") < 0.5);
    for question in ["question 3", "question 4"] {
        b.client
            .post_with(CHAT, &[("x-kb", "7"), ("cache-control", "no-cache")], &chat(question))
            .await;
    }
    assert_eq!(purge(&b, json!({ "all": true })).await["reach"], "fleet");
    for n in 0..24 {
        cached_is(&a.client, &chat(&format!("question {n}")), false).await;
    }

    // Emptied, all of it: only the epoch's node can tell, and does.
    let mut load = Load::on(&[&a, &b]);
    share(&a, &b, &chat("flushed")).await;
    for node in &redis.nodes[..3] {
        node.ok(&["FLUSHALL"]).await;
    }
    cached_is(&b.client, &chat("flushed"), false).await;
    share_everywhere(&a, &b, "flushed").await;
    load.is_fine().await;
}

/// Kills a master of the six-node cluster under load and sees everything used again.
async fn survives_the_death_of(home: bool) {
    let mut redis = Cluster::of_six().await;
    let at_home = redis.master_of("{fleet}").await;
    let dead = if home { at_home } else { (at_home + 1) % 3 };
    let provider = provider().await;
    let (a, b) =
        (member(redis.settings(), &provider).await, member(redis.settings(), &provider).await);
    share_everywhere(&a, &b, "before").await;
    let mut load = Load::on(&[&a, &b]);
    assert_eq!(purge(&a, json!({ "tag": "kb:7" })).await["reach"], "fleet");

    redis.nodes[dead].kill().await;
    load.is_fine().await;
    is_whole_again(&redis, dead + 3, [&a, &b]).await;

    // Back as a replica of who took its place.
    redis.nodes[dead].start_again().await;
    redis.nodes[dead].says(&["INFO", "replication"], "role:slave").await;
    share_everywhere(&b, &a, "with the old one back").await;
    load.is_fine().await;
}

/// Waits until the replica has taken over, and both proxies use it.
async fn is_whole_again(redis: &Cluster, replica: usize, [a, b]: [&World; 2]) {
    let replica = &redis.nodes[replica];
    replica.says(&["INFO", "replication"], "role:master").await;
    replica.says(&["CLUSTER", "INFO"], "cluster_state:ok").await;
    for world in [a, b] {
        world.metric_when(UP, 1.0).await;
    }
    share_everywhere(a, b, "after").await;
    assert!(replica.cli(&["--scan"]).await.contains("tollgate:fleet:e:"));
    let said = || async { purge(b, json!({ "model": "gpt-4o-mini" })).await["reach"].clone() };
    until("a purge that reaches all", said, |reach| reach == "fleet").await;
    cached_is(&a.client, &chat("after 1"), false).await;
}

#[tokio::test]
async fn a_cluster_that_loses_a_master_is_used_whole_again_when_the_replica_takes_over() {
    survives_the_death_of(false).await;
}

#[tokio::test]
async fn a_cluster_that_loses_the_node_of_the_purges_is_used_again_when_the_replica_takes_over() {
    survives_the_death_of(true).await;
}

/// Goal: a node that stands still costs a few time-outs, and only its own entries.
#[tokio::test]
async fn a_node_that_stands_still_costs_only_what_it_serves() {
    let redis = Cluster::start(own_ip(), Kind::default(), 3, false).await;
    let provider = provider().await;
    let (a, b) =
        (member(redis.settings(), &provider).await, member(redis.settings(), &provider).await);
    share_everywhere(&a, &b, "question").await;
    let stopped = (redis.master_of("{fleet}").await + 1) % 3;
    let c = member(redis.settings(), &provider).await;

    redis.nodes[stopped].signal(Signal::STOP);
    let (mut from_redis, mut timeouts_before) = (0, look_ups(&c, "timeout"));
    for n in 0..24 {
        let reply = c.client.post(CHAT, &chat(&format!("question {n}"))).await;
        assert_eq!(reply.status, 200);
        from_redis += usize::from(reply.cache_status().contains("detail=redis"));
    }
    timeouts_before = look_ups(&c, "timeout") - timeouts_before;
    // Late five times in a row, and it is left alone.
    assert!(timeouts_before <= 5.0, "{}", c.app.metrics_text());
    assert!((1..24).contains(&from_redis), "{from_redis} of 24 came from the others");
    assert!(look_ups(&c, "skipped") >= 1.0, "{}", c.app.metrics_text());
    assert_eq!(c.metric(UP), Some(1.0), "purges are heard");

    redis.nodes[stopped].signal(Signal::CONT);
    share_everywhere(&a, &c, "afterwards").await;
}

/// Goal: a slot that moves, and one that has moved, costs no answer.
#[tokio::test]
async fn an_entry_is_found_while_and_after_its_slot_moves() {
    let redis = Cluster::start(own_ip(), Kind::default(), 3, true).await;
    let provider = provider().await;
    let a = member(redis.settings(), &provider).await;
    a.client.post(CHAT, &chat("a")).await;
    let keys = || async {
        let mut keys = Vec::new();
        for node in &redis.nodes {
            keys.push(node.cli(&["--scan", "--pattern", "tollgate:fleet:e:*"]).await);
        }
        keys
    };
    let keys = until("the entry", keys, |keys| keys.iter().any(|key| !key.is_empty())).await;
    let from = keys.iter().position(|key| !key.is_empty()).unwrap();
    let (from, to, key) = (&redis.nodes[from], &redis.nodes[(from + 1) % 3], &keys[from]);
    let slot = from.cli(&["CLUSTER", "KEYSLOT", key]).await;
    let (b, c) =
        (member(redis.settings(), &provider).await, member(redis.settings(), &provider).await);

    let (from_id, to_id) =
        (from.cli(&["CLUSTER", "MYID"]).await, to.cli(&["CLUSTER", "MYID"]).await);
    to.ok(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]).await;
    from.ok(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]).await;
    let (ip, port) = (to.addr.ip().to_string(), to.addr.port().to_string());
    from.ok(&["MIGRATE", &ip, &port, key, "0", "5000"]).await;
    let found = |reply: &Reply| reply.cache_status().contains("detail=redis");
    let reply = b.client.post(CHAT, &chat("a")).await;
    assert!(found(&reply), "asked where it was sent to: {reply:?}");

    for node in [
        to,
        from,
        &redis.nodes
            [(0..3).find(|i| ![from.addr, to.addr].contains(&redis.nodes[*i].addr)).unwrap()],
    ] {
        node.ok(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]).await;
    }
    let reply = c.client.post(CHAT, &chat("a")).await;
    assert!(found(&reply), "found by who still has the old map: {reply:?}");
    for world in [&b, &c] {
        assert_hit(&world.client.post(CHAT, &chat("a")).await);
        assert!(look_ups(world, "error") < 0.5, "{}", world.app.metrics_text());
    }
}

/// Goal: TLS, passwords, compression and encryption are the same in every mode.
async fn shares_sealed_answers(mode: &str) {
    let ip = own_ip();
    let dir = tempfile::TempDir::new().unwrap();
    let authority = Authority::new(dir.path(), "authority");
    let kind = Kind::guarded(&authority, ip, "s3cret");
    let own = authority.sign("tollgate");
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        json!({ "file": dir.path().join(name) })
    };
    let password = file("password", "s3cret\n");
    let sealed = json!({
        "compression": "zstd",
        "encryption": { "key": file("cache-key", &"9e".repeat(32)) },
    });
    let (cluster, watched);
    let (mut settings, servers) = if mode == "cluster" {
        cluster = Cluster::start(ip, kind, 3, true).await;
        (cluster.settings(), &cluster.nodes)
    } else {
        watched = Watched::of(ip, kind, "s3cret").await;
        let mut settings = watched.settings();
        settings["sentinel_password"] = password.clone();
        (settings, &watched.servers)
    };
    settings["password"] = password;
    settings["tls"] = json!({
        "ca": &authority.file,
        "client_certificate": &own.certificate,
        "client_key": &own.private_key,
    });
    let provider = provider().await;
    let a = member_with(settings.clone(), sealed.clone(), &provider).await;
    let b = member_with(settings, sealed, &provider).await;
    share_everywhere(&a, &b, "sealed").await;
    assert_eq!(purge(&a, json!({ "all": true })).await["reach"], "fleet");
    cached_is(&b.client, &chat("sealed 1"), false).await;
    share(&a, &b, &chat("in the safe")).await;

    let mut values = String::new();
    for server in servers {
        let keys = server.cli(&["--scan", "--pattern", "tollgate:fleet:e:*"]).await;
        for key in keys.lines() {
            values.push_str(&server.cli(&["GET", key]).await);
        }
    }
    assert!(!values.is_empty());
    for clear in ["gpt-4o-mini", "application/json", "choices"] {
        assert!(!values.contains(clear), "{clear} in {values}");
    }
}

#[tokio::test]
async fn a_cluster_behind_tls_and_a_password_holds_sealed_answers() {
    shares_sealed_answers("cluster").await;
}

#[tokio::test]
async fn sentinels_and_servers_behind_tls_and_passwords_hold_sealed_answers() {
    shares_sealed_answers("sentinel").await;
}
