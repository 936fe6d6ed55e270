//! What the harness promises to scenarios: if this is wrong, all else says nothing.

use http::{Method, StatusCode};
use tollgate_tests::{
    CHAT, Scripted, World, chat, chat_stream,
    standin::{Fault, Gate, Options},
};

#[tokio::test]
async fn a_call_goes_through_the_world_and_leaves_a_record() {
    let world = World::new().await;
    let question = chat("hello");

    let reply = world.client.post(CHAT, &question).await;

    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.json()["object"], "chat.completion");
    assert_eq!(world.standin.counts().calls, 1);
    let record = world.record().await;
    assert_eq!((record.record.status, &*record.words[0]), (200, "all"));
    let sent = "tollgate_requests_total{route=\"all\",class=\"normal\",code=\"200\"}";
    assert_eq!(world.metric(sent), Some(1.0), "{}", world.app.metrics_text());
}

#[tokio::test]
async fn the_caller_sees_a_cut_and_not_a_clean_end() {
    let world = World::new().await;
    world.standin.fault_next(Fault::CutLength, 1);
    let question = chat("hello");

    let reply = world.client.post(CHAT, &question).await;

    assert!(reply.cut, "{reply:?}");
}

#[tokio::test]
async fn a_dropped_answer_is_a_hang_up() {
    let gate = Gate::chunks();
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let world = World::builder().standin(options).start().await;
    let question = chat_stream("hello");

    let mut live = world.client.stream(CHAT, &question).await;
    gate.release_chunks(2);
    live.read_until("data:").await;
    drop(live);

    let counts = world.provider("a hang-up", |counts| counts.aborted == 1).await;
    assert_eq!(counts.finished, 0);
}

#[tokio::test]
async fn a_scripted_upstream_says_exactly_its_bytes() {
    let upstream =
        Scripted::always("HTTP/1.1 299 Odd\r\nContent-Length: 2\r\nX-Odd: a\r\n\r\nhi").await;
    let mut wire = tollgate_tests::Wire::connect(upstream.addr()).await;

    let reply = wire
        .ask(
            "PUT /x HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        )
        .await;

    assert_eq!((reply.status, reply.header("x-odd"), reply.text().as_str()), (299, "a", "hi"));
    assert_eq!(
        (upstream.only().line(), upstream.only().body.as_slice()),
        ("PUT /x HTTP/1.1", &b"abc"[..])
    );
}

#[tokio::test]
async fn a_connection_of_the_caller_is_kept() {
    let upstream = Scripted::always("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    let client = tollgate_tests::Client::new(upstream.addr());
    for _ in 0..3 {
        assert_eq!(client.send(Method::GET, "/", &[], "").await.text(), "hi");
    }
    assert_eq!(upstream.connections(), 1);
}
