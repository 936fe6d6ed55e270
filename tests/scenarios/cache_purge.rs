//! Purges through the administrator's address: what they name is not given any more, and
//! what they do not name is.

use crate::cache_stage::{
    CHAT, COLLAPSED, MISS, Told as _, answered, assert_hit, assert_miss, chat, content, is_cached,
    purge, send, streamed, with,
};
use serde_json::{Value, json};
use tollgate_tests::{
    Client, World,
    standin::{Gate, Options},
};

async fn has(world: &World, headers: &[(&str, &str)], question: &Value) -> bool {
    let headers = [&[("cache-control", "only-if-cached")], headers].concat();
    let reply = world.client.post_with(CHAT, &headers, question).await;
    assert!(reply.is_hit() || reply.refusal() == (504, "not_cached"), "{reply:?}");
    reply.is_hit()
}

/// Two questions that differ in what is purged; the first one goes.
async fn goes_alone(
    world: &World,
    target: Value,
    gone: (&[(&str, &str)], &Value),
    kept: (&[(&str, &str)], &Value),
) {
    for (headers, question) in [gone, kept] {
        world.client.post_with(CHAT, headers, question).await;
        assert!(has(world, headers, question).await, "before {target}");
    }
    let said = purge(world, target.clone()).await;
    assert_eq!(said, json!({ "purged": null, "reach": "instance", "pending": false }));
    assert!(!has(world, gone.0, gone.1).await, "after {target}");
    assert!(has(world, kept.0, kept.1).await, "after {target}");
    // What is asked after a purge is kept again.
    assert_miss(&world.client.post_with(CHAT, gone.0, gone.1).await);
    assert!(has(world, gone.0, gone.1).await);
}

#[tokio::test]
async fn a_purge_by_tag_takes_what_has_the_tag() {
    let tags = json!(["kb:{header.x-kb}", "user:{body./user}"]);
    let world = content(json!({ "tags": tags })).start().await;
    let (a, b) = (chat("a"), chat("b"));
    goes_alone(&world, json!({ "tag": "kb:7" }), (&[("x-kb", "7")], &a), (&[("x-kb", "8")], &b))
        .await;
    let (ann, bob) = (with(&a, json!({ "user": "ann" })), with(&a, json!({ "user": "bob" })));
    goes_alone(&world, json!({ "tag": "user:ann" }), (&[], &ann), (&[], &bob)).await;
}

#[tokio::test]
async fn a_purge_by_model_takes_that_model() {
    let world = content(json!({})).start().await;
    let other = with(&chat("a"), json!({ "model": "gpt-4o" }));
    goes_alone(&world, json!({ "model": "gpt-4o" }), (&[], &other), (&[], &chat("a"))).await;
}

#[tokio::test]
async fn a_purge_by_tenant_takes_that_tenant() {
    let world = content(json!({}))
        .config(|settings| {
            settings.set("identity.tenant", json!({ "header": "x-tenant" }));
        })
        .start()
        .await;
    goes_alone(
        &world,
        json!({ "tenant": "acme" }),
        (&[("x-tenant", "acme")], &chat("a")),
        (&[("x-tenant", "other")], &chat("a")),
    )
    .await;
}

#[tokio::test]
async fn a_purge_by_route_takes_what_that_route_brought() {
    let world = content(json!({}))
        .config(|settings| {
            settings.route_first(json!({
                "name": "beta",
                "match": { "headers": { "x-beta": "1" } },
                "upstream": "model",
                "cache": { "mode": "content" },
            }));
        })
        .start()
        .await;
    goes_alone(
        &world,
        json!({ "route": "beta" }),
        (&[("x-beta", "1")], &chat("a")),
        (&[], &chat("b")),
    )
    .await;
}

