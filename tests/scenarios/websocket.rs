//! A WebSocket is one call: it passes both ways, holds its place for as long as it is
//! open, and is written when it ends, however it ends.

use serde_json::json;
use std::time::Duration;
use tokio::task::JoinSet;
use tollgate_ledger::Reader;
use tollgate_tests::{Client, Scripted, Wire, World, within};

const ASK: &str = "GET /socket?room=1 HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\n\
                   upgrade: WebSocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   sec-websocket-version: 13\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\
                      upgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Greets with five bytes in the same piece as the 101, then gives back what it gets.
/// What is not asked to become a socket is answered `ok`.
async fn echo() -> Scripted {
    Scripted::start(|mut line| async move {
        while let Some(seen) = line.request().await {
            if seen.fields("upgrade").is_empty() {
                line.wire.send(OK).await;
                continue;
            }
            line.wire.send(format!("{SWITCH}hello")).await;
            while line.wire.any().await {
                let byte = line.wire.take(1).await;
                line.wire.send(byte).await;
            }
            return;
        }
    })
    .await
}

/// An open socket whose greeting was read.
async fn open(world: &World) -> Wire {
    let mut wire = world.wire().await;
    wire.send(ASK).await;
    let reply = wire.reply().await;
    assert_eq!(reply.status, 101, "{reply:?}");
    assert_eq!(wire.take(5).await, b"hello");
    wire
}

#[tokio::test]
async fn bytes_pass_both_ways_and_the_record_is_written_at_the_end() {
    let upstream = echo().await;
    let world = World::builder()
        .upstream(upstream.url())
        .set("routes.0.cache", json!({ "mode": "http" }))
        .start()
        .await;
    let mut wire = world.wire().await;
    wire.send(ASK).await;
    let reply = wire.reply().await;

    assert_eq!((reply.status, reply.header("upgrade")), (101, "websocket"), "{reply:?}");
    assert_eq!(reply.fields("connection"), ["upgrade"]);
    assert_eq!(reply.header("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(reply.header("cache-status"), "tollgate; fwd=bypass; detail=upgrade");
    let seen = upstream.only();
    assert_eq!(seen.line(), "GET /socket?room=1 HTTP/1.1");
    assert_eq!(
        (seen.fields("connection"), seen.fields("upgrade")),
        (vec!["upgrade"], vec!["websocket"])
    );
    assert_eq!(seen.fields("sec-websocket-key"), ["dGhlIHNhbXBsZSBub25jZQ=="]);

    assert_eq!(wire.take(5).await, b"hello", "what came with the 101 is not lost");
    // Frames are anything, also what looks like HTTP.
    for said in [&b"\x81\x02hi"[..], b"\x00\xff\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", &[7; 100_000]]
    {
        wire.send(said).await;
        assert_eq!(wire.take(said.len()).await, said);
    }
    assert!(world.records().await.is_empty(), "it is not over yet");
    wire.finish().await;
    assert!(wire.closed().await.is_empty());

    let sent = 4 + 6 + 18 + 100_000;
    let record = world.records_when(1).await.remove(0).record;
    assert_eq!((record.status, record.reason.name()), (101, "none"));
    assert_eq!((record.bytes_in, record.bytes_out), (sent, sent + 5));
    assert_eq!(record.id.hyphenated().to_string(), reply.header("tollgate-record"));
    assert_eq!(world.metric("request_inflight"), Some(0.0));
}

#[tokio::test]
async fn the_permit_is_held_until_the_socket_closes() {
    let upstream = echo().await;
    let world = World::builder()
        .upstream(upstream.url())
        .set("upstreams.model.concurrency", json!({ "limit": 1 }))
        .start()
        .await;
    let wire = open(&world).await;
    assert_eq!(world.metric("request_inflight"), Some(1.0));
    let mut tasks = JoinSet::new();
    let client = Client::new(world.addr());
    tasks.spawn(async move { client.get("/x").await });
    world.metric_when("request_queue_length", 1.0).await;
    assert_eq!(upstream.seen().len(), 1, "the other waits");

    drop(wire);
    let reply = within("its turn", tasks.join_next()).await.unwrap().unwrap();
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "ok"));
    world.metric_when("request_inflight", 0.0).await;
    assert_eq!(world.records_when(2).await.len(), 2);
}

