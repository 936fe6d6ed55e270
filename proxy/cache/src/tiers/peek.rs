//! What lies in the tiers, for who asks about it and is given nothing: no copy is made to a nearer
//! tier. A store outside the process counts the look-up as any other, because it is one.

use super::{Found, Plan, TierName, Tiers};
use crate::{
    generations::{About, CheckedAt, Stamp, Standing},
    key::{CacheKey, Check},
};
use std::sync::Arc;

/// What one tier has.
#[derive(Clone, Debug)]
pub struct Peeked {
    pub tier: TierName,
    /// Whether it is asked at all; memory always is.
    pub is_up: bool,
    pub found: Option<Found>,
}

impl Tiers {
    /// What is under `key` in each tier of `plan`, in its order. Waits for each tier's read
    /// time-out at most.
    pub async fn peek(
        &self,
        key: CacheKey,
        check: &Check,
        plan: &Plan,
        now_ms: u64,
    ) -> Vec<Peeked> {
        let mut all = Vec::with_capacity(plan.uses().len());
        for tier in plan.uses().iter().map(|used| used.tier) {
            let (is_up, found) = match self.outer(tier) {
                Some(outer) => {
                    let entry = outer.look_up(key, check, now_ms).await;
                    let found = entry.map(|entry| (entry.stamp.soft_since_ms, Arc::new(entry)));
                    (outer.is_up(), found)
                }
                None if tier == TierName::Memory => {
                    let kept = self.memory.peek(&key, check, now_ms, &self.generations);
                    (true, kept.map(|kept| (kept.soft_since_ms, kept.entry)))
                }
                None => (false, None),
            };
            let found = found.map(|(soft_since_ms, entry)| Found { entry, tier, soft_since_ms });
            all.push(Peeked { tier, is_up, found });
        }
        all
    }

    /// Whether a purge has been about what was stamped so.
    pub fn standing(&self, stamp: Stamp, about: About<'_>) -> Standing {
        self.generations.standing(stamp, about, &CheckedAt::default())
    }
}
