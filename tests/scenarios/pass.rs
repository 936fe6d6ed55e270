//! What passes through passes unchanged, and nothing is kept of it but its record.

use http::{Method, StatusCode, Version};
use serde_json::json;
use tokio::task::JoinSet;
use tollgate_tests::{
    CHAT, Client, Scripted, World, chat, chat_stream,
    standin::{Gate, Options},
};

/// Bytes among which no two stretches are alike, so that a lost or doubled one shows.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

const TWO_MIB: usize = 2 * 1024 * 1024;

fn of_length(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nx-own: 1\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut message = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(70_001) {
        message.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        message.extend_from_slice(chunk);
        message.extend_from_slice(b"\r\n");
    }
    message.extend_from_slice(b"0\r\n\r\n");
    message
}

#[tokio::test]
async fn two_mebibytes_pass_byte_for_byte_in_both_directions() {
    let (up, down) = (noise(TWO_MIB), noise(TWO_MIB + 1));
    for answer in [of_length(&down), chunked(&down)] {
        let upstream = Scripted::always(answer).await;
        let world = World::before(upstream.url()).await;
        for client in [world.client.clone(), Client::h2(world.addr()).await] {
            let reply = client.send(Method::POST, "/blob", &[], up.clone()).await;
            assert!(!reply.cut && reply.status == StatusCode::OK);
            assert!(reply.body == down, "the answer was changed");
        }
        let seen = upstream.seen();
        assert!(seen.iter().all(|seen| seen.body == up && !seen.cut), "the request was changed");
        assert_eq!(seen.len(), 2);
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_stays_one_in_both_directions() {
    let upstream = Scripted::always(chunked(b"an answer")).await;
    let world = World::before(upstream.url()).await;
    let mut wire = world.wire().await;

    wire.send("PUT /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
    wire.send("3\r\nabc\r\n").await;
    let reply = wire.ask("2;ext=1\r\nde\r\n0\r\n\r\n").await;

    let seen = upstream.only();
    assert_eq!(seen.body, b"abcde");
    assert_eq!(seen.fields("transfer-encoding"), ["chunked"]);
    assert!(seen.fields("content-length").is_empty());
    assert_eq!((reply.status, reply.text().as_str(), reply.cut), (200, "an answer", false));
    assert_eq!(reply.header("transfer-encoding"), "chunked");
    assert!(reply.fields("content-length").is_empty());
}

#[tokio::test]
async fn an_upload_passes_piece_by_piece() {
    let upstream = Scripted::start(|mut line| async move {
        let head = line.wire.head().await.unwrap();
        assert!(head.starts_with("POST /x"));
        assert!(line.wire.any().await);
        // The first piece is here though the second was not sent.
        line.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        line.wire.closed().await;
    })
    .await;
    let world = World::before(upstream.url()).await;

    let (upload, answer) = world.client.upload(Method::POST, "/x", &[]);
    let mut tasks = JoinSet::new();
    tasks.spawn(answer);
    assert!(upload.send("first").await);

    let live = tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(live.status, StatusCode::OK);
    drop(upload);
}

#[tokio::test]
async fn an_event_is_handed_on_before_the_next_one_exists() {
    let gate = Gate::chunks();
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let world = World::builder().standin(options).start().await;

    let mut live = world.client.stream(CHAT, &chat_stream("hello")).await;
    gate.release_chunks(1);
    let first = live.read_until("\n\n").await;
    assert!(first.starts_with("data: {") && first.ends_with("\n\n"), "{first}");
    assert_eq!(world.standin.counts().chunks, 1);

    gate.open();
    let rest = live.finish().await;
    assert!(!rest.cut && rest.text().ends_with("data: [DONE]\n\n"), "{}", rest.text());
}

#[tokio::test]
async fn head_says_the_length_of_what_get_would_give() {
    let upstream =
        Scripted::always("HTTP/1.1 200 OK\r\ncontent-length: 1234\r\netag: \"a\"\r\n\r\n").await;
    let world = World::before(upstream.url()).await;
    let mut wire = world.wire().await;

    for _ in 0..2 {
        wire.send("HEAD /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let reply = wire.reply_to("HEAD").await;
        assert_eq!((reply.status, reply.header("content-length")), (200, "1234"));
        assert_eq!(reply.header("etag"), "\"a\"");
    }
    assert_eq!(upstream.connections(), 1, "a HEAD does not cost its connection");
}

#[tokio::test]
async fn answers_that_never_have_a_body_have_none() {
    let world = World::new().await;
    let mut wire = world.wire().await;
    let get =
        |target: &str| format!("GET {target} HTTP/1.1\r\nhost: a\r\nif-none-match: \"v\"\r\n\r\n");

    let none = wire.ask(get("/static/a?status=204")).await;
    let same = wire.ask(get("/static/a?etag=%22v%22")).await;
    let empty = wire.ask(get("/static/a?bytes=0")).await;

    assert_eq!((none.status, none.header("transfer-encoding")), (204, ""));
    assert_eq!((same.status, same.header("etag")), (304, "\"v\""));
    assert_eq!(
        (empty.status, empty.header("content-length"), empty.text().as_str()),
        (200, "0", "")
    );
    assert_eq!(
        world.records().await.len(),
        3,
        "each is a record, though none was polled to an end"
    );
}

#[tokio::test]
async fn a_request_without_a_body_stays_without() {
    let upstream = Scripted::always(of_length(b"ok")).await;
    let world = World::before(upstream.url()).await;
    world.client.get("/x").await;
    let seen = upstream.only();
    assert!(
        seen.fields("content-length").is_empty() && seen.fields("transfer-encoding").is_empty()
    );
}

#[tokio::test]
async fn target_and_unknown_headers_pass_as_they_are() {
    let world = World::new().await;
    let headers = [("x-Odd", "a, b"), ("accept", "text/x; q=0.5"), ("cookie", "a=1; b=2")];

    let reply = world.client.send(Method::GET, "/echo?q=%2F%2f&&x=a+b&y", &headers, "").await;

    assert_eq!(reply.json()["target"], "/echo?q=%2F%2f&&x=a+b&y");
    assert_eq!(reply.echoed("x-odd"), ["a, b"]);
    assert_eq!(reply.echoed("accept"), ["text/x; q=0.5"]);
    assert_eq!(reply.echoed("cookie"), ["a=1; b=2"]);
    assert_eq!(reply.echoed("host"), [world.addr().to_string()], "http upstreams get the caller's");
}

#[tokio::test]
async fn upstream_connections_are_kept() {
    let upstream = Scripted::always(of_length(b"ok")).await;
    let world = World::before(upstream.url()).await;
    for _ in 0..5 {
        // A caller each, so that it is the proxy that keeps.
        assert_eq!(Client::new(world.addr()).get("/x").await.text(), "ok");
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_died_while_idle_costs_no_caller_a_failure() {
    let upstream = Scripted::once(of_length(b"ok")).await;
    let world = World::before(upstream.url()).await;
    for turn in 1..=10 {
        let reply = world.client.post("/x", &json!({ "turn": turn })).await;
        assert_eq!((reply.status, reply.text().as_str()), (StatusCode::OK, "ok"), "turn {turn}");
        upstream.closed(turn).await;
    }
    assert_eq!(upstream.seen().len(), 10, "nothing was sent twice");
}

#[tokio::test]
async fn a_request_that_may_have_been_read_is_not_sent_twice() {
    let upstream = Scripted::start(|mut line| async move {
        if line.connection == 0 {
            line.request().await;
            line.wire.send(of_length(b"ok")).await;
        }
        // Reads the request, and goes.
        line.request().await;
    })
    .await;
    let world = World::before(upstream.url()).await;

    assert_eq!(world.client.post("/x", &json!(1)).await.status, StatusCode::OK);
    let reply = world.client.post("/x", &json!(2)).await;

    assert_eq!(reply.refusal(), (502, "upstream_reset"));
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn http2_by_prior_knowledge_becomes_http11_upstream() {
    let world = World::new().await;
    let client = Client::h2(world.addr()).await;
    let headers = [("cookie", "a=1"), ("cookie", "b=2"), ("x-own", "1"), ("te", "trailers")];

    let reply = client.send(Method::POST, "/echo", &headers, "body").await;

    assert_eq!((reply.status, reply.version), (StatusCode::OK, Version::HTTP_2));
    let said = reply.json();
    assert_eq!((&said["version"], &said["body"]), (&json!("HTTP/1.1"), &json!("body")));
    assert_eq!(reply.echoed("host"), [world.addr().to_string()], "host is :authority");
    assert_eq!(reply.echoed("cookie"), ["a=1; b=2"]);
    assert!(reply.echoed("connection").is_empty());
}

#[tokio::test]
async fn calls_share_an_http2_connection_without_waiting_for_each_other() {
    let gate = Gate::heads();
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let world = World::builder().standin(options).start().await;
    let client = Client::h2(world.addr()).await;
    let mut tasks = JoinSet::new();
    for turn in 0..20 {
        let client = client.clone();
        tasks.spawn(async move { client.post(CHAT, &chat(&format!("question {turn}"))).await });
    }
    world.provider("all of them at once", |counts| counts.in_flight == 20).await;
    gate.open();
    while let Some(reply) = tasks.join_next().await {
        assert_eq!(reply.unwrap().status, StatusCode::OK);
    }
}

/// Goal: who hangs up gives back what it had: the upstream learns of it, and the place is free.
/// Method: one place upstream; a caller who leaves before the head, then one mid-stream.
#[tokio::test]
async fn a_caller_who_hangs_up_frees_its_place_and_the_upstream() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let gate = Gate::heads_and_chunks();
        let options =
            Options { gate: Some(gate.clone()), concurrency_limit: Some(1), ..Options::default() };
        let world = World::builder()
            .standin(options)
            .set("upstreams.model.concurrency", json!({ "limit": 1 }))
            .start()
            .await;
        let client = match version {
            Version::HTTP_2 => Client::h2(world.addr()).await,
            _ => world.client.clone(),
        };

        let mut tasks = JoinSet::new();
        let early = client.clone();
        tasks.spawn(async move { early.post(CHAT, &chat("early")).await });
        world.provider("the first call", |counts| counts.in_flight == 1).await;
        tasks.shutdown().await;
        world.provider("the first hang-up", |counts| counts.aborted == 1).await;
        world.metric_when("request_inflight", 0.0).await;

        gate.release(2);
        gate.release_chunks(1);
        let mut live = client.stream(CHAT, &chat_stream("mid-stream")).await;
        live.read_until("\n\n").await;
        drop(live);
        world.provider("the second hang-up", |counts| counts.aborted == 2).await;
        world.metric_when("request_inflight", 0.0).await;

        gate.open();
        assert_eq!(client.post(CHAT, &chat("last")).await.status, StatusCode::OK);
        let records = world.records_when(3).await;
        let reasons: Vec<_> = records.iter().map(|record| record.record.reason.name()).collect();
        assert_eq!(reasons, ["downstream_gone", "downstream_gone", "none"], "{version:?}");
        assert_eq!(world.standin.counts().limit_exceeded, 0);
    }
}

#[tokio::test]
async fn a_waiting_caller_who_hangs_up_leaves_the_queue() {
    let gate = Gate::heads();
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let world = World::builder()
        .standin(options)
        .set("upstreams.model.concurrency", json!({ "limit": 1 }))
        .start()
        .await;
    let mut tasks = JoinSet::new();
    let ask = |text: &'static str| {
        let client = Client::new(world.addr());
        async move { client.post(CHAT, &chat(text)).await.status }
    };
    tasks.spawn(ask("runs"));
    world.provider("the first call", |counts| counts.in_flight == 1).await;
    let waiting = tasks.spawn(ask("waits"));
    world.metric_when("request_queue_length", 1.0).await;
    waiting.abort();
    world.metric_when("request_queue_length", 0.0).await;

    gate.open();
    let answered = tasks.join_all_ok().await;
    assert_eq!(answered, [StatusCode::OK]);
    assert_eq!(world.standin.counts().calls, 1, "who left the queue is not sent");
}

#[tokio::test]
async fn who_expects_100_continue_is_told_to_go_on() {
    let world = World::new().await;
    let mut wire = world.wire().await;
    wire.send(
        "POST /echo HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n",
    )
    .await;
    let interim = wire.head().await.unwrap();
    assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
    let reply = wire.ask("body").await;
    assert_eq!(reply.status, 200);
    assert!(reply.text().contains("\"body\":\"body\""), "{}", reply.text());
}

#[tokio::test]
async fn names_of_the_exchange_are_kept_or_made() {
    let world = World::new().await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("x-request-id", "mine-1"), ("traceparent", parent), ("via", "1.0 first")];

    let kept = world.client.send(Method::GET, "/echo", &headers, "").await;
    assert_eq!(kept.echoed("x-request-id"), ["mine-1"]);
    assert_eq!(kept.echoed("traceparent"), [parent]);
    assert_eq!(kept.echoed("via"), ["1.0 first", "1.1 tollgate"]);
    assert_eq!(kept.echoed("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(kept.echoed("x-forwarded-proto"), ["http"]);
    assert_eq!(kept.header("x-request-id"), "mine-1");

    let odd = [("x-request-id", "two words"), ("traceparent", "00-x")];
    let made = world.client.send(Method::GET, "/echo", &odd, "").await;
    let record = made.header("tollgate-record").to_owned();
    assert_eq!(made.echoed("x-request-id"), [&*record]);
    assert_eq!(made.header("x-request-id"), record);
    assert!(made.echoed("traceparent")[0].starts_with("00-"), "{}", made.text());
    let records = world.records().await;
    let ids: Vec<_> = records.iter().map(|seen| seen.record.id.hyphenated().to_string()).collect();
    assert_eq!(ids, [kept.header("tollgate-record"), &*record]);
}

#[tokio::test]
async fn an_upstreams_own_id_passes_unchanged() {
    let world = World::new().await;
    let reply = world.client.get("/static/a?request-id=req_7").await;
    assert_eq!((reply.header("request-id"), reply.header("x-request-id")), ("req_7", ""));
}

#[tokio::test]
async fn where_the_time_went_is_told_to_who_may_ask() {
    let world = World::builder().set("upstreams.model.via", json!("off")).start().await;
    let told = world.client.send(Method::GET, "/echo", &[("tollgate-debug", "1")], "").await;
    assert!(told.header("server-timing").contains("upstream;dur="), "{told:?}");
    assert!(told.echoed("via").is_empty(), "via: off");
    let not_told = world.client.get("/echo").await;
    assert_eq!(not_told.header("server-timing"), "");

    let caching = json!({ "mode": "content" });
    let world = World::builder().set("routes.0.cache", caching).start().await;
    for parts in [&["queue", "cache", "upstream"][..], &["cache"]] {
        let reply = world.client.post_with(CHAT, &[("tollgate-debug", "1")], &chat("a")).await;
        let told = reply.header("server-timing");
        let told: Vec<_> =
            told.split(", ").map(|part| part.split(";dur=").next().unwrap()).collect();
        assert_eq!(told, parts, "{reply:?}");
        let reply = world.client.post(CHAT, &chat("a")).await;
        assert_eq!(reply.header("server-timing"), "", "to who did not ask");
    }

    let world = World::builder().set("listeners.0.trusted", json!(["10.0.0.0/8"])).start().await;
    let stranger = [("tollgate-debug", "1"), ("x-forwarded-for", "1.2.3.4")];
    let reply = world.client.send(Method::GET, "/echo", &stranger, "").await;
    assert_eq!(reply.header("server-timing"), "");
    assert_eq!(
        reply.echoed("x-forwarded-for"),
        ["127.0.0.1"],
        "a stranger's word is not passed on"
    );
}

trait JoinAllOk<T> {
    async fn join_all_ok(&mut self) -> Vec<T>;
}

impl<T: 'static> JoinAllOk<T> for JoinSet<T> {
    /// What those gave that were not aborted.
    async fn join_all_ok(&mut self) -> Vec<T> {
        let mut given = Vec::new();
        while let Some(one) = self.join_next().await {
            given.extend(one);
        }
        given
    }
}
