//! What is read from other parts when somebody scrapes: plain structs, so that
//! this module knows none of those parts, and the families made of them.

use super::{
    labels::TierLabel,
    names::{self, Family, Kind},
};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tollgate_core::forecast::Outlook;

/// The queue of one upstream at one moment.
#[derive(Clone, Debug, Default)]
pub struct QueueReading {
    /// Waiting calls by class, each by its name: its place may have changed since.
    pub waiting: Vec<(Arc<str>, u64)>,
    /// Calls holding a permit.
    pub inflight: u64,
    /// How long the oldest waiting call has waited; zero when none waits.
    pub oldest: Duration,
    /// 0 = unlimited.
    pub limit: u64,
    /// What waiting calls are thought to take; 0 where nobody counts tokens.
    pub queued_tokens: u64,
    /// Since the start.
    pub permits_leaked: u64,
    /// Since the start.
    pub lifted: u64,
    /// Since the start.
    pub preempted: u64,
}

/// One tier of the cache at one moment; counts are since the start.
#[derive(Clone, Debug, Default)]
pub struct CacheReading {
    /// `None` where the tier is outside this process.
    pub held: Option<CacheHeld>,
    pub lookups: LookupCounts,
    pub leases: LeaseCounts,
    /// Purges by patterns that there was no room for; of memory, where they are told apart.
    pub patterns_forgotten: u64,
}

/// What became of fills for the fleet, and of those who waited for another instance's.
#[derive(Clone, Debug, Default)]
pub struct LeaseCounts {
    pub taken: u64,
    pub lost: u64,
    pub fenced: u64,
    pub found: u64,
    pub led: u64,
    pub unshared: u64,
    pub timeout: u64,
    pub away: u64,
}

/// What a tier in this process holds and has let go.
#[derive(Clone, Debug, Default)]
pub struct CacheHeld {
    pub bytes: u64,
    pub entries: u64,
    /// Gone for want of room.
    pub evicted_size: u64,
    /// Gone because their time was over.
    pub evicted_expired: u64,
    /// Gone by a purge.
    pub evicted_purged: u64,
}

/// How look-ups in one tier ended; each counts in exactly one.
#[derive(Clone, Debug, Default)]
pub struct LookupCounts {
    pub hit: u64,
    pub miss: u64,
    /// There, but past its time.
    pub expired: u64,
    /// There, but purged meanwhile.
    pub purged: u64,
    /// There, but the answer to another question under the same key.
    pub collision: u64,
    /// There, but not a whole entry of this version and key.
    pub foreign: u64,
    /// There, but would be larger than an entry may be when it is unpacked.
    pub oversized: u64,
    /// There, but no key of ours opens it.
    pub locked: u64,
    /// The tier failed.
    pub error: u64,
    pub timeout: u64,
    /// Not asked: its breaker was open.
    pub skipped: u64,
}

/// The ledger at one moment.
#[derive(Clone, Debug, Default)]
pub struct LedgerReading {
    pub queue_records: u64,
    pub wal_bytes: u64,
    /// Since the start.
    pub dropped: u64,
}

/// The key trace; since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceReading {
    pub written: u64,
    pub dropped: u64,
}

/// The load to come.
#[derive(Clone, Debug, Default)]
pub struct ForecastReading {
    /// One a horizon.
    pub outlooks: Vec<Outlook>,
    /// Announced, and not over.
    pub events: usize,
}

