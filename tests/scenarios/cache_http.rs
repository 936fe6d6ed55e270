//! `mode: http` beside the table of RFC 9111 (`rfc9111`): records, keys, tenants, what passes by.

use crate::cache_stage::{Told as _, assert_bypass, assert_hit, assert_miss, by_url, record_of};
use http::Method;
use serde_json::json;
use tollgate_ledger::CacheOutcome;
use tollgate_tests::{Reply, World, until};

const FRESH: &str = "/static/a?cache-control=max-age%3D60";

async fn get(world: &World, path: &str, headers: &[(&str, &str)]) -> Reply {
    world.client.send(Method::GET, path, headers, "").await
}

/// Whether the answer is there, without asking for it to be made.
async fn is_cached(world: &World, path: &str) -> bool {
    let reply = get(world, path, &[("cache-control", "only-if-cached")]).await;
    assert!(reply.is_hit() || reply.refusal() == (504, "not_cached"), "{reply:?}");
    reply.is_hit()
}

#[tokio::test]
async fn an_answer_that_says_how_long_it_is_good_is_given_again() {
    let world = by_url().start().await;
    let first = world.client.get(FRESH).await;
    let second = world.client.get(FRESH).await;
    assert_eq!(first.cache_status(), "tollgate; fwd=uri-miss");
    assert_hit(&second);
    assert_eq!((second.status, &second.body), (first.status, &first.body));
    for name in ["content-type", "cache-control", "date"] {
        assert_eq!(second.header(name), first.header(name), "{name}");
    }
    let age: u64 = second.header("age").parse().unwrap();
    assert!(age <= 1, "{second:?}");
    assert_eq!(world.standin.counts().calls, 1);
    for (reply, wanted) in [(&first, CacheOutcome::Miss), (&second, CacheOutcome::Hit)] {
        assert_eq!(record_of(&world, reply).await.record.outcome, wanted);
    }
}

#[tokio::test]
async fn an_answer_is_as_old_as_it_was_when_it_came() {
    let world = by_url().start().await;
    let path = "/static/a?cache-control=max-age%3D100&age=40";
    assert_eq!(world.client.get(path).await.header("age"), "40");
    let hit = world.client.get(path).await;
    assert_hit(&hit);
    let age: u64 = hit.header("age").parse().unwrap();
    assert!((40..43).contains(&age), "{hit:?}");
    let ttl = hit.cache_status().strip_prefix("tollgate; hit; ttl=").unwrap();
    let ttl: u64 = ttl.split(';').next().unwrap().parse().unwrap();
    assert!((57..=60).contains(&ttl), "{hit:?}");
    assert_eq!(hit.headers.get_all("age").iter().count(), 1);
    // And gone at the end of that, not of a hundred seconds from now.
    let short = "/static/b?cache-control=max-age%3D41&age=40";
    world.client.get(short).await;
    until("its end", || is_cached(&world, short), |cached| !cached).await;
    assert_miss(&world.client.get(short).await);
}

#[tokio::test]
async fn s_maxage_and_expires_are_freshness_too() {
    let world = by_url().start().await;
    for path in [
        "/static/a?cache-control=max-age%3D0%2C%20s-maxage%3D60",
        "/static/b?expires=Fri%2C%2031%20Dec%202100%2023%3A59%3A59%20GMT",
        "/static/c?cache-control=PUBLIC%2C%20Max-Age%3D60",
    ] {
        assert_miss(&world.client.get(path).await);
        assert_hit(&world.client.get(path).await);
    }
}

#[tokio::test]
async fn an_answer_that_may_be_somebodys_own_or_says_nothing_is_not_kept() {
    let world = by_url().start().await;
    for query in [
        "",
        "cache-control=no-store",
        "cache-control=max-age%3D60%2C%20no-store",
        "cache-control=max-age%3D60%2C%20private",
        "cache-control=max-age%3D60%2C%20no-cache",
        "cache-control=max-age%3D60&vary=%2A",
        "cache-control=max-age%3D60&cdn-cache-control=no-store",
        "cache-control=max-age%3Dlong",
        "expires=0",
        "expires=Thu%2C%2001%20Jan%201970%2000%3A00%3A00%20GMT",
    ] {
        let path = format!("/static/a?{query}");
        let reply = world.client.get(&path).await;
        assert_miss(&reply);
        assert!(!is_cached(&world, &path).await, "{query}");
    }
}

#[tokio::test]
async fn a_request_that_wants_something_special_passes_by_and_says_why() {
    let world = by_url().start().await;
    world.client.get(FRESH).await;
    let mut calls = world.standin.counts().calls;
    for (headers, why) in [
        (("if-match", "\"a\""), "conditional"),
        (("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT"), "conditional"),
        (("cache-control", "no-store"), "no-store"),
    ] {
        assert_bypass(&get(&world, FRESH, &[headers]).await, why);
        calls += 1;
        assert_eq!(world.standin.counts().calls, calls, "{headers:?}");
    }
    let options = world.client.send(Method::OPTIONS, FRESH, &[], "").await;
    assert_bypass(&options, "method");
    let with_body = world.client.send(Method::GET, FRESH, &[], "a body").await;
    assert_bypass(&with_body, "request-body");
    // None of them was kept, or spoilt what was.
    assert_hit(&world.client.get(FRESH).await);
}

