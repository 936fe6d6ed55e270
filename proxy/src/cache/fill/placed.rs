//! What became of an answer that was put, tier by tier.
//!
//! It is read back from each tier rather than believed: a store may lose what it took, and whoever
//! puts an answer by hand wants to know what callers will be given.

use super::Arrival;
use crate::{
    app::Parts,
    cache::{items::together, now_ms},
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tollgate_cache::{
    entry::Entry,
    key::CacheKey,
    tiers::{Peeked, Plan, TierName, TierUse, Tiers, Writes},
};

/// How long an administrator waits for the tiers: longer than any of them has for a write by
/// default.
const WAIT: Duration = Duration::from_secs(2);

/// The order to put one answer.
#[derive(Debug)]
pub(in crate::cache) struct Putting {
    /// The route's, waited for.
    pub(in crate::cache) plan: Plan,
    made: Mutex<Made>,
}

/// The entries that were made of it.
#[derive(Debug, Default)]
struct Made {
    entries: Vec<(CacheKey, Arc<Entry>)>,
    is_apart: bool,
}

/// Where it lies.
#[derive(Debug)]
pub(crate) struct Placed {
    /// Of the whole answer.
    pub(crate) key: CacheKey,
    /// Into so many answers it was taken apart, each under its own key; 0: it was not.
    pub(crate) items: usize,
    /// In the order in which they are asked.
    pub(crate) tiers: Vec<InTier>,
    /// Other instances hear that what they have of it is void when their store is back.
    pub(crate) pending: bool,
}

/// What one tier has of it.
#[derive(Debug)]
pub(crate) struct InTier {
    pub(crate) tier: TierName,
    /// Of the entries that were made of it.
    pub(crate) kept: usize,
    /// Why it has not all.
    pub(crate) why: Option<Lacks>,
}

/// Why a tier has not what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lacks {
    /// It is away, or does not answer in time.
    Down,
    /// Larger than the tier, or the route, lets an entry be.
    TooLarge,
    /// The route writes around it: it gets what is asked for.
    Around,
    /// Memory is full of what is worth more.
    Outranked,
    /// It is up, and has it not.
    Refused,
}

impl Lacks {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::TooLarge => "too-large",
            Self::Around => "written-around",
            Self::Outranked => "outranked",
            Self::Refused => "refused",
        }
    }
}

impl Placed {
    /// Whether no tier has anything of it.
    pub(crate) fn is_nowhere(&self) -> bool {
        self.tiers.iter().all(|tier| tier.kept == 0)
    }
}

impl Putting {
    pub(super) fn new(plan: &Plan) -> Arc<Self> {
        let mut plan = plan.clone();
        plan.awaited = true;
        Arc::new(Self { plan, made: Mutex::default() })
    }

    /// The whole answer is to be kept as this.
    pub(super) fn makes(&self, key: CacheKey, entry: &Arc<Entry>) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.entries.push((key, entry.clone()));
    }

    /// One item's answer is to be kept as this.
    pub(super) fn makes_one(&self, key: CacheKey, entry: &Arc<Entry>) {
        self.makes(key, entry);
        self.made.lock().unwrap_or_else(PoisonError::into_inner).is_apart = true;
    }

    /// What became of it, once the tiers have had their time.
    pub(super) async fn placed(
        &self,
        parts: &Parts,
        key: CacheKey,
        arrival: Option<Arrival>,
        pending: bool,
    ) -> Placed {
        if let Some(arrival) = arrival {
            arrival.within(WAIT).wait().await;
        }
        let Made { entries, is_apart } =
            std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        let tiers = &parts.cache.tiers;
        let found: Vec<Found> = self.plan.uses().iter().map(|_| Found::default()).collect();
        let looks = entries.iter().map(|(key, entry)| {
            let found = &found;
            async move {
                let peeked = tiers.peek(*key, &entry.check, &self.plan, now_ms()).await;
                for (found, (used, peeked)) in found.iter().zip(self.plan.uses().iter().zip(peeked))
                {
                    found.add(lacks(tiers, (&self.plan, used), entry, &peeked));
                }
            }
        });
        together(looks, tiers.reads_at_once(&self.plan)).await;
        let shown = self.plan.uses().iter().zip(found).map(|(used, found)| InTier {
            tier: used.tier,
            kept: found.kept.into_inner(),
            why: found.why.into_inner().unwrap_or_else(PoisonError::into_inner),
        });
        let items = if is_apart { entries.len() } else { 0 };
        Placed { key, items, tiers: shown.collect(), pending }
    }
}

/// What was found in one tier.
#[derive(Debug, Default)]
struct Found {
    kept: AtomicUsize,
    /// The first reason of those there are.
    why: Mutex<Option<Lacks>>,
}

impl Found {
    fn add(&self, lacks: Option<Lacks>) {
        match lacks {
            None => {
                self.kept.fetch_add(1, Ordering::Relaxed);
            }
            Some(why) => {
                self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
            }
        }
    }
}

/// `None`: the tier has it.
fn lacks(
    tiers: &Tiers,
    (plan, used): (&Plan, &TierUse),
    entry: &Entry,
    peeked: &Peeked,
) -> Option<Lacks> {
    if peeked.found.is_some() {
        return None;
    }
    let is_memory = used.tier == TierName::Memory;
    let fits = entry.weight() <= used.entry_bytes_max;
    Some(if !peeked.is_up {
        Lacks::Down
    } else if !fits || (is_memory && !tiers.memory().fits(entry)) {
        Lacks::TooLarge
    } else if plan.writes == Writes::Around && !plan.writes_to(used.tier, entry) {
        Lacks::Around
    } else if is_memory {
        Lacks::Outranked
    } else {
        Lacks::Refused
    })
}
