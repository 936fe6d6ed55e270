//! How long entries live, which says when a purge can be let go of, and what is told of those by a
//! pattern that had to go before.
//!
//! Learnt from the entries themselves: the service, too, says how long an answer is good for. An
//! entry that was not seen and lives longer is void where its purges are gone: nothing that was
//! purged comes back.

use super::{About, Generations, PATTERNS_MAX};
use std::sync::atomic::Ordering;

impl Generations {
    /// An entry is kept, here or in a store, for `ttl_ms` from when it was stored.
    pub(crate) fn lives(&self, about: About<'_>, ttl_ms: u64) {
        self.life_ms.fetch_max(ttl_ms, Ordering::Relaxed);
        if !about.tags.is_empty() {
            self.tagged_life_ms.fetch_max(ttl_ms, Ordering::Relaxed);
        }
    }

    /// How many purges by patterns were forgotten while entries may have been about them, since the
    /// start. Whatever has tags and is older than those is void, or past its time where they were
    /// soft.
    pub fn patterns_forgotten(&self) -> u64 {
        self.read().patterns.lost()
    }

    /// Says so in the log, once. For a task that runs now and then.
    pub(crate) fn tell_of_forgotten_patterns(&self) {
        let forgotten = self.patterns_forgotten_lately();
        if forgotten > 0 {
            tracing::warn!(
                forgotten,
                "more than {PATTERNS_MAX} patterns were purged while what they may be about lives; \
                 what has tags and is older than those forgotten is void, or renewed where they were \
                 soft; purge by tag where a name is known"
            );
        }
    }

    /// How many of those nobody was told of yet.
    pub(super) fn patterns_forgotten_lately(&self) -> u64 {
        let all = self.patterns_forgotten();
        all.saturating_sub(self.lost_told.swap(all, Ordering::Relaxed))
    }
}
