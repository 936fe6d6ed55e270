//! Which items of a call would be found, for who asks about the call and is given nothing.

use super::{super::held::Looking, Question, plain, together, version_of};
use crate::app::Parts;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many of the items of a call would be given from the cache, and of how many. `None`: it has
/// none that are looked up by themselves.
pub(in crate::cache) async fn known(
    parts: &Parts,
    question: &Question,
    looking: Looking<'_>,
) -> Option<(usize, usize)> {
    let items = question.items.as_deref()?;
    let (tiers, plan) = (&parts.cache.tiers, &question.route.plan);
    let known = AtomicUsize::new(0);
    let looks = items.unique.iter().enumerate().map(|(nth, item)| {
        let known = &known;
        async move {
            let (key, check) = question.item_key(&item.digest, &version_of(question));
            let peeked = tiers.peek(key, &check, plan, looking.now_ms).await;
            let mut found = peeked.into_iter().filter_map(|peeked| peeked.found);
            if found.any(|found| plain(found, looking).is_some()) {
                let times = items.places.iter().filter(|own| **own == nth).count();
                known.fetch_add(times, Ordering::Relaxed);
            }
        }
    });
    together(looks, tiers.reads_at_once(plan)).await;
    Some((known.into_inner(), items.len()))
}
