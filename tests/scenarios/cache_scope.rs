//! Who may be answered from whose entry, and what of a call's head is part of the question.

use crate::cache_stage::{
    CHAT, MESSAGES, MISS, Told as _, assert_bypass, assert_hit, assert_miss, chat, content, message,
};
use serde_json::{Value, json};
use tollgate_tests::{Client, Reply, World, standin::Options};

async fn ask(client: &Client, headers: &[(&str, &str)]) -> Reply {
    client.post_with(CHAT, headers, &chat("a")).await
}

/// Each of these callers gets an answer of its own, and gets it again.
async fn are_apart(world: &World, callers: &[&[(&str, &str)]]) {
    let before = world.standin.counts().calls;
    for headers in callers {
        let reply = ask(&world.client, headers).await;
        assert_eq!((reply.status.as_u16(), reply.cache_status()), (200, MISS), "{headers:?}");
    }
    let calls = u64::try_from(callers.len()).unwrap();
    assert_eq!(world.standin.counts().calls, before + calls);
    for headers in callers {
        assert_hit(&ask(&world.client, headers).await);
    }
}

#[tokio::test]
async fn callers_with_different_credentials_never_share_an_answer() {
    let world = content(json!({})).start().await;
    are_apart(
        &world,
        &[
            &[],
            &[("authorization", "Bearer sk-one")],
            &[("authorization", "Bearer sk-two")],
            &[("authorization", "bearer sk-one")],
            &[("x-api-key", "sk-three")],
            &[("api-key", "sk-four")],
            &[("x-goog-api-key", "sk-five")],
            &[("cookie", "session=six")],
        ],
    )
    .await;
    let tenants: std::collections::BTreeSet<String> =
        world.records_when(16).await.into_iter().map(|record| record.words[1].clone()).collect();
    assert_eq!(tenants.len(), 8, "{tenants:?}");
    assert!(tenants.iter().all(|tenant| !tenant.contains("sk-") && !tenant.contains("six")));
}

#[tokio::test]
async fn a_configured_tenant_alone_decides_and_nobody_is_not_somebody() {
    let world = content(json!({}))
        .config(|settings| {
            settings.set("identity.tenant", json!({ "header": "x-tenant" }));
        })
        .start()
        .await;
    are_apart(&world, &[&[("x-tenant", "acme")], &[("x-tenant", "other")]]).await;
    // Another credential of the same tenant.
    assert_hit(&ask(&world.client, &[("x-tenant", "acme"), ("authorization", "k")]).await);
    let before = world.standin.counts().calls;
    for _ in 0..2 {
        assert_bypass(&ask(&world.client, &[("authorization", "k")]).await, "anonymous");
    }
    assert_eq!(world.standin.counts().calls, before + 2);
}

#[tokio::test]
async fn what_a_peer_that_is_not_trusted_says_of_itself_opens_no_entry() {
    let world = content(json!({}))
        .config(|settings| {
            settings
                .set("identity.tenant", json!({ "header": "x-tenant" }))
                .set("listeners.0.trusted", json!(["10.0.0.0/8"]));
        })
        .start()
        .await;
    for _ in 0..2 {
        assert_bypass(&ask(&world.client, &[("x-tenant", "acme")]).await, "anonymous");
    }
}

#[tokio::test]
async fn scope_user_keeps_users_apart_and_leaves_out_who_has_no_name() {
    let world = content(json!({ "scope": "user" }))
        .config(|settings| {
            settings.set("identity.user", json!({ "header": "x-user-id" }));
        })
        .start()
        .await;
    are_apart(
        &world,
        &[
            &[("x-user-id", "ann")],
            &[("x-user-id", "bob")],
            &[("x-user-id", "ann"), ("authorization", "another tenant")],
        ],
    )
    .await;
    for _ in 0..2 {
        assert_bypass(&ask(&world.client, &[]).await, "no-user");
    }
}

#[tokio::test]
async fn scope_tenant_does_not_ask_for_the_user() {
    let world = content(json!({ "scope": "tenant" }))
        .config(|settings| {
            settings.set("identity.user", json!({ "header": "x-user-id" }));
        })
        .start()
        .await;
    assert_miss(&ask(&world.client, &[("x-user-id", "ann")]).await);
    assert_hit(&ask(&world.client, &[("x-user-id", "bob")]).await);
    assert_hit(&ask(&world.client, &[]).await);
    let mut users: Vec<String> =
        world.records_when(3).await.into_iter().map(|record| record.words[2].clone()).collect();
    users.sort();
    assert_eq!(users, ["", "ann", "bob"]);
}

