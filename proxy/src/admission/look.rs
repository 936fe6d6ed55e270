//! How things stand at an upstream: in numbers, and for somebody who asks who waits, and why.

use super::{Admission, Classes, Decided, Share, State};
use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};
use tollgate_core::{limit, scheduler::ClassCounts};

pub use tollgate_core::scheduler::Why;

/// Of those who wait, so many are looked at, oldest first, when somebody asks who they are: the
/// lock is held meanwhile.
const LOOKED_AT_MAX: usize = 10_000;

/// Of a class's tenants, so many are named, those with the most waiting first.
const TENANTS_MAX: usize = 20;

/// How things stand at one moment, exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// `None`: as many run as arrive.
    pub limit: Option<NonZeroU32>,
    pub inflight: u64,
    pub waiting: usize,
    /// How long the one waits that waits longest.
    pub oldest_wait: Option<Duration>,
    /// The list in force.
    pub classes: Arc<Classes>,
    /// Of each class of the list.
    pub counts: Vec<ClassCounts>,
    /// Permits whose call is over and that did not come back: the most there ever were.
    pub leaked: u64,
    /// What those that wait are thought to take, where the upstream is shared by tokens.
    pub queued_tokens: u64,
    /// Waiters that went on in a more important class, for somebody who depends on them.
    pub lifted: u64,
    /// Calls that were taken back for a more important one.
    pub preempted: u64,
}

/// Where a limit comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitFrom {
    /// There is none.
    Nothing,
    Configuration,
    /// It follows the upstream's answers, between these bounds.
    Answers {
        range: limit::Range,
        why: limit::Why,
    },
}

impl LimitFrom {
    /// A word for it, the same in every version.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Configuration => "configuration",
            Self::Answers { .. } => "adaptive",
        }
    }
}

/// All that can be told of a queue.
#[derive(Clone, Debug)]
pub struct Look {
    pub snapshot: Snapshot,
    pub limit_from: LimitFrom,
    pub share: Share,
    /// What those that run and wait are thought to take, in what the upstream is shared by.
    pub inflight_cost: u64,
    pub waiting_cost: u64,
    /// In the order of the snapshot's classes.
    pub classes: Vec<ClassLook>,
    /// Who was not looked at: 10,000 that are older wait.
    pub waiting_left: usize,
}

/// One class of it.
#[derive(Clone, Debug, Default)]
pub struct ClassLook {
    /// What its calls wait for.
    pub why: Option<Why>,
    pub oldest_wait: Option<Duration>,
    /// What one would be told that is turned away now.
    pub retry_after: Duration,
    /// Who waits, those with the most calls first.
    pub tenants: Vec<TenantLook>,
    /// Tenants that wait and are not named.
    pub tenants_left: usize,
    /// Of the last minute.
    pub decided: Decided,
}

/// One tenant of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantLook {
    pub tenant: Arc<str>,
    pub waiting: usize,
    pub cost: u64,
    pub oldest_wait: Duration,
}

/// One who waits, as it was seen under the lock.
struct Seen {
    place: usize,
    tenant: Arc<str>,
    cost: u64,
    arrived_ns: u64,
}

impl Snapshot {
    /// Each class in force by its name, most important first.
    pub fn by_class(&self) -> impl Iterator<Item = (&Arc<str>, &ClassCounts)> {
        self.classes.names().zip(&self.counts)
    }
}

impl Admission {
    /// How things stand now. Those whose time has passed do not count, even if
    /// their timer is yet to tell them.
    pub fn snapshot(&self) -> Snapshot {
        self.change(|state, now_ns| self.snapshot_of(state, now_ns))
    }