#[tokio::test]
async fn what_a_credential_was_answered_with_is_nobody_elses() {
    let world = by_url().start().await;
    for name in ["authorization", "x-api-key", "api-key", "x-goog-api-key"] {
        assert_miss(&get(&world, FRESH, &[(name, "secret-a")]).await);
        assert!(!is_cached(&world, FRESH).await, "{name}");
    }
    // Nor is what nobody in particular was answered with theirs, unless it says so.
    assert_miss(&world.client.get(FRESH).await);
    assert_miss(&get(&world, FRESH, &[("x-api-key", "secret-a")]).await);
    let public = "/static/p?cache-control=public%2C%20max-age%3D60";
    assert_miss(&get(&world, public, &[("x-api-key", "secret-a")]).await);
    assert_hit(&get(&world, public, &[("authorization", "Bearer b")]).await);
}

#[tokio::test]
async fn a_header_that_services_choose_by_poisons_nobodys_answer() {
    let world = by_url().start().await;
    for header in [
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-port", "1"),
        ("x-original-url", "/admin"),
        ("forwarded", "host=evil.example"),
    ] {
        assert_miss(&get(&world, FRESH, &[header]).await);
        assert_hit(&get(&world, FRESH, &[header]).await);
        assert!(!is_cached(&world, FRESH).await, "{header:?}");
    }
    // What the proxy says itself is what a gateway before it would have said.
    assert_miss(&world.client.get(FRESH).await);
    assert_hit(&get(&world, FRESH, &[("x-forwarded-proto", "http")]).await);
}

#[tokio::test]
async fn a_caller_may_ask_for_a_new_answer_or_for_a_fresher_one() {
    let world = by_url().start().await;
    world.client.get(FRESH).await;
    for headers in
        [("cache-control", "no-cache"), ("cache-control", "min-fresh=61"), ("pragma", "no-cache")]
    {
        let before = world.standin.counts().calls;
        let reply = get(&world, FRESH, &[headers]).await;
        assert_eq!(reply.cache_status(), "tollgate; fwd=request", "{headers:?}");
        assert_eq!(world.standin.counts().calls, before + 1);
        assert_hit(&world.client.get(FRESH).await);
    }
    assert_hit(&get(&world, FRESH, &[("cache-control", "min-fresh=30, max-age=60")]).await);
}

#[tokio::test]
async fn head_is_answered_from_what_get_brought_and_brings_nothing_itself() {
    let world = by_url().start().await;
    let unknown = world.client.send(Method::HEAD, FRESH, &[], "").await;
    assert_bypass(&unknown, "head");
    assert!(!is_cached(&world, FRESH).await);

    let whole = world.client.get(FRESH).await;
    let mut wire = world.wire().await;
    wire.send(format!("HEAD {FRESH} HTTP/1.1\r\nhost: {}\r\n\r\n", world.addr())).await;
    let head = wire.reply_to("HEAD").await;
    assert!(head.header("cache-status").starts_with("tollgate; hit"), "{head:?}");
    assert_eq!(head.header("content-length"), whole.body.len().to_string());
    assert!(head.body.is_empty());
    // The connection is where it should be.
    let next = wire.ask(format!("GET {FRESH} HTTP/1.1\r\nhost: {}\r\n\r\n", world.addr())).await;
    assert_eq!(next.body, whole.body);
}

#[tokio::test]
async fn host_path_and_query_are_the_question() {
    let world = by_url().start().await;
    let cases = [
        (FRESH, "a.example"),
        (FRESH, "b.example"),
        (FRESH, "b.example:8080"),
        ("/static/b?cache-control=max-age%3D60", "a.example"),
        ("/static/a?cache-control=max-age%3D60&x=1", "a.example"),
        ("/static/a?x=1&cache-control=max-age%3D60", "a.example"),
    ];
    for (path, host) in cases {
        assert_miss(&get(&world, path, &[("host", host)]).await);
    }
    for (path, host) in cases {
        assert_hit(&get(&world, path, &[("host", host)]).await);
    }
}

#[tokio::test]
async fn an_empty_answer_is_an_answer_and_no_hang_up() {
    let world = by_url().start().await;
    for path in ["/static/a?cache-control=max-age%3D60&bytes=0", "/static/b?bytes=0"] {
        let reply = world.client.get(path).await;
        assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 0));
    }
    assert_hit(&world.client.get("/static/a?cache-control=max-age%3D60&bytes=0").await);
    for record in world.records_when(3).await {
        assert_eq!((record.record.status, record.record.reason.name()), (200, "none"));
    }
}

#[tokio::test]
async fn with_a_configured_tenant_urls_are_kept_apart_too() {
    let world = by_url()
        .config(|settings| {
            settings.set("identity.tenant", json!({ "header": "x-tenant" }));
        })
        .start()
        .await;
    for tenant in ["acme", "other"] {
        assert_miss(&get(&world, FRESH, &[("x-tenant", tenant)]).await);
        assert_hit(&get(&world, FRESH, &[("x-tenant", tenant)]).await);
    }
    assert_bypass(&world.client.get(FRESH).await, "anonymous");
}

#[tokio::test]
async fn without_a_mode_model_calls_are_cached_by_content_and_the_rest_by_url() {
    let world = World::builder()
        .config(|settings| {
            settings.set("routes.0.cache", json!({ "ttl": "1h" }));
        })
        .start()
        .await;
    let chat = crate::cache_stage::chat("a");
    assert_miss(&world.client.post(crate::cache_stage::CHAT, &chat).await);
    assert_hit(&world.client.post(crate::cache_stage::CHAT, &chat).await);
    assert_miss(&world.client.get(FRESH).await);
    assert_hit(&world.client.get(FRESH).await);
    assert_bypass(&world.client.post("/echo", &chat).await, "method");
}
