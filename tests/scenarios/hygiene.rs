//! What must not get through: requests that two servers would read differently, and
//! answers that are not what they claim to be.

use http::{Method, StatusCode};
use serde_json::json;
use tollgate_tests::{CHAT, Client, Scripted, World, chat, chat_stream};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Goal: a head that could be read in two ways reaches nobody.
/// Method: a connection for each; the upstream must not be asked, nor may a second
/// answer come.
#[tokio::test]
async fn a_request_that_could_be_read_in_two_ways_is_refused() {
    let upstream = Scripted::always(OK).await;
    let world = World::before(upstream.url()).await;
    for (bytes, status) in [
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost:\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: user@a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a:99999\r\n\r\n", 400),
        ("GET http://user@b/ HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2, 3\r\n\r\nabc", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +2\r\n\r\nab", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -2\r\n\r\nab", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x2\r\n\r\nab", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n folded\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nx : 1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n", 400),
        ("GET /\u{1} HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET / HTTP/9.9\r\nhost: a\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /a%2fb HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /a%5Cb HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /a%00 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /a\\b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /../etc/passwd HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /a/%2e%2e/%2E./b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET http://a/x/../../b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", 405),
        ("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", 405),
        ("CONNECT /x HTTP/1.1\r\nhost: a\r\n\r\n", 405),
    ] {
        let mut wire = world.wire().await;
        wire.send(bytes).await;
        wire.finish().await;
        let reply = wire.reply().await;
        // A malformed method line may be answered before there is a request at all.
        let refused = reply.status == status || (status == 405 && reply.status == 400);
        assert!(refused, "{bytes:?}: {reply:?}");
        let rest = wire.closed().await;
        assert!(rest.is_empty(), "{bytes:?}: a second answer: {}", String::from_utf8_lossy(&rest));
    }
    assert!(upstream.seen().is_empty(), "{:#?}", upstream.seen());
}

/// Goal: where the request has both framings, the upstream sees one, and the same end.
#[tokio::test]
async fn a_length_beside_chunks_smuggles_nothing() {
    let upstream = Scripted::always(OK).await;
    let world = World::before(upstream.url()).await;
    let mut wire = world.wire().await;
    let inner = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let body = format!("0\r\n\r\n{inner}");
    wire.send(format!(
        "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n{body}",
        body.len()
    ))
    .await;
    wire.finish().await;
    wire.reply().await;
    wire.closed().await;

    for seen in upstream.seen() {
        let framings =
            (seen.fields("content-length").len(), seen.fields("transfer-encoding").len());
        assert!(framings.0 + framings.1 <= 1, "{seen:#?}");
        assert!(!String::from_utf8_lossy(&seen.body).contains("smuggled"), "{seen:#?}");
        assert!(
            !seen.line().contains("smuggled"),
            "such a connection is not used again: {seen:#?}"
        );
    }
}

