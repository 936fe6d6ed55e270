//! What the page shows, looked up once: plain data, so that a page can be made of any.

use crate::{
    admin::{self, Problem},
    admission::{ClassCounts, ClassLook, LimitFrom, Why},
    app::{Destination, Parts},
    meter::unix_ms,
    metrics::Rates,
    scaling::ratio,
    upstream::Health,
};
use std::sync::atomic::Ordering;
use tokio::time::Instant;
use tollgate_cache::counters::TierCounters;
use tollgate_config::Config;
use tollgate_ledger::{Dim, Period, Report, ReportQuery, Stats, Sums, Zone};

/// The page's content at one moment.
#[derive(Debug)]
pub(super) struct View {
    pub(super) version: &'static str,
    pub(super) now_ms: i64,
    pub(super) started_ms: i64,
    pub(super) is_draining: bool,
    /// Somebody signed in, and may sign out.
    pub(super) has_token: bool,
    pub(super) rates: Rates,
    pub(super) flights: usize,
    pub(super) tiers: Vec<TierView>,
    /// By model, dearest first; or why it cannot be told.
    pub(super) today: Result<Today, String>,
    pub(super) queues: Vec<QueueView>,
    pub(super) endpoints: Vec<EndpointView>,
    pub(super) ledger: Stats,
}

#[derive(Debug)]
pub(super) struct TierView {
    pub(super) name: &'static str,
    /// `None`: it is in this process.
    pub(super) is_up: Option<bool>,
    /// `None`: nobody looked yet.
    pub(super) hit_ratio: Option<f64>,
    pub(super) hits: u64,
    pub(super) held: Option<Held>,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) entries: usize,
    pub(super) bytes: u64,
    pub(super) bytes_max: u64,
}

#[derive(Debug)]
pub(super) struct Today {
    pub(super) models: Vec<ModelView>,
    /// Models that the table has no room for.
    pub(super) models_left: usize,
    pub(super) total: Sums,
}

#[derive(Debug)]
pub(super) struct ModelView {
    /// Empty: calls without a model.
    pub(super) name: String,
    pub(super) sums: Sums,
}

#[derive(Debug)]
pub(super) struct QueueView {
    pub(super) upstream: String,
    pub(super) limit: Option<u32>,
    /// Why it is what it is now, where it follows the upstream.
    pub(super) limit_why: Option<&'static str>,
    pub(super) inflight: u64,
    pub(super) oldest_s: Option<f64>,
    /// Most important first.
    pub(super) classes: Vec<ClassView>,
}

#[derive(Debug)]
pub(super) struct ClassView {
    pub(super) name: String,
    pub(super) inflight: u64,
    pub(super) waiting: usize,
    pub(super) waits_for: Option<&'static str>,
    pub(super) oldest_s: Option<f64>,
    pub(super) retry_after_s: u64,
    /// Let in and turned away in the last minute.
    pub(super) granted: u64,
    pub(super) shed: u64,
    /// Name and how many of its calls wait; the API has all.
    pub(super) tenants: Vec<(String, usize)>,
    pub(super) tenants_left: usize,
}

#[derive(Debug)]
pub(super) struct EndpointView {
    pub(super) upstream: String,
    pub(super) name: String,
    pub(super) health: Health,
    pub(super) inflight: u32,
    pub(super) answered: u64,
    pub(super) failed: u64,
}

/// Tenants of a class that waits; the API has more.
const TENANTS_MAX: usize = 3;

/// Rows of the table of models; the API has all.
const MODELS_MAX: usize = 20;

/// Looks everything up. Waits for the ledger only.
pub(super) async fn look(parts: &Parts, config: &Config) -> View {
    let snapshot = parts.snapshot.load_full();
    View {
        version: env!("CARGO_PKG_VERSION"),
        now_ms: unix_ms(),
        started_ms: parts.started_ms,
        is_draining: parts.shutdown.is_draining(),
        has_token: config.admin.token.is_some(),
        today: today(parts, config).await.map_err(|problem| problem.detail),
        rates: parts.metrics.rates(Instant::now()),
        flights: parts.flights.len(),
        tiers: tiers(parts, config),
        queues: snapshot.destinations.iter().map(|to| queue(to)).collect(),
        endpoints: snapshot.destinations.iter().flat_map(|to| endpoints(to)).collect(),
        ledger: parts.meter.ledger.stats(),
    }
}

