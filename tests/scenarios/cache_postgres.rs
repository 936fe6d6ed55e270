//! Answers that a fleet shares through a real PostgreSQL, which is stopped, killed, emptied and cut
//! off here. Nothing of that may fail a call or give a wrong answer.

use crate::{
    cache_redis::{detail, provider},
    cache_stage::{
        CHAT, assert_hit, assert_miss, cached_is, chat, content, is_cached, outcome, purge,
        record_of,
    },
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{collections::HashMap, time::Duration};
use tempfile::TempDir;
use tokio::{task::JoinSet, time::Instant};
use tollgate_ledger::CacheOutcome;
use tollgate_tests::{LIMIT, Postgres, Process, Reply, Settings, World, standin::Options, until};

const UP: &str = "tollgate_store_up{store=\"postgres\"}";

/// Of the socket's name alone.
pub(crate) fn server() -> Postgres {
    Postgres::start(5432, &[], &[])
}

pub(crate) async fn member(server: &Postgres, upstream: &str, timeout: &'static str) -> World {
    let cache = json!({ "tiers": ["memory", "postgres"], "tags": ["kb:{header.x-kb}"] });
    let store = json!({ "url": server.url(), "timeout": timeout });
    let world = member_at_once(store, upstream, cache, Value::Null).await;
    world.metric_when(UP, 1.0).await;
    world
}

async fn member_at_once(store: Value, upstream: &str, cache: Value, entries: Value) -> World {
    let builder = content(cache).upstream(upstream).config(move |settings| {
        settings
            .set("stores.postgres", store)
            .set("cache.namespace", json!("fleet"))
            // The members of a fleet are called by one name, and these have a port each.
            .set("upstreams.model.host", json!("upstream"));
        if !entries.is_null() {
            settings.set("cache.postgres", entries);
        }
    });
    builder.start().await
}

fn look_ups(world: &World, wanted: &str) -> f64 {
    let series = format!("tollgate_cache_lookups_total{{tier=\"postgres\",outcome=\"{wanted}\"}}");
    world.metric(&series).unwrap_or_default()
}

/// The answer as it comes from the store, once it is there.
async fn found(world: &World, question: &Value) -> Reply {
    let only = [("cache-control", "only-if-cached")];
    let look = || async { world.client.post_with(CHAT, &only, question).await };
    until("a hit", look, |reply: &Reply| reply.status == 200).await
}

#[tokio::test]
async fn a_repeat_is_answered_from_postgresql_by_another_instance_and_after_a_restart() {
    let server = server();
    let provider = provider(Options::default()).await;
    let a = member(&server, &provider.url(), "10s").await;
    let beside = member(&server, &provider.url(), "10s").await;
    let first = a.client.post(CHAT, &chat("a")).await;
    assert_miss(&first);
    // The version of the model comes along.
    let second = found(&beside, &chat("a")).await;
    assert_eq!((detail(&second), &second.body), ("postgres", &first.body));
    assert_eq!(detail(&beside.client.post(CHAT, &chat("a")).await), "memory");
    drop((a, beside));
    let after = member(&server, &provider.url(), "10s").await;
    let third = after.client.post(CHAT, &chat("a")).await;
    assert_eq!((detail(&third), &third.body), ("postgres", &first.body));
    assert_eq!(provider.counts().calls, 1);
    let hit = record_of(&after, &third).await;
    assert_eq!(outcome(&hit), (CacheOutcome::Hit, "postgres"));
    let series = "tollgate_cache_requests_total{route=\"all\",tier=\"postgres\",outcome=\"hit\"}";
    assert_eq!(after.metric(series), Some(1.0));
    let seconds = "tollgate_cache_lookup_seconds_count{tier=\"postgres\"}";
    assert!(after.metric(seconds).unwrap_or_default() >= 1.0);
}

#[tokio::test]
async fn a_purge_on_one_instance_is_in_force_on_the_others_once_it_is_answered() {
    let server = server();
    let provider = provider(Options::default()).await;
    let a = member(&server, &provider.url(), "10s").await;
    // It asks postgresql for each answer, so that it need not be told anything.
    let cache = json!({ "tiers": ["postgres"], "tags": ["kb:{header.x-kb}"] });
    let store = json!({ "url": server.url(), "timeout": "10s" });
    let b = member_at_once(store, &provider.url(), cache, Value::Null).await;
    b.metric_when(UP, 1.0).await;
    let c = member(&server, &provider.url(), "10s").await;
    for target in
        [json!({ "tag": "kb:7" }), json!({ "model": "gpt-4o-mini" }), json!({ "all": true })]
    {
        a.client.post_with(CHAT, &[("x-kb", "7")], &chat("a")).await;
        for world in [&b, &c] {
            cached_is(&world.client, &chat("a"), true).await;
        }
        let said = purge(&a, target.clone()).await;
        assert_eq!(said, json!({ "purged": null, "reach": "fleet", "pending": false }));
        for world in [&a, &b] {
            assert!(!is_cached(&world.client, CHAT, &chat("a")).await, "{target}");
        }
        // What is in its memory, it is told of.
        cached_is(&c.client, &chat("a"), false).await;
    }
}

#[tokio::test]
async fn a_soft_purge_has_the_whole_fleet_renew_what_it_is_about() {
    let server = server();
    let provider = provider(Options::default()).await;
    let (a, b) = (
        member(&server, &provider.url(), "10s").await,
        member(&server, &provider.url(), "10s").await,
    );
    a.client.post_with(CHAT, &[("x-kb", "7")], &chat("a")).await;
    found(&b, &chat("a")).await;
    let said = purge(&a, json!({ "tag": "kb:7", "soft": true })).await;
    assert_eq!(said["reach"], "fleet");
    let look = || async { b.client.post_with(CHAT, &[("x-kb", "7")], &chat("a")).await };
    until("its renewal", look, |_| provider.counts().calls == 2).await;
    found(&a, &chat("a")).await;
}

#[tokio::test]
async fn a_purge_while_postgresql_is_away_is_in_force_here_and_told_when_it_is_back() {
    let mut server = server();
    let provider = provider(Options::default()).await;
    let a = member(&server, &provider.url(), "10s").await;
    let b = member(&server, &provider.url(), "10s").await;
    a.client.post_with(CHAT, &[("x-kb", "7")], &chat("a")).await;
    found(&b, &chat("a")).await;
    server.kill();
    a.metric_when(UP, 0.0).await;
    let said = purge(&a, json!({ "tag": "kb:7" })).await;
    assert_eq!(said, json!({ "purged": null, "reach": "instance", "pending": true }));
    assert!(!is_cached(&a.client, CHAT, &chat("a")).await);
    assert!(is_cached(&b.client, CHAT, &chat("a")).await, "it cannot know");
    server.start_again();
    cached_is(&b.client, &chat("a"), false).await;
    a.metric_when(UP, 1.0).await;
    assert!(!is_cached(&a.client, CHAT, &chat("a")).await);
}

/// Goal: a database that stands still costs nobody more than its time-out, and no call.
/// Method: calls at one time from many callers, before, while and after it stands still.
#[tokio::test]
async fn a_postgresql_that_stands_still_under_load_fails_no_call_and_costs_one_time_out() {
    const TIMEOUT: Duration = Duration::from_millis(100);
    let server = server();
    let provider = provider(Options::default()).await;
    let patient = member(&server, &provider.url(), "10s").await;
    patient.client.post(CHAT, &chat("shared")).await;
    let hasty = member(&server, &provider.url(), "100ms").await;
    found(&hasty, &chat("shared")).await;
    server.signal("STOP");
    let mut calls = JoinSet::new();
    for n in 0..40 {
        let client = hasty.client.clone();
        calls.spawn(async move {
            let began = Instant::now();
            let reply = client.post(CHAT, &chat(&format!("question {}", n % 20))).await;
            (reply.status, began.elapsed())
        });
    }
    let took: Vec<_> = calls.join_all().await;
    assert!(took.iter().all(|(status, _)| *status == 200), "{took:?}");
    // Nobody waited once it was known, whoever found out.
    hasty.metric_when(UP, 0.0).await;
    let waited = look_ups(&hasty, "timeout");
    for n in 0..20 {
        assert_hit(&hasty.client.post(CHAT, &chat(&format!("question {n}"))).await);
        assert_eq!(hasty.client.post(CHAT, &chat(&format!("another {n}"))).await.status, 200);
    }
    assert!((look_ups(&hasty, "timeout") - waited).abs() < 0.5, "{}", hasty.app.metrics_text());
    assert!(look_ups(&hasty, "skipped") >= 20.0, "{}", hasty.app.metrics_text());
    let slowest = took.iter().map(|(_, took)| *took).max().unwrap_or_default();
    assert!(slowest < TIMEOUT + LIMIT / 2, "{slowest:?}");
    server.signal("CONT");
    hasty.metric_when(UP, 1.0).await;
    let fresh = member(&server, &provider.url(), "10s").await;
    assert_eq!(detail(&found(&fresh, &chat("shared")).await), "postgres");
}

#[tokio::test]
async fn no_call_fails_and_no_answer_is_wrong_while_postgresql_is_killed_emptied_and_dropped() {
    let mut server = server();
    let provider = provider(Options::default()).await;
    let a = member(&server, &provider.url(), "100ms").await;
    let b = member(&server, &provider.url(), "100ms").await;
    let mut answers = HashMap::new();
    for round in 0..9 {
        match round {
            1 => server.kill(),
            2 => server.start_again(),
            3 => drop(server.sql("TRUNCATE tollgate_entries")),
            4 => drop(server.sql("TRUNCATE tollgate_fleet, tollgate_purges")),
            5 => drop(server.sql("DROP TABLE tollgate_entries, tollgate_fleet")),
            6 => server.signal("STOP"),
            7 => server.signal("CONT"),
            8 => drop(server.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE application_name = 'tollgate'",
            )),
            _ => {}
        }
        for n in 0..10 {
            for world in [&a, &b] {
                let reply = world.client.post(CHAT, &chat(&n.to_string())).await;
                assert_eq!(reply.status, 200, "round {round}");
                let text = reply.json()["choices"][0]["message"]["content"].clone();
                assert_eq!(answers.entry(n).or_insert(text.clone()), &text, "round {round}");
            }
        }
    }
    for world in [&a, &b] {
        world.metric_when(UP, 1.0).await;
    }
}

