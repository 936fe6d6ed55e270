//! Calls of one tenant that come at the same time are asked in one upstream call.
//!
//! The moment that the first waits for is as long as it may be, and what ends it is that no more
//! fits: so no scenario depends on how fast it runs.

use crate::cache_stage::{
    Asked, answered, assert_hit, assert_miss, content, cost_pico, record_of, send, with,
};
use http::StatusCode;
use serde_json::{Value, json};
use tollgate_ledger::CacheOutcome;
use tollgate_tests::{
    Client, Scripted, World,
    standin::{Fault, Gate, Options},
    until,
};

const EMBED: &str = "/v1/embeddings";
const JOINED: &str = "tollgate_cache_joined_calls_total{route=\"all\"}";

fn embed(input: Value) -> Value {
    json!({ "model": "text-embedding-3-small", "input": input })
}

async fn world(items_max: usize) -> World {
    content(json!({ "join": { "within": "1s", "items_max": items_max } })).start().await
}

/// What the provider was asked for last, in an order of its own.
fn asked(world: &World) -> Vec<String> {
    let last = world.standin.last_requests().pop().unwrap();
    let body: Value = serde_json::from_slice(&last.body).unwrap();
    let mut texts: Vec<String> = serde_json::from_value(body["input"].clone()).unwrap();
    texts.sort_unstable();
    texts
}

async fn whole(world: &World, question: &Value) -> Value {
    world.client.post_with(EMBED, &[("cache-control", "no-store")], question).await.json()
}

#[tokio::test]
async fn calls_that_come_together_are_asked_in_one_and_each_has_its_own() {
    let world = world(5).await;
    // One text, a list of one, and a list with one twice.
    let questions =
        [json!("a"), json!(["bb"]), json!(["ccc", "dddd", "ccc"]), json!("e")].map(embed);
    let calls: Vec<Asked> =
        questions.iter().map(|question| send(&world.client, EMBED, &[], question)).collect();
    let mut replies = Vec::new();
    for call in calls {
        replies.push(answered(call).await);
    }
    assert_eq!(world.standin.counts().calls, 1);
    assert_eq!(asked(&world), ["a", "bb", "ccc", "dddd", "e"]);
    assert_eq!(world.metric(JOINED), Some(3.0));
    let (mut tokens, mut cost) = (0, 0);
    for (question, reply) in questions.iter().zip(&replies) {
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        assert_eq!(reply.json()["data"], whole(&world, question).await["data"]);
        let record = record_of(&world, reply).await;
        tokens += u64::from(record.record.tokens.input);
        cost += cost_pico(&record);
        assert!(matches!(record.record.outcome, CacheOutcome::Miss | CacheOutcome::Partial));
    }
    // Asked whole, all of them would have been five calls.
    assert_eq!((tokens, cost), (3, 60_000), "11 bytes are three tokens, of 20,000 pico-dollars");
    for question in &questions {
        assert_hit(&world.client.post(EMBED, question).await);
    }
}

#[tokio::test]
async fn who_comes_alone_is_asked_alone_when_the_moment_is_over() {
    let world = content(json!({ "join": { "within": "1ms", "items_max": 64 } })).start().await;
    let question = embed(json!("a"));
    let reply = world.client.post(EMBED, &question).await;
    assert_miss(&reply);
    assert_eq!(reply.json(), whole(&world, &question).await);
    assert_hit(&world.client.post(EMBED, &question).await);
    assert_eq!(world.metric(JOINED), Some(0.0));
}

#[tokio::test]
async fn nobody_is_asked_with_another_tenant_or_in_another_way() {
    let world = content(json!({ "join": { "within": "20ms", "items_max": 2 } })).start().await;
    let (one, two) = ([("authorization", "Bearer one")], [("authorization", "Bearer two")]);
    let elsewhere = [one[0], ("openai-organization", "x")];
    let longer = with(&embed(json!("d")), json!({ "dimensions": 3 }));
    let calls = [
        send(&world.client, EMBED, &one, &embed(json!("a"))),
        send(&world.client, EMBED, &two, &embed(json!("b"))),
        send(&world.client, EMBED, &elsewhere, &embed(json!("c"))),
        send(&world.client, EMBED, &one, &longer),
    ];
    for call in calls {
        assert_miss(&answered(call).await);
    }
    assert_eq!((world.standin.counts().calls, world.metric(JOINED)), (4, Some(0.0)));
    for request in world.standin.last_requests() {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body["input"].as_array().map_or(1, Vec::len), 1);
    }
}

#[tokio::test]
async fn who_leaves_hurts_nobody_and_has_paid_its_share() {
    let world = world(3).await;
    let gate = Gate::heads();
    world.standin.set_gate(Some(gate.clone()));
    let [gone, stays, too] =
        ["aaaa", "bbbb", "cccc"].map(|text| send(&world.client, EMBED, &[], &embed(json!(text))));
    world.standin.wait_for_in_flight(1).await;
    gone.abort();
    gate.open();
    for call in [stays, too] {
        assert_miss(&answered(call).await);
    }
    let counts = world.standin.counts();
    assert_eq!((counts.calls, counts.billed.input), (1, 3));
    let records = world.records_when(3).await;
    assert!(records.iter().all(|view| view.record.tokens.input == 1), "{records:?}");
}

