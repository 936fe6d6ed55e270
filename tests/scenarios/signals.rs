//! What autoscalers and dashboards read: there from the first moment, a number at every
//! moment, and readable by strict parsers.

use crate::{
    ask::{CHAT, calls, chat, limited, send},
    busy::{Busy, one_class},
};
use http::Method;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    process::{Command, Stdio},
};
use tollgate_tests::{Reply, Scripted, Settings, World};

/// What autoscalers ask for by name.
const UNLABELLED: [&str; 11] = [
    "request_arrival_rate",
    "request_queue_tokens",
    "request_queue_length",
    "request_concurrency",
    "request_inflight",
    "request_queue_oldest_seconds",
    "concurrency_limit",
    "request_error_ratio",
    "request_latency_p50_seconds",
    "request_latency_p95_seconds",
    "request_latency_p99_seconds",
];

const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";

fn with_alias(settings: &mut Settings) {
    settings.set(
        "telemetry.metrics.aliases",
        json!([
            { "name": "recommendation_latency_p99", "of": "request_duration", "quantile": 0.99, "unit": "ms", "window": "60s", "routes": ["all"] },
            { "name": "answer_seconds", "of": "request_duration", "quantile": 0.5, "unit": "s", "window": "60s" },
        ]),
    );
}

async fn scrape(world: &World, accept: &str) -> Reply {
    world.telemetry.send(Method::GET, "/metrics", &[("accept", accept)], "").await
}

