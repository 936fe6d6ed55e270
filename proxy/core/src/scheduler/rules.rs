//! What classes are entitled to, and how that changes while calls run and wait.
//!
//! New rules move nobody who runs. Who waits stays in its class as long as there is
//! one of that name, else it joins the default class, in the order in which all of
//! them arrived; there the new queue bound and patience hold for it as if they had
//! always been in force. So after a change, as ever, no queue is longer than its
//! bound and nobody waits longer than its class may: those for whom that leaves no
//! place are told so, the latest first.
//!
//! One scheduler for all configurations, because a second one beside it would let
//! as many calls run again: the upstream's limit is one number.

use super::{ClassQueue, Scheduler, Shed, Stage, lines::unit};
use crate::class::{CLASSES_MAX, ClassId};
use std::num::{NonZeroU32, NonZeroU64};

/// What holds for all classes together, beside the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How much may run at once, in units of cost. `None`: as much as the limit lets.
    /// One call that is dearer than that runs alone.
    pub budget: Option<NonZeroU64>,
    /// How many calls of all classes may wait.
    pub queue_max: usize,
    /// Of the limit, how many slots only the strict class may take, whether it has use for
    /// them or not. At least one is always left to the others.
    pub reserve: u32,
    /// How many calls of classes that allow it are taken back in a second for those of the
    /// strict class that wait. 0: none ever.
    pub preempt_per_s: u32,
}

impl Default for Bounds {
    /// Nothing but the limit and the classes' own.
    fn default() -> Self {
        Self { budget: None, queue_max: usize::MAX, reserve: 0, preempt_per_s: 0 }
    }
}

/// What a class is entitled to at one upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassRules {
    /// Goes before everybody else. Honoured for the first class only: a strict
    /// class further down would starve the ones above it.
    pub strict: bool,
    /// The share of a class that is not strict. 0 counts as 1.
    pub weight: u32,
    /// How many may run at once; `None`: as many as the limit lets.
    pub max: Option<NonZeroU32>,
    /// How many may run before weights are asked; those of a more important class come
    /// first. A slot that it has no use for is anybody's.
    pub floor: u32,
    /// How many calls may wait. 0: none ever waits.
    pub queue_max: usize,
    /// How much may wait, in units of cost.
    pub queue_cost_max: u64,
    /// How long one may wait.
    pub max_wait_ns: u64,
    /// How long the first of a tenant's calls has waited when its newest goes before it.
    /// `u64::MAX`: never.
    pub lifo_target_ns: u64,
    /// Whether its calls may be taken back before their first byte.
    pub preemptible: bool,
}

impl ClassRules {
    /// Shares by weight, and none ever waits.
    pub const NOTHING_WAITS: Self = Self {
        strict: false,
        weight: 1,
        max: None,
        floor: 0,
        queue_max: 0,
        queue_cost_max: u64::MAX,
        max_wait_ns: 0,
        lifo_target_ns: u64::MAX,
        preemptible: false,
    };
}

/// A class of a new list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewClass {
    pub rules: ClassRules,
    /// The class of the list before that it goes on as; `None`: it is new. Where two
    /// name the same one, the first is it.
    pub was: Option<ClassId>,
}

#[derive(Debug, Default)]
pub(super) struct Class {
    pub(super) strict: bool,
    /// What a unit of cost adds to `vtime`.
    pub(super) unit: u64,
    max: Option<NonZeroU32>,
    pub(super) floor: u64,
    queue_max: usize,
    queue_cost_max: u64,
    max_wait_ns: u64,
    pub(super) lifo_target_ns: u64,
    pub(super) preemptible: bool,
    /// How many run, those of classes that are gone and count as it among them.
    pub(super) inflight: u64,
    /// Its place among the seats.
    pub(super) seat: usize,
    /// The virtual start of its next call.
    pub(super) vtime: u128,
    pub(super) queue: ClassQueue,
}

/// Where the calls of a class that run are counted. It is kept after its class until
/// the last of them ended, so that what a grant names means the same all its life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    /// The class they count as now.
    pub(super) place: usize,
    pub(super) live: u64,
}

impl Scheduler {
    /// Puts another list of classes into force, most important first; what waits in a
    /// class that no new one goes on as joins `default`. As in [`Scheduler::new`], classes
    /// beyond [`CLASSES_MAX`] are not kept, and without any nothing waits.
    pub fn set_rules(&mut self, classes: &[NewClass], default: ClassId, now_ns: u64) {
        const NOTHING_WAITS: NewClass = NewClass { rules: ClassRules::NOTHING_WAITS, was: None };
        self.expire(now_ns);
        let list = if classes.is_empty() { &[NOTHING_WAITS] } else { classes };
        let mut before: Vec<_> = std::mem::take(&mut self.classes).into_iter().map(Some).collect();
        let mut heirs = vec![None; before.len()];
        for (place, new) in list.iter().take(CLASSES_MAX).enumerate() {
            let was = new.was.map(ClassId::place);
            let kept = was.and_then(|was| before.get_mut(was)?.take());
            if let Some(heir) = was.filter(|_| kept.is_some()).and_then(|it| heirs.get_mut(it)) {
                *heir = Some(place);
            }
            let class = match kept {
                Some(class) => class,
                None => Class { seat: self.new_seat(&before), ..Class::default() },
            };
            self.classes.push(class.under(place, &new.rules, self.virtual_now));
        }
        let default = default.place().min(self.classes.len().saturating_sub(1));
        let heirs: Vec<usize> = heirs.into_iter().map(|heir| heir.unwrap_or(default)).collect();
        for seat in &mut self.seats {
            seat.place = heirs.get(seat.place).copied().unwrap_or(default);
        }
        for (place, class) in self.classes.iter().enumerate() {
            if let Some(seat) = self.seats.get_mut(class.seat) {
                seat.place = place;
            }
        }
        for (place, class) in self.classes.iter_mut().enumerate() {
            let seats = self.seats.iter().filter(|seat| seat.place == place);
            class.inflight = seats.map(|seat| seat.live).sum();
        }
        let joins = before.iter().flatten().any(|gone| !gone.queue.is_empty());
        self.move_waiters(&heirs, joins.then_some(default));
        self.shed_late(now_ns);
        self.shed_beyond_bounds();
        // A higher cap or floor may have made somebody's turn.
        self.dispatch(now_ns);
    }

