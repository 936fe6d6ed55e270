//! Which answers a route keeps, and for how long, by what call and answer say.

use crate::cache_stage::{
    CHAT, MESSAGES, Told as _, assert_bypass, assert_hit, assert_miss, chat, content, message,
    streamed, with,
};
use serde_json::{Value, json};
use tollgate_tests::{Reply, Scripted, World, WorldBuilder, until};

fn plain(policy: Value) -> WorldBuilder {
    content(policy).set("routes.0.dialect", json!("http"))
}

async fn post(world: &World, path: &str, body: Value) -> Reply {
    world.client.post(path, &body).await
}

/// A service that answers every POST with this.
pub(crate) async fn service(policy: Value, head: &str, body: &str) -> World {
    let len = body.len();
    let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {len}\r\n\r\n{body}");
    plain(policy).upstream(Scripted::always(answer).await.url()).start().await
}

/// For how many seconds an answer is still good: what is left and its age.
fn ttl(reply: &Reply) -> u64 {
    let status = reply.cache_status();
    let rest = status.strip_prefix("tollgate; hit; ttl=").unwrap_or_else(|| panic!("{reply:?}"));
    let left: u64 = rest.split(';').next().unwrap().parse().unwrap();
    left + reply.header("age").parse::<u64>().unwrap()
}

#[track_caller]
fn assert_ttl(reply: &Reply, expected: u64) {
    // Both are rounded down, so a second may be lost between them.
    assert!((expected - 1..=expected).contains(&ttl(reply)), "{expected}: {reply:?}");
}

#[tokio::test]
async fn what_may_vary_is_not_kept_where_the_route_says_so() {
    let when = json!({ "temperature_max": 0, "n_max": 1, "tools": false });
    let world = content(json!({ "when": when })).start().await;
    let exact = with(&chat("why?"), json!({ "temperature": 0 }));
    assert_miss(&post(&world, CHAT, exact.clone()).await);
    assert_hit(&post(&world, CHAT, exact.clone()).await);
    assert_hit(&post(&world, CHAT, streamed(&exact)).await);
    for more in [
        json!({ "temperature": 0.1 }),
        json!({ "temperature": null }),
        json!({ "n": 2 }),
        json!({ "tools": [{ "type": "function", "function": { "name": "f" } }] }),
    ] {
        for _ in 0..2 {
            assert_bypass(&post(&world, CHAT, with(&exact, more.clone())).await, "when");
        }
    }
    // One that is not said is the dialect's default.
    assert_bypass(&post(&world, CHAT, chat("why?")).await, "when");
    assert_bypass(&post(&world, MESSAGES, message("why?")).await, "when");
    // An embedding has none.
    let embed = json!({ "model": "text-embedding-3-small", "input": "why?" });
    assert_miss(&post(&world, "/v1/embeddings", embed.clone()).await);
    assert_hit(&post(&world, "/v1/embeddings", embed).await);
}

#[tokio::test]
async fn an_answer_that_ended_early_is_not_kept_streamed_or_whole() {
    let when = json!({ "finish_reasons": ["stop", "end_turn"] });
    let world = content(json!({ "when": when })).start().await;
    for (path, question) in [(CHAT, chat("why?")), (MESSAGES, message("why?"))] {
        assert_miss(&post(&world, path, question.clone()).await);
        assert_hit(&post(&world, path, question.clone()).await);
        let other = with(&question, json!({ "seed": 1 }));
        let told = world.client.stream(path, &streamed(&other)).await.finish().await;
        assert_miss(&told);
        assert_hit(&post(&world, path, other).await);
    }
    let tools = json!([{ "type": "function", "function": { "name": "weather" } }]);
    let calls_a_tool = with(&chat("tool: weather"), json!({ "tools": tools }));
    for question in [calls_a_tool.clone(), streamed(&calls_a_tool)] {
        for _ in 0..2 {
            let reply = world.client.stream(CHAT, &question).await.finish().await;
            assert!(reply.text().contains("tool_calls"), "{reply:?}");
            assert_miss(&reply);
        }
    }
}

