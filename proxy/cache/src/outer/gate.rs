//! The breaker before a store: everybody passes, or nobody does.
//!
//! ```text
//!   shut ── the session has connected and caught up ──▶ open
//!   open ── the connection breaks, or answers are late in a row ([`Lateness`]) ──▶ shut ── the session's probe is answered ──▶ open
//! ```
//!
//! Callers look at one lock and never wait. A failure trips only the session that it belongs to:
//! one from before the last reconnect says nothing of now.

use super::lateness::Lateness;
use std::sync::{
    PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::{Notify, watch};

/// Whether a store is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    Up,
    /// Not asked: away, or suspected to be.
    Down,
}

/// Hands out `T`, the way to the store, while it is open.
#[derive(Debug)]
pub(crate) struct Gate<T> {
    way: RwLock<Option<(u64, T)>>,
    sessions: AtomicU64,
    lateness: Lateness,
    state: watch::Sender<LinkState>,
    tripped: Notify,
}

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Self {
            way: RwLock::new(None),
            sessions: AtomicU64::new(0),
            lateness: Lateness::default(),
            state: watch::Sender::new(LinkState::Down),
            tripped: Notify::new(),
        }
    }
}

impl<T: Clone> Gate<T> {
    /// The way and its session, if the gate is open. Never waits.
    pub(crate) fn pass(&self) -> Option<(u64, T)> {
        self.way.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.state.borrow() == LinkState::Up
    }

    /// Nobody passes until a probe has been answered. Whether it was this call that shut it.
    pub(crate) fn trip(&self, session: u64) -> bool {
        let mut way = self.way.write().unwrap_or_else(PoisonError::into_inner);
        let is_now = way.as_ref().is_some_and(|(own, _)| *own == session);
        if is_now {
            *way = None;
            self.lateness.suspect();
            self.state.send_replace(LinkState::Down);
            self.tripped.notify_one();
        }
        is_now
    }

    /// An answer came in its time.
    pub(crate) fn in_time(&self) {
        self.lateness.in_time();
    }

    /// One did not: nobody passes until a probe has been answered, if it was not the only one.
    /// Whether it was this call that shut it.
    pub(crate) fn late(&self, session: u64) -> bool {
        let way = self.way.read().unwrap_or_else(PoisonError::into_inner);
        let is_now = way.as_ref().is_some_and(|(own, _)| *own == session);
        drop(way);
        is_now && self.lateness.is_too_late() && self.trip(session)
    }

    /// The store was just heard on this way.
    pub(crate) fn open(&self, way: T) {
        let session = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        *self.way.write().unwrap_or_else(PoisonError::into_inner) = Some((session, way));
        self.state.send_replace(LinkState::Up);
    }

    /// The connection is lost.
    pub(crate) fn shut(&self) {
        self.lateness.forget();
        self.way.write().unwrap_or_else(PoisonError::into_inner).take();
        self.state.send_replace(LinkState::Down);
    }

    /// To wait for a change of [`Self::is_open`].
    pub(crate) fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// How often it was opened.
    pub(crate) fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    pub(crate) async fn tripped(&self) {
        self.tripped.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_before_does_not_shut_the_gate_of_now() {
        let gate = Gate::default();
        gate.open("first");
        let (first, _) = gate.pass().unwrap();
        assert!(gate.trip(first));
        assert!(!gate.trip(first), "it is shut already");
        gate.open("second");
        assert!(!gate.trip(first));
        assert!(gate.is_open());
        assert_eq!(gate.pass().map(|(_, way)| way), Some("second"));
    }
}
