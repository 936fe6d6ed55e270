//! What a route counts: handles resolved once, so that a finished call costs a
//! few atomic additions and never looks a label up.

use super::histogram::Histogram;
use super::{
    Families, MetricsError,
    labels::{
        BudgetLabel, CODE_PLACES, CacheOutcome, ClaimOutcome, ItemOutcome, NotKept,
        PrefetchOutcome, QueueOutcome, REASONS, ShadowOutcome, TierLabel, code_label, code_place,
        reason_place,
    },
    model::{ModelMetrics, Models, Naming, RouteModels},
    rates::Traffic,
};
use crate::scaling::Window;
use prometheus::{GaugeVec, IntCounter, IntCounterVec};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::time::Instant;
use tollgate_core::{
    class::ClassId,
    scheduler::{Shed, Way},
};
use tollgate_ledger::Uuid;

/// A call that has ended, as the metrics see it.
#[derive(Clone, Debug)]
pub struct CallEnd {
    /// When it ended.
    pub at: Instant,
    /// Its usage record; nil where there is none to show.
    pub record: Uuid,
    pub class: ClassId,
    /// The status the caller got; 0 = no answer was begun.
    pub code: u16,
    /// From the call's head to the end of the answer's body.
    pub total: Duration,
    /// Start of the upstream call to its end; `None` = the upstream was not called.
    pub upstream: Option<Duration>,
    /// From the call's head to the first byte of the answer's body.
    pub first_byte: Option<Duration>,
    /// How long it waited for a permit; `None` = it never came to the queue.
    pub queue: Option<(Duration, QueueOutcome)>,
    /// By which rule it got a permit, if it did.
    pub way: Option<Way>,
    /// Why the queue refused it or took it back, if it did.
    pub shed: Option<Shed>,
    /// The `tollgate-reason`, if Tollgate refused or failed the call itself.
    pub reason: Option<&'static str>,
    pub cache: CacheOutcome,
    pub tier: TierLabel,
    /// No caller's, but our own: it counts where the upstream and its queue are measured, and in
    /// nothing about callers.
    pub own: bool,
}

/// The handles of one route. Cheap to share; keeps working after a reload.
#[derive(Debug)]
pub struct RouteMetrics {
    route: String,
    start: Instant,
    classes: Box<[ClassMetrics]>,
    upstream: Arc<Histogram>,
    first_byte: Arc<Histogram>,
    cache: LazyCounters,
    /// In the order of [`ItemOutcome::ALL`].
    items: Box<[IntCounter]>,
    joined: IntCounter,
    /// The windows this route's calls count in: everybody's, its own, and those of aliases.
    windows: Vec<Arc<Window>>,
    traffic: Arc<Traffic>,
    models: RouteModels,
    /// By place of the outcome.
    claims: Box<[IntCounter]>,
    /// By place of the outcome.
    shadows: Box<[IntCounter]>,
    /// By outcome, and how many of the last were of use. Of routes that ask nothing ahead there is
    /// no such number: 0 would read as bad.
    prefetches: (IntCounterVec, GaugeVec),
    prefetch_over_budget: IntCounterVec,
    /// By place of the reason.
    not_kept: Box<[IntCounter]>,
}

/// The handles of one class on one route.
#[derive(Debug)]
struct ClassMetrics {
    class: String,
    /// One a status code.
    requests: LazyCounters,
    duration: Arc<Histogram>,
    queue: Box<[Arc<Histogram>]>,
    rejected: Box<[IntCounter]>,
    dispatched: IntCounter,
    /// In the order of [`Way::ALL`].
    turns: Box<[IntCounter]>,
    /// In the order of [`Shed::ALL`].
    sheds: Box<[IntCounter]>,
}

/// What [`RouteMetrics::new`] needs besides its names.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) families: &'a Families,
    pub(super) classes: &'a [String],
    pub(super) windows: Vec<Arc<Window>>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) models: Arc<Models>,
    pub(super) start: Instant,
}

