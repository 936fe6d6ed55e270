//! The right to run, and what its call takes meanwhile.

use super::{Admission, Share, State, Way, cost::tokens};
use crate::meter::Holder;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tollgate_core::{class::ClassId, scheduler::Grant, usage::Usage};

/// The right to run. Dropped, the next one runs.
#[must_use = "dropped at once it lets the next one run"]
#[derive(Debug)]
pub struct Permit {
    pub(super) admission: Arc<Admission>,
    /// `None` only while it is dropped.
    pub(super) grant: Option<Grant>,
    pub(super) queue_wait: Option<Duration>,
    pub(super) holder: Option<Holder>,
    /// Cancelled when it is taken back; `None`: it never is.
    pub(super) taken_back: Option<CancellationToken>,
    /// Of what it takes, what is to be learned for calls of this class; where calls count alike nothing.
    pub(super) learns: Option<Learns>,
}

#[derive(Debug)]
pub(super) struct Learns {
    class: ClassId,
    began: Instant,
    /// What it took, once that is known.
    tokens: Option<u64>,
}

impl Permit {
    /// How long it waited for its turn.
    pub fn queue_wait(&self) -> Duration {
        self.queue_wait.unwrap_or_default()
    }

    /// The witness of its return, once: for the call, which is over only after it.
    pub(crate) fn holder(&mut self) -> Option<Holder> {
        self.holder.take()
    }

    /// From now on it counts how long it is held, for the class it is of.
    pub(super) fn learning(mut self, class: Option<ClassId>) -> Self {
        self.learns = class.map(|class| Learns { class, began: Instant::now(), tokens: None });
        self
    }

    /// The answer has ended and took this. Half an answer took at least what was thought, or
    /// breaking off would be a discount.
    pub(crate) fn spent(mut self, usage: Option<&Usage>, is_whole: bool) {
        if let Some(learns) = self.learns.as_mut().filter(|_| is_whole) {
            learns.tokens = usage.and_then(tokens);
        }
    }

    /// By which rule it was let in.
    pub fn way(&self) -> Option<Way> {
        self.grant.as_ref().map(Grant::way)
    }

    /// Whether it was in the queue at all.
    pub fn has_waited(&self) -> bool {
        self.queue_wait.is_some()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(grant) = self.grant.take() {
            let learns = self.learns.take();
            self.admission.change(|state, now_ns| {
                state.permits = state.permits.saturating_sub(1);
                state.unwatch(&grant);
                match learns.and_then(|learns| state.learn(&learns)) {
                    Some(cost) => state.scheduler.release_settled(grant, cost, now_ns),
                    None => state.scheduler.release(grant, now_ns),
                }
            });
        }
    }
}

impl State {
    /// What a call took, in what is shared out now; `None`: as it was thought.
    fn learn(&mut self, learns: &Learns) -> Option<u64> {
        let cost = match self.estimates.share {
            Share::Calls => None,
            Share::Time => {
                let held = Instant::now().saturating_duration_since(learns.began);
                u64::try_from(held.as_millis()).ok()
            }
            Share::Tokens => learns.tokens,
        }?;
        self.estimates.learn(learns.class, cost);
        Some(cost)
    }
}
