//! Equal GETs at one time: one upstream call, where the answer is for all; where it is not, nobody
//! waits for anybody twice.
//!
//! The upstream answers when a gate opens; `come_so_far` waits until all who were sent have joined.

use crate::cache_stage::{
    Asked, Told as _, answered, assert_hit, assert_miss, by_url, come_so_far, marker_route,
};
use http::Method;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tollgate_ledger::CacheOutcome;
use tollgate_tests::{Client, Reply, Scripted, Seen, World, until};

const MISS: &str = "tollgate; fwd=uri-miss";
const COLLAPSED: &str = "tollgate; fwd=uri-miss; collapsed";

/// A world whose upstream answers as `answer` says, each GET when `gate` lets it.
async fn gated(
    gate: &Arc<Semaphore>,
    answer: impl Fn(&Seen) -> String + Send + Sync + 'static,
) -> (World, Scripted) {
    let (gate, answer) = (gate.clone(), Arc::new(answer));
    let upstream = Scripted::start(move |mut line| {
        let (gate, answer) = (gate.clone(), answer.clone());
        async move {
            while let Some(seen) = line.request().await {
                if seen.line().starts_with("GET ") {
                    gate.acquire().await.unwrap().forget();
                }
                line.wire.send(answer(&seen)).await;
            }
        }
    })
    .await;
    let free = Scripted::always("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let builder = by_url().upstream(upstream.url());
    let world = builder.config(move |settings| marker_route(settings, &free.url())).start().await;
    (world, upstream)
}

fn closed() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

fn open(gate: &Semaphore) {
    gate.add_permits(1_000);
}

fn page(fields: &str, body: &str) -> String {
    let len = body.len();
    format!("HTTP/1.1 200 OK\r\n{fields}\r\ncontent-length: {len}\r\n\r\n{body}")
}

/// Sends a GET and waits for nothing.
fn get(client: &Client, fields: &[(&'static str, &'static str)]) -> Asked {
    let (client, fields) = (client.clone(), fields.to_vec());
    TaskTracker::new().spawn(async move { client.send(Method::GET, "/a", &fields, "").await })
}

fn gets(world: &World, many: usize) -> Vec<Asked> {
    (0..many).map(|_| get(&world.client, &[])).collect()
}

async fn all(asked: Vec<Asked>) -> Vec<Reply> {
    let mut replies = Vec::new();
    for asked in asked {
        replies.push(answered(asked).await);
    }
    replies
}

/// Waits until the upstream has been asked so often.
async fn asked_is(upstream: &Scripted, wanted: usize) {
    let look = || async { upstream.seen().len() };
    until("calls upstream", look, |seen| *seen == wanted).await;
}

fn told(replies: &[Reply], status: &str) -> usize {
    replies.iter().filter(|reply| reply.cache_status() == status).count()
}

#[tokio::test]
async fn equal_gets_at_one_time_are_one_upstream_call_and_each_gets_all() {
    let gate = closed();
    let (world, upstream) = gated(&gate, |_| {
        let own = "set-cookie: session=leaders\r\nx-request-id: leaders\r\nx-kind: page";
        page(&format!("cache-control: max-age=60\r\nage: 5\r\n{own}"), "the page")
    })
    .await;
    let asked = gets(&world, 40);
    asked_is(&upstream, 1).await;
    come_so_far(&world).await;
    open(&gate);
    let replies = all(asked).await;
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.text() == "the page"));
    assert_eq!((told(&replies, MISS), told(&replies, COLLAPSED)), (1, 39), "{replies:?}");
    assert_eq!(upstream.seen().len(), 1);
    for follower in replies.iter().filter(|reply| reply.cache_status() == COLLAPSED) {
        // What it would have from the cache, and nothing that is the leader's own.
        assert_eq!(follower.header("x-kind"), "page");
        assert!(follower.header("age").parse::<u64>().unwrap() >= 5, "{follower:?}");
        assert_eq!(follower.header("set-cookie"), "");
        assert_ne!(follower.header("x-request-id"), "leaders");
        assert_eq!(follower.header("content-length"), "8");
    }
    assert_hit(&world.client.get("/a").await);
    let records = world.records_when(42).await;
    let joined = records.iter().filter(|one| one.record.outcome == CacheOutcome::Collapsed);
    assert_eq!(joined.count(), 39);
}

