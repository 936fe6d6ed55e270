//! `mode: http`: what is past its time is given while one call renews it, and what answers
//! say of themselves can be purged; over a fleet, too.

use crate::{
    cache_redis::{Line, Server, member_with},
    cache_stage::{Told as _, assert_hit, assert_miss, by_url, purge},
};
use http::Method;
use serde_json::json;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Semaphore;
use tollgate_ledger::CacheOutcome;
use tollgate_tests::{Scripted, until};

fn answer(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}content-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_stale_answer_is_renewed_by_one_call_for_all_who_are_given_it() {
    let opened = Arc::new(Semaphore::new(1));
    let (gate, answers) = (opened.clone(), Arc::new(AtomicUsize::new(0)));
    let upstream = Scripted::start(move |mut line| {
        let (gate, answers) = (gate.clone(), answers.clone());
        async move {
            while line.request().await.is_some() {
                gate.acquire().await.unwrap().forget();
                // The first is past its time when it comes, the second is not.
                let first = answers.fetch_add(1, Ordering::Relaxed) == 0;
                let age = if first { "age: 70\r\n" } else { "" };
                let fields = format!(
                    "cache-control: max-age=60, stale-while-revalidate=600\r\netag: \"a\"\r\n{age}"
                );
                let body = if first { "old" } else { "new" };
                line.wire.send(answer(&fields, body)).await;
            }
        }
    })
    .await;
    let world = by_url().upstream(upstream.url()).start().await;
    assert_miss(&world.client.get("/a").await);
    for _ in 0..8 {
        let reply = world.client.get("/a").await;
        assert!(reply.cache_status().starts_with("tollgate; hit; ttl=-1"), "{reply:?}");
        assert_eq!(reply.body, b"old"[..]);
    }
    opened.add_permits(1);
    let look = || async { world.client.get("/a").await };
    let renewed = until("the new answer", look, |reply| reply.body == b"new"[..]).await;
    assert_hit(&renewed);
    assert_eq!(upstream.seen().len(), 2, "one renewal for all");
    assert_eq!(upstream.seen()[1].fields("if-none-match"), ["\"a\""]);
    // Each caller has its record, and so has the renewal.
    let records = world.records_when(11).await;
    let with = |outcome| records.iter().filter(|view| view.record.outcome == outcome).count();
    assert!(with(CacheOutcome::Stale) >= 8 && with(CacheOutcome::Miss) == 2, "{records:?}");
}

#[tokio::test]
async fn an_error_that_may_be_kept_does_not_take_the_place_of_what_it_was_to_renew() {
    let upstream = Scripted::start(|mut line| async move {
        while let Some(seen) = line.request().await {
            let fields = "cache-control: max-age=60, stale-while-revalidate=600\r\n";
            let is_renewal = !seen.fields("if-none-match").is_empty();
            let answer = match is_renewal || seen.line().contains("/bad") {
                true => "HTTP/1.1 500 Oops\r\ncache-control: max-age=60\r\n\
                    content-length: 0\r\n\r\n"
                    .to_owned(),
                false => answer(&format!("{fields}age: 70\r\netag: \"a\"\r\n"), "good"),
            };
            line.wire.send(answer).await;
        }
    })
    .await;
    let world = by_url().upstream(upstream.url()).start().await;
    assert_miss(&world.client.get("/a").await);
    let look = || async {
        let reply = world.client.get("/a").await;
        assert!(reply.status == 200 && reply.body == b"good"[..], "{reply:?}");
        upstream.seen().len()
    };
    until("some renewals that fail", look, |calls| *calls >= 3).await;
    // An error that nothing better stands against is kept as it says.
    assert_eq!(world.client.get("/bad").await.status, 500);
    assert_hit(&world.client.get("/bad").await);
}

