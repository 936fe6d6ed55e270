//! A tier outside memory, whichever store it is.
//!
//! One enum rather than a trait object: there are few stores, a look-up is a future, and so each is
//! as large as the store's own and on nobody's heap.

use super::{Owed, TierName};
use crate::{
    counters::TierCounters,
    disk::DiskTier,
    entry::Entry,
    generations::{SUBJECTS_MAX, Subject},
    key::{CacheKey, Check},
    memcached::{self, MemcachedTier},
    postgres::PostgresTier,
    shared::RedisTier,
};
use std::{sync::Arc, time::Duration};

/// Look-ups of one call on a connection that answers in order. Each has a few milliseconds from when
/// it is sent, and the first that takes longer has the store left alone by everybody: so no more than
/// what a store that is well answers in a fraction of that. 32 vectors of 20 KB are 640 KB.
const PIPELINED_MAX: usize = 32;

/// A tier outside the process's memory.
#[derive(Debug)]
pub enum Outer {
    Redis(RedisTier),
    Postgres(PostgresTier),
    Memcached(MemcachedTier),
    Disk(DiskTier),
}

impl Outer {
    pub fn name(&self) -> TierName {
        match self {
            Self::Redis(_) => TierName::Redis,
            Self::Postgres(_) => TierName::Postgres,
            Self::Memcached(_) => TierName::Memcached,
            Self::Disk(_) => TierName::Disk,
        }
    }

    /// Whether it is asked at all.
    pub fn is_up(&self) -> bool {
        match self {
            Self::Redis(redis) => redis.is_up(),
            Self::Postgres(postgres) => postgres.is_up(),
            Self::Memcached(memcached) => memcached.is_up(),
            Self::Disk(disk) => disk.is_up(),
        }
    }

    pub fn counters(&self) -> &Arc<TierCounters> {
        match self {
            Self::Redis(redis) => redis.counters(),
            Self::Postgres(postgres) => postgres.counters(),
            Self::Memcached(memcached) => memcached.counters(),
            Self::Disk(disk) => disk.counters(),
        }
    }

    /// The longest that anybody waits for a write.
    pub fn timeout(&self) -> Duration {
        match self {
            Self::Redis(redis) => redis.timeout(),
            Self::Postgres(postgres) => postgres.timeout(),
            Self::Memcached(memcached) => memcached.timeout(),
            Self::Disk(disk) => disk.timeout(),
        }
    }

    /// How many look-ups one call may have under way.
    pub fn reads_at_once(&self) -> usize {
        match self {
            Self::Redis(_) | Self::Memcached(_) => PIPELINED_MAX,
            Self::Postgres(postgres) => postgres.reads_at_once(),
            Self::Disk(disk) => disk.reads_at_once(),
        }
    }

    /// Bytes of entries waiting to be written.
    pub fn queued_bytes(&self) -> u64 {
        match self {
            Self::Redis(redis) => redis.queued_bytes(),
            Self::Postgres(postgres) => postgres.queued_bytes(),
            Self::Memcached(memcached) => memcached.queued_bytes(),
            Self::Disk(disk) => disk.queued_bytes(),
        }
    }

    /// Of the keeper: purges that it has not numbered yet.
    pub fn purges_pending(&self) -> usize {
        match self {
            Self::Redis(redis) => redis.purges_pending(),
            Self::Postgres(postgres) => postgres.purges_pending(),
            Self::Memcached(memcached) => memcached.purges_pending(),
            Self::Disk(_) => 0,
        }
    }

    /// Of the keeper: how many purged subjects it tells apart.
    pub(super) fn subjects_max(&self) -> usize {
        match self {
            Self::Memcached(_) => memcached::SUBJECTS_MAX,
            Self::Redis(_) | Self::Postgres(_) | Self::Disk(_) => SUBJECTS_MAX,
        }
    }

    /// Of the keeper: tells everybody of a purge that was applied here. Whether it is numbered.
    pub(super) async fn purge(&self, subjects: &[Subject]) -> bool {
        match self {
            Self::Redis(redis) => redis.purge(subjects).await,
            Self::Postgres(postgres) => postgres.purge(subjects).await,
            Self::Memcached(memcached) => memcached.purge(subjects).await,
            // It keeps no purges: see [`Tiers::keeper`].
            Self::Disk(_) => false,
        }
    }

    /// Of the keeper: as [`Self::purge`], and waits for nothing.
    pub(super) fn begin_purge(&self, subjects: &[Subject]) {
        match self {
            Self::Redis(redis) => redis.begin_purge(subjects),
            Self::Postgres(postgres) => postgres.begin_purge(subjects),
            Self::Memcached(memcached) => memcached.begin_purge(subjects),
            Self::Disk(_) => {}
        }
    }

    pub(super) async fn look_up(&self, key: CacheKey, check: &Check, now_ms: u64) -> Option<Entry> {
        match self {
            Self::Redis(redis) => redis.look_up(key, check, now_ms).await,
            Self::Postgres(postgres) => postgres.look_up(key, check, now_ms).await,
            Self::Memcached(memcached) => memcached.look_up(key, check, now_ms).await,
            Self::Disk(disk) => disk.look_up(key, check, now_ms).await,
        }
    }

    pub(super) fn store(&self, key: CacheKey, entry: Arc<Entry>, ttl_ms: u64, owed: Owed) {
        // Redis alone has leases; another's queue must not hold one up.
        let alone = |owed: Owed| Owed { lease: None, ..owed };
        match self {
            Self::Redis(redis) => redis.store(key, entry, ttl_ms, owed),
            Self::Postgres(postgres) => postgres.store(key, entry, ttl_ms, alone(owed)),
            Self::Memcached(memcached) => memcached.store(key, entry, ttl_ms, alone(owed)),
            Self::Disk(disk) => disk.store(key, entry, ttl_ms, alone(owed)),
        }
    }
}
