//! The Memcached tier: answers shared by a fleet, on servers that know nothing of each other.
//!
//! A key lives on one server, which its digest chooses (`place`). Each server has a gate of its
//! own: one that is dead costs its share of the keys and nothing else. What a caller waits for is
//! one read time-out, once, as with every store ([`crate::outer`]).
//!
//! As the *keeper* of the fleet's purges memcached is the weakest of the stores: it tells nobody of
//! anything. The table of purges is one value on one server (`table`); whoever purges replaces
//! it, and the others look at its number once in each `probe_interval`. If it is lost (restart,
//! flush, eviction), a new epoch begins, and everything older is void.
//!
//! Values larger than the server's items (1 MiB unless it was started with `-I`) are not written:
//! several items for one answer would be evicted one by one, and an answer of which a part is
//! missing has cost a read for nothing.

mod wire;
mod line;
mod place;
mod table;
mod server;

pub use line::Address;
pub(crate) use table::SUBJECTS_MAX;

use crate::{
    counters::TierCounters,
    entry::Entry,
    generations::{Generations, Subject},
    key::{CacheKey, Check},
    outer::{
        Limits, LinkState, Role, Values,
        queue::{self, Packed, Queue, Queued, Write},
        unnumbered::Unnumbered,
    },
    tiers::Owed,
    wrap::Wrapper,
};
use bytes::Bytes;
use place::Places;
use server::Server;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use wire::Answer;

/// Memcached takes a larger number of seconds for a date.
const TTL_S_MAX: u64 = 30 * 24 * 3600;

/// What a key may be with memcached, less the digest and what we put around it.
const NAMESPACE_BYTES_MAX: usize = 128;

/// How memcached is reached, and what may be spent on it.
#[derive(Clone, Debug)]
pub struct MemcachedSettings {
    /// One or more.
    pub servers: Vec<Address>,
    /// Entries and purges of one namespace are shared, and no others.
    pub namespace: String,
    pub role: Role,
    pub limits: Limits,
}

/// Entries in one or more memcached.
#[derive(Debug)]
pub struct MemcachedTier {
    cluster: Arc<Cluster>,
    queue: Queue,
}

/// All servers, and what they share.
#[derive(Debug)]
struct Cluster {
    names: Names,
    limits: Limits,
    values: Arc<Values>,
    unnumbered: Unnumbered,
    places: Places,
    servers: Box<[Server]>,
    /// Up while every server is: so that an operator sees when a share of the keys is missed.
    state: watch::Sender<LinkState>,
}

/// The keys of one namespace.
#[derive(Debug)]
struct Names {
    namespace: Box<str>,
    entries: String,
    table: String,
}

impl MemcachedSettings {
    /// As the keeper, with [`Limits::default`].
    pub fn new(servers: Vec<Address>, namespace: impl Into<String>) -> Self {
        Self { servers, namespace: namespace.into(), role: Role::Keeper, limits: Limits::default() }
    }
}

impl Names {
    fn new(namespace: &str) -> Self {
        let fits = namespace.len() <= NAMESPACE_BYTES_MAX
            && namespace.bytes().all(|byte| byte.is_ascii_graphic());
        let name = match fits {
            true => namespace.to_owned(),
            false => blake3::hash(namespace.as_bytes()).to_hex().to_string(),
        };
        Self {
            namespace: namespace.into(),
            entries: format!("tollgate:{name}:e:"),
            table: format!("tollgate:{name}:purges"),
        }
    }

    fn entry(&self, key: CacheKey) -> String {
        format!("{}{}", self.entries, key.to_hex())
    }
}

impl Cluster {
    fn server_of(&self, key: CacheKey) -> Option<&Server> {
        self.servers.get(self.places.of(key.as_bytes()))
    }

    /// Says whether all servers are up. Called after each change.
    fn tell_state(&self) {
        self.state.send_if_modified(|state| {
            let all = self.servers.iter().all(|server| server.gate.is_open());
            let now = if all { LinkState::Up } else { LinkState::Down };
            std::mem::replace(state, now) != now
        });
    }

    /// `was_shut`: by this call.
    fn counts(&self, was_shut: bool) {
        if was_shut {
            self.values.counters.breaker_opened.add_one();
            self.tell_state();
        }
    }