#[tokio::test]
async fn a_row_that_is_corrupt_cut_or_anothers_is_a_counted_miss() {
    let server = server();
    let provider = provider(Options::default()).await;
    let store = json!({ "url": server.url(), "timeout": "10s" });
    let cache = json!({ "tiers": ["postgres"] });
    let a = member_at_once(store, &provider.url(), cache, Value::Null).await;
    a.metric_when(UP, 1.0).await;
    a.client.post(CHAT, &chat("a")).await;
    cached_is(&a.client, &chat("a"), true).await;
    a.client.post(CHAT, &chat("b")).await;
    cached_is(&a.client, &chat("b"), true).await;
    for (n, bad) in [
        "set_byte(value, 50, get_byte(value, 50) # 1)",
        "substr(value, 1, 20)",
        "'foreign'",
        "(SELECT value FROM tollgate_entries o WHERE o.key <> e.key)",
    ]
    .into_iter()
    .enumerate()
    {
        server.sql(&format!(
            "UPDATE tollgate_entries e SET value = {bad} \
             WHERE key = (SELECT key FROM tollgate_entries ORDER BY key LIMIT 1)"
        ));
        let both = [chat("a"), chat("b")];
        let mut there = 0;
        for question in &both {
            there += i32::from(is_cached(&a.client, CHAT, question).await);
        }
        assert_eq!(there, 1, "{bad}");
        let counted = look_ups(&a, "foreign") - f64::from(u32::try_from(n).unwrap());
        assert!((0.5..1.5).contains(&counted), "{n}: {counted}");
    }
    for question in [chat("a"), chat("b")] {
        a.client.post(CHAT, &question).await;
        cached_is(&a.client, &question, true).await;
    }
}

