//! Everything is bounded, and who meets a bound is told so.

use http::{Method, StatusCode};
use serde_json::json;
use std::fmt::Write as _;
use tokio::task::JoinSet;
use tollgate_tests::{
    CHAT, Client, Scripted, World, chat,
    standin::{Gate, Options},
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn limited(upstream: &Scripted, name: &'static str, value: serde_json::Value) -> World {
    World::builder()
        .upstream(upstream.url())
        .set(format!("listeners.0.limits.{name}"), value)
        .start()
        .await
}

#[tokio::test]
async fn a_head_longer_than_its_limit_is_refused() {
    let upstream = Scripted::always(OK).await;
    let world = limited(&upstream, "header_bytes", json!("16KiB")).await;
    let head =
        |bytes: usize| format!("GET /x HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(bytes));

    assert_eq!(world.wire().await.ask(head(15_000)).await.status, 200);
    let reply = world.wire().await.ask(head(17_000)).await;
    assert_eq!(reply.status, 431, "{reply:?}");

    let h2 = Client::h2(world.addr()).await;
    let long = "y".repeat(17_000);
    let refused = h2.try_open(Method::GET, "/x", &[("x", &long)], "").await;
    assert!(refused.is_err() || refused.is_ok_and(|live| live.status == 431));
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn more_fields_than_their_limit_are_refused() {
    let upstream = Scripted::always(OK).await;
    let world = limited(&upstream, "headers", json!(20)).await;
    let head = |fields: usize| {
        let mut head = "GET /x HTTP/1.1\r\nhost: a\r\n".to_owned();
        for n in 1..fields {
            write!(head, "x-{n}: 1\r\n").unwrap();
        }
        head + "\r\n"
    };
    assert_eq!(world.wire().await.ask(head(20)).await.status, 200);
    let reply = world.wire().await.ask(head(21)).await;
    assert_eq!(reply.status, 431, "{reply:?}");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn fields_of_an_http2_head_count_too() {
    let upstream = Scripted::always(OK).await;
    let world = limited(&upstream, "headers", json!(20)).await;
    let h2 = Client::h2(world.addr()).await;
    let names: Vec<String> = (0..30).map(|n| format!("x-{n}")).collect();
    let headers: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "1")).collect();
    let reply = h2.send(Method::GET, "/x", &headers, "").await;
    assert_eq!(reply.refusal(), (431, "headers_too_large"));
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_connection_too_many_is_closed_and_the_next_one_has_its_place() {
    let upstream = Scripted::always(OK).await;
    let world = limited(&upstream, "connections", json!(2)).await;
    let get = "GET /x HTTP/1.1\r\nhost: a\r\n\r\n";
    let (mut first, mut second) = (world.wire().await, world.wire().await);
    assert_eq!((first.ask(get).await.status, second.ask(get).await.status), (200, 200));

    assert_eq!(world.wire().await.ask(get).await.status, 0, "one too many");

    drop(first);
    let again = || async { world.wire().await.ask(get).await.status };
    tollgate_tests::until("a free place", again, |status| *status == 200).await;
    assert_eq!(second.ask(get).await.status, 200, "the others did not notice");
}

#[tokio::test]
async fn a_body_longer_than_the_route_takes_is_refused() {
    let upstream = Scripted::always(OK).await;
    let world = World::builder()
        .upstream(upstream.url())
        .set("routes.0.max_body", json!("64KiB"))
        .start()
        .await;
    for path in ["/x", CHAT] {
        let fits = world.client.send(Method::POST, path, &[], vec![b'x'; 64 * 1024]).await;
        assert_eq!(fits.status, StatusCode::OK);
        let before = upstream.seen().len();
        let announced = world.client.send(Method::POST, path, &[], vec![b'x'; 64 * 1024 + 1]).await;
        assert_eq!(announced.refusal(), (413, "body_too_large"), "{path}");
        assert_eq!(upstream.seen().len(), before, "a length that is announced is not tried");

        let (upload, answer) = world.client.upload(Method::POST, path, &[]);
        let mut tasks = JoinSet::new();
        tasks.spawn(answer);
        for _ in 0..9 {
            upload.send(vec![b'x'; 8 * 1024]).await;
        }
        drop(upload);
        let live = tasks.join_next().await.unwrap().unwrap().unwrap();
        assert_eq!(live.finish().await.refusal(), (413, "body_too_large"), "{path}, unannounced");
    }
    let whole = upstream.seen().iter().filter(|seen| !seen.cut).count();
    assert_eq!(whole, 2, "what was too long never arrived as a whole");
}

#[tokio::test]
async fn a_body_too_long_to_hold_streams_through_uncached() {
    let world = World::builder()
        .config(|yaml| {
            yaml.set("routes.0.cache", json!({ "mode": "content" }));
            yaml.set("listeners.0.limits.body", json!("64KiB"));
        })
        .start()
        .await;
    let question = chat(&"x".repeat(200_000));
    for client in [world.client.clone(), Client::h2(world.addr()).await] {
        let reply = client.post(CHAT, &question).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.header("cache-status"), "tollgate; fwd=bypass; detail=body-too-large");
    }
    let requests = world.standin.last_requests();
    assert_eq!(requests.len(), 2, "not cached");
    assert!(requests.iter().all(|seen| seen.body == question.to_string().as_bytes()));

    let (upload, answer) =
        world.client.upload(Method::POST, CHAT, &[("content-type", "application/json")]);
    let mut tasks = JoinSet::new();
    tasks.spawn(answer);
    for piece in question.to_string().into_bytes().chunks(10_000) {
        assert!(upload.send(piece.to_vec()).await);
    }
    drop(upload);
    let live = tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(live.header("cache-status"), "tollgate; fwd=bypass; detail=body-too-large");
    live.finish().await;
    assert_eq!(world.standin.last_requests()[2].body, question.to_string().as_bytes());
}

#[tokio::test]
async fn bodies_are_held_up_to_a_sum() {
    let gate = Gate::heads();
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let world = World::builder()
        .standin(options)
        .config(|yaml| {
            yaml.set("routes.0.cache", json!({ "mode": "content" }));
            yaml.set("listeners.0.limits.body", json!("64KiB"));
            yaml.set("listeners.0.limits.held", json!("64KiB"));
        })
        .start()
        .await;
    let mut tasks = JoinSet::new();
    for place in ["first", "second"] {
        let client = Client::new(world.addr());
        let question = chat(&place.repeat(8_000));
        tasks.spawn(async move { client.post(CHAT, &question).await });
        let n = if place == "first" { 1 } else { 2 };
        world.provider("the call", |counts| counts.in_flight == n).await;
    }
    gate.open();
    let mut said: Vec<String> = Vec::new();
    while let Some(reply) = tasks.join_next().await {
        said.push(reply.unwrap().header("cache-status").to_owned());
    }
    said.sort_unstable();
    let wanted = ["tollgate; fwd=bypass; detail=body-too-large", "tollgate; fwd=miss"];
    assert_eq!(said, wanted);

    // What was held is free again.
    let reply = world.client.post(CHAT, &chat(&"third".repeat(8_000))).await;
    assert_eq!(reply.header("cache-status"), "tollgate; fwd=miss");
}

#[tokio::test]
async fn who_sends_its_head_too_slowly_is_cut_off() {
    let upstream = Scripted::always(OK).await;
    let world = limited(&upstream, "header_timeout", json!("100ms")).await;
    for start in ["", "G", "GET /x HTTP/1.1\r\nhost: a\r\nx: y", "PRI * HT"] {
        let mut wire = world.wire().await;
        wire.send(start).await;
        let rest = wire.closed().await;
        // HTTP/2 introduces itself before it says goodbye.
        assert!(rest.is_empty() || start.starts_with("PRI"), "{start:?}: {rest:?}");
    }
    // Nor does a byte now and then win more time.
    let mut wire = world.wire().await;
    assert_eq!(wire.ask("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await.status, 200);
    wire.send("GET /x HTTP/1.1\r\n").await;
    wire.closed().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let gate = Gate::heads();
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let world = World::builder()
        .standin(options)
        .set("listeners.0.limits.idle_timeout", json!("100ms"))
        .start()
        .await;
    for client in [world.client.clone(), Client::h2(world.addr()).await] {
        let before = world.standin.counts().in_flight;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { client.post(CHAT, &chat("busy")).await });
        world.provider("the busy call", |counts| counts.in_flight == before + 1).await;

        // A connection that was used and fell idle: its end is later than the busy one's
        // would have been.
        let mut idle = world.wire().await;
        let health = "GET /health HTTP/1.1\r\nhost: a\r\n\r\n";
        assert_eq!(idle.ask(health).await.status, 200);
        assert!(idle.closed().await.is_empty());

        gate.release(1);
        assert_eq!(tasks.join_next().await.unwrap().unwrap().status, StatusCode::OK);
    }
}

#[tokio::test]
async fn who_stops_in_the_middle_of_its_body_is_told() {
    let upstream = Scripted::always(OK).await;
    let world = limited(&upstream, "idle_timeout", json!("100ms")).await;
    let mut wire = world.wire().await;
    wire.send(format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n{{")).await;
    assert_eq!(wire.reply().await.refusal(), (408, "request_timeout"));
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn an_answer_with_a_head_too_long_is_a_bad_gateway() {
    let long =
        format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "y".repeat(200_000));
    let upstream = Scripted::once(long).await;
    let world = World::before(upstream.url()).await;
    let reply = world.client.get("/x").await;
    assert_eq!(reply.refusal(), (502, "upstream_protocol"));
}
