//! What the tiers count. Plain atomics: this crate knows no metric names; the proxy reads them when
//! it is scraped.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

/// One tier's counts since start. Every look-up adds one to exactly one of `hits`, `misses`,
/// `expired`, `purged`, `collisions`, `foreign`, `oversized`, `locked`, `errors`, `timeouts`, `skipped`.
#[derive(Debug, Default)]
pub struct TierCounters {
    /// Answered.
    pub hits: Count,
    /// The tier has nothing under this key.
    pub misses: Count,
    /// It had, but past its time; removed.
    pub expired: Count,
    /// It had, but purged meanwhile; removed.
    pub purged: Count,
    /// It has the answer to another question that shares the key. Should stay 0 for ever.
    pub collisions: Count,
    /// A value that is not a whole entry of this version and key.
    pub foreign: Count,
    /// A compressed value that would be larger than an entry may be.
    pub oversized: Count,
    /// A value that no key of ours opens: sealed with another, tampered with, moved here from
    /// elsewhere, or in the clear where all must be sealed.
    pub locked: Count,
    /// The store answered with an error or the connection broke.
    pub errors: Count,
    /// No answer within the tier's time-out.
    pub timeouts: Count,
    /// Not asked, as the breaker is open.
    pub skipped: Count,

    /// Entries written.
    pub stored: Count,
    /// Writes given up: the queue was full.
    pub dropped_full: Count,
    /// Writes given up: the store was away or refused.
    pub dropped_down: Count,
    /// Writes given up: the entry alone is larger than may be.
    pub dropped_large: Count,
    /// Not let in: what it would have pushed out is worth more.
    pub dropped_outranked: Count,
    /// Writes given up: purged while they waited, or begun before the store was heard.
    pub dropped_void: Count,

    /// Pushed out to make room.
    pub evicted_for_room: Count,
    /// Removed by a look-up or a sweep, being past their time.
    pub evicted_expired: Count,
    /// Removed by a look-up or a sweep, being purged.
    pub evicted_purged: Count,

    /// Times the breaker opened.
    pub breaker_opened: Count,
    /// Purges and versions given up as too many waited for the store.
    pub pending_dropped: Count,
}

/// What became of leases, and of those who waited for another instance's. Each wait adds one to
/// exactly one of `found`, `led`, `unshared`, `timeouts`, `away`.
#[derive(Debug, Default)]
pub struct LeaseCounters {
    /// Fills begun with the fleet's knowledge.
    pub taken: Count,
    /// The other's answer was found.
    pub found: Count,
    /// The other left without one, or its lease ended: this instance leads.
    pub led: Count,
    /// The other's answer is not to be shared.
    pub unshared: Count,
    /// As long as anybody waits.
    pub timeouts: Count,
    /// The store did not answer, or went away meanwhile.
    pub away: Count,
    /// Leases that had ended, or could not be given back, when their holders were done.
    pub lost: Count,
    /// Answers not stored, as another held the lease by then.
    pub fenced: Count,
}

impl Count {
    pub fn add_one(&self) {
        self.add(1);
    }

    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
