//! What the cache believes of an upstream's words and a caller's, and what it says of
//! itself: no more than it knows.

use crate::cache_stage::{
    CHAT, MISS, Told as _, answered, assert_bypass, assert_hit, assert_miss, by_url, chat,
    come_so_far, content, is_cached, marker_route, outcome, post_raw, send, streamed,
};
use http::Method;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tollgate_ledger::CacheOutcome;
use tollgate_tests::{
    Scripted, World,
    standin::{Fault, Options},
};

const EMBEDDINGS: &str = "/v1/embeddings";

/// An answer of 200, with these fields beside its type and length.
fn answer(kind: &str, fields: &str, body: &str) -> String {
    let len = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{fields}content-length: {len}\r\n\r\n{body}"
    )
}

fn finished(fields: &str) -> String {
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
        "choices": [{ "index": 0, "message": { "content": "hi" }, "finish_reason": "stop" }],
    });
    answer("application/json", fields, &body.to_string())
}

#[tokio::test]
async fn an_answer_that_says_no_version_takes_nothing_from_those_that_do() {
    let options = Options { model_version: Some("v1".to_owned()), ..Options::default() };
    let world = content(json!({})).standin(options).start().await;
    assert_miss(&world.client.post(CHAT, &chat("a")).await);

    world.standin.set_model_version(None);
    let embed = json!({ "model": "gpt-4o-mini", "input": "a" });
    let no_store = [("cache-control", "no-store")];
    world.client.post(EMBEDDINGS, &embed).await;
    world.client.post_with(CHAT, &no_store, &chat("b")).await;
    for _ in 0..2 {
        // Of which version it is, nobody knows: it is not kept.
        assert_miss(&world.client.post(CHAT, &chat("b")).await);
    }
    assert_hit(&world.client.post(CHAT, &chat("a")).await);

    world.standin.set_model_version(Some("v1"));
    assert_miss(&world.client.post(CHAT, &chat("b")).await);
    assert_hit(&world.client.post(CHAT, &chat("b")).await);
}

#[tokio::test]
async fn a_version_that_cannot_be_remembered_is_no_version_to_store_under() {
    let long = format!("x-model-version: {}\r\n", "v".repeat(300));
    for fields in [long.as_str(), "x-model-version: 1\r\nx-model-version: 2\r\n"] {
        let upstream = Scripted::always(finished(fields)).await;
        let world = content(json!({})).upstream(upstream.url()).start().await;
        for _ in 0..2 {
            assert_eq!(world.client.post(CHAT, &chat("a")).await.cache_status(), MISS);
        }
        assert_eq!(upstream.seen().len(), 2, "{fields}");
        assert_eq!(world.metric("tollgate_cache_entries"), Some(0.0), "{fields}");
    }
}

