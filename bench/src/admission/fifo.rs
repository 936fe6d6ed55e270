//! The reference: one bounded queue for all, first come first served, as most proxies have.

use super::{
    clock::{Fate, Order},
    scenarios::{Call, Scenario},
};
use std::collections::VecDeque;

pub(super) struct Fifo {
    slots: u32,
    busy: u32,
    queue: VecDeque<(usize, u64)>,
    queue_max: usize,
    max_wait_ns: u64,
}

impl Fifo {
    pub(super) fn new(scenario: &Scenario) -> Self {
        Self {
            slots: scenario.slots,
            busy: 0,
            queue: VecDeque::new(),
            queue_max: scenario.fifo_max,
            max_wait_ns: scenario.fifo_wait_ns,
        }
    }
}

impl Order for Fifo {
    fn arrive(&mut self, id: usize, call: &Call) -> Fate {
        if self.busy < self.slots {
            self.busy += 1;
            return Fate::Runs;
        }
        if self.queue_max <= self.queue.len() {
            return Fate::Shed;
        }
        self.queue.push_back((id, call.at_ns.saturating_add(self.max_wait_ns)));
        Fate::Waits
    }

    fn end(&mut self, _id: usize, _call: &Call, _now_ns: u64) {
        self.busy -= 1;
    }

    fn leave(&mut self, id: usize, _now_ns: u64) {
        self.queue.retain(|(other, _)| *other != id);
    }

    fn settled(&mut self, now_ns: u64) -> Option<(usize, Fate)> {
        let (id, expires_ns) = self.queue.front().copied()?;
        let fate = if expires_ns <= now_ns {
            Fate::Shed
        } else if self.busy < self.slots {
            self.busy += 1;
            Fate::Runs
        } else {
            return None;
        };
        self.queue.pop_front();
        Some((id, fate))
    }
}
