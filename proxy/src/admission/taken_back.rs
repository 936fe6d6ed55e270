//! The right to run, taken back before anybody has seen anything of the answer.
//!
//! The scheduler names whom; here the call hears of it. A call that cannot be taken back
//! has nothing to hear with, and costs nothing.

use super::{Admission, Permit, Refused, State};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tollgate_core::scheduler::Grant;

/// Cancelled when the right to run is taken back. By [`tollgate_core::scheduler::RunId::idx`].
pub(super) type Watched = Vec<Option<CancellationToken>>;

impl Permit {
    /// Cancelled when it is taken back; `None`: it never is.
    pub(crate) fn taken_back(&self) -> Option<&CancellationToken> {
        self.taken_back.as_ref()
    }

    /// The first byte of the answer is about to go out: from now on it is not taken back.
    /// `Err`: it already was, and nothing of it may go out.
    pub(crate) fn begin(&self) -> Result<(), Refused> {
        let (Some(grant), Some(_)) = (&self.grant, &self.taken_back) else { return Ok(()) };
        let may = self.admission.change(|state, _| state.scheduler.begin(grant));
        if may { Ok(()) } else { Err(self.refused()) }
    }
}

impl Admission {
    /// How a call that got this hears that it is taken back, if it can be.
    pub(super) fn watch(self: &Arc<Self>, grant: &Grant) -> Option<CancellationToken> {
        if !grant.is_revocable() {
            return None;
        }
        let token = CancellationToken::new();
        let is_late = self.change(|state, _| {
            let at = grant.run().idx();
            if state.watched.len() <= at {
                state.watched.resize_with(at + 1, || None);
            }
            if let Some(cell) = state.watched.get_mut(at) {
                *cell = Some(token.clone());
            }
            state.scheduler.is_taken_back(grant)
        });
        if is_late {
            token.cancel();
        }
        Some(token)
    }
}

impl State {
    /// Those to cancel once the lock is free. Who is not watched yet sees it when it comes.
    pub(super) fn victims(&mut self) -> Vec<CancellationToken> {
        let mut victims = Vec::new();
        while let Some(victim) = self.scheduler.next_victim() {
            self.preempted += 1;
            victims.extend(self.watched.get(victim.idx()).cloned().flatten());
        }
        victims
    }

    /// A call ended: whoever gets its number is watched anew.
    pub(super) fn unwatch(&mut self, grant: &Grant) {
        if let Some(cell) = self.watched.get_mut(grant.run().idx()) {
            *cell = None;
        }
    }
}
