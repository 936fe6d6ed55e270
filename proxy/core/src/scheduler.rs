//! Decides which call runs, which waits, in what order, and which is shed.
//!
//! ```text
//!              ┌─ drained, out of time, no room in the queue ─────────▶ Shed
//!   arrive ────┤
//!              ├─ nobody waits and a slot is free ────────────────────▶ Granted ── release
//!              └─▶ Waiting ─┬─ its turn came ──▶ granted, not taken ──▶ Granted ── release
//!                           ├─ its time passed ──▶ shed, not taken ───▶ Shed
//!                           ├─ others had a better right to its place ─▶ Shed
//!                           └─ leave: gone, from any of these states
//! ```
//!
//! The order: a strict first class before all others; then classes below their floor; the
//! others by start-time fair queueing (each grant moves the class's virtual time on by
//! cost / weight, the least virtual time is next); inside a class, tenants by the same;
//! inside a tenant, first come first served until that serves only the hopeless. What a
//! call took in truth is settled when it ends. `dispatch` has the order, `lines` and
//! `queue` that of tenants and their calls, `runs` what may be taken back.
//!
//! Why no ageing: under lasting overload everything is old, so ageing is FIFO
//! again, and the urgent wait behind the patient. Why virtual time and not
//! "so many of each per round": it needs no round, so a class that was idle
//! neither owes nor owns anything when it returns.
//!
//! Time is an argument: nanoseconds since any fixed moment. Nothing here wakes
//! anybody; after every call that takes `now_ns`, ask [`Scheduler::next_settled`]
//! whom to wake.
//!
//! The limit and the classes' rules change while calls run and wait; `rules` says how.
//!
//! **Invariant:** after every call, nobody waits who may have a slot that is free.

mod arrive;
mod classes;
mod dispatch;
mod gate;
mod heap;
mod lines;
mod look;
mod queue;
mod retry_after;
mod rules;
mod runs;
mod waiters;

use crate::class::ClassId;
use heap::Heap;
use lines::settled;
use queue::ClassQueue;
use rules::{Class, Seat};
use runs::Runs;
use std::{collections::VecDeque, num::NonZeroU32};
use waiters::{List, Stage, Waiter, Waiters};

pub use classes::{ClassLimits, Classes};
pub use gate::Gate;
pub use look::{Waits, Why};
pub use retry_after::RetryAfter;
pub use rules::{Bounds, ClassRules, NewClass};
pub use runs::RunId;
pub use waiters::WaiterId;

/// The dearest call that is believed, in units of cost; `lines` says how far virtual time
/// goes at this price.
pub const COST_MAX: u64 = 1 << 40;

/// A call that wants to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// A class beyond the configured list is treated as the last of the list.
    pub class: ClassId,
    /// A hash of the tenant, alike for all its calls.
    pub tenant: u64,
    /// The tenant's share among those of its class; 0 counts as 1.
    pub weight: u32,
    /// What the call is thought to take from its class's and tenant's share and from the
    /// budget; 0 counts as 1. Give 1 to share by calls.
    pub cost: u64,
    /// When the caller stops caring. It is not started when it could not end before.
    pub deadline_ns: Option<u64>,
    /// How long it is thought to run; 0 where nobody knows.
    pub service_ns: u64,
}

impl Ask {
    fn cost(&self) -> u64 {
        self.cost.clamp(1, COST_MAX)
    }

    /// It is not started at or after that moment.
    fn latest_ns(&self) -> Option<u64> {
        self.deadline_ns.map(|deadline_ns| deadline_ns.saturating_sub(self.service_ns))
    }
}

/// What becomes of a call that arrived.
#[derive(Debug)]
pub enum Arrival {
    Granted(Grant),
    /// Ask [`Scheduler::turn`] when it is settled, at the latest at `expires_ns`.
    Waiting {
        waiter: WaiterId,
        expires_ns: u64,
    },
    Shed(Shed),
}

/// What became of a call that waited.
#[derive(Debug)]
pub enum Turn {
    /// Not settled yet, and at the latest at `expires_ns`: new rules change that.
    Waiting {
        expires_ns: u64,
    },
    /// It runs; it waited so long.
    Granted {
        grant: Grant,
        waited_ns: u64,
    },
    Shed(Shed),
}

