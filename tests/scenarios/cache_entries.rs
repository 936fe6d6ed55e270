//! Entries by the admin API: what lies in memory is listed without its content, and an answer that an
//! administrator puts is what callers are given, here and on other instances.

use crate::{
    cache_items::{EMBED, embed},
    cache_redis::{Line, Server, UP, member_with, provider},
    cache_stage::{
        CHAT, Told as _, assert_hit, assert_miss, by_url, cached_is, chat, content, cost_pico,
        purge, record_of, streamed, told_text,
    },
};
use http::Method;
use serde_json::{Value, json};
use tollgate_tests::{Client, Reply, World, standin::Options, until};

const ONE: (&str, &str) = ("authorization", "Bearer one");
const OTHER: (&str, &str) = ("authorization", "Bearer other");
const JSON: (&str, &str) = ("content-type", "application/json");
const ENTRIES: &str = "/api/cache/entries";

fn admin(world: &World) -> Client {
    Client::new(world.app.addresses().admin.unwrap())
}

pub(crate) async fn put(world: &World, order: &Value) -> Reply {
    admin(world).send(Method::PUT, ENTRIES, &[JSON], order.to_string()).await
}

async fn list(world: &World, query: &str) -> Value {
    let reply = admin(world).get(&format!("{ENTRIES}?{query}")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

/// What a model would have said.
pub(crate) fn said(text: &str) -> Value {
    json!({
        "id": "put-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
        "choices": [{ "index": 0, "finish_reason": "stop",
            "message": { "role": "assistant", "content": text } }],
        "usage": { "prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30 },
    })
}

fn order(question: &Value, answer: Value) -> Value {
    json!({
        "request": { "path": CHAT, "headers": { "authorization": ONE.1 }, "body": question },
        "answer": { "body": answer },
    })
}

fn with(mut order: Value, name: &str, value: Value) -> Value {
    order[name] = value;
    order
}

/// So that the version of the model is known.
async fn ask_first(world: &World) {
    assert_miss(&world.client.post_with(CHAT, &[ONE], &chat("first")).await);
}

#[tokio::test]
async fn what_is_put_is_what_its_tenants_calls_are_given_in_any_form() {
    let world = content(json!({ "tags": ["kb:{header.x-kb}"] })).start().await;
    ask_first(&world).await;
    let reply = put(&world, &order(&chat("a"), said("put by hand"))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let hit = world.client.post_with(CHAT, &[ONE], &chat("a")).await;
    assert_hit(&hit);
    assert_eq!(hit.json()["choices"][0]["message"]["content"], "put by hand");
    let record = record_of(&world, &hit).await;
    assert!(record.record.saved_pico > 0 && cost_pico(&record) == 0, "{record:?}");
    let stream = world.client.post_with(CHAT, &[ONE], &streamed(&chat("a"))).await;
    assert_hit(&stream);
    assert_eq!(told_text(&stream.text()), "put by hand");
    let other = world.client.post_with(CHAT, &[OTHER], &chat("a")).await;
    assert_miss(&other);

    let explained = order(&chat("a"), Value::Null)["request"].clone();
    let explained = admin(&world).post("/api/cache/explain", &explained).await.json();
    assert_eq!(explained["key"], reply.json()["key"]);
    purge(&world, json!({ "key": reply.json()["key"] })).await;
    assert_miss(&world.client.post_with(CHAT, &[ONE], &chat("a")).await);
}

#[tokio::test]
async fn what_is_put_has_its_own_tags_and_time_and_takes_the_place_of_what_was_there() {
    let world = content(json!({ "ttl": "1m" })).start().await;
    ask_first(&world).await;
    let first = order(&chat("first"), said("better"));
    let first = with(with(first, "tags", json!(["hand"])), "ttl", json!("1h"));
    let key = put(&world, &first).await.json()["key"].clone();
    let hit = world.client.post_with(CHAT, &[ONE], &chat("first")).await;
    assert_eq!(hit.json()["choices"][0]["message"]["content"], "better");
    let listed = list(&world, "tag=hand").await;
    let [entry] = listed["entries"].as_array().unwrap().as_slice() else { panic!("{listed}") };
    assert_eq!((&entry["key"], &entry["hits"]), (&key, &json!(1)));
    let left_ms = entry["left_ms"].as_u64().unwrap();
    assert!((3_500_000..=3_600_000).contains(&left_ms), "{entry}");
    purge(&world, json!({ "tag": "hand" })).await;
    assert_eq!(list(&world, "tag=hand").await, json!({ "entries": [], "next": null }));
    assert_miss(&world.client.post_with(CHAT, &[ONE], &chat("first")).await);
}

#[tokio::test]
async fn what_would_not_be_kept_of_an_upstream_is_not_kept_of_an_administrator() {
    let world = content(json!({ "when": { "temperature_max": 0 } })).start().await;
    let cold = |text: &str| crate::cache_stage::with(&chat(text), json!({ "temperature": 0 }));
    let refused = async |order: Value, status: u16, why: &str| {
        let reply = put(&world, &order).await;
        assert_eq!(reply.status, status, "{reply:?}");
        let detail = reply.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(why), "{detail}");
    };
    let good = order(&cold("a"), said("a"));
    refused(good.clone(), 409, "not known yet").await;
    let known = with(good.clone(), "model_version", json!("7"));
    assert_eq!(put(&world, &known).await.status, 200);
    refused(order(&chat("warm"), said("a")), 422, "not cached: when").await;
    refused(order(&cold("b"), json!({ "error": { "message": "no" } })), 422, "not be kept").await;
    let mut cut = said("b");
    cut["choices"][0]["finish_reason"] = json!("content_filter");
    refused(order(&cold("b"), cut), 422, "not be kept").await;
    let headers = |name: &str, value: &str| {
        let answer = json!({ "body": said("b"), "headers": { name: value } });
        with(order(&cold("b"), Value::Null), "answer", answer)
    };
    refused(headers("vary", "x-secret"), 422, "vary").await;
    refused(headers("cache-control", "no-store"), 422, "no-store").await;
    refused(headers("content-encoding", "gzip"), 422, "content-encoding").await;
    refused(headers("content-type", "text/event-stream"), 422, "a stream").await;
    let failed = json!({ "status": 500, "body": said("b") });
    refused(with(good.clone(), "answer", failed), 422, "status").await;
    refused(with(good.clone(), "ttl", json!("0s")), 400, "ttl").await;
    refused(with(good.clone(), "tags", json!([""])), 400, "tags").await;
    refused(with(good.clone(), "tagss", json!([])), 400, "tagss").await;
    refused(with(good.clone(), "request", json!({ "path": "x" })), 400, "request").await;
    refused(with(good.clone(), "answer", json!({ "bodi": 1 })), 400, "answer").await;
    refused(json!([{}, {}]), 400, "not a JSON object").await;
    let elsewhere = json!({ "path": "/v1/files", "body": {} });
    refused(with(good, "request", elsewhere), 422, "not cached: not-pure").await;
    assert_eq!(list(&world, "").await["entries"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_url_is_put_as_http_has_it() {
    let world = by_url().start().await;
    let host = ("host", "site.example");
    let request = json!({ "path": "/static/page", "headers": { "host": host.1 } });
    let mut order = json!({ "request": request, "answer": { "body": "put", "headers": {
        "content-type": "text/plain", "etag": "\"1\"", "surrogate-key": "page" } } });
    order["answer"]["headers"]["cache-control"] = json!("private");
    assert_eq!(put(&world, &order).await.status, 422);
    order["answer"]["headers"]["cache-control"] = json!("no-cache");
    let reply = put(&world, &with(order, "ttl", json!("10m"))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let hit = world.client.send(Method::GET, "/static/page", &[host], "").await;
    assert_hit(&hit);
    assert_eq!((hit.text().as_str(), hit.header("etag")), ("put", "\"1\""));
    assert!(hit.headers.get("tollgate-cache-control").is_none());
    let listed = list(&world, "tag=page").await;
    assert_eq!(listed["entries"][0]["scope"], "shared");
    assert!(listed["entries"][0]["left_ms"].as_u64().unwrap() > 590_000, "{listed}");
}

#[tokio::test]
async fn what_is_put_on_one_instance_is_found_in_redis_by_the_others() {
    let (server, provider) = (Server::start().await, provider(Options::default()).await);
    let line = Line::to(&server).await;
    let policy = || content(json!({ "tiers": ["memory", "redis"], "writes": "through" }));
    let a = member_with(policy(), &line, &provider.url(), "2s").await;
    let b = member_with(policy(), &line, &provider.url(), "2s").await;
    for world in [&a, &b] {
        world.metric_when(UP, 1.0).await;
    }
    a.client.post(CHAT, &chat("first")).await;
    cached_is(&b.client, &chat("first"), true).await;
    let order = json!({ "request": { "path": CHAT, "body": chat("a") }, "answer": { "body": said("for all") } });
    assert_eq!(put(&a, &order).await.status, 200);
    cached_is(&b.client, &chat("a"), true).await;
    let hit = b.client.post(CHAT, &chat("a")).await;
    assert!(hit.is_hit());
    assert_eq!(hit.json()["choices"][0]["message"]["content"], "for all");
    assert_eq!(provider.counts().calls, 1);

    // What the other has in its own memory gives way, too.
    let order = json!({ "request": { "path": CHAT, "body": chat("a") }, "answer": { "body": said("better") } });
    assert_eq!(put(&a, &order).await.status, 200);
    let asked = chat("a");
    let look = || b.client.post(CHAT, &asked);
    let is_better =
        |reply: &Reply| reply.json()["choices"][0]["message"]["content"] == json!("better");
    assert!(until("the better answer", look, is_better).await.is_hit());
    assert_eq!(provider.counts().calls, 1);
}

/// What a put says of each tier, as `TIER KEPT WHY`.
fn tiers(answer: &Value) -> Vec<String> {
    let all = answer["tiers"].as_array().unwrap_or_else(|| panic!("{answer}")).iter();
    let word = |why: &Value| why.as_str().unwrap_or("").to_owned();
    all.map(|one| {
        format!("{} {} {}", one["tier"].as_str().unwrap(), one["kept"], word(&one["why"]))
    })
    .collect()
}

/// Goal: 200 only where a caller will find it, and for each tier what became of it.
#[tokio::test]
async fn it_is_said_of_each_tier_whether_it_has_what_was_put() {
    let (mut server, provider) = (Server::start().await, provider(Options::default()).await);
    let line = Line::to(&server).await;
    let limits = json!({ "tiers": [{ "name": "memory", "max_entry": "16KiB" }, "redis"] });
    let world = member_with(content(limits), &line, &provider.url(), "2s").await;
    world.metric_when(UP, 1.0).await;
    world.client.post(CHAT, &chat("first")).await;
    let order = |text: &str, said: Value| json!({ "request": { "path": CHAT, "body": chat(text) }, "answer": { "body": said } });
    let reply = put(&world, &order("a", said("for all"))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(tiers(&reply.json()), ["memory 1 ", "redis 1 "]);
    assert_eq!(reply.json()["pending"], false);
    let large = || said(&"long ".repeat(5_000));
    let reply = put(&world, &order("b", large())).await;
    assert_eq!(tiers(&reply.json()), ["memory 0 too-large", "redis 1 "], "{reply:?}");

    server.kill().await;
    world.metric_when(UP, 0.0).await;
    // Its own purge would void it when the store is back.
    let reply = put(&world, &order("c", said("here"))).await;
    assert_eq!(reply.status, 503, "{reply:?}");
    assert!(reply.json()["detail"].as_str().unwrap().contains("is away"), "{reply:?}");
    assert!(!cached(&world, "c").await);

    let limits = json!({ "tiers": [{ "name": "memory", "max_entry": "16KiB" }] });
    let world = content(limits).start().await;
    world.client.post(CHAT, &chat("first")).await;
    let reply = put(&world, &order("d", large())).await;
    assert_eq!(reply.status, 507, "{reply:?}");
    let problem = reply.json();
    assert!(problem["detail"].as_str().unwrap().contains("no tier"), "{problem}");
    assert!(problem["problems"].to_string().contains("memory: it is too large"), "{problem}");
}

async fn cached(world: &World, text: &str) -> bool {
    crate::cache_stage::is_cached(&world.client, CHAT, &chat(text)).await
}

#[tokio::test]
async fn what_a_rule_refuses_takes_nothing_of_what_is_there() {
    let rule = json!({ "answer": [{ "pointer": "/object", "equals": "chat.completion" }] });
    let world = content(json!({ "when": rule })).start().await;
    ask_first(&world).await;
    let mut odd = said("odd");
    odd["object"] = json!("something.else");
    let reply = put(&world, &order(&chat("first"), odd)).await;
    assert_eq!(reply.status, 422, "{reply:?}");
    assert_hit(&world.client.post_with(CHAT, &[ONE], &chat("first")).await);
}

#[tokio::test]
async fn another_version_than_the_one_that_answers_is_refused_and_ends_nothing() {
    let world = content(json!({})).start().await;
    ask_first(&world).await;
    let slip = with(order(&chat("a"), said("a")), "model_version", json!("gpt-4o-mimi"));
    let reply = put(&world, &slip).await;
    assert_eq!(reply.status, 409, "{reply:?}");
    assert_hit(&world.client.post_with(CHAT, &[ONE], &chat("first")).await);
}

#[tokio::test]
async fn a_variant_of_a_url_is_purged_by_its_own_key_and_the_others_stay() {
    let world = by_url().start().await;
    let path = "/static/a?cache-control=max-age%3D600&vary=accept";
    for accept in ["text/a", "text/b"] {
        assert_miss(&world.client.send(Method::GET, path, &[("accept", accept)], "").await);
    }
    let listed = list(&world, "").await;
    let all = listed["entries"].as_array().unwrap();
    let variant = all.iter().find(|entry| entry["kind"] == "whole").unwrap();
    let soft = json!({ "key": variant["key"], "soft": true });
    purge(&world, soft).await;
    let listed = list(&world, "").await;
    let all = listed["entries"].as_array().unwrap();
    let purged = all.iter().filter(|entry| entry["soft_purged"] == true).count();
    assert_eq!((all.len(), purged), (3, 1), "{listed}");
}

#[tokio::test]
async fn what_is_put_and_worth_less_than_all_there_is_is_no_success() {
    let memory = json!({ "size": "1MiB", "policy": "cost" });
    let world = content(json!({})).set("cache.memory", memory).start().await;
    ask_first(&world).await;
    for n in 0..20 {
        let dear = said(&"dear ".repeat(16_000));
        put(&world, &order(&chat(&format!("dear {n}")), dear)).await;
    }
    let mut free = said(&"worth nothing ".repeat(8_000));
    free["usage"] = json!({ "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0 });
    let reply = put(&world, &order(&chat("a"), free)).await;
    assert_eq!(reply.status, 507, "{reply:?}");
    assert!(reply.json()["problems"].to_string().contains("worth more"), "{reply:?}");
}

#[tokio::test]
async fn of_a_batch_that_is_put_each_items_answer_is_the_one_that_all_instances_have() {
    let (server, provider) = (Server::start().await, provider(Options::default()).await);
    let line = Line::to(&server).await;
    let policy = || content(json!({ "tiers": ["memory", "redis"], "writes": "through" }));
    let a = member_with(policy(), &line, &provider.url(), "2s").await;
    let b = member_with(policy(), &line, &provider.url(), "2s").await;
    for world in [&a, &b] {
        world.metric_when(UP, 1.0).await;
        world.client.post(EMBED, &embed(&["one", "two"])).await;
    }
    cached_is(&b.client, &chat("not there"), false).await;
    let vector =
        |index: usize| json!({ "object": "embedding", "index": index, "embedding": [0.5, 0.25] });
    let answer = json!({ "object": "list", "data": [vector(0), vector(1)],
        "model": "text-embedding-3-small", "usage": { "prompt_tokens": 4, "total_tokens": 4 } });
    let order = json!({ "request": { "path": EMBED, "body": embed(&["one", "two"]) }, "answer": { "body": answer } });
    let reply = put(&a, &order).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.json()["items"], 2);
    assert_eq!(tiers(&reply.json()), ["memory 2 ", "redis 2 "]);
    let asked = embed(&["two"]);
    let look = || b.client.post(EMBED, &asked);
    let is_put = |reply: &Reply| reply.json()["data"][0]["embedding"] == json!([0.5, 0.25]);
    assert!(until("the vector that was put", look, is_put).await.is_hit());
}

#[tokio::test]
async fn a_time_of_its_own_does_not_undo_a_word_on_who_may_have_it() {
    let world = by_url().start().await;
    let put_with = async |fields: Value| {
        let mut headers = fields;
        headers["content-type"] = json!("text/plain");
        let request = json!({ "path": "/static/page", "headers": { "host": "site.example" } });
        let answer = json!({ "body": "put", "headers": headers });
        put(&world, &json!({ "request": request, "answer": answer, "ttl": "10m" })).await
    };
    for fields in [
        json!({ "cache-control": "private" }),
        json!({ "cache-control": "no-store" }),
        json!({ "tollgate-cache-control": "no-store" }),
        json!({ "cache-control": "max-age=60", "cdn-cache-control": "private" }),
    ] {
        let reply = put_with(fields.clone()).await;
        assert_eq!(reply.status, 422, "{fields}: {reply:?}");
    }
    let fields = json!({ "cache-control": "private=\"x-user\", max-age=1", "x-user": "one" });
    assert_eq!(put_with(fields).await.status, 200);
    let hit = world.client.send(Method::GET, "/static/page", &[("host", "site.example")], "").await;
    assert_hit(&hit);
    assert!(hit.headers.get("x-user").is_none(), "{hit:?}");
}

#[tokio::test]
async fn what_is_refused_moves_no_version() {
    let world = content(json!({})).start().await;
    let mut unfinished = said("half");
    unfinished["choices"][0]["finish_reason"] = Value::Null;
    let of_another = |answer| with(order(&chat("a"), answer), "model_version", json!("v2"));
    assert_eq!(put(&world, &of_another(unfinished)).await.status, 422);
    ask_first(&world).await;
    assert_hit(&world.client.post_with(CHAT, &[ONE], &chat("first")).await);
    // Whoever writes another than the one that answers has made a slip of the pen.
    assert_eq!(put(&world, &of_another(said("whole"))).await.status, 409);
    assert_hit(&world.client.post_with(CHAT, &[ONE], &chat("first")).await);
}

#[tokio::test]
async fn a_list_shows_no_content_and_its_pages_show_everything_once() {
    let world = content(json!({ "tags": ["kb:{header.x-kb}"] })).start().await;
    for n in 0..5 {
        let kb = if n % 2 == 0 { "even" } else { "odd" };
        let marked = chat(&format!("marked-content {n}"));
        world.client.post_with(CHAT, &[ONE, ("x-kb", kb)], &marked).await;
    }
    let all = list(&world, "").await;
    assert!(!all.to_string().contains("marked") && !all.to_string().contains("Bearer"), "{all}");
    let keys = |page: &Value| -> Vec<String> {
        let entries = page["entries"].as_array().unwrap().iter();
        entries.map(|entry| entry["key"].as_str().unwrap().to_owned()).collect()
    };
    let all = keys(&all);
    assert_eq!(all.len(), 5);
    let (mut paged, mut query) = (Vec::new(), "limit=2".to_owned());
    loop {
        let page = list(&world, &query).await;
        paged.extend(keys(&page));
        let Some(next) = page["next"].as_str() else { break };
        query = format!("limit=2&after={next}");
    }
    assert_eq!(paged, all);
    assert_eq!(keys(&list(&world, "tag=kb:even").await).len(), 3);
    assert_eq!(keys(&list(&world, "tag=kb:even&route=other").await).len(), 0);
    assert_eq!(keys(&list(&world, &format!("key={}", all[2])).await), all[2..3]);
    for wrong in ["limit=0", "limit=1001", "after=7", "key=x", "tagg=a"] {
        let reply = admin(&world).get(&format!("{ENTRIES}?{wrong}")).await;
        assert_eq!(reply.status, 400, "{wrong}");
    }
}
