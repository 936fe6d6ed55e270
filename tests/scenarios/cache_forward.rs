//! `forward: keyed`: what a caller says and no key binds is not even heard by the upstream.
//! (Made-up heads by the thousand: `isolation` in the proxy's own tests.)

use crate::cache_stage::{CHAT, assert_bypass, assert_hit, assert_miss, chat};
use http::Method;
use serde_json::{Value, json};
use tollgate_tests::{Reply, Scripted, Seen, World, WorldBuilder};

const ANSWER: &str = r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"x"}}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;

/// What a caller may say of itself and its wishes.
const WISHES: [(&str, &str); 9] = [
    ("accept", "application/xml"),
    ("accept-language", "de"),
    ("cookie", "session=1"),
    ("user-agent", "one/1"),
    ("via", "1.1 evil"),
    ("x-country", "XX"),
    ("x-debug-template", "evil"),
    ("x-forwarded-for", "192.0.2.1"),
    ("x-request-id", "evil"),
];

async fn upstream(kept: &str) -> Scripted {
    let len = ANSWER.len();
    Scripted::always(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{kept}content-length: {len}\r\n\r\n{ANSWER}"
    ))
    .await
}

fn world(upstream: &Scripted, cache: Value) -> WorldBuilder {
    let url = upstream.url();
    World::builder().config(move |settings| {
        settings
            .set("upstreams.model.endpoints.0.url", url.into())
            .set("upstreams.model.model_version", json!({ "from": "static", "value": "1" }))
            .set("routes.0.cache", cache);
    })
}

async fn ask(world: &World, headers: &[(&str, &str)]) -> Reply {
    world.client.post_with(CHAT, headers, &chat("a")).await
}

/// Names of the fields that the upstream got, in order.
fn names(seen: &Seen) -> Vec<String> {
    let lines = seen.head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let mut names: Vec<String> = lines.map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort();
    names
}

const PLAIN: [&str; 7] = [
    "accept-encoding",
    "content-length",
    "content-type",
    "host",
    "traceparent",
    "user-agent",
    "via",
];

#[tokio::test]
async fn what_one_caller_wishes_makes_nobody_elses_answer() {
    let upstream = upstream("").await;
    let cache = json!({ "mode": "content", "scope": "shared", "forward": "keyed" });
    let world = world(&upstream, cache).start().await;
    assert_miss(&ask(&world, &WISHES).await);
    let seen = upstream.only();
    let mut expected = PLAIN.to_vec();
    // The scheme and the host are in the keys of what everybody shares.
    expected.push("x-forwarded-proto");
    assert_eq!(names(&seen), expected);
    assert_eq!(seen.fields("via"), ["1.1 tollgate"]);
    assert_eq!(seen.fields("user-agent"), ["tollgate"]);
    assert_eq!(seen.fields("accept-encoding"), ["identity"]);
    assert!(!seen.head.contains("evil"), "{}", seen.head);
    // Everybody may be given it: nobody could have changed it.
    assert_hit(&ask(&world, &[]).await);
    assert_hit(&ask(&world, &[("accept-language", "fr")]).await);
    // What the key binds goes on, and makes another answer.
    assert_miss(&ask(&world, &[("openai-beta", "x")]).await);
    assert_eq!(upstream.seen().last().unwrap().fields("openai-beta"), ["x"]);
    assert_miss(&ask(&world, &[("x-forwarded-host", "other")]).await);
    assert_eq!(upstream.seen().last().unwrap().fields("x-forwarded-host"), ["other"]);
}

#[tokio::test]
async fn who_the_answer_is_kept_for_is_told_to_the_upstream() {
    let upstream = upstream("").await;
    let key = json!({ "include_headers": ["accept-language"] });
    let cache = json!({ "mode": "content", "forward": "keyed", "key": key });
    let world = world(&upstream, cache).start().await;
    let one = [("authorization", "Bearer one"), ("cookie", "session=1"), ("accept-language", "de")];
    assert_miss(&ask(&world, &one).await);
    let seen = upstream.only();
    assert_eq!(seen.fields("authorization"), ["Bearer one"]);
    assert_eq!(seen.fields("accept-language"), ["de"]);
    let mut expected = PLAIN.to_vec();
    expected.extend(["authorization", "accept-language"]);
    expected.sort_unstable();
    assert_eq!(names(&seen), expected, "a cookie beside it may be another in each call");
    assert_miss(&ask(&world, &[("authorization", "Bearer two"), one[2]]).await);
    assert_miss(&ask(&world, &[one[0], ("accept-language", "fr")]).await);
    assert_hit(&ask(&world, &[one[0], one[2]]).await);
}

#[tokio::test]
async fn of_a_url_too_only_what_names_it_goes_on() {
    let upstream = upstream("cache-control: max-age=60\r\n").await;
    let world = world(&upstream, json!({ "mode": "http", "forward": "keyed" })).start().await;
    let get =
        async |headers: &[(&str, &str)]| world.client.send(Method::GET, "/page", headers, "").await;
    let mut wishes: Vec<(&str, &str)> = WISHES.to_vec();
    wishes.push(("range", "bytes=0-1"));
    assert_miss(&get(&wishes).await);
    let seen = upstream.only();
    assert!(!seen.head.contains("evil") && seen.fields("range").is_empty(), "{}", seen.head);
    assert!(seen.fields("cookie").is_empty() && seen.fields("accept").is_empty());
    assert_hit(&get(&[]).await);
    // Nor does a HEAD, which goes on as it came, say anything of what is kept.
    let head = [("cache-control", "no-cache"), ("x-debug-template", "evil")];
    world.client.send(Method::HEAD, "/page", &head, "").await;
    let seen = upstream.requests(2).await;
    assert!(seen[1].head.contains("evil"), "{}", seen[1].head);
    assert_hit(&get(&[]).await);
    assert_eq!(upstream.seen().len(), 2);
}

/// Goal: a service is not cut off from what it needs where nothing is at stake.
#[tokio::test]
async fn what_is_not_kept_goes_on_as_it_came() {
    let upstream = upstream("").await;
    let cache = json!({ "mode": "content", "scope": "shared", "forward": "keyed" });
    let world = world(&upstream, cache).start().await;
    let mut headers = WISHES.to_vec();
    headers.push(("cache-control", "no-store"));
    assert_bypass(&ask(&world, &headers).await, "no-store");
    let seen = upstream.only();
    for (name, value) in WISHES {
        assert!(seen.fields(name).iter().any(|said| said.contains(value)), "{name}: {}", seen.head);
    }
}
