//! Whether anybody may start at all: shut while the upstream fails, ajar for one call that
//! finds out whether it answers again.
//!
//! Those who wait when it is shut keep their places: theirs is the next turn there is, and the
//! first is that of the most important class, whatever the shares. Who comes meanwhile is told
//! at once, because it cannot know for how long it would wait.
//!
//! Who decides is the breaker of the upstream's endpoints; here is only what it comes to.

use super::{RunId, Scheduler, Shed};

/// Whether calls may start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    #[default]
    Open,
    /// None before then; then one, as if ajar.
    Shut { until_ns: u64 },
    /// One, and none beside it.
    Ajar,
}

/// The gate, and who went through it while it was ajar.
#[derive(Debug, Default)]
pub(super) struct State {
    gate: Gate,
    probe: Option<RunId>,
}

impl State {
    pub(super) fn is_open(&self) -> bool {
        self.gate == Gate::Open
    }

    /// Nobody may start.
    pub(super) fn is_shut(&self) -> bool {
        match self.gate {
            Gate::Open => false,
            Gate::Shut { .. } => true,
            Gate::Ajar => self.probe.is_some(),
        }
    }

    /// One may start.
    pub(super) fn is_ajar(&self) -> bool {
        self.gate == Gate::Ajar && self.probe.is_none()
    }

    /// When somebody who waits is to look again.
    pub(super) fn look_ns(&self) -> Option<u64> {
        match self.gate {
            Gate::Shut { until_ns } => Some(until_ns),
            Gate::Open | Gate::Ajar => None,
        }
    }

    pub(super) fn pass_time(&mut self, now_ns: u64) {
        if let Gate::Shut { until_ns } = self.gate
            && until_ns <= now_ns
        {
            *self = Self { gate: Gate::Ajar, probe: None };
        }
    }

    /// A call started. True: it is the one that finds out.
    pub(super) fn started(&mut self, run: RunId) -> bool {
        let is_probe = self.is_ajar();
        if is_probe {
            self.probe = Some(run);
        }
        is_probe
    }

    /// A call ended; if it is the one that was to find out, and nobody says that it has, the
    /// next may.
    pub(super) fn ended(&mut self, run: RunId) {
        if self.probe == Some(run) {
            self.probe = None;
        }
    }

    /// Who waited as long as its class may was kept by the gate, if that is not open.
    pub(super) fn blames(&self, shed: Shed) -> Shed {
        if shed == Shed::QueueTimeout && !self.is_open() { Shed::BreakerOpen } else { shed }
    }
}

impl Scheduler {
    /// Opens or shuts the gate. Those who run are left alone. While it is shut, whoever waits is
    /// to be asked for [`Scheduler::turn`] again: its time to look is another.
    pub fn set_gate(&mut self, gate: Gate, now_ns: u64) {
        self.gate = State { gate, probe: None };
        self.dispatch(now_ns);
    }

    /// As it is now.
    pub fn gate(&self) -> Gate {
        self.gate.gate
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Arrival, Ask, ClassRules, Grant, Turn, WaiterId, Way};
    use super::*;
    use crate::class::ClassId;
    use std::num::NonZeroU32;

    const CLASS: ClassRules = ClassRules {
        weight: 1,
        queue_max: 8,
        max_wait_ns: 1000,
        lifo_target_ns: 1000,
        ..ClassRules::NOTHING_WAITS
    };

    fn scheduler() -> Scheduler {
        Scheduler::new(NonZeroU32::new(1), &[CLASS, CLASS, CLASS])
    }

    fn ask(class: usize) -> Ask {
        Ask { class: ClassId::new(class).unwrap(), ..Ask::default() }
    }

    fn waits(scheduler: &mut Scheduler, class: usize) -> WaiterId {
        match scheduler.arrive(&ask(class), 0) {
            Arrival::Waiting { waiter, .. } => waiter,
            other @ (Arrival::Granted(_) | Arrival::Shed(_)) => panic!("{other:?}"),
        }
    }

    fn granted(scheduler: &mut Scheduler, waiter: WaiterId, now_ns: u64) -> Option<Grant> {
        match scheduler.turn(waiter, now_ns) {
            Turn::Granted { grant, .. } => Some(grant),
            Turn::Waiting { .. } | Turn::Shed(_) => None,
        }
    }

    #[test]
    fn the_probe_is_of_the_most_important_class_that_waits() {
        let mut scheduler = scheduler();
        let Arrival::Granted(runs) = scheduler.arrive(&ask(1), 0) else { panic!("it is free") };
        let (batch, vip) = (waits(&mut scheduler, 2), waits(&mut scheduler, 0));
        scheduler.set_gate(Gate::Shut { until_ns: 50 }, 1);
        scheduler.release(runs, 2);
        assert!(matches!(scheduler.turn(batch, 3), Turn::Waiting { expires_ns: 50 }));
        assert!(matches!(scheduler.arrive(&ask(0), 4), Arrival::Shed(Shed::BreakerOpen)));
        assert!(granted(&mut scheduler, batch, 50).is_none());
        let probe = granted(&mut scheduler, vip, 50).unwrap();
        assert_eq!(probe.way(), Way::Probe);
        assert!(matches!(scheduler.arrive(&ask(0), 51), Arrival::Shed(Shed::BreakerOpen)));
        scheduler.set_gate(Gate::Open, 60);
        scheduler.release(probe, 61);
        assert_eq!(granted(&mut scheduler, batch, 62).unwrap().way(), Way::Share);
    }

    #[test]
    fn a_probe_that_ends_without_a_word_lets_the_next_one_try() {
        let mut scheduler = scheduler();
        scheduler.set_gate(Gate::Shut { until_ns: 10 }, 0);
        let Arrival::Granted(probe) = scheduler.arrive(&ask(2), 10) else {
            panic!("its time came")
        };
        assert_eq!(probe.way(), Way::Probe);
        scheduler.release(probe, 11);
        let Arrival::Granted(probe) = scheduler.arrive(&ask(2), 12) else { panic!("the next") };
        assert_eq!((probe.way(), scheduler.gate()), (Way::Probe, Gate::Ajar));
        scheduler.release(probe, 13);
    }

    #[test]
    fn whoever_waited_in_vain_for_a_shut_gate_is_told_so() {
        let mut scheduler = scheduler();
        let Arrival::Granted(runs) = scheduler.arrive(&ask(1), 0) else { panic!("it is free") };
        let waiter = waits(&mut scheduler, 2);
        scheduler.set_gate(Gate::Shut { until_ns: 5000 }, 1);
        scheduler.release(runs, 2);
        assert!(matches!(scheduler.turn(waiter, 1000), Turn::Shed(Shed::BreakerOpen)));
    }
}
