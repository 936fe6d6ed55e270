//! A place in the queue, as the task that waits in it holds it.

use super::{Admission, Permit, Refused, permit::Run};
use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tollgate_core::{
    class::ClassId,
    estimate::Kind,
    scheduler::{Turn, WaiterId},
};

/// Dropped, it is given up, and so is a grant nobody took.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) admission: Arc<Admission>,
    /// `None` once it was told what became of it.
    pub(super) waiter: Option<WaiterId>,
    /// As it was told last.
    pub(super) expires_ns: u64,
    pub(super) class: ClassId,
    pub(super) kind: Kind,
}

impl Place {
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        time_is_up: bool,
    ) -> Poll<Result<Permit, Refused>> {
        let Some(waiter) = self.waiter else { return Poll::Pending };
        let rung_ns = self.expires_ns;
        let admission = &self.admission;
        let asked = (self.class, self.kind);
        let (turn, _unused_waker) = admission.change(|state, now_ns| {
            // A timer that rang is the proof; a coarse clock must not contradict it.
            let now_ns = if time_is_up { now_ns.max(rung_ns) } else { now_ns };
            let class = state.scheduler.class_of(waiter).unwrap_or(asked.0);
            let turn = match state.scheduler.turn(waiter, now_ns) {
                Turn::Waiting { expires_ns } => {
                    return (Err(expires_ns), state.wake_later(waiter, context.waker()));
                }
                Turn::Granted { grant, waited_ns } => {
                    state.tally(class, |tally| tally.recent.grant(grant.way(), now_ns));
                    let run = admission.hand_out(state, Run::new(class, asked.1), now_ns);
                    Ok((grant, waited_ns, run))
                }
                Turn::Shed(shed) => Err(state.refuse(class, shed, now_ns)),
            };
            (Ok(turn), state.unpark(waiter))
        });
        let settled = match turn {
            Err(expires_ns) => {
                self.expires_ns = expires_ns;
                return Poll::Pending;
            }
            Ok(Ok((grant, waited_ns, run))) => {
                let queue_wait = Duration::from_nanos(waited_ns);
                Ok(self.admission.permit(grant, run, Some(queue_wait)))
            }
            Ok(Err(refused)) => Err(refused),
        };
        self.waiter = None;
        Poll::Ready(settled)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            let _unused_waker = self.admission.change(|state, now_ns| {
                let class = state.scheduler.class_of(waiter).unwrap_or(self.class);
                state.tally(class, |tally| tally.recent.leave(now_ns));
                state.scheduler.leave(waiter, now_ns);
                state.unpark(waiter)
            });
        }
    }
}
