//! Which tiers a route uses, in which order, and how they are filled.

use super::TierName;
use crate::entry::Entry;
use smallvec::SmallVec;

/// One tier of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierUse {
    pub tier: TierName,
    /// No entry is kept here for longer, whatever its own time to live.
    pub ttl_ms: u64,
    /// A larger one is not kept here ([`Entry::weight`]).
    pub entry_bytes_max: u64,
}

/// When an answer is written to which tiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writes {
    /// To memory at once, to the others after the answer, from their queues.
    #[default]
    Back,
    /// The end of the answer waits until every tier has it or its time is over: who asks
    /// elsewhere after this caller was answered finds it.
    Through,
    /// To the farthest tier alone: nearer ones get what is asked for again, so that what is asked
    /// once takes no room there.
    Around,
}

/// The tiers of a route, in the order in which they are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    uses: SmallVec<[TierUse; 2]>,
    pub writes: Writes,
    /// What is found is copied to the tiers before it.
    pub promotes: bool,
    /// Who stores waits for all tiers, however these are written.
    pub awaited: bool,
}

impl Plan {
    /// Writes back, and promotes.
    pub fn new(uses: impl IntoIterator<Item = TierUse>) -> Self {
        let uses = uses.into_iter().collect();
        Self { uses, writes: Writes::default(), promotes: true, awaited: false }
    }

    pub fn uses(&self) -> &[TierUse] {
        &self.uses
    }

    /// Whether memory is asked before any other tier, so that nothing has to be waited for.
    pub fn begins_in_memory(&self) -> bool {
        self.uses.first().is_some_and(|first| first.tier == TierName::Memory)
    }

    /// Whether more than a first look in memory has to be done.
    pub fn goes_on(&self) -> bool {
        self.uses.len() > usize::from(self.begins_in_memory())
    }

    /// Whether an entry lies anywhere but in this process's memory.
    pub fn leaves_memory(&self) -> bool {
        self.uses.iter().any(|used| used.tier != TierName::Memory)
    }

    /// The tiers after the first look in memory, each with those that were asked before it.
    pub(super) fn rest(&self) -> impl Iterator<Item = (&TierUse, &[TierUse])> {
        let skipped = usize::from(self.begins_in_memory());
        let placed = self.uses.iter().enumerate().skip(skipped);
        placed.map(|(place, used)| (used, self.uses.get(..place).unwrap_or_default()))
    }

    /// The tier of that name, if the route has it.
    pub fn of(&self, tier: TierName) -> Option<&TierUse> {
        self.uses.iter().find(|used| used.tier == tier)
    }

    /// Whether a new answer is written there.
    pub fn writes_to(&self, tier: TierName, entry: &Entry) -> bool {
        self.written(entry).any(|used| used.tier == tier)
    }

    /// The tiers that a new answer is written to.
    pub(super) fn written(&self, entry: &Entry) -> impl DoubleEndedIterator<Item = &TierUse> {
        let weight = entry.weight();
        let takes = move |used: &&TierUse| weight <= used.entry_bytes_max;
        let farthest = match self.writes {
            Writes::Around => self.uses.iter().rposition(|used| takes(&used)).unwrap_or(0),
            Writes::Back | Writes::Through => 0,
        };
        self.uses.iter().skip(farthest).filter(takes)
    }
}

impl TierUse {
    /// As large as an entry may be.
    pub fn new(tier: TierName, ttl_ms: u64) -> Self {
        Self { tier, ttl_ms, entry_bytes_max: u64::MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::tests::{entry, key};

    fn names<'a>(uses: impl Iterator<Item = &'a TierUse>) -> Vec<TierName> {
        uses.map(|used| used.tier).collect()
    }

    #[test]
    fn writing_around_fills_the_farthest_tier_that_takes_the_entry() {
        let entry = entry(key(1), &[0; 4096]);
        let mut plan = Plan::new([
            TierUse::new(TierName::Memory, 1),
            TierUse { entry_bytes_max: 1024, ..TierUse::new(TierName::Redis, 1) },
        ]);
        assert_eq!(names(plan.written(&entry)), [TierName::Memory], "too large for redis");
        plan.writes = Writes::Around;
        assert_eq!(names(plan.written(&entry)), [TierName::Memory]);
        let small = super::super::tests::small();
        assert_eq!(names(plan.written(&small)), [TierName::Redis]);
        plan.writes = Writes::Through;
        assert_eq!(names(plan.written(&small)), [TierName::Memory, TierName::Redis]);
    }

    #[test]
    fn the_first_look_in_memory_is_not_repeated() {
        let (memory, redis) = (TierUse::new(TierName::Memory, 1), TierUse::new(TierName::Redis, 1));
        let rest = |plan: &Plan| {
            let rest = plan.rest().map(|(used, nearer)| (used.tier, nearer.len()));
            (plan.goes_on(), rest.collect::<Vec<_>>())
        };
        assert_eq!(rest(&Plan::new([memory])), (false, vec![]));
        assert_eq!(rest(&Plan::new([memory, redis])), (true, vec![(TierName::Redis, 1)]));
        let other = vec![(TierName::Redis, 0), (TierName::Memory, 1)];
        assert_eq!(rest(&Plan::new([redis, memory])), (true, other));
        assert_eq!(rest(&Plan::default()), (false, vec![]));
    }
}