    async fn read(&self, key: CacheKey) -> Option<Bytes> {
        let counters = &self.values.counters;
        let server = self.server_of(key)?;
        let Some((session, lines)) = server.gate.pass() else {
            counters.skipped.add_one();
            return None;
        };
        let asked = lines.quick().ask(wire::get(&self.names.entry(key)));
        let answer = time::timeout(self.limits.read_timeout, asked).await;
        if let Ok(Ok(_)) = answer {
            server.gate.in_time();
        }
        match answer {
            Ok(Ok(Answer::Value { bytes, .. })) => return Some(bytes),
            Ok(Ok(Answer::Missing)) => counters.misses.add_one(),
            Ok(Ok(Answer::Oversized)) => counters.oversized.add_one(),
            Ok(Ok(
                Answer::Done { .. } | Answer::NotStored | Answer::Alive | Answer::Refused(_),
            )) => counters.errors.add_one(),
            Ok(Err(_lost)) => {
                counters.errors.add_one();
                self.counts(server.gate.trip(session));
            }
            Err(_elapsed) => {
                counters.timeouts.add_one();
                self.counts(server.gate.late(session));
            }
        }
        None
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

    fn unwritten(&self, server: &Server, session: u64, is_late: bool) {
        self.values.counters.dropped_down.add_one();
        let gate = &server.gate;
        self.counts(if is_late { gate.late(session) } else { gate.trip(session) });
    }

    /// All are sent before the first is waited for, so that a batch is one round trip to each
    /// server.
    async fn write(&self, packed: Vec<Packed>) {
        let counters = &self.values.counters;
        let until = Instant::now() + self.limits.write_timeout;
        let mut sent = Vec::with_capacity(packed.len());
        for value in packed {
            let way = self.server_of(value.write.key);
            let Some((server, (session, lines))) =
                way.and_then(|server| Some((server, server.gate.pass()?)))
            else {
                counters.dropped_down.add_one();
                continue;
            };
            if value.bytes.len() > lines.value_bytes_max {
                counters.dropped_large.add_one();
                continue;
            }
            // Rounded up: whether it may still be given, the entry says itself.
            let ttl_s = value.write.ttl_ms.div_ceil(1000).min(TTL_S_MAX);
            let name = self.names.entry(value.write.key);
            let command = wire::set(&name, &value.bytes, ttl_s);
            match time::timeout_at(until, lines.bulk.send(command)).await {
                Ok(Ok(answer)) => sent.push((server, session, answer)),
                failed => self.unwritten(server, session, failed.is_err()),
            }
        }
        // All of them wait at once: however many come late from one server, it was late once.
        let mut late: Vec<&Server> = Vec::new();
        for (server, session, answer) in sent {
            match time::timeout_at(until, answer).await {
                Ok(Ok(Answer::Done { .. })) => counters.stored.add_one(),
                Ok(Ok(Answer::Refused(why))) if why.contains("too large") => {
                    counters.dropped_large.add_one();
                }
                Ok(Ok(answer)) => {
                    counters.dropped_down.add_one();
                    tracing::debug!(?answer, "memcached refused a write");
                }
                Ok(Err(_)) => self.unwritten(server, session, false),
                Err(_elapsed) if late.iter().any(|known| std::ptr::eq(*known, server)) => {
                    counters.dropped_down.add_one();
                }
                Err(_elapsed) => {
                    late.push(server);
                    self.unwritten(server, session, true);
                }
            }
        }
    }
}

impl MemcachedTier {
    /// Starts the tier's tasks on `tasks`; they end with `stop`. Does not wait for any server: the
    /// tier is down until all were reached.
    pub fn start(
        settings: MemcachedSettings,
        generations: Arc<Generations>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let MemcachedSettings { servers, namespace, role, limits } = settings;
        let (queue, queued) = queue::queue(limits.queue_entries_max, limits.queue_bytes_max);
        let names = Names::new(&namespace);
        let values = Arc::new(Values::new(&limits, generations.clone()));
        let places = Places::new(&servers);
        let home = places.of(blake3::hash(names.table.as_bytes()).as_bytes());
        let cluster = Arc::new(Cluster {
            unnumbered: Unnumbered::new(generations, values.counters.clone()),
            places,
            servers: servers.into_iter().map(Server::new).collect(),
            state: watch::Sender::new(LinkState::Down),
            names,
            limits,
            values,
        });
        // The ways stay open until the writer is done.
        let over = CancellationToken::new();
        for place in 0..cluster.servers.len() {
            let keeps = role == Role::Keeper && place == home;
            tasks.spawn(server::keep(cluster.clone(), place, keeps, over.clone()));
        }
        tasks.spawn(cluster.clone().write_all(queued, stop.clone(), over.drop_guard()));
        Self { cluster, queue }
    }

    /// The entry under `key`, if its server has it, it may be given at `now_ms`, and it came in
    /// time.
    pub async fn look_up(&self, key: CacheKey, check: &Check, now_ms: u64) -> Option<Entry> {
        let value = self.cluster.read(key).await?;
        self.cluster.values.judge(key, check, value, now_ms).await
    }

    /// Puts `entry` on its way; memcached forgets it after `ttl_ms`, 30 days at most. Never waits.
    /// `owed` is paid when it is written or given up.
    pub fn store(&self, key: CacheKey, entry: Arc<Entry>, ttl_ms: u64, owed: Owed) {
        let most = u64::try_from(self.cluster.limits.value_bytes_max).unwrap_or(u64::MAX);
        let is_up = || self.cluster.server_of(key).is_some_and(|server| server.gate.is_open());
        self.queue.offer(Write { key, entry, ttl_ms, owed }, most, is_up, self.counters());
    }

    /// Of the keeper: writes a purge that was applied here ([`Subject::told`]) where everybody looks.
    /// Whether it is written; if not, it is kept until it can be. The others see it within their
    /// `probe_interval`.
    pub async fn purge(&self, subjects: &[Subject]) -> bool {
        let numbered = self.cluster.unnumbered.push_all(subjects);
        matches!(time::timeout(self.cluster.limits.probe_timeout, numbered).await, Ok(Ok(())))
    }

    /// As [`Self::purge`], and waits for nothing.
    pub(crate) fn begin_purge(&self, subjects: &[Subject]) {
        drop(self.cluster.unnumbered.push_all(subjects));
    }

    /// The longest that a caller waits.
    pub fn timeout(&self) -> Duration {
        self.cluster.limits.read_timeout
    }

    /// Whether every server is asked.
    pub fn is_up(&self) -> bool {
        *self.cluster.state.borrow() == LinkState::Up
    }

    /// To wait for a change of [`Self::is_up`].
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.cluster.state.subscribe()
    }

    pub fn counters(&self) -> &Arc<TierCounters> {
        &self.cluster.values.counters
    }

    /// Bytes of entries waiting to be written.
    pub fn queued_bytes(&self) -> u64 {
        self.queue.bytes()
    }

    /// Purges that memcached has not got yet.
    pub fn purges_pending(&self) -> usize {
        self.cluster.unnumbered.len()
    }
}

#[cfg(test)]
mod stage;
#[cfg(test)]
mod tests;
