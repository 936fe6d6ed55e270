//! Nobody waits for ever: for the upstream, for its next byte, or beyond a deadline.
//!
//! The scenarios wait for the proxy to give up; that it does before the harness's own
//! patience ends is what they show. The proxy's other time-outs are minutes long.

use http::StatusCode;
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time,
};
use tollgate_tests::{
    CHAT, Client, World, chat, chat_stream,
    standin::{Fault, Gate, Options},
};

async fn world(timeouts: Value) -> World {
    World::builder().set("upstreams.model.timeouts", timeouts).start().await
}

/// A listener whose queue is full: the kernel answers no more SYNs.
async fn deaf() -> (SocketAddr, tokio::net::TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    let patience = Duration::from_millis(300);
    while let Ok(stream) = time::timeout(patience, TcpStream::connect(addr)).await {
        queued.push(stream.unwrap());
    }
    (addr, listener, queued)
}

#[tokio::test]
async fn an_upstream_that_does_not_take_the_connection_is_given_up() {
    let (addr, _listener, _queued) = deaf().await;
    let world = World::builder()
        .upstream(format!("http://{addr}"))
        .set("upstreams.model.timeouts.connect", json!("100ms"))
        .start()
        .await;
    assert_eq!(world.client.get("/x").await.refusal(), (502, "upstream_unreachable"));
}

#[tokio::test]
async fn an_upstream_that_does_not_begin_to_answer_is_given_up() {
    let world = world(json!({ "first_byte": "100ms" })).await;
    world.standin.fault_next(Fault::Hang, 1);
    let reply = world.client.post(CHAT, &chat("x")).await;
    assert_eq!(reply.refusal(), (504, "upstream_timeout"));
    world.provider("the hang-up", |counts| counts.aborted == 1).await;
    assert_eq!(world.record().await.record.reason.name(), "upstream_timeout");
}

#[tokio::test]
async fn an_answer_that_stops_in_the_middle_is_cut() {
    for timeouts in [json!({ "idle": "100ms" }), json!({ "total": "300ms" })] {
        let world = world(timeouts).await;
        world.standin.fault_next(Fault::Stall, 2);
        for client in [world.client.clone(), Client::h2(world.addr()).await] {
            let reply = client.post(CHAT, &chat_stream("x")).await;
            assert!(reply.cut && reply.status == StatusCode::OK, "{reply:?}");
            assert!(reply.text().starts_with("data: "), "what came before was handed on");
        }
        world.provider("the hang-ups", |counts| counts.aborted == 2).await;
        for record in world.records_when(2).await {
            assert_eq!(record.record.reason.name(), "upstream_timeout");
            assert_eq!(record.record.quality.name(), "partial");
        }
    }
}

/// Goal: a stream that goes on is not cut, however long it takes in all.
/// Method: twelve events, each well within the idle time-out, together far beyond it.
#[tokio::test]
async fn an_answer_that_goes_on_is_not_cut() {
    let options = Options { token_delay: Duration::from_millis(100), ..Options::default() };
    let world = World::builder()
        .standin(options)
        .set("upstreams.model.timeouts.idle", json!("600ms"))
        .start()
        .await;
    let reply = world.client.post(CHAT, &chat_stream("goes on")).await;
    assert!(!reply.cut && reply.text().ends_with("data: [DONE]\n\n"), "{}", reply.text());
}

#[tokio::test]
async fn a_deadline_of_the_caller_is_kept() {
    let world = World::new().await;
    for (name, value) in [
        ("tollgate-timeout", "100ms"),
        ("grpc-timeout", "100m"),
        ("x-envoy-expected-rq-timeout-ms", "100"),
        ("x-stainless-read-timeout", "0.1"),
    ] {
        world.standin.fault_next(Fault::Hang, 1);
        let reply = world.client.post_with(CHAT, &[(name, value)], &chat("x")).await;
        assert_eq!(reply.refusal(), (504, "upstream_timeout"), "{name}");
    }
    world.provider("the hang-ups", |counts| counts.aborted == 4).await;
}

#[tokio::test]
async fn a_deadline_holds_in_the_queue_too() {
    let gate = Gate::heads();
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let world = World::builder()
        .standin(options)
        .set("upstreams.model.concurrency", json!({ "limit": 1 }))
        .start()
        .await;
    let mut tasks = JoinSet::new();
    let first = Client::new(world.addr());
    tasks.spawn(async move { first.post(CHAT, &chat("first")).await.status });
    world.provider("the first call", |counts| counts.in_flight == 1).await;

    let headers = [("tollgate-timeout", "100ms")];
    let reply = world.client.post_with(CHAT, &headers, &chat("second")).await;
    assert_eq!(reply.refusal(), (504, "deadline_unmeetable"));

    gate.open();
    assert_eq!(tasks.join_next().await.unwrap().unwrap(), StatusCode::OK);
    assert_eq!(world.standin.counts().calls, 1, "nothing of the second was sent");
}
