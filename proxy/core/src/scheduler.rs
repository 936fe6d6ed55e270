//! Decides which call runs, which waits, in what order, and which is shed.
//!
//! ```text
//!              ┌─ drained, out of time, no room in the queue ─────────▶ Shed
//!   arrive ────┤
//!              ├─ nobody waits and a slot is free ────────────────────▶ Granted ── release
//!              └─▶ Waiting ─┬─ its turn came ──▶ granted, not taken ──▶ Granted ── release
//!                           ├─ its time passed ──▶ shed, not taken ───▶ Shed
//!                           └─ leave: gone, from any of these states
//! ```
//!
//! The order: a strict first class before all others; the others by start-time
//! fair queueing (each grant moves the class's virtual time on by cost / weight,
//! the least virtual time is next); inside a class, tenants in turn; inside a
//! tenant, first come first served.
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
//! **Invariant:** after every call, nobody waits while a slot is free.

mod classes;
mod queue;
mod rules;
mod waiters;

use crate::class::ClassId;
use queue::{ClassQueue, TenantKey};
use rules::{Class, Seat};
use std::{
    collections::{BTreeSet, VecDeque},
    num::NonZeroU32,
};
use waiters::{List, Stage, Waiter, Waiters};

pub use classes::{ClassLimits, Classes};
pub use rules::{ClassRules, NewClass};
pub use waiters::WaiterId;

/// The dearest call that is believed, in units of cost. At this price and weight
/// 1 a class's virtual time has room for 2^56 calls: it never wraps.
const COST_MAX: u64 = 1 << 40;

/// A call that wants to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// A class beyond the configured list is treated as the last of the list.
    pub class: ClassId,
    /// A hash of the tenant, alike for all its calls.
    pub tenant: u64,
    /// What the call takes from its class's share; 0 counts as 1. Give 1 to share by calls.
    pub cost: u64,
    /// When the caller stops caring. It is not started at or after that moment.
    pub deadline_ns: Option<u64>,
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
    seat: usize,
}

/// Why a call was sent away without being tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Shed {
    /// As many as may wait in its class already do.
    #[error("as many calls of its class as may wait already do")]
    QueueFull,
    /// It waited as long as its class may.
    #[error("it waited in the queue as long as its class may")]
    QueueTimeout,
    /// Its own deadline passed, or comes before it could start.
    #[error("its deadline passes before it can start")]
    DeadlineUnmeetable,
    /// Nothing new is taken any more.
    #[error("draining: nothing new is taken")]
    Draining,
}

/// How many calls of one class run and wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassCounts {
    pub inflight: u64,
    pub waiting: usize,
}

/// The order of calls at one upstream.
#[derive(Debug)]
pub struct Scheduler {
    limit: Option<NonZeroU32>,
    draining: bool,
    inflight: u64,
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
    /// All that wait, by the moment their waiting ends.
    expiry: BTreeSet<(u64, WaiterId)>,
    /// Settled, and nobody was told yet.
    settled: VecDeque<WaiterId>,
}

