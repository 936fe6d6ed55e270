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

use super::{ClassQueue, Scheduler, Shed, Stage};
use crate::class::{CLASSES_MAX, ClassId};

/// One unit of cost in a class of weight 1 moves its virtual time by this much.
/// A power of two far above any weight, so that rounding never decides an order.
const UNIT: u64 = 1 << 32;

/// What a class is entitled to at one upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassRules {
    /// Goes before everybody else. Honoured for the first class only: a strict
    /// class further down would starve the ones above it.
    pub strict: bool,
    /// The share of a class that is not strict. 0 counts as 1.
    pub weight: u32,
    /// How many calls may wait. 0: none ever waits.
    pub queue_max: usize,
    /// How long one may wait.
    pub max_wait_ns: u64,
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
    pub(super) queue_max: usize,
    max_wait_ns: u64,
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
        const NOTHING_WAITS: NewClass = NewClass {
            rules: ClassRules { strict: false, weight: 1, queue_max: 0, max_wait_ns: 0 },
            was: None,
        };
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
        let joins = before.iter().flatten().any(|gone| !gone.queue.is_empty());
        self.move_waiters(&heirs, joins.then_some(default));
        self.expire(now_ns);
        self.shed_beyond_bounds();
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
            let Some(class) = self.classes.get_mut(place) else { continue };
            waiter.place = place;
            (waiter.expires_ns, waiter.at_end) =
                class.patience(waiter.arrived_ns, waiter.deadline_ns);
            self.expiry.insert((waiter.expires_ns, id));
            if joined == Some(place) {
                let line = class.queue.key(waiter.tenant);
                waiter.line = line;
                class.queue.push(id, line, &mut self.waiters);
            }
        }
    }

    fn shed_beyond_bounds(&mut self) {
        let ids: Vec<_> = self.waiters.arrivals(&self.arrivals).collect();
        for id in ids.into_iter().rev() {
            let waiter = self.waiters.waiter(id);
            let class = waiter.and_then(|waiter| self.classes.get(waiter.place));
            if class.is_some_and(|class| class.queue_max < class.queue.waiting()) {
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
            unit: UNIT / u64::from(rules.weight.max(1)),
            queue_max: rules.queue_max,
            max_wait_ns: rules.max_wait_ns,
            // One that was strict or is new stands where time stands.
            vtime: self.vtime.max(virtual_now),
            ..self
        }
    }

    /// When the waiting of one that arrived then ends, and what it is told.
    pub(super) fn patience(&self, arrived_ns: u64, deadline_ns: Option<u64>) -> (u64, Shed) {
        let patience_ns = arrived_ns.saturating_add(self.max_wait_ns);
        match deadline_ns {
            Some(deadline_ns) if deadline_ns <= patience_ns => {
                (deadline_ns, Shed::DeadlineUnmeetable)
            }
            Some(_) | None => (patience_ns, Shed::QueueTimeout),
        }
    }
}
