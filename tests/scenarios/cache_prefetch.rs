//! What is likely to be asked next is asked ahead: learned from who asks, in the name of who is likely
//! to want it, within a budget, and only while it pays.

use crate::cache_stage::{
    CHAT, assert_hit, assert_miss, chat, content, is_cached, purge, send, with,
};
use serde_json::{Value, json};
use tollgate_tests::{Client, Reply, World, WorldBuilder, standin::Gate};

/// A world where calls that say the same in `x-session` follow each other.
fn learning(policy: Value) -> WorldBuilder {
    let prefetch = json!({
        "per": { "header": "x-session" },
        "budget": { "calls_per_minute": 1000 },
    });
    content(policy)
        .set("routes.0.cache.prefetch", prefetch)
        .set("classes", json!([{ "name": "usual", "default": true }, { "name": "last" }]))
}

async fn ask(world: &World, session: &str, question: &Value) -> Reply {
    world.client.post_with(CHAT, &[("x-session", session)], question).await
}

/// Two sessions ask one question after the other; then nothing is kept any more.
async fn learn(world: &World, questions: &[Value]) {
    for session in ["first", "second"] {
        let name = format!("{session} {}", questions[0]["messages"][0]["content"]);
        for question in questions {
            assert_eq!(ask(world, &name, question).await.status, 200);
        }
    }
    purge(world, json!({ "all": true })).await;
}

fn own_calls(outcome: &str) -> String {
    format!("tollgate_cache_own_calls_total{{purpose=\"prefetch\",outcome=\"{outcome}\"}}")
}

fn outcomes(outcome: &str) -> String {
    format!("tollgate_cache_prefetch_total{{route=\"all\",outcome=\"{outcome}\"}}")
}

fn over_budget(budget: &str) -> String {
    format!("tollgate_cache_prefetch_over_budget_total{{route=\"all\",budget=\"{budget}\"}}")
}

const PRECISION: &str = "tollgate_cache_prefetch_precision{route=\"all\"}";

#[tokio::test]
async fn what_followed_twice_is_there_when_the_third_asks_for_it() {
    let world = learning(json!({})).start().await;
    let [a, b, c] = ["a", "b", "c"].map(chat);
    learn(&world, &[a.clone(), b.clone(), c.clone()]).await;
    let before = world.standin.counts().calls;
    assert_miss(&ask(&world, "third", &a).await);
    world.metric_when(&own_calls("stored"), 1.0).await;
    assert_hit(&ask(&world, "third", &b).await);
    world.metric_when(&own_calls("stored"), 2.0).await;
    assert_hit(&ask(&world, "third", &c).await);
    assert_eq!(world.metric(&outcomes("used")), Some(2.0));
    assert_eq!(world.metric(PRECISION), Some(1.0));
    assert_eq!(world.standin.counts().calls, before + 3);
    // Nobody's in the numbers about callers, somebody's in the ledger, behind everybody.
    let records = world.records_when(11).await;
    let own: Vec<_> = records.iter().filter(|view| view.record.own).collect();
    assert_eq!(own.len(), 2);
    assert!(own.iter().all(|view| view.words[6] == "last" && view.record.tokens.output > 0));
    let hits = "tollgate_cache_requests_total{route=\"all\",tier=\"memory\",outcome=\"hit\"}";
    assert_eq!(world.metric(hits), Some(5.0), "two of the third, three of the second");
}

#[tokio::test]
async fn nothing_is_asked_ahead_that_is_there() {
    let world = learning(json!({})).start().await;
    let [a, b] = ["a", "b"].map(chat);
    for session in ["1", "2", "3", "4"] {
        ask(&world, session, &a).await;
        ask(&world, session, &b).await;
    }
    assert_eq!(world.standin.counts().calls, 2);
    // Of another pair the second is gone: once that is there, all before it was decided.
    let [c, d] = ["c", "d"].map(chat);
    for session in ["5", "6"] {
        ask(&world, session, &c).await;
        ask(&world, session, &d).await;
    }
    let admin = Client::new(world.app.addresses().admin.unwrap());
    let told = admin.post("/api/cache/explain", &json!({ "path": CHAT, "body": d })).await;
    purge(&world, json!({ "key": told.json()["key"] })).await;
    assert_hit(&ask(&world, "7", &a).await);
    assert_hit(&ask(&world, "7", &c).await);
    world.metric_when(&own_calls("stored"), 1.0).await;
    assert_eq!(world.metric(&own_calls("hit")).unwrap_or_default(), 0.0);
    assert_eq!(world.standin.counts().calls, 5);
}