/// Whole windows of the day, so that the rollups know the answer: cheap, however many
/// calls there were.
async fn today(parts: &Parts, config: &Config) -> Result<Today, Problem> {
    let now_ms = unix_ms();
    let window = Period::Day
        .around(now_ms, &Zone::utc())
        .map_err(|error| Problem::bad(error.to_string()))?;
    let whole = admin::report_query(config, window, now_ms);
    // The machines' cost is a report's matter.
    let query = ReportQuery { by: vec![Dim::Model], resources: Vec::new(), ..whole };
    let report = admin::read_ledger(parts, move |reader| Report::build(reader, query)).await?;
    let models_left = report.rows.len().saturating_sub(MODELS_MAX);
    let shown = report.rows.into_iter().take(MODELS_MAX);
    let models = shown.map(|row| ModelView { name: row.dims.concat(), sums: row.sums });
    Ok(Today { models: models.collect(), models_left, total: report.total })
}

fn tiers(parts: &Parts, config: &Config) -> Vec<TierView> {
    let view = |name, is_up, counters: &TierCounters, held| {
        let hits = counters.hits.value();
        let misses = [
            &counters.misses,
            &counters.expired,
            &counters.purged,
            &counters.collisions,
            &counters.foreign,
            &counters.oversized,
            &counters.locked,
        ];
        let looked = misses.iter().fold(hits, |sum, count| sum.saturating_add(count.value()));
        let hit_ratio = (looked > 0).then(|| ratio(hits, looked));
        TierView { name, is_up, hit_ratio, hits, held }
    };
    let memory = parts.cache.tiers.memory();
    let held = Held {
        entries: memory.entries(),
        bytes: memory.bytes(),
        bytes_max: config.cache.memory_bytes_max,
    };
    let outer = parts.cache.tiers.all_outer().iter();
    let outer =
        outer.map(|outer| view(outer.name().as_str(), Some(outer.is_up()), outer.counters(), None));
    let memory = view("memory", None, memory.counters(), Some(held));
    [memory].into_iter().chain(outer).collect()
}

fn queue(to: &Destination) -> QueueView {
    let look = to.admission.look();
    let seen = &look.snapshot;
    QueueView {
        upstream: to.config.name.clone(),
        limit: seen.limit.map(std::num::NonZeroU32::get),
        limit_why: match look.limit_from {
            LimitFrom::Nothing | LimitFrom::Configuration => None,
            LimitFrom::Answers { why, .. } => Some(why.name()),
        },
        inflight: seen.inflight,
        oldest_s: seen.oldest_wait.map(|wait| wait.as_secs_f64()),
        classes: seen
            .by_class()
            .zip(&look.classes)
            .map(|((name, counts), class)| class_view(name, counts, class))
            .collect(),
    }
}

fn class_view(name: &str, counts: &ClassCounts, class: &ClassLook) -> ClassView {
    let tenants = class.tenants.iter().take(TENANTS_MAX);
    let left = class.tenants.len().saturating_sub(TENANTS_MAX);
    ClassView {
        name: name.to_owned(),
        inflight: counts.inflight,
        waiting: counts.waiting,
        waits_for: class.why.map(Why::name),
        oldest_s: class.oldest_wait.map(|wait| wait.as_secs_f64()),
        retry_after_s: class.retry_after.as_secs(),
        granted: class.decided.granted.iter().sum(),
        shed: class.decided.shed.iter().sum(),
        tenants: tenants.map(|it| (it.tenant.to_string(), it.waiting)).collect(),
        tenants_left: class.tenants_left + left,
    }
}

fn endpoints(to: &Destination) -> impl Iterator<Item = EndpointView> {
    to.upstream.health().map(|(endpoint, health)| EndpointView {
        upstream: to.config.name.clone(),
        name: endpoint.name.to_string(),
        health,
        inflight: endpoint.in_flight(),
        answered: endpoint.answered.load(Ordering::Relaxed),
        failed: endpoint.failed.load(Ordering::Relaxed),
    })
}