#[tokio::test]
async fn nothing_is_called_stored_that_turns_out_not_to_be() {
    let world = content(json!({})).start().await;
    for fault in [Fault::ErrorEvent, Fault::ContentFilter, Fault::Empty, Fault::BadJson] {
        world.standin.fault_next(fault, 1);
        let reply = world.client.post(CHAT, &chat("a")).await;
        assert_eq!(reply.cache_status(), MISS, "{fault:?}");
        assert!(!is_cached(&world.client, CHAT, &chat("a")).await, "{fault:?}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_say_why_it_ended_is_not_finished() {
    let whole = finished("");
    let unfinished = whole.replace("\"finish_reason\":\"stop\"", "\"finish_reason\":null  ");
    let event = r#"data: {"model":"m","choices":[{"index":0,"delta":{"content":"hi"}}]}"#;
    let stream = answer("text/event-stream", "", &format!("{event}\n\ndata: [DONE]\n\n"));
    for (answer, question) in [(unfinished, chat("a")), (stream, streamed(&chat("a")))] {
        let upstream = Scripted::always(answer.as_str()).await;
        let world = content(json!({})).upstream(upstream.url()).start().await;
        for _ in 0..2 {
            assert_miss(&world.client.post(CHAT, &question).await);
        }
        assert_eq!(upstream.seen().len(), 2, "{answer}");
    }
}

#[tokio::test]
async fn only_if_cached_costs_nothing_whatever_keeps_a_call_from_the_cache() {
    let only = "only-if-cached";
    let worlds = [content(json!({})).start().await, by_url().start().await, World::new().await];
    let twice = r#"{"model":"a","model":"b"}"#.to_owned();
    for world in worlds {
        let calls = [
            (Method::POST, CHAT, "no-store, only-if-cached", chat("a").to_string()),
            (Method::POST, CHAT, only, twice.clone()),
            (Method::POST, "/echo", only, "{}".to_owned()),
            (Method::PUT, "/echo", only, "{}".to_owned()),
            (Method::GET, "/v1/models", only, String::new()),
            (Method::HEAD, "/echo", only, String::new()),
        ];
        let count = calls.len();
        for (method, path, wish, body) in calls {
            let headers = [("cache-control", wish), ("content-type", "application/json")];
            let reply = world.client.send(method.clone(), path, &headers, body).await;
            let told = (reply.status.as_u16(), reply.header("tollgate-reason"));
            assert_eq!(told, (504, "not_cached"), "{method} {path} {wish}");
        }
        assert_eq!(world.standin.counts().calls, 0);
        for record in world.records_when(count).await {
            assert_eq!(outcome(&record), (CacheOutcome::Miss, "none"));
        }
        let misses = "tollgate_cache_requests_total{route=\"all\",tier=\"none\",outcome=\"miss\"}";
        assert_eq!(world.metric(misses), Some(6.0));
    }
}

#[tokio::test]
async fn whoever_asks_for_a_stream_in_another_type_is_nobody_elses_question() {
    let world = content(json!({})).start().await;
    world.client.post(CHAT, &chat("a")).await;
    let plain = r#""model":"gpt-4o-mini","messages":[{"role":"user","content":"a"}]"#;
    for odd in [
        r#""stream":"true""#,
        r#""stream":1"#,
        r#""stream":true,"stream_options":[]"#,
        r#""stream_options":{"include_usage":"yes"}"#,
    ] {
        assert_bypass(
            &post_raw(&world.client, CHAT, &format!("{{{odd},{plain}}}")).await,
            "not-pure",
        );
    }
    for usual in [r#""stream":false"#, r#""stream":null,"stream_options":null"#] {
        assert_hit(&post_raw(&world.client, CHAT, &format!("{{{usual},{plain}}}")).await);
    }
}

#[tokio::test]
async fn an_upstreams_words_are_not_taken_for_the_proxys() {
    let fields = "tollgate-reason: over_budget\r\nTollgate-Record: x\r\ntollgate-any: 1\r\n";
    let upstream = Scripted::always(finished(fields)).await;
    for mode in ["off", "content"] {
        let world = World::builder()
            .upstream(upstream.url())
            .set("routes.0.cache", json!({ "mode": mode }))
            .start()
            .await;
        for _ in 0..2 {
            let reply = world.client.post(CHAT, &chat("a")).await;
            assert_eq!(reply.status, 200);
            assert_eq!(reply.header("tollgate-reason"), "", "{mode}");
            assert_eq!(reply.header("tollgate-any"), "", "{mode}");
            assert_eq!(reply.headers.get_all("tollgate-record").iter().count(), 1);
            assert_ne!(reply.header("tollgate-record"), "x");
        }
    }
}

#[tokio::test]
async fn a_call_is_one_look_up_and_a_newer_answer_evicts_nothing() {
    let world = content(json!({})).start().await;
    let looked_up = |outcome: &str| {
        let labels = format!("tier=\"memory\",outcome=\"{outcome}\"");
        world.metric(&format!("tollgate_cache_lookups_total{{{labels}}}")).unwrap_or_default()
    };
    // Before the first answer the version is not known, and nothing is looked for.
    world.client.post(CHAT, &chat("a")).await;
    assert_eq!((looked_up("miss"), looked_up("hit")), (0.0, 0.0));
    for text in ["b", "c"] {
        assert_miss(&world.client.post(CHAT, &chat(text)).await);
        assert_hit(&world.client.post(CHAT, &chat(text)).await);
    }
    assert_eq!((looked_up("miss"), looked_up("hit")), (2.0, 2.0));

    world.client.post_with(CHAT, &[("cache-control", "no-cache")], &chat("a")).await;
    let evicted = "tollgate_cache_evictions_total{cause=\"size\"}";
    assert_eq!(world.metric(evicted), Some(0.0), "{}", world.app.metrics_text());
}

/// Goal: no field outside the key decides what another caller is given.
#[tokio::test]
async fn an_answer_that_depends_on_what_no_key_binds_is_its_callers_alone() {
    let kept = [
        ("accept-encoding, Origin", json!({})),
        ("Authorization", json!({})),
        ("x-lang", json!({ "key": { "include_headers": ["x-lang"] } })),
        ("referer", json!({})),
    ];
    let alone = [
        ("accept-language", json!({})),
        ("origin, User-Agent", json!({})),
        ("*", json!({})),
        ("authorization", json!({ "scope": "shared" })),
    ];
    let all = kept.iter().map(|one| (one, true)).chain(alone.iter().map(|one| (one, false)));
    for ((vary, policy), is_kept) in all {
        let upstream = Scripted::always(finished(&format!("vary: {vary}\r\n"))).await;
        let world = content(policy.clone()).upstream(upstream.url()).start().await;
        assert_miss(&world.client.post(CHAT, &chat("a")).await);
        assert_eq!(is_cached(&world.client, CHAT, &chat("a")).await, is_kept, "{vary}");
        assert_eq!(not_kept(&world, "vary"), f64::from(u8::from(!is_kept)), "{vary}");
    }
}

fn not_kept(world: &World, reason: &str) -> f64 {
    let series = format!("tollgate_cache_not_kept_total{{route=\"all\",reason=\"{reason}\"}}");
    world.metric(&series).unwrap()
}

#[tokio::test]
async fn who_wonders_why_nothing_is_kept_is_told_by_a_number() {
    for (fields, reason) in
        [("cache-control: no-store\r\n", "no_store"), ("content-encoding: gzip\r\n", "encoded")]
    {
        let upstream = Scripted::always(finished(fields)).await;
        let world = content(json!({})).upstream(upstream.url()).start().await;
        for n in [1.0, 2.0] {
            assert_miss(&world.client.post(CHAT, &chat("a")).await);
            assert_eq!(not_kept(&world, reason), n);
        }
    }
}

#[tokio::test]
async fn who_waits_for_an_answer_that_depends_on_its_leaders_language_asks_itself() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let upstream = Scripted::start(move |mut line| {
        let gate = gate.clone();
        async move {
            while let Some(seen) = line.request().await {
                gate.acquire().await.unwrap().forget();
                let language = seen.fields("accept-language").join(",");
                let body = json!({
                    "model": "gpt-4o-mini",
                    "choices": [{ "message": { "content": language }, "finish_reason": "stop" }],
                });
                let vary = "vary: accept-language\r\n";
                line.wire.send(answer("application/json", vary, &body.to_string())).await;
            }
        }
    })
    .await;
    let marker = Scripted::always("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let at = marker.url();
    let world = content(json!({})).upstream(upstream.url());
    let world = world.config(move |settings| marker_route(settings, &at)).start().await;

    let leader = send(&world.client, CHAT, &[("accept-language", "zh")], &chat("a"));
    upstream.requests(1).await;
    let waiter = send(&world.client, CHAT, &[("accept-language", "de")], &chat("a"));
    come_so_far(&world).await;
    opened.add_permits(2);
    for (asked, language) in [(leader, "zh"), (waiter, "de")] {
        let reply = answered(asked).await;
        assert_eq!(reply.json()["choices"][0]["message"]["content"], language);
        assert_eq!(reply.cache_status(), MISS);
    }
}
