//! One call, one usage record: however it ends, whoever asked, and with times that add up.

use crate::ask::{self, CHAT, acquaint, cached, chat, limited, records_of, send, streamed};
use http::Method;
use serde_json::json;
use tollgate_ledger::{CacheOutcome, CacheTier, Quality, Reason, RecordView};
use tollgate_tests::{
    Settings, World, WorldBuilder,
    standin::{Fault, Gate, Options},
};

const MODEL: &str = "gpt-4o-mini";

fn gated(gate: &Gate) -> WorldBuilder {
    World::builder().standin(Options { gate: Some(gate.clone()), ..Options::default() })
}

/// Status, reason and cache of a record.
fn ending(record: &RecordView) -> (u16, Reason, CacheOutcome) {
    (record.record.status, record.record.reason, record.record.outcome)
}

fn only_chat(settings: &mut Settings) {
    settings.set("routes.0.match", json!({ "path": CHAT, "methods": ["POST"] }));
    settings.set("routes.0.max_body", json!("1KiB"));
}

#[tokio::test]
async fn a_miss_a_hit_and_a_bypass_leave_one_record_each() {
    let world = World::builder().config(cached).start().await;
    let replies = [
        &world.client.post(CHAT, &chat(MODEL, "one")).await,
        &world.client.post(CHAT, &chat(MODEL, "one")).await,
        &world.client.get("/v1/models").await,
        &world.client.post_with(CHAT, &[("cache-control", "no-store")], &chat(MODEL, "one")).await,
    ];

    let records = records_of(&world, &replies).await;

    let seen: Vec<_> = records.iter().map(|r| (ending(r), r.record.tier)).collect();
    let plain = |outcome, tier| ((200, Reason::None, outcome), tier);
    assert_eq!(
        seen,
        [
            plain(CacheOutcome::Miss, CacheTier::None),
            plain(CacheOutcome::Hit, CacheTier::Memory),
            plain(CacheOutcome::Bypass, CacheTier::None),
            plain(CacheOutcome::Bypass, CacheTier::None),
        ]
    );
}

/// Hits take well under a millisecond, so many of them share one.
#[tokio::test]
async fn records_are_told_newest_first_even_within_a_millisecond() {
    let world = World::builder().config(cached).start().await;
    let mut ids = Vec::new();
    for _ in 0..40 {
        let reply = world.client.post(CHAT, &chat(MODEL, "one")).await;
        ids.push(reply.header("tollgate-record").to_owned());
    }

    let oldest_first = world.records().await;

    let told: Vec<_> = oldest_first.iter().map(|view| view.record.id.to_string()).collect();
    assert_eq!(told, ids);
}

#[tokio::test]
async fn the_leader_and_each_follower_leave_one_record() {
    let gate = Gate::chunks();
    let world = gated(&gate).config(cached).start().await;
    let first = acquaint(&world, &gate).await;
    let mut lives = Vec::new();
    for _ in 0..4 {
        lives.push(world.client.stream(CHAT, &streamed(MODEL, "one")).await);
    }
    gate.open();
    let mut replies = vec![first];
    for live in lives {
        replies.push(live.finish().await);
        assert!(!replies.last().unwrap().cut);
    }

    let records = records_of(&world, &replies.iter().collect::<Vec<_>>()).await.split_off(1);

    let of = |outcome| records.iter().filter(|r| r.record.outcome == outcome).count();
    assert_eq!((of(CacheOutcome::Miss), of(CacheOutcome::Collapsed), records.len()), (1, 3, 4));
    assert_eq!(world.standin.counts().calls, 2);
}

#[tokio::test]
async fn a_follower_that_hangs_up_leaves_one_record_and_the_leader_goes_on() {
    let gate = Gate::chunks();
    let world = gated(&gate).config(cached).start().await;
    let first = acquaint(&world, &gate).await;
    let leader = world.client.stream(CHAT, &streamed(MODEL, "one")).await;
    let follower = world.client.stream(CHAT, &streamed(MODEL, "one")).await;

    drop(follower);
    world.records_when(2).await;
    gate.open();
    let leader = leader.finish().await;

    assert!(!leader.cut);
    let records = world.records().await;
    assert_eq!(records.len(), 3);
    let ours = [first.header("tollgate-record"), leader.header("tollgate-record")];
    let gone = records.iter().find(|r| !ours.contains(&&*r.record.id.to_string())).unwrap();
    assert_eq!(ending(gone), (200, Reason::DownstreamGone, CacheOutcome::Collapsed));
    assert_eq!(gone.record.cost.total(), 0);
}

