//! `tollgate-vote: bad`: a caller voids the answer it was given, its own and nobody else's.

use crate::cache_stage::{CHAT, Told as _, assert_hit, chat, content, purge};
use http::Method;
use serde_json::json;
use tollgate_tests::{World, WorldBuilder};

const VOTE: (&str, &str) = ("tollgate-vote", "bad");
const VOTED_OUT: &str = "tollgate; fwd=miss; detail=voted-out";

fn tenants(builder: WorldBuilder) -> WorldBuilder {
    builder.set("identity.tenant", json!({ "header": "x-tenant" }))
}

fn votes(world: &World, outcome: &str) -> Option<f64> {
    world.metric(&format!("tollgate_cache_votes_total{{outcome=\"{outcome}\"}}"))
}

#[tokio::test]
async fn a_vote_voids_the_callers_own_answer_and_brings_another() {
    let world = tenants(content(json!({ "vote_out": {} }))).start().await;
    let (acme, other) = ([("x-tenant", "acme")], [("x-tenant", "other")]);
    for tenant in [acme, other] {
        world.client.post_with(CHAT, &tenant, &chat("a")).await;
        world.client.post_with(CHAT, &tenant, &chat("b")).await;
    }
    assert_eq!(world.standin.counts().calls, 4);

    let voted = world.client.post_with(CHAT, &[acme[0], VOTE], &chat("a")).await;
    assert_eq!((voted.status.as_u16(), voted.cache_status()), (200, VOTED_OUT));
    assert_eq!(world.standin.counts().calls, 5);
    // The answer that came instead is kept, and nobody else has lost anything.
    let again = world.client.post_with(CHAT, &acme, &chat("a")).await;
    assert_hit(&again);
    assert_eq!(again.body, voted.body);
    assert_hit(&world.client.post_with(CHAT, &acme, &chat("b")).await);
    assert_hit(&world.client.post_with(CHAT, &other, &chat("a")).await);
    assert_eq!(votes(&world, "counted"), Some(1.0));
}

#[tokio::test]
async fn a_vote_whose_new_answer_fails_leaves_no_answer_behind() {
    let world = tenants(content(json!({ "vote_out": {} }))).start().await;
    let acme = ("x-tenant", "acme");
    world.client.post_with(CHAT, &[acme], &chat("a")).await;
    let only = ("cache-control", "only-if-cached");
    let voted = world.client.post_with(CHAT, &[acme, only, VOTE], &chat("a")).await;
    assert_eq!(voted.refusal(), (504, "not_cached"));
    let looked = world.client.post_with(CHAT, &[acme, only], &chat("a")).await;
    assert_eq!(looked.refusal(), (504, "not_cached"));
}

#[tokio::test]
async fn the_vote_of_who_is_not_believed_is_no_vote() {
    let world = tenants(content(json!({ "vote_out": { "trust": ["editor"] } }))).start().await;
    for tenant in ["acme", "editor"] {
        let tenant = ("x-tenant", tenant);
        world.client.post_with(CHAT, &[tenant], &chat("a")).await;
    }
    assert_hit(&world.client.post_with(CHAT, &[("x-tenant", "acme"), VOTE], &chat("a")).await);
    let voted = world.client.post_with(CHAT, &[("x-tenant", "editor"), VOTE], &chat("a")).await;
    assert_eq!(voted.cache_status(), VOTED_OUT);
    assert_eq!((votes(&world, "refused"), votes(&world, "counted")), (Some(1.0), Some(1.0)));

    // Off is off, whoever asks; and nobody in particular is not believed by default.
    for policy in [json!({}), json!({ "vote_out": {} })] {
        let world = content(policy).start().await;
        world.client.post(CHAT, &chat("a")).await;
        assert_hit(&world.client.post_with(CHAT, &[VOTE], &chat("a")).await);
    }
}

#[tokio::test]
async fn a_stranger_to_the_listener_has_no_vote() {
    let world = tenants(content(json!({ "vote_out": { "trust": ["anonymous"] } })))
        .set("listeners.0.trusted", json!([]))
        .set("routes.0.cache.scope", json!("shared"))
        .start()
        .await;
    world.client.post(CHAT, &chat("a")).await;
    assert_hit(&world.client.post_with(CHAT, &[VOTE], &chat("a")).await);
    assert_eq!(votes(&world, "refused"), Some(0.0), "it was not even heard");
}

