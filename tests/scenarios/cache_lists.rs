//! Calls about many things where something goes wrong: a provider that fails, a version that changes
//! on the way, a tier that takes few questions at once.

use crate::{
    cache_items::{EMBED, asked, assert_partial, embed, texts},
    cache_lease::Fleet,
    cache_stage::{
        Told as _, answered, assert_hit, assert_miss, content, cost_pico, is_cached, purge,
        record_of, send,
    },
};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::TaskTracker;
use tollgate_ledger::{CacheOutcome, Reason};
use tollgate_tests::{World, standin::Fault, until};

/// Goal: who waits for another instance, and is told that its answer is of a newer version, keeps
/// nothing of the older one.
#[tokio::test]
async fn one_answer_is_of_one_version_in_a_fleet_too() {
    let fleet = Fleet::new().await;
    let policy = json!({ "tiers": ["memory", "redis"], "writes": "through" });
    let (a, b) = (fleet.member_by(policy.clone()).await, fleet.member_by(policy).await);
    fleet.provider.set_model_version(Some("1"));
    fleet.gate.release(1);
    assert_miss(&a.client.post(EMBED, &embed(&["a"])).await);
    let known = async || is_cached(&b.client, EMBED, &embed(&["a"])).await;
    until("what is known at the other", known, |known| *known).await;

    fleet.provider.set_model_version(Some("2"));
    let both = embed(&["a", "b"]);
    let leads = send(&a.client, EMBED, &[], &both);
    fleet.in_flight(1).await;
    let waits = send(&b.client, EMBED, &[], &both);
    fleet.somebody_waits().await;
    fleet.gate.open();
    let (led, waited) = (answered(leads).await, answered(waits).await);
    assert_eq!((led.header("x-model-version"), waited.header("x-model-version")), ("2", "2"));
    assert_eq!(waited.json()["data"], led.json()["data"]);
    assert_hit(&waited);
    assert_eq!(fleet.provider.counts().calls, 3, "the first, the rest, and all of it");
}

/// Goal: what is there is not paid for again, however much of it is asked for at once.
#[tokio::test]
async fn of_many_things_on_the_disk_all_are_found() {
    let world = content(json!({ "tiers": ["disk"], "writes": "through" }))
        .set("cache.disk", json!({ "timeout": "10s" }))
        .start()
        .await;
    // The tier opens beside the calls.
    let look = async || world.client.post(EMBED, &embed(&["a"])).await;
    until("an answer on the disk", look, |reply| reply.is_hit()).await;
    let calls = world.standin.counts().calls;
    assert_miss(&world.client.post(EMBED, &embed(&texts(0..200))).await);
    assert_hit(&world.client.post(EMBED, &embed(&texts(0..200))).await);
    assert_eq!(world.standin.counts().calls, calls + 1);
}

#[tokio::test]
async fn while_the_provider_fails_a_list_is_given_as_it_was() {
    let world = content(json!({ "stale": { "if_error": "1h" } })).start().await;
    let old = world.client.post(EMBED, &embed(&["a", "b"])).await;
    assert_miss(&old);
    purge(&world, json!({ "route": "all", "soft": true })).await;
    assert_miss(&world.client.post(EMBED, &embed(&["c"])).await);
    let both = embed(&["a", "b"]);
    world.standin.fault_next(Fault::Reset, 1);
    let reply = world.client.post(EMBED, &both).await;
    assert_eq!((reply.status, reply.json()), (StatusCode::OK, old.json()), "{reply:?}");
    assert!(reply.cache_status().starts_with("tollgate; fwd=stale; ttl="), "{reply:?}");
    let record = record_of(&world, &reply).await.record;
    assert_eq!((record.outcome, record.reason), (CacheOutcome::Stale, Reason::UpstreamReset));

    // Of what is past its time, and what is not.
    let all = embed(&["c", "b", "a", "b"]);
    world.standin.fault_next(Fault::Fail(StatusCode::SERVICE_UNAVAILABLE), 1);
    let reply = world.client.post(EMBED, &all).await;
    assert!(reply.cache_status().starts_with("tollgate; fwd=stale; fwd-status=503"), "{reply:?}");
    assert_eq!(asked(&world), embed(&["b", "a"]));
    let vectors = |reply: Value| reply["data"].as_array().unwrap().len();
    assert_eq!(vectors(reply.json()), 4);
    // Not where a part is not there at all.
    world.standin.fault_next(Fault::Reset, 1);
    assert_eq!(world.client.post(EMBED, &embed(&["a", "z"])).await.status, 502);
    // And it is renewed as soon as it can be.
    let renewed = world.client.post(EMBED, &all).await;
    assert_partial(&renewed, 2, 4);
    assert_eq!(renewed.json()["data"], reply.json()["data"]);
    assert_hit(&world.client.post(EMBED, &both).await);
}

/// Reads one request, whose body is an object, and answers with this many vectors and tokens.
async fn answer(stream: &mut TcpStream, vectors: usize, tokens: u32, then: &str) {
    let mut came = Vec::new();
    while !came.ends_with(b"}") {
        assert!(stream.read_buf(&mut came).await.unwrap() > 0);
    }
    let vector = |index| json!({ "object": "embedding", "index": index, "embedding": [0.5] });
    let data: Vec<Value> = (0..vectors).map(vector).collect();
    let body = json!({
        "object": "list", "model": "text-embedding-3-small", "data": data,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    });
    let body = body.to_string();
    let head = format!("connection: {then}\r\ncontent-type: application/json");
    let len = body.len();
    let all = format!("HTTP/1.1 200 OK\r\n{head}\r\ncontent-length: {len}\r\n\r\n{body}");
    stream.write_all(all.as_bytes()).await.unwrap();
}

/// Goal: what is in the ledger was sent. Method: the answer to a part is of no use, and when the whole
/// is to be asked for, the provider is gone.
#[tokio::test]
async fn a_second_try_that_is_never_sent_costs_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    TaskTracker::new().spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        answer(&mut stream, 1, 3, "keep-alive").await;
        drop(listener);
        answer(&mut stream, 2, 7, "close").await;
    });
    let world: World = content(json!({})).upstream(url).start().await;
    assert_miss(&world.client.post(EMBED, &embed(&["a"])).await);
    let reply = world.client.post(EMBED, &embed(&["a", "b"])).await;
    assert_eq!(reply.status, 502, "{reply:?}");
    let view = record_of(&world, &reply).await;
    assert_eq!((view.record.tokens.input, cost_pico(&view)), (7, 7 * 20_000), "{view:?}");
}
