//! Half of all calls are given up, in whatever state: nothing may be left of any.

use super::Line;
use crate::draw::Draw;
use std::num::NonZeroU32;
use tollgate_core::{
    class::ClassId,
    scheduler::{Arrival, Ask, ClassRules, Grant, Scheduler, Turn, WaiterId},
};

struct Storm {
    scheduler: Scheduler,
    parked: Vec<WaiterId>,
    running: Vec<Grant>,
    draw: Draw,
    now_ns: u64,
}

pub(super) fn line(calls: u64) -> Line {
    let rules = ClassRules {
        queue_max: 100,
        max_wait_ns: 5_000,
        lifo_target_ns: 500,
        ..ClassRules::NOTHING_WAITS
    };
    let strict = ClassRules { strict: true, ..rules };
    let mut storm = Storm {
        scheduler: Scheduler::new(NonZeroU32::new(8), &[strict, rules, rules]),
        parked: Vec::new(),
        running: Vec::new(),
        draw: Draw::new(10),
        now_ns: 0,
    };
    for _ in 0..calls {
        storm.arrive();
        match storm.draw.below(4) {
            // Those that are parked were let in, shed, or wait: giving up meets all three.
            0 | 1 => storm.give_up(),
            2 => storm.release(),
            _ => storm.take(),
        }
    }
    while !storm.parked.is_empty() || !storm.running.is_empty() {
        storm.give_up();
        storm.release();
    }
    let scheduler = &storm.scheduler;
    let counts = scheduler.class_counts().map(|class| class.inflight + class.waiting as u64);
    let left = counts.sum::<u64>() + scheduler.inflight() + scheduler.waiting() as u64;
    Line {
        id: "Q10",
        what: format!("what is left of {calls} calls, half of them given up"),
        target: "0".to_owned(),
        fifo: "–".to_owned(),
        ours: left.to_string(),
        is_met: left == 0,
    }
}

impl Storm {
    fn arrive(&mut self) {
        self.now_ns += 10;
        let ask = Ask {
            class: ClassId::new(self.draw.below(3)).unwrap_or_default(),
            tenant: self.draw.below(50) as u64,
            cost: 1 + self.draw.below(100) as u64,
            ..Ask::default()
        };
        match self.scheduler.arrive(&ask, self.now_ns) {
            Arrival::Granted(grant) => self.running.push(grant),
            Arrival::Waiting { waiter, .. } => self.parked.push(waiter),
            Arrival::Shed(_) => {}
        }
    }

    fn give_up(&mut self) {
        if let Some(which) =
            self.draw.below(self.parked.len().max(1)).checked_rem(self.parked.len())
        {
            let waiter = self.parked.swap_remove(which);
            self.scheduler.leave(waiter, self.now_ns);
        } else {
            self.release();
        }
    }

    fn release(&mut self) {
        if let Some(grant) = self.running.pop() {
            self.scheduler.release_settled(grant, self.draw.below(200) as u64, self.now_ns);
        }
    }

    fn take(&mut self) {
        // Everybody is asked below, told or not.
        while self.scheduler.next_settled().is_some() {}
        for waiter in std::mem::take(&mut self.parked) {
            match self.scheduler.turn(waiter, self.now_ns) {
                Turn::Granted { grant, .. } => self.running.push(grant),
                Turn::Waiting { .. } => self.parked.push(waiter),
                Turn::Shed(_) => {}
            }
        }
    }
}
