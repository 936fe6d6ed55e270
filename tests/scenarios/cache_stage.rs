//! What the cache's scenarios share: a world that caches, questions to ask it, and the
//! words in which it says what it did.

use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tollgate_ledger::{CacheOutcome, RecordView};
use tollgate_tests::{Client, Live, Reply, World, WorldBuilder, until, within};

pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const MESSAGES: &str = "/v1/messages";

/// All the ways of having nothing to give: RFC 9211 has a word for each.
const MISSES: [&str; 5] = [
    MISS,
    "tollgate; fwd=uri-miss",
    "tollgate; fwd=vary-miss",
    "tollgate; fwd=stale",
    "tollgate; fwd=request",
];
pub(crate) const MISS: &str = "tollgate; fwd=miss";
pub(crate) const COLLAPSED: &str = "tollgate; fwd=miss; collapsed";

/// A world whose only route caches by what is asked, with `policy` beside the mode.
pub(crate) fn content(policy: Value) -> WorldBuilder {
    // The members of a fleet are called by one name, and here they have a port each: callers without
    // credentials are told apart by what they call.
    caching("content", policy).set("upstreams.model.host", json!("upstream"))
}

/// A world whose only route caches as RFC 9111 says.
pub(crate) fn by_url() -> WorldBuilder {
    caching("http", json!({}))
}

fn caching(mode: &'static str, policy: Value) -> WorldBuilder {
    World::builder().config(move |settings| {
        settings.set("routes.0.cache", policy).set("routes.0.cache.mode", json!(mode));
    })
}

/// A question to a model.
pub(crate) fn chat(text: &str) -> Value {
    json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": text }] })
}

/// A question to a model of the other dialect.
pub(crate) fn message(text: &str) -> Value {
    json!({
        "model": "claude-sonnet-4-5",
        "max_tokens": 64,
        "messages": [{ "role": "user", "content": text }],
    })
}

/// The same, with some members set.
pub(crate) fn with(question: &Value, members: Value) -> Value {
    let mut question = question.clone();
    let (Some(all), Value::Object(members)) = (question.as_object_mut(), members) else {
        panic!("{question} is no object, or what is set in it")
    };
    all.extend(members);
    question
}

pub(crate) fn streamed(question: &Value) -> Value {
    with(question, json!({ "stream": true }))
}

/// What the cache said of an answer.
pub(crate) trait Told {
    fn cache_status(&self) -> &str;

    fn is_hit(&self) -> bool {
        self.cache_status().starts_with("tollgate; hit; ttl=")
    }

    fn is_miss(&self) -> bool {
        let said = self.cache_status();
        MISSES.iter().any(|miss| said.starts_with(miss))
    }
}

impl Told for Reply {
    fn cache_status(&self) -> &str {
        self.header("cache-status")
    }
}

impl Told for Live {
    fn cache_status(&self) -> &str {
        self.header("cache-status")
    }
}

#[track_caller]
pub(crate) fn assert_hit(reply: &Reply) {
    assert!(reply.is_hit(), "{reply:?}");
}

#[track_caller]
pub(crate) fn assert_miss(reply: &Reply) {
    assert!(reply.is_miss(), "{reply:?}");
}

#[track_caller]
pub(crate) fn assert_bypass(reply: &Reply, why: &str) {
    assert_eq!(reply.cache_status(), format!("tollgate; fwd=bypass; detail={why}"), "{reply:?}");
}

/// Whether the answer is there, without asking for it to be made.
pub(crate) async fn is_cached(client: &Client, path: &str, question: &Value) -> bool {
    let reply = client.post_with(path, &[("cache-control", "only-if-cached")], question).await;
    if reply.is_hit() {
        return true;
    }
    assert_eq!(reply.refusal(), (504, "not_cached"), "{reply:?}");
    false
}

/// Waits until the cache has the answer, or has it no more.
pub(crate) async fn cached_is(client: &Client, question: &Value, wanted: bool) {
    let look = || is_cached(client, CHAT, question);
    until("the answer to be in the cache or out of it", look, |cached| *cached == wanted).await;
}

/// Waits until every call that was sent before this has come as far as it comes by
/// itself: this one is accepted after them, and goes all the way to an upstream that
/// holds nobody.
pub(crate) async fn come_so_far(world: &World) {
    assert_eq!(world.client.get("/static/marker").await.status, 200);
}

/// A route of its own for [`come_so_far`], past gates, queues and caches.
pub(crate) fn marker_route(settings: &mut tollgate_tests::Settings, upstream_url: &str) {
    settings.set("upstreams.marker", json!({ "endpoints": [{ "url": upstream_url }] }));
    settings.route_first(json!({
        "name": "marker",
        "match": { "path_prefix": "/static" },
        "upstream": "marker",
        "cache": "off",
    }));
}

/// A call under way. Aborted, its caller has hung up.
pub(crate) type Asked = JoinHandle<Reply>;

/// Sends a question and waits for nothing.
pub(crate) fn send(
    client: &Client,
    path: &'static str,
    headers: &[(&'static str, &'static str)],
    question: &Value,
) -> Asked {
    let (client, headers, question) = (client.clone(), headers.to_vec(), question.clone());
    TaskTracker::new().spawn(async move { client.post_with(path, &headers, &question).await })
}

pub(crate) async fn answered(asked: Asked) -> Reply {
    within("an answer", asked).await.unwrap()
}

/// Sends a purge to the administrator's address.
pub(crate) async fn purge(world: &World, what: Value) -> Value {
    let admin = Client::new(world.app.addresses().admin.unwrap());
    let reply = admin.post("/api/cache/purge", &what).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

/// The record of the call that was answered so. (Calls that run beside each other have
/// no order that a scenario could know.)
pub(crate) async fn record_of(world: &World, reply: &Reply) -> RecordView {
    let id = reply.header("tollgate-record");
    let is_its = |record: &RecordView| record.record.id.to_string() == id;
    let look = || world.records();
    let has = |records: &Vec<RecordView>| records.iter().any(is_its);
    let records = until("the record of an answer", look, has).await;
    records.into_iter().find(is_its).unwrap()
}

/// What the record of a call says of the cache.
pub(crate) fn outcome(record: &RecordView) -> (CacheOutcome, &'static str) {
    (record.record.outcome, record.record.tier.name())
}

/// What a call cost, in pico units.
pub(crate) fn cost_pico(record: &RecordView) -> i64 {
    let cost = &record.record.cost;
    cost.input + cost.cached_input + cost.cache_write + cost.output + cost.request
}

/// The data of the events of a stream.
pub(crate) fn events(stream: &str) -> Vec<&str> {
    stream.lines().filter_map(|line| line.strip_prefix("data: ")).collect()
}

/// The text that the deltas of a chat stream add up to.
pub(crate) fn told_text(stream: &str) -> String {
    let events = events(stream);
    let chunks = events.iter().filter_map(|data| serde_json::from_str::<Value>(data).ok());
    chunks
        .filter_map(|chunk| {
            let openai = chunk.pointer("/choices/0/delta/content");
            openai.or(chunk.pointer("/delta/text"))?.as_str().map(str::to_owned)
        })
        .collect()
}

/// Sends `body` as it is.
pub(crate) async fn post_raw(client: &Client, path: &str, body: &str) -> Reply {
    let headers = [("content-type", "application/json")];
    client.send(Method::POST, path, &headers, body.to_owned()).await
}
