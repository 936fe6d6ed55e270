//! What a CDN before us is told: of answers that everybody may be given how long they are good yet, and
//! their tags; of all others nothing of our own.

use crate::cache_stage::{CHAT, Told as _, assert_hit, assert_miss, by_url, chat, purge};
use http::Method;
use serde_json::{Value, json};
use tollgate_tests::{Reply, Scripted, World, WorldBuilder};

const CONTROL: &str = "cdn-cache-control";
const TAGS: &str = "surrogate-key";

fn telling(cdn: Value) -> WorldBuilder {
    by_url().set("routes.0.cache.cdn", cdn).set("routes.0.cache.tags", json!(["path:{path.2}"]))
}

async fn get(world: &World, path: &str, headers: &[(&str, &str)]) -> Reply {
    world.client.send(Method::GET, path, headers, "").await
}

/// What it is told.
fn told(reply: &Reply) -> [Option<&str>; 3] {
    let of = |name: &str| reply.headers.get(name).map(|value| value.to_str().unwrap());
    [of(CONTROL), of(TAGS), of("vary")]
}

#[tokio::test]
async fn a_hit_tells_a_cdn_what_the_miss_has_told_it() {
    let world = telling(json!({ "tags": TAGS })).start().await;
    let path = "/static/a?cache-control=max-age%3D600&age=100&surrogate-key=news";
    let miss = get(&world, path, &[]).await;
    assert_miss(&miss);
    let all = [Some("max-age=600"), Some("news path:a"), Some("x-forwarded-proto")];
    assert_eq!((told(&miss), miss.header("age")), (all, "100"));
    let hit = get(&world, path, &[]).await;
    assert_hit(&hit);
    assert_eq!(told(&hit), all);
    let age: u64 = hit.header("age").parse().unwrap();
    assert!(age >= 100, "the time that is left is what this takes off: {hit:?}");
    let head = world.client.send(Method::HEAD, path, &[], "").await;
    assert_hit(&head);
    assert_eq!(told(&head), all);
}

#[tokio::test]
async fn the_answer_that_nothing_has_changed_renews_what_a_cdn_was_told() {
    let world = telling(json!({ "tags": "cache-tag", "control": "cache-control" })).start().await;
    let path = "/static/a?cache-control=max-age%3D600&etag=%221%22";
    get(&world, path, &[]).await;
    let same = get(&world, path, &[("if-none-match", "\"1\"")]).await;
    assert_eq!(same.status, 304, "{same:?}");
    assert_eq!(same.header("cache-control"), "max-age=600, s-maxage=600");
    assert_eq!(same.header("cache-tag"), "path:a");
}

#[tokio::test]
async fn a_cdn_holds_nothing_for_longer_than_it_may_and_nothing_past_its_time() {
    let world = telling(json!({ "ttl_max": "60s", "control": "surrogate-control" })).start().await;
    let path = "/static/a?cache-control=max-age%3D600%2C%20stale-while-revalidate%3D600&age=100";
    let told = |reply: &Reply| reply.header("surrogate-control").to_owned();
    let windows = "stale-while-revalidate=600";
    assert_eq!(told(&get(&world, path, &[]).await), format!("max-age=160, {windows}"));
    let order = json!({ "tag": "path:a", "soft": true });
    purge(&world, order).await;
    let stale = get(&world, path, &[]).await;
    assert!(stale.cache_status().starts_with("tollgate; hit; ttl="), "{stale:?}");
    assert_eq!(told(&stale), format!("max-age=0, {windows}"));
}

