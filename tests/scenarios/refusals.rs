//! A refusal says why, in the words of the caller's dialect, and whether to try again.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::net::TcpListener;
use tokio::task::JoinSet;
use tollgate_tests::{
    CHAT, Client, Reply, Scripted, World, chat,
    standin::{Gate, Options},
};

const MESSAGES: &str = "/v1/messages";

/// What a refusal says to a client that reads the body.
#[derive(Clone, Copy)]
struct Told {
    host: &'static str,
    status: u16,
    reason: &'static str,
    openai: &'static str,
    anthropic: &'static str,
    /// `x-should-retry: false`.
    never_again: bool,
    /// `retry-after`.
    later: bool,
}

#[rustfmt::skip] // a table
const TABLE: [Told; 7] = [
    Told { host: "nowhere.test",     status: 404, reason: "no_route",             openai: "invalid_request_error", anthropic: "not_found_error",   never_again: true,  later: false },
    Told { host: "unreachable.test", status: 502, reason: "upstream_unreachable", openai: "server_error",          anthropic: "api_error",         never_again: false, later: false },
    Told { host: "reset.test",       status: 502, reason: "upstream_reset",       openai: "server_error",          anthropic: "api_error",         never_again: false, later: false },
    Told { host: "garbage.test",     status: 502, reason: "upstream_protocol",    openai: "server_error",          anthropic: "api_error",         never_again: false, later: false },
    Told { host: "silent.test",      status: 504, reason: "upstream_timeout",     openai: "server_error",          anthropic: "timeout_error",     never_again: false, later: false },
    Told { host: "small.test",       status: 413, reason: "body_too_large",       openai: "invalid_request_error", anthropic: "request_too_large", never_again: true,  later: false },
    Told { host: "full.test",        status: 429, reason: "queue_full",           openai: "rate_limit_error",      anthropic: "rate_limit_error",  never_again: false, later: true  },
];

/// A world where the host decides how a call fails.
async fn world(gate: &Gate) -> World {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let reset = Scripted::once("").await.url();
    let garbage = Scripted::once("garbage\r\n\r\n").await.url();
    let silent = Scripted::start(|mut line| async move {
        line.request().await;
        line.wire.closed().await;
    })
    .await
    .url();
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    World::builder()
        .standin(options)
        .config(move |yaml| {
            let own = yaml.get("upstreams.model.endpoints.0.url");
            for (name, url) in [
                ("unreachable", json!(format!("http://{closed}"))),
                ("reset", json!(reset)),
                ("garbage", json!(garbage)),
                ("silent", json!(silent)),
                ("small", own.clone()),
                ("full", own),
            ] {
                yaml.set(&format!("upstreams.{name}"), json!({ "endpoints": [{ "url": url }] }));
                let host = format!("{name}.test");
                yaml.route_first(
                    json!({ "name": name, "upstream": name, "match": { "host": host }, "cache": "off" }),
                );
            }
            yaml.set("routes.1.max_body", json!("1KiB"));
            yaml.set("routes.6.match", json!({ "host": "plain.test" }));
            yaml.set("upstreams.silent.timeouts", json!({ "first_byte": "100ms" }));
            yaml.set("upstreams.full.concurrency", json!({ "limit": 1 }));
            yaml.set("classes", json!([{ "name": "normal", "queue": 0, "default": true }]));
        })
        .start()
        .await
}

async fn ask(world: &World, path: &str, told: &Told) -> Reply {
    let body = if told.reason == "body_too_large" { 4096 } else { 8 };
    let headers =
        [("host", told.host), ("content-type", "application/json"), ("x-request-id", "mine")];
    world.client.send(Method::POST, path, &headers, vec![b' '; body]).await
}

#[track_caller]
fn check(reply: &Reply, told: &Told) {
    assert_eq!(reply.refusal(), (told.status, told.reason), "{reply:?}");
    let never = if told.never_again { "false" } else { "" };
    assert_eq!(reply.header("x-should-retry"), never, "{reply:?}");
    assert_eq!(reply.header("retry-after").is_empty(), !told.later, "{reply:?}");
    assert_eq!(reply.header("x-request-id"), "mine");
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(reply.header("tollgate-record").len(), 36, "{reply:?}");
}

