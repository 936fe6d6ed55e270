//! The scheduler of the proxy, driven by the virtual clock in place of the shell.

use super::{
    clock::{Fate, Order},
    scenarios::{Call, Scenario},
};
use tollgate_core::{
    class::ClassId,
    scheduler::{Arrival, Ask, Grant, Scheduler, Turn, WaiterId},
};

/// What a unit of cost stands for: a millisecond of service.
const UNIT_NS: u64 = 1_000_000;

pub(super) struct Turns {
    scheduler: Scheduler,
    /// By the call's number.
    waiters: Vec<Option<WaiterId>>,
    grants: Vec<Option<Grant>>,
    /// The call's number, by the waiter's.
    calls: Vec<usize>,
}

impl Turns {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let rules: Vec<_> = scenario.classes.iter().map(|(_, rules)| *rules).collect();
        Self {
            scheduler: Scheduler::new(scenario.limit(), &rules),
            waiters: Vec::new(),
            grants: Vec::new(),
            calls: Vec::new(),
        }
    }
}

impl Order for Turns {
    fn arrive(&mut self, id: usize, call: &Call) -> Fate {
        let ask = Ask {
            class: ClassId::new(call.class).unwrap_or_default(),
            tenant: call.tenant,
            weight: 1,
            cost: call.estimate_ns / UNIT_NS,
            deadline_ns: call.deadline_ns,
            service_ns: call.estimate_ns,
        };
        match self.scheduler.arrive(&ask, call.at_ns) {
            Arrival::Granted(grant) => {
                put(&mut self.grants, id, Some(grant));
                Fate::Runs
            }
            Arrival::Waiting { waiter, .. } => {
                put(&mut self.waiters, id, Some(waiter));
                put(&mut self.calls, waiter.idx(), id);
                Fate::Waits
            }
            Arrival::Shed(_) => Fate::Shed,
        }
    }

    fn end(&mut self, id: usize, call: &Call, now_ns: u64) {
        if let Some(grant) = self.grants.get_mut(id).and_then(Option::take) {
            self.scheduler.release_settled(grant, call.service_ns / UNIT_NS, now_ns);
        }
    }

    fn leave(&mut self, id: usize, now_ns: u64) {
        if let Some(waiter) = self.waiters.get_mut(id).and_then(Option::take) {
            self.scheduler.leave(waiter, now_ns);
        }
    }

    fn settled(&mut self, now_ns: u64) -> Option<(usize, Fate)> {
        let waiter = self.scheduler.next_settled()?;
        let id = self.calls.get(waiter.idx()).copied()?;
        put(&mut self.waiters, id, None);
        match self.scheduler.turn(waiter, now_ns) {
            Turn::Granted { grant, .. } => {
                put(&mut self.grants, id, Some(grant));
                Some((id, Fate::Runs))
            }
            Turn::Waiting { .. } => Some((id, Fate::Waits)),
            Turn::Shed(_) => Some((id, Fate::Shed)),
        }
    }
}

/// Puts a value at a place of a table that grows as it must.
fn put<T: Default>(table: &mut Vec<T>, at: usize, value: T) {
    if table.len() <= at {
        table.resize_with(at + 1, T::default);
    }
    if let Some(cell) = table.get_mut(at) {
        *cell = value;
    }
}
