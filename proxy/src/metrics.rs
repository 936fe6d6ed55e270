//! Every number Tollgate shows: the only place that registers, counts and writes metrics.
//!
//! Three kinds, by what they cost the way of a request:
//! - **handles** ([`RouteMetrics`], [`ModelMetrics`]): labels are resolved once
//!   per configuration, a finished call then adds to atomics in flat arrays;
//! - **readings** ([`QueueReading`], …): other parts already know these numbers;
//!   they are asked when somebody scrapes and cost a call nothing;
//! - **windows** ([`crate::scaling`]): what autoscalers ask about the last minute.
//!
//! To add a metric: a line in `names`, a field in `Families` or a reading, the snapshot.

mod exemplar;
mod histogram;
mod labels;
mod model;
mod names;
mod process;
mod rates;
mod readings;
mod route;
mod text;

pub use labels::{
    BudgetLabel, CacheOutcome, ClaimOutcome, CostCategory, EventOutcome, ItemOutcome, NotKept,
    OwnOutcome, OwnPurpose, PrefetchOutcome, QueueOutcome, REASONS, SavedHow, ShadowOutcome,
    TierLabel, TokenKind, VoteOutcome,
};
pub use model::{FOREIGN_MAX, MODELS_MAX, ModelMetrics, Naming, Spending};
pub use rates::{HitRatio, Rates, RouteRates};
pub use readings::{
    CacheHeld, CacheReading, ForecastReading, LeaseCounts, LedgerReading, LookupCounts,
    QueueReading, StoreReading, TraceReading, UpstreamReading,
};
pub use route::{CallEnd, RouteMetrics};

use crate::scaling::{Alias, AliasError, Window};
use histogram::{Histogram, Histograms};
use model::Models;
use names::Family;
use prometheus::{GaugeVec, IntCounter, IntCounterVec, Opts, Registry, proto::MetricFamily};
use rates::Traffic;
use readings::Sources;
use route::{Parts, ms_since};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use text::Format;
use tokio::time::Instant;

/// How far back the autoscalers' unlabelled series look.
const SCALING_SPAN: Duration = Duration::from_secs(60);
/// The label `route` of calls that matched none.
const NO_ROUTE: &str = "none";

/// Why metrics could not be laid out.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// A defect of `names`: two families of one name, or a name that is none.
    #[error("cannot register a metric: {0}")]
    Registry(#[from] prometheus::Error),
    /// Every mistake at once.
    #[error("telemetry.metrics.aliases: {}", list(.0))]
    Aliases(Vec<AliasError>),
}

/// What of the configuration decides which series there are.
#[derive(Clone, Copy, Debug)]
pub struct Layout<'a> {
    /// Names of the classes, in the order of `ClassId`.
    pub classes: &'a [String],
    pub routes: &'a [String],
    pub aliases: &'a [Alias],
}

/// The handles of one configuration.
#[derive(Clone, Debug)]
pub struct Handles {
    /// In the order of [`Layout::routes`].
    pub routes: Vec<Arc<RouteMetrics>>,
    /// For calls that matched no route.
    pub unrouted: Arc<RouteMetrics>,
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: Families,
    start: Instant,
    traffic: Arc<Traffic>,
    models: Arc<Models>,
    shape: Mutex<Shape>,
    sources: Sources,
}

/// What the last [`Metrics::lay_out`] fixed.
#[derive(Debug, Default)]
struct Shape {
    classes: Vec<String>,
    routes: Vec<String>,
    aliases: Vec<Alias>,
    windows: HashMap<Scope, Arc<Window>>,
}

/// Which calls a window counts, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Scope {
    span: Duration,
    /// Sorted; empty = all.
    routes: Vec<String>,
}

/// The families that calls are counted in. The rest is made at the scrape.
#[derive(Debug)]
struct Families {
    requests: IntCounterVec,
    request_seconds: Histograms,
    upstream_seconds: Histograms,
    first_byte_seconds: Histograms,
    queue_seconds: Histograms,
    rejected: IntCounterVec,
    dispatched: IntCounterVec,
    turns: IntCounterVec,
    sheds: IntCounterVec,
    cache_requests: IntCounterVec,
    cache_items: IntCounterVec,
    cache_joined: IntCounterVec,
    memory_lookup: Arc<Histogram>,
    redis_lookup: Arc<Histogram>,
    memcached_lookup: Arc<Histogram>,
    postgres_lookup: Arc<Histogram>,
    disk_lookup: Arc<Histogram>,
    tokens: IntCounterVec,
    cost: IntCounterVec,
    saved: IntCounterVec,
    unpriced: IntCounter,
    estimated: IntCounter,
    reloads: IntCounterVec,
    own_calls: IntCounterVec,
    votes: IntCounterVec,
    claims: IntCounterVec,
    shadows: IntCounterVec,
    prefetches: IntCounterVec,
    prefetch_over_budget: IntCounterVec,
    not_kept: IntCounterVec,
    prefetch_precision: GaugeVec,
    events: IntCounterVec,
}

