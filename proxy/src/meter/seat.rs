//! Where a caller sits while others bring its answer.
//!
//! An answer that many listen to is one upstream call and one debt; whether the caller
//! that began it was still there at the end is only known where it is served.

use super::{CLIENT_CLOSED_REQUEST, DOWNSTREAM_GONE};
use std::sync::{Arc, OnceLock};

/// What became of a caller whose answer goes on, or ended, without it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    pub(super) status: u16,
    pub(super) reason: &'static str,
}

/// A caller's place at an answer that others may share: the record is owed by whoever
/// brings the answer, and this tells it that the caller did not stay. Dropped before the
/// end, the caller has hung up.
#[must_use]
#[derive(Debug)]
pub(crate) struct Seat {
    left: Arc<OnceLock<Left>>,
    status: u16,
    stayed: bool,
}

impl Seat {
    pub(super) fn new() -> (Self, Arc<OnceLock<Left>>) {
        let left = Arc::<OnceLock<Left>>::default();
        (Self { left: left.clone(), status: CLIENT_CLOSED_REQUEST, stayed: false }, left)
    }

    /// The head of the answer is being handed on.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = status;
    }

    /// The caller had all that there was for it.
    pub(crate) fn stayed(&mut self) {
        self.stayed = true;
    }

    /// The caller was told something else than the answer.
    pub(crate) fn refused(mut self, status: u16, reason: &'static str) {
        self.stayed = true;
        self.left.set(Left { status, reason }).ok();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.stayed {
            self.left.set(Left { status: self.status, reason: DOWNSTREAM_GONE }).ok();
        }
    }
}