#[tokio::test]
async fn scope_shared_is_for_everybody_also_for_nobody() {
    let world = content(json!({ "scope": "shared" }))
        .config(|settings| {
            settings.set("identity.tenant", json!({ "header": "x-tenant" }));
        })
        .start()
        .await;
    let first = ask(&world.client, &[("x-tenant", "acme")]).await;
    assert_eq!(first.cache_status(), MISS);
    for headers in [&[("x-tenant", "other")], &[("authorization", "k")]] {
        let reply = ask(&world.client, headers).await;
        assert_hit(&reply);
        assert_eq!(reply.body, first.body);
    }
    assert_eq!(world.standin.counts().calls, 1);
}

#[tokio::test]
async fn headers_that_change_what_a_provider_does_are_part_of_the_question() {
    let world = content(json!({})).start().await;
    are_apart(
        &world,
        &[
            &[],
            &[("anthropic-version", "2023-06-01")],
            &[("anthropic-version", "2024-01-01")],
            &[("anthropic-beta", "2023-06-01")],
            &[("openai-organization", "org-1")],
            &[("openai-organization", "org-2")],
            &[("openai-project", "org-1")],
            &[("openai-beta", "assistants=v2")],
            &[("content-encoding", "identity")],
            &[("openai-organization", "org-1"), ("openai-project", "org-1")],
        ],
    )
    .await;
}

#[tokio::test]
async fn headers_that_describe_the_caller_are_no_part_of_the_question() {
    let world = content(json!({})).start().await;
    // Of a tenant of its own: who has no name shares with everybody (see `cache_isolation`).
    let key = ("authorization", "Bearer sk-one");
    assert_miss(&ask(&world.client, &[key, ("user-agent", "a"), ("x-request-id", "1")]).await);
    for header in [
        ("user-agent", "b"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, br"),
        ("x-stainless-retry-count", "1"),
        ("x-request-id", "2"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("host", "another.example"),
        ("x-kb-version", "7"),
    ] {
        assert_hit(&ask(&world.client, &[key, header]).await);
    }
}

#[tokio::test]
async fn named_versions_are_part_of_the_question() {
    let versions = json!({ "kb": { "header": "x-kb-version" }, "app": { "header": "x-app" } });
    let world = content(json!({ "key": { "versions": versions } })).start().await;
    are_apart(
        &world,
        &[
            &[],
            &[("x-kb-version", "7")],
            &[("x-kb-version", "8")],
            &[("x-app", "7")],
            &[("x-app", "7"), ("x-kb-version", "7")],
        ],
    )
    .await;
}

#[tokio::test]
async fn path_query_and_model_are_part_of_the_question() {
    let world = content(json!({})).start().await;
    let ask = async |path: &str, question: &Value| world.client.post(path, question).await;
    let cases = [
        (CHAT.to_owned(), chat("a")),
        (format!("{CHAT}?api-version=1"), chat("a")),
        (format!("{CHAT}?api-version=2"), chat("a")),
        (MESSAGES.to_owned(), message("a")),
    ];
    for (path, question) in &cases {
        assert_eq!(ask(path, question).await.cache_status(), MISS, "{path}");
    }
    for (path, question) in &cases {
        assert_hit(&ask(path, question).await);
    }
}

#[tokio::test]
async fn two_upstreams_never_share_an_answer_and_two_routes_to_one_do() {
    let world = content(json!({}))
        .standin(Options::default())
        .config(|settings| {
            let text = settings.text();
            let settings_now: Value = serde_json::from_str(&text).unwrap();
            let model = settings_now["upstreams"]["model"].clone();
            settings.set("upstreams.other", model);
            for (name, upstream) in [("b", "other"), ("a", "model")] {
                settings.route_first(json!({
                    "name": name,
                    "match": { "headers": { "x-route": name } },
                    "upstream": upstream,
                    "cache": { "mode": "content" },
                }));
            }
        })
        .start()
        .await;
    assert_miss(&ask(&world.client, &[("x-route", "a")]).await);
    assert_miss(&ask(&world.client, &[("x-route", "b")]).await);
    assert_hit(&ask(&world.client, &[("x-route", "b")]).await);
    // The same question to the same service, by the plain route.
    assert_hit(&ask(&world.client, &[]).await);
}

#[tokio::test]
async fn how_long_a_look_up_took_is_told_for_each_tier_that_was_asked() {
    let world = content(json!({})).start().await;
    world.client.post(CHAT, &chat("a")).await;
    assert_hit(&world.client.post(CHAT, &chat("a")).await);
    // Before the first answer the version is not known, and nothing is looked for.
    for (tier, asked) in [("memory", 1.0), ("redis", 0.0)] {
        let count = format!("tollgate_cache_lookup_seconds_count{{tier=\"{tier}\"}}");
        assert_eq!(world.metric(&count), Some(asked));
    }
}
