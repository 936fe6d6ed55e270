//! Calls about many things: what is known of them is not asked again, and the answer is the one that
//! the whole call would have had.

use crate::{
    cache_redis::{Line, Server, UP, member_with, provider},
    cache_stage::{
        Asked, COLLAPSED, Told as _, answered, assert_hit, assert_miss, content, cost_pico,
        is_cached, purge, record_of, send, with,
    },
};
use http::StatusCode;
use serde_json::{Value, json};
use tollgate_ledger::CacheOutcome;
use tollgate_tests::{
    Client, Reply, World,
    standin::{Fault, Gate, Options},
    until,
};

pub(crate) const EMBED: &str = "/v1/embeddings";
const RERANK: &str = "/v2/rerank";

pub(crate) fn embed(texts: &[impl AsRef<str>]) -> Value {
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    json!({ "model": "text-embedding-3-small", "input": texts })
}

pub(crate) fn texts(of: impl IntoIterator<Item = usize>) -> Vec<String> {
    of.into_iter().map(|n| format!("text {n} {}", "x".repeat(n % 7))).collect()
}

async fn world(policy: Value) -> World {
    content(policy).start().await
}

/// The last request that the provider was sent.
pub(crate) fn asked(world: &World) -> Value {
    let last = world.standin.last_requests().pop().unwrap();
    serde_json::from_slice(&last.body).unwrap()
}

/// What the provider itself answers to the whole call.
async fn whole(world: &World, path: &str, question: &Value) -> Value {
    world.client.post_with(path, &[("cache-control", "no-store")], question).await.json()
}

#[track_caller]
pub(crate) fn assert_partial(reply: &Reply, known: usize, all: usize) {
    let said = format!("tollgate; fwd=partial; detail=\"{known}/{all}\"");
    assert_eq!((reply.status, reply.cache_status()), (StatusCode::OK, &*said), "{reply:?}");
}

fn items(world: &World) -> [f64; 3] {
    ["hit", "miss", "unfit"].map(|outcome| {
        let series = format!("tollgate_cache_items_total{{route=\"all\",outcome=\"{outcome}\"}}");
        world.metric(&series).unwrap()
    })
}

/// Tokens and money spent, and money saved, by all calls.
async fn spent_and_saved(world: &World, calls: usize) -> (u64, i64, i64) {
    let records = world.records_when(calls).await;
    assert_eq!(records.len(), calls);
    let spent = records.iter().filter(|view| !view.record.outcome.is_hit());
    let tokens = spent.clone().map(|view| u64::from(view.record.tokens.input)).sum();
    let cost = spent.map(cost_pico).sum();
    (tokens, cost, records.iter().map(|view| view.record.saved_pico).sum())
}

#[tokio::test]
async fn of_a_hundred_texts_of_which_93_are_known_seven_are_asked_for() {
    let world = world(json!({})).await;
    let unknown = [3, 17, 18, 50, 77, 98, 99];
    let known = texts((0..100).filter(|n| !unknown.contains(n)));
    assert_miss(&world.client.post(EMBED, &embed(&known)).await);
    let all = embed(&texts(0..100));
    let reply = world.client.post(EMBED, &all).await;
    assert_partial(&reply, 93, 100);
    assert_eq!(asked(&world), embed(&texts(unknown)), "what is unknown, in order");
    assert_eq!(items(&world), [93.0, 100.0, 0.0]);
    let record = record_of(&world, &reply).await.record;
    assert_eq!(
        (record.outcome, record.bytes_out),
        (CacheOutcome::Partial, reply.body.len() as u64)
    );

    let hit = world.client.post(EMBED, &all).await;
    assert_hit(&hit);
    assert_eq!(hit.body, reply.body, "byte for byte");
    let (answer, billed) = (reply.json(), world.standin.counts().billed.input);
    assert_eq!(answer["usage"]["prompt_tokens"], billed, "what all of it would have cost");
    // 20 dollars for a billion tokens; the first call's share of the 93, and then all of it.
    let (tokens, cost, saved) = spent_and_saved(&world, 3).await;
    assert_eq!((tokens, cost), (billed, i64::try_from(billed).unwrap() * 20_000));
    let first = record_of(&world, &reply).await.record;
    assert_eq!(saved, cost - cost_pico(&record_of(&world, &reply).await) + cost);
    assert_eq!(first.tokens.input, world_tokens(&unknown));
    assert_eq!(answer["data"], whole(&world, EMBED, &all).await["data"]);
}

