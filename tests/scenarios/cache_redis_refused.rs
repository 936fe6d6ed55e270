//! A redis-server that is there and refuses: it is full, takes nothing, or does not let its user in
//! everywhere. What it has is given, and who is to know of it is told.

use crate::{
    cache_disk,
    cache_redis::{Line, Server, UP, detail, member, provider},
    cache_stage::{CHAT, cached_is, chat, content, is_cached, purge},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_tests::{Client, Process, Reply, Settings, World, standin::Options, until};

const PENDING: &str = "tollgate_store_purges_pending{store=\"redis\"}";

/// What an operator is told.
const EXAMPLE: &str = include_str!("../../config/examples/full.yaml");

/// A provider whose model has versions.
fn versioned() -> Options {
    Options { model_version: Some("v1".to_owned()), ..Options::default() }
}

/// Two instances that both have answers about `kb:7` and `kb:8` in memory.
async fn pair(line: &Line, upstream: &str) -> (World, World) {
    let (a, b) = (member(line, upstream).await, member(line, upstream).await);
    for kb in ["7", "8"] {
        a.client.post_with(CHAT, &[("x-kb", kb)], &chat(kb)).await;
        cached_is(&b.client, &chat(kb), true).await;
    }
    (a, b)
}

async fn config(server: &Server, name: &str, value: &str) {
    assert_eq!(server.cli(&["CONFIG", "SET", name, value]).await, "OK\n");
}

#[tokio::test]
async fn a_full_redis_gives_what_it_has_and_takes_purges_and_versions() {
    let server = Server::start().await;
    let (provider, line) = (provider(versioned()).await, Line::to(&server).await);
    let (a, b) = pair(&line, &provider.url()).await;
    config(&server, "maxmemory", "1").await;
    let refused = server.cli(&["SET", "any", "thing"]).await;
    assert!(refused.starts_with("OOM"), "{refused}");

    // Who starts now reads what was stored before.
    let c = member(&line, &provider.url()).await;
    assert_eq!(detail(&c.client.post(CHAT, &chat("8")).await), "redis");
    for n in 0..10 {
        let question = chat(&format!("question {n}"));
        let one = a.client.post(CHAT, &question).await;
        assert_eq!(
            (one.status.as_u16(), b.client.post(CHAT, &question).await.status.as_u16()),
            (200, 200)
        );
    }
    let said = purge(&a, json!({ "tag": "kb:7" })).await;
    assert_eq!(said, json!({ "purged": null, "reach": "fleet", "pending": false }));
    cached_is(&b.client, &chat("7"), false).await;
    assert!(is_cached(&b.client, CHAT, &chat("8")).await);

    provider.set_model_version(Some("v2"));
    a.client.post(CHAT, &chat("another")).await;
    cached_is(&b.client, &chat("8"), false).await;
    for world in [&a, &b, &c] {
        assert_eq!(world.metric(UP), Some(1.0));
        assert_eq!(world.metric(PENDING), Some(0.0));
        let opened = "tollgate_cache_lookups_total{tier=\"redis\",outcome=\"skipped\"}";
        assert_eq!(world.metric(opened).unwrap_or_default(), 0.0);
    }
    // What began while it was full is kept once it is not.
    config(&server, "maxmemory", "0").await;
    a.client.post(CHAT, &chat("after")).await;
    cached_is(&b.client, &chat("after"), true).await;
}

#[tokio::test]
async fn a_redis_that_takes_nothing_is_read_and_hears_of_purges_once_it_does() {
    let server = Server::start().await;
    let (provider, line) = (provider(versioned()).await, Line::to(&server).await);
    let (a, b) = pair(&line, &provider.url()).await;
    config(&server, "min-replicas-to-write", "1").await;
    let refused = server.cli(&["SET", "any", "thing"]).await;
    assert!(refused.starts_with("NOREPLICAS"), "{refused}");

    let said = purge(&a, json!({ "tag": "kb:7" })).await;
    assert_eq!(said, json!({ "purged": null, "reach": "instance", "pending": true }));
    assert!(!is_cached(&a.client, CHAT, &chat("7")).await, "not brought back from redis");
    assert!(is_cached(&b.client, CHAT, &chat("7")).await, "it cannot know");
    assert_eq!(a.metric(PENDING), Some(1.0));
    provider.set_model_version(Some("v2"));
    assert_eq!(a.client.post(CHAT, &chat("another")).await.status, 200);

    let c = member(&line, &provider.url()).await;
    assert_eq!(detail(&c.client.post(CHAT, &chat("8")).await), "redis");
    for world in [&a, &b, &c] {
        assert_eq!(world.metric(UP), Some(1.0));
    }
    config(&server, "min-replicas-to-write", "0").await;
    cached_is(&b.client, &chat("7"), false).await;
    a.metric_when(PENDING, 0.0).await;
    // The version, too.
    cached_is(&b.client, &chat("8"), false).await;
}

/// A process whose store is `line`, with `more` of the store.
async fn process(
    dir: &TempDir,
    provider: &str,
    line: &Line,
    more: Value,
    events: Value,
) -> (Process, Client) {
    let mut settings = Settings::new(provider, &dir.path().join("data"));
    let cache =
        json!({ "mode": "content", "tiers": ["memory", "redis"], "tags": ["kb:{header.x-kb}"] });
    settings
        .set("stores.redis", more)
        .set("stores.redis.urls", json!([line.url()]))
        .set("stores.redis.timeout", json!("2s"))
        .set("upstreams.model.host", json!("upstream"))
        .set("cache.namespace", json!("fleet"))
        .set("cache.events", events)
        .set("routes.0.cache", cache);
    let process = Process::start(dir.path(), &settings).await;
    process.says("redis is up").await;
    let client = Client::new(process.addr);
    (process, client)
}

async fn ended(mut process: Process) {
    process.signal(Signal::TERM);
    assert!(process.gone().await.success(), "{:#?}", process.log());
}

#[tokio::test]
async fn that_redis_takes_nothing_is_told_in_one_line() {
    let server = Server::start().await;
    let (provider, line) = (provider(Options::default()).await, Line::to(&server).await);
    let dir = TempDir::new().unwrap();
    let (process, client) = process(&dir, &provider.url(), &line, json!({}), json!([])).await;
    config(&server, "min-replicas-to-write", "1").await;
    for n in 0..5 {
        assert_eq!(client.post(CHAT, &chat(&n.to_string())).await.status, 200);
        let said = cache_disk::purge(&process, json!({ "tag": "kb:7" })).await;
        assert_eq!(said["pending"], true);
    }
    let told = |line: &&String| line.contains("redis takes nothing new");
    assert_eq!(process.log().iter().filter(told).count(), 1, "{:#?}", process.log());
    assert!(process.log().iter().any(|line| line.contains("NOREPLICAS")));
    config(&server, "min-replicas-to-write", "0").await;
    let metrics = || async { Client::new(process.metrics).get("/metrics").await.text() };
    let none = format!("{PENDING} 0");
    until("no purge that waits", metrics, |text| text.contains(&none)).await;
    ended(process).await;
}

/// The words of an ACL that the example's comment says, those of events for `events` of them.
fn granted(events: bool) -> Vec<String> {
    let (_, rest) = EXAMPLE.split_once("Least that the user needs:").unwrap();
    let (comment, _) = rest.split_once("user:").unwrap();
    let upto = if events { comment } else { comment.split("for a channel").next().unwrap() };
    let words = upto.split_whitespace().map(|word| word.trim_matches([';', ',', ':']));
    let words = words.filter(|word| word.starts_with(['~', '&', '+', '-']));
    words.map(|word| word.replace("CHANNEL", "kb-said").replace("STREAM", "kb-done")).collect()
}

async fn allow(server: &Server, words: &[String]) {
    let user = ["ACL", "SETUSER", "least", "reset", "on", ">s3cret"];
    let words: Vec<&str> = user.into_iter().chain(words.iter().map(String::as_str)).collect();
    assert_eq!(server.cli(&words).await, "OK\n", "{words:?}");
}

fn sources() -> Value {
    let source = |name: &str, of: Value| json!({ "name": name, "redis": of, "purge": [{ "tag": "kb:{/id}" }] });
    json!([
        source("said", json!({ "channel": "kb-said" })),
        source("done", json!({ "stream": "kb-done" })),
    ])
}

/// Goal: who grants what the example says has events, too.
/// Method: the words are read from the example.
#[tokio::test]
async fn a_user_who_may_do_what_the_example_says_is_enough_for_events() {
    let server = Server::start().await;
    allow(&server, &granted(true)).await;
    let (provider, line) = (provider(Options::default()).await, Line::to(&server).await);
    let cache = json!({ "tiers": ["memory", "redis"], "tags": ["kb:{header.x-kb}"] });
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("password"), "s3cret").unwrap();
    let store = json!({
        "urls": [line.url()],
        "timeout": "2s",
        "user": "least",
        "password": { "file": dir.path().join("password") },
    });
    let builder = content(cache).set("cache.events", sources()).set("stores.redis", store);
    let builder = builder.set("cache.namespace", json!("fleet")).upstream(provider.url());
    let world = builder.start().await;
    world.metric_when(UP, 1.0).await;
    for kb in ["1", "2"] {
        world.client.post_with(CHAT, &[("x-kb", kb)], &chat(kb)).await;
        cached_is(&world.client, &chat(kb), true).await;
    }
    let place = || async { server.cli(&["HGET", "tollgate:{fleet}:events", "done"]).await };
    until("its first place", place, |place: &String| !place.trim().is_empty()).await;
    server.cli(&["XADD", "kb-done", "*", "id", "2"]).await;
    cached_is(&world.client, &chat("2"), false).await;
    let say = || async { server.cli(&["PUBLISH", "kb-said", r#"{"id":1}"#]).await };
    until("a listener", say, |heard: &String| heard.trim() != "0").await;
    cached_is(&world.client, &chat("1"), false).await;
}

#[tokio::test]
async fn what_a_user_lacks_for_events_is_told_and_costs_nothing_else() {
    let server = Server::start().await;
    allow(&server, &granted(false)).await;
    let (provider, line) = (provider(Options::default()).await, Line::to(&server).await);
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("password"), "s3cret").unwrap();
    let user = json!({ "user": "least", "password": { "file": dir.path().join("password") } });
    let (process, client) = process(&dir, &provider.url(), &line, user, sources()).await;
    process.says("add to its ACL: +subscribe &kb-said").await;
    process.says("add to its ACL: +exists ~kb-done +xinfo|stream +xrange +xread").await;
    client.post(CHAT, &chat("a")).await;
    let other = member(&line, &provider.url()).await;
    let look = || async {
        other.client.post_with(CHAT, &[("cache-control", "only-if-cached")], &chat("a")).await
    };
    let reply = until("the answer", look, |reply: &Reply| reply.status == 200).await;
    assert_eq!(detail(&reply), "redis");

    allow(&server, &granted(true)).await;
    process.says("events are heard").await;
    ended(process).await;
}