#[tokio::test]
async fn a_refused_call_leaves_one_record_with_its_reason() {
    let world = World::builder().config(only_chat).config(cached).start().await;
    let only_cached = [("cache-control", "only-if-cached")];
    let refusals = [
        world.client.get("/nowhere").await,
        world.client.get("/a%2fb").await,
        world.client.post(CHAT, &chat(MODEL, &"x".repeat(2000))).await,
        world.client.post_with(CHAT, &only_cached, &chat(MODEL, "one")).await,
        world.client.send(Method::TRACE, CHAT, &[], "").await,
    ];
    let wanted = [
        (404, "no_route"),
        (400, "bad_request"),
        (413, "body_too_large"),
        (504, "not_cached"),
        (405, "method_not_allowed"),
    ];
    for (refusal, wanted) in refusals.iter().zip(wanted) {
        assert_eq!(refusal.refusal(), wanted);
    }

    let records = records_of(&world, &refusals.iter().collect::<Vec<_>>()).await;

    let seen: Vec<_> = records.iter().map(|r| (r.record.status, r.record.reason.name())).collect();
    assert_eq!(seen, wanted);
    for record in records {
        assert_eq!((record.record.quality, record.record.cost.total()), (Quality::Absent, 0));
    }
    assert_eq!(world.standin.counts().calls, 0);
}

#[tokio::test]
async fn a_shed_call_leaves_one_record_and_never_reaches_the_provider() {
    let gate = Gate::heads();
    let world = gated(&gate)
        .config(|settings| {
            limited(settings, 1);
            settings.set(
                "classes",
                json!([{ "name": "only", "default": true, "queue": 0, "max_wait": "5s" }]),
            );
        })
        .start()
        .await;
    let mut calls = ask::calls();
    send(&mut calls, &world.client, &[], chat(MODEL, "one"));
    world.standin.wait_for_calls(1).await;

    let shed = world.client.post(CHAT, &chat(MODEL, "two")).await;

    assert_eq!(shed.refusal(), (429, "queue_full"));
    let record = world.record().await;
    assert_eq!(ending(&record), (429, Reason::QueueFull, CacheOutcome::Bypass));
    assert_eq!(record.record.times.upstream_us, 0);
    gate.open();
    calls.join_all().await;
    assert_eq!((world.records().await.len(), world.standin.counts().calls), (2, 1));
}

#[tokio::test]
async fn a_call_whose_upstream_fails_leaves_one_record() {
    let world = World::new().await;
    world.standin.fault_next(Fault::Reset, 1);
    let nowhere = World::before("http://127.0.0.1:1").await;

    let reset = world.client.post(CHAT, &chat(MODEL, "one")).await;
    let unreachable = nowhere.client.post(CHAT, &chat(MODEL, "one")).await;

    assert_eq!(reset.refusal(), (502, "upstream_reset"));
    assert_eq!(unreachable.refusal(), (502, "upstream_unreachable"));
    assert_eq!(ending(&world.record().await), (502, Reason::UpstreamReset, CacheOutcome::Bypass));
    assert_eq!(
        ending(&nowhere.record().await),
        (502, Reason::UpstreamUnreachable, CacheOutcome::Bypass)
    );
}

#[tokio::test]
async fn a_caller_that_leaves_the_queue_leaves_one_record_with_its_wait() {
    for cache in ["off", "content"] {
        let gate = Gate::heads();
        let world = gated(&gate)
            .config(move |settings| {
                limited(settings, 1);
                settings.set("routes.0.cache", json!({ "mode": cache }));
            })
            .start()
            .await;
        let mut calls = ask::calls();
        send(&mut calls, &world.client, &[], chat(MODEL, "one"));
        world.standin.wait_for_calls(1).await;
        let mut leaves = ask::calls();
        send(&mut leaves, &world.client, &[], chat(MODEL, "two"));
        world.metric_when("request_queue_length", 1.0).await;

        leaves.shutdown().await;
        let records = world.records_when(1).await;

        assert_eq!(
            (records[0].record.status, records[0].record.reason),
            (499, Reason::DownstreamGone)
        );
        let times = records[0].record.times;
        assert!(times.queue_us > 0 && times.queue_us <= times.total_us, "{times:?}");
        assert_eq!(times.upstream_us, 0, "{cache}");
        gate.open();
        calls.join_all().await;
        assert_eq!((world.records().await.len(), world.standin.counts().calls), (2, 1));
    }
}

#[tokio::test]
async fn a_caller_that_leaves_before_the_head_leaves_one_record() {
    for cache in ["off", "content"] {
        let gate = Gate::heads();
        let world = gated(&gate)
            .config(move |settings| {
                settings.set("routes.0.cache", json!({ "mode": cache }));
            })
            .start()
            .await;
        let mut leaves = ask::calls();
        send(&mut leaves, &world.client, &[], chat(MODEL, "two"));
        world.standin.wait_for_calls(1).await;

        leaves.shutdown().await;
        world.provider("a hang-up", |counts| counts.aborted == 1).await;

        let records = world.records_when(1).await;
        assert_eq!(
            (records[0].record.status, records[0].record.reason),
            (499, Reason::DownstreamGone)
        );
        assert!(records[0].record.times.upstream_us > 0, "{cache}");
        assert_eq!(world.metric("request_inflight"), Some(0.0));
    }
}