/// What the provider bills for these texts.
fn world_tokens(of: &[usize]) -> u32 {
    let bytes: usize = texts(of.iter().copied()).iter().map(String::len).sum();
    u32::try_from(bytes.div_ceil(4)).unwrap()
}

#[tokio::test]
async fn a_text_alone_and_in_a_list_is_one_question() {
    let world = world(json!({})).await;
    let alone = json!({ "model": "text-embedding-3-small", "input": "a" });
    assert_miss(&world.client.post(EMBED, &alone).await);
    assert_hit(&world.client.post(EMBED, &embed(&["a"])).await);
    assert_partial(&world.client.post(EMBED, &embed(&["b", "a"])).await, 1, 2);
    assert_eq!(asked(&world), embed(&["b"]));
    let alone = with(&alone, json!({ "input": "b" }));
    let hit = world.client.post(EMBED, &alone).await;
    assert_hit(&hit);
    assert_eq!(hit.json(), whole(&world, EMBED, &alone).await);
    // And where there was nothing to know, each is known from then on.
    assert_miss(&world.client.post(EMBED, &embed(&["c", "d"])).await);
    assert_hit(&world.client.post(EMBED, &embed(&["d"])).await);
    assert_hit(&world.client.post(EMBED, &embed(&["d", "b", "a", "c"])).await);
}

#[tokio::test]
async fn what_comes_twice_in_a_call_is_asked_once() {
    let world = world(json!({})).await;
    let question = embed(&["a", "b", "a", "a"]);
    let reply = world.client.post(EMBED, &question).await;
    assert_partial(&reply, 2, 4);
    assert_eq!(asked(&world), embed(&["a", "b"]));
    let record = record_of(&world, &reply).await;
    let billed = world.standin.counts().billed.input;
    assert_eq!(u64::from(record.record.tokens.input), billed);
    assert!(record.record.saved_pico > 0 && cost_pico(&record) > 0);
    assert_eq!(reply.json()["data"], whole(&world, EMBED, &question).await["data"]);
}

/// A dialect, its path, the member with the list, and how an item stands in it.
type Case = (Option<&'static str>, String, &'static str, fn(&str) -> Value, Value);

fn cases() -> Vec<Case> {
    let text = |text: &str| json!(text);
    let tokens = |text: &str| json!(text.bytes().collect::<Vec<u8>>());
    let part = |text: &str| json!({ "content": { "parts": [{ "text": text }] } });
    let small = json!({ "model": "text-embedding-3-small" });
    let gemini = "/v1beta/models/gemini-embedding-001:batchEmbedContents".to_owned();
    vec![
        (None, EMBED.into(), "input", tokens, small.clone()),
        (
            None,
            EMBED.into(),
            "input",
            text,
            with(&small, json!({ "encoding_format": "base64", "dimensions": 5 })),
        ),
        (None, gemini, "requests", part, json!({})),
        (Some("ollama"), "/api/embed".into(), "input", text, json!({ "model": "all-minilm" })),
        (
            Some("cohere"),
            "/v2/embed".into(),
            "texts",
            text,
            json!({ "model": "embed-v4.0", "input_type": "search_query" }),
        ),
    ]
}

#[tokio::test]
async fn every_dialects_lists_are_taken_apart() {
    for (dialect, path, list, item, rest) in cases() {
        let world = content(json!({})).set("routes.0.dialect", json!(dialect)).start().await;
        let question = |texts: &[&str]| {
            let all: Vec<Value> = texts.iter().map(|text| item(text)).collect();
            with(&rest, json!({ list: all }))
        };
        assert_miss(&world.client.post(&path, &question(&["bb", "dddd"])).await);
        let all = question(&["a", "bb", "ccc", "dddd"]);
        let before = world.standin.counts().billed.input;
        let reply = world.client.post(&path, &all).await;
        assert_partial(&reply, 2, 4);
        assert_eq!(asked(&world), question(&["a", "ccc"]), "{path}");
        let record = record_of(&world, &reply).await.record;
        let billed = world.standin.counts().billed.input - before;
        assert_eq!(u64::from(record.tokens.input), billed, "{path}: of the rest");
        // All but what was counted, and what names the call.
        let expected = whole(&world, &path, &all).await;
        for member in ["data", "embeddings", "model", "object", "total_duration"] {
            assert_eq!(reply.json().get(member), expected.get(member), "{path} {member}");
        }
        assert_hit(&world.client.post(&path, &question(&["ccc"])).await);
    }
}