#[tokio::test]
async fn at_its_end_an_answer_is_validated_once_for_all() {
    let gate = closed();
    let (world, upstream) = gated(&gate, |seen| match seen.fields("if-none-match").is_empty() {
        true => page("etag: \"1\"\r\ncache-control: max-age=60\r\nage: 59", "the page"),
        false => "HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\ncache-control: max-age=60\r\n\r\n"
            .to_owned(),
    })
    .await;
    gate.add_permits(1);
    assert_miss(&world.client.get("/a").await);
    let only = [("cache-control", "only-if-cached")];
    let look = || world.client.send(Method::GET, "/a", &only, "");
    until("its end", look, |reply: &Reply| reply.status == 504).await;
    let asked = gets(&world, 20);
    asked_is(&upstream, 2).await;
    come_so_far(&world).await;
    open(&gate);
    let replies = all(asked).await;
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.text() == "the page"));
    let joined = replies.iter().filter(|reply| reply.cache_status().contains("; collapsed"));
    assert_eq!((joined.count(), upstream.seen().len()), (19, 2), "{replies:?}");
    assert_hit(&world.client.get("/a").await);
}

#[tokio::test]
async fn callers_whose_variants_differ_wait_for_one_call_each() {
    let gate = closed();
    let (world, upstream) = gated(&gate, |seen| {
        let fields = "cache-control: max-age=60\r\nvary: accept-language";
        page(fields, seen.fields("accept-language")[0])
    })
    .await;
    let languages = ["de", "fr", "it"];
    let asked = (0..30).map(|n| get(&world.client, &[("accept-language", languages[n % 3])]));
    let asked: Vec<Asked> = asked.collect();
    asked_is(&upstream, 1).await;
    come_so_far(&world).await;
    open(&gate);
    for (n, reply) in all(asked).await.iter().enumerate() {
        assert_eq!(reply.text(), languages[n % 3]);
    }
    assert_eq!(upstream.seen().len(), 3);
}

#[tokio::test]
async fn what_is_not_for_all_is_each_ones_own_and_nobody_waits_for_it_twice() {
    for fields in [
        "cache-control: private, max-age=60",
        "cache-control: no-store",
        "cache-control: max-age=60\r\nvary: *",
        "x-says: nothing",
        // To be validated for each.
        "etag: \"1\"\r\ncache-control: no-cache",
        "etag: \"1\"\r\ncache-control: max-age=0",
    ] {
        let gate = closed();
        let calls = std::sync::atomic::AtomicUsize::new(0);
        let (world, upstream) = gated(&gate, move |_| {
            let nth = calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            page(fields, &format!("yours is {nth:03}"))
        })
        .await;
        let asked = gets(&world, 10);
        asked_is(&upstream, 1).await;
        come_so_far(&world).await;
        gate.add_permits(1);
        // All at once, as soon as it is known.
        asked_is(&upstream, 10).await;
        open(&gate);
        let mut bodies: Vec<String> = all(asked).await.iter().map(Reply::text).collect();
        bodies.sort_unstable();
        bodies.dedup();
        assert_eq!(bodies.len(), 10, "{fields}");
        gate.forget_permits(1_000);
        // And from now on without waiting.
        let asked = gets(&world, 10);
        asked_is(&upstream, 20).await;
        open(&gate);
        assert_eq!(told(&all(asked).await, COLLAPSED), 0, "{fields}");
    }
}

