//! The content cache, seen by one caller: what is one question, what is kept, and what a
//! hit looks like to the caller, to the operator and to the one who pays.

use crate::cache_stage::{
    CHAT, MESSAGES, MISS, Told as _, assert_bypass, assert_hit, assert_miss, chat, content,
    cost_pico, is_cached, message, outcome, post_raw, record_of, streamed, with,
};
use http::Method;
use serde_json::{Value, json};
use tollgate_ledger::{CacheOutcome, Quality};
use tollgate_tests::{
    Scripted, World,
    standin::{AnswerLength, Fault, Options},
    until,
};

#[tokio::test]
async fn the_same_question_twice_is_one_upstream_call_and_one_answer() {
    let world = content(json!({})).start().await;

    let first = world.client.post(CHAT, &chat("why?")).await;
    let second = world.client.post(CHAT, &chat("why?")).await;

    assert_eq!(world.standin.counts().calls, 1);
    assert_eq!((second.status, &second.body), (first.status, &first.body));
    assert_eq!(second.header("content-type"), first.header("content-type"));
    assert_eq!(second.header("content-length"), first.body.len().to_string());
    assert_eq!(first.cache_status(), MISS);
    assert_eq!(first.header("age"), "");
    let status = second.cache_status();
    let ttl = status.strip_prefix("tollgate; hit; ttl=").unwrap();
    let (ttl, detail) = ttl.split_once("; detail=").unwrap();
    let (ttl, age): (u64, u64) = (ttl.parse().unwrap(), second.header("age").parse().unwrap());
    assert_eq!(detail, "memory");
    // Both are rounded down, so a second may be lost between them.
    assert!((3599..=3600).contains(&(ttl + age)), "{status}, age {age}");
}

#[tokio::test]
async fn a_hit_costs_nothing_and_is_recorded_with_what_it_saved() {
    let world = content(json!({})).start().await;
    let miss = world.client.post(CHAT, &chat("why?")).await;
    let hit = world.client.post(CHAT, &chat("why?")).await;

    let (miss_record, hit_record) =
        (&record_of(&world, &miss).await, &record_of(&world, &hit).await);
    assert_eq!(outcome(miss_record), (CacheOutcome::Miss, "none"));
    assert_eq!(outcome(hit_record), (CacheOutcome::Hit, "memory"));
    assert!(cost_pico(miss_record) > 0, "{miss_record:#?}");
    assert_eq!(miss_record.record.saved_pico, 0);
    assert_eq!(cost_pico(hit_record), 0);
    assert_eq!(hit_record.record.saved_pico, cost_pico(miss_record));
    assert_eq!(hit_record.record.tokens, miss_record.record.tokens);
    assert_eq!(hit_record.record.quality, Quality::Reported);
    assert_eq!(hit_record.record.status, 200);
    assert_eq!(hit_record.words, miss_record.words);
    assert_eq!(hit.header("tollgate-record"), hit_record.record.id.to_string());
}

#[tokio::test]
async fn a_hit_is_in_the_metrics_once_and_never_in_the_autoscalers() {
    let world = content(json!({})).start().await;
    for _ in 0..3 {
        world.client.post(CHAT, &chat("why?")).await;
    }

    let requests = |tier: &str, outcome: &str| {
        let labels = format!("route=\"all\",tier=\"{tier}\",outcome=\"{outcome}\"");
        world.metric(&format!("tollgate_cache_requests_total{{{labels}}}"))
    };
    assert_eq!(requests("none", "miss"), Some(1.0), "{}", world.app.metrics_text());
    assert_eq!(requests("memory", "hit"), Some(2.0), "{}", world.app.metrics_text());
    let all = world.metrics();
    let sum = |name: &str| -> f64 {
        all.iter().filter(|(series, _)| series.starts_with(name)).map(|(_, value)| value).sum()
    };
    assert!((sum("tollgate_cache_requests_total{") - 3.0).abs() < 0.5);
    assert_eq!(world.metric("tollgate_dispatched_total{class=\"normal\"}"), Some(1.0));
    assert_eq!(world.metric("tollgate_cache_entries"), Some(1.0));
    let money = |name: &str, label: &str, value: &str| {
        let labels = format!("route=\"all\",model=\"gpt-4o-mini\",{label}=\"{value}\"");
        world.metric(&format!("{name}{{{labels}}}")).unwrap_or_default()
    };
    let spent = sum("tollgate_cost_microusd_total{");
    let saved = money("tollgate_saved_microusd_total", "how", "hit");
    assert!(spent > 0.0 && (saved - 2.0 * spent).abs() < 0.01, "spent {spent}, saved {saved}");
    assert_eq!(money("tollgate_tokens_total", "kind", "output"), 12.0);
}

