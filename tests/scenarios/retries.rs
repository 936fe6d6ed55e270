//! A call that failed is tried again where that is harmless or written out, and never so often
//! that it makes an outage worse.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::net::TcpListener;
use tollgate_tests::{CHAT, Scripted, World, chat, standin::Fault};

async fn world(retries: Value) -> World {
    World::builder().set("upstreams.model.retries", retries).start().await
}

fn tries(world: &World, cause: &str) -> f64 {
    let series = format!("tollgate_upstream_retries_total{{cause=\"{cause}\",upstream=\"model\"}}");
    world.metric(&series).unwrap()
}

const OVER_BUDGET: &str = "tollgate_upstream_retries_over_budget_total{upstream=\"model\"}";

#[tokio::test]
async fn what_could_not_be_sent_is_sent_to_another_endpoint() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = World::builder()
        .config(move |yaml| {
            yaml.set("upstreams.model.endpoints.1", json!({ "url": format!("http://{closed}") }));
            yaml.set("upstreams.model.balance", json!("round_robin"));
            yaml.set("upstreams.model.host", json!("upstream"));
            yaml.set("upstreams.model.retries", json!({}));
        })
        .start()
        .await;
    for _ in 0..4 {
        assert_eq!(world.client.post(CHAT, &chat("a")).await.status, 200);
    }
    assert!(tries(&world, "connect") >= 1.0 && tries(&world, "reset") == 0.0);
    assert_eq!(world.records_when(4).await.len(), 4, "a record a call, however often it was tried");
    let own = world.standin.addr().to_string();
    for seen in world.standin.last_requests() {
        assert_eq!(seen.headers.get("host").unwrap(), own.as_str(), "the host of who is asked");
    }
}

/// The answers of a provider, one a connection; none: it hangs up on what it was sent.
const ANSWERS: [&str; 7] = ["", OK, BAD_GATEWAY, OK, "", BAD_GATEWAY, NOT_FOUND];
const OK: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const BAD_GATEWAY: &str =
    "HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn what_was_sent_is_sent_again_only_if_it_may_be_made_twice() {
    let upstream = Scripted::start(|mut line| async move {
        line.request().await;
        line.wire.send(ANSWERS[line.connection]).await;
    })
    .await;
    let world = World::builder()
        .upstream(upstream.url())
        .set("upstreams.model.retries", json!({ "for": ["connect"] }))
        .start()
        .await;
    assert_eq!(world.client.get("/page").await.status, 200);
    assert_eq!(world.client.get("/page").await.status, 200);
    assert_eq!((tries(&world, "reset"), tries(&world, "502")), (1.0, 1.0));
    let reply = world.client.post(CHAT, &chat("a")).await;
    assert_eq!(reply.refusal(), (502, "upstream_reset"));
    assert_eq!(world.client.post(CHAT, &chat("a")).await.status, 502);
    // What the service says for good is passed on.
    assert_eq!(world.client.get("/page").await.status, 404);
    assert_eq!(upstream.connections(), ANSWERS.len());
}

#[tokio::test]
async fn a_post_is_sent_again_for_what_is_written_out() {
    let world = world(json!({ "attempts": 2, "for": ["reset", 503] })).await;
    world.standin.fault_next(Fault::Reset, 1);
    assert_eq!(world.client.post(CHAT, &chat("a")).await.status, 200);
    world.standin.fault_next(Fault::Fail(StatusCode::SERVICE_UNAVAILABLE), 2);
    assert_eq!(world.client.post(CHAT, &chat("a")).await.status, 200);
    world.standin.fault_next(Fault::Fail(StatusCode::GATEWAY_TIMEOUT), 1);
    assert_eq!(world.client.post(CHAT, &chat("a")).await.status, 504);
    // No more often than that.
    world.standin.fault_next(Fault::Fail(StatusCode::SERVICE_UNAVAILABLE), 3);
    assert_eq!(world.client.post(CHAT, &chat("a")).await.status, 503);
    assert_eq!((tries(&world, "reset"), tries(&world, "503")), (1.0, 4.0));
    let records = world.records_when(4).await;
    assert_eq!(records.len(), 4);
    assert!(records[0].record.tokens.output > 0 && records[0].record.status == 200);
}

#[tokio::test]
async fn a_body_that_streams_through_is_not_sent_again() {
    let world = World::builder()
        .set("upstreams.model.retries", json!({ "for": ["connect", 503] }))
        .set("listeners.0.limits", json!({ "body": "1KiB" }))
        .start()
        .await;
    world.standin.fault_next(Fault::Fail(StatusCode::SERVICE_UNAVAILABLE), 1);
    let body = chat(&"a".repeat(4096)).to_string();
    let headers = [("content-type", "application/json")];
    let reply = world.client.send(Method::POST, CHAT, &headers, body).await;
    assert_eq!(reply.status, 503);
    assert_eq!(tries(&world, "503"), 0.0);
}

/// The rule itself, with its time, is tested beside `core`'s `retry_budget`.
#[tokio::test]
async fn a_service_that_is_down_is_not_asked_for_much_more() {
    let world = world(json!({ "attempts": 1, "for": [503], "budget": "0%" })).await;
    world.standin.fault_next(Fault::Fail(StatusCode::SERVICE_UNAVAILABLE), 1000);
    let mut asked: u32 = 0;
    while world.metric(OVER_BUDGET) == Some(0.0) {
        assert_eq!(world.client.post(CHAT, &chat("a")).await.status, 503);
        asked += 1;
    }
    let tried = tries(&world, "503");
    assert!(10.0 <= tried && tried + 1.0 == f64::from(asked), "{tried} of {asked}");
}