    /// Changes what holds for all classes together. What waits beyond a shorter queue is
    /// shed, the latest first.
    pub fn set_bounds(&mut self, bounds: Bounds, now_ns: u64) {
        self.bounds = bounds;
        self.shed_late(now_ns);
        self.shed_beyond_bounds();
        self.dispatch(now_ns);
    }

    /// A seat that no class has and nobody sits in.
    fn new_seat(&mut self, before: &[Option<Class>]) -> usize {
        let is_taken = |seat: usize| {
            let mut classes = self.classes.iter().chain(before.iter().flatten());
            classes.any(|class| class.seat == seat)
        };
        let mut seats = self.seats.iter().enumerate();
        let free = seats.position(|(idx, seat)| seat.live == 0 && !is_taken(idx));
        free.unwrap_or_else(|| {
            self.seats.push(Seat { place: 0, live: 0 });
            self.seats.len() - 1
        })
    }

    /// Gives all that wait their new places and times. `joined`: the class whose lines
    /// are made anew, because calls of classes that are gone join them.
    fn move_waiters(&mut self, heirs: &[usize], joined: Option<usize>) {
        if let Some(class) = joined.and_then(|place| self.classes.get_mut(place)) {
            class.queue.empty_lines();
        }
        self.expiry.clear();
        let ids: Vec<_> = self.waiters.arrivals(&self.arrivals).collect();
        for id in ids {
            let Some(waiter) = self.waiters.waiter_mut(id) else { continue };
            let place = heirs.get(waiter.place).copied().unwrap_or(0);
            waiter.place = place;
            waiter.home = heirs.get(waiter.home).copied().unwrap_or(0);
            if let Some(home) = self.classes.get(waiter.home) {
                (waiter.expires_ns, waiter.at_end) =
                    home.patience(waiter.arrived_ns, waiter.latest_ns);
            }
            self.expiry.set(id.idx(), (waiter.expires_ns, waiter.arrived_ns));
            if joined == Some(place)
                && let Some(class) = self.classes.get_mut(place)
            {
                class.queue.push(id, &mut self.waiters);
            }
        }
        if let Some(class) = joined.and_then(|place| self.classes.get_mut(place)) {
            class.queue.lines.tidy();
        }
    }

    fn shed_beyond_bounds(&mut self) {
        let ids: Vec<_> = self.waiters.arrivals(&self.arrivals).collect();
        for id in ids.into_iter().rev() {
            let waiter = self.waiters.waiter(id);
            let class = waiter.and_then(|waiter| self.classes.get(waiter.place));
            let too_many = self.bounds.queue_max < self.waiting;
            if too_many || class.is_some_and(Class::is_over) {
                self.unlink(id);
                self.settle(id, Stage::Shed(Shed::QueueFull));
            }
        }
    }
}

impl Class {
    /// The same class under new rules. What it waited or ran so far stands: only what
    /// it starts from now on is charged at the new weight.
    fn under(self, place: usize, rules: &ClassRules, virtual_now: u128) -> Self {
        Self {
            strict: rules.strict && place == 0,
            unit: unit(rules.weight),
            max: rules.max,
            floor: u64::from(rules.floor),
            queue_max: rules.queue_max,
            queue_cost_max: rules.queue_cost_max,
            max_wait_ns: rules.max_wait_ns,
            lifo_target_ns: rules.lifo_target_ns,
            preemptible: rules.preemptible,
            // One that was strict or is new stands where time stands.
            vtime: self.vtime.max(virtual_now),
            ..self
        }
    }

    /// When the waiting of one that arrived then ends, and what it is told.
    pub(super) fn patience(&self, arrived_ns: u64, latest_ns: Option<u64>) -> (u64, Shed) {
        let patience_ns = arrived_ns.saturating_add(self.max_wait_ns);
        match latest_ns {
            Some(latest_ns) if latest_ns <= patience_ns => (latest_ns, Shed::DeadlineUnmeetable),
            Some(_) | None => (patience_ns, Shed::QueueTimeout),
        }
    }

    /// Whether as many run as may, whatever the limit.
    pub(super) fn is_at_max(&self) -> bool {
        self.max.is_some_and(|max| u64::from(max.get()) <= self.inflight)
    }

    /// Whether more waits than may.
    pub(super) fn is_over(&self) -> bool {
        self.queue_max < self.queue.waiting() || u128::from(self.queue_cost_max) < self.queue.cost()
    }

    /// Whether one more of this cost would be too much.
    pub(super) fn is_full(&self, cost: u64) -> bool {
        let queue = &self.queue;
        self.queue_max <= queue.waiting()
            || u128::from(self.queue_cost_max) < queue.cost() + u128::from(cost)
    }
}