#[tokio::test]
async fn a_refusal_speaks_the_dialect_of_the_caller() {
    let gate = Gate::heads();
    let world = world(&gate).await;
    let mut tasks = JoinSet::new();
    let holder = Client::new(world.addr());
    tasks.spawn(async move {
        holder.post_with(CHAT, &[("host", "full.test")], &chat("holds the place")).await.status
    });
    world.provider("the call that holds the place", |counts| counts.in_flight == 1).await;

    for told in &TABLE {
        let reply = ask(&world, CHAT, told).await;
        check(&reply, told);
        let said = reply.json();
        assert_eq!(said["error"]["type"], told.openai, "{said}");
        assert_eq!(said["error"]["code"], told.reason, "{said}");
        assert_eq!(said["error"]["param"], Value::Null);
        assert!(said["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{said}");
        assert_eq!(reply.header("content-type"), "application/json");

        let reply = ask(&world, MESSAGES, told).await;
        check(&reply, told);
        let said = reply.json();
        assert_eq!(
            (&said["type"], &said["request_id"]),
            (&json!("error"), &json!("mine")),
            "{said}"
        );
        assert_eq!(said["error"]["type"], told.anthropic, "{said}");

        let reply = ask(&world, "/plain", told).await;
        check(&reply, told);
        assert_eq!(reply.header("content-type"), "application/problem+json");
        let said = reply.json();
        assert_eq!((&said["status"], &said["code"]), (&json!(told.status), &json!(told.reason)));
    }
    gate.open();
    assert_eq!(tasks.join_next().await.unwrap().unwrap(), StatusCode::OK);

    let mut wanted: Vec<&str> = TABLE.iter().flat_map(|told| [told.reason; 3]).collect();
    wanted.push("none");
    wanted.sort_unstable();
    let records = world.records().await;
    let mut written: Vec<&str> = records.iter().map(|record| record.record.reason.name()).collect();
    written.sort_unstable();
    assert_eq!(written, wanted, "each refusal is a record");
    for told in &TABLE {
        let sum: f64 = world
            .metrics()
            .iter()
            .filter(|(series, _)| {
                let reason = format!("reason=\"{}\"", told.reason);
                series.starts_with("tollgate_rejected_total{") && series.contains(&reason)
            })
            .map(|(_, count)| count)
            .sum();
        assert!(sum.total_cmp(&3.0).is_eq(), "{}: {sum}", told.reason);
    }
}

#[tokio::test]
async fn a_refusal_of_a_head_has_no_body() {
    let world =
        World::builder().set("routes.0.match", json!({ "path_prefix": "/v1" })).start().await;
    let mut wire = world.wire().await;
    wire.send("HEAD /none HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(wire.reply_to("HEAD").await.refusal(), (404, "no_route"));
    let next = wire.ask("GET /none HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(next.refusal(), (404, "no_route"), "the connection goes on");
}

#[tokio::test]
async fn no_turn_within_max_wait_is_a_refusal_that_says_to_come_again() {
    let gate = Gate::heads();
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let world = World::builder()
        .standin(options)
        .config(|yaml| {
            yaml.set("upstreams.model.concurrency", json!({ "limit": 1 }));
            let class = json!({ "name": "normal", "max_wait": "100ms", "default": true });
            yaml.set("classes", json!([class]));
        })
        .start()
        .await;
    let mut tasks = JoinSet::new();
    let holder = Client::new(world.addr());
    tasks.spawn(async move { holder.post(CHAT, &chat("holds")).await.status });
    world.provider("the call that holds the place", |counts| counts.in_flight == 1).await;

    let reply = world.client.post(CHAT, &chat("waits")).await;
    assert_eq!(reply.refusal(), (429, "queue_timeout"));
    assert_ne!(reply.header("retry-after"), "");
    gate.open();
    assert_eq!(tasks.join_next().await.unwrap().unwrap(), StatusCode::OK);
}

#[tokio::test]
async fn an_error_of_the_upstream_is_not_a_refusal() {
    let world = World::new().await;
    for (model, status) in [("fail-400", 400), ("fail-429", 429), ("fail-503", 503)] {
        let mut question = chat("x");
        question["model"] = json!(model);
        let reply = world.client.post(CHAT, &question).await;
        assert_eq!(reply.refusal(), (status, ""), "{reply:?}");
    }
}