#[tokio::test]
async fn order_white_space_and_the_spelling_of_a_number_are_no_part_of_a_question() {
    let world = content(json!({})).start().await;
    let spellings = [
        r#"{"model":"gpt-4o-mini","top_p":1,"messages":[{"role":"user","content":"caf\u00e9"}]}"#,
        r#"{"messages":[{"content":"café","role":"user"}],"top_p":1.0,"model":"gpt-4o-mini"}"#,
        "{ \"model\" : \"gpt-4o-mini\",\n \"top_p\": 10e-1, \"messages\": [ { \"role\":\"user\" , \"content\":\"café\" } ] }",
    ];
    let mut bodies = Vec::new();
    for spelling in spellings {
        bodies.push(post_raw(&world.client, CHAT, spelling).await.body);
    }
    assert_eq!(world.standin.counts().calls, 1);
    assert!(bodies.iter().all(|body| *body == bodies[0]));
}

#[tokio::test]
async fn what_differs_at_all_is_another_question() {
    let world = content(json!({})).start().await;
    let plain = r#""model":"gpt-4o-mini","messages":[{"role":"user","content":"a"}]"#;
    let questions = [
        format!("{{{plain}}}"),
        // One and the same to whoever reads numbers as doubles.
        format!(r#"{{{plain},"seed":9007199254740993}}"#),
        format!(r#"{{{plain},"seed":9007199254740992}}"#),
        format!(r#"{{{plain},"seed":"9007199254740992"}}"#),
        format!(r#"{{{plain},"seed":null}}"#),
        format!(r#"{{{plain},"nobody_knows_this":1}}"#),
        format!(r#"{{{plain},"nobody_knows_this":true}}"#),
        format!(r#"{{{plain},"metadata":{{"b":[1,2]}}}}"#),
        format!(r#"{{{plain},"metadata":{{"b":[2,1]}}}}"#),
        plain.replace("\"a\"", "\"A\"").replace("\"model\"", "{\"model\"") + "}",
        plain.replace("\"a\"", "\"a \"").replace("\"model\"", "{\"model\"") + "}",
        plain.replace("mini", "").replace("\"model\"", "{\"model\"") + "}",
    ];
    for question in &questions {
        let reply = post_raw(&world.client, CHAT, question).await;
        assert_eq!((reply.status.as_u16(), reply.cache_status()), (200, MISS), "{question}");
    }
    for question in &questions {
        assert_hit(&post_raw(&world.client, CHAT, question).await);
    }
}

#[tokio::test]
async fn what_cannot_be_told_apart_safely_passes_by() {
    let world = content(json!({}))
        .config(|settings| {
            settings.set("listeners.0.limits", json!({ "body": "1KiB" }));
        })
        .start()
        .await;
    let twice = r#"{"model":"a","model":"gpt-4o-mini","messages":[{"role":"user","content":"a"}]}"#;
    let stateful = json!({ "model": "gpt-4o", "input": "a", "previous_response_id": "r" });
    let long = chat(&"a".repeat(2048));
    let cases = [
        (CHAT, twice.to_owned(), "duplicate-member"),
        (CHAT, "{\"model\":".to_owned(), "not-json"),
        (CHAT, long.to_string(), "body-too-large"),
        ("/v1/responses", stateful.to_string(), "not-pure"),
        ("/echo", "{}".to_owned(), "not-pure"),
    ];
    for (path, body, why) in cases {
        for _ in 0..2 {
            assert_bypass(&post_raw(&world.client, path, &body).await, why);
        }
    }
    assert_bypass(&world.client.get("/v1/models").await, "not-pure");
    assert_eq!(world.standin.counts().calls, 11);
    let bypasses = "tollgate_cache_requests_total{route=\"all\",tier=\"none\",outcome=\"bypass\"}";
    assert_eq!(world.metric(bypasses), Some(11.0));
}

#[tokio::test]
async fn every_pure_call_of_both_dialects_is_cached() {
    let world = content(json!({})).start().await;
    let calls = [
        (CHAT, chat("a")),
        ("/v1/completions", json!({ "model": "gpt-4o-mini", "prompt": "a" })),
        ("/v1/responses", json!({ "model": "gpt-4o", "input": "a" })),
        ("/v1/embeddings", json!({ "model": "text-embedding-3-small", "input": "a" })),
        ("/v1/moderations", json!({ "model": "omni-moderation-latest", "input": "a" })),
        (MESSAGES, message("a")),
        ("/v1/messages/count_tokens", message("a")),
    ];
    for (path, question) in &calls {
        let first = world.client.post(path, question).await;
        let second = world.client.post(path, question).await;
        assert_eq!((first.status.as_u16(), first.cache_status()), (200, MISS), "{path}");
        assert_hit(&second);
        assert_eq!(first.body, second.body, "{path}");
    }
}

#[tokio::test]
async fn a_caller_may_ask_for_a_new_answer_which_then_is_everybodys() {
    let world = content(json!({})).start().await;
    let first = world.client.post(CHAT, &chat("a")).await;

    let again = world.client.post_with(CHAT, &[("cache-control", "no-cache")], &chat("a")).await;
    assert_eq!(again.cache_status(), MISS);
    assert_ne!(again.json()["id"], first.json()["id"]);

    let later = world.client.post(CHAT, &chat("a")).await;
    assert_hit(&later);
    assert_eq!(later.body, again.body);
}

#[tokio::test]
async fn no_store_neither_reads_nor_writes() {
    let world = content(json!({})).start().await;
    let no_store = [("cache-control", "no-store")];
    assert_bypass(&world.client.post_with(CHAT, &no_store, &chat("a")).await, "no-store");
    assert_miss(&world.client.post(CHAT, &chat("a")).await);
    assert_bypass(&world.client.post_with(CHAT, &no_store, &chat("a")).await, "no-store");
    assert_eq!(world.standin.counts().calls, 3);
}

#[tokio::test]
async fn only_if_cached_never_reaches_the_upstream() {
    let world = content(json!({})).start().await;
    let only = [("cache-control", "only-if-cached")];

    let refused = world.client.post_with(CHAT, &only, &chat("a")).await;
    assert_eq!(refused.refusal(), (504, "not_cached"));
    assert_eq!(refused.json()["error"]["code"], "not_cached");
    assert_eq!(world.standin.counts().calls, 0);
    assert_eq!(world.record().await.record.reason.name(), "not_cached");

    world.client.post(CHAT, &chat("a")).await;
    assert_hit(&world.client.post_with(CHAT, &only, &chat("a")).await);
    assert_eq!(world.standin.counts().calls, 1);
}

#[tokio::test]
async fn a_caller_says_how_old_and_how_fresh_an_answer_must_be() {
    let world = content(json!({})).start().await;
    let ask = async |wish: &str| {
        let wish = format!("{wish}, only-if-cached");
        let headers = [("cache-control", wish.as_str())];
        world.client.post_with(CHAT, &headers, &chat("a")).await.status.as_u16()
    };
    world.client.post(CHAT, &chat("a")).await;

    assert_eq!(ask("min-fresh=3000").await, 200);
    assert_eq!(ask("min-fresh=3700").await, 504);
    assert_eq!(ask("max-age=3600").await, 200);
    // Once it is a second old, it is too old for who takes none.
    until("an age of a second", || ask("max-age=0"), |status| *status == 504).await;
    assert_eq!(ask("max-age=3600").await, 200);
    assert_miss(&world.client.post_with(CHAT, &[("cache-control", "max-age=0")], &chat("a")).await);
}

#[tokio::test]
async fn only_a_finished_answer_is_kept() {
    let world = content(json!({})).start().await;
    let (whole, stream) = (chat("a"), streamed(&chat("b")));
    let (both, whole_only, stream_only) = ((true, true), (true, false), (false, true));
    let unstored = [
        (Fault::Fail(http::StatusCode::INTERNAL_SERVER_ERROR), both),
        (Fault::Fail(http::StatusCode::TOO_MANY_REQUESTS), both),
        // A stream that is refused so is asked for again, without its usage.
        (Fault::Fail(http::StatusCode::BAD_REQUEST), whole_only),
        (Fault::ErrorEvent, both),
        (Fault::ContentFilter, both),
        (Fault::Empty, both),
        (Fault::Unfinished, stream_only),
        (Fault::CutMidstream, both),
        (Fault::CutLength, whole_only),
        (Fault::BadJson, both),
        (Fault::Reset, both),
    ];
    for (fault, (wholes, streams)) in unstored {
        for (path, question) in [(CHAT, &whole), (CHAT, &stream), (MESSAGES, &message("c"))] {
            if if question["stream"] == true { !streams } else { !wholes } {
                continue;
            }
            world.standin.fault_next(fault, 1);
            let spoilt = world.client.post(path, question).await;
            assert!(spoilt.is_miss() || spoilt.status == 502, "{fault:?}: {spoilt:?}");
            assert!(!is_cached(&world.client, path, question).await, "{fault:?} {question}");
        }
    }
    // And without a fault all of them are kept.
    for (path, question) in [(CHAT, &whole), (CHAT, &stream), (MESSAGES, &message("c"))] {
        assert_miss(&world.client.post(path, question).await);
        assert!(is_cached(&world.client, path, question).await, "{question}");
    }
}

/// A finished answer, with further header fields.
fn finished(fields: &str) -> String {
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": "hi" },
            "finish_reason": "stop",
        }],
        "usage": { "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 },
    });
    let body = body.to_string();
    let len = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{fields}content-length: {len}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn of_the_upstreams_wishes_only_no_store_and_vary_count() {
    let cases = [
        ("", 1),
        ("cache-control: no-cache, max-age=0\r\n", 1),
        ("cache-control: private\r\nset-cookie: a=b\r\n", 1),
        ("vary: *\r\n", 2),
        ("cache-control: no-store\r\n", 2),
        ("cache-control: max-age=60, No-Store\r\n", 2),
        // Of one spelling only, whatever the caller accepts; this one is none it was asked for.
        ("content-encoding: gzip\r\n", 2),
    ];
    for (fields, calls) in cases {
        let upstream = Scripted::always(finished(fields)).await;
        let world = content(json!({})).upstream(upstream.url()).start().await;
        let first = world.client.post(CHAT, &chat("a")).await;
        let second = world.client.post(CHAT, &chat("a")).await;
        assert_eq!((first.status, &first.body), (second.status, &second.body), "{fields}");
        assert_eq!(upstream.seen().len(), calls, "{fields}: {second:?}");
        assert_miss(&first);
    }
}

#[tokio::test]
async fn what_was_said_to_one_caller_only_is_not_repeated_to_another() {
    let world = content(json!({})).start().await;
    for (path, question, id) in
        [(CHAT, chat("a"), "x-request-id"), (MESSAGES, message("a"), "request-id")]
    {
        let first = world.client.post(path, &question).await;
        let second = world.client.post(path, &question).await;
        assert_hit(&second);
        assert!(first.header(id).starts_with("req_"), "{first:?}");
        assert_ne!(first.header("set-cookie"), "");
        let kept: Vec<&str> = second.headers.keys().map(http::HeaderName::as_str).collect();
        let personal = |name: &&&str| {
            ["set-cookie", "x-standin-call", "openai-processing-ms"].contains(name)
                || name.contains("ratelimit")
                || name.contains("organization")
        };
        assert_eq!(kept.iter().find(personal), None, "{second:?}");
        // An id of our own, under the name that the dialect's SDK reads.
        assert!(!second.header(id).starts_with("req_"), "{second:?}");
        assert_eq!(second.header(id), second.header("x-request-id"));
        assert_ne!(second.header(id), "");
    }
}

#[tokio::test]
async fn an_answer_is_given_for_its_time_and_not_longer() {
    let world = content(json!({ "ttl": "1s" })).start().await;
    world.client.post(CHAT, &chat("a")).await;
    crate::cache_stage::cached_is(&world.client, &chat("a"), false).await;
    assert_miss(&world.client.post(CHAT, &chat("a")).await);
    assert_hit(&world.client.post(CHAT, &chat("a")).await);
}

#[tokio::test]
async fn memory_is_bounded_in_bytes_and_gives_way_to_new_answers() {
    const SIZE: f64 = 1024.0 * 1024.0;
    let options = Options { answer: AnswerLength::Bytes(16 * 1024), ..Options::default() };
    let world = content(json!({}))
        .standin(options)
        .config(|settings| {
            settings.set("cache.memory.size", json!("1MiB"));
        })
        .start()
        .await;
    for n in 0..150 {
        let reply = world.client.post(CHAT, &chat(&format!("question {n}"))).await;
        assert_eq!(reply.cache_status(), MISS);
        let bytes = world.metric("tollgate_cache_bytes").unwrap();
        assert!(bytes <= SIZE, "{bytes} after {n}");
    }
    let entries = world.metric("tollgate_cache_entries").unwrap();
    let bytes = world.metric("tollgate_cache_bytes").unwrap();
    let evicted = world.metric("tollgate_cache_evictions_total{cause=\"size\"}").unwrap();
    assert!(bytes > SIZE / 2.0, "{bytes}: room that is never used");
    assert!(bytes >= entries * 16.0 * 1024.0, "{bytes} for {entries}: bodies are not counted");
    assert!((entries + evicted - 150.0).abs() < 0.5, "{entries} kept, {evicted} evicted");
}

#[tokio::test]
async fn an_answer_is_kept_under_the_version_of_the_model_that_gave_it() {
    let options = Options { model_version: Some("v1".to_owned()), ..Options::default() };
    let world = content(json!({})).standin(options).start().await;
    // Before the first answer no version is known, and the first is kept all the same.
    let first = world.client.post(CHAT, &chat("a")).await;
    assert_eq!(first.cache_status(), MISS);
    assert_hit(&world.client.post(CHAT, &chat("a")).await);

    world.standin.set_model_version(Some("v2"));
    assert_hit(&world.client.post(CHAT, &chat("a")).await);
    // Any answer tells of the new version; the old one's are not given any more.
    world.client.post(CHAT, &chat("b")).await;
    let second = world.client.post(CHAT, &chat("a")).await;
    assert_miss(&second);
    assert_ne!(second.json()["choices"], first.json()["choices"]);
    let hit = world.client.post(CHAT, &chat("a")).await;
    assert_hit(&hit);
    assert_eq!((&hit.body, hit.header("x-model-version")), (&second.body, "v2"));
    for (reply, version) in [(&first, "v1"), (&second, "v2"), (&hit, "v2")] {
        assert_eq!(record_of(&world, reply).await.words[8], version);
    }
}

#[tokio::test]
async fn while_two_versions_alternate_only_the_newer_is_kept() {
    let options = Options { model_version: Some("v1".to_owned()), ..Options::default() };
    let world = content(json!({})).standin(options).start().await;
    world.client.post(CHAT, &chat("a")).await;
    world.standin.set_model_version(Some("v2"));
    world.client.post(CHAT, &chat("b")).await;

    for round in 0..3 {
        let question = chat(&format!("round {round}"));
        world.standin.set_model_version(Some("v1"));
        let old = world.client.post(CHAT, &question).await;
        assert_eq!(old.cache_status(), "tollgate; fwd=miss", "{old:?}");
        world.standin.set_model_version(Some("v2"));
        assert_eq!(world.client.post(CHAT, &question).await.cache_status(), MISS);
        // An answer of the old one does not move the epoch back.
        world.standin.set_model_version(Some("v1"));
        assert_hit(&world.client.post(CHAT, &question).await);
    }
    // What the old version answered before is not given either.
    assert_miss(&world.client.post(CHAT, &chat("a")).await);
}

#[tokio::test]
async fn a_version_set_by_the_operator_is_what_counts() {
    let options = Options { model_version: Some("v1".to_owned()), ..Options::default() };
    let mut world = content(json!({}))
        .standin(options)
        .config(|settings| {
            let version = json!({ "from": "static", "value": "2026-11" });
            settings.set("upstreams.model.model_version", version);
        })
        .start()
        .await;
    world.client.post(CHAT, &chat("a")).await;
    world.standin.set_model_version(Some("v2"));
    world.client.post(CHAT, &chat("b")).await;
    assert_hit(&world.client.post(CHAT, &chat("a")).await);

    let reloaded = world.reload(|settings| {
        settings.set("upstreams.model.model_version.value", json!("2026-12"));
    });
    assert_eq!(reloaded, Ok(Vec::new()));
    assert_miss(&world.client.post(CHAT, &chat("a")).await);
}

#[tokio::test]
async fn an_error_of_the_upstream_says_nothing_of_the_version() {
    let options = Options { model_version: Some("v1".to_owned()), ..Options::default() };
    let world = content(json!({})).standin(options).start().await;
    world.client.post(CHAT, &chat("a")).await;
    world.standin.set_model_version(Some("broken"));
    world.standin.fault_next(Fault::Fail(http::StatusCode::SERVICE_UNAVAILABLE), 1);
    assert_eq!(world.client.post(CHAT, &chat("b")).await.status, 503);
    assert_hit(&world.client.post(CHAT, &chat("a")).await);
}

#[tokio::test]
async fn a_route_that_says_off_and_a_plain_route_keep_nothing() {
    let world = World::new().await;
    for _ in 0..2 {
        assert_bypass(&world.client.post(CHAT, &chat("a")).await, "off");
    }
    assert_eq!(world.standin.counts().calls, 2);
}

#[tokio::test]
async fn with_dialect_http_the_route_is_the_list_and_bytes_are_the_question() {
    let world = content(json!({}))
        .config(|settings| {
            settings.set("routes.0.dialect", json!("http"));
        })
        .start()
        .await;
    let query = Method::from_bytes(b"QUERY").unwrap();
    for method in [Method::POST, query] {
        let ask =
            async |body: &'static str| world.client.send(method.clone(), "/echo", &[], body).await;
        assert_eq!(ask("a=1").await.cache_status(), MISS, "{method}");
        assert_hit(&ask("a=1").await);
        assert_eq!(ask("a=1 ").await.cache_status(), MISS, "{method}");
    }
    let with_id = with(&Value::Object(Default::default()), json!({ "id": 7 }));
    assert_bypass(
        &world.client.send(Method::PUT, "/echo", &[], with_id.to_string()).await,
        "not-pure",
    );
}
