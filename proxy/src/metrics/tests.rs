//! What dashboards, alerts and autoscalers rely on.

mod exemplars;
mod models;

use super::{text::tests::parse, *};
use crate::scaling::Unit;
use proptest::prelude::*;
use std::{collections::BTreeMap, process::Command};
use tollgate_core::{
    class::ClassId,
    forecast::Outlook,
    money::PicoUsd,
    price::Cost,
    scheduler::{Shed, Way},
    usage::Usage,
};
use tollgate_ledger::Uuid;

/// A process with two classes, two routes and an alias, started at `start`.
struct Stage {
    metrics: Metrics,
    handles: Handles,
    start: Instant,
}

impl Stage {
    fn new() -> Self {
        let start = Instant::now();
        let metrics = Metrics::new(start).unwrap();
        let handles = Self::lay_out(&metrics);
        Self { metrics, handles, start }
    }

    fn lay_out(metrics: &Metrics) -> Handles {
        let alias = Alias {
            name: "recommendation_latency_p99".to_owned(),
            quantile: 0.99,
            unit: Unit::Milliseconds,
            window: Duration::from_secs(60),
            routes: vec!["recommend".to_owned()],
        };
        let layout = Layout {
            classes: &["vip".to_owned(), "normal".to_owned()],
            routes: &["chat".to_owned(), "recommend".to_owned()],
            aliases: &[alias],
        };
        metrics.lay_out(layout).unwrap()
    }

