//! What one instance was asked for most, another that starts has in memory: a new replica does not
//! begin by waiting for the store they share.

use crate::{
    cache_redis::{Line, Server, UP, detail, member_with, provider},
    cache_stage::{CHAT, chat, content},
};
use serde_json::json;
use tollgate_tests::{World, standin::Options};

async fn member(line: &Line, upstream: &str) -> World {
    let tiers = content(json!({ "tiers": ["memory", "redis"] }));
    let tiers = tiers.set("cache.warm", json!({ "restore_hot": 3 }));
    let world = member_with(tiers, line, upstream, "2s").await;
    world.metric_when(UP, 1.0).await;
    world
}

#[tokio::test]
async fn a_new_instance_has_in_memory_what_the_fleet_is_asked_for_most() {
    let server = Server::start().await;
    let (provider, line) = (provider(Options::default()).await, Line::to(&server).await);
    let a = member(&line, &provider.url()).await;
    for (question, asked) in [("a", 5), ("b", 4), ("c", 3), ("d", 2)] {
        for _ in 0..asked {
            a.client.post(CHAT, &chat(question)).await;
        }
    }
    a.app.drain().await;

    let b = member(&line, &provider.url()).await;
    b.metric_when("tollgate_cache_entries", 3.0).await;
    for (question, tier) in [("a", "memory"), ("b", "memory"), ("c", "memory"), ("d", "redis")] {
        assert_eq!(detail(&b.client.post(CHAT, &chat(question)).await), tier, "{question}");
    }
    assert_eq!(provider.counts().calls, 4);
    // What the next one was asked counts, too, beside what is noted of the first.
    for _ in 0..9 {
        b.client.post(CHAT, &chat("d")).await;
    }
    b.app.drain().await;

    let c = member(&line, &provider.url()).await;
    c.metric_when("tollgate_cache_entries", 3.0).await;
    for (question, tier) in [("a", "memory"), ("d", "memory")] {
        assert_eq!(detail(&c.client.post(CHAT, &chat(question)).await), tier, "{question}");
    }
    assert_eq!(provider.counts().calls, 4);
}
