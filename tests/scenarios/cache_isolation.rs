//! What one caller sends never makes what another is given, and what was asked lies nowhere but in
//! the answer. (Made-up callers by the thousand: `isolation` in the proxy's own tests.)

use crate::{
    cache_redis::detail,
    cache_stage::{CHAT, Told, assert_hit, assert_miss, chat, content},
};
use http::Method;
use rustix::process::Signal;
use serde_json::json;
use std::{fs, path::Path};
use tollgate_tests::{Client, Process, Reply, Scripted, Settings, World, WorldBuilder, until};

const JSON: (&str, &str) = ("content-type", "application/json");
const ONE: (&str, &str) = ("authorization", "Bearer one");
const OTHER: (&str, &str) = ("authorization", "Bearer other");

async fn ask(world: &World, headers: &[(&str, &str)]) -> Reply {
    let body = chat("a").to_string();
    world.client.send(Method::POST, CHAT, headers, body).await
}

/// Asked with these fields beside, and then without them.
async fn asked_with(world: &World, caller: &[(&str, &str)], field: (&str, &str)) -> Reply {
    let mut headers = caller.to_vec();
    headers.push(field);
    assert_miss(&ask(world, &headers).await);
    assert_hit(&ask(world, &headers).await);
    ask(world, caller).await
}

#[tokio::test]
async fn a_field_that_overrules_the_request_line_makes_nobody_elses_answer() {
    for field in [
        ("x-http-method-override", "DELETE"),
        ("x-http-method", "GET"),
        ("X-Method-Override", "PUT"),
        ("x-original-url", "/v1/embeddings"),
        ("x-rewrite-url", "/admin"),
        ("x-envoy-original-path", "/v1/moderations"),
    ] {
        let world = content(json!({})).start().await;
        assert_miss(&asked_with(&world, &[JSON, ONE], field).await);
        // Nor is it another's by way of the same field.
        assert_miss(&ask(&world, &[JSON, OTHER, field]).await);
    }
}

/// Goal: whoever has no reason to trust the others is not sent where they wish.
#[tokio::test]
async fn where_everybody_shares_nobody_chooses_the_place_for_the_others() {
    let fields = [
        ("host", "evil.example"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-port", "1"),
        ("x-forwarded-prefix", "/evil"),
        ("x-forwarded-scheme", "gopher"),
        ("x-forwarded-ssl", "on"),
        ("forwarded", "host=evil.example"),
        ("x-host", "evil.example"),
        ("x-original-host", "evil.example"),
    ];
    for field in fields {
        let sent_on = |world: WorldBuilder| world.set("upstreams.model.host", json!("preserve"));
        let shared = sent_on(content(json!({ "scope": "shared" }))).start().await;
        assert_miss(&asked_with(&shared, &[JSON, ONE], field).await);
        // All who have no name are one tenant.
        let nameless = sent_on(content(json!({}))).start().await;
        assert_miss(&asked_with(&nameless, &[JSON], field).await);
        // A tenant's own fields are its own.
        let tenant = content(json!({})).start().await;
        assert_hit(&asked_with(&tenant, &[JSON, ONE], field).await);
        assert_miss(&ask(&tenant, &[JSON, OTHER, field]).await);
    }
}

#[tokio::test]
async fn a_body_that_is_not_said_to_be_plain_json_is_another_question() {
    let world = content(json!({})).start().await;
    assert_miss(&ask(&world, &[ONE, ("content-type", "text/plain")]).await);
    assert_miss(&ask(&world, &[ONE, ("content-type", "application/json; charset=utf-16")]).await);
    assert_miss(&ask(&world, &[ONE, JSON]).await);
    assert_hit(&ask(&world, &[ONE, ("content-type", "Application/JSON; charset=utf-8")]).await);
}

/// Goal: a stranger's call that a service refuses for want of a `content-type` is nobody else's.
#[tokio::test]
async fn where_everybody_shares_a_body_of_no_kind_is_another_question() {
    for (policy, caller) in [(json!({ "scope": "shared" }), &[ONE][..]), (json!({}), &[])] {
        let world = content(policy).start().await;
        assert_miss(&ask(&world, caller).await);
        assert_miss(&ask(&world, &[caller, &[JSON]].concat()).await);
        for own in [caller, &[caller, &[JSON]].concat()] {
            assert_hit(&ask(&world, own).await);
        }
    }
    let world = content(json!({})).start().await;
    assert_miss(&ask(&world, &[ONE]).await);
    assert_hit(&ask(&world, &[ONE, JSON]).await);
}

/// An answer that says to depend on a credential is kept only where its tenant is made of it.
#[tokio::test]
async fn an_answer_by_cookie_goes_to_nobody_else_who_has_the_same_key() {
    let body = r#"{"model":"m","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#;
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nvary: Cookie\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let upstream = Scripted::always(answer).await;
    let world = content(json!({})).upstream(upstream.url()).start().await;
    for cookie in [("cookie", "session=ann"), ("cookie", "session=bob")] {
        assert_miss(&ask(&world, &[JSON, ONE, cookie]).await);
    }
    assert_miss(&ask(&world, &[JSON, ("cookie", "session=ann")]).await);
    assert_hit(&ask(&world, &[JSON, ("cookie", "session=ann")]).await);
    assert_miss(&ask(&world, &[JSON, ("cookie", "session=bob")]).await);
    assert_eq!(upstream.seen().len(), 4);
}

#[tokio::test]
async fn forwarded_fields_of_a_peer_that_is_not_trusted_do_not_reach_the_service() {
    let names = ["port", "prefix", "scheme", "server", "ssl", "host", "proto"];
    for (trusted, arrives) in [("10.0.0.0/8", false), ("127.0.0.0/8", true)] {
        let world = World::builder().set("listeners.0.trusted", json!([trusted])).start().await;
        for name in names {
            let name = format!("x-forwarded-{name}");
            let reply = world.client.send(Method::GET, "/echo", &[(&name, "claimed")], "").await;
            let said = reply.echoed(&name).contains(&"claimed".to_owned());
            assert_eq!(said, arrives, "{name} {trusted}");
        }
    }
}

/// All that lies under a directory: names, and what is in them.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for one in fs::read_dir(dir).unwrap() {
        let path = one.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        }
        let bytes = if path.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
        found.push((path.display().to_string(), bytes));
    }
    found
}