/// What the ledger owns up to of a call whose answer never came.
fn estimated(record: &RecordView, question: &serde_json::Value) {
    let record = record.record;
    let input = question.to_string().len().div_ceil(4);
    assert_eq!((record.quality, record.unpriced), (Quality::Estimated, false), "{record:#?}");
    assert_eq!((record.tokens.input as usize, record.tokens.output), (input, 0));
    // The built-in book: 0.15 dollars a million.
    assert_eq!(record.cost.total(), input as i128 * 150_000);
}

/// The provider works for a call that it was sent, whether or not somebody waits.
#[tokio::test]
async fn a_call_that_was_sent_and_not_answered_is_estimated_never_free() {
    for cache in ["off", "content"] {
        let world = World::builder()
            .config(move |settings| {
                settings.set("routes.0.cache", json!({ "mode": cache }));
            })
            .start()
            .await;
        let question = chat(MODEL, &"x".repeat(400));
        world.standin.fault_next(Fault::Hang, 1);
        let mut leaves = ask::calls();
        send(&mut leaves, &world.client, &[], question.clone());
        world.standin.wait_for_calls(1).await;
        leaves.shutdown().await;
        world.records_when(1).await;

        world.standin.fault_next(Fault::Hang, 1);
        let hurried = [("tollgate-timeout", "100ms")];
        let late = world.client.post_with(CHAT, &hurried, &question).await;
        assert_eq!(late.refusal(), (504, "upstream_timeout"));
        world.standin.fault_next(Fault::Reset, 1);
        let reset = world.client.post(CHAT, &question).await;
        assert_eq!(reset.refusal(), (502, "upstream_reset"));

        let records = world.records_when(3).await;
        assert_eq!(records.len(), 3, "{cache}");
        for record in &records {
            estimated(record, &question);
        }
        assert_eq!(world.metric("tollgate_estimated_calls_total"), Some(3.0));
        let input =
            format!("tollgate_tokens_total{{kind=\"input\",model=\"{MODEL}\",route=\"all\"}}");
        let tokens: u32 = records.iter().map(|record| record.record.tokens.input).sum();
        assert_eq!(world.metric(&input), Some(f64::from(tokens)));
    }
}

#[tokio::test]
async fn a_call_that_was_never_sent_or_was_refused_by_the_provider_costs_nothing() {
    let nowhere = World::before("http://127.0.0.1:1").await;
    nowhere.client.post(CHAT, &chat(MODEL, "one")).await;
    let world = World::new().await;
    world.client.post(CHAT, &chat("gpt-4o-mini+fail-503", "two")).await;
    for record in [nowhere.record().await, world.record().await] {
        let record = record.record;
        assert_eq!((record.quality, record.cost.total()), (Quality::Absent, 0), "{record:#?}");
        assert_eq!((record.tokens.input, record.unpriced), (0, false));
    }
}

#[tokio::test]
async fn a_record_says_who_asked_for_what() {
    let world = World::builder()
        .standin(Options { model_version: Some("2026-11".into()), ..Options::default() })
        .config(|settings| {
            for (name, header) in [
                ("tenant", json!({ "header": "x-tenant" })),
                ("user", json!({ "header": "x-user-id" })),
                ("tier", json!({ "header": "x-user-tier" })),
                ("project", json!({ "header": "x-project" })),
                ("business", json!({ "header": "x-business" })),
            ] {
                settings.set(&format!("identity.{name}"), header);
            }
            settings
                .set("routes.0.class", json!({ "header": "x-priority", "map": { "now": "vip" } }));
        })
        .start()
        .await;
    let headers = [
        ("x-tenant", "acme"),
        ("x-user-id", "ann"),
        ("x-user-tier", "gold"),
        ("x-project", "road"),
        ("x-business", "tolls"),
        ("x-priority", "now"),
    ];

    let named = world.client.post_with(CHAT, &headers, &chat(MODEL, "hello")).await;
    let unnamed = world.client.post(CHAT, &chat(MODEL, "hello")).await;

    let records = records_of(&world, &[&named, &unnamed]).await;
    let words = ["all", "acme", "ann", "gold", "road", "tolls", "vip", MODEL, "2026-11"];
    assert_eq!(records[0].words, words);
    let words = ["all", "anonymous", "", "", "", "", "normal", MODEL, "2026-11"];
    assert_eq!(records[1].words, words);
}

