//! The virtual clock: plays the calls of a scenario through an order, event by event.

use super::{
    outcome::Outcome,
    scenarios::{Call, Scenario, Source},
};
use std::{cmp::Reverse, collections::BinaryHeap};

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Runs,
    Waits,
    Shed,
}

/// Decides who runs. A call is named by a small number, which is used again after its end.
pub(super) trait Order {
    fn arrive(&mut self, id: usize, call: &Call) -> Fate;
    /// It ran, and took as long as it takes.
    fn end(&mut self, id: usize, call: &Call, now_ns: u64);
    /// Its caller left while it waited.
    fn leave(&mut self, id: usize, now_ns: u64);
    /// One that waited and now does not.
    fn settled(&mut self, now_ns: u64) -> Option<(usize, Fate)>;
}

/// A call in the system.
#[derive(Clone, Copy, Debug)]
struct Live {
    call: Call,
    /// Tells an event of this call from one of an earlier one with the same number.
    nth: u64,
    runs: bool,
    caller_left: bool,
    /// How many of its class were ahead, and how many calls had ended, when it came.
    ahead: u64,
    ended_before: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    End,
    CallerLeaves,
}

struct Clock<'a> {
    order: &'a mut dyn Order,
    now_ns: u64,
    events: BinaryHeap<Reverse<(u64, u64, usize, Kind)>>,
    live: Vec<Option<Live>>,
    free: Vec<usize>,
    nth: u64,
    busy: u64,
    ended: u64,
    outcome: Outcome,
}

/// The outcome of a scenario under an order.
pub(super) fn play(scenario: &Scenario, order: &mut dyn Order) -> Outcome {
    let mut clock = Clock {
        order,
        now_ns: 0,
        events: BinaryHeap::new(),
        live: Vec::new(),
        free: Vec::new(),
        nth: 0,
        busy: 0,
        ended: 0,
        outcome: Outcome::new(scenario),
    };
    let mut sources = scenario.sources();
    loop {
        let source = sources.iter_mut().min_by_key(|source| source.at_ns());
        let arrives_ns = source.as_ref().map_or(u64::MAX, |source| source.at_ns());
        let event_ns = clock.events.peek().map_or(u64::MAX, |Reverse((at_ns, ..))| *at_ns);
        let next_ns = arrives_ns.min(event_ns);
        if scenario.until_ns <= next_ns {
            break;
        }
        clock.advance(next_ns);
        match source {
            Some(source) if arrives_ns < event_ns => clock.arrive(source),
            Some(_) | None => clock.event(),
        }
        clock.settle();
    }
    clock.advance(scenario.until_ns);
    clock.outcome.finish();
    clock.outcome
}

impl Clock<'_> {
    fn advance(&mut self, to_ns: u64) {
        self.outcome.busy_ns += u128::from(self.busy) * u128::from(to_ns - self.now_ns);
        self.now_ns = to_ns;
    }

    fn arrive(&mut self, source: &mut Source) {
        let call = source.next();
        self.nth += 1;
        let live = Live {
            call,
            nth: self.nth,
            runs: false,
            caller_left: false,
            ahead: self.outcome.waiting(call.class),
            ended_before: self.ended,
        };
        let id = self.free.pop().unwrap_or(self.live.len());
        match self.live.get_mut(id) {
            Some(cell) => *cell = Some(live),
            None => self.live.push(Some(live)),
        }
        self.outcome.offered(&call);
        if let Some(deadline_ns) = call.deadline_ns {
            self.events.push(Reverse((deadline_ns, live.nth, id, Kind::CallerLeaves)));
        }
        match self.order.arrive(id, &call) {
            Fate::Runs => self.start(id),
            Fate::Waits => self.outcome.waits(&call, self.now_ns),
            Fate::Shed => {
                self.outcome.refused(&call);
                self.forget(id);
            }
        }
    }

    fn event(&mut self) {
        let Some(Reverse((_, nth, id, kind))) = self.events.pop() else { return };
        let live = self.live.get_mut(id).and_then(Option::as_mut).filter(|live| live.nth == nth);
        let Some(live) = live else { return };
        match kind {
            Kind::CallerLeaves if live.runs => live.caller_left = true,
            Kind::CallerLeaves => {
                let call = live.call;
                self.order.leave(id, self.now_ns);
                self.outcome.waits_no_more(&call);
                self.forget(id);
            }
            Kind::End => {
                let (call, caller_left) = (live.call, live.caller_left);
                self.busy -= 1;
                self.ended += 1;
                self.order.end(id, &call, self.now_ns);
                self.outcome.ended(&call, self.now_ns, caller_left);
                self.forget(id);
            }
        }
    }

    fn settle(&mut self) {
        while let Some((id, fate)) = self.order.settled(self.now_ns) {
            let Some(live) = self.live.get(id).copied().flatten() else { continue };
            self.outcome.waits_no_more(&live.call);
            if fate == Fate::Runs {
                self.outcome.started(&live.call, self.now_ns);
                let ends = self.ended - live.ended_before;
                self.outcome.passed_over +=
                    u64::from(live.call.class == 0 && live.ahead + 1 < ends);
                self.start(id);
            } else {
                self.outcome.refused(&live.call);
                self.forget(id);
            }
        }
    }

    fn start(&mut self, id: usize) {
        if let Some(live) = self.live.get_mut(id).and_then(Option::as_mut) {
            live.runs = true;
            self.busy += 1;
            let ends_ns = self.now_ns + live.call.service_ns;
            self.events.push(Reverse((ends_ns, live.nth, id, Kind::End)));
        }
    }

    fn forget(&mut self, id: usize) {
        if let Some(cell) = self.live.get_mut(id) {
            *cell = None;
            self.free.push(id);
        }
    }
}