#[tokio::test]
async fn what_is_not_wanted_any_more_is_not_asked_ahead_any_more() {
    // It is in vain after the time of an answer.
    let world = learning(json!({ "ttl": "1s" })).start().await;
    let pairs: Vec<[Value; 2]> = (0..20).map(|n| ["a", "b"].map(|it| pair(it, n))).collect();
    for questions in &pairs {
        learn(&world, questions).await;
    }
    for (n, [first, _]) in pairs.iter().enumerate() {
        ask(&world, &format!("third {n}"), first).await;
    }
    // All that were asked ahead are judged when their time is over, and nobody asks.
    world.metric_when(&outcomes("wasted"), 20.0).await;
    assert_eq!(world.metric(PRECISION), Some(0.0));
    purge(&world, json!({ "all": true })).await;
    let before = world.standin.counts().calls;
    for [first, _] in &pairs {
        assert_miss(&ask(&world, "fourth", first).await);
    }
    assert_eq!(world.metric(&own_calls("stored")), Some(20.0));
    assert_eq!(world.standin.counts().calls, before + 20);
}

fn pair(which: &str, n: usize) -> Value {
    chat(&format!("{which} {n}"))
}

#[tokio::test]
async fn no_more_is_asked_ahead_in_a_minute_than_the_budget_says() {
    let budget = json!({ "calls_per_minute": 2 });
    let world = learning(json!({})).set("routes.0.cache.prefetch.budget", budget).start().await;
    let pairs: Vec<[Value; 2]> = (0..5).map(|n| ["a", "b"].map(|it| pair(it, n))).collect();
    for questions in &pairs {
        learn(&world, questions).await;
    }
    let before = world.standin.counts().calls;
    for (n, [first, _]) in pairs.iter().enumerate() {
        assert_miss(&ask(&world, &format!("third {n}"), first).await);
        let stored = [1.0, 2.0].get(n).copied().unwrap_or(2.0);
        world.metric_when(&own_calls("stored"), stored).await;
    }
    assert_eq!(world.standin.counts().calls, before + 5 + 2);
    assert_eq!(world.metric(&over_budget("calls")), Some(3.0));
}

#[tokio::test]
async fn no_money_is_spent_beyond_the_budget_or_where_nobody_knows_how_much() {
    for book in ["builtin", "none"] {
        let budget = json!({ "calls_per_minute": 100, "money_per_hour": "0.000000001" });
        let world = learning(json!({}))
            .set("routes.0.cache.prefetch.budget", budget)
            .set("prices", json!({ "book": book }))
            .start()
            .await;
        let pairs: Vec<[Value; 2]> = (0..3).map(|n| ["a", "b"].map(|it| pair(it, n))).collect();
        for questions in &pairs {
            learn(&world, questions).await;
        }
        let before = world.standin.counts().calls;
        for (n, [first, _]) in pairs.iter().enumerate() {
            assert_miss(&ask(&world, &format!("third {n}"), first).await);
            world.metric_when(&own_calls("stored"), 1.0).await;
        }
        assert_eq!(world.standin.counts().calls, before + 3 + 1, "{book}");
        // The money was gone when the second and the third were asked for: that is not silent.
        assert_eq!(world.metric(&over_budget("money")), Some(2.0), "{book}");
        assert_eq!(world.metric(&over_budget("calls")), Some(0.0), "{book}");
    }
}

