//! Asks the upstream again for a share of the hits, and says whether it would still answer the same.
//!
//! The caller has its answer by then, and hears nothing of it. A check is a call of our own: in the
//! least important class, with a record of its own, and in no number about callers. It tells; what
//! it brings takes the place of what is kept only where the route goes by how often answers change.
//!
//! **Invariant:** every check that has begun is counted once: [`Check`] is a debt that pays on drop.

use super::{
    Question,
    alike::{Said, say_the_same},
    answer::Hit,
};
use crate::{
    metrics::{RouteMetrics, ShadowOutcome},
    route::Route,
    seldom::Seldom,
};
use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};
use tollgate_cache::{entry::Entry, key::CacheKey};

/// A share of 1.
const PPM: u64 = 1_000_000;

/// What differs is said once a second.
static LOGGED: Seldom = Seldom::new();

/// Whether this hit is one of the share that is checked. By chance: whoever counted would, where
/// callers take turns, check the same question every time.
pub(super) fn draws(route: &Route, hit: &Hit) -> bool {
    static CHANCE: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    let share_ppm = route.freshness.shadow_ppm;
    share_ppm > 0 && hit.fresh_since_ms().is_some() && {
        let drawn = DRAWN.fetch_add(1, Ordering::Relaxed);
        CHANCE.hash_one(drawn) % PPM < u64::from(share_ppm)
    }
}

/// A check that has begun. Dropped without a word, it failed.
#[must_use]
#[derive(Debug)]
pub(super) struct Check {
    metrics: Arc<RouteMetrics>,
    is_told: bool,
}

impl Check {
    pub(super) fn begin(route: &Route) -> Self {
        Self { metrics: route.lane.metrics.clone(), is_told: false }
    }

    /// What came of it: whether the upstream says the same; `None`: nobody can read it.
    pub(super) fn found(mut self, is_same: Option<bool>, key: &CacheKey) {
        self.is_told = true;
        let outcome = match is_same {
            Some(true) => ShadowOutcome::Same,
            Some(false) => ShadowOutcome::Differs,
            None => ShadowOutcome::Unread,
        };
        self.metrics.checked(outcome);
        if outcome == ShadowOutcome::Differs
            && let Some(not_logged) = LOGGED.now()
        {
            let (route, key) = (self.metrics.route(), key.to_hex());
            tracing::warn!(route, key, not_logged, "the upstream answers otherwise than is kept");
        }
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        if !self.is_told {
            self.metrics.checked(ShadowOutcome::Failed);
        }
    }
}

impl Question {
    /// It is asked to see whether the upstream still says what was given.
    pub(super) fn checks(&mut self, hit: &Hit) {
        self.renews = true;
        self.checked = Some(hit.entry().clone());
    }

    pub(crate) fn is_check(&self) -> bool {
        self.checked.is_some()
    }

    /// What checks of one answer at one time have in common: nobody who waits for an answer.
    pub(crate) fn check_key(&self) -> CacheKey {
        self.key_of("\0check").0
    }

    /// From here on it counts, however it ends.
    pub(crate) fn begin_check(&mut self) {
        self.check_begun = Some(Check::begin(&self.route));
    }

    /// What came of it, if it is one: whether it is.
    pub(super) fn ends_check(&mut self, came: Said<'_>) -> bool {
        let Some(before) = self.checked.as_deref() else { return false };
        let Entry { status, form, ref body, .. } = *before;
        let is_same = say_the_same(self.operation, Said { status, form, body }, came);
        self.check_begun.take().into_iter().for_each(|check| check.found(is_same, &self.key));
        true
    }
}
