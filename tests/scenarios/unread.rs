//! What cannot be read as a request is a call all the same: it is answered in the form of
//! every other refusal, counted, and in the ledger.

use serde_json::json;
use std::fmt::Write as _;
use tollgate_tests::{RawReply, Scripted, Wire, World};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GOOD: &str = "GET /x HTTP/1.1\r\nhost: a\r\n\r\n";

/// What is sent, and what is to be said to it.
struct Bad {
    what: &'static str,
    head: String,
    told: (u16, &'static str),
}

const MALFORMED: (u16, &str) = (400, "bad_request");
const TOO_LONG: (u16, &str) = (431, "headers_too_large");

fn bad_heads() -> Vec<Bad> {
    let bad = |what, head: &str, told| Bad { what, head: head.to_owned(), told };
    let mut many = "GET /x HTTP/1.1\r\nhost: a\r\n".to_owned();
    for n in 0..100 {
        write!(many, "x-{n}: 1\r\n").unwrap();
    }
    let long = format!("GET /x HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let target = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "y".repeat(100_000));
    let fields = "GET /x HTTP/1.1\r\nhost: a\r\n";
    vec![
        bad("no request line", "nonsense\r\n\r\n", MALFORMED),
        bad("a method that is none", "G\u{7f}T / HTTP/1.1\r\nhost: a\r\n\r\n", MALFORMED),
        bad("a target that is none", "GET /\u{1} HTTP/1.1\r\nhost: a\r\n\r\n", MALFORMED),
        bad("a version nobody knows", "GET / HTTP/3.7\r\nhost: a\r\n\r\n", MALFORMED),
        bad("a name with a space", &format!("{fields}x y: 1\r\n\r\n"), MALFORMED),
        bad("a value with a NUL", &format!("{fields}x: \0\r\n\r\n"), MALFORMED),
        bad("a length that is none", &format!("{fields}content-length: x\r\n\r\n"), MALFORMED),
        bad("TLS where none is", "\u{16}\u{3}\u{1}\0\u{5}hello", MALFORMED),
        bad("too many fields", &format!("{many}\r\n"), TOO_LONG),
        bad("a head too long", &long, TOO_LONG),
        bad("a target too long", &target, TOO_LONG),
    ]
}

/// A world whose heads are short, and its upstream.
async fn world(header_bytes: &str) -> (World, Scripted) {
    let upstream = Scripted::always(OK).await;
    let world = World::builder()
        .upstream(upstream.url())
        .set("listeners.0.limits.header_bytes", json!(header_bytes))
        .start()
        .await;
    (world, upstream)
}

/// The refusal is whole, and the connection ends with it.
async fn check(world: &World, wire: &mut Wire, reply: &RawReply, bad: &Bad) {
    assert_eq!(reply.refusal(), bad.told, "{}: {reply:?}", bad.what);
    let said: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((&said["status"], &said["code"]), (&json!(bad.told.0), &json!(bad.told.1)));
    for (name, value) in [
        ("content-type", "application/problem+json"),
        ("cache-control", "no-store"),
        ("x-should-retry", "false"),
        ("connection", "close"),
    ] {
        assert_eq!(reply.fields(name), [value], "{}: {reply:?}", bad.what);
    }
    assert_eq!(reply.fields("date").len(), 1, "{reply:?}");
    assert_eq!(reply.header("content-length"), reply.body.len().to_string());
    assert!(!reply.cut && wire.closed().await.is_empty(), "{}: nothing follows", bad.what);

    let records = world.records().await;
    let id = reply.header("tollgate-record");
    let own = records.iter().find(|seen| seen.record.id.hyphenated().to_string() == id).unwrap();
    assert_eq!((own.record.status, own.record.reason.name()), bad.told, "{}", bad.what);
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_refused_in_words_and_recorded() {
    let (world, upstream) = world("64KiB").await;
    let heads = bad_heads();
    for (turn, bad) in heads.iter().enumerate() {
        let mut wire = world.wire().await;
        let reply = wire.ask(&bad.head).await;
        check(&world, &mut wire, &reply, bad).await;
        assert_eq!(world.records().await.len(), turn + 1, "{}: one record", bad.what);
    }
    assert!(upstream.seen().is_empty());
    for (reason, code) in [("bad_request", 400), ("headers_too_large", 431)] {
        let wanted = heads.iter().filter(|bad| bad.told.0 == code).count();
        let sum = |name: &str, label: &str| -> f64 {
            let metrics = world.metrics();
            let series =
                metrics.iter().filter(|(it, _)| it.starts_with(name) && it.contains(label));
            series.map(|(_, value)| value).sum()
        };
        let wanted: f64 = u32::try_from(wanted).unwrap().into();
        let refused = sum("tollgate_rejected_total{", &format!("reason=\"{reason}\""));
        let counted = sum("tollgate_requests_total{", &format!("code=\"{code}\""));
        assert!(refused.total_cmp(&wanted).is_eq() && counted.total_cmp(&wanted).is_eq());
    }
}

#[tokio::test]
async fn so_it_is_after_a_good_request_on_the_same_connection() {
    let (world, upstream) = world("64KiB").await;
    let heads = bad_heads();
    for (turn, bad) in heads.iter().enumerate() {
        let mut wire = world.wire().await;
        let good = wire.ask(GOOD).await;
        assert_eq!((good.status, good.text().as_str()), (200, "ok"));
        let reply = wire.ask(&bad.head).await;
        check(&world, &mut wire, &reply, bad).await;
        assert_eq!(world.records().await.len(), 2 * (turn + 1), "{}: one record", bad.what);
    }
    assert_eq!(upstream.seen().len(), heads.len());
}

/// Goal: what is sent after a good request in one piece does not damage its answer.
/// Method: answers that are empty, short, chunked, and longer than the socket takes.
#[tokio::test]
async fn garbage_that_is_pipelined_leaves_the_answer_before_it_whole() {
    let long = "z".repeat(8 * 1024 * 1024);
    let answers = [
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), String::new()),
        (OK.to_owned(), "ok".to_owned()),
        ("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_owned(), String::new()),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_owned(),
            "ok".to_owned(),
        ),
        (format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{long}", long.len()), long),
    ];
    for (answer, body) in answers {
        let upstream = Scripted::always(answer).await;
        let world = World::before(upstream.url()).await;
        for bad in bad_heads() {
            let mut wire = world.wire().await;
            wire.send(format!("{GOOD}{}", bad.head)).await;
            let good = wire.reply().await;
            assert!(!good.cut && good.text() == body && good.header("tollgate-reason").is_empty());
            assert_ne!(good.header("tollgate-record"), "", "it is the upstream's: {}", good.head);
            let reply = wire.reply().await;
            check(&world, &mut wire, &reply, &bad).await;
        }
    }
}

#[tokio::test]
async fn a_body_that_looks_like_a_refusal_is_a_body() {
    let inner = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{inner}", inner.len());
    let upstream = Scripted::always(answer).await;
    let world = World::before(upstream.url()).await;
    let mut wire = world.wire().await;
    for _ in 0..3 {
        assert_eq!(wire.ask(GOOD).await.text(), inner);
    }
}

#[tokio::test]
async fn a_head_in_small_pieces_is_refused_once_it_cannot_become_one() {
    let (world, _upstream) = world("16KiB").await;
    let mut wire = world.wire().await;
    for piece in ["GET /x HT", "TP/1.1\r\nho", "st: a\r\nx", " y: 1\r\n", "\r\n"] {
        wire.send(piece).await;
    }
    assert_eq!(wire.reply().await.refusal(), MALFORMED);
    let mut wire = world.wire().await;
    wire.send("GET /x HTTP/1.1\r\nhost: a\r\n").await;
    for _ in 0..64 {
        wire.send(format!("x: {}\r\n", "y".repeat(1000))).await;
    }
    assert_eq!(wire.reply().await.refusal(), TOO_LONG);
    assert_eq!(world.records().await.len(), 2);
}

#[tokio::test]
async fn who_says_nothing_or_half_of_something_made_no_call() {
    let (world, _upstream) = world("64KiB").await;
    for start in ["", "\r\n", "GET /x HTTP/1.1\r\nhost: a\r\n"] {
        let mut wire = world.wire().await;
        wire.send(start).await;
        wire.finish().await;
        assert_eq!(wire.closed().await, b"", "{start:?}");
    }
    assert!(world.records().await.is_empty());
}

#[tokio::test]
async fn who_does_not_leave_after_its_refusal_is_not_waited_for() {
    let upstream = Scripted::always(OK).await;
    let world = World::builder()
        .upstream(upstream.url())
        .set("listeners.0.limits.connections", json!(1))
        .set("listeners.0.limits.header_timeout", json!("200ms"))
        .start()
        .await;
    let mut stays = world.wire().await;
    assert_eq!(stays.ask("nonsense\r\n\r\n").await.refusal(), MALFORMED);
    let again = || async { world.wire().await.ask(GOOD).await.status };
    tollgate_tests::until("a free place", again, |status| *status == 200).await;
    drop(stays);
}