/// What is done about an upstream that fails; counts are since the start, or since the reload
/// that changed it.
#[derive(Clone, Debug)]
pub struct UpstreamReading {
    pub upstream: String,
    /// Endpoints that are left alone, and how often that began; `None`: it has no breaker.
    pub breaker: Option<(u64, u64)>,
    /// Further tries by cause, and those the budget had no room for; `None`: it has no retries.
    pub retries: Option<(Vec<(&'static str, u64)>, u64)>,
    /// Calls it answered in place of another; `None`: it is nobody's fallback.
    pub stood_in: Option<u64>,
}

/// How a store is.
#[derive(Clone, Copy, Debug)]
pub struct StoreReading {
    pub store: &'static str,
    /// It answered last.
    pub up: bool,
    /// Purges that it has not taken yet.
    pub purges_pending: usize,
}

type Read<T> = Arc<dyn Fn() -> T + Send + Sync>;

/// Where a reading comes from; empty until the app sets it.
pub(super) struct Source<T>(Mutex<Option<Read<T>>>);

impl<T> Default for Source<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> fmt::Debug for Source<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

impl<T: Default> Source<T> {
    pub(super) fn set(&self, read: impl Fn() -> T + Send + Sync + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(read));
    }

    pub(super) fn read(&self) -> T {
        // The lock is not held while foreign code runs.
        let read = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        read.map_or_else(T::default, |read| read())
    }
}

/// All sources.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) queues: Source<Vec<QueueReading>>,
    pub(super) caches: Source<Vec<(TierLabel, CacheReading)>>,
    pub(super) ledger: Source<LedgerReading>,
    pub(super) stores: Source<Vec<StoreReading>>,
    pub(super) upstreams: Source<Vec<UpstreamReading>>,
    pub(super) trace: Source<TraceReading>,
    pub(super) forecast: Source<ForecastReading>,
}

impl super::Metrics {
    /// Where the upstreams' readings come from; one per upstream.
    pub fn set_upstream_source(
        &self,
        read: impl Fn() -> Vec<UpstreamReading> + Send + Sync + 'static,
    ) {
        self.sources.upstreams.set(read);
    }
}

/// One sample: label values in the order of the family's names, and the value.
pub(super) type Sample<'a> = (&'a [&'a str], f64);

/// A family as the registry would have gathered it.
pub(super) fn family(of: &Family, samples: &[Sample<'_>]) -> MetricFamily {
    let samples = samples.iter().map(|(labels, value)| sample(of, labels, *value)).collect();
    described(of.name, of.help, matches!(of.kind, Kind::Counter), samples)
}

/// An unlabelled gauge whose name is not one of [`names`].
pub(super) fn gauge(name: &str, help: &str, value: f64) -> MetricFamily {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    described(name, help, false, vec![Metric::from_gauge(gauge)])
}

fn described(name: &str, help: &str, counter: bool, samples: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(if counter { MetricType::COUNTER } else { MetricType::GAUGE });
    family.set_metric(samples);
    family
}

/// Labels of `of` with these values, in the order of names that the registry uses, too.
pub(super) fn pairs(of: &Family, values: &[impl AsRef<str>]) -> Vec<LabelPair> {
    let pairs = of.labels.iter().zip(values).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value.as_ref().to_owned());
        pair
    });
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_by(|a, b| a.name().cmp(b.name()));
    pairs
}

