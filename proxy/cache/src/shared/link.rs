//! The connection to Redis, and who is told when it is gone.
//!
//! ```text
//!   away ── connect, subscribe, push pending purges, read the whole table ──▶ up
//!   up ── a read fails or takes too long ──▶ suspect ── a probe answers ──▶ up
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
    counters::{LeaseCounters, TierCounters},
    generations::{Generations, Subject},
    versions::Versions,
    wrap::Wrapping,
};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{Notify, oneshot, watch};

/// Purges that wait for Redis; more become one purge of everything.
const PENDING_MAX: usize = 4096;

/// Whether the tier is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    Up,
    /// Not asked: away, or suspected to be.
    Down,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) names: Names,
    pub(super) settings: RedisSettings,
    pub(super) wrapping: Wrapping,
    pub(super) generations: Arc<Generations>,
    pub(super) counters: Arc<TierCounters>,
    pub(super) versions: Arc<Versions>,
    pub(super) site: Site,
    pub(super) leases: LeaseCounters,
    pub(super) waiters: Arc<Waiters>,
    up: RwLock<Option<Arc<Nodes>>>,
    sessions: AtomicU64,
    tickets: AtomicU64,
    turns: AtomicU64,
    state: watch::Sender<LinkState>,
    map_doubted: Notify,
    pending: Mutex<VecDeque<Pending>>,
    pending_came: Notify,
}

/// A purge that Redis has not numbered yet.
#[derive(Debug)]
struct Pending {
    subject: Subject,
    numbered: Option<oneshot::Sender<()>>,
}

impl Link {
    pub(super) fn new(
        settings: RedisSettings,
        generations: Arc<Generations>,
        versions: Arc<Versions>,
        counters: Arc<TierCounters>,
    ) -> Result<Self, BadRedis> {
        Ok(Self {
            names: Names::new(&settings.namespace),
            site: Site::new(&settings)?,
            wrapping: Wrapping {
                compress: settings.compress,
                seals: settings.seals.clone(),
                bytes_max: settings.value_bytes_max,
            },
            settings,
            generations,
            versions,
            counters,
            leases: LeaseCounters::default(),
            waiters: Arc::default(),
            up: RwLock::default(),
            sessions: AtomicU64::new(0),
            tickets: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            state: watch::Sender::new(LinkState::Down),
            map_doubted: Notify::new(),
            pending: Mutex::default(),
            pending_came: Notify::new(),
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
        self.counters.breaker_opened.add_one();
        let mut up = self.up.write().unwrap_or_else(PoisonError::into_inner);
        if up.as_ref().is_some_and(|nodes| Arc::ptr_eq(nodes.home(), &line.node)) {
            *up = None;
            self.state.send_replace(LinkState::Down);
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

    /// Puts a purge on its way. The receiver hears when Redis has numbered it.
    pub(super) fn push_purge(&self, subject: Subject) -> oneshot::Receiver<()> {
        let (numbered, heard) = oneshot::channel();
        let mut pending = self.pending();
        if pending.len() >= PENDING_MAX {
            // Nothing is lost: one purge of everything stands for all that waited.
            self.counters.pending_dropped.add_one();
            self.generations.await_number(Subject::ALL);
            for given_up in pending.drain(..) {
                self.generations.number_came(given_up.subject);
            }
            pending.push_back(Pending { subject: Subject::ALL, numbered: Some(numbered) });
        } else {
            self.generations.await_number(subject);
            pending.push_back(Pending { subject, numbered: Some(numbered) });
        }
        drop(pending);
        self.pending_came.notify_one();
        heard
    }

    pub(super) fn pending_len(&self) -> usize {
        self.pending().len()
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

    pub(super) async fn pending_came(&self) {
        self.pending_came.notified().await;
    }

    pub(super) fn oldest_pending(&self) -> Option<Subject> {
        self.pending().front().map(|pending| pending.subject)
    }

    /// Redis has numbered a purge of `subject`: the oldest waiting for that is done.
    pub(super) fn numbered(&self, subject: Subject) {
        let mut waiting = self.pending();
        let place = waiting.iter().position(|pending| pending.subject == subject);
        let done = place.and_then(|place| waiting.remove(place));
        drop(waiting);
        if done.is_some() {
            self.generations.number_came(subject);
        }
        if let Some(numbered) = done.and_then(|done| done.numbered) {
            // The asker may have gone; the purge is done all the same.
            let _gone = numbered.send(());
        }
    }

    fn pending(&self) -> MutexGuard<'_, VecDeque<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
