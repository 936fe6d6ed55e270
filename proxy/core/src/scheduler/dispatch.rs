//! Who is next, by every rule there is.
//!
//! ```text
//! a slot is free?  ── the strict class, below its cap
//!                  ── else a class below its floor, the most important first
//!                  ── else the class whose virtual time is least
//!                       └─ its tenant whose virtual time is least
//!                            └─ the tenant's first, or its newest where the first is old
//!                                 └─ does it fit the budget? ── else nobody goes
//! ```
//!
//! While it is to be found out whether a failing upstream answers again, one call goes: of the
//! most important class that waits, whatever its share (`gate`).
//!
//! What does not fit stops all that come after it, or the dear would never run beside the
//! cheap. Two exceptions, both bounded: the strict class may go beyond the budget by one
//! call, and behind a head that does not fit a few of its own tenant's calls that do may go.

use super::{
    Grant, Scheduler, Stage, WaiterId, Way,
    lines::charge,
    rules::Class,
    runs::{Run, RunStage},
};

/// Who goes next, and why.
#[derive(Clone, Copy, Debug)]
struct Choice {
    waiter: WaiterId,
    line: usize,
    way: Way,
    /// The head that does not fit and is passed by.
    passed: Option<WaiterId>,
}

impl Way {
    /// Every value.
    pub const ALL: [Self; 8] = [
        Self::AtOnce,
        Self::Strict,
        Self::Floor,
        Self::Share,
        Self::NewestFirst,
        Self::Bypass,
        Self::Overcommit,
        Self::Probe,
    ];

    /// As it stands in the metric text.
    pub fn label(self) -> &'static str {
        match self {
            Self::AtOnce => "at_once",
            Self::Strict => "strict",
            Self::Floor => "floor",
            Self::Share => "share",
            Self::NewestFirst => "newest_first",
            Self::Bypass => "bypass",
            Self::Overcommit => "overcommit",
            Self::Probe => "probe",
        }
    }
}

impl Scheduler {
    /// Fills the free slots. The late are shed first, so that no slot is theirs.
    pub(super) fn dispatch(&mut self, now_ns: u64) {
        self.expire(now_ns);
        self.preempt(now_ns);
    }

    /// The same where the late are shed already and nothing is to be taken back.
    pub(super) fn fill(&mut self, now_ns: u64) {
        while 0 < self.waiting
            && let Some(choice) = self.choose(now_ns)
        {
            let Some(waiter) = self.waiters.waiter(choice.waiter) else { break };
            if let Some(class) = self.classes.get_mut(waiter.place) {
                if let Some(passed) = choice.passed {
                    class.queue.lines.pass_by(choice.line, passed);
                }
                class.queue.lines.start(choice.line, waiter.cost);
            }
            let run = Run {
                seat: 0,
                line: Some(choice.line),
                cost: waiter.cost,
                stage: RunStage::Kept,
                revocable: false,
            };
            // The count lives on in the waiter's stage; `turn` or `leave` makes
            // a grant of it again.
            let Grant { run, way, .. } = self.start(waiter.place, run, choice.way);
            self.unlink(choice.waiter);
            let waited_ns = now_ns.saturating_sub(waiter.arrived_ns);
            self.settle(choice.waiter, Stage::Granted { run, way, waited_ns });
        }
    }

    /// Starts a call at once, if it may: only where nobody waits whom it could overtake.
    pub(super) fn start_at_once(&mut self, place: usize, ask: &super::Ask) -> Option<Grant> {
        let class = self.classes.get(place)?;
        if self.waiting != 0
            || !self.has_slot()
            || class.is_at_max()
            || !(class.strict || self.leaves_reserve())
            || !(self.fits(ask.cost()) || self.may_overcommit(class))
        {
            return None;
        }
        // Where all run that come nothing is shared out, and nobody's share is counted.
        let is_bounded = self.limit.is_some() || self.bounds.budget.is_some();
        let line = is_bounded.then(|| {
            let lines = &mut self.classes.get_mut(place)?.queue.lines;
            let line = lines.join(ask.tenant, ask.weight);
            lines.start(line, ask.cost());
            Some(line)
        });
        let (line, cost) = (line.flatten(), ask.cost());
        Some(self.start(
            place,
            Run { seat: 0, line, cost, stage: RunStage::Silent, revocable: false },
            Way::AtOnce,
        ))
    }

