//! Starts everything in the right order, and ends it in the other.
//!
//! Sockets are bound before anything runs, so that a port that is taken is an error of
//! the start and not of the first call.

use super::{CacheParts, Parts, Snapshot, SnapshotError};
use crate::{
    admin::AdminParts,
    aside::{self, Socket},
    events::{self, Events},
    forecast::{self, Forecasts},
    listener::{self, Listener, TlsError},
    meter::{Meter, unix_ms},
    metrics::{
        CacheHeld, CacheReading, LedgerReading, LookupCounts, Metrics, MetricsError, QueueReading,
        StoreReading, TierLabel, TraceReading,
    },
    shutdown::Shutdown,
    telemetry,
    warm::{self, Warming},
};
use arc_swap::ArcSwap;
use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::TcpListener,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tollgate_cache::{
    counters::TierCounters,
    disk::DiskTier,
    flight::Flights,
    generations::Generations,
    journal::{Journal, WaitingPurges},
    memo::RawMemo,
    memory::MemoryTier,
    tiers::{Outer, TierName, Tiers},
    versions::Versions,
};
use tollgate_config::{AdminAddress, Config};
use tollgate_core::price::PriceBook;
use tollgate_ledger::{Ledger, LedgerError};

/// Bodies that are remembered: some 200 bytes each, so about 3 MiB at the most.
const BODIES_REMEMBERED_MAX: usize = 16_384;

/// The longest answer that is stored. Model answers are kilobytes; embeddings of a full
/// batch are a few megabytes.
const ENTRY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long the end waits for what is queued for the stores: one write of a store that answers, and
/// no more for one that does not.
const WRITERS_WAIT: Duration = Duration::from_secs(2);

