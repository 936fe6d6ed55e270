//! The right to run, and what its call takes meanwhile.

use super::{
    Admission, Refused, Shed, State, Way,
    cost::{MS_NS, output, tokens},
};
use crate::meter::Holder;
use http::StatusCode;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tollgate_core::{
    class::ClassId,
    estimate::{Kind, Took},
    limit::{Outcome, Sample},
    scheduler::Grant,
    usage::Usage,
};

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
    /// What is to be learned of it.
    pub(super) run: Run,
}

/// A call that runs, and what came of it so far.
#[derive(Debug)]
pub(super) struct Run {
    class: ClassId,
    kind: Kind,
    pub(super) began_ns: u64,
    /// How many ran when it began, itself among them.
    pub(super) inflight: u32,
    head_ms: Option<u64>,
    output: Option<u64>,
    tokens: Option<u64>,
    /// What it says of the upstream's capacity; until its answer is whole, nothing.
    outcome: Outcome,
    is_success: bool,
}

impl Run {
    /// One that begins, of a class of the list in force.
    pub(super) fn new(class: ClassId, kind: Kind) -> Self {
        Self {
            class,
            kind,
            began_ns: 0,
            inflight: 0,
            head_ms: None,
            output: None,
            tokens: None,
            outcome: Outcome::Gone,
            is_success: false,
        }
    }
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

    /// The head of the answer came.
    pub(crate) fn headed(&mut self, status: StatusCode) {
        let run = &mut self.run;
        run.is_success = status.is_success();
        if run.is_success {
            let took_ns = self.admission.now_ns().saturating_sub(run.began_ns);
            run.head_ms = Some(took_ns / MS_NS);
        }
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            run.outcome = Outcome::Overloaded;
        }
    }

    /// No answer came, for want of capacity.
    pub(crate) fn overloaded(&mut self) {
        self.run.outcome = Outcome::Overloaded;
    }

    /// The answer has ended and took this. Half an answer took at least what was thought, or
    /// breaking off would be a discount.
    pub(crate) fn spent(mut self, usage: Option<&Usage>, is_whole: bool) {
        let run = &mut self.run;
        if !is_whole || !run.is_success {
            return;
        }
        run.outcome = Outcome::Answered;
        run.tokens = usage.and_then(tokens);
        run.output = usage.map(output).filter(|_| run.tokens.is_some());
    }

    /// It was taken back: what its caller is told.
    pub(crate) fn refused(&self) -> Refused {
        let class = self.run.class;
        self.admission.change(|state, now_ns| state.refuse(class, Shed::Preempted, now_ns))
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
            let run = &self.run;
            self.admission.change(|state, now_ns| {
                state.permits = state.permits.saturating_sub(1);
                state.unwatch(&grant);
                match state.learn(run, now_ns) {
                    Some(cost) => state.scheduler.release_settled(grant, cost, now_ns),
                    None => state.scheduler.release(grant, now_ns),
                }
                state.follow(run, now_ns);
            });
        }
    }
}

impl State {
    /// What a call took, in what is shared out now; `None`: as it was thought.
    fn learn(&mut self, run: &Run, now_ns: u64) -> Option<u64> {
        let held_ms = now_ns.saturating_sub(run.began_ns) / MS_NS;
        if run.outcome == Outcome::Answered {
            let took = Took { output: run.output, head_ms: run.head_ms, held_ms: Some(held_ms) };
            self.estimates.learn(&run.kind, &took, now_ns);
        }
        self.estimates.settled(held_ms, run.tokens)
    }

    /// Lets a limit that follows the upstream's answers follow this one.
    fn follow(&mut self, run: &Run, now_ns: u64) {
        let Some(adaptive) = &mut self.adaptive else { return };
        let before = adaptive.limit();
        adaptive.ended(&Sample {
            began_ns: run.began_ns,
            ended_ns: now_ns,
            cost: run.tokens.unwrap_or(1),
            inflight: run.inflight,
            outcome: run.outcome,
        });
        if adaptive.limit() != before {
            self.scheduler.set_limit(Some(adaptive.limit()), now_ns);
        }
    }
}