fn sample(of: &Family, labels: &[&str], value: f64) -> Metric {
    let mut metric = Metric::from_label(pairs(of, labels));
    if matches!(of.kind, Kind::Counter) {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

/// The queue's families; `classes` are the names of the classes in force.
pub(super) fn queues(readings: &[QueueReading], classes: &[String]) -> Vec<MetricFamily> {
    let sum = |of: fn(&QueueReading) -> u64| readings.iter().map(of).sum::<u64>();
    let waiting = sum(|queue| queue.waiting.iter().map(|(_, waiting)| waiting).sum());
    let inflight = sum(|queue| queue.inflight);
    let oldest = readings.iter().map(|queue| queue.oldest).max().unwrap_or_default();
    let one = |of, value| family(of, &[(&[], value)]);
    let mut families = vec![
        one(&names::QUEUE_LENGTH_SUM, waiting as f64),
        one(&names::CONCURRENCY, (waiting + inflight) as f64),
        one(&names::INFLIGHT, inflight as f64),
        one(&names::QUEUE_OLDEST, oldest.as_secs_f64()),
        one(&names::QUEUE_TOKENS_SUM, sum(|queue| queue.queued_tokens) as f64),
        one(&names::CONCURRENCY_LIMIT, sum(|queue| queue.limit) as f64),
        one(&names::LIFTED, sum(|queue| queue.lifted) as f64),
        one(&names::PREEMPTED, sum(|queue| queue.preempted) as f64),
        one(&names::PERMITS_LEAKED, sum(|queue| queue.permits_leaked) as f64),
    ];
    let by_class: Vec<_> = classes
        .iter()
        .map(|class| {
            let of_all = readings.iter().flat_map(|queue| &queue.waiting);
            let of_class = of_all.filter(|(name, _)| **name == **class);
            let waiting: u64 = of_class.map(|(_, waiting)| waiting).sum();
            ([class.as_str()], waiting as f64)
        })
        .collect();
    let by_class: Vec<Sample<'_>> =
        by_class.iter().map(|(labels, value)| (&labels[..], *value)).collect();
    families.push(family(&names::QUEUE_LENGTH, &by_class));
    families
}

/// The cache's families; the tiers of this version are always there.
pub(super) fn caches(readings: &[(TierLabel, CacheReading)]) -> Vec<MetricFamily> {
    let held = |of: fn(&CacheHeld) -> u64| {
        let held = readings.iter().filter_map(|(_, tier)| tier.held.as_ref());
        held.map(of).sum::<u64>() as f64
    };
    let collisions: u64 = readings.iter().map(|(_, tier)| tier.lookups.collision).sum();
    let forgotten: u64 = readings.iter().map(|(_, tier)| tier.patterns_forgotten).sum();
    let mut lookups = Vec::new();
    for tier in TierLabel::ALL.iter().copied().filter(|tier| *tier != TierLabel::None) {
        let counts =
            readings.iter().find(|(of, _)| *of == tier).map(|(_, reading)| reading.lookups.clone());
        let counts = counts.unwrap_or_default();
        for (outcome, count) in [
            ("collision", counts.collision),
            ("error", counts.error),
            ("expired", counts.expired),
            ("foreign", counts.foreign),
            ("hit", counts.hit),
            ("locked", counts.locked),
            ("miss", counts.miss),
            ("oversized", counts.oversized),
            ("purged", counts.purged),
            ("skipped", counts.skipped),
            ("timeout", counts.timeout),
        ] {
            lookups.push(([tier.label(), outcome], count as f64));
        }
    }
    let lookups: Vec<Sample<'_>> =
        lookups.iter().map(|(labels, count)| (&labels[..], *count)).collect();
    let leases = |of: fn(&LeaseCounts) -> u64| {
        readings.iter().map(|(_, tier)| of(&tier.leases)).sum::<u64>() as f64
    };
    vec![
        family(
            &names::CACHE_LEASES,
            &[
                (&["fenced"], leases(|leases| leases.fenced)),
                (&["lost"], leases(|leases| leases.lost)),
                (&["taken"], leases(|leases| leases.taken)),
            ],
        ),
        family(
            &names::CACHE_LEASE_WAITS,
            &[
                (&["away"], leases(|leases| leases.away)),
                (&["found"], leases(|leases| leases.found)),
                (&["led"], leases(|leases| leases.led)),
                (&["timeout"], leases(|leases| leases.timeout)),
                (&["unshared"], leases(|leases| leases.unshared)),
            ],
        ),
        family(&names::CACHE_BYTES, &[(&[], held(|tier| tier.bytes))]),
        family(&names::CACHE_ENTRIES, &[(&[], held(|tier| tier.entries))]),
        family(
            &names::CACHE_EVICTIONS,
            &[
                (&["expired"], held(|tier| tier.evicted_expired)),
                (&["purged"], held(|tier| tier.evicted_purged)),
                (&["size"], held(|tier| tier.evicted_size)),
            ],
        ),
        family(&names::CACHE_COLLISIONS, &[(&[], collisions as f64)]),
        family(&names::CACHE_LOOKUPS, &lookups),
        family(&names::CACHE_PATTERNS_FORGOTTEN, &[(&[], forgotten as f64)]),
    ]
}

/// The ledger's families.
pub(super) fn ledger(reading: &LedgerReading) -> Vec<MetricFamily> {
    vec![
        family(&names::LEDGER_QUEUE, &[(&[], reading.queue_records as f64)]),
        family(&names::LEDGER_WAL, &[(&[], reading.wal_bytes as f64)]),
        family(&names::LEDGER_DROPPED, &[(&[], reading.dropped as f64)]),
    ]
}

/// The key trace's family.
pub(super) fn trace(reading: TraceReading) -> MetricFamily {
    let TraceReading { written, dropped } = reading;
    family(&names::CACHE_TRACE, &[(&["dropped"], dropped as f64), (&["written"], written as f64)])
}

/// The forecast's families.
pub(super) fn forecast(reading: &ForecastReading) -> Vec<MetricFamily> {
    let of = |name, value: fn(&Outlook) -> f64| {
        let values: Vec<_> = reading
            .outlooks
            .iter()
            .map(|outlook| (format!("{}s", outlook.horizon * 60), value(outlook)))
            .collect();
        let labels: Vec<_> =
            values.iter().map(|(label, value)| ([label.as_str()], *value)).collect();
        let samples: Vec<Sample<'_>> =
            labels.iter().map(|(labels, value)| (&labels[..], *value)).collect();
        family(name, &samples)
    };
    vec![
        of(&names::LOAD_FORECAST, |outlook| outlook.load),
        of(&names::FORECAST_ERROR, |outlook| outlook.error),
        of(&names::FORECAST_IN_FORCE, |outlook| f64::from(u8::from(outlook.in_force))),
        family(&names::FORECAST_EVENTS, &[(&[], reading.events as f64)]),
    ]
}

/// The stores' families; none where no store is configured.
pub(super) fn stores(readings: &[StoreReading]) -> Vec<MetricFamily> {
    if readings.is_empty() {
        return Vec::new();
    }
    let of = |value: fn(&StoreReading) -> f64, name| {
        let values: Vec<_> = readings.iter().map(|store| ([store.store], value(store))).collect();
        let samples: Vec<Sample<'_>> =
            values.iter().map(|(labels, value)| (&labels[..], *value)).collect();
        family(name, &samples)
    };
    vec![
        of(|store| store.purges_pending as f64, &names::PURGES_PENDING),
        of(|store| f64::from(u8::from(store.up)), &names::STORE_UP),
    ]
}

/// The upstreams' families; none of an upstream without a rule.
pub(super) fn upstreams(readings: &[UpstreamReading]) -> Vec<MetricFamily> {
    let mut tries = Vec::new();
    let (mut open, mut opened, mut over) = (Vec::new(), Vec::new(), Vec::new());
    let mut stood_in = Vec::new();
    for reading in readings {
        let name = reading.upstream.as_str();
        if let Some((endpoints, times)) = reading.breaker {
            open.push(([name], endpoints as f64));
            opened.push(([name], times as f64));
        }
        stood_in.extend(reading.stood_in.map(|calls| ([name], calls as f64)));
        if let Some((by_cause, over_budget)) = &reading.retries {
            tries.extend(by_cause.iter().map(|(cause, count)| ([name, *cause], *count as f64)));
            over.push(([name], *over_budget as f64));
        }
    }
    vec![
        labelled(&names::ENDPOINTS_OPEN, &open),
        labelled(&names::BREAKER_OPENED, &opened),
        labelled(&names::RETRIES, &tries),
        labelled(&names::RETRIES_OVER_BUDGET, &over),
        labelled(&names::FALLBACKS, &stood_in),
    ]
}

fn labelled<const N: usize>(of: &Family, values: &[([&str; N], f64)]) -> MetricFamily {
    let samples: Vec<Sample<'_>> =
        values.iter().map(|(labels, value)| (&labels[..], *value)).collect();
    family(of, &samples)
}
