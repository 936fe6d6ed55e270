//! The PostgreSQL tier: answers shared by a fleet, in a database that is there anyway.
//!
//! ```text
//!   look-up ── gate ── one statement: the value, and how far the purges are ── (not so far here? hear first) ── judge
//!   write ──── queue ── pack ── one statement for a batch
//!   purge ──── numbered in one statement, told by NOTIFY, and seen by every read
//! ```
//!
//! A database is slower than Redis and outlives everything: it is for answers that are worth more
//! than a millisecond, and for a fleet that has no Redis. As the *keeper* of the fleet's purges it is
//! the strictest of the stores: each read says in the same statement which purges there were, and
//! what it found is not given before these were heard. So a purge that was answered is in force for
//! every value of this store at once, whether or not its message arrived.
//!
//! Rows past their time are deleted in batches, by one instance at a time (`sweep`), and so is what
//! is beyond `size_max`: PostgreSQL itself forgets nothing.

mod site;
mod sql;
mod reads;
mod connect;
mod outages;
mod session;
mod sweep;
mod feed;

pub use feed::Feed;

use crate::{
    counters::TierCounters,
    entry::Entry,
    generations::{Generations, Subject},
    key::{CacheKey, Check},
    outer::{
        Limits, LinkState, Role, StoreTls, Values,
        gate::Gate,
        queue::{self, Packed, Queue, Queued, Write},
        unnumbered::Unnumbered,
    },
    tiers::Owed,
    versions::Versions,
    wrap::Wrapper,
};
use reads::Lines;
use site::Site;
use sql::Sql;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time,
};
use tokio_postgres::{
    error::{DbError, Error, SqlState},
    types::ToSql,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// Of one call on one connection: a look-up takes a fraction of a millisecond, and has ten.
const READS_IN_LINE_MAX: usize = 4;

/// How PostgreSQL is reached, and what may be spent on it.
#[derive(Clone)]
pub struct PostgresSettings {
    /// `postgres://[USER[:PASSWORD]@]HOST[:PORT][,…]/DATABASE[?sslmode=…]`; of several hosts the one
    /// that takes writes.
    pub url: String,
    /// Instead of the URL's.
    pub user: Option<String>,
    /// Instead of the URL's.
    pub password: Option<String>,
    pub tls: StoreTls,
    /// Of the tables. `None`: the first of the user's search path.
    pub schema: Option<String>,
    /// Entries, purges and versions of one namespace are shared, and no others.
    pub namespace: String,
    pub role: Role,
    /// Connections for reads; beside them one for writes and one for purges.
    pub connections: usize,
    /// Bytes of all entries in the schema; beyond it those go that would be gone soonest.
    pub size_max: u64,
    /// Between two looks for what is to be deleted.
    pub sweep_interval: Duration,
    pub limits: Limits,
}

/// What can be known to be wrong before PostgreSQL is asked.
#[derive(Debug, thiserror::Error)]
pub enum BadPostgres {
    #[error("not an address of postgresql; write postgres://user@host:port/database")]
    Scheme,
    #[error("not an address of postgresql; write postgres://user@host:port/database")]
    Url(#[source] Error),
    #[error("sslmode must be disable, require, verify-ca or verify-full; others go on without tls")]
    SslMode,
    #[error("the tls files for postgresql are of no use: {0}")]
    Tls(String),
}

/// Entries in a PostgreSQL.
#[derive(Debug)]
pub struct PostgresTier {
    store: Arc<Store>,
    queue: Queue,
}

/// What callers, the writer and the session share.
#[derive(Debug)]
struct Store {
    site: Site,
    sql: Sql,
    channel: String,
    namespace: String,
    role: Role,
    connections: usize,
    size_max: u64,
    sweep_interval: Duration,
    limits: Limits,
    values: Arc<Values>,
    versions: Arc<Versions>,
    unnumbered: Unnumbered,
    gate: Gate<Arc<Lines>>,
    /// A read has seen purges that were not heard yet.
    behind: Notify,
    /// Some were heard since.
    heard: watch::Sender<()>,
    /// The session of which it was told that the server refuses something.
    told: AtomicU64,
    /// The server refuses what only another, or one with its tables, would take.
    refused: Notify,
}

impl PostgresSettings {
    /// With 2 connections for reads, 1 GiB, a sweep every 30 s, and [`Limits::default`].
    pub fn new(url: impl Into<String>, namespace: impl Into<String>, role: Role) -> Self {
        Self {
            url: url.into(),
            user: None,
            password: None,
            tls: StoreTls::default(),
            schema: None,
            namespace: namespace.into(),
            role,
            connections: 2,
            size_max: 1 << 30,
            sweep_interval: Duration::from_secs(30),
            limits: Limits::default(),
        }
    }
}

/// Without the address, which may hold a password.
impl std::fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresSettings")
            .field("namespace", &self.namespace)
            .field("role", &self.role)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Store {
    fn new(
        settings: PostgresSettings,
        generations: Arc<Generations>,
        versions: Arc<Versions>,
    ) -> Result<Self, BadPostgres> {
        let schema = settings.schema.as_deref();
        let values = Arc::new(Values::new(&settings.limits, generations.clone()));
        Ok(Self {
            site: Site::new(&settings)?,
            sql: Sql::new(schema),
            channel: sql::channel(schema, &settings.namespace),
            unnumbered: Unnumbered::new(generations, values.counters.clone()),
            values,
            versions,
            namespace: settings.namespace,
            role: settings.role,
            connections: settings.connections.max(1),
            size_max: settings.size_max,
            sweep_interval: settings.sweep_interval,
            limits: settings.limits,
            gate: Gate::default(),
            behind: Notify::new(),
            heard: watch::Sender::new(()),
            told: AtomicU64::new(0),
            refused: Notify::new(),
        })
    }

    fn keeps(&self) -> bool {
        self.role == Role::Keeper
    }

    /// The way is left: its connection is lost, or (`is_late`) another answer did not come in time.
    fn leaves(&self, session: u64, is_late: bool) {
        let is_left = if is_late { self.gate.late(session) } else { self.gate.trip(session) };
        if is_left {
            self.values.counters.breaker_opened.add_one();
        }
    }

    /// What came of an error: a server that says no is there, and a connection that broke is not.
    fn failed(&self, session: u64, error: &Error) {
        match error.as_db_error() {
            None => self.leaves(session, false),
            Some(said) if is_of_the_server(said) => self.refused.notify_one(),
            Some(said) if self.told.swap(session, Ordering::Relaxed) == session => {
                tracing::debug!(%said, "postgresql refused a statement");
            }
            Some(said) => tracing::warn!(
                %said,
                "postgresql refuses a statement; see what its user may do, and how full its disk is"
            ),
        }
    }

    /// Until `stop`, and what is queued by then; `over` when that is written.
    async fn write_all(
        self: Arc<Self>,
        mut queued: Queued,
        stop: CancellationToken,
        over: DropGuard,
    ) {
        let mut wrapper = Wrapper::new(self.values.wrapping.clone());
        while let Some(mut batch) = queued.next(&stop).await {
            let packed;
            (wrapper, packed) = queue::pack(&self.values, wrapper, &mut batch).await;
            self.write(packed).await;
        }
        drop(over);
    }

    async fn write(&self, packed: Vec<Packed>) {
        let counters = &self.values.counters;
        let count = u64::try_from(packed.len()).unwrap_or(u64::MAX);
        let Some((session, lines)) = self.gate.pass() else {
            counters.dropped_down.add(count);
            return;
        };
        // No key twice, the newest of each; and in one order, or two instances' would wait for each
        // other.
        let rows: BTreeMap<[u8; 32], Packed> =
            packed.into_iter().map(|packed| (*packed.write.key.as_bytes(), packed)).collect();
        let (mut keys, mut values, mut ttls) = (Vec::new(), Vec::new(), Vec::new());
        for (key, row) in &rows {
            keys.push(key.as_slice());
            values.push(row.bytes.as_slice());
            ttls.push(i64::try_from(row.write.ttl_ms).unwrap_or(i64::MAX));
        }
        if keys.is_empty() {
            return;
        }
        let parameters: [&(dyn ToSql + Sync); 3] = [&keys, &values, &ttls];
        let written = lines.bulk.execute(&lines.write, &parameters);
        match time::timeout(self.limits.write_timeout, written).await {
            Ok(Ok(_rows)) => counters.stored.add(count),
            Ok(Err(error)) => {
                counters.dropped_down.add(count);
                self.failed(session, &error);
            }
            Err(_elapsed) => {
                counters.dropped_down.add(count);
                self.leaves(session, true);
            }
        }
    }
}

/// It became a standby, or its tables are gone: the next connection finds out.
fn is_of_the_server(said: &DbError) -> bool {
    let code = said.code();
    *code == SqlState::READ_ONLY_SQL_TRANSACTION || *code == SqlState::UNDEFINED_TABLE
}

impl PostgresTier {
    /// Starts the tier's tasks on `tasks`; they end with `stop`. Does not wait for PostgreSQL: the
    /// tier is down until it was reached.
    ///
    /// # Errors
    /// The address or the certificates are none.
    pub fn start(
        settings: PostgresSettings,
        generations: Arc<Generations>,
        versions: Arc<Versions>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, BadPostgres> {
        let limits = &settings.limits;
        let (queue, queued) = queue::queue(limits.queue_entries_max, limits.queue_bytes_max);
        let store = Arc::new(Store::new(settings, generations, versions)?);
        // The way stays open until the writer is done.
        let over = CancellationToken::new();
        tasks.spawn(session::keep(store.clone(), over.clone()));
        tasks.spawn(store.clone().write_all(queued, stop.clone(), over.drop_guard()));
        Ok(Self { store, queue })
    }

    /// The entry under `key`, if PostgreSQL has it, it may be given at `now_ms`, and it came in
    /// time.
    pub async fn look_up(&self, key: CacheKey, check: &Check, now_ms: u64) -> Option<Entry> {
        let value = self.store.read(key).await?;
        self.store.values.judge(key, check, value, now_ms).await
    }

    /// Puts `entry` on its way; PostgreSQL gives it for `ttl_ms`. Never waits. `owed` is paid when
    /// it is written or given up.
    pub fn store(&self, key: CacheKey, entry: Arc<Entry>, ttl_ms: u64, owed: Owed) {
        let most = u64::try_from(self.store.limits.value_bytes_max).unwrap_or(u64::MAX);
        let write = Write { key, entry, ttl_ms, owed };
        let is_up = || self.is_up();
        self.queue.offer(write, most.min(self.store.size_max), is_up, self.counters());
    }

    /// Of the keeper: has a purge numbered that was applied here ([`Subject::told`]), and everybody
    /// told. Whether it is; if not, it is kept until it can be.
    pub async fn purge(&self, subjects: &[Subject]) -> bool {
        let numbered = self.store.unnumbered.push_all(subjects);
        if !self.is_up() {
            return false;
        }
        matches!(time::timeout(self.store.limits.probe_timeout, numbered).await, Ok(Ok(())))
    }

    /// Listens to what others say there; `name` is the log's.
    pub fn feed(&self, name: &str, channel: &str) -> Feed {
        Feed::new(self.store.clone(), name.to_owned(), channel.to_owned())
    }

    /// As [`Self::purge`], and waits for nothing.
    pub(crate) fn begin_purge(&self, subjects: &[Subject]) {
        drop(self.store.unnumbered.push_all(subjects));
    }

    /// How many look-ups one call may have under way: a connection answers one after the other, and
    /// each of them is within its time only if those before it are quick.
    pub fn reads_at_once(&self) -> usize {
        READS_IN_LINE_MAX.saturating_mul(self.store.connections)
    }

    /// The longest that a caller waits.
    pub fn timeout(&self) -> Duration {
        self.store.limits.read_timeout
    }

    /// Whether PostgreSQL is asked at all.
    pub fn is_up(&self) -> bool {
        self.store.gate.is_open()
    }

    pub fn counters(&self) -> &Arc<TierCounters> {
        &self.store.values.counters
    }

    /// Bytes of entries waiting to be written.
    pub fn queued_bytes(&self) -> u64 {
        self.queue.bytes()
    }

    /// Purges that PostgreSQL has not got yet.
    pub fn purges_pending(&self) -> usize {
        self.store.unnumbered.len()
    }

    /// To wait for a change of [`Self::is_up`].
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.store.gate.state()
    }
}

#[cfg(test)]
mod stage;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
