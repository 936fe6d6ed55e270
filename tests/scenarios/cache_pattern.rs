//! Purges by a pattern over tags: what it fits goes, here, in the fleet and after a restart; what it
//! does not fit stays.

use crate::{
    cache_disk, cache_memcached, cache_postgres, cache_redis,
    cache_stage::{CHAT, Told as _, cached_is, chat, content, is_cached, purge},
};
use rustix::process::Signal;
use serde_json::json;
use tollgate_tests::{Client, World, standin::Options, until};

const FITS: [(&str, &str); 2] = [("42:a", "a"), ("42:b", "b")];
const OTHER: (&str, &str) = ("43:a", "c");

/// Asks what is tagged `kb:42:…` twice, and something else.
async fn ask_all(client: &Client) {
    for (kb, text) in FITS.into_iter().chain([OTHER]) {
        client.post_with(CHAT, &[("x-kb", kb)], &chat(text)).await;
    }
}

/// Of what fits nothing is there, and what does not is.
async fn only_the_other_is_left(client: &Client) {
    for (_, text) in FITS {
        assert!(!is_cached(client, CHAT, &chat(text)).await, "{text}");
    }
    assert!(is_cached(client, CHAT, &chat(OTHER.1)).await);
}

#[tokio::test]
async fn a_purge_by_pattern_takes_what_has_a_tag_that_fits() {
    let world = content(json!({ "tags": ["user:{tenant}", "kb:{header.x-kb}"] })).start().await;
    ask_all(&world.client).await;
    let counted = purge(&world, json!({ "pattern": "kb:42:*", "dry_run": true })).await;
    assert_eq!(counted, json!({ "purged": 2, "reach": "instance", "pending": false }));
    assert!(is_cached(&world.client, CHAT, &chat("a")).await, "a dry run only counts");

    let said = purge(&world, json!({ "pattern": "kb:42:*" })).await;
    assert_eq!(said, json!({ "purged": null, "reach": "instance", "pending": false }));
    only_the_other_is_left(&world.client).await;
    // What is asked after it is kept, and the next purge finds that, too.
    ask_all(&world.client).await;
    assert!(is_cached(&world.client, CHAT, &chat("a")).await);
    purge(&world, json!({ "pattern": "kb:4?:a" })).await;
    assert!(!is_cached(&world.client, CHAT, &chat("a")).await);
    assert!(is_cached(&world.client, CHAT, &chat("b")).await);
}

#[tokio::test]
async fn softly_a_pattern_only_ends_the_time_of_what_fits() {
    let policy = json!({ "tags": ["kb:{header.x-kb}"], "stale": { "if_error": "1h" } });
    let world = content(policy).start().await;
    ask_all(&world.client).await;
    purge(&world, json!({ "pattern": "kb:42:*", "soft": true })).await;
    let calls = world.standin.counts().calls;
    let renewed = world.client.post_with(CHAT, &[("x-kb", "42:a")], &chat("a")).await;
    assert!(renewed.cache_status().starts_with("tollgate; fwd=stale"), "{renewed:?}");
    assert!(is_cached(&world.client, CHAT, &chat(OTHER.1)).await);
    assert_eq!(world.standin.counts().calls, calls + 1);
}

#[tokio::test]
async fn what_is_no_pattern_is_refused() {
    let world = content(json!({})).start().await;
    let admin = Client::new(world.app.addresses().admin.unwrap());
    for (pattern, why) in
        [("", "pattern: empty"), ("a\tb", "pattern: has a control"), (&"a".repeat(129), "longer")]
    {
        let reply = admin.post("/api/cache/purge", &json!({ "pattern": pattern })).await;
        assert_eq!(reply.status, 400, "{reply:?}");
        assert!(reply.json()["detail"].as_str().unwrap().contains(why), "{reply:?}");
    }
}

/// On one instance: for those that run, and for one that starts later and only reads what the keeper
/// has.
async fn reaches_the_fleet(a: &World, b: &World, later: impl AsyncFn() -> World) {
    ask_all(&a.client).await;
    for text in ["a", "b", "c"] {
        cached_is(&b.client, &chat(text), true).await;
    }
    let said = purge(a, json!({ "pattern": "kb:42:*" })).await;
    assert_eq!(said, json!({ "purged": null, "reach": "fleet", "pending": false }));
    only_the_other_is_left(&a.client).await;
    cached_is(&b.client, &chat("a"), false).await;
    only_the_other_is_left(&b.client).await;
    only_the_other_is_left(&later().await.client).await;
}

#[tokio::test]
async fn through_redis_a_pattern_reaches_the_fleet() {
    let server = cache_redis::Server::start().await;
    let provider = cache_redis::provider(Options::default()).await;
    let line = cache_redis::Line::to(&server).await;
    let member = async || cache_redis::member(&line, &provider.url()).await;
    reaches_the_fleet(&member().await, &member().await, member).await;
}

#[tokio::test]
async fn through_memcached_a_pattern_reaches_the_fleet() {
    let server = cache_memcached::Server::start().await;
    let provider = cache_redis::provider(Options::default()).await;
    let line = cache_redis::Line::to_socket(server.socket()).await;
    let member = async || {
        let world = cache_memcached::member(&line, &provider.url(), "2s").await;
        cache_memcached::learn_version(&world).await;
        world
    };
    reaches_the_fleet(&member().await, &member().await, member).await;
}

#[tokio::test]
async fn through_postgresql_a_pattern_reaches_the_fleet() {
    let server = cache_postgres::server();
    let provider = cache_redis::provider(Options::default()).await;
    let member = async || cache_postgres::member(&server, &provider.url(), "10s").await;
    reaches_the_fleet(&member().await, &member().await, member).await;
}

#[tokio::test]
async fn a_pattern_that_was_purged_while_redis_was_away_is_in_force_here_and_told_later() {
    let server = cache_redis::Server::start().await;
    let provider = cache_redis::provider(Options::default()).await;
    let (line, away) = (cache_redis::Line::to(&server).await, cache_redis::Line::to(&server).await);
    let a = cache_redis::member(&away, &provider.url()).await;
    let b = cache_redis::member(&line, &provider.url()).await;
    ask_all(&a.client).await;
    for text in ["a", "b", "c"] {
        cached_is(&b.client, &chat(text), true).await;
    }
    away.cut();
    a.metric_when(cache_redis::UP, 0.0).await;
    let said = purge(&a, json!({ "pattern": "kb:42:*" })).await;
    assert_eq!(said, json!({ "purged": null, "reach": "instance", "pending": true }));
    only_the_other_is_left(&a.client).await;
    assert!(is_cached(&b.client, CHAT, &chat("a")).await, "it cannot know");
    away.mend();
    cached_is(&b.client, &chat("a"), false).await;
    a.metric_when(cache_redis::UP, 1.0).await;
    for world in [&a, &b] {
        only_the_other_is_left(&world.client).await;
    }
}

#[tokio::test]
async fn what_a_pattern_took_stays_away_after_the_process_was_killed() {
    let (world, settings) = cache_disk::house(json!({})).await;
    let (mut first, client) = cache_disk::process(&world, &settings).await;
    ask_all(&client).await;
    let written = || async { cache_disk::entries(&world).len() };
    until("all entries on the disk", written, |there| *there == 3).await;
    cache_disk::purge(&first, json!({ "pattern": "kb:42:*" })).await;
    first.signal(Signal::KILL);
    first.gone().await;

    let (second, client) = cache_disk::process(&world, &settings).await;
    only_the_other_is_left(&client).await;
    cache_disk::end(second).await;
}
