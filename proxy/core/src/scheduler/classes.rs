//! The list of classes of one configuration, by name.
//!
//! Whoever asks for a permit names its class by its place in the list of the
//! configuration it was read under; a reload may have put another list into force since.
//! So a list goes along, and where it is not the one in force, names decide.

use super::{ClassRules, NewClass};
use crate::class::ClassId;
use std::{num::NonZeroU32, sync::Arc, time::Duration};

/// What a class is entitled to at one upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassLimits {
    /// Goes before everybody else; honoured for the first class only.
    pub strict: bool,
    /// The share of a class that is not strict; 0 counts as 1.
    pub weight: u32,
    /// How many may run at once; `None`: as many as the upstream's limit lets.
    pub max: Option<NonZeroU32>,
    /// How many may run before weights are asked.
    pub floor: u32,
    /// How many calls may wait; 0: none ever waits.
    pub queue_max: usize,
    /// How much may wait, in units of cost; `None`: only their number is bounded.
    pub queue_cost_max: Option<u64>,
    /// How long one may wait.
    pub max_wait: Duration,
    /// How long the first of a tenant has waited when its newest goes before it; `None`: never.
    pub lifo_target: Option<Duration>,
    /// Whether its calls may be taken back before their first byte.
    pub preemptible: bool,
}

impl ClassLimits {
    /// Shares by weight, and none ever waits.
    pub const NOTHING_WAITS: Self = Self {
        strict: false,
        weight: 1,
        max: None,
        floor: 0,
        queue_max: 0,
        queue_cost_max: None,
        max_wait: Duration::ZERO,
        lifo_target: None,
        preemptible: false,
    };
}

/// All classes, most important first.
#[derive(Debug, PartialEq, Eq)]
pub struct Classes {
    list: Box<[(Arc<str>, ClassLimits)]>,
    default: ClassId,
}

impl Classes {
    /// `default`: of calls that claim none, or one that is in the list no more.
    pub fn new(
        list: impl IntoIterator<Item = (Arc<str>, ClassLimits)>,
        default: ClassId,
    ) -> Arc<Self> {
        Arc::new(Self { list: list.into_iter().collect(), default })
    }

    /// Most important first.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.list.iter().map(|(name, _)| name)
    }

    pub fn default_class(&self) -> ClassId {
        self.default
    }

    /// The class that is called here as `class` is in `other`; the default, if none is.
    pub fn translate(&self, class: ClassId, other: &Self) -> ClassId {
        // Beyond a list is its last.
        let named = other.list.get(class.place()).or(other.list.last());
        named.and_then(|(name, _)| self.find(name)).unwrap_or(self.default)
    }

    /// These, for [`super::Scheduler::set_rules`], where `before` is in force.
    pub fn after(&self, before: Option<&Self>) -> Vec<NewClass> {
        let list = self.list.iter();
        list.map(|(name, limits)| {
            let was = before.and_then(|before| before.find(name));
            NewClass { rules: ClassRules::from(*limits), was }
        })
        .collect()
    }

    fn find(&self, name: &str) -> Option<ClassId> {
        ClassId::new(self.list.iter().position(|(other, _)| **other == *name)?)
    }
}

impl From<ClassLimits> for ClassRules {
    fn from(limits: ClassLimits) -> Self {
        let ClassLimits { strict, weight, max, floor, queue_max, preemptible, .. } = limits;
        let ns = |wait: Duration| u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        Self {
            strict,
            weight,
            max,
            floor,
            queue_max,
            queue_cost_max: limits.queue_cost_max.unwrap_or(u64::MAX),
            max_wait_ns: ns(limits.max_wait),
            lifo_target_ns: limits.lifo_target.map_or(u64::MAX, ns),
            preemptible,
        }
    }
}