/// Why Tollgate could not start. The one who started it can mend most of these.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{what} {address} cannot be listened on; choose another address or stop what has it")]
    Bind { what: &'static str, address: String, source: io::Error },
    #[error("listeners[].tls: {0}")]
    Tls(String),
    #[error("{0}")]
    Snapshot(String),
    #[error("{0}")]
    Prices(String),
    #[error("data_dir: the ledger cannot be opened")]
    Ledger(#[source] LedgerError),
    #[error("cache.disk: {} cannot be used; see that it is a directory we may write to", .0.display())]
    Disk(PathBuf, #[source] io::Error),
    #[error(
        "cache.trace: data_dir/trace cannot be written; see that we may, or leave cache.trace out"
    )]
    Trace(#[source] io::Error),
    #[error("stores.redis: {0}")]
    Redis(String),
    #[error("stores.postgres: {0}")]
    Postgres(String),
    #[error("cache.{store}.encryption: {key} has no key")]
    CacheKey { store: &'static str, key: String },
    #[error("metrics: {0}")]
    Metrics(#[from] MetricsError),
}

/// A running Tollgate.
#[derive(Clone, Debug)]
pub struct App {
    pub(crate) parts: Arc<Parts>,
    addresses: Arc<Addresses>,
}

/// Where it listens, with the ports that the system chose.
#[derive(Debug)]
pub struct Addresses {
    pub listeners: Vec<SocketAddr>,
    /// `None`: a socket in the file system.
    pub admin: Option<SocketAddr>,
    pub metrics: SocketAddr,
}

impl App {
    /// Binds, opens the ledger and serves.
    ///
    /// # Errors
    /// The first thing that stands in the way, with what to do about it.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let sockets = Sockets::bind(&config).await?;
        let addresses = Arc::new(sockets.addresses());
        let parts = Arc::new(parts(config).await?);
        report(&parts);
        super::resilience::report(&parts);
        sockets.serve(&parts);
        super::sweep::begin(&parts);
        super::epoch::poll(&parts);
        warm::begin_by_itself(&parts);
        events::begin(&parts);
        forecast::begin(&parts);
        Ok(Self { parts, addresses })
    }

    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The metrics, in the classic text format.
    pub fn metrics_text(&self) -> String {
        self.parts.metrics.render(None).1
    }

    /// Everything that was recorded is in the database when this returns.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn flush_ledger(&self) -> Result<(), LedgerError> {
        let meter = self.parts.meter.clone();
        blocking(move || meter.ledger.flush()).await
    }

    /// When an administrator asks for the drain over HTTP; whoever serves then drains.
    pub async fn drain_asked(&self) {
        self.parts.admin.drain_asked.cancelled().await;
    }

    /// Goes down in order, and says how many connections were cut.
    pub async fn drain(&self) -> usize {
        let drain = self.parts.snapshot.load().config.drain.clone();
        self.drain_within(drain.quiet, drain.deadline).await
    }

    pub async fn drain_within(&self, quiet: Duration, deadline: Duration) -> usize {
        let parts = &self.parts;
        let cut = parts.shutdown.drain(&parts.connections, quiet, deadline).await;
        parts.connections.wait().await;
        let calls = parts.meter.cut_calls.load(Ordering::Relaxed);
        if calls > 0 {
            tracing::warn!(calls, "calls were cut at drain.deadline; they are booked as draining");
        }
        warm::note_hot_set(parts).await;
        let meter = parts.meter.clone();
        if let Err(error) = blocking(move || meter.ledger.shutdown()).await {
            // The records are in the mapping all the same: the next start stores them.
            tracing::error!(%error, "the ledger could not be flushed");
        }
        let last = parts.clone();
        let ended = move || last.cache.traces.end();
        tokio::task::spawn_blocking(ended).await.unwrap_or_default();
        let before = super::stores::dropped(&parts.cache.tiers);
        parts.shutdown.over.cancel();
        // What was answered last is on its way to the stores.
        parts.cache.writers.close();
        timeout(WRITERS_WAIT, parts.cache.writers.wait()).await.unwrap_or_default();
        for left in super::stores::unwritten(&parts.cache.tiers, &before) {
            left.tell();
        }
        cut
    }
}

async fn blocking(
    work: impl FnOnce() -> Result<(), LedgerError> + Send + 'static,
) -> Result<(), LedgerError> {
    // A panic in there has been reported by the hook; the process goes down anyway.
    tokio::task::spawn_blocking(work).await.unwrap_or(Ok(()))
}

/// What is bound and not served yet.
struct Sockets {
    listeners: Vec<(TcpListener, Listener)>,
    admin: Socket,
    metrics: TcpListener,
}

impl Sockets {
    async fn bind(config: &Config) -> Result<Self, StartError> {
        let mut listeners = Vec::new();
        for (place, listener) in config.listeners.iter().enumerate() {
            let tls = listener.tls.as_ref().map(listener::acceptor).transpose();
            let rules = Listener {
                place,
                tls: tls.map_err(|error: TlsError| StartError::Tls(with_causes(&error)))?,
                limits: listener.limits.clone(),
                open: Arc::default(),
            };
            listeners.push((bind("listener", listener.address).await?, rules));
        }
        let admin = match &config.admin.address {
            AdminAddress::Tcp(address) => Socket::Tcp(bind("admin", *address).await?),
            AdminAddress::Unix(path) => aside::bind_unix(path).map_err(|source| {
                let address = path.display().to_string();
                StartError::Bind { what: "admin", address, source }
            })?,
        };
        let metrics = bind("telemetry.metrics", config.metrics.address).await?;
        Ok(Self { listeners, admin, metrics })
    }

    fn addresses(&self) -> Addresses {
        let of = |socket: &TcpListener| {
            socket.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)))
        };
        Addresses {
            listeners: self.listeners.iter().map(|(socket, _)| of(socket)).collect(),
            admin: match &self.admin {
                Socket::Tcp(socket) => Some(of(socket)),
                Socket::Unix(_) => None,
            },
            metrics: of(&self.metrics),
        }
    }

    fn serve(self, parts: &Arc<Parts>) {
        for (socket, rules) in self.listeners {
            parts.tasks.spawn(listener::serve(socket, rules, parts.clone()));
        }
        let over = parts.shutdown.over.clone();
        let telemetry = {
            let parts = parts.clone();
            move |_, request| telemetry::answer(parts.clone(), request)
        };
        let tasks = parts.tasks.clone();
        parts.tasks.spawn(aside::serve(Socket::Tcp(self.metrics), tasks, over.clone(), telemetry));
        let admin = {
            let parts = parts.clone();
            move |from, request| crate::admin::answer(parts.clone(), from, request)
        };
        parts.tasks.spawn(aside::serve(self.admin, parts.tasks.clone(), over, admin));
    }
}

async fn bind(what: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Bind {
        what,
        address: address.to_string(),
        source,
    })
}

