//! Which of two flights of one key was begun later, where a caller wanted no answer that was begun
//! before it asked: an older answer is not stored over a newer one, whichever ends first.
//!
//! Until the newer one has ended the older is stored as any other: who waits for it, in this process
//! or on another instance, need not wait for both, nor ask for a third.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A flight's place among those of its key that took each other's.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    begun: u64,
    /// The latest of them that has ended.
    ended: Arc<Mutex<u64>>,
}

/// The end of a flight; no other of its key ends while this is there.
pub(super) struct Ending<'a> {
    /// One that was begun later has ended: its answer is the newer one.
    pub(super) is_late: bool,
    _ended: MutexGuard<'a, u64>,
}

impl Order {
    /// Of the flight that takes the place of this one.
    pub(super) fn next(&self) -> Self {
        Self { begun: self.begun.saturating_add(1), ended: self.ended.clone() }
    }

    /// It ends, whatever it has brought.
    pub(super) fn ends(&self) -> Ending<'_> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let is_late = *ended > self.begun;
        *ended = self.begun.max(*ended);
        Ending { is_late, _ended: ended }
    }
}
