//! What all stores outside the process have in common: how their values are judged, how writes
//! wait, when nobody asks any more, and how this instance's purges get their numbers.
//!
//! ```text
//!   look-up ── gate (up?) ── the store, within its time-out ── judge ──▶ an entry, or a counted miss
//!   write ──── queue (bounded) ── pack: encode, compress, seal ── the store
//!   purge ──── unnumbered (bounded) ── the keeper numbers it ── everybody hears
//! ```
//!
//! A store is a place and no more: it may lose, repeat and lie. What is believed of it is decided
//! here, the same way for all.

pub(crate) mod gate;
pub(crate) mod lateness;
pub(crate) mod losses;
pub(crate) mod queue;
pub(crate) mod unnumbered;

pub use gate::LinkState;

use crate::{
    codec,
    counters::TierCounters,
    entry::Entry,
    generations::Generations,
    key::{CacheKey, Check},
    wrap::{Seals, Unreadable, Wrapping},
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tokio::task;

/// Larger values are unpacked by a thread of their own: other callers must not wait for that.
const UNPACK_BYTES_MAX: usize = 128 * 1024;

/// Of a purge nobody has numbered yet; more become one purge of everything.
pub(crate) const UNNUMBERED_MAX: usize = 4096;

/// Who numbers the fleet's purges and tells them to the others. One store of all that are
/// configured; the others only believe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Entries and the table of purges.
    Keeper,
    /// Entries alone.
    Shelf,
}

/// What may be spent on a store, and how values lie in it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// What a caller waits for a read at most.
    pub read_timeout: Duration,
    /// Of a write, which nobody waits for.
    pub write_timeout: Duration,
    /// Of connecting, of a probe, of a purge.
    pub probe_timeout: Duration,
    /// Between probes of a store that is up.
    pub probe_interval: Duration,
    /// Between attempts to reach a store that is away.
    pub reconnect_interval: Duration,
    pub queue_entries_max: usize,
    pub queue_bytes_max: u64,
    /// Larger values are neither written nor read.
    pub value_bytes_max: usize,
    /// Whether values are compressed where it pays.
    pub compress: bool,
    /// Values are sealed with these, and no others are read.
    pub seals: Option<Seals>,
}

/// What is shown to a store behind TLS, and what it must show. All PEM.
#[derive(Clone, Default)]
pub struct StoreTls {
    /// Takes the place of the system's roots.
    pub ca: Option<Vec<u8>>,
    /// Our certificates and their key.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for StoreTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreTls").finish_non_exhaustive()
    }
}

/// Judges the values of one store.
#[derive(Debug)]
pub(crate) struct Values {
    pub(crate) wrapping: Wrapping,
    pub(crate) generations: Arc<Generations>,
    pub(crate) counters: Arc<TierCounters>,
}

impl Default for Limits {
    /// 10 ms for a read, 32 MiB for the queue, 16 MiB for a value, in the clear.
    fn default() -> Self {
        Self {
            read_timeout: Duration::from_millis(10),
            write_timeout: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(500),
            probe_interval: Duration::from_secs(1),
            reconnect_interval: Duration::from_millis(250),
            queue_entries_max: 4096,
            queue_bytes_max: 32 * 1024 * 1024,
            value_bytes_max: 16 * 1024 * 1024,
            compress: false,
            seals: None,
        }
    }
}

impl Values {
    pub(crate) fn new(limits: &Limits, generations: Arc<Generations>) -> Self {
        let wrapping = Wrapping {
            compress: limits.compress,
            seals: limits.seals.clone(),
            bytes_max: limits.value_bytes_max,
        };
        Self::wrapped(wrapping, generations)
    }

    pub(crate) fn wrapped(wrapping: Wrapping, generations: Arc<Generations>) -> Self {
        Self { wrapping, generations, counters: Arc::default() }
    }

    /// The entry that `value` is, if it is whole, of this key and question, may be given at
    /// `now_ms` and was not purged. Counts what became of it.
    pub(crate) async fn judge(
        &self,
        key: CacheKey,
        check: &Check,
        value: Bytes,
        now_ms: u64,
    ) -> Option<Entry> {
        let counters = &self.counters;
        let mut entry = match self.unpack(key, value).await {
            Ok(entry) => entry,
            Err(why) => {
                match why {
                    Unreadable::Foreign => &counters.foreign,
                    Unreadable::Oversized => &counters.oversized,
                    Unreadable::Locked => &counters.locked,
                }
                .add_one();
                return None;
            }
        };
        if entry.fresh_for_ms(now_ms).is_none() {
            counters.expired.add_one();
            return None;
        }
        self.generations.lives(entry.about(), entry.ttl_ms);
        let Some(stamp) = self.generations.admit(entry.stamp.fleet, entry.about()) else {
            counters.purged.add_one();
            return None;
        };
        if entry.check != *check {
            counters.collisions.add_one();
            return None;
        }
        entry.stamp = stamp;
        counters.hits.add_one();
        Some(entry)
    }

    async fn unpack(&self, key: CacheKey, value: Bytes) -> Result<Entry, Unreadable> {
        let wrapping = self.wrapping.clone();
        let unpack = move |value: Bytes| {
            let plain = wrapping.unwrap(key, value)?;
            codec::decode(key, &plain).map_err(|codec::Foreign| Unreadable::Foreign)
        };
        if value.len() < UNPACK_BYTES_MAX {
            return unpack(value);
        }
        let unpacked = task::spawn_blocking(move || unpack(value)).await;
        unpacked.unwrap_or(Err(Unreadable::Foreign))
    }
}

/// A name for a new epoch that nobody has used: 64 bits of the hasher's random keys, which are the
/// system's. Never 0.
pub(crate) fn new_epoch() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()).max(1)
}

#[cfg(test)]
pub(crate) mod stage;