#[tokio::test]
async fn of_what_is_not_everybodys_a_cdn_is_told_nothing() {
    let world = telling(json!({ "tags": TAGS })).start().await;
    let good = "cache-control=public%2C%20max-age%3D600";
    for (path, headers) in [
        (format!("/static/a?{good}"), &[("authorization", "Bearer one")][..]),
        (format!("/static/b?{good}"), &[("x-api-key", "one")]),
        ("/static/d?cache-control=no-store".to_owned(), &[]),
        ("/static/e?cache-control=private%2C%20max-age%3D600".to_owned(), &[]),
        ("/static/f?cache-control=no-cache&etag=%221%22".to_owned(), &[]),
        ("/static/g".to_owned(), &[]),
        (format!("/static/h?{good}"), &[("cache-control", "no-store")]),
    ] {
        for _ in 0..2 {
            let reply = get(&world, &path, headers).await;
            assert_eq!(
                (reply.status.as_u16(), told(&reply)[0], told(&reply)[1]),
                (200, None, None),
                "{path}"
            );
        }
    }
    // What sets a cookie is kept without it: then it is everybody's.
    let cookie = format!("/static/c?{good}&set-cookie=a%3Db");
    let miss = get(&world, &cookie, &[]).await;
    assert_eq!((miss.header("set-cookie"), told(&miss)), ("a=b", [None; 3]));
    let hit = get(&world, &cookie, &[]).await;
    assert!(hit.headers.get("set-cookie").is_none() && told(&hit)[0].is_some(), "{hit:?}");
    // A field that services choose by, whoever sent it, is the CDN's to tell apart, too.
    let path = format!("/static/i?{good}");
    let odd = get(&world, &path, &[("x-forwarded-host", "evil.example")]).await;
    assert_eq!(told(&odd)[2], Some("x-forwarded-proto"));
    let both: Vec<_> =
        odd.headers.get_all("vary").iter().map(|one| one.to_str().unwrap()).collect();
    assert_eq!(both, ["x-forwarded-proto", "x-forwarded-host"]);
}

#[tokio::test]
async fn where_tenants_are_told_apart_and_of_calls_to_models_a_cdn_is_told_nothing() {
    let tenants = telling(json!({ "tags": TAGS }))
        .set("identity.tenant", json!({ "header": "x-tenant" }))
        .start()
        .await;
    let path = "/static/a?cache-control=max-age%3D600";
    for _ in 0..2 {
        assert_eq!(told(&get(&tenants, path, &[("x-tenant", "acme")]).await), [None; 3]);
    }
    let models = World::builder()
        .set("routes.0.cache", json!({ "scope": "shared", "cdn": { "tags": TAGS } }))
        .start()
        .await;
    for _ in 0..2 {
        assert_eq!(told(&models.client.post(CHAT, &chat("a")).await), [None; 3]);
    }
}

#[tokio::test]
async fn a_cdn_that_the_upstream_speaks_to_itself_is_told_the_tags_alone() {
    let world = telling(json!({ "tags": TAGS })).start().await;
    let path = "/static/a?cache-control=max-age%3D5&cdn-cache-control=max-age%3D900";
    for _ in 0..2 {
        let reply = get(&world, path, &[]).await;
        assert_eq!(told(&reply)[..2], [Some("max-age=900"), Some("path:a")]);
    }
    let spaced = "/static/a%20b?cache-control=max-age%3D600";
    let reply = get(&world, spaced, &[]).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn an_answer_that_has_become_private_is_given_with_the_head_that_says_so() {
    let upstream = Scripted::start(|mut line| async move {
        while let Some(seen) = line.request().await {
            let asks = !seen.fields("if-none-match").is_empty();
            let answer = if asks {
                "HTTP/1.1 304 Not Modified\r\ncache-control: private\r\netag: \"a\"\r\n\r\n"
            } else {
                "HTTP/1.1 200 OK\r\ncache-control: public, max-age=600\r\netag: \"a\"\r\n\
                 content-length: 1\r\n\r\nx"
            };
            line.wire.send(answer).await;
        }
    })
    .await;
    let world = telling(json!({ "tags": TAGS })).upstream(upstream.url()).start().await;
    let kept = get(&world, "/doc", &[]).await;
    assert_eq!(
        (kept.header("cache-control"), told(&kept)[0]),
        ("public, max-age=600", Some("max-age=600"))
    );
    let anew = get(&world, "/doc", &[("cache-control", "no-cache")]).await;
    assert!(anew.cache_status().contains("fwd-status=304"), "{anew:?}");
    assert_eq!((anew.status.as_u16(), &anew.body[..]), (200, &b"x"[..]));
    assert_eq!((anew.header("cache-control"), &told(&anew)[..2]), ("private", &[None, None][..]));
    assert_miss(&get(&world, "/doc", &[]).await);
}