/// Goal: keys, logs and numbers hold no content. Method: the most talkative level (it has all lines
/// of the others), every kind of end, and a look at all that a process says and leaves.
#[tokio::test]
async fn what_was_asked_and_by_whom_is_in_no_log_no_number_and_no_name() {
    const QUESTION: &str = "zebra-question";
    const CREDENTIAL: &str = "zebra-credential";
    const USER: &str = "zebra-user";
    let world = World::new().await;
    let mut settings = Settings::new(&world.standin.url(), &world.dir().join("process-data"));
    let cache = json!({
        "mode": "content", "tiers": ["memory", "disk"], "scope": "user",
        "key": { "include_headers": ["x-kb"] }, "tags": ["kb:{header.x-kb}"],
    });
    settings
        .set("telemetry.logs", json!({ "level": "trace", "access": true }))
        .set("identity.user", json!({ "header": "x-user" }))
        .set("cache.disk", json!({ "timeout": "5s" }))
        .set("cache.trace", json!({}))
        .set("upstreams.gone", json!({ "endpoints": [{ "url": "http://127.0.0.1:9" }] }))
        .set("routes.0.cache", cache);
    settings.route_first(json!({
        "name": "gone", "match": { "path": "/v1/embeddings" }, "upstream": "gone",
        "cache": { "mode": "content" },
    }));
    let mut process = Process::start(world.dir(), &settings).await;
    process.says("the disk tier is up").await;
    let client = Client::new(process.addr);
    let bearer = format!("Bearer {CREDENTIAL}");
    let headers = [
        JSON,
        ("authorization", &*bearer),
        ("x-user", USER),
        ("x-kb", "one"),
        ("cookie", CREDENTIAL),
    ];
    let query = format!("{CHAT}?key={CREDENTIAL}");
    let body = chat(QUESTION).to_string();
    for (path, body, status) in [
        (CHAT, body.clone(), 200),
        (CHAT, body.clone(), 200),
        (&*query, body.clone(), 200),
        ("/v1/embeddings", body.clone(), 502),
        (CHAT, format!("{{\"{QUESTION}\": nothing"), 400),
        ("/../up", body.clone(), 400),
    ] {
        let reply = client.send(Method::POST, path, &headers, body).await;
        assert_eq!(reply.status.as_u16(), status, "{path} {reply:?}");
    }
    let telemetry = Client::new(process.metrics).get("/metrics").await.text();
    let stats = Client::new(process.admin).get("/api/cache/stats").await.text();
    process.signal(Signal::TERM);
    assert!(process.gone().await.success());

    let log = process.log().join("\n");
    assert!(log.contains("\"level\":\"TRACE\"") || log.contains("\"level\":\"DEBUG\""), "{log}");
    for said in [&log, &telemetry, &stats] {
        for marker in [QUESTION, CREDENTIAL, USER] {
            assert!(!said.contains(marker), "{marker} in {said}");
        }
    }
    let left = files(&world.dir().join("process-data"));
    for kind in ["cache/entries", "trace/current"] {
        assert!(left.iter().any(|(name, _)| name.contains(kind)), "{kind}: {left:?}");
    }
    for (name, bytes) in left {
        let text = String::from_utf8_lossy(&bytes);
        for marker in [CREDENTIAL, QUESTION] {
            assert!(!name.contains(marker) && !text.contains(marker), "{marker} in {name}");
        }
        // The ledger is there to say whose call it was.
        let says_who = !name.contains("/cache/") && !name.contains("/trace/");
        assert!(!name.contains(USER) && (says_who || !text.contains(USER)), "{name}");
    }
}

/// The answer of one is not found by the other in any tier, whatever they send alike.
#[tokio::test]
async fn a_tier_that_outlives_the_process_keeps_callers_apart_too() {
    let world = content(json!({ "tiers": ["disk"], "writes": "through" }))
        .set("cache.disk", json!({ "timeout": "5s" }))
        .start()
        .await;
    // The tier opens beside the calls.
    let look = async || ask(&world, &[JSON, ONE]).await;
    let again = until("an answer on the disk", look, Told::is_hit).await;
    assert_eq!(detail(&again), "disk");
    assert_miss(&ask(&world, &[JSON, OTHER]).await);
}