    fn choose(&self, now_ns: u64) -> Option<Choice> {
        if !self.has_slot() {
            return None;
        }
        let (class, mut way) = self.next_class()?;
        let next = class.queue.next(&self.waiters, class.lifo_target_ns, now_ns)?;
        if next.newest_first {
            way = Way::NewestFirst;
        }
        let choice = Choice { waiter: next.waiter, line: next.line, way, passed: None };
        if self.waiters.waiter(next.waiter).is_some_and(|waiter| self.fits(waiter.cost)) {
            return Some(choice);
        }
        if self.may_overcommit(class) {
            return Some(Choice { way: Way::Overcommit, ..choice });
        }
        let waiter = class.queue.passer_by(&next, &self.waiters, |cost| self.fits(cost))?;
        Some(Choice { waiter, way: Way::Bypass, passed: Some(next.waiter), ..choice })
    }

    /// The class whose turn it is, of those that have anybody waiting.
    fn next_class(&self) -> Option<(&Class, Way)> {
        let mut busy =
            self.classes.iter().filter(|class| !class.queue.is_empty() && !class.is_at_max());
        if self.gate.is_ajar() {
            return busy.next().map(|class| (class, Way::Probe));
        }
        if let Some(strict) = busy.clone().next().filter(|class| class.strict) {
            return Some((strict, Way::Strict));
        }
        if !self.leaves_reserve() {
            return None;
        }
        if let Some(class) = busy.clone().find(|class| class.inflight < class.floor) {
            return Some((class, Way::Floor));
        }
        // Of equals the first: the more important class.
        let first = busy.next()?;
        let least =
            busy.fold(first, |least, class| if class.vtime < least.vtime { class } else { least });
        Some((least, Way::Share))
    }

    pub(super) fn has_slot(&self) -> bool {
        !self.gate.is_shut()
            && self.limit.is_none_or(|limit| self.inflight < u64::from(limit.get()))
    }

    /// Whether a slot is free that the strict class does not keep to itself.
    pub(super) fn leaves_reserve(&self) -> bool {
        let strict = self.classes.first().filter(|class| class.strict);
        let (Some(limit), Some(strict)) = (self.limit, strict) else { return true };
        let reserve = self.bounds.reserve.min(limit.get() - 1);
        let others = self.inflight.saturating_sub(strict.inflight);
        others < u64::from(limit.get() - reserve)
    }

    fn fits(&self, cost: u64) -> bool {
        self.bounds.budget.is_none_or(|budget| {
            self.inflight == 0
                || self.inflight_cost.saturating_add(u128::from(cost)) <= u128::from(budget.get())
        })
    }

    /// By one call: the next one finds the budget exceeded.
    fn may_overcommit(&self, class: &Class) -> bool {
        let budget = self.bounds.budget.map_or(u128::MAX, |budget| u128::from(budget.get()));
        class.strict && self.inflight_cost <= budget
    }

    /// Counts a call as running and charges its class.
    fn start(&mut self, place: usize, mut run: Run, way: Way) -> Grant {
        self.inflight += 1;
        self.inflight_cost = self.inflight_cost.saturating_add(u128::from(run.cost));
        if let Some(class) = self.classes.get_mut(place) {
            run.seat = class.seat;
            // Nobody else may go while it finds out.
            run.revocable =
                class.preemptible && 0 < self.bounds.preempt_per_s && !self.gate.is_ajar();
            class.inflight += 1;
            if !class.strict {
                // What was idle is not saved up; what was given back to one that waits is.
                let waits = !class.queue.is_empty();
                let start = if waits { class.vtime } else { class.vtime.max(self.virtual_now) };
                class.vtime = start.saturating_add(charge(run.cost, class.unit));
                self.virtual_now = self.virtual_now.max(start);
            }
        }
        if let Some(seat) = self.seats.get_mut(run.seat) {
            seat.live += 1;
        }
        let revocable = run.revocable;
        let run = self.runs.insert(run);
        let way = if self.gate.started(run) { Way::Probe } else { way };
        Grant { run, way, revocable }
    }
}