#[tokio::test]
async fn a_tenant_is_never_named_by_its_key() {
    let world = World::new().await;
    let secret = [("authorization", "Bearer sk-very-secret")];

    world.client.post_with(CHAT, &secret, &chat(MODEL, "hello")).await;

    let record = world.record().await;
    assert!(record.words[1].starts_with("key-") && record.words[1].len() == 20, "{record:?}");
    assert!(!format!("{record:?}").contains("secret"));
}

#[tokio::test]
async fn the_times_and_bytes_of_a_record_add_up() {
    let gate = Gate::heads();
    let world = gated(&gate).config(|settings| limited(settings, 1)).start().await;
    let question = chat(MODEL, "two");
    let mut first = ask::calls();
    send(&mut first, &world.client, &[], chat(MODEL, "one"));
    world.standin.wait_for_calls(1).await;
    let mut second = ask::calls();
    send(&mut second, &world.client, &[], question.clone());
    world.metric_when("request_queue_length", 1.0).await;

    gate.release(1);
    let first = first.join_all().await.remove(0);
    world.standin.wait_for_calls(2).await;
    gate.release(1);
    let reply = second.join_all().await.remove(0);

    let records = records_of(&world, &[&first, &reply]).await;
    assert_eq!(records[0].record.times.queue_us, 0);
    let record = records[1].record;
    let times = record.times;
    assert!(times.queue_us > 0 && times.upstream_us > 0, "{times:?}");
    assert!(times.queue_us + times.upstream_us <= times.total_us + 1, "{times:?}");
    assert!(times.queue_us <= times.first_byte_us, "{times:?}");
    assert!(times.first_byte_us <= times.total_us, "{times:?}");
    assert_eq!(record.bytes_in, question.to_string().len() as u64);
    assert_eq!(record.bytes_out, reply.body.len() as u64);
}

#[tokio::test]
async fn the_metrics_agree_with_the_ledger() {
    let world = World::builder().config(cached).start().await;
    for text in ["one", "two", "one", "three", "two"] {
        world.client.post(CHAT, &chat(MODEL, text)).await;
        world.client.post(CHAT, &streamed(MODEL, text)).await;
    }
    world.client.post(CHAT, &chat("gpt-4o-mini+cached-usage", "four")).await;
    world.client.post(CHAT, &chat("gpt-4o-mini+fail-503", "five")).await;
    world.client.post(CHAT, &chat("nobody-knows-me", "six")).await;

    let (records, metrics) = (world.records().await, world.metrics());

    let sum = |family: &str, label: &str| -> f64 {
        let named =
            |series: &&String| series.starts_with(&format!("{family}{{")) && series.contains(label);
        metrics.iter().filter(|(series, _)| named(series)).map(|(_, value)| value).sum()
    };
    let counted = |of: &dyn Fn(&RecordView) -> i128| -> i128 { records.iter().map(of).sum() };
    let whole = |value: f64| -> i128 { value.to_string().parse().unwrap() };
    assert_eq!(whole(sum("tollgate_requests_total", "")), records.len() as i128);
    assert_eq!(whole(sum("tollgate_cache_requests_total", "")), records.len() as i128);
    for status in [200_u16, 503] {
        let calls = counted(&|r| i128::from(r.record.status == status));
        assert_eq!(whole(sum("tollgate_requests_total", &format!("code=\"{status}\""))), calls);
    }
    let hits = counted(&|r| i128::from(r.record.outcome == CacheOutcome::Hit));
    assert_eq!(whole(sum("tollgate_cache_requests_total", "outcome=\"hit\"")), hits);
    assert!(hits >= 5);
    for (place, kind) in tollgate_ledger::TOKEN_KINDS.iter().enumerate() {
        // What was used upstream: a hit used nothing.
        let used = counted(&|r| match r.record.outcome {
            CacheOutcome::Miss | CacheOutcome::Partial | CacheOutcome::Bypass => {
                i128::from(r.record.tokens.as_array()[place])
            }
            CacheOutcome::Hit | CacheOutcome::Stale | CacheOutcome::Collapsed => 0,
        });
        assert_eq!(
            whole(sum("tollgate_tokens_total", &format!("kind=\"{kind}\""))),
            used,
            "{kind}"
        );
    }
    let micro = |pico: i128| pico / 1_000_000;
    for (place, category) in tollgate_ledger::COST_CATEGORIES.iter().enumerate() {
        let spent = counted(&|r| i128::from(r.record.cost.as_array()[place]));
        let shown = whole(sum("tollgate_cost_microusd_total", &format!("category=\"{category}\"")));
        assert_eq!(shown, micro(spent), "{category}");
    }
    let saved = counted(&|r| i128::from(r.record.saved_pico));
    assert!(saved > 0);
    assert_eq!(whole(sum("tollgate_saved_microusd_total", "")), micro(saved));
    assert_eq!(world.metric("tollgate_unpriced_calls_total"), Some(1.0));
    assert_eq!(world.metric("tollgate_ledger_dropped_total"), Some(0.0));
}