impl Metrics {
    /// All families, registered. `start` is the origin of the sliding windows.
    pub fn new(start: Instant) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let families = Families::register(&registry)?;
        let models = Models::new(&families);
        Ok(Self {
            registry,
            families,
            start,
            traffic: Arc::new(Traffic::new()),
            models,
            shape: Mutex::default(),
            sources: Sources::default(),
        })
    }

    /// The handles for a configuration; called at the start and after each
    /// reload. Counters and windows of names that stay go on where they were.
    pub fn lay_out(&self, layout: Layout<'_>) -> Result<Handles, MetricsError> {
        let mistakes = Alias::mistakes(layout.aliases, layout.routes, names::is_taken);
        if !mistakes.is_empty() {
            return Err(MetricsError::Aliases(mistakes));
        }
        let mut shape = self.shape();
        let route_scopes = layout.routes.iter().map(|route| Scope::minute_of(route));
        let windows: HashMap<_, _> = [Scope::everything()]
            .into_iter()
            .chain(route_scopes)
            .chain(layout.aliases.iter().map(Scope::of))
            .map(|scope| {
                let window = shape.windows.get(&scope).cloned();
                let window = window.unwrap_or_else(|| Arc::new(Window::spanning(scope.span)));
                (scope, window)
            })
            .collect();
        let handles = |route: &str| {
            let counted = windows.iter().filter(|(scope, _)| scope.covers(route));
            let parts = Parts {
                families: &self.families,
                classes: layout.classes,
                windows: counted.map(|(_, window)| Arc::clone(window)).collect(),
                traffic: Arc::clone(&self.traffic),
                models: Arc::clone(&self.models),
                start: self.start,
            };
            RouteMetrics::new(route, parts).map(Arc::new)
        };
        let routes = layout.routes.iter().map(|route| handles(route)).collect::<Result<_, _>>()?;
        let unrouted = handles(NO_ROUTE)?;
        *shape = Shape {
            classes: layout.classes.to_vec(),
            routes: layout.routes.to_vec(),
            aliases: layout.aliases.to_vec(),
            windows,
        };
        Ok(Handles { routes, unrouted })
    }

    /// Where the queues' readings come from; one per upstream.
    pub fn set_queue_source(&self, read: impl Fn() -> Vec<QueueReading> + Send + Sync + 'static) {
        self.sources.queues.set(read);
    }

    /// Where the tiers' readings come from.
    pub fn set_cache_source(
        &self,
        read: impl Fn() -> Vec<(TierLabel, CacheReading)> + Send + Sync + 'static,
    ) {
        self.sources.caches.set(read);
    }

    /// Where the ledger's reading comes from.
    pub fn set_ledger_source(&self, read: impl Fn() -> LedgerReading + Send + Sync + 'static) {
        self.sources.ledger.set(read);
    }

    /// Where the stores' readings come from; one per configured store.
    pub fn set_store_source(&self, read: impl Fn() -> Vec<StoreReading> + Send + Sync + 'static) {
        self.sources.stores.set(read);
    }

    /// Where the key trace's reading comes from.
    pub fn set_trace_source(&self, read: impl Fn() -> TraceReading + Send + Sync + 'static) {
        self.sources.trace.set(read);
    }

    /// Where the forecast's reading comes from.
    pub fn set_forecast_source(&self, read: impl Fn() -> ForecastReading + Send + Sync + 'static) {
        self.sources.forecast.set(read);
    }

    /// Callers' calls that asked for a permit, since the start.
    pub fn arrived(&self) -> u64 {
        self.traffic.arrived()
    }

    /// The same, a second, over the minute before `now`.
    pub fn arrival_rate(&self, now: Instant) -> f64 {
        self.traffic.arrivals_per_second(ms_since(self.start, now))
    }

    /// A look-up in `tier` took this long.
    pub fn looked_up(&self, tier: TierLabel, took: Duration) {
        match tier {
            TierLabel::None => {}
            TierLabel::Memory => self.families.memory_lookup.observe(took),
            TierLabel::Redis => self.families.redis_lookup.observe(took),
            TierLabel::Memcached => self.families.memcached_lookup.observe(took),
            TierLabel::Postgres => self.families.postgres_lookup.observe(took),
            TierLabel::Disk => self.families.disk_lookup.observe(took),
        }
    }

    /// The configuration was read again, and taken over or refused.
    pub fn reloaded(&self, accepted: bool) {
        let outcome = if accepted { RELOAD_ACCEPTED } else { RELOAD_REFUSED };
        if let Ok(count) = self.families.reloads.get_metric_with_label_values(&[outcome]) {
            count.inc();
        }
    }

    /// A call of our own came to this.
    pub fn asked_ourselves(&self, purpose: OwnPurpose, outcome: OwnOutcome) {
        if let Ok(count) = self.families.own_call(purpose, outcome) {
            count.inc();
        }
    }

    /// A caller said that an answer is bad.
    pub fn voted(&self, outcome: VoteOutcome) {
        if let Ok(count) = self.families.votes.get_metric_with_label_values(&[outcome.label()]) {
            count.inc();
        }
    }

    /// An event of that source of `cache.events` came, or did not.
    pub fn heard_event(&self, source: &str, outcome: EventOutcome) {
        let labels = [source, outcome.label()];
        if let Ok(count) = self.families.events.get_metric_with_label_values(&labels) {
            count.inc();
        }
    }

    /// Content type and text for a scrape whose `Accept` header is `accept`.
    pub fn render(&self, accept: Option<&str>) -> (&'static str, String) {
        self.render_at(accept, Instant::now())
    }

    /// As [`Self::render`], at a moment of the caller's choosing.
    pub fn render_at(&self, accept: Option<&str>, now: Instant) -> (&'static str, String) {
        let format = Format::negotiate(accept);
        let mut families = self.gather(now);
        families.extend(process::families());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let exemplars = self.families.request_seconds.exemplars();
        (format.content_type(), text::write(format, &families, &exemplars))
    }

    /// How busy the proxy is at `now`.
    pub fn rates(&self, now: Instant) -> Rates {
        let now_ms = ms_since(self.start, now);
        let shape = self.shape();
        let routes = shape.routes.iter().filter_map(|route| {
            let recent = shape.windows.get(&Scope::minute_of(route))?.recent(now_ms);
            Some(RouteRates {
                route: route.clone(),
                p99: recent.latency(0.99),
                error_ratio: recent.error_ratio(),
            })
        });
        Rates {
            calls_per_second: self.traffic.calls_per_second(now_ms),
            hit_ratio: self.traffic.hit_ratio(now_ms),
            routes: routes.collect(),
        }
    }

    /// Everything but `process_*`, which no test could pin down.
    fn gather(&self, now: Instant) -> Vec<MetricFamily> {
        let now_ms = ms_since(self.start, now);
        // The sources are asked before the lock is taken: they may be slow, or ask us.
        let queues = self.sources.queues.read();
        let caches = self.sources.caches.read();
        let ledger = self.sources.ledger.read();
        let stores = self.sources.stores.read();
        let trace = self.sources.trace.read();
        let forecast = self.sources.forecast.read();
        let upstreams = self.sources.upstreams.read();
        let mut families = self.registry.gather();
        let shape = self.shape();
        families.extend(readings::queues(&queues, &shape.classes));
        families.extend(readings::caches(&caches));
        families.extend(readings::ledger(&ledger));
        families.extend(readings::stores(&stores));
        families.extend(readings::upstreams(&upstreams));
        families.push(readings::trace(trace));
        families.extend(readings::forecast(&forecast));
        let arrivals = self.traffic.arrivals_per_second(now_ms);
        families.push(readings::family(&names::ARRIVAL_RATE, &[(&[], arrivals)]));
        let hit_ratio = self.traffic.hit_ratio(now_ms).all;
        families.push(readings::family(&names::CACHE_HIT_RATIO, &[(&[], hit_ratio)]));
        families.extend(shape.scaling(now_ms));
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        families
    }

    fn shape(&self) -> MutexGuard<'_, Shape> {
        self.shape.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shape {
    /// The unlabelled series of the last minute, and the aliases.
    fn scaling(&self, now_ms: u64) -> Vec<MetricFamily> {
        let recent =
            |scope| self.windows.get(&scope).map(|window: &Arc<Window>| window.recent(now_ms));
        let all = recent(Scope::everything());
        let latency = |quantile| {
            all.as_ref().map(|all| all.latency(quantile)).unwrap_or_default().as_secs_f64()
        };
        let error_ratio = all.as_ref().map_or(0.0, |all| all.error_ratio());
        let one = |of, value| readings::family(of, &[(&[], value)]);
        let mut families = vec![
            one(&names::ERROR_RATIO, error_ratio),
            one(&names::LATENCY_P50, latency(0.5)),
            one(&names::LATENCY_P95, latency(0.95)),
            one(&names::LATENCY_P99, latency(0.99)),
        ];
        families.extend(self.aliases.iter().map(|alias| {
            let latency = recent(Scope::of(alias)).map(|recent| recent.latency(alias.quantile));
            let value = alias.unit.of(latency.unwrap_or_default());
            readings::gauge(&alias.name, &alias.help(), value)
        }));
        families
    }
}

