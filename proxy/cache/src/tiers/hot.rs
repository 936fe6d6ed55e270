//! Tells the tiers outside memory that an entry is hot: what finds it there, another instance or
//! this one once its memory has let it go, need not count anew.

use super::{Owed, Plan, TierName, Tiers};
use crate::{
    entry::{Entry, Rule},
    freshness::Times,
    key::CacheKey,
};
use std::sync::Arc;

impl Tiers {
    /// Writes `entry` once more, as hot, to the tiers of `plan` where it still lies. One that holds
    /// another by now is left as it is. Waits for each tier's read time-out at most.
    pub async fn tell_hot(&self, key: CacheKey, entry: &Entry, plan: &Plan, now_ms: u64) {
        let Rule::Timed(times) = &entry.rule else { return };
        let Some(fresh_for_ms) = entry.fresh_for_ms(now_ms) else { return };
        let times = Times { is_hot: true, ..(**times).clone() };
        let hot = Arc::new(Entry { rule: Rule::Timed(Box::new(times)), ..entry.clone() });
        for used in plan.uses().iter().filter(|used| used.tier != TierName::Memory) {
            let Some(outer) = self.outer(used.tier) else { continue };
            // What it lies there for already is no part of what is left.
            let ttl_ms = used.ttl_ms.saturating_sub(entry.age_ms(now_ms)).min(fresh_for_ms);
            let found = outer.look_up(key, &entry.check, now_ms).await;
            let is_same = found.is_some_and(|found| {
                found.stored_at_ms == entry.stored_at_ms && found.body == entry.body
            });
            if is_same && ttl_ms > 0 {
                outer.store(key, hot.clone(), ttl_ms, Owed::default());
            }
        }
    }
}