/// The right to run, counted; owed back to [`Scheduler::release`].
#[must_use = "a grant that is not released is a slot lost for ever"]
#[derive(Debug)]
pub struct Grant {
    run: RunId,
    way: Way,
    revocable: bool,
}

/// By which rule a call was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// Nobody waited and a slot was free.
    AtOnce,
    /// As one of the strict class.
    Strict,
    /// Its class ran fewer than its floor.
    Floor,
    /// Its class and its tenant had the least for their share.
    Share,
    /// In its tenant's turn, before older ones that had waited too long.
    NewestFirst,
    /// In its tenant's turn, past one that does not fit the budget.
    Bypass,
    /// As one of the strict class, beyond the budget; also where it was its tenant's newest.
    Overcommit,
    /// As the one by which it is found out whether the upstream answers again.
    Probe,
}

/// Why a call was sent away without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Shed {
    /// As many as may wait already do, and none of them has less right to.
    #[error("as many calls as may wait already do")]
    QueueFull,
    /// It waited, and had to make place for one with a better right to it.
    #[error("it made place in the queue for a call with a better right to it")]
    PushedOut,
    /// It waited as long as its class may.
    #[error("it waited in the queue as long as its class may")]
    QueueTimeout,
    /// Its own deadline passed, or comes before it could start.
    #[error("its deadline passes before it can start")]
    DeadlineUnmeetable,
    /// It ran, and was taken back for a more important one before anybody saw of its answer.
    #[error("it was taken back for a more important call before its first byte")]
    Preempted,
    /// The upstream is left alone for a while, because it fails.
    #[error("the upstream fails, and is left alone for a while")]
    BreakerOpen,
    /// Nothing new is taken any more.
    #[error("draining: nothing new is taken")]
    Draining,
}

/// How many calls of one class run and wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassCounts {
    pub inflight: u64,
    pub waiting: usize,
    /// The cost of those that wait.
    pub waiting_cost: u64,
}

/// The order of calls at one upstream.
#[derive(Debug)]
pub struct Scheduler {
    limit: Option<NonZeroU32>,
    bounds: Bounds,
    draining: bool,
    gate: gate::State,
    inflight: u64,
    /// As it was estimated.
    inflight_cost: u128,
    waiting: usize,
    /// Never empty, most important first.
    classes: Vec<Class>,
    /// Where those that run are counted; a class may be gone before its last call.
    seats: Vec<Seat>,
    /// The virtual start of the last weighted call: where a class that was idle begins.
    virtual_now: u128,
    waiters: Waiters,
    /// All that wait, oldest first.
    arrivals: List,
    /// All that wait, by the moment their waiting ends, and of equals by their age.
    expiry: Heap<(u64, u64)>,
    /// Settled, and nobody was told yet.
    settled: VecDeque<WaiterId>,
    runs: Runs,
    /// Taken back, and nobody was told yet.
    victims: VecDeque<RunId>,
}

impl Scheduler {
    /// `limit`: how many run at once, `None` without end. `classes`: most important
    /// first; those beyond [`CLASSES_MAX`](crate::class::CLASSES_MAX) are not kept (no [`ClassId`] names them).
    /// Without any class there is one in which nothing waits.
    pub fn new(limit: Option<NonZeroU32>, classes: &[ClassRules]) -> Self {
        let mut scheduler = Self {
            limit,
            bounds: Bounds::default(),
            draining: false,
            gate: gate::State::default(),
            inflight: 0,
            inflight_cost: 0,
            waiting: 0,
            classes: Vec::new(),
            seats: Vec::new(),
            virtual_now: 0,
            waiters: Waiters::default(),
            arrivals: List::default(),
            expiry: Heap::default(),
            settled: VecDeque::new(),
            runs: Runs::default(),
            victims: VecDeque::new(),
        };
        let classes: Vec<_> =
            classes.iter().map(|rules| NewClass { rules: *rules, was: None }).collect();
        scheduler.set_rules(&classes, ClassId::default(), 0);
        scheduler
    }

