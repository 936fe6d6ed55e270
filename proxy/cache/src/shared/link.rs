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
    vain::Vain,
    waiters::Waiters,
};
use crate::{
    counters::LeaseCounters,
    generations::Generations,
    outer::{LinkState, Values, unnumbered::Unnumbered},
    versions::Versions,
};
use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::{Notify, watch};

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

    /// How often the breaker was closed.
    pub(super) fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }
}