    fn chat(&self) -> &RouteMetrics {
        &self.handles.routes[0]
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    /// A call that waited 10 ms, ran 190 ms and was answered 200.
    fn miss(&self) -> CallEnd {
        CallEnd {
            at: self.at(1),
            record: Uuid::nil(),
            class: ClassId::new(1).unwrap(),
            code: 200,
            total: Duration::from_millis(200),
            upstream: Some(Duration::from_millis(190)),
            first_byte: Some(Duration::from_millis(100)),
            queue: Some((Duration::from_millis(10), QueueOutcome::Served)),
            way: Some(Way::Share),
            shed: None,
            reason: None,
            cache: CacheOutcome::Miss,
            tier: TierLabel::None,
            own: false,
        }
    }

    /// The same call answered from memory.
    fn hit(&self) -> CallEnd {
        CallEnd {
            total: Duration::from_micros(50),
            upstream: None,
            first_byte: None,
            queue: None,
            way: None,
            shed: None,
            cache: CacheOutcome::Hit,
            tier: TierLabel::Memory,
            ..self.miss()
        }
    }

    fn text(&self, format: Format, now: Instant) -> String {
        let exemplars = self.metrics.families.request_seconds.exemplars();
        text::write(format, &self.metrics.gather(now), &exemplars)
    }

    fn series(&self, now: Instant) -> BTreeMap<String, f64> {
        parse(Format::Classic, &self.text(Format::Classic, now)).unwrap()
    }

    fn value(&self, series: &str) -> f64 {
        self.series(self.at(2)).get(series).copied().unwrap_or_else(|| panic!("no {series}"))
    }
}

/// So much for fresh input, nothing else.
fn cost_of(input: PicoUsd) -> Cost {
    Cost { input, ..Cost::default() }
}

/// A stage on which something of every kind has happened.
fn busy() -> Stage {
    let stage = Stage::new();
    stage.chat().ended(&stage.miss());
    stage.chat().ended(&stage.hit());
    let shed = QueueOutcome::Shed;
    stage.chat().ended(&CallEnd {
        code: 429,
        reason: Some("queue_full"),
        upstream: None,
        queue: Some((Duration::ZERO, shed)),
        way: None,
        shed: Some(Shed::QueueFull),
        ..stage.miss()
    });
    stage.handles.routes[1].ended(&stage.miss());
    stage.chat().model("gpt-5", || Naming::Own).spent(&Spending {
        usage: Usage { input: 12, output: 30, ..Usage::default() },
        cost: cost_of(PicoUsd::new(2_500_000)),
        compute: PicoUsd::new(7_700_000),
        saved: Some((SavedHow::Hit, PicoUsd::new(9_000_000))),
        ..Spending::default()
    });
    stage.metrics.set_queue_source(|| {
        let waiting = vec![("vip".into(), 0), ("normal".into(), 3)];
        let oldest = Duration::from_millis(1500);
        let limited = QueueReading {
            waiting,
            inflight: 4,
            oldest,
            limit: 4,
            queued_tokens: 900,
            permits_leaked: 0,
            lifted: 2,
            preempted: 1,
        };
        vec![limited, QueueReading { inflight: 2, ..QueueReading::default() }]
    });
    stage.metrics.set_cache_source(|| {
        let held = CacheHeld { bytes: 4096, entries: 2, evicted_size: 5, ..CacheHeld::default() };
        let lookups = LookupCounts { hit: 1, miss: 1, ..LookupCounts::default() };
        let memory = CacheReading { held: Some(held), lookups, ..CacheReading::default() };
        let lookups = LookupCounts { timeout: 1, collision: 1, ..LookupCounts::default() };
        let redis = CacheReading { lookups, ..CacheReading::default() };
        vec![(TierLabel::Memory, memory), (TierLabel::Redis, redis)]
    });
    stage.metrics.set_ledger_source(|| LedgerReading {
        queue_records: 3,
        wal_bytes: 576,
        dropped: 0,
    });
    stage
        .metrics
        .set_store_source(|| vec![StoreReading { store: "redis", up: true, purges_pending: 2 }]);
    stage.metrics.set_forecast_source(|| {
        let outlook = Outlook {
            horizon: 5,
            load: 12.5,
            model: Some(12.5),
            error: 0.125,
            in_force: true,
            floor: 0.0,
        };
        let later = Outlook { horizon: 15, in_force: false, error: 0.5, ..outlook };
        ForecastReading { outlooks: vec![outlook, later], events: 1 }
    });
    stage.chat().arrived(stage.start);
    stage.metrics.looked_up(TierLabel::Redis, Duration::from_millis(3));
    stage.metrics.reloaded(true);
    stage
}

#[test]
fn the_classic_text_is_what_the_dashboards_expect() {
    let stage = busy();
    insta::assert_snapshot!("classic", stage.text(Format::Classic, stage.at(2)));
}

#[test]
fn the_openmetrics_text_is_what_the_dashboards_expect() {
    let stage = busy();
    insta::assert_snapshot!("openmetrics", stage.text(Format::OpenMetrics, stage.at(2)));
}

/// Both, idle and busy, with `process_*`, through our parser and, where it is installed, theirs.
#[test]
fn both_texts_pass_a_strict_parser() {
    for stage in [Stage::new(), busy()] {
        let (kind, classic) = stage.metrics.render_at(None, stage.at(2));
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
        let accept = Some("application/openmetrics-text; version=1.0.0");
        let (kind, open) = stage.metrics.render_at(accept, stage.at(2));
        assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
        let mut series = parse(Format::Classic, &classic).unwrap();
        let mut open = parse(Format::OpenMetrics, &open).unwrap();
        // The process goes on between the two scrapes.
        for series in [&mut series, &mut open] {
            series.retain(|name, _| !name.starts_with("process_"));
        }
        assert_eq!(series.len(), open.len());
        assert_eq!(series.values().sum::<f64>(), open.values().sum::<f64>());
        promtool_accepts(&classic);
    }
}

/// `promtool check metrics`, where `promtool` is on PATH; it is not part of our build.
fn promtool_accepts(text: &str) {
    use std::io::Write;
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(std::process::Stdio::piped());
    let Ok(mut promtool) = command.stdout(std::process::Stdio::piped()).spawn() else { return };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn every_family_without_open_labels_is_there_from_the_start_and_zero() {
    let stage = Stage::new();
    let (_, text) = stage.metrics.render_at(None, stage.start);
    let open_labels = ["model", "store", "source", "horizon", "upstream"];
    for family in names::ALL {
        // Before anything was asked ahead no part of it was of use, nor was any not.
        let is_later = family.name == names::CACHE_PREFETCH_PRECISION.name;
        let open = is_later || family.labels.iter().any(|label| open_labels.contains(label));
        let there = text.contains(&format!("# TYPE {} ", family.name));
        assert_eq!(there, !open, "{}", family.name);
    }
    for (series, value) in stage.series(stage.start) {
        assert_eq!(value, 0.0, "{series}");
    }
}

#[test]
fn every_family_in_the_text_is_in_the_list_of_names() {
    let families = busy().metrics.gather(Instant::now());
    for family in families {
        let listed = names::ALL.iter().any(|known| known.name == family.name());
        assert!(listed || family.name() == "recommendation_latency_p99", "{}", family.name());
    }
}

#[test]
fn hits_and_followers_count_nowhere_in_the_autoscalers_series() {
    let stage = Stage::new();
    stage.chat().ended(&stage.miss());
    let before = stage.series(stage.at(2));
    for cache in [CacheOutcome::Hit, CacheOutcome::Collapsed] {
        // A follower may have seen the leader's wait; a failed leader's 502 is its, too.
        let total = Duration::from_secs(9);
        let call = CallEnd { cache, total, code: 502, ..stage.miss() };
        stage.chat().ended(&call);
    }
    let after = stage.series(stage.at(2));
    let scaling = before.iter().filter(|(name, _)| name.starts_with("request_"));
    let mut seen = 0;
    for (name, value) in scaling {
        assert_eq!(after.get(name), Some(value), "{name}");
        seen += 1;
    }
    assert_eq!(seen, 10);
}

#[test]
fn an_alias_sees_its_routes_only_and_counts_in_its_unit() {
    let stage = Stage::new();
    stage.chat().ended(&CallEnd { total: Duration::from_secs(30), ..stage.miss() });
    stage.handles.routes[1].ended(&stage.miss());
    let told = stage.value("recommendation_latency_p99{}");
    assert!((told - 200.0).abs() < 4.0, "{told}");
    let all = stage.value("request_latency_p99_seconds{}");
    assert!((all - 30.0).abs() < 0.6, "{all}");
}

#[test]
fn a_shed_is_an_error_and_a_refusal_before_the_queue_is_not() {
    let stage = Stage::new();
    stage.chat().ended(&stage.miss());
    let queue = Some((Duration::ZERO, QueueOutcome::Shed));
    let shed = CallEnd { code: 429, queue, upstream: None, ..stage.miss() };
    stage.chat().ended(&shed);
    stage.handles.unrouted.ended(&CallEnd { code: 404, queue: None, ..shed });
    assert_eq!(stage.value("request_error_ratio{}"), 0.5);
}

/// Every outcome with every tier, each many times: the sum of the family is the number of calls.
#[test]
fn one_call_adds_one_to_exactly_one_cache_series() {
    let stage = Stage::new();
    let family = "tollgate_cache_requests_total";
    let sum = |stage: &Stage| -> f64 {
        let series = stage.series(stage.at(2));
        series.iter().filter(|(name, _)| name.starts_with(family)).map(|(_, value)| value).sum()
    };
    let mut calls = 0.0;
    for tier in TierLabel::ALL {
        for cache in CacheOutcome::ALL {
            stage.chat().ended(&CallEnd { tier: *tier, cache: *cache, ..stage.miss() });
            calls += 1.0;
            assert_eq!(sum(&stage), calls);
            let (tier, cache) = (tier.label(), cache.label());
            let series = format!("{family}{{outcome={cache},route=chat,tier={tier}}}");
            assert_eq!(stage.value(&series), 1.0);
        }
    }
}

#[test]
fn no_call_is_lost_under_threads() {
    const EACH: u32 = 5_000;
    let stage = Stage::new();
    let call = stage.miss();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    stage.chat().ended(&call);
                    stage.chat().model("gpt-5", || Naming::Own).spent(&Spending {
                        // A third of a micro-dollar: only an exact remainder adds up.
                        cost: cost_of(PicoUsd::new(333_333)),
                        usage: Usage { output: 7, ..Usage::default() },
                        ..Spending::default()
                    });
                }
            });
        }
    });
    let calls = f64::from(4 * EACH);
    for series in [
        "tollgate_requests_total{class=normal,code=200,route=chat}",
        "tollgate_request_duration_seconds_count{class=normal,route=chat}",
        "tollgate_dispatched_total{class=normal}",
        "tollgate_queue_turns_total{class=normal,way=share}",
        "tollgate_cache_requests_total{outcome=miss,route=chat,tier=none}",
    ] {
        assert_eq!(stage.value(series), calls, "{series}");
    }
    assert_eq!(
        stage.value("tollgate_tokens_total{kind=output,model=gpt-5,route=chat}"),
        7.0 * calls
    );
    // 20 000 × 333 333 pico = 6 666.66 micro.
    let cost = "tollgate_cost_microusd_total{category=input,model=gpt-5,route=chat}";
    assert_eq!(stage.value(cost), 6_666.0);
}

