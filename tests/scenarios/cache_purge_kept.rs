//! A purge that was answered while its store was away outlives the process that was to send it.

use crate::{
    cache_redis::{Line, Server, member, provider},
    cache_stage::{CHAT, cached_is, chat, is_cached},
};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use tollgate_tests::{Client, Process, Settings, standin::Options};

#[tokio::test]
async fn a_purge_that_waits_for_redis_is_sent_by_the_process_after_one_that_was_killed() {
    let (server, provider) = (Server::start().await, provider(Options::default()).await);
    let (line, away) = (Line::to(&server).await, Line::to(&server).await);
    let other = member(&line, &provider.url()).await;
    let dir = TempDir::new().unwrap();
    let mut settings = Settings::new(&provider.url(), &dir.path().join("data"));
    let cache = json!({
        "mode": "content", "tiers": ["memory", "redis"], "tags": ["kb:{header.x-kb}"],
    });
    settings
        .set("stores.redis", json!({ "urls": [away.url()], "timeout": "2s" }))
        .set("cache.namespace", json!("fleet"))
        .set("upstreams.model.host", json!("upstream"))
        .set("routes.0.cache", cache);

    let mut first = Process::start(dir.path(), &settings).await;
    first.says("redis is up").await;
    let client = Client::new(first.addr);
    for (kb, text) in [("42:a", "a"), ("43:a", "b")] {
        client.post_with(CHAT, &[("x-kb", kb)], &chat(text)).await;
        cached_is(&other.client, &chat(text), true).await;
    }
    away.cut();
    first.says("the redis tier is skipped until redis is back").await;
    let order = json!({ "pattern": "kb:42:*" });
    let reply = Client::new(first.admin).post("/api/cache/purge", &order).await;
    assert_eq!(reply.json(), json!({ "purged": null, "reach": "instance", "pending": true }));
    first.signal(Signal::KILL);
    first.gone().await;
    assert!(is_cached(&other.client, CHAT, &chat("a")).await, "it cannot know");

    away.mend();
    let mut second = Process::start(dir.path(), &settings).await;
    cached_is(&other.client, &chat("a"), false).await;
    assert!(is_cached(&other.client, CHAT, &chat("b")).await);
    second.signal(Signal::TERM);
    assert!(second.gone().await.success(), "{:#?}", second.log());
}