#[tokio::test]
async fn neither_question_nor_credential_nor_a_sealed_answer_lies_in_the_database_in_the_clear() {
    let server = server();
    let provider = provider(Options::default()).await;
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("key"), "9e".repeat(32)).unwrap();
    let entries = json!({
        "compression": "zstd",
        "encryption": { "key": { "file": dir.path().join("key") } },
    });
    let store = json!({ "url": server.url(), "timeout": "10s", "schema": "answers" });
    let cache = json!({ "tiers": ["memory", "postgres"] });
    let start = async || {
        let (store, cache, entries) = (store.clone(), cache.clone(), entries.clone());
        let world = member_at_once(store, &provider.url(), cache, entries).await;
        world.metric_when(UP, 1.0).await;
        world
    };
    let (a, b) = (start().await, start().await);
    let headers = [("authorization", "Bearer sk-very-secret")];
    a.client.post_with(CHAT, &headers, &chat("my question")).await;
    let wish = [headers[0], ("cache-control", "only-if-cached")];
    let look = || async { b.client.post_with(CHAT, &wish, &chat("my question")).await };
    let reply = until("the answer", look, |reply: &Reply| reply.status == 200).await;
    assert_eq!(detail(&reply), "postgres");
    assert_eq!(server.sql("SELECT count(*) FROM answers.tollgate_entries"), "1");
    for clear in ["very-secret", "my question", "gpt-4o-mini", "choices", "anonymous", "TGE"] {
        let sql = format!(
            "SELECT count(*) FROM answers.tollgate_entries WHERE position('{clear}'::bytea IN value \
             || key) > 0"
        );
        assert_eq!(server.sql(&sql), "0", "{clear}");
    }
}

