//! What holds for every store behind memory: its own time, keys that change, answers by HTTP's rules.

use crate::{
    cache_redis::{Line, Server, detail, member_with},
    cache_stage::{CHAT, Told as _, assert_hit, assert_miss, chat, content, purge},
    stores::{Database, Disk, Memcached, Redis, Store},
};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::Instant;
use tollgate_tests::{Client, Reply, Scripted, World, WorldBuilder, until};

/// By which all of a fleet are called.
const HOST: (&str, &str) = ("host", "pages.example");
const ONLY: (&str, &str) = ("cache-control", "only-if-cached");

/// Goal: each tier gives an answer for its own time, and none for longer.
#[tokio::test]
async fn a_tier_gives_an_answer_for_its_own_time() {
    let (memory, disk) = (Duration::from_secs(2), Duration::from_secs(5));
    let store = Disk::start().await;
    let tiers = json!([{ "name": "memory", "ttl": "2s" }, { "name": "disk", "ttl": "5s" }]);
    // Promoted, it would be in memory for another two seconds.
    let world = store.before(content(json!({ "tiers": tiers, "promote": false }))).await;
    let began = Instant::now();
    let first = world.client.post(CHAT, &chat("a")).await;
    assert_miss(&first);
    assert_eq!(detail(&world.client.post(CHAT, &chat("a")).await), "memory");
    let look = || async { world.client.post_with(CHAT, &[ONLY], &chat("a")).await };
    let then = until("the disk's turn", look, |reply: &Reply| detail(reply) == "disk").await;
    assert!(began.elapsed() >= memory, "{:?}", began.elapsed());
    assert_eq!(then.body, first.body);
    until("its end", look, |reply: &Reply| reply.status == 504).await;
    assert!(began.elapsed() >= disk, "{:?}", began.elapsed());
    assert_eq!(world.standin.counts().calls, 1);
}

/// A key of the store's, and those it had before.
fn sealed<S: Store>(
    builder: WorldBuilder,
    dir: &TempDir,
    key: &str,
    previous: &[&str],
) -> WorldBuilder {
    let file = |name: &&str| {
        std::fs::write(dir.path().join(name), name.repeat(32)).unwrap();
        json!({ "file": dir.path().join(name) })
    };
    let previous: Vec<Value> = previous.iter().map(file).collect();
    let keys = json!({ "key": file(&key), "previous": previous });
    builder.set(format!("cache.{}.encryption", S::NAME), keys)
}

/// Goal: a fleet changes its key without losing what it has, and what is sealed with a key that was
/// taken away is nobody's.
/// Method: instances one after the other, as a rollout has them.
async fn a_key_is_changed<S: Store>() {
    let (store, dir) = (S::start().await, TempDir::new().unwrap());
    let provider = crate::cache_redis::provider(Default::default()).await;
    let start = async |key: &str, previous: &[&str]| {
        let builder = content(json!({ "tiers": [S::NAME] })).upstream(provider.url());
        store.before(sealed::<S>(builder, &dir, key, previous)).await
    };
    let stored = async |world: &World, text: &str| {
        let ask = || async { world.client.post(CHAT, &chat(text)).await };
        until("it in the store", ask, |reply: &Reply| reply.is_hit()).await
    };
    let old = start("9e", &[]).await;
    stored(&old, "of old").await;
    end(old).await;
    for (key, previous, known) in
        [("9e", ["5a"], "of old"), ("5a", ["9e"], "of old"), ("9e", ["5a"], "of now")]
    {
        let world = start(key, &previous).await;
        assert!(gives(&world, known).await, "{}, {known}", S::NAME);
        if key == "5a" {
            stored(&world, "of now").await;
        }
        end(world).await;
    }
    let after = start("5a", &[]).await;
    assert!(gives(&after, "of now").await, "{}", S::NAME);
    is_locked_out::<S>(&after).await;
}

async fn is_locked_out<S: Store>(after: &World) {
    assert!(!gives(after, "of old").await, "{}", S::NAME);
    let locked = format!("tollgate_cache_lookups_total{{tier=\"{}\",outcome=\"locked\"}}", S::NAME);
    assert!(after.metric(&locked).unwrap_or_default() >= 1.0, "{}", after.app.metrics_text());
}

async fn gives(world: &World, text: &str) -> bool {
    // Which version of the model there is, an instance of memcached's learns by itself.
    world.client.post(CHAT, &chat("which version")).await;
    world.client.post_with(CHAT, &[ONLY], &chat(text)).await.is_hit()
}

/// A disk has one process at a time.
async fn end(world: World) {
    world.app.drain().await;
}

#[tokio::test]
async fn a_key_is_changed_and_nothing_is_lost_in_redis() {
    a_key_is_changed::<Redis>().await;
}

#[tokio::test]
async fn a_key_is_changed_and_nothing_is_lost_in_memcached() {
    a_key_is_changed::<Memcached>().await;
}

#[tokio::test]
async fn a_key_is_changed_and_nothing_is_lost_in_postgresql() {
    a_key_is_changed::<Database>().await;
}

