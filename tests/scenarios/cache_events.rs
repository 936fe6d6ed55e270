//! Events: what changes elsewhere voids what was answered before, by a channel or a stream of a real
//! redis-server, which is cut off and restarted meanwhile, or by a webhook.

use crate::{
    cache_redis::{Line, Server, UP, member_with, provider},
    cache_stage::{CHAT, cached_is, chat, content, is_cached},
};
use serde_json::{Value, json};
use tollgate_tests::{Client, Reply, World, WorldBuilder, standin::Options, until};

/// Answers about `kb:1`, `kb:2` and `kb:3`.
pub(crate) const KBS: [&str; 3] = ["1", "2", "3"];

fn with_events(sources: Value) -> WorldBuilder {
    let policy = json!({ "tiers": ["memory", "redis"], "tags": ["kb:{header.x-kb}"] });
    content(policy).set("cache.events", sources)
}

fn redis(of: Value) -> Value {
    json!([{ "name": "kb", "redis": of, "purge": [{ "tag": "kb:{/id}" }] }])
}

async fn member(sources: Value, line: &Line, upstream: &str) -> World {
    let world = member_with(with_events(sources), line, upstream, "2s").await;
    world.metric_when(UP, 1.0).await;
    world
}

pub(crate) async fn ask_all(world: &World) {
    for kb in KBS {
        world.client.post_with(CHAT, &[("x-kb", kb)], &chat(kb)).await;
        cached_is(&world.client, &chat(kb), true).await;
    }
}

pub(crate) async fn is_there(world: &World, kb: &str) -> bool {
    is_cached(&world.client, CHAT, &chat(kb)).await
}

pub(crate) async fn goes(world: &World, kb: &str) {
    cached_is(&world.client, &chat(kb), false).await;
}

pub(crate) fn heard(world: &World, outcome: &str) -> f64 {
    let series = format!("tollgate_cache_events_total{{source=\"kb\",outcome=\"{outcome}\"}}");
    world.metric(&series).unwrap_or_default()
}

/// Says it until somebody listens: who subscribes later has not heard it.
async fn publish(server: &Server, event: &str) {
    let say = || async { server.cli(&["PUBLISH", "kb-changes", event]).await };
    until("a listener", say, |heard| heard.trim() != "0").await;
}

async fn add(server: &Server, id: &str) {
    server.cli(&["XADD", "kb-changes", "*", "id", id]).await;
}

/// The place up to which the fleet has acted.
async fn kept(server: &Server) -> String {
    server.cli(&["HGET", "tollgate:{fleet}:events", "kb"]).await.trim().to_owned()
}

