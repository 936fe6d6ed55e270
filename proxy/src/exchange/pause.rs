//! When the renewal of what was last begun, so that one which fails is tried once in a while and not by
//! everybody who asks.
//!
//! What lies in memory knows that itself ([`tollgate_cache::freshness::Given`]), without a lock. An
//! entry that is read anew from a store each time does not, nor does one that was kept before its
//! route had any windows, nor a list, which has no entry of its own. It is no part of what is stored:
//! in a fleet the lease sees to it that one instance renews at a time.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tollgate_cache::key::CacheKey;

/// What was begun to be renewed of late, about 100 bytes each. When so many pauses last, nothing
/// else is renewed until one of them is over: a second, mostly. Eight of the longest lists.
const PAUSES_MAX: usize = 16 * 1024;

/// However long a pause is meant to be, it is not held for longer: there is room for few.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The renewals that were begun of late.
#[derive(Debug, Default)]
pub(crate) struct Pauses(Mutex<HashMap<CacheKey, Pause>>);

#[derive(Clone, Copy, Debug)]
struct Pause {
    /// When that which is renewed was stored, in milliseconds; what took its place has no pause.
    stored_at_ms: Option<u64>,
    until: Instant,
}

impl Pauses {
    /// Whether a renewal of what was stored under `key` at `stored_at_ms` may begin now; if so,
    /// the next one not before `pause` is over.
    pub(crate) fn begins(&self, key: CacheKey, stored_at_ms: Option<u64>, pause: Duration) -> bool {
        let now = Instant::now();
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = pauses.get(&key);
        if before.is_some_and(|before| before.stored_at_ms == stored_at_ms && before.until > now) {
            return false;
        }
        if before.is_none() && pauses.len() >= PAUSES_MAX {
            pauses.retain(|_, pause| pause.until > now);
            if pauses.len() >= PAUSES_MAX {
                return false;
            }
        }
        pauses.insert(key, Pause { stored_at_ms, until: now + pause.min(PAUSE_MAX) });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(n: usize) -> CacheKey {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        CacheKey::of_record(&bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_is_begun_once_in_a_pause_and_at_once_of_what_is_newer() {
        let pauses = Pauses::default();
        assert!(pauses.begins(key(1), Some(5), SECOND));
        assert!(!pauses.begins(key(1), Some(5), SECOND));
        assert!(pauses.begins(key(2), Some(5), SECOND), "that is another");
        assert!(pauses.begins(key(1), Some(6), SECOND), "it has been renewed");
        time::advance(SECOND).await;
        assert!(pauses.begins(key(1), Some(6), 100 * PAUSE_MAX));
        time::advance(PAUSE_MAX).await;
        assert!(pauses.begins(key(1), Some(6), SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_renewed_in_a_second_than_there_is_room_for() {
        let pauses = Pauses::default();
        let begun = |from: usize| {
            (from..from + 2 * PAUSES_MAX).filter(|n| pauses.begins(key(*n), None, SECOND)).count()
        };
        assert_eq!(begun(0), PAUSES_MAX);
        time::advance(SECOND).await;
        assert_eq!(begun(3), PAUSES_MAX);
        assert_eq!(pauses.0.lock().unwrap().len(), PAUSES_MAX);
    }
}