#[tokio::test]
async fn documents_are_ranked_with_what_is_known_of_them() {
    let of = |world: &'static str| {
        content(json!({ "items": world })).set("routes.0.dialect", json!("cohere"))
    };
    let documents = |n: usize, more: Value| {
        let rest = json!({ "model": "rerank-v3.5", "query": "q", "documents": texts(0..n) });
        with(&rest, more)
    };
    let world = of("auto").start().await;
    assert_miss(&world.client.post(RERANK, &documents(5, json!({}))).await);
    let question = documents(10, json!({ "top_n": 3 }));
    let reply = world.client.post(RERANK, &question).await;
    assert_partial(&reply, 5, 10);
    let rest = asked(&world);
    assert_eq!((&rest["documents"], rest.get("top_n")), (&json!(texts(5..10)), None));
    assert_eq!(reply.json()["results"], whole(&world, RERANK, &question).await["results"]);
    let all = documents(10, json!({}));
    let hit = world.client.post(RERANK, &all).await;
    assert_hit(&hit);
    assert_eq!(hit.json()["results"], whole(&world, RERANK, &all).await["results"]);
    // Two searches were billed for, and everything is accounted for.
    let (_, cost, saved) = spent_and_saved(&world, 5).await;
    let of_hit = record_of(&world, &hit).await.record.saved_pico;
    assert_eq!((cost, of_hit), (4 * 2_000_000_000, 2 * 2_000_000_000));
    assert_eq!(saved, of_hit + 2_000_000_000);
    // Another question is about the same documents, and has other answers.
    assert_miss(&world.client.post(RERANK, &with(&all, json!({ "query": "p" }))).await);

    let world = of("embeddings").start().await;
    assert_miss(&world.client.post(RERANK, &documents(2, json!({}))).await);
    assert_miss(&world.client.post(RERANK, &documents(3, json!({}))).await);
    assert_eq!(asked(&world)["documents"], json!(texts(0..3)), "not by default");
}

#[tokio::test]
async fn a_json_service_says_where_its_lists_are() {
    for (path, answers) in [
        (EMBED, json!({ "list": "/input", "answers": "/data", "index": "index" })),
        ("/api/embed", json!({ "list": "/input", "answers": "/embeddings" })),
    ] {
        let world = content(json!({ "items": answers }))
            .set("routes.0.dialect", json!("http"))
            .start()
            .await;
        assert_miss(&world.client.post(path, &embed(&["b", "c"])).await);
        let all = embed(&["a", "b", "c", "b"]);
        let reply = world.client.post(path, &all).await;
        assert_partial(&reply, 3, 4);
        assert_eq!(asked(&world), embed(&["a"]));
        let expected = whole(&world, path, &all).await;
        for member in ["data", "embeddings"] {
            assert_eq!(reply.json().get(member), expected.get(member), "{path}");
        }
        assert_hit(&world.client.post(path, &all).await);
    }
}

#[tokio::test]
async fn no_tenant_is_given_another_tenants_items() {
    let world = world(json!({})).await;
    let (one, two) = ([("authorization", "Bearer one")], [("authorization", "Bearer two")]);
    let (some, all) = (embed(&["a", "b"]), embed(&["a", "b", "c"]));
    assert_miss(&world.client.post_with(EMBED, &one, &some).await);
    assert_miss(&world.client.post_with(EMBED, &two, &all).await);
    assert_eq!(asked(&world), all);
    assert_partial(&world.client.post_with(EMBED, &one, &all).await, 2, 3);
    // Nor those of a tenant's user, nor what was asked for in another organisation.
    let elsewhere = [one[0], ("openai-organization", "x")];
    assert_miss(&world.client.post_with(EMBED, &elsewhere, &all).await);
}