#[tokio::test]
async fn a_host_that_takes_connections_and_says_nothing_does_not_keep_us_from_the_next() {
    let server = server();
    let provider = provider(Options::default()).await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let both = format!("@{},", silent.local_addr().unwrap());
    let store = json!({ "url": server.url().replace('@', &both), "timeout": "10s" });
    let cache = json!({ "tiers": ["memory", "postgres"] });
    let a = member_at_once(store, &provider.url(), cache, Value::Null).await;
    a.metric_when(UP, 1.0).await;
    a.client.post(CHAT, &chat("a")).await;
    let count = || async { server.sql("SELECT count(*) FROM tollgate_entries") };
    until("the entry", count, |count| count == "1").await;
}

#[tokio::test]
async fn what_postgresql_refuses_once_it_is_there_is_told_though_it_was_away_before() {
    let mut server = server();
    server.sql("CREATE USER least PASSWORD 'secret'; REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    server.kill();
    let (dir, provider) = (TempDir::new().unwrap(), provider(Options::default()).await);
    let mut settings = Settings::new(&provider.url(), &dir.path().join("data"));
    let url = server.url().replace("tollgate@", "least:secret@");
    settings
        .set("stores.postgres", json!({ "url": url, "timeout": "10s" }))
        .set("routes.0.cache", json!({ "mode": "content", "tiers": ["memory", "postgres"] }));
    let mut process = Process::start(dir.path(), &settings).await;
    process.says("postgresql cannot be used").await;
    server.start_again();
    process.says("have their owner say").await;
    process.signal(Signal::TERM);
    assert!(process.gone().await.success(), "{:#?}", process.log());
}

#[tokio::test]
async fn with_a_wrong_password_calls_are_served_and_the_store_is_shown_as_down() {
    let server = server();
    // Where passwords are derived the newer way, unoptimised code takes longer than a connection may.
    server.sql("SET password_encryption = 'md5'; CREATE USER app PASSWORD 'right'");
    server.sql("GRANT CREATE ON SCHEMA public TO app");
    let provider = provider(Options::default()).await;
    let dir = TempDir::new().unwrap();
    let password = dir.path().join("password");
    std::fs::write(&password, "wrong\n").unwrap();
    let store = json!({
        "url": server.url(),
        "user": "app",
        "password": { "file": password },
        "timeout": "10s",
    });
    let cache = json!({ "tiers": ["memory", "postgres"] });
    let a = member_at_once(store.clone(), &provider.url(), cache.clone(), Value::Null).await;
    for _ in 0..3 {
        assert_eq!(a.client.post(CHAT, &chat("a")).await.status, 200);
    }
    assert_eq!(a.metric(UP), Some(0.0));
    std::fs::write(&password, "right\n").unwrap();
    let b = member_at_once(store, &provider.url(), cache, Value::Null).await;
    b.metric_when(UP, 1.0).await;
    b.client.post(CHAT, &chat("a")).await;
    let count = || async { server.sql("SELECT count(*) FROM tollgate_entries") };
    until("the entry", count, |count| count == "1").await;
}