#[tokio::test]
async fn what_a_channel_says_has_changed_is_asked_anew() {
    let (server, provider) = (Server::start().await, provider(Options::default()).await);
    let line = Line::to(&server).await;
    let a = member(redis(json!({ "channel": "kb-changes" })), &line, &provider.url()).await;
    let b = member(json!([]), &line, &provider.url()).await;
    ask_all(&a).await;
    for kb in KBS {
        cached_is(&b.client, &chat(kb), true).await;
    }
    publish(&server, r#"{"id": [1, "2"], "op": "put"}"#).await;
    goes(&a, "1").await;
    goes(&a, "2").await;
    // Also of those who do not listen themselves.
    goes(&b, "2").await;
    assert!(is_there(&a, "3").await && is_there(&b, "3").await);
    for odd in ["{", r#"{"no":"id"}"#, "text"] {
        publish(&server, odd).await;
    }
    until(
        "all were heard",
        || async { heard(&a, "unclear") + heard(&a, "nothing") },
        |n| *n >= 3.0,
    )
    .await;
    assert!(is_there(&a, "3").await);
}

#[tokio::test]
async fn a_channel_is_heard_again_after_the_line_was_cut_and_says_that_it_was() {
    let (server, provider) = (Server::start().await, provider(Options::default()).await);
    let line = Line::to(&server).await;
    let mut sources = redis(json!({ "channel": "kb-changes" }));
    sources[0]["lost"] = json!({ "tag": "kb:3" });
    let a = member(sources, &line, &provider.url()).await;
    ask_all(&a).await;
    publish(&server, r#"{"id":1}"#).await;
    goes(&a, "1").await;
    line.cut();
    a.metric_when(UP, 0.0).await;
    server.cli(&["PUBLISH", "kb-changes", r#"{"id":2}"#]).await;
    line.mend();
    a.metric_when(UP, 1.0).await;
    goes(&a, "3").await;
    assert!(is_there(&a, "2").await, "what a channel said meanwhile is lost");
    publish(&server, r#"{"id":2}"#).await;
    goes(&a, "2").await;
}

#[tokio::test]
async fn what_was_added_to_a_stream_while_the_line_was_cut_is_caught_up_with() {
    let (server, provider) = (Server::start().await, provider(Options::default()).await);
    let line = Line::to(&server).await;
    let a = member(redis(json!({ "stream": "kb-changes" })), &line, &provider.url()).await;
    ask_all(&a).await;
    until("its first place", || kept(&server), |place| !place.is_empty()).await;
    add(&server, "1").await;
    goes(&a, "1").await;
    line.cut();
    a.metric_when(UP, 0.0).await;
    add(&server, "2").await;
    assert!(is_there(&a, "2").await, "it cannot know");
    line.mend();
    goes(&a, "2").await;
    assert!(is_there(&a, "3").await);
    assert_eq!(heard(&a, "lost"), 0.0);
}

#[tokio::test]
async fn what_was_added_while_nobody_ran_is_caught_up_with_by_who_starts() {
    let (server, provider) = (Server::start().await, provider(Options::default()).await);
    let line = Line::to(&server).await;
    let sources = redis(json!({ "stream": "kb-changes" }));
    let first = member(sources.clone(), &line, &provider.url()).await;
    ask_all(&first).await;
    until("its first place", || kept(&server), |place| !place.is_empty()).await;
    add(&server, "1").await;
    goes(&first, "1").await;
    let before = kept(&server).await;
    drop(first);
    for id in ["2", "2"] {
        add(&server, id).await;
    }
    let second = member(sources, &line, &provider.url()).await;
    goes(&second, "2").await;
    assert!(is_there(&second, "3").await, "found in redis");
    until("a later place", || kept(&server), |place| *place != before).await;
    assert_eq!(heard(&second, "lost"), 0.0);
}

#[tokio::test]
async fn where_a_stream_was_cut_before_it_was_read_everything_is_past_its_time() {
    let (server, provider) = (Server::start().await, provider(Options::default()).await);
    let line = Line::to(&server).await;
    let a = member(redis(json!({ "stream": "kb-changes" })), &line, &provider.url()).await;
    ask_all(&a).await;
    until("its first place", || kept(&server), |place| !place.is_empty()).await;
    add(&server, "1").await;
    goes(&a, "1").await;
    line.cut();
    a.metric_when(UP, 0.0).await;
    for id in ["2", "1"] {
        server.cli(&["XADD", "kb-changes", "MAXLEN", "1", "*", "id", id]).await;
    }
    line.mend();
    // The entry about 2 is gone; all that is known is that some are.
    goes(&a, "2").await;
    goes(&a, "3").await;
    assert_eq!(heard(&a, "lost"), 1.0);
}

/// A failover that takes the stream's end, or a stream of the same name from a backup.
#[tokio::test]
async fn a_stream_that_went_back_is_lost_once_and_not_read_anew() {
    let (server, provider) = (Server::start().await, provider(Options::default()).await);
    let line = Line::to(&server).await;
    let mut sources = redis(json!({ "stream": "kb-changes" }));
    sources[0]["lost"] = json!({ "tag": "kb:3" });
    let a = member(sources, &line, &provider.url()).await;
    ask_all(&a).await;
    until("its first place", || kept(&server), |place| !place.is_empty()).await;
    let add_at = async |at: &str, id: &str| {
        server.cli(&["XADD", "kb-changes", at, "id", id]).await;
    };
    add_at("100-0", "none").await;
    add_at("300-0", "none").await;
    until("what came", || kept(&server), |place| place == "300-0").await;
    line.cut();
    a.metric_when(UP, 0.0).await;
    server.cli(&["DEL", "kb-changes"]).await;
    add_at("100-0", "1").await;
    add_at("200-0", "1").await;
    let before = heard(&a, "purged");
    line.mend();
    goes(&a, "3").await;
    until("its new place", || kept(&server), |place| place == "200-0").await;
    add_at("201-0", "2").await;
    goes(&a, "2").await;
    assert!(is_there(&a, "1").await, "what it had was read anew");
    assert_eq!((heard(&a, "lost"), heard(&a, "purged")), (1.0, before + 1.0));
}

#[tokio::test]
async fn a_stream_that_began_after_who_listens_is_whole_to_who_starts() {
    let (server, provider) = (Server::start().await, provider(Options::default()).await);
    let line = Line::to(&server).await;
    let sources = redis(json!({ "stream": "kb-changes" }));
    let first = member(sources.clone(), &line, &provider.url()).await;
    ask_all(&first).await;
    until("its first place", || kept(&server), |place| place == "0-0").await;
    line.cut();
    first.metric_when(UP, 0.0).await;
    drop(first);
    add(&server, "1").await;
    line.mend();
    let second = member(sources, &line, &provider.url()).await;
    goes(&second, "1").await;
    assert!(is_there(&second, "2").await && is_there(&second, "3").await);
    assert_eq!(heard(&second, "lost"), 0.0);
}

#[tokio::test]
async fn where_a_stream_began_and_was_cut_before_it_was_read_everything_is_past_its_time() {
    let (server, provider) = (Server::start().await, provider(Options::default()).await);
    let line = Line::to(&server).await;
    let sources = redis(json!({ "stream": "kb-changes" }));
    let first = member(sources.clone(), &line, &provider.url()).await;
    ask_all(&first).await;
    until("its first place", || kept(&server), |place| place == "0-0").await;
    line.cut();
    first.metric_when(UP, 0.0).await;
    drop(first);
    for id in ["2", "1"] {
        server.cli(&["XADD", "kb-changes", "MAXLEN", "1", "*", "id", id]).await;
    }
    line.mend();
    let second = member(sources, &line, &provider.url()).await;
    goes(&second, "2").await;
    goes(&second, "3").await;
    assert_eq!(heard(&second, "lost"), 1.0);
}

#[tokio::test]
async fn of_a_streams_entry_one_field_may_hold_the_event() {
    let (server, provider) = (Server::start().await, provider(Options::default()).await);
    let line = Line::to(&server).await;
    let sources = json!([{
        "name": "kb",
        "redis": { "stream": "kb-changes", "field": "event" },
        "purge": [{ "pattern": "kb:{/row/id}" }],
    }]);
    let a = member(sources, &line, &provider.url()).await;
    ask_all(&a).await;
    until("its first place", || kept(&server), |place| !place.is_empty()).await;
    server.cli(&["XADD", "kb-changes", "*", "id", "3", "event", r#"{"row":{"id":"*"}}"#]).await;
    server.cli(&["XADD", "kb-changes", "*", "id", "3", "event", r#"{"row":{"id":"1"}}"#]).await;
    goes(&a, "1").await;
    assert!(is_there(&a, "2").await, "an event fills in no sign");
    assert!(is_there(&a, "3").await);
}

fn hooked(webhook: Value) -> WorldBuilder {
    let source = json!([{ "name": "kb", "webhook": webhook, "purge": [{ "tag": "kb:{/id}" }], "rate": "2/s" }]);
    content(json!({ "tags": ["kb:{header.x-kb}"] })).set("cache.events", source)
}

async fn post(world: &World, name: &str, fields: &[(&str, &str)], event: &Value) -> Reply {
    let admin = Client::new(world.app.addresses().admin.unwrap());
    admin.post_with(&format!("/api/cache/events/{name}"), fields, event).await
}

#[tokio::test]
async fn a_webhook_purges_what_its_event_names() {
    let world = hooked(json!({})).start().await;
    ask_all(&world).await;
    let reply = post(&world, "kb", &[], &json!({ "id": ["1", 2] })).await;
    assert_eq!(
        (reply.status.as_u16(), reply.json()),
        (200, json!({ "purges": 2, "pending": false }))
    );
    assert!(!is_there(&world, "1").await && !is_there(&world, "2").await);
    assert!(is_there(&world, "3").await);
    assert_eq!(heard(&world, "purged"), 1.0);
    assert_eq!(post(&world, "other", &[], &json!({ "id": "3" })).await.status, 404);
    let nothing = post(&world, "kb", &[], &json!({ "name": "3" })).await;
    assert_eq!(nothing.json()["purges"], 0);
    let often = post(&world, "kb", &[], &json!({ "id": "3" })).await;
    assert_eq!((often.status.as_u16(), often.header("retry-after")), (429, "1"));
    assert!(is_there(&world, "3").await);
}

#[tokio::test]
async fn an_event_that_cannot_be_purged_by_name_is_told_apart_from_one_that_was_lost() {
    let source = json!([{
        "name": "kb", "webhook": {}, "purge": [{ "tag": "kb:{/id}" }], "lost": { "tag": "kb:3" },
    }]);
    let world = content(json!({ "tags": ["kb:{header.x-kb}"] })).set("cache.events", source);
    let world = world.start().await;
    ask_all(&world).await;
    let many: Vec<_> = (0..257).collect();
    assert_eq!(post(&world, "kb", &[], &json!({ "id": many })).await.json()["purges"], 1);
    assert!(!is_there(&world, "3").await && is_there(&world, "1").await);
    assert_eq!((heard(&world, "unnamed"), heard(&world, "lost")), (1.0, 0.0));
}

#[tokio::test]
async fn a_webhooks_own_token_is_good_for_its_events_alone() {
    let dir = tempfile::TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        json!({ "file": path })
    };
    let world = hooked(json!({ "token": file("hook", "hook-token-0123456789") }))
        .set("admin.token", file("admin", "admin-token-0123456789"))
        .start()
        .await;
    ask_all(&world).await;
    let event = json!({ "id": "1" });
    let hook = ("authorization", "Bearer hook-token-0123456789");
    assert_eq!(post(&world, "kb", &[], &event).await.status, 401);
    let wrong = ("authorization", "Bearer another-token-01234567");
    assert_eq!(post(&world, "kb", &[wrong], &event).await.status, 401);
    assert!(is_there(&world, "1").await);
    assert_eq!(post(&world, "kb", &[hook], &event).await.status, 200);
    assert!(!is_there(&world, "1").await);

    let admin = Client::new(world.app.addresses().admin.unwrap());
    let reply = admin.post_with("/api/cache/purge", &[hook], &json!({ "all": true })).await;
    assert_eq!(reply.status, 401, "{reply:?}");
    assert_eq!(post(&world, "other", &[hook], &event).await.status, 401);
    let known = ("authorization", "Bearer admin-token-0123456789");
    assert_eq!(post(&world, "kb", &[known], &json!({ "id": "2" })).await.status, 200);
    assert!(!is_there(&world, "2").await && is_there(&world, "3").await);
}