#[tokio::test]
async fn when_all_have_left_the_upstream_is_let_go() {
    let world = world(2).await;
    world.standin.set_gate(Some(Gate::heads()));
    let calls = ["a", "b"].map(|text| send(&world.client, EMBED, &[], &embed(json!(text))));
    world.standin.wait_for_in_flight(1).await;
    calls.iter().for_each(|call| call.abort());
    world.standin.wait_for_aborted(1).await;
    let records = world.records_when(2).await;
    assert!(records.iter().all(|view| view.record.status == 499), "{records:?}");
}

#[tokio::test]
async fn a_failure_is_everybodys_and_nothing_is_kept() {
    let world = world(2).await;
    let both =
        |world: &World| ["a", "b"].map(|text| send(&world.client, EMBED, &[], &embed(json!(text))));
    world.standin.fault_next(Fault::Fail(StatusCode::TOO_MANY_REQUESTS), 1);
    for call in both(&world) {
        let reply = answered(call).await;
        assert!(reply.status == 429 && reply.text().contains("as asked"), "{reply:?}");
    }
    world.standin.fault_next(Fault::Reset, 1);
    for call in both(&world) {
        assert_eq!(answered(call).await.refusal(), (502, "upstream_reset"));
    }
    // What is no answer to both is asked for by each.
    world.standin.fault_next(Fault::BadJson, 1);
    for call in both(&world) {
        assert_miss(&answered(call).await);
    }
    assert_eq!(world.standin.counts().calls, 5);
    let records = world.records_when(6).await;
    assert!(records.iter().all(|view| view.record.outcome == CacheOutcome::Miss), "{records:?}");
}

/// Goal: one caller's bad text is its own misfortune.
#[tokio::test]
async fn what_is_refused_for_one_is_not_refused_to_the_others() {
    let world = world(4).await;
    for status in [StatusCode::BAD_REQUEST, StatusCode::UNPROCESSABLE_ENTITY] {
        world.standin.fault_next(Fault::Fail(status), 1);
        let both = ["a", "b"].map(|text| embed(json!([text, status.as_u16().to_string()])));
        let calls = both.map(|question| send(&world.client, EMBED, &[], &question));
        for call in calls {
            assert_miss(&answered(call).await);
        }
    }
    // Once together, and then each alone.
    assert_eq!(world.standin.counts().calls, 6);
}

#[tokio::test]
async fn what_an_answer_says_of_its_version_is_said_to_each() {
    let options = Options { model_version: Some("7".into()), ..Options::default() };
    let join = json!({ "join": { "within": "1s", "items_max": 2 } });
    let world = content(join).standin(options).start().await;
    let calls = ["a", "b"].map(|text| send(&world.client, EMBED, &[], &embed(json!(text))));
    for call in calls {
        assert_eq!(answered(call).await.header("x-model-version"), "7");
    }
    assert_hit(&world.client.post(EMBED, &embed(json!(["b", "a"]))).await);
    assert_eq!(world.standin.counts().calls, 1);
}

/// Goal: who wants the best of its documents is given as many as it wants.
#[tokio::test]
async fn who_wants_only_the_best_is_not_asked_with_others() {
    let policy = json!({ "items": "auto", "join": { "within": "1s", "items_max": 4 } });
    let world = content(policy).set("routes.0.dialect", json!("cohere")).start().await;
    let rank = |documents: [&str; 2]| {
        let rest = json!({ "model": "rerank-v3.5", "query": "q", "top_n": 1 });
        with(&rest, json!({ "documents": documents }))
    };
    let calls =
        [["a", "b"], ["c", "d"]].map(|two| send(&world.client, "/v2/rerank", &[], &rank(two)));
    for call in calls {
        let reply = answered(call).await;
        assert_eq!(reply.json()["results"].as_array().map(Vec::len), Some(1), "{reply:?}");
    }
    assert_eq!((world.standin.counts().calls, world.metric(JOINED)), (2, Some(0.0)));
}

