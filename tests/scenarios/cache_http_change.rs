//! A change of a URL (RFC 9111 §4.4) ends what is kept for it, whoever it was kept for; an answer to
//! HEAD (§4.3.5) is about what is kept in any tier.

use crate::{
    cache_redis::{Line, Server, UP, member_with},
    cache_stage::{Told as _, assert_hit, assert_miss, by_url},
};
use http::Method;
use serde_json::json;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Semaphore;
use tollgate_tests::{Reply, Scripted, Seen, World, until};

/// Answers each request with what `answer` says.
async fn upstream(answer: impl Fn(&Seen) -> String + Send + Sync + 'static) -> Scripted {
    let answer = Arc::new(answer);
    Scripted::start(move |mut line| {
        let answer = answer.clone();
        async move {
            while let Some(seen) = line.request().await {
                line.wire.send(answer(&seen)).await;
            }
        }
    })
    .await
}

/// Good for a minute, and another each time.
fn page() -> String {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let body = format!("page {:08}", CALLS.fetch_add(1, Ordering::SeqCst));
    let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\n";
    format!("{head}content-length: {}\r\n\r\n{body}", body.len())
}

fn page_or_done(seen: &Seen) -> String {
    match seen.line().starts_with("GET ") {
        true => page(),
        false => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
    }
}

async fn send(world: &World, method: Method, path: &str, fields: &[(&str, &str)]) -> Reply {
    world.client.send(method, path, fields, "").await
}

#[tokio::test]
async fn a_change_by_one_tenant_ends_what_is_kept_for_the_others() {
    let upstream = upstream(page_or_done).await;
    let tenant = json!({ "header": "x-tenant" });
    let world = by_url().upstream(upstream.url()).set("identity.tenant", tenant).start().await;
    let (acme, other) = ([("x-tenant", "acme")], [("x-tenant", "other")]);
    for path in ["/a?x=1", "/b"] {
        for fields in [&acme, &other] {
            assert_miss(&send(&world, Method::GET, path, fields).await);
            assert_hit(&send(&world, Method::GET, path, fields).await);
        }
    }
    assert_eq!(send(&world, Method::DELETE, "/a?x=1", &acme).await.status, 204);
    for fields in [&acme, &other] {
        assert_miss(&send(&world, Method::GET, "/a?x=1", fields).await);
        assert_hit(&send(&world, Method::GET, "/b", fields).await);
    }
    // Of a tenant for whom nothing is kept, too.
    assert_eq!(send(&world, Method::PUT, "/b", &[("x-tenant", "third")]).await.status, 204);
    for fields in [&acme, &other] {
        assert_miss(&send(&world, Method::GET, "/b", fields).await);
    }
}

#[tokio::test]
async fn a_change_ends_what_is_kept_for_who_came_through_another_proxy() {
    let upstream = upstream(page_or_done).await;
    let world = by_url().upstream(upstream.url()).start().await;
    let through = [("x-forwarded-proto", "https"), ("x-forwarded-host", "shop.example")];
    assert_miss(&send(&world, Method::GET, "/a", &through).await);
    assert_hit(&send(&world, Method::GET, "/a", &through).await);
    assert_eq!(send(&world, Method::DELETE, "/a", &[]).await.status, 204);
    assert_miss(&send(&world, Method::GET, "/a", &through).await);
}

#[tokio::test]
async fn what_was_asked_for_before_a_change_and_comes_after_it_is_not_kept() {
    let (gate, asked) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (held, seen_at) = (gate.clone(), asked.clone());
    let upstream = Scripted::start(move |mut line| {
        let (held, seen_at) = (held.clone(), seen_at.clone());
        async move {
            while let Some(seen) = line.request().await {
                seen_at.add_permits(1);
                if seen.line().starts_with("GET ") {
                    held.acquire().await.unwrap().forget();
                }
                line.wire.send(page_or_done(&seen)).await;
            }
        }
    })
    .await;
    let world = by_url().upstream(upstream.url()).start().await;
    let early = async { send(&world, Method::GET, "/a", &[]).await };
    let changed = async {
        asked.acquire().await.unwrap().forget();
        // Nothing is kept yet that it could end.
        let changed = send(&world, Method::DELETE, "/a", &[]).await;
        gate.add_permits(1);
        changed
    };
    let (early, changed) = tokio::join!(early, changed);
    assert_eq!((early.status.as_u16(), changed.status.as_u16()), (200, 204));
    gate.add_permits(1);
    let late = send(&world, Method::GET, "/a", &[]).await;
    assert_miss(&late);
    assert_ne!(late.body, early.body);
    assert_hit(&send(&world, Method::GET, "/a", &[]).await);
}

#[tokio::test]
async fn an_answer_to_head_ends_what_only_another_tier_keeps() {
    let server = Server::start().await;
    let line = Line::to(&server).await;
    let upstream = upstream(|seen| match seen.line().starts_with("HEAD ") {
        true => "HTTP/1.1 200 OK\r\netag: \"2\"\r\ncontent-length: 4\r\n\r\n".to_owned(),
        false => "HTTP/1.1 200 OK\r\netag: \"1\"\r\ncache-control: max-age=60\r\n\
                  content-length: 4\r\n\r\npage"
            .to_owned(),
    })
    .await;
    let builder = by_url().set("routes.0.cache.tiers", json!(["redis"]));
    let world = member_with(builder, &line, &upstream.url(), "2s").await;
    world.metric_when(UP, 1.0).await;
    assert_miss(&send(&world, Method::GET, "/a", &[]).await);
    let only = [("cache-control", "only-if-cached")];
    let look = || send(&world, Method::GET, "/a", &only);
    until("the answer in redis", look, |reply: &Reply| reply.is_hit()).await;
    // Who wants no stored answer to HEAD is answered by the upstream, which has another by now.
    let head = send(&world, Method::HEAD, "/a", &[("cache-control", "no-cache")]).await;
    assert_eq!(head.header("etag"), "\"2\"");
    assert_eq!(look().await.refusal(), (504, "not_cached"));
}
