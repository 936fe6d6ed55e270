//! The answer to a call about many that is made of what is past its time: given where the upstream
//! has none, as the old answer to a call about one thing is.

use super::{ANSWER_BYTES_MAX, Items, composed, decode_bill, encode_bill, model_of};
use crate::{
    cache::held::{Looking, terms},
    meter::Bill,
};
use std::{cmp::Reverse, sync::Arc};
use tollgate_cache::{entry::Entry, freshness::Left, tiers::Found};

impl Items {
    /// The whole answer, of what is of its time and what is past it; as old as the oldest part. `None`:
    /// a part is not there at all, nothing is past its time, or they do not fit together.
    pub(super) fn take_old(&mut self, looking: Looking<'_>) -> Option<Found> {
        let old: Vec<Option<Found>> = self
            .unique
            .iter_mut()
            .map(|item| item.old.take().filter(|_| item.found.is_none()))
            .collect();
        let oldest = old.iter().flatten().max_by_key(|found| by_ms(found, looking))?;
        let all = self.unique.iter().zip(&old).map(|(item, old)| {
            let found = item.found.as_ref().map(|hit| &hit.entry);
            found.or(old.as_ref().map(|old| &old.entry)).map(|entry| &**entry)
        });
        let all: Vec<&Entry> = all.collect::<Option<_>>()?;
        let is_one_models = all.iter().all(|entry| model_of(entry) == model_of(&oldest.entry));
        let bytes: usize = all.iter().map(|entry| entry.body.len()).sum();
        if !is_one_models || bytes > ANSWER_BYTES_MAX {
            return None;
        }
        let body = self.on_its_way(composed(&self.layout, &self.asked, &all, &self.places)?)?;
        let bills = self.places.iter().filter_map(|own| decode_bill(&all.get(*own)?.note));
        let bills: Vec<Bill> = bills.collect();
        let entry =
            Entry { body, note: encode_bill(&Bill::sum(&bills)), ..Entry::clone(&oldest.entry) };
        Some(Found { entry: Arc::new(entry), ..*oldest })
    }
}

/// For how long it is past its time.
fn by_ms(found: &Found, looking: Looking<'_>) -> (u64, Reverse<u64>) {
    let terms = terms(looking.route, looking.fitting, &found.entry);
    let by_ms = match found.entry.left(found.soft_since_ms, &terms, looking.now_ms) {
        Left::Stale { by_ms } => by_ms,
        Left::Fresh { .. } => 0,
    };
    (by_ms, Reverse(found.entry.stored_at_ms))
}
