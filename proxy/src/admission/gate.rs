//! The gate of an upstream's queue, as the breakers of its endpoints move it.
//!
//! An admission outlives a change of its upstream's configuration, and the calls of the
//! upstream before go on. So the gate has an owner: what the old one's breakers find out
//! later moves nothing any more.

use super::{Admission, Wakers};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;
use tollgate_core::scheduler;

/// Whoever may move the gate: the breakers of one configuration of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateOwner(u64);

impl GateOwner {
    /// One that was never before.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Default for GateOwner {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether calls may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Open,
    /// None before then; then one.
    Shut(Instant),
    /// One.
    Ajar,
}

impl Admission {
    /// From now on nobody else moves the gate, which is `gate` now.
    pub fn own_gate(&self, owner: GateOwner, gate: Gate) {
        self.change(|state, _| state.gate_owner = Some(owner));
        self.set_gate(owner, gate);
    }

    /// Moves the gate, if that is for `owner` to do.
    pub fn set_gate(&self, owner: GateOwner, gate: Gate) {
        let gate = match gate {
            Gate::Open => scheduler::Gate::Open,
            Gate::Shut(until) => scheduler::Gate::Shut { until_ns: self.ns(until) },
            Gate::Ajar => scheduler::Gate::Ajar,
        };
        let wakers = self.change(|state, now_ns| {
            if *state.gate_owner.get_or_insert(owner) != owner {
                return Wakers::new();
            }
            state.scheduler.set_gate(gate, now_ns);
            state.all_parked()
        });
        // Their timers ring at another time now.
        wakers.into_iter().for_each(std::task::Waker::wake);
    }

    /// How long it is at least until anything is sent; zero where that is up to a probe.
    pub fn shut_for(&self) -> Duration {
        self.change(|state, now_ns| match state.scheduler.gate() {
            scheduler::Gate::Shut { until_ns } => {
                Duration::from_nanos(until_ns.saturating_sub(now_ns))
            }
            scheduler::Gate::Open | scheduler::Gate::Ajar => Duration::ZERO,
        })
    }
}