#[tokio::test]
async fn a_key_is_changed_and_nothing_is_lost_on_the_disk() {
    a_key_is_changed::<Disk>().await;
}

/// A page in the language that is asked for.
async fn pages() -> Scripted {
    Scripted::start(|mut line| async move {
        while let Some(seen) = line.request().await {
            let body = page(seen.fields("accept-language").first().copied().unwrap_or_default());
            let len = body.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncache-control: max-age=60\r\n\
                 vary: accept-language\r\netag: \"1\"\r\ncontent-length: {len}\r\n\r\n"
            );
            line.wire.send([head, body].concat()).await;
        }
    })
    .await
}

fn page(language: &str) -> String {
    format!("the page in {language}, ").repeat(40)
}

fn http(policy: Value, upstream: &Scripted) -> WorldBuilder {
    let builder = World::builder().upstream(upstream.url()).set("routes.0.cache", policy);
    builder.set("routes.0.cache.mode", json!("http"))
}

async fn get(client: &Client, language: &str, more: &[(&str, &str)]) -> Reply {
    let headers = [&[("accept-language", language), HOST], more].concat();
    client.send(Method::GET, "/page", &headers, "").await
}

/// Goal: what a service says by RFC 9111 lies in any store as it does in memory.
async fn pages_are_given_from<S: Store>() {
    let (store, upstream) = (S::start().await, pages().await);
    let mut worlds = Vec::new();
    for _ in 0..S::PROXIES {
        worlds.push(store.before(http(json!({ "tiers": [S::NAME] }), &upstream)).await);
    }
    let (first, last) = (&worlds[0], &worlds[S::PROXIES - 1]);
    for language in ["en", "de"] {
        let asked = get(&first.client, language, &[]).await;
        assert_miss(&asked);
        let look = || async { get(&last.client, language, &[ONLY]).await };
        let found = until("the page", look, |reply: &Reply| reply.is_hit()).await;
        assert_eq!((detail(&found), found.text()), (S::NAME, page(language)));
        for name in ["content-type", "cache-control", "vary", "etag"] {
            assert_eq!(found.header(name), asked.header(name), "{name}");
        }
        assert!(found.header("age").parse::<u64>().is_ok(), "{found:?}");
    }
    is_given_in_parts(last).await;
    assert_eq!(upstream.seen().len(), 2, "once for each language");

    purge(first, json!({ "all": true })).await;
    let look = || async { get(&last.client, "de", &[ONLY]).await };
    until("it to be gone", look, |reply: &Reply| reply.status == 504).await;
}

async fn is_given_in_parts(last: &World) {
    assert_eq!(get(&last.client, "fr", &[ONLY]).await.status, 504, "another variant");
    let part = get(&last.client, "de", &[("range", "bytes=4-7")]).await;
    assert_eq!((part.status.as_u16(), part.text()), (206, "page".to_owned()));
    let known = get(&last.client, "de", &[("if-none-match", "\"1\"")]).await;
    assert_eq!(known.status, 304);
    let head =
        last.client.send(Method::HEAD, "/page", &[("accept-language", "en"), HOST], "").await;
    assert_hit(&head);
}

#[tokio::test]
async fn pages_are_given_from_redis() {
    pages_are_given_from::<Redis>().await;
}

#[tokio::test]
async fn pages_are_given_from_memcached() {
    pages_are_given_from::<Memcached>().await;
}

#[tokio::test]
async fn pages_are_given_from_postgresql() {
    pages_are_given_from::<Database>().await;
}

#[tokio::test]
async fn pages_are_given_from_the_disk() {
    pages_are_given_from::<Disk>().await;
}

/// Goal: the variants of a page that were asked for most are in memory after a start, and the others
/// are not.
#[tokio::test]
async fn a_new_instance_has_in_memory_the_variants_that_the_fleet_is_asked_for_most() {
    let (server, upstream) = (Server::start().await, pages().await);
    let line = Line::to(&server).await;
    let start = async || {
        let policy = json!({ "tiers": ["memory", "redis"] });
        let builder = http(policy, &upstream).set("cache.warm", json!({ "restore_hot": 2 }));
        let world = member_with(builder, &line, &upstream.url(), "2s").await;
        world.metric_when(crate::cache_redis::UP, 1.0).await;
        world
    };
    let a = start().await;
    for (language, asked) in [("en", 5), ("de", 4), ("fr", 2)] {
        for _ in 0..asked {
            assert_eq!(get(&a.client, language, &[]).await.text(), page(language));
        }
    }
    a.app.drain().await;
    let b = start().await;
    b.metric_when("tollgate_cache_entries", 2.0).await;
    for (language, tier) in [("en", "memory"), ("de", "memory"), ("fr", "redis")] {
        let reply = get(&b.client, language, &[]).await;
        assert_eq!((detail(&reply), reply.text()), (tier, page(language)), "{language}");
    }
    assert_eq!(upstream.seen().len(), 3);
}