/// Name with labels and value of every sample; panics at what a strict reader refuses.
fn read(reply: &Reply) -> BTreeMap<String, f64> {
    let text = reply.text();
    let is_open = reply.header("content-type").starts_with("application/openmetrics-text");
    assert!(text.ends_with('\n'), "the last line has no end");
    assert_eq!(is_open, text.ends_with("# EOF\n"));
    let mut samples = BTreeMap::new();
    let mut kinds: BTreeMap<String, String> = BTreeMap::new();
    let mut helped = BTreeSet::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(about) = line.strip_prefix("# ") {
            let (word, rest) = about.split_once(' ').unwrap();
            let (name, rest) = rest.split_once(' ').unwrap();
            match word {
                "TYPE" => assert_eq!(kinds.insert(name.into(), rest.into()), None, "{line}"),
                "HELP" => assert!(helped.insert(name.to_owned()) && !rest.is_empty(), "{line}"),
                "UNIT" => assert!(is_open && name.ends_with(&format!("_{rest}")), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(value.is_finite() && value >= 0.0, "{line}");
        let family = ["", "_total", "_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|ending| name.strip_suffix(ending))
            .find(|family| kinds.contains_key(*family))
            .unwrap_or_else(|| panic!("a sample before its TYPE: {line}"));
        assert!(helped.contains(family), "{line}");
        let counts = kinds[family] == "counter";
        assert!(!counts || name.ends_with("_total"), "{line}");
        assert_eq!(samples.insert(series.to_owned(), value), None, "twice: {line}");
    }
    samples
}

#[tokio::test]
async fn the_autoscalers_series_are_there_at_the_first_moment_and_are_0() {
    let world = World::builder().config(with_alias).start().await;
    // The names of routes and classes are on their way to the data base.
    assert!(world.records().await.is_empty());

    let samples = read(&scrape(&world, "").await);

    for series in UNLABELLED.into_iter().chain(["recommendation_latency_p99", "answer_seconds"]) {
        assert_eq!(samples.get(series), Some(&0.0), "{series}");
    }
    for (series, value) in &samples {
        let lives = series.starts_with("process_");
        assert!(lives || *value == 0.0, "{series} {value}");
    }
    for horizon in ["300s", "900s"] {
        for family in
            ["request_load_forecast", "tollgate_forecast_error_ratio", "tollgate_forecast_in_force"]
        {
            let series = format!("{family}{{horizon=\"{horizon}\"}}");
            assert_eq!(samples.get(&series), Some(&0.0), "{series}");
        }
    }
    for class in ["emergency", "vip", "normal", "batch"] {
        assert!(samples.contains_key(&format!("tollgate_queue_length{{class=\"{class}\"}}")));
    }
}

#[tokio::test]
async fn latencies_and_errors_of_the_last_minute_are_told() {
    let world = World::builder().config(with_alias).start().await;
    for model in ["gpt-4o-mini", "gpt-4o-mini", "gpt-4o-mini", "gpt-4o-mini+fail-500"] {
        world.client.post(CHAT, &chat(model, "hello")).await;
    }

    let samples = read(&scrape(&world, "").await);

    assert_eq!(samples["request_error_ratio"], 0.25);
    let [p50, p95, p99] = ["p50", "p95", "p99"]
        .map(|quantile| samples[&format!("request_latency_{quantile}_seconds")]);
    assert!(0.0 < p50 && p50 <= p95 && p95 <= p99 && p99 < 15.0, "{p50} {p95} {p99}");
    let near = |one: f64, other: f64| (one - other).abs() <= 0.05 * other;
    assert!(near(samples["recommendation_latency_p99"] / 1000.0, p99), "{samples:?}");
    assert!(near(samples["answer_seconds"], p50), "{samples:?}");
}

#[tokio::test]
async fn an_alias_says_its_unit() {
    let world = World::builder().config(with_alias).start().await;
    let text = scrape(&world, "").await.text();
    let help = |name: &str| {
        let start = format!("# HELP {name} ");
        text.lines().find(|line| line.starts_with(&start)).unwrap().to_owned()
    };

    assert!(help("recommendation_latency_p99").contains("milliseconds"), "{text}");
    assert!(help("answer_seconds").replace("milliseconds", "").contains("seconds"));
}

#[tokio::test]
async fn the_format_is_the_one_that_was_asked_for_and_both_say_the_same() {
    let world = World::builder().config(with_alias).start().await;
    world.client.post(CHAT, &chat("gpt-4o-mini", "hello")).await;

    let classic = scrape(&world, "text/plain").await;
    let open = scrape(&world, OPEN_METRICS).await;

    assert!(classic.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert!(open.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"));
    let (classic, open) = (read(&classic), read(&open));
    // `le` is a float in the one, and the process goes on between two scrapes.
    let lasting = |samples: &BTreeMap<String, f64>| {
        let mut samples = samples.clone();
        samples.retain(|name, _| {
            !name.contains("le=\"")
                && !name.starts_with("process_")
                && !name.starts_with("tollgate_ledger_queue")
                && !name.starts_with("tollgate_ledger_wal")
                && !name.starts_with("request_arrival_rate")
                && !name.starts_with("request_load_forecast")
        });
        samples
    };
    assert_eq!(lasting(&classic), lasting(&open));
}

#[tokio::test]
async fn a_callers_words_never_become_labels() {
    let world = World::new().await;
    let headers = [("x-priority", "evil-class"), ("authorization", "evil-key")];
    for model in ["evil-model+fail-404", "evil-model+reset"] {
        world.client.post_with(CHAT, &headers, &chat(model, "evil-text")).await;
    }
    world.client.get("/evil-path").await;

    assert!(!world.app.metrics_text().contains("evil"), "{}", world.app.metrics_text());
}

/// `promtool` is not part of what the tests install; where it is, it has its say.
#[tokio::test]
async fn promtool_finds_no_fault() {
    let world = World::builder().config(with_alias).start().await;
    world.client.post(CHAT, &chat("gpt-4o-mini", "hello")).await;
    let text = scrape(&world, "").await.text();

    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();

    let Ok(mut promtool) = started else { return };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let found = promtool.wait_with_output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
}

#[tokio::test]
async fn kedas_add_on_reads_who_waits_and_runs_under_the_name_it_looks_for() {
    let mut busy = Busy::new(|settings| {
        one_class(settings, 64, "60s");
        settings.set("telemetry.metrics.profiles", json!({ "keda": { "host": "default/chat" } }));
    })
    .await;
    busy.waits(&[], "second").await;

    let reply = busy.world.telemetry.get("/queue").await;

    assert_eq!(reply.header("content-type"), "application/json");
    let queue = reply.json();
    let counts = &queue["default/chat"];
    assert_eq!(
        (counts["Concurrency"].as_u64(), counts["RequestCount"].as_u64()),
        (Some(2), Some(2))
    );
    assert!(counts["RPS"].is_number(), "{queue}");
    assert_eq!(busy.world.telemetry.send(Method::POST, "/queue", &[], "").await.status, 405);
    busy.run().await;
}

/// A model server that answers its metrics with `answer`, and calls never.
async fn engine(answer: &str) -> Scripted {
    let answer = answer.to_owned();
    Scripted::start(move |mut line| {
        let answer = answer.clone();
        async move {
            while let Some(seen) = line.request().await {
                if !seen.line().starts_with("GET /metrics ") {
                    std::future::pending::<()>().await;
                }
                line.wire.send(answer.as_bytes()).await;
            }
        }
    })
    .await
}

async fn before_engine(answer: &str) -> World {
    let engine = engine(answer).await;
    let picker = |settings: &mut Settings| {
        limited(settings, 1);
        let gie = json!({ "gie": { "upstream": "model" } });
        settings.set("telemetry.metrics.profiles", gie);
    };
    World::builder().upstream(engine.url()).config(picker).start().await
}

fn ok(text: &str) -> String {
    let (kind, len) = ("text/plain; version=0.0.4", text.len());
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len}\r\n\r\n{text}")
}

#[tokio::test]
async fn an_endpoint_picker_sees_who_waits_here_among_those_who_wait_there() {
    let text = "# HELP vllm:num_requests_waiting Queue.\n\
        # TYPE vllm:num_requests_waiting gauge\n\
        vllm:num_requests_waiting{model_name=\"m\"} 3.0\n\
        # HELP vllm:kv_cache_usage_perc Cache.\n\
        # TYPE vllm:kv_cache_usage_perc gauge\n\
        vllm:kv_cache_usage_perc{model_name=\"m\"} 0.5\n";
    let world = before_engine(&ok(text)).await;
    let mut asked = calls();
    for text in ["runs", "waits", "waits, too"] {
        send(&mut asked, &world.client, &[], chat("gpt-4o-mini", text));
    }
    world.metric_when("request_queue_length", 2.0).await;

    let samples = read(&world.telemetry.get("/gie/metrics").await);

    assert_eq!(samples["vllm:num_requests_waiting{model_name=\"m\"}"], 5.0);
    assert_eq!(samples["vllm:kv_cache_usage_perc{model_name=\"m\"}"], 0.5);
}

#[tokio::test]
async fn a_model_server_that_lies_about_its_metrics_is_no_crash_and_is_not_believed() {
    for answer in [
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
            .to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nxy".to_owned(),
        "SSH-2.0-OpenSSH_9.9\r\n".to_owned(),
        ok(&"x".repeat(5 * 1024 * 1024)),
    ] {
        let world = before_engine(&answer).await;
        let reply = world.telemetry.get("/gie/metrics").await;
        assert_eq!(reply.status, 502, "{reply:?}");
        assert_eq!(world.telemetry.get("/livez").await.status, 200);
    }
    let silent = before_engine(&ok("")).await;
    let samples = read(&silent.telemetry.get("/gie/metrics").await);
    assert_eq!(samples["vllm:num_requests_waiting"], 0.0);
}

#[tokio::test]
async fn other_systems_endpoints_are_there_only_where_they_are_asked_for() {
    let world = World::new().await;
    for path in ["/queue", "/gie/metrics"] {
        assert_eq!(world.telemetry.get(path).await.status, 404, "{path}");
    }
}