#[test]
fn a_reload_forgets_neither_counts_nor_windows_nor_remainders() {
    let mut stage = Stage::new();
    let spend = |stage: &Stage| {
        let cost = cost_of(PicoUsd::new(600_000));
        stage.chat().model("m", || Naming::Own).spent(&Spending { cost, ..Spending::default() });
        stage.chat().ended(&stage.miss());
    };
    spend(&stage);
    stage.handles = Stage::lay_out(&stage.metrics);
    spend(&stage);
    assert_eq!(stage.value("tollgate_requests_total{class=normal,code=200,route=chat}"), 2.0);
    assert_eq!(stage.value("tollgate_cost_microusd_total{category=input,model=m,route=chat}"), 1.0);
    assert_eq!(stage.metrics.rates(stage.at(2)).routes[0].route, "chat");
    assert!(stage.value("request_latency_p50_seconds{}") > 0.19);
}

#[test]
fn whatever_an_upstream_answers_the_codes_have_a_bounded_number_of_series() {
    let stage = Stage::new();
    for code in 0..=u16::MAX {
        stage.chat().ended(&CallEnd { code, ..stage.miss() });
    }
    let series = stage.series(stage.at(2));
    let codes: Vec<_> = series
        .iter()
        .filter(|(name, _)| {
            name.starts_with("tollgate_requests_total{class=normal,") && name.contains("chat")
        })
        .collect();
    assert_eq!(codes.len(), labels::CODE_PLACES);
    assert_eq!(codes.iter().map(|(_, count)| **count).sum::<f64>(), 65_536.0);
    // An unlisted one of the 400s, and no answer at all, have a place by what they are.
    assert!(stage.value("tollgate_requests_total{class=normal,code=4xx,route=chat}") > 1.0);
    assert!(stage.value("tollgate_requests_total{class=normal,code=none,route=chat}") > 1.0);
}