/// Everything but the sockets.
pub(crate) async fn parts(config: Arc<Config>) -> Result<Parts, StartError> {
    let dir: PathBuf = config.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || {
        fs::create_dir_all(&dir).ok();
        Ledger::open(&dir, tollgate_ledger::Options::default())
    });
    let ledger = opened
        .await
        .unwrap_or_else(|error| Err(LedgerError::Thread(error.into())))
        .map_err(StartError::Ledger)?;
    let prices = ArcSwap::from_pointee(prices(&config)?);
    let shutdown = Shutdown::default();
    let (cut, cut_calls) = (shutdown.cut.clone(), AtomicU64::new(0));
    let meter = Arc::new(Meter { ledger, prices, cut, cut_calls });
    let metrics = Arc::new(Metrics::new(Instant::now())?);
    let tasks = TaskTracker::new();
    let snapshot = Snapshot::new(config.clone(), &meter, &metrics, &tasks, None)
        .map_err(|error: SnapshotError| StartError::Snapshot(with_causes(&error)))?;
    Ok(Parts {
        snapshot: ArcSwap::from_pointee(snapshot),
        meter,
        metrics,
        cache: cache_parts(&config, &shutdown.over)?,
        flights: Flights::default(),
        warming: Warming::new(config.cache.warm.concurrency),
        events: Events::new(&config.cache.events),
        forecasts: Forecasts::new(&config.forecast, &config.data_dir),
        shutdown,
        admin: AdminParts::default(),
        reloading: Mutex::default(),
        held: Arc::new(AtomicU64::new(0)),
        connections: TaskTracker::new(),
        tasks,
        started_ms: unix_ms(),
    })
}

/// The price book that a configuration asks for.
pub(super) fn prices(config: &Config) -> Result<PriceBook, StartError> {
    let mut book = if config.prices.builtin { PriceBook::builtin() } else { PriceBook::default() };
    for file in &config.prices.files {
        let path = file.display().to_string();
        let text = fs::read_to_string(file)
            .map_err(|error| StartError::Prices(format!("{path}: {error}")))?;
        match book.with_csv(&path, &text) {
            Ok(odd) => {
                for problem in odd {
                    tracing::warn!(%problem, "a price may not be what was meant");
                }
            }
            Err(problems) => {
                let what: Vec<String> = problems.iter().map(ToString::to_string).collect();
                return Err(StartError::Prices(what.join("; ")));
            }
        }
    }
    Ok(book)
}

fn cache_parts(config: &Config, stop: &CancellationToken) -> Result<CacheParts, StartError> {
    let tasks = TaskTracker::new();
    let generations = Arc::new(Generations::default());
    let versions = Arc::new(Versions::default());
    let (bytes_max, policy) = (config.cache.memory_bytes_max, crate::cache::policy_of(config));
    let memory = MemoryTier::with_policy(bytes_max, policy);
    let traces = crate::cache::Traces::default();
    traces.begin(config, &memory).map_err(StartError::Trace)?;
    let mut outer = super::stores::start(config, &generations, &versions, &tasks, stop)?;
    let mut journal = None;
    if let Some(disk) = &config.cache.disk {
        let dir = config.data_dir.join("cache");
        if outer.is_empty() {
            let opened = Journal::open(&dir, generations.clone());
            journal = Some(opened.map_err(|error| StartError::Disk(dir.clone(), error))?);
        }
        let settings = super::stores::disk(disk, &dir)?;
        let (known, now_ms) = (versions.clone(), crate::cache::now_ms());
        let tier = DiskTier::start(settings, generations.clone(), known, now_ms, &tasks, stop);
        outer.push(Outer::Disk(tier.map_err(|error| StartError::Disk(dir, error))?));
    }
    let tiers = Tiers::new(memory, outer, generations, versions.clone());
    let keeps = tiers.all_outer().iter().any(|outer| outer.name() != TierName::Disk);
    let waiting = keeps.then(|| waiting_purges(&config.data_dir)).flatten();
    Ok(CacheParts {
        tiers: tiers.with_journal(journal).with_waiting(waiting),
        versions,
        namespace: super::redis::namespace(config).into(),
        writers: tasks,
        memo: RawMemo::new(BODIES_REMEMBERED_MAX),
        votes: crate::cache::Votes::default(),
        joins: Arc::default(),
        pauses: crate::exchange::Pauses::default(),
        neighbours: crate::cache::Neighbours::default(),
        urls: tollgate_cache::urls::Urls::default(),
        alone: tollgate_cache::vain::Vain::default(),
        traces,
        entry_bytes_max: ENTRY_BYTES_MAX,
    })
}

