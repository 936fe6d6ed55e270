//! The tiers of a route in the order it says, each written and read as it says.

use crate::{
    cache_redis::{Line, Server, UP, detail, member_with, provider},
    cache_stage::{CHAT, Told as _, assert_hit, assert_miss, cached_is, chat, content},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tollgate_tests::{World, standin::Options};

async fn member(line: &Line, upstream: &str, policy: Value) -> World {
    let world = member_with(content(policy), line, upstream, "2s").await;
    world.metric_when(UP, 1.0).await;
    world
}

#[tokio::test]
async fn what_is_written_through_is_there_for_all_once_its_caller_was_answered() {
    let server = Server::start().await;
    let (provider, line) = (provider(Options::default()).await, Line::to(&server).await);
    let policy = json!({ "tiers": ["memory", "redis"], "writes": "through" });
    let a = member(&line, &provider.url(), policy.clone()).await;
    let b = member(&line, &provider.url(), policy).await;
    // Which version of the model there is, b hears on another way.
    a.client.post(CHAT, &chat("before")).await;
    cached_is(&b.client, &chat("before"), true).await;
    for n in 0..20 {
        let question = chat(&format!("question {n}"));
        assert_miss(&a.client.post(CHAT, &question).await);
        let there = b.client.post_with(CHAT, &[("cache-control", "only-if-cached")], &question);
        assert_eq!(detail(&there.await), "redis", "{n}");
    }
    assert_eq!(provider.counts().calls, 21);
}

#[tokio::test]
async fn writing_through_waits_for_a_silent_store_no_longer_than_it_may_take() {
    let server = Server::start().await;
    let (provider, line) = (provider(Options::default()).await, Line::to(&server).await);
    let policy = json!({ "tiers": ["memory", "redis"], "writes": "through" });
    let a = member_with(content(policy), &line, &provider.url(), "50ms").await;
    a.metric_when(UP, 1.0).await;
    server.signal(Signal::STOP);
    for n in 0..3 {
        let reply = a.client.post(CHAT, &chat(&n.to_string())).await;
        assert_eq!(reply.status, 200);
        assert_hit(&a.client.post(CHAT, &chat(&n.to_string())).await);
    }
    server.signal(Signal::CONT);
    assert_eq!(provider.counts().calls, 3);
}

#[tokio::test]
async fn what_is_written_around_memory_comes_there_when_it_is_asked_for_again() {
    let server = Server::start().await;
    let (provider, line) = (provider(Options::default()).await, Line::to(&server).await);
    let policy = json!({ "tiers": ["memory", "redis"], "writes": "around" });
    let a = member(&line, &provider.url(), policy).await;
    assert_miss(&a.client.post(CHAT, &chat("a")).await);
    assert_eq!(a.metric("tollgate_cache_entries"), Some(0.0));
    let b = member(&line, &provider.url(), json!({ "tiers": ["redis"] })).await;
    cached_is(&b.client, &chat("a"), true).await;
    assert_eq!(detail(&a.client.post(CHAT, &chat("a")).await), "redis");
    assert_eq!(detail(&a.client.post(CHAT, &chat("a")).await), "memory");
    assert_eq!(provider.counts().calls, 1);
}

#[tokio::test]
async fn a_tier_promotes_nothing_where_the_route_says_so_nor_what_is_too_large() {
    let server = Server::start().await;
    let (provider, line) = (provider(Options::default()).await, Line::to(&server).await);
    let away = member(&line, &provider.url(), json!({ "tiers": ["redis"] })).await;
    away.client.post(CHAT, &chat("a")).await;
    cached_is(&away.client, &chat("a"), true).await;
    for policy in [
        json!({ "tiers": ["memory", "redis"], "promote": false }),
        json!({ "tiers": [{ "name": "memory", "max_entry": "64B" }, "redis"] }),
    ] {
        let a = member(&line, &provider.url(), policy.clone()).await;
        for _ in 0..2 {
            let reply = a.client.post(CHAT, &chat("a")).await;
            assert_eq!(detail(&reply), "redis", "{policy}");
        }
    }
}

#[tokio::test]
async fn memory_behind_redis_answers_while_redis_is_away() {
    let mut server = Server::start().await;
    let (provider, line) = (provider(Options::default()).await, Line::to(&server).await);
    let a = member(&line, &provider.url(), json!({ "tiers": ["redis", "memory"] })).await;
    assert_miss(&a.client.post(CHAT, &chat("a")).await);
    cached_is(&a.client, &chat("a"), true).await;
    server.kill().await;
    a.metric_when(UP, 0.0).await;
    let reply = a.client.post(CHAT, &chat("a")).await;
    assert!(reply.is_hit(), "{reply:?}");
    assert_eq!(detail(&reply), "memory");
}
