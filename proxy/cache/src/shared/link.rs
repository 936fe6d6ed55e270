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

use super::{BadRedis, RedisSettings, fleet::Names, site::Site};
use crate::{
    counters::TierCounters,
    generations::{Generations, Subject},
    versions::Versions,
    wrap::Wrapping,
};
use redis::aio::MultiplexedConnection;
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

/// Two connections for what must be quick, one for values on their way out: a connection
/// answers in order, and a megabyte in front of a small question is ten milliseconds.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    /// Distinguishes a failure of now from one of before the last reconnect.
    pub(super) session: u64,
    pub(super) quick: [MultiplexedConnection; 2],
    pub(super) bulk: MultiplexedConnection,
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
    up: RwLock<Option<Connections>>,
    sessions: AtomicU64,
    turns: AtomicU64,
    state: watch::Sender<LinkState>,
    tripped: Notify,
    pending: Mutex<VecDeque<Pending>>,
    pending_came: Notify,
}

/// A purge that Redis has not numbered yet.
#[derive(Debug)]
struct Pending {
    subject: Subject,
    numbered: Option<oneshot::Sender<()>>,
}

impl Connections {
    /// The two take turns.
    fn quick(&self, turn: u64) -> MultiplexedConnection {
        let [even, odd] = &self.quick;
        if turn.is_multiple_of(2) { even.clone() } else { odd.clone() }
    }
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
            up: RwLock::default(),
            sessions: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            state: watch::Sender::new(LinkState::Down),
            tripped: Notify::new(),
            pending: Mutex::default(),
            pending_came: Notify::new(),
        })
    }

    pub(super) fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// The connections, if the tier is up. Never waits.
    pub(super) fn connections(&self) -> Option<Connections> {
        self.up.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A connection for a small question, and its session.
    pub(super) fn quick(&self) -> Option<(MultiplexedConnection, u64)> {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let up = self.up.read().unwrap_or_else(PoisonError::into_inner);
        up.as_ref().map(|up| (up.quick(turn), up.session))
    }

    /// Opens the breaker: nobody asks until a probe has been answered.
    pub(super) fn trip(&self, session: u64) {
        let mut up = self.up.write().unwrap_or_else(PoisonError::into_inner);
        if up.as_ref().is_some_and(|up| up.session == session) {
            *up = None;
            self.counters.breaker_opened.add_one();
            self.state.send_replace(LinkState::Down);
            self.tripped.notify_one();
        }
    }

    /// Puts a purge on its way. The receiver hears when Redis has numbered it.
    pub(super) fn push_purge(&self, subject: Subject) -> oneshot::Receiver<()> {
        let (numbered, heard) = oneshot::channel();
        let mut pending = self.pending();
        if pending.len() >= PENDING_MAX {
            // Nothing is lost: one purge of everything stands for all that waited.
            self.counters.pending_dropped.add_one();
            pending.clear();
            pending.push_back(Pending { subject: Subject::ALL, numbered: Some(numbered) });
        } else {
            pending.push_back(Pending { subject, numbered: Some(numbered) });
        }
        drop(pending);
        self.pending_came.notify_one();
        heard
    }

    pub(super) fn pending_len(&self) -> usize {
        self.pending().len()
    }

    /// Closes the breaker: the connections were just heard.
    pub(super) fn open(&self, connections: &mut Connections) {
        connections.session = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        *self.up.write().unwrap_or_else(PoisonError::into_inner) = Some(connections.clone());
        self.state.send_replace(LinkState::Up);
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

    pub(super) async fn tripped(&self) {
        self.tripped.notified().await;
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
        if let Some(numbered) = done.and_then(|done| done.numbered) {
            // The asker may have gone; the purge is done all the same.
            let _gone = numbered.send(());
        }
    }

    fn pending(&self) -> MutexGuard<'_, VecDeque<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