impl RouteMetrics {
    pub(super) fn new(route: &str, parts: Parts<'_>) -> Result<Self, MetricsError> {
        let families = parts.families;
        let classes = parts
            .classes
            .iter()
            .map(|class| ClassMetrics::new(route, class, families))
            .collect::<Result<_, _>>()?;
        let cache = LazyCounters::new(&families.cache_requests, CACHE_PLACES);
        for tier in TierLabel::ALL {
            for outcome in CacheOutcome::ALL.iter().filter(|outcome| usual(*tier, **outcome)) {
                families.cache_requests.get_metric_with_label_values(&[
                    route,
                    tier.label(),
                    outcome.label(),
                ])?;
            }
        }
        let items = ItemOutcome::ALL.iter().map(|outcome| {
            families.cache_items.get_metric_with_label_values(&[route, outcome.label()])
        });
        let claims = ClaimOutcome::ALL
            .iter()
            .map(|outcome| families.claims.get_metric_with_label_values(&[route, outcome.label()]));
        let shadows = ShadowOutcome::ALL.iter().map(|outcome| {
            families.shadows.get_metric_with_label_values(&[route, outcome.label()])
        });
        for outcome in PrefetchOutcome::ALL {
            families.prefetches.get_metric_with_label_values(&[route, outcome.label()])?;
        }
        for spent in BudgetLabel::ALL {
            let labels = [route, spent.label()];
            families.prefetch_over_budget.get_metric_with_label_values(&labels)?;
        }
        let not_kept = NotKept::ALL
            .iter()
            .map(|reason| families.not_kept.get_metric_with_label_values(&[route, reason.label()]));
        Ok(Self {
            not_kept: not_kept.collect::<Result<_, _>>()?,
            items: items.collect::<Result<_, _>>()?,
            joined: families.cache_joined.get_metric_with_label_values(&[route])?,
            route: route.to_owned(),
            start: parts.start,
            classes,
            upstream: families.upstream_seconds.with(&[route]),
            first_byte: families.first_byte_seconds.with(&[route]),
            cache,
            windows: parts.windows,
            traffic: parts.traffic,
            models: RouteModels::new(route, parts.models),
            claims: claims.collect::<Result<_, _>>()?,
            shadows: shadows.collect::<Result<_, _>>()?,
            prefetches: (families.prefetches.clone(), families.prefetch_precision.clone()),
            prefetch_over_budget: families.prefetch_over_budget.clone(),
        })
    }

    /// The route's name, as in the label.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// A call has claimed a class.
    pub fn claimed(&self, outcome: ClaimOutcome) {
        if let Some(count) = self.claims.get(outcome.place()) {
            count.inc();
        }
    }

    /// A hit was checked against the upstream.
    pub fn checked(&self, outcome: ShadowOutcome) {
        if let Some(count) = self.shadows.get(outcome.place()) {
            count.inc();
        }
    }

    /// The head of an answer of content mode kept it from being kept.
    pub fn not_kept(&self, reason: NotKept) {
        if let Some(count) = self.not_kept.get(reason.place()) {
            count.inc();
        }
    }

    /// So many that were likely to be wanted were not asked for ahead.
    pub fn prefetch_over_budget(&self, spent: BudgetLabel, n: usize) {
        let labels = [self.route.as_str(), spent.label()];
        if let Ok(count) = self.prefetch_over_budget.get_metric_with_label_values(&labels) {
            count.inc_by(crate::body::len_u64(n));
        }
    }

    /// What became of an answer that was asked for ahead, and the part of the last ones that were of
    /// use, in millionths. Rare, so labels are looked up.
    pub fn prefetched(&self, outcome: PrefetchOutcome, precision_ppm: u64) {
        let (counts, precision) = &self.prefetches;
        let labels = [self.route.as_str(), outcome.label()];
        if let Ok(count) = counts.get_metric_with_label_values(&labels) {
            count.inc();
        }
        if let Ok(gauge) = precision.get_metric_with_label_values(&[&self.route]) {
            // A microsecond is a millionth of its unit, too.
            gauge.set(Duration::from_micros(precision_ppm).as_secs_f64());
        }
    }

    /// Accounts for a call that has ended; called once a call.
    pub fn ended(&self, call: &CallEnd) {
        // A class of an older configuration that has more of them counts as the last one.
        let place = call.class.place().min(self.classes.len().saturating_sub(1));
        if let Some(class) = self.classes.get(place) {
            class.ended(&self.route, call, ms_since(self.start, call.at));
        }
        if let Some(took) = call.upstream {
            self.upstream.observe(took);
        }
        if call.own {
            return;
        }
        if let Some(took) = call.first_byte {
            self.first_byte.observe(took);
        }
        let place = call.tier.place() * CacheOutcome::ALL.len() + call.cache.place();
        self.cache.inc(place, |count| count(&[&self.route, call.tier.label(), call.cache.label()]));
        let now_ms = ms_since(self.start, call.at);
        self.traffic.count(now_ms, call.tier, call.cache);
        self.scale(now_ms, call);
    }

    /// A caller's call asks for a permit.
    pub fn arrived(&self, at: Instant) {
        self.traffic.arrive(ms_since(self.start, at));
    }

    /// A call was asked together with another.
    pub fn joined(&self) {
        self.joined.inc();
    }

    /// Items of a call that asked about several.
    pub fn items(&self, outcome: ItemOutcome, count: usize) {
        if let Some(counter) = self.items.get(outcome.place()) {
            counter.inc_by(u64::try_from(count).unwrap_or(0));
        }
    }

    /// The handles of `model` on this route. `naming`, asked for a name that is new, says
    /// whose it is: one of the price book, or one that stood in a 2xx answer; other names
    /// share the label `other`, as do those beyond the first 100, and beyond the first 50
    /// that are not of the book.
    pub fn model(&self, model: &str, naming: impl FnOnce() -> Naming) -> Arc<ModelMetrics> {
        self.models.resolve(model, naming)
    }

