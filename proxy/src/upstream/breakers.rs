//! The breakers of an upstream's endpoints, and what they come to for its queue.
//!
//! One lock for all of them: whether the queue's gate is open is a question about all at
//! once, and the answer must reach the gate in the order it was found. Nothing waits under
//! it, and the gate's own lock is only ever taken inside.

use crate::admission::{Admission, Gate, GateOwner};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tollgate_core::breaker::{self, Breaker, BreakerRules, Stage, Verdict};

/// Of all endpoints of one upstream, in their order.
#[derive(Debug)]
pub(crate) struct Breakers {
    epoch: Instant,
    owner: GateOwner,
    admission: Arc<Admission>,
    cells: Mutex<Vec<Breaker>>,
}

/// The right to send one call to an endpoint. Dropped without a verdict, nothing was found out.
#[must_use]
#[derive(Debug)]
pub(crate) struct Pass {
    breakers: Arc<Breakers>,
    at: usize,
    pass: Option<breaker::Pass>,
}

/// How many endpoints of an upstream are left alone, and how often that began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Open {
    pub(crate) endpoints: usize,
    pub(crate) opened: u64,
}

impl Breakers {
    pub(crate) fn new(
        rules: BreakerRules,
        endpoints: usize,
        admission: Arc<Admission>,
    ) -> Arc<Self> {
        let cells = Mutex::new(vec![Breaker::new(rules); endpoints]);
        Arc::new(Self { epoch: Instant::now(), owner: GateOwner::new(), admission, cells })
    }

    /// From now on the queue's gate is moved by these.
    pub(crate) fn take_over(&self) {
        let cells = self.cells();
        self.admission.own_gate(self.owner, self.gate(&cells));
    }

    /// A pass to one of `endpoints`, which are in the order they are wanted in: to one that is
    /// to be probed before all others, for that is how it comes back. `probes`: the call is the
    /// one that may find out where none is known to answer.
    pub(crate) fn pass(
        self: &Arc<Self>,
        endpoints: impl Iterator<Item = usize> + Clone,
        probes: bool,
    ) -> Option<Pass> {
        let now_ns = self.now_ns();
        let mut cells = self.cells();
        let is = |at: &usize, stage| cells.get(*at).is_some_and(|it| it.stage(now_ns) == stage);
        let may_probe = probes || endpoints.clone().any(|at| is(&at, Stage::Closed));
        let ready = endpoints.clone().find(|at| may_probe && is(at, Stage::Ready));
        let at = ready.or_else(|| endpoints.clone().find(|at| is(at, Stage::Closed)))?;
        let pass = cells.get_mut(at)?.pass(now_ns)?;
        Some(Pass { breakers: self.clone(), at, pass: Some(pass) })
    }

    pub(crate) fn open(&self) -> Open {
        let now_ns = self.now_ns();
        let cells = self.cells();
        let is_open = |breaker: &&Breaker| breaker.stage(now_ns) != Stage::Closed;
        Open {
            endpoints: cells.iter().filter(is_open).count(),
            opened: cells.iter().map(Breaker::opened).sum(),
        }
    }

    /// Whether the endpoint at `at` is left alone.
    pub(crate) fn is_open(&self, at: usize) -> bool {
        let now_ns = self.now_ns();
        self.cells().get(at).is_some_and(|breaker| breaker.stage(now_ns) != Stage::Closed)
    }

    fn settle(&self, at: usize, pass: breaker::Pass, verdict: Verdict) -> bool {
        let now_ns = self.now_ns();
        let mut cells = self.cells();
        let Some(cell) = cells.get_mut(at) else { return false };
        let is_changed = cell.settle(pass, verdict, now_ns);
        if is_changed {
            self.admission.set_gate(self.owner, self.gate(&cells));
        }
        is_changed
    }

    /// What they come to: open while any is closed.
    fn gate(&self, cells: &[Breaker]) -> Gate {
        let now_ns = self.now_ns();
        let stages = || cells.iter().map(|breaker| breaker.stage(now_ns));
        if stages().any(|stage| stage == Stage::Closed) {
            return Gate::Open;
        }
        if stages().any(|stage| stage == Stage::Ready) {
            return Gate::Ajar;
        }
        let until_ns = stages().filter_map(|stage| match stage {
            Stage::Open { until_ns } => Some(until_ns),
            Stage::Closed | Stage::Ready | Stage::Probing => None,
        });
        // While one is probed, what comes of that moves the gate.
        let wait = until_ns.min().map_or(FAR, Duration::from_nanos);
        Gate::Shut(self.epoch.checked_add(wait).unwrap_or(self.epoch + FAR))
    }

    fn cells(&self) -> MutexGuard<'_, Vec<Breaker>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ns(&self) -> u64 {
        let since = Instant::now().saturating_duration_since(self.epoch);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Longer than any call.
const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Pass {
    /// The place of its endpoint.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// What became of the call. True: that changed how its endpoint is treated.
    pub(crate) fn settle(mut self, verdict: Verdict) -> bool {
        let pass = self.pass.take();
        pass.is_some_and(|pass| self.breakers.settle(self.at, pass, verdict))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            let _is_changed = self.breakers.settle(self.at, pass, Verdict::Untold);
        }
    }
}
