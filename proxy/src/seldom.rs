//! Lines of the log that anybody could cause in any number: one a second, with the number of those
//! that were not logged.

use std::sync::atomic::{AtomicU64, Ordering};

const INTERVAL_MS: u64 = 1_000;

/// When one kind of line was logged last, and how often it was not since.
#[derive(Debug)]
pub(crate) struct Seldom {
    last_ms: AtomicU64,
    skipped: AtomicU64,
}

impl Seldom {
    pub(crate) const fn new() -> Self {
        Self { last_ms: AtomicU64::new(0), skipped: AtomicU64::new(0) }
    }

    /// How many were not logged since the last that was; `None`: nor is this one.
    pub(crate) fn now(&self) -> Option<u64> {
        let now = u64::try_from(crate::meter::unix_ms()).unwrap_or(0);
        let before = self.last_ms.load(Ordering::Relaxed);
        let is_due = now.saturating_sub(before) >= INTERVAL_MS;
        let swap =
            || self.last_ms.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed);
        if is_due && swap().is_ok() {
            return Some(self.skipped.swap(0, Ordering::Relaxed));
        }
        self.skipped.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_at_once_one_is_logged() {
        let seldom = Seldom::new();
        assert_eq!(seldom.now(), Some(0));
        assert_eq!((0..100).filter_map(|_| seldom.now()).count(), 0);
        assert_eq!(seldom.skipped.load(Ordering::Relaxed), 100);
    }
}
