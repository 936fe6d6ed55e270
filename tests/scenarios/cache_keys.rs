//! What a caller might say twice, or take back again, to be given another's answer, or
//! to have its own given to others.

use crate::cache_stage::{
    CHAT, assert_bypass, assert_hit, assert_miss, chat, content, is_cached, purge,
};
use serde_json::json;
use tollgate_tests::{Client, Reply, World};

async fn ask(client: &Client, headers: &[(&str, &str)]) -> Reply {
    client.post_with(CHAT, headers, &chat("a")).await
}

#[tokio::test]
async fn every_line_of_a_field_that_changes_the_answer_is_part_of_the_question() {
    let versions = json!({ "kb": { "header": "x-kb-version" } });
    let world = content(json!({ "key": { "versions": versions } })).start().await;
    let h2 = Client::h2(world.addr()).await;
    for field in [
        "anthropic-version",
        "anthropic-beta",
        "openai-organization",
        "openai-project",
        "openai-beta",
        "content-encoding",
        "x-kb-version",
    ] {
        for client in [&world.client, &h2] {
            let sent: [&[(&str, &str)]; 5] = [
                &[(field, "one")],
                &[(field, "one"), (field, "two")],
                &[(field, "two"), (field, "one")],
                &[(field, "one, two")],
                &[(field, "one"), (field, "one")],
            ];
            for (place, headers) in sent.iter().enumerate() {
                let question = chat(&format!("{field}, {}", client_name(client, &world)));
                let reply = client.post_with(CHAT, headers, &question).await;
                assert_miss(&reply);
                assert_hit(&client.post_with(CHAT, headers, &question).await);
                assert_eq!(reply.status, 200, "{place} {headers:?}");
            }
        }
    }
}

fn client_name(client: &Client, world: &World) -> &'static str {
    if std::ptr::eq(client, &world.client) { "HTTP/1.1" } else { "HTTP/2" }
}

#[tokio::test]
async fn a_purge_by_tag_finds_an_answer_by_any_line_of_the_tags_field() {
    let tags = json!({ "tags": ["kb:{header.x-kb}"] });
    let world = content(tags).start().await;
    for tag in ["kb:one", "kb:two"] {
        ask(&world.client, &[("x-kb", "one"), ("x-kb", "two")]).await;
        assert!(is_cached(&world.client, CHAT, &chat("a")).await);
        purge(&world, json!({ "tag": tag })).await;
        assert!(!is_cached(&world.client, CHAT, &chat("a")).await, "{tag}");
    }
}

#[tokio::test]
async fn who_is_asking_is_said_once() {
    let world = content(json!({ "scope": "user" }))
        .config(|settings| {
            settings
                .set("identity.tenant", json!({ "header": "x-tenant" }))
                .set("identity.user", json!({ "header": "x-user-id" }))
                .set("identity.project", json!({ "header": "x-project" }));
        })
        .start()
        .await;
    let h2 = Client::h2(world.addr()).await;
    for field in ["x-tenant", "x-user-id", "x-project", "authorization", "x-api-key"] {
        for client in [&world.client, &h2] {
            // What a gateway appends does not come first.
            let reply = ask(client, &[(field, "mallory"), (field, "ann")]).await;
            assert_eq!(reply.refusal(), (400, "bad_request"), "{field}");
        }
    }
    assert_eq!(world.standin.counts().calls, 0);
}

#[tokio::test]
async fn two_cookies_are_one_caller_and_not_the_first_ones() {
    let world = content(json!({})).start().await;
    assert_miss(&ask(&world.client, &[("cookie", "session=ann")]).await);
    assert_miss(&ask(&world.client, &[("cookie", "session=ann"), ("cookie", "session=b")]).await);
    assert_hit(&ask(&world.client, &[("cookie", "session=ann")]).await);
}

#[tokio::test]
async fn a_class_claimed_twice_is_the_lesser_of_the_two() {
    let world = content(json!({}))
        .config(|settings| {
            settings.set(
                "routes.0.class",
                json!({ "header": "x-priority", "map": { "hi": "vip", "lo": "batch" } }),
            );
        })
        .start()
        .await;
    for claims in [&["hi", "lo"][..], &["lo", "hi"], &["lo"], &["lo", "unheard-of"]] {
        let headers: Vec<_> = claims.iter().map(|claim| ("x-priority", *claim)).collect();
        ask(&world.client, &[headers.as_slice(), &[("cache-control", "no-store")]].concat()).await;
    }
    assert_eq!(world.metric("tollgate_dispatched_total{class=\"batch\"}"), Some(4.0));
}

#[tokio::test]
async fn what_a_caller_takes_back_counts_neither_in_the_key_nor_upstream() {
    let versions = json!({ "kb": { "header": "x-kb-version" } });
    let world = content(json!({ "key": { "versions": versions } })).start().await;
    assert_miss(&ask(&world.client, &[]).await);
    for field in ["anthropic-beta", "openai-organization", "x-kb-version", "authorization"] {
        // The upstream is asked nothing else than without the field.
        assert_hit(&ask(&world.client, &[(field, "x"), ("connection", field)]).await);
        assert_miss(&ask(&world.client, &[(field, "x")]).await);
    }
    assert_eq!(world.standin.counts().calls, 5);
}

#[tokio::test]
async fn a_caller_who_takes_its_identity_back_is_nobody() {
    let world = content(json!({}))
        .config(|settings| {
            settings.set("identity.tenant", json!({ "header": "x-tenant" }));
        })
        .start()
        .await;
    assert_miss(&ask(&world.client, &[("x-tenant", "acme")]).await);
    let taken_back = [("x-tenant", "acme"), ("connection", "close, X-Tenant")];
    assert_bypass(&ask(&world.client, &taken_back).await, "anonymous");
    let records = world.records_when(2).await;
    assert!(records.iter().any(|record| record.words[1] == "anonymous"), "{records:#?}");
}

#[tokio::test]
async fn a_tenant_named_as_nobody_or_as_a_credential_is_nobody() {
    let world = content(json!({}))
        .config(|settings| {
            settings.set("identity.tenant", json!({ "header": "x-tenant" }));
        })
        .start()
        .await;
    for name in ["anonymous", "key-0123456789abcdef"] {
        for _ in 0..2 {
            assert_bypass(&ask(&world.client, &[("x-tenant", name)]).await, "anonymous");
        }
    }
    let ours = [("x-tenant", "key-accounts")];
    assert_miss(&ask(&world.client, &ours).await);
    assert_hit(&ask(&world.client, &ours).await);
}
