//! Which items of a call would be found, for who asks about the call and is given nothing.

use super::{super::held::Looking, Question, plain, renew::is_given, together, version_of};
use crate::app::Parts;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is known of the items of a call.
#[derive(Clone, Copy, Debug)]
pub(in crate::cache) struct Known {
    /// Of their time.
    pub(in crate::cache) new: usize,
    /// Past it, and given while they are renewed.
    pub(in crate::cache) old: usize,
    pub(in crate::cache) all: usize,
}

/// How many of the items of a call are known, of their time and past it but given while they are
/// renewed, and of how many. `None`: it has none that are looked up by themselves.
pub(in crate::cache) async fn known(
    parts: &Parts,
    question: &Question,
    looking: Looking<'_>,
) -> Option<Known> {
    let items = question.items.as_deref()?;
    let (tiers, plan) = (&parts.cache.tiers, &question.route.plan);
    let (new, old) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let looks = items.unique.iter().enumerate().map(|(nth, item)| {
        let (new, old) = (&new, &old);
        async move {
            let (key, check) = question.item_key(&item.digest, &version_of(question));
            let peeked = tiers.peek(key, &check, plan, looking.now_ms).await;
            let found: Vec<_> = peeked.into_iter().filter_map(|peeked| peeked.found).collect();
            let times = items.places.iter().filter(|own| **own == nth).count();
            if found.iter().any(|found| plain(found.clone(), looking).is_some()) {
                new.fetch_add(times, Ordering::Relaxed);
            } else if found.iter().any(|found| is_given(found, looking)) {
                old.fetch_add(times, Ordering::Relaxed);
            }
        }
    });
    together(looks, tiers.reads_at_once(plan)).await;
    Some(Known { new: new.into_inner(), old: old.into_inner(), all: items.len() })
}