impl Scope {
    fn everything() -> Self {
        Self { span: SCALING_SPAN, routes: Vec::new() }
    }

    fn minute_of(route: &str) -> Self {
        Self { span: SCALING_SPAN, routes: vec![route.to_owned()] }
    }

    fn of(alias: &Alias) -> Self {
        let mut routes = alias.routes.clone();
        routes.sort();
        routes.dedup();
        Self { span: alias.window, routes }
    }

    fn covers(&self, route: &str) -> bool {
        self.routes.is_empty() || self.routes.iter().any(|covered| covered == route)
    }
}

const RELOAD_ACCEPTED: &str = "accepted";
const RELOAD_REFUSED: &str = "refused";

impl Families {
    fn own_call(&self, purpose: OwnPurpose, outcome: OwnOutcome) -> prometheus::Result<IntCounter> {
        self.own_calls.get_metric_with_label_values(&[purpose.label(), outcome.label()])
    }

    fn register(registry: &Registry) -> Result<Self, MetricsError> {
        let counter = |of: &Family| {
            let family = IntCounterVec::new(Opts::new(of.name, of.help), of.labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let gauge = |of: &Family| {
            let family = GaugeVec::new(Opts::new(of.name, of.help), of.labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let single = |of: &Family| {
            let count = IntCounter::new(of.name, of.help)?;
            registry.register(Box::new(count.clone()))?;
            Ok::<_, prometheus::Error>(count)
        };
        let histogram = |of: &'static Family| {
            let family = Histograms::new(of)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, MetricsError>(family)
        };
        let lookups = histogram(&names::CACHE_LOOKUP_SECONDS)?;
        let lookup = |tier: TierLabel| lookups.with(&[tier.label()]);
        let families = Self {
            requests: counter(&names::REQUESTS)?,
            request_seconds: histogram(&names::REQUEST_SECONDS)?,
            upstream_seconds: histogram(&names::UPSTREAM_SECONDS)?,
            first_byte_seconds: histogram(&names::FIRST_BYTE_SECONDS)?,
            queue_seconds: histogram(&names::QUEUE_SECONDS)?,
            rejected: counter(&names::REJECTED)?,
            dispatched: counter(&names::DISPATCHED)?,
            turns: counter(&names::TURNS)?,
            sheds: counter(&names::SHED)?,
            cache_requests: counter(&names::CACHE_REQUESTS)?,
            cache_items: counter(&names::CACHE_ITEMS)?,
            cache_joined: counter(&names::CACHE_JOINED)?,
            memory_lookup: lookup(TierLabel::Memory),
            redis_lookup: lookup(TierLabel::Redis),
            memcached_lookup: lookup(TierLabel::Memcached),
            postgres_lookup: lookup(TierLabel::Postgres),
            disk_lookup: lookup(TierLabel::Disk),
            tokens: counter(&names::TOKENS)?,
            cost: counter(&names::COST)?,
            saved: counter(&names::SAVED)?,
            unpriced: single(&names::UNPRICED)?,
            estimated: single(&names::ESTIMATED)?,
            reloads: counter(&names::RELOADS)?,
            own_calls: counter(&names::OWN_CALLS)?,
            votes: counter(&names::CACHE_VOTES)?,
            claims: counter(&names::CLASS_CLAIMS)?,
            shadows: counter(&names::CACHE_SHADOWS)?,
            prefetches: counter(&names::CACHE_PREFETCHES)?,
            not_kept: counter(&names::CACHE_NOT_KEPT)?,
            prefetch_over_budget: counter(&names::CACHE_PREFETCH_OVER_BUDGET)?,
            prefetch_precision: gauge(&names::CACHE_PREFETCH_PRECISION)?,
            events: counter(&names::CACHE_EVENTS)?,
        };
        for (purpose, outcome) in OwnPurpose::ALL
            .iter()
            .flat_map(|purpose| OwnOutcome::ALL.iter().map(move |outcome| (purpose, outcome)))
        {
            families.own_call(*purpose, *outcome)?;
        }
        for outcome in [RELOAD_ACCEPTED, RELOAD_REFUSED] {
            families.reloads.get_metric_with_label_values(&[outcome])?;
        }
        for outcome in VoteOutcome::ALL {
            families.votes.get_metric_with_label_values(&[outcome.label()])?;
        }
        Ok(families)
    }
}

fn list(mistakes: &[AliasError]) -> String {
    let mistakes: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    mistakes.join("; ")
}

#[cfg(test)]
mod tests;