#[tokio::test]
async fn a_purge_of_everything_takes_everything_and_gives_its_bytes_back() {
    let world = content(json!({})).start().await;
    for text in ["a", "b", "c"] {
        world.client.post(CHAT, &chat(text)).await;
    }
    assert_eq!(world.metric("tollgate_cache_entries"), Some(3.0));
    purge(&world, json!({ "all": true })).await;
    assert_eq!(world.metric("tollgate_cache_entries"), Some(0.0));
    assert_eq!(world.metric("tollgate_cache_bytes"), Some(0.0));
    for text in ["a", "b", "c"] {
        assert!(!is_cached(&world.client, CHAT, &chat(text)).await);
    }
    let purged = "tollgate_cache_evictions_total{cause=\"purged\"}";
    assert_eq!(world.metric(purged), Some(3.0));
}

#[tokio::test]
async fn an_answer_that_was_under_way_at_a_purge_is_nobodys_afterwards() {
    let gate = Gate::chunks();
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let world = content(json!({})).standin(options).start().await;
    let question = streamed(&chat("a"));
    let mut leader = world.client.stream(CHAT, &question).await;
    gate.release_chunks(1);
    leader.read_until("data:").await;
    let follower = world.client.stream(CHAT, &question).await;
    assert_eq!(follower.cache_status(), COLLAPSED);

    purge(&world, json!({ "model": "gpt-4o-mini" })).await;
    // Who asks now is not given what was begun before.
    let later = world.client.stream(CHAT, &question).await;
    assert_eq!(later.cache_status(), MISS);
    gate.open();
    let (leader, follower, later) =
        (leader.finish().await, follower.finish().await, later.finish().await);
    assert!(!leader.cut && !follower.cut, "they get what they were promised");
    assert_eq!(world.standin.counts().calls, 2);
    let hit = world.client.post(CHAT, &question).await;
    assert_hit(&hit);
    assert_eq!(hit.body, later.body);
}

#[tokio::test]
async fn an_answer_that_only_was_under_way_at_a_purge_is_not_kept() {
    let gate = Gate::heads();
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let world = content(json!({})).standin(options).start().await;
    let asked = send(&world.client, CHAT, &[], &chat("a"));
    world.provider("the question", |counts| counts.in_flight == 1).await;
    purge(&world, json!({ "all": true })).await;
    gate.open();
    assert_eq!(answered(asked).await.status, 200);
    assert!(!is_cached(&world.client, CHAT, &chat("a")).await);
}

#[tokio::test]
async fn a_purge_of_nothing_in_particular_is_refused_and_purges_nothing() {
    let world = content(json!({})).start().await;
    world.client.post(CHAT, &chat("a")).await;
    let admin = Client::new(world.app.addresses().admin.unwrap());
    for what in [json!({}), json!({ "all": false }), json!({ "tag": "" }), json!({ "tags": "a" })] {
        let reply = admin.post("/api/cache/purge", &what).await;
        assert_eq!(reply.status, 400, "{what}: {reply:?}");
    }
    assert!(is_cached(&world.client, CHAT, &chat("a")).await);
}

#[tokio::test]
async fn a_dry_run_counts_and_purges_nothing() {
    let world = content(json!({ "tags": ["kb:{header.x-kb}"] })).start().await;
    for (kb, text) in [("7", "a"), ("7", "b"), ("8", "c")] {
        world.client.post_with(CHAT, &[("x-kb", kb)], &chat(text)).await;
    }
    for (target, count) in [
        (json!({ "tag": "kb:7", "dry_run": true }), 2),
        (json!({ "tag": "kb:9", "dry_run": true }), 0),
        (json!({ "route": "all", "dry_run": true }), 3),
        (json!({ "all": true, "dry_run": true }), 3),
    ] {
        let said = purge(&world, target).await;
        assert_eq!(said, json!({ "purged": count, "reach": "instance", "pending": false }));
    }
    for text in ["a", "b", "c"] {
        assert!(has(&world, &[], &chat(text)).await);
    }
}