    /// Lets a call in, makes it wait, or sheds it.
    pub fn arrive(&mut self, ask: &Ask, now_ns: u64) -> Arrival {
        if self.draining {
            return Arrival::Shed(Shed::Draining);
        }
        if ask.latest_ns().is_some_and(|latest_ns| latest_ns <= now_ns) {
            return Arrival::Shed(Shed::DeadlineUnmeetable);
        }
        self.expire(now_ns);
        if self.gate.is_shut() {
            return Arrival::Shed(Shed::BreakerOpen);
        }
        let place = self.place(ask.class);
        match self.start_at_once(place, ask) {
            Some(grant) => Arrival::Granted(grant),
            None => self.enqueue(place, ask, now_ns),
        }
    }

    /// What became of a waiter. Anything but [`Turn::Waiting`] is said once and ends it.
    pub fn turn(&mut self, waiter: WaiterId, now_ns: u64) -> Turn {
        self.expire(now_ns);
        match self.waiters.stage(waiter) {
            Some(Stage::Waiting) => {
                let expires_ns = self.waiters.waiter(waiter).map_or(now_ns, |it| it.expires_ns);
                // Somebody has to look when the gate may be tried.
                Turn::Waiting {
                    expires_ns: self.gate.look_ns().map_or(expires_ns, |at| at.min(expires_ns)),
                }
            }
            Some(Stage::Granted { run, way, waited_ns }) => {
                self.waiters.remove(waiter);
                Turn::Granted { grant: self.runs.take(run, way), waited_ns }
            }
            Some(Stage::Shed(shed)) => {
                self.waiters.remove(waiter);
                Turn::Shed(shed)
            }
            None => {
                debug_assert!(false, "asked for the turn of a waiter that is gone");
                Turn::Shed(Shed::QueueTimeout)
            }
        }
    }

    /// A waiter went away on its own. If its turn had come, the next one's comes now.
    pub fn leave(&mut self, waiter: WaiterId, now_ns: u64) {
        match self.waiters.stage(waiter) {
            Some(Stage::Waiting) => {
                self.unlink(waiter);
                self.waiters.remove(waiter);
                // It may have been in the way of one that fits the budget.
                self.dispatch(now_ns);
            }
            Some(Stage::Granted { run, way, .. }) => {
                self.waiters.remove(waiter);
                self.release_settled(Grant { run, way, revocable: false }, 0, now_ns);
            }
            Some(Stage::Shed(_)) => {
                self.waiters.remove(waiter);
            }
            None => debug_assert!(false, "a waiter left twice"),
        }
    }

    /// A more important one depends on a waiter now: it waits on as one of that class, with
    /// its own patience. False: it is as important already, waits no more, or that class
    /// is full, and nobody is pushed out for one who has a place.
    pub fn lift(&mut self, waiter: WaiterId, class: ClassId, now_ns: u64) -> bool {
        self.expire(now_ns);
        let place = self.place(class);
        let is_waiting = self.waiters.stage(waiter) == Some(Stage::Waiting);
        let Some(seen) = self.waiters.waiter(waiter).filter(|_| is_waiting) else { return false };
        let is_full = self.classes.get(place).is_none_or(|class| class.is_full(seen.cost));
        if seen.place <= place || is_full {
            return false;
        }
        if let Some(class) = self.classes.get_mut(seen.place) {
            class.queue.remove(waiter, &mut self.waiters);
        }
        if let Some(lifted) = self.waiters.waiter_mut(waiter) {
            lifted.place = place;
        }
        self.line_up(waiter, place);
        self.dispatch(now_ns);
        true
    }

    /// A call that ran ended, and took what was estimated.
    pub fn release(&mut self, grant: Grant, now_ns: u64) {
        self.end(&grant, None, now_ns);
    }

    /// A call that ran ended, and this is what it took: its class and its tenant are charged
    /// or given back the difference.
    pub fn release_settled(&mut self, grant: Grant, cost: u64, now_ns: u64) {
        self.end(&grant, Some(cost), now_ns);
    }

    /// Changes how many run at once. Those that run already are left alone: below
    /// their number nothing new starts until enough of them ended.
    pub fn set_limit(&mut self, limit: Option<NonZeroU32>, now_ns: u64) {
        self.limit = limit;
        self.dispatch(now_ns);
    }