impl Scheduler {
    /// `limit`: how many run at once, `None` without end. `classes`: most important
    /// first; those beyond [`CLASSES_MAX`](crate::class::CLASSES_MAX) are not kept (no [`ClassId`] names them).
    /// Without any class there is one in which nothing waits.
    pub fn new(limit: Option<NonZeroU32>, classes: &[ClassRules]) -> Self {
        let mut scheduler = Self {
            limit,
            draining: false,
            inflight: 0,
            waiting: 0,
            classes: Vec::new(),
            seats: Vec::new(),
            virtual_now: 0,
            waiters: Waiters::default(),
            arrivals: List::default(),
            expiry: BTreeSet::new(),
            settled: VecDeque::new(),
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
        if ask.deadline_ns.is_some_and(|deadline_ns| deadline_ns <= now_ns) {
            return Arrival::Shed(Shed::DeadlineUnmeetable);
        }
        self.expire(now_ns);
        // Nobody may overtake those who wait, so only an empty queue lets through.
        let place = ask.class.place().min(self.classes.len().saturating_sub(1));
        if self.waiting == 0 && self.has_room() {
            return Arrival::Granted(self.start(place, ask.cost));
        }
        self.enqueue(place, ask, now_ns)
    }

    /// What became of a waiter. Anything but [`Turn::Waiting`] is said once and ends it.
    pub fn turn(&mut self, waiter: WaiterId, now_ns: u64) -> Turn {
        self.expire(now_ns);
        match self.waiters.stage(waiter) {
            Some(Stage::Waiting) => {
                let expires_ns = self.waiters.waiter(waiter).map_or(now_ns, |it| it.expires_ns);
                Turn::Waiting { expires_ns }
            }
            Some(Stage::Granted { seat, waited_ns }) => {
                self.waiters.remove(waiter);
                Turn::Granted { grant: Grant { seat }, waited_ns }
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
            }
            Some(Stage::Granted { seat, .. }) => {
                self.waiters.remove(waiter);
                self.release(Grant { seat }, now_ns);
            }
            Some(Stage::Shed(_)) => {
                self.waiters.remove(waiter);
            }
            None => debug_assert!(false, "a waiter left twice"),
        }
    }

    /// A call that ran ended.
    pub fn release(&mut self, grant: Grant, now_ns: u64) {
        debug_assert!(0 < self.inflight, "a call ended that never ran");
        self.inflight = self.inflight.saturating_sub(1);
        if let Some(seat) = self.seats.get_mut(grant.seat) {
            seat.live = seat.live.saturating_sub(1);
        }
        self.dispatch(now_ns);
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

    /// Sheds those whose time has passed.
    pub fn expire(&mut self, now_ns: u64) {
        while let Some(&(expires_ns, waiter)) = self.expiry.first() {
            if now_ns < expires_ns {
                break;
            }
            let Some(at_end) = self.unlink(waiter).map(|waiter| waiter.at_end) else { break };
            self.settle(waiter, Stage::Shed(at_end));
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

    /// When the longest waiter came.
    pub fn oldest_arrival_ns(&self) -> Option<u64> {
        self.waiters.arrived_ns(self.arrivals.head()?)
    }

    /// By class, most important first.
    pub fn class_counts(&self) -> impl Iterator<Item = ClassCounts> {
        self.classes.iter().enumerate().map(|(place, class)| {
            let seats = self.seats.iter().filter(|seat| seat.place == place);
            ClassCounts {
                inflight: seats.map(|seat| seat.live).sum(),
                waiting: class.queue.waiting(),
            }
        })
    }

    fn has_room(&self) -> bool {
        self.limit.is_none_or(|limit| self.inflight < u64::from(limit.get()))
    }

    fn enqueue(&mut self, place: usize, ask: &Ask, now_ns: u64) -> Arrival {
        let Some(class) = self.classes.get_mut(place) else {
            debug_assert!(false, "there is always a class");
            return Arrival::Shed(Shed::QueueFull);
        };
        if class.queue_max <= class.queue.waiting() {
            return Arrival::Shed(Shed::QueueFull);
        }
        let (expires_ns, at_end) = class.patience(now_ns, ask.deadline_ns);
        if expires_ns <= now_ns {
            return Arrival::Shed(at_end);
        }
        let waiter = Waiter {
            place,
            tenant: ask.tenant,
            line: class.queue.key(ask.tenant),
            cost: ask.cost,
            arrived_ns: now_ns,
            deadline_ns: ask.deadline_ns,
            expires_ns,
            at_end,
        };
        let Some(id) = self.waiters.insert(waiter) else {
            return Arrival::Shed(Shed::QueueFull);
        };
        if class.queue.is_empty() {
            class.vtime = class.vtime.max(self.virtual_now);
        }
        class.queue.push(id, waiter.line, &mut self.waiters);
        self.waiters.append_arrival(&mut self.arrivals, id);
        self.expiry.insert((expires_ns, id));
        self.waiting += 1;
        Arrival::Waiting { waiter: id, expires_ns }
    }

    /// Fills the free slots. The late are shed first, so that no slot is theirs.
    fn dispatch(&mut self, now_ns: u64) {
        self.expire(now_ns);
        while self.has_room()
            && let Some(id) = self.next_waiter()
        {
            let Some(waiter) = self.unlink(id) else { break };
            if let Some(class) = self.classes.get_mut(waiter.place) {
                class.queue.pass_turn(waiter.line);
            }
            // The count lives on in the waiter's stage; `turn` or `leave` makes
            // a grant of it again.
            let Grant { seat } = self.start(waiter.place, waiter.cost);
            let waited_ns = now_ns.saturating_sub(waiter.arrived_ns);
            self.settle(id, Stage::Granted { seat, waited_ns });
        }
    }

    /// Who is first of all that wait.
    fn next_waiter(&self) -> Option<WaiterId> {
        let busy = self.classes.iter().filter(|class| !class.queue.is_empty());
        // Of equals `min_by_key` takes the first: the more important class.
        busy.min_by_key(|class| (!class.strict, class.vtime))?.queue.first()
    }

    /// Counts a call as running and charges its class.
    fn start(&mut self, place: usize, cost: u64) -> Grant {
        self.inflight += 1;
        let mut seat = 0;
        if let Some(class) = self.classes.get_mut(place) {
            seat = class.seat;
            if !class.strict {
                // Also when nobody waits: what was idle is not saved up.
                let start = class.vtime.max(self.virtual_now);
                let charge = u128::from(cost.clamp(1, COST_MAX)) * u128::from(class.unit);
                class.vtime = start.saturating_add(charge);
                self.virtual_now = start;
            }
        }
        if let Some(seat) = self.seats.get_mut(seat) {
            seat.live += 1;
        }
        Grant { seat }
    }

    /// Takes a waiter out of every order, so that it only keeps its result.
    fn unlink(&mut self, id: WaiterId) -> Option<Waiter> {
        let waiter = self.waiters.waiter(id);
        let class = waiter.and_then(|waiter| self.classes.get_mut(waiter.place));
        let (Some(waiter), Some(class)) = (waiter, class) else {
            debug_assert!(false, "only one who waits can stop waiting");
            return None;
        };
        class.queue.remove(id, waiter.line, &mut self.waiters);
        self.waiters.unlink_arrival(&mut self.arrivals, id);
        self.expiry.remove(&(waiter.expires_ns, id));
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