#[tokio::test]
async fn one_answer_is_never_of_two_versions_of_a_model() {
    let options = Options { model_version: Some("1".into()), ..Options::default() };
    let world = content(json!({})).standin(options).start().await;
    assert_miss(&world.client.post(EMBED, &embed(&["a", "b"])).await);
    world.standin.set_model_version(Some("2"));
    let all = embed(&["a", "b", "c"]);
    let reply = world.client.post(EMBED, &all).await;
    // Asked for the rest, and, as that is of another version, for all of it.
    assert_miss(&reply);
    assert_eq!((reply.header("x-model-version"), asked(&world)), ("2", all.clone()));
    assert_eq!(world.standin.counts().calls, 3);
    assert_eq!(items(&world), [0.0, 2.0, 3.0]);
    let (tokens, _, saved) = spent_and_saved(&world, 2).await;
    assert_eq!((tokens, saved), (world.standin.counts().billed.input, 0), "both are paid for");
    assert_hit(&world.client.post(EMBED, &all).await);
}

#[tokio::test]
async fn when_the_rest_fails_the_caller_is_told_and_nothing_is_kept() {
    let world = world(json!({})).await;
    assert_miss(&world.client.post(EMBED, &embed(&["a", "b"])).await);
    let all = embed(&["a", "b", "c"]);
    world.standin.fault_next(Fault::Fail(StatusCode::TOO_MANY_REQUESTS), 1);
    let reply = world.client.post(EMBED, &all).await;
    assert_eq!(reply.status, 429);
    assert!(reply.text().contains("as asked"), "the upstream's own words: {reply:?}");
    for (fault, status) in [(Fault::Reset, 502), (Fault::CutMidstream, 502)] {
        world.standin.fault_next(fault, 1);
        let reply = world.client.post(EMBED, &all).await;
        assert_eq!(reply.refusal(), (status, "upstream_reset"), "{reply:?}");
    }
    assert!(!is_cached(&world.client, EMBED, &embed(&["c"])).await);
    // What came as an answer and is none is not mixed with what is one: all of it is asked for.
    world.standin.fault_next(Fault::BadJson, 1);
    let reply = world.client.post(EMBED, &all).await;
    assert_eq!((reply.status, asked(&world)), (StatusCode::OK, all.clone()));
    assert_eq!(reply.json(), whole(&world, EMBED, &all).await);
}

#[tokio::test]
async fn who_asks_the_same_meanwhile_is_given_the_same() {
    let world = world(json!({})).await;
    assert_miss(&world.client.post(EMBED, &embed(&["a"])).await);
    let gate = Gate::heads();
    world.standin.set_gate(Some(gate.clone()));
    let all = embed(&["a", "b"]);
    let leader = send(&world.client, EMBED, &[], &all);
    world.standin.wait_for_in_flight(1).await;
    let followers: Vec<Asked> = (0..5).map(|_| send(&world.client, EMBED, &[], &all)).collect();
    world.metric_when("request_concurrency", 1.0).await;
    gate.open();
    let led = answered(leader).await;
    assert_partial(&led, 1, 2);
    for follower in followers {
        let reply = answered(follower).await;
        assert!(reply.is_hit() || reply.cache_status() == COLLAPSED, "{reply:?}");
        assert_eq!(reply.body, led.body);
    }
    assert_eq!(world.standin.counts().calls, 2);
    // Who leaves before the rest has come leaves its record, and nothing else.
    let gate = Gate::heads();
    world.standin.set_gate(Some(gate.clone()));
    let gone = send(&world.client, EMBED, &[], &embed(&["a", "z"]));
    world.standin.wait_for_in_flight(1).await;
    gone.abort();
    world.standin.wait_for_aborted(1).await;
    gate.open();
    let records = world.records_when(8).await;
    assert_eq!(records.last().unwrap().record.status, 499);
    assert_partial(&world.client.post(EMBED, &embed(&["a", "z"])).await, 1, 2);
}