proptest! {
    #[test]
    fn money_adds_up_to_the_last_whole_micro_unit(amounts in prop::collection::vec(0_u64..5_000_000_000, 0..50)) {
        let stage = Stage::new();
        let model = stage.chat().model("m", || Naming::Own);
        for pico in &amounts {
            let cost = cost_of(PicoUsd::new(i128::from(*pico)));
            model.spent(&Spending { cost, ..Spending::default() });
        }
        let told = stage.value("tollgate_cost_microusd_total{category=input,model=m,route=chat}");
        let whole = amounts.iter().sum::<u64>() / 1_000_000;
        prop_assert_eq!(told, whole as f64);
    }
}

#[test]
fn a_reason_that_is_not_in_the_table_is_other_and_a_class_that_is_gone_is_the_last() {
    let stage = Stage::new();
    let class = ClassId::new(7).unwrap();
    let call = CallEnd { class, reason: Some("no such reason"), ..stage.miss() };
    stage.chat().ended(&call);
    assert_eq!(stage.value("tollgate_rejected_total{class=normal,reason=other}"), 1.0);
}

#[test]
fn the_present_is_told_in_rates() {
    let stage = Stage::new();
    for _ in 0..15 {
        stage.chat().ended(&stage.hit());
    }
    let redis = CallEnd { tier: TierLabel::Redis, cache: CacheOutcome::Stale, ..stage.hit() };
    stage.chat().ended(&redis);
    let collapsed =
        CallEnd { tier: TierLabel::None, cache: CacheOutcome::Collapsed, ..stage.hit() };
    stage.chat().ended(&collapsed);
    for _ in 0..3 {
        stage.chat().ended(&stage.miss());
    }
    stage.chat().ended(&CallEnd { cache: CacheOutcome::Bypass, ..stage.miss() });
    let rates = stage.metrics.rates(stage.at(2));
    assert_eq!(rates.calls_per_second, 2.1);
    assert_eq!(
        rates.hit_ratio,
        HitRatio {
            all: 0.85,
            memory: 0.75,
            redis: 0.05,
            memcached: 0.0,
            postgres: 0.0,
            disk: 0.0,
            collapsed: 0.05
        }
    );
    assert_eq!(rates.routes.len(), 2);
    assert!(rates.routes[0].p99.abs_diff(Duration::from_millis(200)) < Duration::from_millis(4));
    assert_eq!(rates.routes[1].p99, Duration::ZERO);
    assert_eq!(stage.value("tollgate_cache_hit_ratio{}"), 0.85);
    // Ten seconds on the rate is gone, five minutes on the ratio is, too.
    assert_eq!(stage.metrics.rates(stage.at(12)).calls_per_second, 0.0);
    assert_eq!(stage.metrics.rates(stage.at(12)).hit_ratio.all, 0.85);
    assert_eq!(stage.metrics.rates(stage.at(301)).hit_ratio.all, 0.0);
}

#[test]
fn an_alias_cannot_take_a_name_that_is_in_use() {
    for name in [
        "request_queue_length",
        "tollgate_requests",
        "tollgate_requests_total",
        "tollgate_request_duration_seconds_bucket",
        "process_open_fds",
    ] {
        assert!(names::is_taken(name), "{name}");
    }
    assert!(!names::is_taken("request_latency_p99_milliseconds"));
    let stage = Stage::new();
    let alias = Alias {
        name: "request_inflight".to_owned(),
        quantile: 0.5,
        unit: Unit::Seconds,
        window: Duration::from_secs(60),
        routes: Vec::new(),
    };
    let layout = Layout { classes: &[], routes: &[], aliases: &[alias] };
    let error = stage.metrics.lay_out(layout).unwrap_err().to_string();
    insta::assert_snapshot!(error, @"telemetry.metrics.aliases: alias `request_inflight`: the name is taken by a metric of Tollgate; choose another");
    // What was laid out before stays in force.
    assert_eq!(stage.value("recommendation_latency_p99{}"), 0.0);
}