#[tokio::test]
async fn only_answers_that_say_what_the_route_wants_are_kept() {
    let when =
        json!({ "answer": [{ "pointer": "/status", "equals": "final" }], "body_max": "64B" });
    for (body, kept) in [
        (r#"{"status":"final"}"#.to_owned(), true),
        (r#"{"status":"draft"}"#.to_owned(), false),
        (r#"{"status":"final","status":"final"}"#.to_owned(), false),
        ("final".to_owned(), false),
        (format!(r#"{{"status":"final","x":"{}"}}"#, "y".repeat(64)), false),
    ] {
        let policy = json!({ "when": when });
        let world = service(policy, "200 OK\r\ncontent-type: application/json", &body).await;
        assert_miss(&post(&world, "/diagnoses", json!({ "image": 1 })).await);
        let again = post(&world, "/diagnoses", json!({ "image": 1 })).await;
        assert_eq!((again.is_hit(), again.text()), (kept, body.clone()), "{body}");
    }
}

#[tokio::test]
async fn requests_that_the_route_does_not_mean_go_past_the_cache() {
    let request =
        json!([{ "pointer": "/live", "exists": false }, { "pointer": "/v", "in": [1, "x"] }]);
    let world = plain(json!({ "when": { "request": request } })).start().await;
    for (body, cached) in [
        (json!({ "v": 1.0 }), true),
        (json!({ "v": "x", "q": 1 }), true),
        (json!({ "v": 2 }), false),
        (json!({}), false),
        (json!({ "v": 1, "live": null }), false),
    ] {
        let first = post(&world, "/echo", body.clone()).await;
        let second = post(&world, "/echo", body.clone()).await;
        if cached {
            assert_miss(&first);
            assert_hit(&second);
        } else {
            assert_bypass(&first, "when");
            assert_bypass(&second, "when");
        }
    }
}

#[tokio::test]
async fn an_absence_is_kept_where_its_status_is_named() {
    let policy = json!({
        "when": { "statuses": [200, 404] },
        "ttl": "1h",
        "ttl_rules": [{ "statuses": [404], "ttl": "30s" }],
    });
    let world =
        service(policy.clone(), "404 Not Found\r\ncontent-type: application/json", "{}").await;
    assert_miss(&post(&world, "/users", json!({ "id": 7 })).await);
    let hit = post(&world, "/users", json!({ "id": 7 })).await;
    assert_eq!(hit.status, 404);
    assert_ttl(&hit, 30);
    let world = service(policy, "500 Oops\r\ncontent-type: application/json", "{}").await;
    for _ in 0..2 {
        assert_miss(&post(&world, "/users", json!({ "id": 7 })).await);
    }
}

#[tokio::test]
async fn the_kind_of_a_question_or_answer_says_how_long_it_is_kept() {
    let policy = json!({
        "ttl": "1h",
        "ttl_rules": [
            { "request": { "/kind": "live" }, "ttl": "0s" },
            { "request": { "/kind": "faq" }, "ttl": "24h" },
            { "request": { "/kind": "order" }, "answer": { "/method": "POST" }, "ttl": "5m" },
            { "headers": { "x-kind": "static" }, "ttl": "7d" },
            { "headers": { "x-kind": "live" }, "ttl": "0s" },
        ],
    });
    let world = plain(policy).start().await;
    let ask = async |kind: &str, header: &str| {
        let body = json!({ "kind": kind });
        let headers = [("x-kind", header)];
        let first = world.client.post_with("/echo", &headers, &body).await;
        (first, world.client.post_with("/echo", &headers, &body).await)
    };
    for (kind, header, seconds) in [
        ("faq", "", 24 * 3600),
        ("order", "", 300),
        ("a", "static", 7 * 24 * 3600),
        ("b", "x", 3600),
    ] {
        let (first, second) = ask(kind, header).await;
        assert_miss(&first);
        assert_ttl(&second, seconds);
    }
    // Also where it has been kept for others.
    for (kind, header) in [("live", "static"), ("b", "live")] {
        let (first, second) = ask(kind, header).await;
        assert_bypass(&first, "ttl-zero");
        assert_bypass(&second, "ttl-zero");
    }
}

#[tokio::test]
async fn the_upstream_says_how_long_where_the_route_lets_it() {
    for (said, seconds) in [
        ("max-age=60", Some(60)),
        ("max-age=60, s-maxage=120", Some(120)),
        ("max-age=86400", Some(3600)),
        ("public", Some(3600)),
        ("no-cache", None),
        ("private, max-age=60", None),
        ("max-age=0", None),
    ] {
        let head = format!("200 OK\r\ncache-control: {said}");
        let world = service(json!({ "upstream_ttl": true }), &head, "x").await;
        assert_miss(&post(&world, "/", json!({})).await);
        let again = post(&world, "/", json!({})).await;
        match seconds {
            Some(seconds) => assert_ttl(&again, seconds),
            None => assert_miss(&again),
        }
        // Else it decides nothing: providers say no-cache with every stream.
        let world = service(json!({}), &head, "x").await;
        assert_miss(&post(&world, "/", json!({})).await);
        assert_ttl(&post(&world, "/", json!({})).await, 3600);
    }
}

#[tokio::test]
async fn what_is_kept_together_does_not_end_together() {
    let world = plain(json!({ "ttl": "1h", "jitter_percent": 50 })).start().await;
    let mut all = Vec::new();
    for n in 0..8 {
        assert_miss(&post(&world, "/echo", json!({ "n": n })).await);
        let seconds = ttl(&post(&world, "/echo", json!({ "n": n })).await);
        assert!((1799..=3600).contains(&seconds), "{seconds}");
        all.push(seconds);
    }
    all.sort_unstable();
    all.dedup();
    assert!(all.len() > 4, "{all:?}");
}

#[tokio::test]
async fn an_answer_kept_under_other_conditions_is_not_given_after_a_reload() {
    let mut world = plain(json!({})).start().await;
    assert_miss(&post(&world, "/echo", json!({ "a": 1 })).await);
    assert_hit(&post(&world, "/echo", json!({ "a": 1 })).await);
    world
        .reload(|settings| {
            let answer = json!([{ "pointer": "/nothing", "exists": true }]);
            settings.set("routes.0.cache.when", json!({ "answer": answer }));
        })
        .unwrap();
    for _ in 0..2 {
        assert_miss(&post(&world, "/echo", json!({ "a": 1 })).await);
    }
}

#[tokio::test]
async fn nobody_is_given_what_is_older_than_its_own_rule_allows() {
    let by_header = json!([{ "headers": { "x-kind": "live" }, "ttl": "1ms" }]);
    let by_member = json!([{ "request": { "/metadata/kind": "live" }, "ttl": "1ms" }]);
    let live_body = with(&chat("a"), json!({ "metadata": { "kind": "live" } }));
    for (policy, headers, live) in [
        (json!({ "ttl_rules": by_header }), vec![("x-kind", "live")], chat("a")),
        (
            json!({ "ttl_rules": by_member, "key": { "ignore": ["/metadata"] } }),
            Vec::new(),
            live_body,
        ),
    ] {
        let world = content(policy).start().await;
        let old = world.client.post(CHAT, &chat("a")).await;
        assert_miss(&old);
        let ask = || async { world.client.post_with(CHAT, &headers, &live).await };
        let new = until("an answer of its own", ask, |reply| reply.body != old.body).await;
        assert!(!new.is_hit(), "{new:?}");
        // Who wants it no newer is still answered.
        let plain = world.client.post(CHAT, &chat("a")).await;
        assert_eq!(plain.status, 200);
    }
    // Of what the key binds, both are of one rule, and nothing is cut.
    let policy = json!({
        "ttl_rules": [{ "headers": { "x-kind": "live" }, "ttl": "2h" }],
        "key": { "include_headers": ["x-kind"] },
    });
    let world = content(policy).start().await;
    let live = [("x-kind", "live")];
    assert_miss(&world.client.post_with(CHAT, &live, &chat("a")).await);
    assert_ttl(&world.client.post_with(CHAT, &live, &chat("a")).await, 7200);
}
