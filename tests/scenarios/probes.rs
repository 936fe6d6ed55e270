//! What orchestrators and scrapers ask, on the telemetry address, without a token.

use http::{Method, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;
use tollgate_tests::{
    CHAT, Client, World, chat,
    standin::{Gate, Options},
    until,
};

#[tokio::test]
async fn a_running_process_is_live_and_ready_whatever_its_upstream_does() {
    let world = World::before("http://127.0.0.1:1").await;
    for path in ["/livez", "/readyz"] {
        let reply = world.telemetry.get(path).await;
        assert_eq!((reply.status, reply.text().as_str()), (StatusCode::OK, "ok\n"), "{path}");
        assert_eq!(reply.header("cache-control"), "no-store");
    }
    assert_eq!(world.client.get("/x").await.status, StatusCode::BAD_GATEWAY);
    assert_eq!(world.telemetry.get("/readyz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_telemetry_address_answers_nothing_else() {
    let world = World::new().await;
    assert_eq!(world.telemetry.get("/api/usage").await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.telemetry.get("/v1/models").await.status, StatusCode::NOT_FOUND);
    let posted = world.telemetry.send(Method::POST, "/metrics", &[], "x").await;
    assert_eq!(posted.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(world.standin.counts().calls, 0);
}

#[tokio::test]
async fn the_callers_address_has_no_probes_of_its_own() {
    let world = World::new().await;
    for path in ["/livez", "/readyz", "/metrics", "/wait-for-drain", "/api/usage"] {
        world.client.get(path).await;
        let passed_on = world.standin.last_requests().pop().map(|seen| seen.target);
        assert_eq!(passed_on.as_deref(), Some(path), "as any other path");
    }
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let world = World::new().await;
    world.client.post(CHAT, &chat("x")).await;
    let classic = world.telemetry.get("/metrics").await;
    assert_eq!(classic.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(!classic.text().contains("# EOF"));

    let accept = [("accept", "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    let open = world.telemetry.send(Method::GET, "/metrics", &accept, "").await;
    assert!(open.header("content-type").starts_with("application/openmetrics-text"), "{open:?}");
    assert!(open.text().ends_with("# EOF\n"));
    for text in [classic.text(), open.text()] {
        for series in ["request_queue_length 0", "request_concurrency 0", "request_inflight 0"] {
            assert!(text.lines().any(|line| line == series), "{series} is missing:\n{text}");
        }
        assert!(!text.contains("NaN"), "{text}");
        assert!(text.contains("tollgate_requests_total{"));
    }
}

#[tokio::test]
async fn autoscaling_series_tell_what_waits_and_what_runs() {
    let gate = Gate::heads();
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let world = World::builder()
        .standin(options)
        .set("upstreams.model.concurrency", json!({ "limit": 2 }))
        .start()
        .await;
    let mut tasks = JoinSet::new();
    for turn in 0..5 {
        let client = Client::new(world.addr());
        tasks.spawn(async move { client.post(CHAT, &chat(&format!("{turn}"))).await.status });
    }
    world.provider("two calls", |counts| counts.in_flight == 2).await;
    for (series, value) in [
        ("request_queue_length", 3.0),
        ("request_inflight", 2.0),
        ("request_concurrency", 5.0),
        ("concurrency_limit", 2.0),
        ("tollgate_queue_length{class=\"normal\"}", 3.0),
    ] {
        world.metric_when(series, value).await;
    }
    gate.open();
    assert_eq!(tasks.join_all().await, [StatusCode::OK; 5]);
    world.metric_when("request_concurrency", 0.0).await;
    assert_eq!(world.standin.counts().limit_exceeded, 0);
}

/// Goal: `preStop` may wait for the drain; if no SIGTERM follows, the instance is back.
#[tokio::test]
async fn wait_for_drain_fails_readiness_waits_and_is_undone() {
    let gate = Gate::heads();
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let world = World::builder().standin(options).start().await;
    let mut calls = JoinSet::new();
    let caller = world.client.clone();
    calls.spawn(async move { caller.post(CHAT, &chat("in flight")).await.status });
    world.provider("the call", |counts| counts.in_flight == 1).await;

    let mut waits = JoinSet::new();
    let kubelet = Client::new(world.app.addresses().metrics);
    waits.spawn(async move { kubelet.get("/wait-for-drain").await.text() });
    let ready = || async { world.telemetry.get("/readyz").await.status };
    until("readiness to fail", ready, |status| *status == 503).await;
    assert_eq!(world.telemetry.get("/livez").await.status, StatusCode::OK);
    assert!(waits.try_join_next().is_none(), "it answered before the call had ended");
    let late = Client::new(world.addr()).get("/health").await;
    assert_eq!(late.status, StatusCode::OK, "new calls are still served");

    gate.open();
    assert_eq!(calls.join_next().await.unwrap().unwrap(), StatusCode::OK);
    let waited = tollgate_tests::within("the drain", waits.join_next()).await.unwrap().unwrap();
    assert_eq!(waited, "drained\n");
    until("readiness to come back", ready, |status| *status == 200).await;
}