    /// From now on nothing arrives. What waits already keeps its place and runs.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Sheds those whose time has passed, and lets go whom they stood in the way of.
    pub fn expire(&mut self, now_ns: u64) {
        self.shed_late(now_ns);
        self.gate.pass_time(now_ns);
        self.fill(now_ns);
    }

    fn shed_late(&mut self, now_ns: u64) {
        while let Some(((expires_ns, _), idx)) = self.expiry.first() {
            if now_ns < expires_ns {
                break;
            }
            let late = self.waiters.named(idx);
            let Some(late) = late else { break };
            let Some(at_end) = self.unlink(late).map(|waiter| waiter.at_end) else { break };
            let shed = self.gate.blames(at_end);
            self.settle(late, Stage::Shed(shed));
        }
    }

    /// Somebody who stopped waiting and was not told yet.
    pub fn next_settled(&mut self) -> Option<WaiterId> {
        while let Some(waiter) = self.settled.pop_front() {
            if self.waiters.stage(waiter).is_some() {
                return Some(waiter);
            }
        }
        None
    }

    pub fn limit(&self) -> Option<NonZeroU32> {
        self.limit
    }

    pub fn inflight(&self) -> u64 {
        self.inflight
    }

    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// The cost of those that run, as it was estimated.
    pub fn inflight_cost(&self) -> u64 {
        u64::try_from(self.inflight_cost).unwrap_or(u64::MAX)
    }

    /// The cost of those that wait.
    pub fn waiting_cost(&self) -> u64 {
        let cost: u128 = self.classes.iter().map(|class| class.queue.cost()).sum();
        u64::try_from(cost).unwrap_or(u64::MAX)
    }

    /// When the longest waiter came.
    pub fn oldest_arrival_ns(&self) -> Option<u64> {
        self.waiters.arrived_ns(self.arrivals.head()?)
    }

    /// By class, most important first.
    pub fn class_counts(&self) -> impl Iterator<Item = ClassCounts> {
        self.classes.iter().map(|class| ClassCounts {
            inflight: class.inflight,
            waiting: class.queue.waiting(),
            waiting_cost: u64::try_from(class.queue.cost()).unwrap_or(u64::MAX),
        })
    }

    fn place(&self, class: ClassId) -> usize {
        class.place().min(self.classes.len().saturating_sub(1))
    }

    fn end(&mut self, grant: &Grant, actual: Option<u64>, now_ns: u64) {
        let Some(run) = self.runs.remove(grant.run) else {
            debug_assert!(false, "a call ended that never ran");
            return;
        };
        self.gate.ended(grant.run);
        self.inflight = self.inflight.saturating_sub(1);
        self.inflight_cost = self.inflight_cost.saturating_sub(u128::from(run.cost));
        let Some(seat) = self.seats.get_mut(run.seat) else { return };
        seat.live = seat.live.saturating_sub(1);
        if let Some(class) = self.classes.get_mut(seat.place) {
            class.inflight = class.inflight.saturating_sub(1);
            // One of a class that is gone is counted here, and was charged there.
            if class.seat == run.seat {
                let actual = actual.unwrap_or(run.cost);
                if !class.strict {
                    class.vtime = settled(class.vtime, run.cost, actual, class.unit);
                }
                if let Some(line) = run.line {
                    class.queue.lines.end(line, run.cost, actual);
                }
            }
        }
        self.dispatch(now_ns);
    }

    /// Takes a waiter out of every order, so that it only keeps its result.
    fn unlink(&mut self, id: WaiterId) -> Option<Waiter> {
        let waiter = self.waiters.waiter(id);
        let class = waiter.and_then(|waiter| self.classes.get_mut(waiter.place));
        let (Some(waiter), Some(class)) = (waiter, class) else {
            debug_assert!(false, "only one who waits can stop waiting");
            return None;
        };
        class.queue.remove(id, &mut self.waiters);
        self.waiters.unlink_arrival(&mut self.arrivals, id);
        self.expiry.remove(id.idx());
        self.waiting = self.waiting.saturating_sub(1);
        Some(waiter)
    }

    fn settle(&mut self, waiter: WaiterId, stage: Stage) {
        self.waiters.set_stage(waiter, stage);
        self.settled.push_back(waiter);
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