#[tokio::test]
async fn an_answer_that_is_for_all_ends_the_time_of_one_that_was_not() {
    let gate = closed();
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let (world, upstream) = gated(&gate, move |_| {
        let nth = calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        page(if nth < 2 { "cache-control: private" } else { "cache-control: max-age=60" }, "page")
    })
    .await;
    let asked = gets(&world, 2);
    asked_is(&upstream, 1).await;
    come_so_far(&world).await;
    gate.add_permits(3);
    all(asked).await;
    assert_miss(&world.client.get("/a").await);
    assert_hit(&world.client.get("/a").await);
    crate::cache_stage::purge(&world, serde_json::json!({ "all": true })).await;
    let asked = gets(&world, 5);
    asked_is(&upstream, 4).await;
    come_so_far(&world).await;
    open(&gate);
    assert_eq!((told(&all(asked).await, COLLAPSED), upstream.seen().len()), (4, 4));
}

#[tokio::test]
async fn who_asks_for_something_of_its_own_waits_for_nobody() {
    let gate = closed();
    let fields = "cache-control: max-age=60";
    let (world, upstream) = gated(&gate, move |_| page(fields, "the page")).await;
    let asked: Vec<Asked> = [
        &[][..],
        &[("authorization", "Bearer a")],
        &[("x-api-key", "a")],
        &[("range", "bytes=0-1")],
        &[("if-none-match", "\"1\"")],
        &[("cache-control", "no-cache")],
        &[("cache-control", "max-age=0")],
    ]
    .into_iter()
    .map(|fields| get(&world.client, fields))
    .collect();
    asked_is(&upstream, 7).await;
    open(&gate);
    assert_eq!(told(&all(asked).await, COLLAPSED), 0);
}

#[tokio::test]
async fn who_asks_after_a_change_or_a_purge_is_not_given_what_was_asked_for_before() {
    let gate = closed();
    let (world, upstream) = gated(&gate, |seen| match seen.line().starts_with("GET ") {
        true => page("cache-control: max-age=60", "the page"),
        false => page("x-is: done", ""),
    })
    .await;
    let early = get(&world.client, &[]);
    asked_is(&upstream, 1).await;
    assert_eq!(world.client.send(Method::PUT, "/a", &[], "").await.status, 200);
    let after_change = get(&world.client, &[]);
    asked_is(&upstream, 3).await;
    crate::cache_stage::purge(&world, serde_json::json!({ "all": true })).await;
    let after_purge = get(&world.client, &[]);
    asked_is(&upstream, 4).await;
    open(&gate);
    assert_eq!(told(&all(vec![early, after_change, after_purge]).await, COLLAPSED), 0);
}

#[tokio::test]
async fn when_the_first_caller_leaves_the_others_are_answered_by_its_call() {
    let gate = closed();
    let fields = "cache-control: max-age=60";
    let (world, upstream) = gated(&gate, move |_| page(fields, "the page")).await;
    let first = get(&world.client, &[]);
    asked_is(&upstream, 1).await;
    let others = gets(&world, 5);
    come_so_far(&world).await;
    first.abort();
    come_so_far(&world).await;
    open(&gate);
    assert!(all(others).await.iter().all(|reply| reply.text() == "the page"));
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn where_the_upstream_fails_each_is_given_what_it_may_have_of_what_is_held() {
    let gate = closed();
    let fields = "cache-control: max-age=60, stale-if-error=600\r\nage: 59";
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let (world, upstream) =
        gated(&gate, move |_| match calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => page(fields, "the page"),
            _ => "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned(),
        })
        .await;
    gate.add_permits(1);
    assert_miss(&world.client.get("/a").await);
    let only = [("cache-control", "only-if-cached")];
    let look = || world.client.send(Method::GET, "/a", &only, "");
    until("its end", look, |reply: &Reply| reply.status == 504).await;
    let asked = gets(&world, 10);
    asked_is(&upstream, 2).await;
    come_so_far(&world).await;
    open(&gate);
    assert!(all(asked).await.iter().all(|reply| reply.text() == "the page"));
    assert_eq!(upstream.seen().len(), 2, "one was told for all");
}