#[tokio::test]
async fn who_votes_too_often_is_answered_anew_and_voids_nothing() {
    let rule = json!({ "vote_out": { "per_minute": 1 } });
    let world = tenants(content(rule)).start().await;
    let acme = ("x-tenant", "acme");
    for text in ["a", "b"] {
        world.client.post_with(CHAT, &[acme], &chat(text)).await;
    }
    let statuses = [("a", VOTED_OUT), ("b", "tollgate; fwd=miss"), ("c", "tollgate; fwd=miss")];
    for (text, status) in statuses {
        let voted = world.client.post_with(CHAT, &[acme, VOTE], &chat(text)).await;
        assert_eq!(voted.cache_status(), status, "{text}");
    }
    for (outcome, count) in [("counted", 1.0), ("limited", 1.0), ("nothing", 1.0)] {
        assert_eq!(votes(&world, outcome), Some(count), "{outcome}");
    }
}

#[tokio::test]
async fn a_vote_voids_what_would_be_given_past_its_time() {
    let stale = json!({ "while_revalidate": "1h", "if_error": "1h", "degrade": "1h" });
    let world = tenants(content(json!({ "vote_out": {}, "stale": stale }))).start().await;
    let acme = ("x-tenant", "acme");
    let only = ("cache-control", "only-if-cached");
    world.client.post_with(CHAT, &[acme], &chat("a")).await;
    purge(&world, json!({ "route": "all", "soft": true })).await;
    let voted = world.client.post_with(CHAT, &[acme, only, VOTE], &chat("a")).await;
    assert_eq!(voted.refusal(), (504, "not_cached"));
    assert_eq!(votes(&world, "counted"), Some(1.0));
    let looked = world.client.post_with(CHAT, &[acme, only], &chat("a")).await;
    assert_eq!(looked.refusal(), (504, "not_cached"), "not even as a stale one");
}

#[tokio::test]
async fn a_vote_about_a_url_voids_what_is_kept_for_it() {
    let policy = json!({ "mode": "http", "vote_out": { "trust": ["anonymous"] } });
    let world = World::builder().set("routes.0.cache", policy).start().await;
    let path = "/static/a?cache-control=max-age%3D60";
    let get =
        async |headers: &[(&str, &str)]| world.client.send(Method::GET, path, headers, "").await;
    get(&[]).await;
    assert_hit(&get(&[]).await);
    let voted = get(&[VOTE]).await;
    assert_eq!(voted.cache_status(), VOTED_OUT, "{voted:?}");
    assert_hit(&get(&[]).await);
}

#[tokio::test]
async fn who_votes_too_often_about_urls_is_answered_anew_too() {
    let rule = json!({ "trust": ["anonymous"], "per_minute": 1 });
    let policy = json!({ "mode": "http", "vote_out": rule });
    let world = World::builder().set("routes.0.cache", policy).start().await;
    let get = async |name: &str, headers: &[(&str, &str)]| {
        let path = format!("/static/{name}?cache-control=max-age%3D60");
        world.client.send(Method::GET, &path, headers, "").await
    };
    for name in ["a", "b"] {
        get(name, &[]).await;
    }
    for (name, status) in [("a", VOTED_OUT), ("b", "tollgate; fwd=request")] {
        assert_eq!(get(name, &[VOTE]).await.cache_status(), status, "{name}");
    }
    assert_eq!((votes(&world, "counted"), votes(&world, "limited")), (Some(1.0), Some(1.0)));
}

#[tokio::test]
async fn a_vote_is_not_passed_on() {
    let world = World::new().await;
    let reply = world.client.send(Method::GET, "/echo", &[VOTE, ("x-other", "b")], "").await;
    assert_eq!(reply.echoed("x-other"), ["b"]);
    assert!(reply.echoed("tollgate-vote").is_empty(), "{reply:?}");
}