#[tokio::test]
async fn what_a_caller_says_of_the_cache_holds_for_each_item() {
    let world = world(json!({})).await;
    assert!(!is_cached(&world.client, EMBED, &embed(&["a", "b"])).await);
    assert_miss(&world.client.post(EMBED, &embed(&["a", "b"])).await);
    assert!(is_cached(&world.client, EMBED, &embed(&["b", "a"])).await);
    assert!(!is_cached(&world.client, EMBED, &embed(&["b", "c"])).await);
    let calls = world.standin.counts().calls;
    let no_cache = [("cache-control", "no-cache")];
    let reply = world.client.post_with(EMBED, &no_cache, &embed(&["b", "c"])).await;
    assert_miss(&reply);
    assert_eq!((asked(&world), calls + 1), (embed(&["b", "c"]), world.standin.counts().calls));
    assert!(is_cached(&world.client, EMBED, &embed(&["c"])).await, "it is kept for others");
    // What is past its time is asked about with what is not known.
    purge(&world, json!({ "route": "all", "soft": true })).await;
    assert_miss(&world.client.post(EMBED, &embed(&["c"])).await);
    assert_partial(&world.client.post(EMBED, &embed(&["a", "b", "c"])).await, 1, 3);
    assert_eq!(asked(&world), embed(&["a", "b"]));
    assert_hit(&world.client.post(EMBED, &embed(&["a", "b", "c"])).await);
}

#[tokio::test]
async fn what_is_put_together_is_bounded_by_what_may_be_held() {
    let long = |texts: &[&str]| with(&embed(texts), json!({ "dimensions": 4096 }));
    let world = content(json!({}))
        .set("listeners.0.limits", json!({ "body": "16KiB", "held": "20KiB" }))
        .start()
        .await;
    assert_miss(&world.client.post(EMBED, &long(&["a"])).await);
    // Two answers of some 50 KB do not fit: it is asked for whole, and streams through.
    let reply = world.client.post(EMBED, &long(&["a", "b"])).await;
    assert_miss(&reply);
    assert_eq!(items(&world), [0.0, 0.0, 2.0]);
    assert_eq!(reply.json(), whole(&world, EMBED, &long(&["a", "b"])).await);
    // And what was taken for it has been given back.
    assert_partial(&world.client.post(EMBED, &embed(&["a", "a"])).await, 1, 2);
    assert_hit(&world.client.post(EMBED, &embed(&["a", "a"])).await);
}

#[tokio::test]
async fn a_call_whose_body_is_vouched_for_is_asked_as_it_came() {
    let world = world(json!({})).await;
    assert_miss(&world.client.post(EMBED, &embed(&["a"])).await);
    let signed = [("content-digest", "sha-256=:x:")];
    assert_miss(&world.client.post_with(EMBED, &signed, &embed(&["a", "b"])).await);
    assert_eq!(asked(&world), embed(&["a", "b"]));
    // Tags that are made of the list are those of the call.
    let world = self::world(json!({ "tags": ["t:{body./input/0}"] })).await;
    assert_miss(&world.client.post(EMBED, &embed(&["a", "b"])).await);
    assert_miss(&world.client.post(EMBED, &embed(&["a"])).await);
    assert_hit(&world.client.post(EMBED, &embed(&["a", "b"])).await);
    // Off is off.
    let world = self::world(json!({ "items": "off" })).await;
    assert_miss(&world.client.post(EMBED, &embed(&["a", "b"])).await);
    assert_miss(&world.client.post(EMBED, &embed(&["a"])).await);
    assert_hit(&world.client.post(EMBED, &embed(&["a", "b"])).await);
    assert_eq!(items(&world), [0.0, 0.0, 0.0]);
}

#[tokio::test]
async fn what_one_instance_learnt_of_an_item_others_know_too() {
    let server = Server::start().await;
    let (provider, line) = (provider(Options::default()).await, Line::to(&server).await);
    let member = async || {
        let policy = json!({ "tiers": ["memory", "redis"], "writes": "through" });
        let world = member_with(content(policy), &line, &provider.url(), "2s").await;
        world.metric_when(UP, 1.0).await;
        world
    };
    let (a, b) = (member().await, member().await);
    let calls = |n: u64| provider.wait_for_calls(n);
    assert_miss(&a.client.post(EMBED, &embed(&texts(0..50))).await);
    calls(1).await;
    let known =
        |client: Client| async move { is_cached(&client, EMBED, &embed(&texts(0..50))).await };
    until("all of them elsewhere", || known(b.client.clone()), |known| *known).await;
    assert_partial(&b.client.post(EMBED, &embed(&texts(0..60))).await, 50, 60);
    assert_eq!(provider.counts().calls, 2);
    let hit = a.client.post(EMBED, &embed(&texts(50..60))).await;
    assert!(hit.is_hit() && hit.cache_status().ends_with("detail=redis"), "{hit:?}");
}