#[tokio::test]
async fn an_open_socket_keeps_its_place_among_the_connections() {
    let upstream = echo().await;
    let world = World::builder()
        .upstream(upstream.url())
        .set("listeners.0.limits.connections", json!(1))
        .start()
        .await;
    let wire = open(&world).await;
    let get = "GET /x HTTP/1.1\r\nhost: a\r\n\r\n";
    assert_eq!(world.wire().await.ask(get).await.status, 0, "one too many");
    drop(wire);
    let again = || async { world.wire().await.ask(get).await.status };
    tollgate_tests::until("a free place", again, |status| *status == 200).await;
}

#[tokio::test]
async fn a_socket_that_is_refused_is_an_answer_like_any_other() {
    let refused = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno";
    let upstream = Scripted::always(refused).await;
    let world = World::before(upstream.url()).await;
    let mut wire = world.wire().await;
    for turn in 1..=2 {
        let reply = wire.ask(ASK).await;
        assert_eq!((reply.status, reply.text().as_str()), (403, "no"), "turn {turn}");
        assert!(reply.fields("upgrade").is_empty());
        assert_eq!(world.records().await.len(), turn);
    }
    assert_eq!(upstream.connections(), 1);
}

/// Goal: a socket ends with the side that ends first, and its record says whose doing it was.
#[tokio::test]
async fn a_side_that_goes_takes_the_other_along() {
    let upstream = Scripted::start(|mut line| async move {
        line.request().await;
        line.wire.send(format!("{SWITCH}hello")).await;
        line.wire.take(3).await;
    })
    .await;
    let world = World::before(upstream.url()).await;
    let mut wire = open(&world).await;
    wire.send("bye").await;
    assert!(wire.closed().await.is_empty(), "the upstream has closed");
    drop(wire);
    let record = world.records_when(1).await.remove(0).record;
    assert_eq!((record.status, record.bytes_in, record.bytes_out), (101, 3, 5));

    let wire = open(&world).await;
    drop(wire);
    upstream.closed(2).await;
    world.metric_when("request_inflight", 0.0).await;
}

#[tokio::test]
async fn a_socket_on_which_nothing_is_said_ends_after_the_idle_time_out() {
    let upstream = echo().await;
    let world = World::builder()
        .upstream(upstream.url())
        .set("upstreams.model.timeouts", json!({ "idle": "400ms" }))
        .start()
        .await;
    let mut wire = open(&world).await;
    for _ in 0..3 {
        wire.send("x").await;
        assert_eq!(wire.take(1).await, b"x");
    }
    assert!(wire.closed().await.is_empty());
    upstream.closed(1).await;
    let record = world.records_when(1).await.remove(0).record;
    assert_eq!((record.status, record.reason.name()), (101, "upstream_timeout"));
    assert_eq!((record.bytes_in, record.bytes_out), (3, 8));
}

#[tokio::test]
async fn the_drain_waits_for_a_socket_and_cuts_it_at_the_deadline() {
    let upstream = echo().await;
    let world = World::before(upstream.url()).await;
    let mut wire = open(&world).await;
    let app = world.app.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { app.drain_within(Duration::ZERO, Duration::from_secs(1)).await });
    // It is served on while the drain waits.
    wire.send("still here").await;
    assert_eq!(wire.take(10).await, b"still here");
    assert!(wire.closed().await.is_empty());

    let cut = within("the drain", tasks.join_next()).await.unwrap().unwrap();
    assert_eq!(cut, 1, "it is counted");
    let records = Reader::open(&world.data_dir()).unwrap().records(10, None).unwrap();
    assert_eq!(records.len(), 1);
    let record = &records[0].record;
    assert_eq!((record.status, record.reason.name()), (101, "draining"));
    assert_eq!((record.bytes_in, record.bytes_out), (10, 15));
}

#[tokio::test]
async fn a_socket_that_ends_in_time_does_not_hold_up_the_drain() {
    let upstream = echo().await;
    let world = World::before(upstream.url()).await;
    let wire = open(&world).await;
    let app = world.app.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { app.drain_within(Duration::ZERO, Duration::from_secs(60)).await });
    drop(wire);
    assert_eq!(within("the drain", tasks.join_next()).await.unwrap().unwrap(), 0);
}