#[tokio::test]
async fn what_was_purged_softly_is_asked_about_and_not_thrown_away() {
    let upstream = Scripted::start(|mut line| async move {
        while let Some(seen) = line.request().await {
            let fields = "cache-control: max-age=600\r\netag: \"a\"\r\n";
            let answer = match seen.fields("if-none-match").is_empty() {
                true => answer(fields, "x"),
                false => format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n"),
            };
            line.wire.send(answer).await;
        }
    })
    .await;
    let world = by_url().upstream(upstream.url()).start().await;
    assert_miss(&world.client.get("/a").await);
    assert_hit(&world.client.get("/a").await);
    for target in [json!({ "route": "all", "soft": true }), json!({ "all": true, "soft": true })] {
        let calls = upstream.seen().len();
        purge(&world, target.clone()).await;
        let asked = world.client.get("/a").await;
        assert!(asked.cache_status().contains("fwd=stale; fwd-status=304"), "{asked:?}");
        assert_eq!(asked.body, b"x"[..]);
        assert_hit(&world.client.get("/a").await);
        assert_eq!(upstream.seen().len(), calls + 1, "{target}");
    }
}

#[tokio::test]
async fn an_answers_own_tags_can_be_purged() {
    let upstream = Scripted::start(|mut line| async move {
        while let Some(seen) = line.request().await {
            let tag = if seen.line().contains("/a") { "one two" } else { "three" };
            let fields = format!("cache-control: max-age=60\r\nsurrogate-key: {tag}\r\n");
            line.wire.send(answer(&fields, "x")).await;
        }
    })
    .await;
    let world = by_url().upstream(upstream.url()).start().await;
    for path in ["/a", "/b"] {
        assert_miss(&world.client.get(path).await);
        assert_hit(&world.client.get(path).await);
    }
    purge(&world, json!({ "tag": "two" })).await;
    assert_miss(&world.client.get("/a").await);
    assert_hit(&world.client.get("/b").await);
}

#[tokio::test]
async fn every_variant_of_a_url_goes_with_its_key() {
    let upstream = Scripted::start(|mut line| async move {
        while line.request().await.is_some() {
            let fields = "cache-control: max-age=60\r\nvary: accept-language\r\nxkey: all\r\n";
            line.wire.send(answer(fields, "x")).await;
        }
    })
    .await;
    let world = by_url().upstream(upstream.url()).start().await;
    let ask = |language| {
        let client = &world.client;
        async move { client.send(Method::GET, "/a", &[("accept-language", language)], "").await }
    };
    for language in ["de", "en"] {
        assert_miss(&ask(language).await);
        assert_hit(&ask(language).await);
    }
    assert_eq!(world.client.send(Method::DELETE, "/a", &[], "").await.status, 200);
    for language in ["de", "en"] {
        assert_miss(&ask(language).await);
    }
}

/// With a real redis-server, as `cache_redis`.
mod redis {
    use super::*;

    #[tokio::test]
    async fn what_one_instance_kept_of_a_url_another_gives_until_either_hears_of_a_change() {
        let upstream = Scripted::start(|mut line| async move {
            while line.request().await.is_some() {
                let fields = "cache-control: max-age=60\r\nvary: accept-language\r\nage: 7\r\n";
                line.wire.send(answer(fields, "x")).await;
            }
        })
        .await;
        let server = Server::start().await;
        let line = Line::to(&server).await;
        let with_redis = || {
            by_url().config(|settings| {
                settings.set("routes.0.cache.tiers", json!(["memory", "redis"]));
            })
        };
        let a = member_with(with_redis(), &line, &upstream.url(), "2s").await;
        let b = member_with(with_redis(), &line, &upstream.url(), "2s").await;
        for world in [&a, &b] {
            world.metric_when("tollgate_store_up{store=\"redis\"}", 1.0).await;
        }
        // The same site on both: their ports differ.
        let fields = [("host", "site.example"), ("accept-language", "de")];
        let only = [fields[0], fields[1], ("cache-control", "only-if-cached")];
        assert_miss(&a.client.send(Method::GET, "/a", &fields, "").await);
        let look = || async { b.client.send(Method::GET, "/a", &only, "").await };
        let given = until("the answer in redis", look, |reply| reply.status == 200).await;
        assert!(given.cache_status().ends_with("detail=redis"), "{given:?}");
        assert!(given.header("age").parse::<u64>().unwrap() >= 7, "{given:?}");
        assert_eq!(b.client.send(Method::DELETE, "/a", &fields[..1], "").await.status, 200);
        let look = || async { a.client.send(Method::GET, "/a", &only, "").await };
        until("the change to be heard of", look, |reply| reply.status == 504).await;
    }
}