#[tokio::test]
async fn nothing_is_asked_ahead_for_another_tenant() {
    let world = learning(json!({})).start().await;
    let [a, b] = ["a", "b"].map(chat);
    let ask_as = async |tenant: &str, session: &str, question: &Value| {
        let fields = [("authorization", tenant), ("x-session", session)];
        world.client.post_with(CHAT, &fields, question).await
    };
    for session in ["1", "2"] {
        for question in [&a, &b] {
            ask_as("Bearer one", session, question).await;
        }
    }
    // Not even in the session of that name.
    for session in ["1", "2", "3"] {
        ask_as("Bearer two", session, &a).await;
    }
    assert_eq!(world.standin.counts().calls, 3);
    purge(&world, json!({ "all": true })).await;
    assert_miss(&ask_as("Bearer one", "3", &a).await);
    world.metric_when(&own_calls("stored"), 1.0).await;
    assert_hit(&ask_as("Bearer one", "3", &b).await);
    assert_miss(&ask_as("Bearer two", "4", &b).await);
}

#[tokio::test]
async fn what_one_user_does_is_asked_ahead_for_that_user_alone() {
    let prefetch = json!({ "per": "user", "budget": { "calls_per_minute": 1000 } });
    let world = learning(json!({ "scope": "user" }))
        .set("routes.0.cache.prefetch", prefetch)
        .set("identity.user", json!({ "header": "x-user" }))
        .start()
        .await;
    let ask_as = async |user: &str, text: &str| {
        world.client.post_with(CHAT, &[("x-user", user)], &chat(text)).await
    };
    for text in ["a", "b", "a", "b"] {
        ask_as("one", text).await;
    }
    purge(&world, json!({ "all": true })).await;
    let before = world.standin.counts().calls;
    assert_miss(&ask_as("two", "a").await);
    assert_eq!(world.standin.counts().calls, before + 1);
    assert_miss(&ask_as("one", "a").await);
    world.metric_when(&own_calls("stored"), 1.0).await;
    assert_miss(&ask_as("two", "b").await);
    assert_hit(&ask_as("one", "b").await);
}

#[tokio::test]
async fn nothing_is_asked_ahead_while_the_upstream_has_work() {
    let limit = json!({ "limit": 2 });
    let world = learning(json!({})).set("upstreams.model.concurrency", limit).start().await;
    let a = chat("a");
    let b = with(&chat("b"), json!({ "model": "gpt-4o" }));
    learn(&world, &[a.clone(), b.clone()]).await;
    assert_miss(&world.client.post(CHAT, &a).await);
    let gate = Gate::heads();
    world.standin.set_gate(Some(gate.clone()));
    let runs = send(&world.client, CHAT, &[], &chat("runs"));
    world.standin.wait_for_in_flight(1).await;
    assert_hit(&ask(&world, "third", &a).await);
    assert_eq!(world.standin.counts().in_flight, 1);
    gate.open();
    assert_miss(&crate::cache_stage::answered(runs).await);
    world.metric_when("request_inflight", 0.0).await;
    assert!(!is_cached(&world.client, CHAT, &b).await);
    assert_hit(&ask(&world, "fourth", &a).await);
    world.metric_when(&own_calls("stored"), 1.0).await;
    assert_hit(&ask(&world, "fourth", &b).await);
}

#[tokio::test]
async fn who_asks_while_it_is_asked_ahead_gets_that_answer() {
    let world = learning(json!({})).start().await;
    let [a, b] = ["a", "b"].map(chat);
    learn(&world, &[a.clone(), b.clone()]).await;
    assert_miss(&world.client.post(CHAT, &a).await);
    let gate = Gate::heads();
    world.standin.set_gate(Some(gate.clone()));
    let before = world.standin.counts().calls;
    assert_hit(&ask(&world, "third", &a).await);
    world.standin.wait_for_in_flight(1).await;
    let asked = send(&world.client, CHAT, &[("x-session", "third")], &b);
    world.metric_when(&outcomes("used"), 1.0).await;
    gate.open();
    let reply = crate::cache_stage::answered(asked).await;
    assert_eq!(reply.header("cache-status"), crate::cache_stage::COLLAPSED);
    assert_eq!(world.standin.counts().calls, before + 1);
}