/// An answer to two texts, with a head of one caller's own.
fn answer_to_two(status: &str, own: &str) -> String {
    let body = json!({
        "object": "list", "model": "text-embedding-3-small",
        "data": [
            { "object": "embedding", "index": 0, "embedding": [0.5] },
            { "object": "embedding", "index": 1, "embedding": [0.25] },
        ],
        "usage": { "prompt_tokens": 6, "total_tokens": 6 },
    });
    let body = body.to_string();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{own}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Goal: the session that a service opens for one is given to nobody else.
#[tokio::test]
async fn a_cookie_is_for_the_one_whose_call_was_sent() {
    let own = "set-cookie: session=1\r\nx-request-id: 7\r\n";
    let upstream = Scripted::always(answer_to_two("200 OK", own)).await;
    let join = json!({ "join": { "within": "1s", "items_max": 2 } });
    let world = content(join).upstream(upstream.url()).start().await;
    let calls = ["a", "b"].map(|text| send(&world.client, EMBED, &[], &embed(json!(text))));
    let mut cookies = 0;
    for call in calls {
        let reply = answered(call).await;
        assert_miss(&reply);
        cookies += reply.headers.get_all("set-cookie").iter().count();
    }
    assert_eq!((cookies, upstream.seen().len()), (1, 1));
}

#[tokio::test]
async fn a_request_with_a_name_of_its_own_is_sent_as_it_came() {
    let world = content(json!({ "join": { "within": "20ms", "items_max": 2 } })).start().await;
    let name = [("idempotency-key", "one")];
    let calls = ["a", "b"].map(|text| send(&world.client, EMBED, &name, &embed(json!([text]))));
    for call in calls {
        assert_miss(&answered(call).await);
    }
    assert_eq!((world.standin.counts().calls, world.metric(JOINED)), (2, Some(0.0)));
    let named = |world: &World| {
        let last = world.standin.last_requests().pop().unwrap();
        last.header("idempotency-key").map(str::to_owned)
    };
    assert_eq!(named(&world).as_deref(), Some("one"));
    // A part of it is another request.
    world.client.post_with(EMBED, &name, &embed(json!(["a", "c"]))).await;
    assert_eq!((asked(&world), named(&world)), (vec!["c".to_owned()], None));
}

/// Goal: what was used is somebody's to pay, also where the answer is none that can be shared.
#[tokio::test]
async fn an_answer_that_is_no_200_is_paid_for_and_given_to_nobody() {
    let status = "203 Non-Authoritative Information";
    let upstream = Scripted::always(answer_to_two(status, "")).await;
    let join = json!({ "join": { "within": "1s", "items_max": 2 } });
    let world = content(join).upstream(upstream.url()).start().await;
    let calls = ["a", "b"].map(|text| send(&world.client, EMBED, &[], &embed(json!(text))));
    for call in calls {
        assert_eq!(answered(call).await.status, 203);
    }
    assert_eq!(upstream.seen().len(), 3, "together, and then each alone");
    let records = world.records_when(2).await;
    let tokens: u32 = records.iter().map(|view| view.record.tokens.input).sum();
    assert_eq!(tokens, 18, "{records:?}");
}

/// Goal: nothing is asked, and nobody billed, for who has left before anything was sent.
///
/// What ends the moment is that no more fits, which those who left still count for.
#[tokio::test]
async fn nothing_is_asked_for_those_who_left_before_it_was_sent() {
    let world = world(4).await;
    let [one, two, stays] =
        ["a", "b", "cccc"].map(|text| send(&world.client, EMBED, &[], &embed(json!(text))));
    world.metric_when(JOINED, 2.0).await;
    [&one, &two].iter().for_each(|call| call.abort());
    fills(&world, 1).await;
    let last = send(&world.client, EMBED, &[], &embed(json!("dddd")));
    for call in [stays, last] {
        assert_miss(&answered(call).await);
    }
    assert_eq!((world.standin.counts().calls, asked(&world)), (1, texts_of(&["cccc", "dddd"])));
    let records = world.records_when(4).await;
    let of = |status| records.iter().filter(move |view| view.record.status == status);
    let tokens = |status| of(status).map(|view| view.record.tokens.input).collect::<Vec<_>>();
    assert_eq!((tokens(200), tokens(499)), (vec![1, 1], vec![0, 0]), "{records:?}");
    assert!(of(499).all(|view| cost_pico(view) == 0 && view.record.saved_pico == 0), "{records:?}");
    assert!(is_unknown(&world, "a").await && is_unknown(&world, "b").await);
}

/// Waits until so many fills are under way: of who has left there is none.
async fn fills(world: &World, n: u64) {
    let admin = Client::new(world.app.addresses().admin.unwrap());
    let look = async || admin.get("/api/cache/stats").await.json()["flights"].clone();
    until("the fills under way", look, |flights| *flights == json!(n)).await;
}

fn texts_of(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

async fn is_unknown(world: &World, text: &str) -> bool {
    let only = [("cache-control", "only-if-cached")];
    world.client.post_with(EMBED, &only, &embed(json!(text))).await.status == 504
}

#[tokio::test]
async fn when_all_have_left_before_it_was_sent_nothing_is() {
    let world = world(3).await;
    let calls = ["a", "b"].map(|text| send(&world.client, EMBED, &[], &embed(json!(text))));
    world.metric_when(JOINED, 1.0).await;
    calls.iter().for_each(|call| call.abort());
    fills(&world, 0).await;
    // It ends their moment, and does not fit into it.
    let alone = send(&world.client, EMBED, &[], &embed(json!(["c", "d", "e"])));
    assert_miss(&answered(alone).await);
    assert_eq!((world.standin.counts().calls, asked(&world)), (1, texts_of(&["c", "d", "e"])));
    let records = world.records_when(3).await;
    let left = records.iter().filter(|view| view.record.status == 499);
    assert!(left.clone().count() == 2 && left.clone().all(|view| cost_pico(view) == 0));
}