    /// The same, and who waits, and for what. The lock is held for as long as it takes to copy who
    /// waits; what is made of them is made afterwards.
    pub fn look(&self) -> Look {
        let (mut look, seen, now_ns) = self.change(|state, now_ns| {
            let snapshot = self.snapshot_of(state, now_ns);
            let seen = state.seen();
            let classes = (0..snapshot.counts.len()).map(|place| state.class_look(place, now_ns));
            let look = Look {
                limit_from: state.limit_from(),
                share: state.estimates.share,
                inflight_cost: state.scheduler.inflight_cost(),
                waiting_cost: state.scheduler.waiting_cost(),
                classes: classes.collect(),
                waiting_left: snapshot.waiting.saturating_sub(LOOKED_AT_MAX),
                snapshot,
            };
            (look, seen, now_ns)
        });
        let wait = |arrived_ns: u64| Duration::from_nanos(now_ns.saturating_sub(arrived_ns));
        let mut tenants: BTreeMap<(usize, Arc<str>), TenantLook> = BTreeMap::new();
        for Seen { place, tenant, cost, arrived_ns } in seen {
            if let Some(class) = look.classes.get_mut(place) {
                // The oldest comes first.
                class.oldest_wait = class.oldest_wait.or(Some(wait(arrived_ns)));
            }
            let entry = tenants.entry((place, tenant.clone())).or_insert_with(|| TenantLook {
                tenant,
                waiting: 0,
                cost: 0,
                oldest_wait: wait(arrived_ns),
            });
            entry.waiting += 1;
            entry.cost = entry.cost.saturating_add(cost);
        }
        for ((place, _), tenant) in tenants {
            if let Some(class) = look.classes.get_mut(place) {
                class.tenants.push(tenant);
            }
        }
        for class in &mut look.classes {
            class.tenants.sort_by_key(|tenant| std::cmp::Reverse((tenant.waiting, tenant.cost)));
            class.tenants_left = class.tenants.len().saturating_sub(TENANTS_MAX);
            class.tenants.truncate(TENANTS_MAX);
        }
        look
    }

    fn snapshot_of(&self, state: &mut State, now_ns: u64) -> Snapshot {
        // A holder goes after its permit, and permits go under this lock.
        let astray = state.permits.saturating_sub(self.holders.len());
        state.leaked = state.leaked.max(astray);
        let scheduler = &mut state.scheduler;
        scheduler.expire(now_ns);
        let oldest_ns = scheduler.oldest_arrival_ns();
        Snapshot {
            limit: scheduler.limit(),
            inflight: scheduler.inflight(),
            waiting: scheduler.waiting(),
            oldest_wait: oldest_ns
                .map(|oldest_ns| Duration::from_nanos(now_ns.saturating_sub(oldest_ns))),
            classes: state.classes.clone(),
            counts: scheduler.class_counts().collect(),
            leaked: state.leaked,
            queued_tokens: state.estimates.tokens(scheduler.waiting_cost()),
            lifted: state.lifted,
            preempted: state.preempted,
        }
    }
}

impl State {
    fn seen(&self) -> Vec<Seen> {
        let nobody: Arc<str> = Arc::from("");
        let waits = self.scheduler.waits().take(LOOKED_AT_MAX);
        waits
            .map(|waits| {
                let parked = self.parked.get(waits.waiter.idx());
                let tenant = parked.and_then(|parked| parked.who.clone());
                Seen {
                    place: waits.place,
                    tenant: tenant.unwrap_or_else(|| nobody.clone()),
                    cost: waits.cost,
                    arrived_ns: waits.arrived_ns,
                }
            })
            .collect()
    }

    fn class_look(&self, place: usize, now_ns: u64) -> ClassLook {
        let tally = self.tallies.get(place);
        let retry_after = tally.map_or(0, |tally| tally.retry_after.seconds(now_ns));
        ClassLook {
            why: self.scheduler.why(place),
            retry_after: Duration::from_secs(retry_after),
            decided: tally.map(|tally| tally.recent.sum(now_ns)).unwrap_or_default(),
            ..ClassLook::default()
        }
    }

    fn limit_from(&self) -> LimitFrom {
        match (&self.adaptive, self.scheduler.limit()) {
            (Some(adaptive), _) => {
                LimitFrom::Answers { range: adaptive.range(), why: adaptive.why() }
            }
            (None, Some(_)) => LimitFrom::Configuration,
            (None, None) => LimitFrom::Nothing,
        }
    }
}