/// Purges that wait for a store that is away. Without them the process runs all the same.
fn waiting_purges(data_dir: &Path) -> Option<WaitingPurges> {
    let dir = data_dir.join("purges-waiting");
    WaitingPurges::open(&dir)
        .inspect_err(|error| {
            let dir = dir.display();
            tracing::warn!(%error, %dir, "purges that wait for a store would be lost with the process");
        })
        .ok()
}

/// Tells the metrics where to look when somebody scrapes.
fn report(parts: &Arc<Parts>) {
    let queues = Arc::downgrade(parts);
    parts.metrics.set_queue_source(move || {
        let Some(parts) = queues.upgrade() else { return Vec::new() };
        parts.snapshot.load().destinations.iter().map(|to| queue_reading(to)).collect()
    });
    let caches = Arc::downgrade(parts);
    parts.metrics.set_cache_source(move || {
        let Some(parts) = caches.upgrade() else { return Vec::new() };
        cache_readings(&parts.cache.tiers)
    });
    let ledger = Arc::downgrade(parts);
    parts.metrics.set_ledger_source(move || {
        let stats = ledger.upgrade().map(|parts| parts.meter.ledger.stats()).unwrap_or_default();
        LedgerReading {
            queue_records: stats.queue_records,
            wal_bytes: stats.wal_bytes,
            dropped: stats.dropped,
        }
    });
    let traces = Arc::downgrade(parts);
    parts.metrics.set_trace_source(move || {
        let Some(parts) = traces.upgrade() else { return TraceReading::default() };
        let counters = parts.cache.traces.counters();
        let (written, dropped) = (counters.written.value(), counters.dropped.value());
        TraceReading { written, dropped }
    });
    let forecasts = Arc::downgrade(parts);
    parts.metrics.set_forecast_source(move || {
        forecasts.upgrade().map(|parts| forecast::reading(&parts)).unwrap_or_default()
    });
    let stores = Arc::downgrade(parts);
    parts.metrics.set_store_source(move || {
        let Some(parts) = stores.upgrade() else { return Vec::new() };
        let outer = parts.cache.tiers.all_outer().iter();
        outer
            .map(|outer| StoreReading {
                store: outer.name().as_str(),
                up: outer.is_up(),
                purges_pending: outer.purges_pending(),
            })
            .collect()
    });
}

fn queue_reading(to: &super::Destination) -> QueueReading {
    let seen = to.admission.snapshot();
    let waiting = seen
        .by_class()
        .map(|(class, counts)| (class.clone(), u64::try_from(counts.waiting).unwrap_or(u64::MAX)));
    QueueReading {
        waiting: waiting.collect(),
        inflight: seen.inflight,
        oldest: seen.oldest_wait.unwrap_or_default(),
        limit: seen.limit.map_or(0, |limit| u64::from(limit.get())),
        queued_tokens: seen.queued_tokens,
        permits_leaked: seen.leaked,
        lifted: seen.lifted,
        preempted: seen.preempted,
    }
}

fn cache_readings(tiers: &Tiers) -> Vec<(TierLabel, CacheReading)> {
    let counts = |counters: &TierCounters| LookupCounts {
        hit: counters.hits.value(),
        miss: counters.misses.value(),
        expired: counters.expired.value(),
        purged: counters.purged.value(),
        collision: counters.collisions.value(),
        foreign: counters.foreign.value(),
        oversized: counters.oversized.value(),
        locked: counters.locked.value(),
        error: counters.errors.value(),
        timeout: counters.timeouts.value(),
        skipped: counters.skipped.value(),
    };
    let memory = tiers.memory();
    let counters = memory.counters();
    let held = CacheHeld {
        bytes: memory.bytes(),
        entries: u64::try_from(memory.entries()).unwrap_or(u64::MAX),
        evicted_size: counters.evicted_for_room.value(),
        evicted_expired: counters.evicted_expired.value(),
        evicted_purged: counters.evicted_purged.value(),
    };
    let lookups = counts(counters);
    let patterns_forgotten = tiers.patterns_forgotten();
    let reading =
        CacheReading { held: Some(held), lookups, patterns_forgotten, ..CacheReading::default() };
    let outer = tiers.all_outer().iter().map(|outer| {
        let leases = super::redis::leases(outer);
        let lookups = counts(outer.counters());
        let reading = CacheReading { lookups, leases, ..CacheReading::default() };
        (crate::cache::label(outer.name()), reading)
    });
    [(TierLabel::Memory, reading)].into_iter().chain(outer).collect()
}

pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