/// Goal: an answer given before the body was read does not make a request of the body.
#[tokio::test]
async fn what_is_left_of_a_refused_body_is_no_request() {
    let upstream = Scripted::always(OK).await;
    let world = World::builder()
        .upstream(upstream.url())
        .set("routes.0.match", json!({ "path_prefix": "/v1" }))
        .start()
        .await;
    let mut wire = world.wire().await;
    let inner = "GET /v1/smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    wire.send(format!("POST /none HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", inner.len()))
        .await;
    let refused = wire.reply().await;
    assert_eq!(refused.refusal(), (404, "no_route"));
    wire.send(inner).await;
    wire.finish().await;
    let rest = wire.closed().await;
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn one_spelling_of_a_path_decides_the_route_and_is_sent() {
    let upstream = Scripted::always(OK).await;
    let world = World::builder()
        .upstream(upstream.url())
        .set("routes.0.match", json!({ "path_prefix": "/open" }))
        .start()
        .await;
    for (target, wanted) in [
        ("/open/./a/../b?x=/../", Some("GET /open/b?x=/../ HTTP/1.1")),
        ("/%6fpen/%7Euser", Some("GET /open/~user HTTP/1.1")),
        ("/open//a", Some("GET /open//a HTTP/1.1")),
        ("http://other/open", Some("GET /open HTTP/1.1")),
        ("/open/../secret", None),
        ("/open/%2e%2e/secret", None),
        ("/openly", None),
        ("//open", None),
    ] {
        let before = upstream.seen().len();
        let mut wire = world.wire().await;
        let reply = wire.ask(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let sent = upstream.seen().get(before).map(|seen| seen.line().to_owned());
        assert_eq!(sent.as_deref(), wanted, "{target}: {reply:?}");
        assert_eq!(reply.status, if wanted.is_some() { 200 } else { 404 }, "{target}");
    }
}

#[tokio::test]
async fn an_absolute_target_overrides_host() {
    let upstream = Scripted::always(OK).await;
    let world = World::before(upstream.url()).await;
    let reply =
        world.wire().await.ask("GET http://b.test:81/x?y HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(reply.status, 200);
    let seen = upstream.only();
    assert_eq!((seen.line(), seen.fields("host")), ("GET /x?y HTTP/1.1", vec!["b.test:81"]));
}

#[tokio::test]
async fn options_may_ask_about_everything() {
    let upstream = Scripted::always(OK).await;
    let world = World::before(upstream.url()).await;
    let reply = world.wire().await.ask("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!((reply.status, upstream.only().line()), (200, "OPTIONS * HTTP/1.1"));
}

#[tokio::test]
async fn http10_is_answered_and_closed() {
    let upstream = Scripted::always(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    )
    .await;
    let world = World::before(upstream.url()).await;
    let mut wire = world.wire().await;
    wire.send("GET /x HTTP/1.0\r\n\r\n").await;
    let all = String::from_utf8(wire.closed().await).unwrap();
    assert!(all.ends_with("\r\n\r\nok"), "no chunks for HTTP/1.0: {all:?}");
    assert_eq!(upstream.only().line(), "GET /x HTTP/1.1");
    assert_eq!(upstream.only().fields("host"), [upstream.addr().to_string()]);
}

#[tokio::test]
async fn what_is_meant_for_one_hop_is_not_passed_on() {
    let upstream = Scripted::always(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive, X-Hop\r\nx-hop: 1\r\n\
         keep-alive: timeout=5\r\nproxy-connection: keep-alive\r\nupgrade: h2c\r\nx-end: 1\r\n\r\nok",
    )
    .await;
    let world = World::before(upstream.url()).await;
    let reply = world
        .wire()
        .await
        .ask(
            "GET /x HTTP/1.1\r\nhost: a\r\nconnection: Upgrade, HTTP2-Settings, x-hop, host, content-length\r\n\
             upgrade: h2c\r\nhttp2-settings: AAMAAABk\r\nx-hop: 1\r\nkeep-alive: 1\r\nte: gzip\r\n\
             proxy-connection: close\r\nx-end: 1\r\n\r\n",
        )
        .await;

    let seen = upstream.only();
    for name in ["upgrade", "http2-settings", "x-hop", "keep-alive", "te", "proxy-connection"] {
        assert!(seen.fields(name).is_empty(), "{name} went upstream: {}", seen.head);
        assert!(reply.fields(name).is_empty(), "{name} came down: {}", reply.head);
    }
    assert_eq!((seen.fields("x-end"), seen.fields("host")), (vec!["1"], vec!["a"]));
    assert_eq!((reply.status, reply.header("x-end"), reply.text().as_str()), (200, "1", "ok"));
    assert!(!seen.head.to_lowercase().contains("\r\nconnection: upgrade"), "{}", seen.head);
}

#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_is_an_error() {
    let upstream = Scripted::once(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nraw bytes",
    )
    .await;
    let world = World::before(upstream.url()).await;
    let reply = world.client.get("/x").await;
    assert_eq!(reply.refusal(), (502, "upstream_protocol"));
    let h2c = "GET /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n";
    assert_eq!(world.wire().await.ask(h2c).await.refusal(), (502, "upstream_protocol"));
}

#[tokio::test]
async fn trailers_end_a_body_and_are_no_headers() {
    let upstream = Scripted::always(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\ncontent-length: 9\r\n\r\n",
    )
    .await;
    let world = World::before(upstream.url()).await;
    let mut wire = world.wire().await;
    for _ in 0..2 {
        let reply = wire
            .ask("POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nhost: b\r\nx-tenant: evil\r\n\r\n")
            .await;
        assert_eq!((reply.status, reply.text().as_str(), reply.cut), (200, "ok", false));
    }
    for seen in upstream.seen() {
        assert_eq!((seen.body.as_slice(), seen.fields("x-tenant").len()), (&b"a"[..], 0));
    }
    assert_eq!(upstream.connections(), 1);
}

/// Goal: bytes after an answer's end are nobody's answer.
#[tokio::test]
async fn what_comes_after_the_end_of_an_answer_is_thrown_away_with_its_connection() {
    let poisoned = format!("{OK}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison");
    let upstream = Scripted::always(poisoned).await;
    let world = World::before(upstream.url()).await;
    for turn in 1..=30 {
        let reply = world.client.get("/x").await;
        assert_eq!((reply.status, reply.text().as_str()), (StatusCode::OK, "ok"), "turn {turn}");
    }
    assert_eq!(upstream.connections(), 30);
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_bad_gateway() {
    for (bytes, reason) in [
        ("garbage\r\n\r\n", "upstream_protocol"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
            "upstream_protocol",
        ),
        ("HTTP/1.1 200 OK\r\nbad header\r\n\r\n", "upstream_protocol"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "upstream_protocol"),
        ("HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n", "upstream_protocol"),
        ("", "upstream_reset"),
        ("HTTP/1.1 200 OK\r\nhalf", "upstream_reset"),
    ] {
        let upstream = Scripted::once(bytes).await;
        let world = World::before(upstream.url()).await;
        let reply = world.client.get("/x").await;
        assert_eq!(reply.refusal(), (502, reason), "{bytes:?}");
    }
}

#[tokio::test]
async fn interim_answers_do_not_take_the_place_of_the_final_one() {
    let upstream = Scripted::always(format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n{OK}"
    ))
    .await;
    let world = World::before(upstream.url()).await;
    for _ in 0..2 {
        let reply = world.client.get("/x").await;
        assert_eq!((reply.status, reply.text().as_str()), (StatusCode::OK, "ok"));
    }
}

/// Goal: half an answer looks like half an answer, and is never given to anybody else.
/// Method: a content route before an upstream that stops in the middle, in each framing.
#[tokio::test]
async fn a_truncated_answer_is_a_cut_and_is_not_stored() {
    let whole = json!({
        "id": "1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
        "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": "hi" } }],
        "usage": { "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 }
    })
    .to_string();
    let json_type = "content-type: application/json\r\n";
    let by_length =
        format!("HTTP/1.1 200 OK\r\n{json_type}content-length: {}\r\n\r\n{whole}", whole.len() + 1);
    let by_chunks = format!(
        "HTTP/1.1 200 OK\r\n{json_type}transfer-encoding: chunked\r\n\r\n{:x}\r\n{whole}\r\n",
        whole.len()
    );
    let stream = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
        e\r\ndata: [DONE]\n\n\r\n";
    for (answer, question) in
        [(&by_length, chat("x")), (&by_chunks, chat("x")), (&stream.to_owned(), chat_stream("x"))]
    {
        let upstream = Scripted::once(answer.as_str()).await;
        let world = World::builder()
            .upstream(upstream.url())
            .set("routes.0.cache", json!({ "mode": "content" }))
            .start()
            .await;
        for client in [world.client.clone(), Client::h2(world.addr()).await] {
            let reply = client.post(CHAT, &question).await;
            assert!(reply.cut, "a clean end of {answer:?}: {reply:?}");
        }
        assert_eq!(upstream.seen().len(), 2, "the half of {answer:?} was stored");
        let records = world.records_when(2).await;
        assert!(records.iter().all(|record| record.record.reason.name() == "upstream_reset"));
    }
}

#[tokio::test]
async fn half_a_request_is_never_sent_as_a_whole_one() {
    let upstream = Scripted::always(OK).await;
    let world = World::before(upstream.url()).await;
    for half in [
        "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf",
        "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n{\"model\"",
    ] {
        let mut wire = world.wire().await;
        wire.send(half).await;
        wire.finish().await;
        let reply = wire.reply().await;
        assert!(matches!(reply.status, 0 | 400), "{half:?}: {reply:?}");
    }
    world.records_when(3).await;
    assert!(upstream.seen().iter().all(|seen| seen.cut), "{:#?}", upstream.seen());
}

#[tokio::test]
async fn an_answer_to_the_end_of_the_connection_passes() {
    let upstream =
        Scripted::once("HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nto the end").await;
    let world = World::before(upstream.url()).await;
    for _ in 0..2 {
        let reply = world.client.send(Method::GET, "/x", &[], "").await;
        assert_eq!((reply.text().as_str(), reply.cut), ("to the end", false));
    }
    assert_eq!(upstream.connections(), 2);
}
