//! Tells where else an entry lies that it is hot, where a route looks after what is asked for often;
//! and the key trace that it was given.

use super::{Ask, Mode, answer::Hit, now_ms};
use crate::{app::Parts, route::Route};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tollgate_cache::{entry::Entry, key::CacheKey};

/// How many entries are written again as hot at a time. One for which there is no room is hot in
/// this instance's memory alone.
static TOLD: Semaphore = Semaphore::const_new(64);

/// It was given. Neither waits nor locks; allocates once in an entry's life.
pub(super) fn given(
    parts: &Arc<Parts>,
    (route, ask): (&Arc<Route>, &Ask),
    key: &CacheKey,
    hit: &Hit,
) {
    if !ask.is_own {
        parts.cache.traces.given(route, Mode::Content, key, hit);
    }
    tell(parts, route, hit.entry(), || *key);
}

/// Tells where else `entry` lies that it is hot, if it has just become that.
pub(super) fn tell(
    parts: &Arc<Parts>,
    route: &Arc<Route>,
    entry: &Arc<Entry>,
    key: impl FnOnce() -> CacheKey,
) {
    if !entry.becomes_hot(route.freshness.terms.hot) || !route.plan.leaves_memory() {
        return;
    }
    let Ok(place) = TOLD.try_acquire() else { return };
    let (parts, route, key, entry) = (parts.clone(), route.clone(), key(), entry.clone());
    let (tasks, cut) = (parts.connections.clone(), parts.shutdown.cut.clone());
    let told = async move {
        let told = parts.cache.tiers.tell_hot(key, &entry, &route.plan, now_ms());
        cut.run_until_cancelled(told).await;
        drop(place);
    };
    tasks.spawn(told);
}
