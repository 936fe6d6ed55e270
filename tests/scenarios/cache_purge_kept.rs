//! A purge that was answered while its store was away outlives the process that was to send it.

use crate::{
    cache_postgres,
    cache_redis::{Line, Server, member, provider},
    cache_stage::{CHAT, cached_is, chat, is_cached},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::cell::RefCell;
use tempfile::TempDir;
use tollgate_tests::{Client, Process, Settings, World, standin::Options};

#[tokio::test]
async fn a_purge_that_waits_for_redis_is_sent_by_the_process_after_one_that_was_killed() {
    let (server, provider) = (Server::start().await, provider(Options::default()).await);
    let (line, away) = (Line::to(&server).await, Line::to(&server).await);
    let other = member(&line, &provider.url()).await;
    let store = json!({ "urls": [away.url()], "timeout": "2s" });
    let away = Away {
        says: ["redis is up", "the redis tier is skipped until redis is back"],
        go: || away.cut(),
        come: || away.mend(),
    };
    is_sent_later("redis", store, &provider.url(), &other, away).await;
}

#[tokio::test]
async fn a_purge_that_waits_for_postgresql_is_sent_by_the_process_after_one_that_was_killed() {
    let server = cache_postgres::server();
    let provider = provider(Options::default()).await;
    let other = cache_postgres::member(&server, &provider.url(), "10s").await;
    let store = json!({ "url": server.url(), "timeout": "2s" });
    let server = RefCell::new(server);
    let away = Away {
        says: ["postgresql is up", "the postgresql tier is skipped until it is back"],
        go: || server.borrow_mut().kill(),
        come: || server.borrow_mut().start_again(),
    };
    is_sent_later("postgres", store, &provider.url(), &other, away).await;
}

/// How a store goes away and comes back.
struct Away<G, C> {
    /// What is said of a store that is up, and of one that is away.
    says: [&'static str; 2],
    go: G,
    come: C,
}

async fn is_sent_later(
    name: &str,
    store: Value,
    upstream: &str,
    other: &World,
    away: Away<impl Fn(), impl Fn()>,
) {
    let dir = TempDir::new().unwrap();
    let mut settings = Settings::new(upstream, &dir.path().join("data"));
    let cache = json!({
        "mode": "content", "tiers": ["memory", name], "tags": ["kb:{header.x-kb}"],
    });
    settings
        .set(&format!("stores.{name}"), store)
        .set("cache.namespace", json!("fleet"))
        .set("upstreams.model.host", json!("upstream"))
        .set("routes.0.cache", cache);

    let mut first = Process::start(dir.path(), &settings).await;
    first.says(away.says[0]).await;
    let client = Client::new(first.addr);
    for (kb, text) in [("42:a", "a"), ("43:a", "b")] {
        client.post_with(CHAT, &[("x-kb", kb)], &chat(text)).await;
        cached_is(&other.client, &chat(text), true).await;
    }
    (away.go)();
    first.says(away.says[1]).await;
    let order = json!({ "pattern": "kb:42:*" });
    let reply = Client::new(first.admin).post("/api/cache/purge", &order).await;
    assert_eq!(reply.json(), json!({ "purged": null, "reach": "instance", "pending": true }));
    first.signal(Signal::KILL);
    first.gone().await;
    assert!(is_cached(&other.client, CHAT, &chat("a")).await, "it cannot know");

    (away.come)();
    let mut second = Process::start(dir.path(), &settings).await;
    cached_is(&other.client, &chat("a"), false).await;
    assert!(is_cached(&other.client, CHAT, &chat("b")).await);
    second.signal(Signal::TERM);
    assert!(second.gone().await.success(), "{:#?}", second.log());
}
