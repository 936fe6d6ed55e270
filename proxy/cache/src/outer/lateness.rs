//! How late a store is: whether it is left alone for it.
//!
//! One late answer says little: a pause of a collector, a page that had to be fetched, a packet sent
//! twice. Several in a row, with none in time between them, say that the next is late as well. A
//! connection that is refused or lost needs no second sign, and does not come here.

use std::sync::atomic::{AtomicU32, Ordering};

/// So many in a row, and nobody is to wait for the next: Envoy's number for consecutive failures
/// (`outlier_detection.consecutive_5xx`, which counts time-outs, too). More would be so many more
/// callers who wait in vain at a store that stands still, before its next probe finds out.
pub(crate) const LATE_IN_A_ROW_MAX: u32 = 5;

/// Answers that came too late, since the last that came in time.
#[derive(Debug, Default)]
pub(crate) struct Lateness {
    in_a_row: AtomicU32,
}

impl Lateness {
    pub(crate) fn in_time(&self) {
        // Mostly there is nothing to forget, and the line stays everybody's.
        if self.is_suspected() {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// One more was late. Whether that is enough.
    pub(crate) fn is_too_late(&self) -> bool {
        let before = self.in_a_row.fetch_add(1, Ordering::Relaxed);
        before.saturating_add(1) >= LATE_IN_A_ROW_MAX
    }

    /// The last answer was late. Who has waited once for the same call does not wait again.
    pub(crate) fn is_suspected(&self) -> bool {
        self.in_a_row.load(Ordering::Relaxed) != 0
    }

    /// It was left alone, and a probe has been answered: what is asked may be late all the same.
    /// The first that is, is enough.
    pub(crate) fn suspect(&self) {
        self.in_a_row.store(LATE_IN_A_ROW_MAX - 1, Ordering::Relaxed);
    }

    /// It is reached anew.
    pub(crate) fn forget(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_late_several_times_in_a_row_is_left_alone() {
        let lateness = Lateness::default();
        for _ in 0..10 {
            for _ in 1..LATE_IN_A_ROW_MAX {
                assert!(!lateness.is_too_late());
            }
            lateness.in_time();
        }
        for place in 1..=LATE_IN_A_ROW_MAX {
            assert_eq!(lateness.is_too_late(), place == LATE_IN_A_ROW_MAX);
        }
    }

    #[test]
    fn after_it_was_left_alone_one_is_enough_until_one_is_in_time() {
        let lateness = Lateness::default();
        lateness.suspect();
        assert!(lateness.is_too_late());
        lateness.suspect();
        lateness.in_time();
        assert!(!lateness.is_suspected() && !lateness.is_too_late());
        assert!(lateness.is_suspected());
        lateness.suspect();
        lateness.forget();
        assert!(!lateness.is_too_late());
    }
}
