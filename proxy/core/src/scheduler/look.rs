//! What somebody who looks is told of those who wait: who, how long, and for what.
//!
//! Nothing here decides. That a class waits for a reason that can be named at all follows from
//! the invariant: nobody waits who may have a slot that is free, so one rule is in its way.

use super::{Scheduler, Shed, WaiterId};
use crate::class::ClassId;

/// What a class's calls wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The upstream, which fails: nobody starts, but for one that finds out.
    Gate,
    /// A slot: as many run as may.
    Limit,
    /// Its class runs as many as it may, whatever is free.
    ClassMax,
    /// What is free is kept for the strict class.
    Reserve,
    /// The budget of cost in flight: it, or the one whose turn is before it, does not fit.
    Budget,
}

impl Why {
    /// A word for it, the same in every version.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gate => "breaker",
            Self::Limit => "limit",
            Self::ClassMax => "class_max",
            Self::Reserve => "reserve",
            Self::Budget => "budget",
        }
    }
}

impl Shed {
    /// Every value.
    pub const ALL: [Self; 7] = [
        Self::QueueFull,
        Self::PushedOut,
        Self::QueueTimeout,
        Self::DeadlineUnmeetable,
        Self::Preempted,
        Self::Draining,
        Self::BreakerOpen,
    ];

    /// The reason that a caller is told, and metrics are counted by.
    pub fn reason(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::PushedOut => "pushed_out",
            Self::QueueTimeout => "queue_timeout",
            Self::DeadlineUnmeetable => "deadline_unmeetable",
            Self::Preempted => "preempted",
            Self::Draining => "draining",
            Self::BreakerOpen => "breaker_open",
        }
    }
}

/// One who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    pub waiter: WaiterId,
    /// The place of the class in which it waits.
    pub place: usize,
    pub cost: u64,
    pub arrived_ns: u64,
}

impl Scheduler {
    /// Those who wait, oldest first.
    pub fn waits(&self) -> impl Iterator<Item = Waits> {
        self.waiters.arrivals(&self.arrivals).filter_map(|id| {
            let waiter = self.waiters.waiter(id)?;
            let (place, cost, arrived_ns) = (waiter.place, waiter.cost, waiter.arrived_ns);
            Some(Waits { waiter: id, place, cost, arrived_ns })
        })
    }

    /// The class that a waiter has asked for, or the one that took its place; also of one that
    /// was lifted. `None`: it is gone.
    pub fn class_of(&self, waiter: WaiterId) -> Option<ClassId> {
        ClassId::new(self.waiters.waiter(waiter)?.home)
    }

    /// Why the class at this place waits; `None`: nobody of it does.
    pub fn why(&self, place: usize) -> Option<Why> {
        let class = self.classes.get(place).filter(|class| !class.queue.is_empty())?;
        Some(if self.gate.is_shut() {
            Why::Gate
        } else if !self.has_slot() {
            Why::Limit
        } else if class.is_at_max() {
            Why::ClassMax
        } else if !class.strict && !self.leaves_reserve() {
            Why::Reserve
        } else {
            Why::Budget
        })
    }
}