    /// Autoscalers see only calls that asked for capacity: a hit or a follower used none.
    fn scale(&self, now_ms: u64, call: &CallEnd) {
        let asked = call.queue.is_some() || call.upstream.is_some();
        if !asked || matches!(call.cache, CacheOutcome::Hit | CacheOutcome::Collapsed) {
            return;
        }
        let shed = matches!(call.queue, Some((_, QueueOutcome::Shed)));
        let latency = call.upstream.map(|_| call.total);
        for window in &self.windows {
            window.record(now_ms, latency, shed || (500..600).contains(&call.code));
        }
    }
}

impl ClassMetrics {
    fn new(route: &str, class: &str, families: &Families) -> Result<Self, MetricsError> {
        let queue = QueueOutcome::ALL
            .iter()
            .map(|outcome| families.queue_seconds.with(&[class, outcome.label()]));
        let rejected = REASONS
            .iter()
            .map(|reason| families.rejected.get_metric_with_label_values(&[class, reason]));
        let turns = Way::ALL
            .iter()
            .map(|way| families.turns.get_metric_with_label_values(&[class, way.label()]));
        let sheds = Shed::ALL
            .iter()
            .map(|shed| families.sheds.get_metric_with_label_values(&[class, shed.reason()]));
        let metrics = Self {
            class: class.to_owned(),
            requests: LazyCounters::new(&families.requests, CODE_PLACES),
            duration: families.request_seconds.with(&[route, class]),
            queue: queue.collect(),
            rejected: rejected.collect::<Result<_, _>>()?,
            dispatched: families.dispatched.get_metric_with_label_values(&[class])?,
            turns: turns.collect::<Result<_, _>>()?,
            sheds: sheds.collect::<Result<_, _>>()?,
        };
        // A rate needs a first value to start from.
        families.requests.get_metric_with_label_values(&[route, class, "200"])?;
        Ok(metrics)
    }

    fn ended(&self, route: &str, call: &CallEnd, now_ms: u64) {
        if !call.own {
            let place = code_place(call.code);
            self.requests.inc(place, |count| count(&[route, &self.class, &code_label(place)]));
            self.duration.observe_record(call.total, now_ms, call.record);
        }
        if let Some((waited, outcome)) = call.queue {
            if let Some(wait) = self.queue.get(outcome.place()) {
                wait.observe(waited);
            }
            if outcome == QueueOutcome::Served {
                self.dispatched.inc();
            }
        }
        let turn = Way::ALL.iter().position(|way| call.way == Some(*way));
        if let Some(count) = turn.and_then(|place| self.turns.get(place)) {
            count.inc();
        }
        let shed = Shed::ALL.iter().position(|shed| call.shed == Some(*shed));
        if let Some(count) = shed.and_then(|place| self.sheds.get(place)) {
            count.inc();
        }
        let refused = call.reason.filter(|_| !call.own);
        if let Some(count) = refused.and_then(|reason| self.rejected.get(reason_place(reason))) {
            count.inc();
        }
    }
}

const CACHE_PLACES: usize = TierLabel::ALL.len() * CacheOutcome::ALL.len();

/// The pairs that occur in ordinary life; their series exist from the start.
fn usual(tier: TierLabel, outcome: CacheOutcome) -> bool {
    match outcome {
        CacheOutcome::Hit | CacheOutcome::Stale => tier != TierLabel::None,
        CacheOutcome::Collapsed | CacheOutcome::Miss | CacheOutcome::Bypass => {
            tier == TierLabel::None
        }
    }
}

/// Counters of one family in a flat array, each made when it is first needed.
#[derive(Debug)]
struct LazyCounters {
    family: IntCounterVec,
    cells: Box<[OnceLock<Option<IntCounter>>]>,
}

impl LazyCounters {
    fn new(family: &IntCounterVec, places: usize) -> Self {
        Self { family: family.clone(), cells: (0..places).map(|_| OnceLock::new()).collect() }
    }

    /// Adds one at `place`; `name` is called once a place, with what resolves label values.
    fn inc(
        &self,
        place: usize,
        name: impl FnOnce(&dyn Fn(&[&str]) -> Option<IntCounter>) -> Option<IntCounter>,
    ) {
        let Some(cell) = self.cells.get(place) else { return };
        let resolve = |labels: &[&str]| self.family.get_metric_with_label_values(labels).ok();
        if let Some(count) = cell.get_or_init(|| name(&resolve)) {
            count.inc();
        }
    }
}

/// Milliseconds from `start` to `at`; 0 when `at` is earlier.
pub(super) fn ms_since(start: Instant, at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(start).as_millis()).unwrap_or(u64::MAX)
}
