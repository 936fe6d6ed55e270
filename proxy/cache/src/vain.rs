//! Keys for which callers of this instance have waited for another's answer in vain: whoever asks
//! next need not find out again. For a lease of the fleet, that its holder is slower than anybody
//! waits; for a URL, that its answers are not for all.
//!
//! It is only known for a while: by then the reason may be gone, and it is worth the next wait.

use crate::key::CacheKey;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// More keys than this at a time, and those that come last are waited for again. Half a MiB.
const KEYS_MAX: usize = 4096;

/// Keys that are known, and until when.
#[derive(Debug, Default)]
pub struct Vain(Mutex<HashMap<CacheKey, Instant>>);

impl Vain {
    /// Somebody has waited for `key` in vain. It is known for as long as `known_for`.
    pub fn waited(&self, key: CacheKey, known_for: Duration) {
        let now = Instant::now();
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= KEYS_MAX {
            keys.retain(|_, until| *until > now);
        }
        if keys.len() < KEYS_MAX {
            keys.insert(key, now + known_for);
        }
    }

    /// Whether it would be waited for in vain.
    pub fn knows(&self, key: &CacheKey) -> bool {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(until) = keys.get(key) else { return false };
        if *until > Instant::now() {
            return true;
        }
        keys.remove(key);
        false
    }

    /// It is worth waiting for again.
    pub fn forget(&self, key: &CacheKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time;

    const WAIT: Duration = Duration::from_secs(10);

    fn key(n: usize) -> CacheKey {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        CacheKey::from_bytes(bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_in_vain_is_known_for_as_long_as_it_was() {
        let vain = Vain::default();
        assert!(!vain.knows(&key(1)));
        vain.waited(key(1), WAIT);
        assert!(vain.knows(&key(1)) && !vain.knows(&key(2)));
        time::advance(WAIT).await;
        assert!(!vain.knows(&key(1)));
        assert!(vain.0.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_forgotten_is_waited_for_again() {
        let vain = Vain::default();
        vain.waited(key(1), WAIT);
        vain.forget(&key(1));
        assert!(!vain.knows(&key(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_keys_are_known_than_there_is_room_for() {
        let vain = Vain::default();
        (0..2 * KEYS_MAX).for_each(|n| vain.waited(key(n), WAIT));
        assert_eq!(vain.0.lock().unwrap().len(), KEYS_MAX);
        time::advance(WAIT).await;
        vain.waited(key(1), WAIT);
        assert_eq!(vain.0.lock().unwrap().len(), 1);
    }
}
