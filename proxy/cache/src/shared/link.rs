//! The connection to Redis, and who is told when it is gone.
//!
//! ```text
//!   away ── connect, subscribe, push pending purges, read the whole table ──▶ up
//!   up ── several answers in a row are late ──▶ suspect ── a probe answers ──▶ up
//!   up ── the connection breaks, a probe fails ──▶ away      suspect ── the probe fails ──▶ away
//! ```
//!
//! Callers look at one lock and see connections (up) or none (away, suspect): they never wait for a
//! reconnect, which is why this is not the crate's `ConnectionManager`. One task owns the way back
//! ([`super::session`]).

use super::{
    BadRedis, RedisSettings,
    fleet::Names,
    node::{Connections, Line, Nodes},
    site::Site,
    waiters::Waiters,
};
use crate::{
    clock::unix_ms,
    counters::LeaseCounters,
    generations::Generations,
    outer::{LinkState, Values, unnumbered::Unnumbered},
    vain::Vain,
    versions::Versions,
};
use redis::RedisError;
use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::{Notify, watch};

/// Codes by which a server says that it takes nothing that is new, for as long as something is so:
/// it is full, cannot write to its disk, or has too few replicas. What it has it gives.
const REFUSALS: [&str; 3] = ["OOM", "MISCONF", "NOREPLICAS"];
/// Of a Redis that refuses is told again after ten minutes: often enough for whoever looks at an
/// hour of a log, and no flood where it is full now and then.
const TOLD_AGAIN_MS: u64 = 10 * 60 * 1000;

#[derive(Debug)]
pub(super) struct Link {
    pub(super) names: Names,
    pub(super) settings: RedisSettings,
    pub(super) values: Arc<Values>,
    pub(super) unnumbered: Unnumbered,
    pub(super) versions: Arc<Versions>,
    pub(super) site: Site,
    pub(super) leases: LeaseCounters,
    pub(super) waiters: Arc<Waiters>,
    pub(super) vain: Vain,
    up: RwLock<Option<Arc<Nodes>>>,
    sessions: AtomicU64,
    tickets: AtomicU64,
    turns: AtomicU64,
    /// When it was last told that Redis takes nothing, Unix time.
    told_refusal_ms: AtomicU64,
    state: watch::Sender<LinkState>,
    map_doubted: Notify,
}

impl Link {
    pub(super) fn new(
        settings: RedisSettings,
        generations: Arc<Generations>,
        versions: Arc<Versions>,
    ) -> Result<Self, BadRedis> {
        let values = Arc::new(Values::wrapped(settings.wrapping(), generations.clone()));
        Ok(Self {
            names: Names::new(&settings.namespace),
            site: Site::new(&settings)?,
            unnumbered: Unnumbered::new(generations, values.counters.clone()),
            values,
            settings,
            versions,
            leases: LeaseCounters::default(),
            waiters: Arc::default(),
            vain: Vain::default(),
            up: RwLock::default(),
            sessions: AtomicU64::new(0),
            tickets: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            told_refusal_ms: AtomicU64::new(0),
            state: watch::Sender::new(LinkState::Down),
            map_doubted: Notify::new(),
        })
    }

    pub(super) fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Who serves what, if the tier is up. Never waits.
    pub(super) fn nodes(&self) -> Option<Arc<Nodes>> {
        self.up.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A connection for a small question about what `name` names.
    pub(super) fn quick(&self, name: &str) -> Option<Line> {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let nodes = self.nodes()?;
        let Some(node) = nodes.of(name.as_bytes()) else {
            self.doubt_map();
            return None;
        };
        node.quick(turn)
    }

    /// Opens the breaker of a node: nobody asks it until a probe has been answered. Home's is the
    /// tier's.
    pub(super) fn trip(&self, line: &Line) {
        if !line.node.trip(line) {
            return;
        }
        self.values.counters.breaker_opened.add_one();
        let mut up = self.up.write().unwrap_or_else(PoisonError::into_inner);
        if up.as_ref().is_some_and(|nodes| Arc::ptr_eq(nodes.home(), &line.node)) {
            *up = None;
            self.state.send_replace(LinkState::Down);
        }
    }

    /// As [`Self::trip`], if the line's node was late before, too.
    pub(super) fn late(&self, line: &Line) {
        if line.node.is_too_late(line) {
            self.trip(line);
        }
    }

    /// A name for connections that are about to be published.
    pub(super) fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Who serves what may have changed.
    pub(super) fn doubt_map(&self) {
        self.map_doubted.notify_one();
    }

    pub(super) async fn map_doubted(&self) {
        self.map_doubted.notified().await;
    }

    /// Closes the breaker: home was just heard through `connections`.
    pub(super) fn open(&self, nodes: &Arc<Nodes>, connections: &Connections) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        nodes.home().open(self.ticket(), connections);
        *self.up.write().unwrap_or_else(PoisonError::into_inner) = Some(nodes.clone());
        self.state.send_replace(LinkState::Up);
    }

    /// Has other nodes used from now on, if any are.
    pub(super) fn turn_to(&self, nodes: &Arc<Nodes>) {
        let mut up = self.up.write().unwrap_or_else(PoisonError::into_inner);
        if up.is_some() {
            *up = Some(nodes.clone());
        }
    }

    /// Takes the connections from everybody.
    pub(super) fn close(&self) {
        self.up.write().unwrap_or_else(PoisonError::into_inner).take();
        self.state.send_replace(LinkState::Down);
    }

    /// Whether Redis answers, and takes nothing at present: it stays up, to be read. Tells it, now
    /// and then.
    pub(super) fn takes_nothing(&self, error: &RedisError) -> bool {
        if !is_refusal(error) {
            return false;
        }
        let (now_ms, told_ms) = (unix_ms(), self.told_refusal_ms.load(Ordering::Relaxed));
        let order = Ordering::Relaxed;
        if now_ms.saturating_sub(told_ms) >= TOLD_AGAIN_MS
            && self.told_refusal_ms.compare_exchange(told_ms, now_ms, order, order).is_ok()
        {
            tracing::warn!(
                %error,
                purges_pending = self.unnumbered.len(),
                "redis takes nothing new, what it has is given; see its maxmemory, disk and replicas"
            );
        }
        true
    }

    /// How often the breaker was closed.
    pub(super) fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }
}

fn is_refusal(error: &RedisError) -> bool {
    if error.code().is_some_and(|code| REFUSALS.contains(&code)) {
        return true;
    }
    // Before Redis 7 a script's error has what it ran into in its text.
    let text = error.detail().unwrap_or_default();
    REFUSALS.iter().any(|code| text.contains(&format!("-{code} ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: bool) {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes());
        let error = value.and_then(redis::Value::extract_error).unwrap_err();
        assert_eq!(is_refusal(&error), expected, "{line}");
    }

    #[test]
    fn a_server_that_takes_nothing_is_told_from_one_that_is_wrong() {
        check("OOM command not allowed when used memory > 'maxmemory'.", true);
        check("MISCONF Redis is configured to save RDB snapshots, but it cannot", true);
        check("NOREPLICAS Not enough good replicas to write.", true);
        check(
            "ERR Error running script (call to f_1): @user_script:2: @user_script: 2: -OOM command \
             not allowed when used memory > 'maxmemory'.",
            true,
        );
        check("READONLY You can't write against a read only replica.", false);
        check("WRONGTYPE Operation against a key holding the wrong kind of value", false);
        check("NOPERM this user has no permissions to run the 'hset' command", false);
    }
}
