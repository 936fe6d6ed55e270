//! The tiers in their order: memory, then Redis.
//!
//! The first look is a plain function: a hit in memory costs no task switch. Only a miss of it
//! waits, and at most as long as Redis may take. What Redis answers is copied to memory, for no
//! longer than the memory tier may keep it.

use crate::{
    entry::Entry,
    generations::{Generations, Stamp, Subject, Target},
    key::{CacheKey, Check},
    memory::MemoryTier,
    shared::RedisTier,
    versions::Versions,
};
use std::sync::Arc;

/// Names a tier in `cache-status` and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TierName {
    Memory,
    Redis,
}

/// How long each tier may keep an entry of a route; `None`: the route does not use that tier.
/// Never longer than the entry's own time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierTtls {
    pub memory_ms: Option<u64>,
    pub redis_ms: Option<u64>,
}

/// An answer from the cache.
#[derive(Clone, Debug)]
pub struct Found {
    pub entry: Arc<Entry>,
    pub tier: TierName,
}

/// How far a purge has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Instance,
    Fleet,
}

/// What became of a purge. Here it is in force at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purged {
    pub reach: Reach,
    /// Redis is away; the others will hear of it when it is back.
    pub pending: bool,
}

/// All tiers, and what they share.
#[derive(Debug)]
pub struct Tiers {
    memory: MemoryTier,
    redis: Option<RedisTier>,
    generations: Arc<Generations>,
    versions: Arc<Versions>,
}

impl TierName {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
        }
    }
}

impl Tiers {
    /// `generations` and `versions` are the ones that `redis` was started with.
    pub fn new(
        memory: MemoryTier,
        redis: Option<RedisTier>,
        generations: Arc<Generations>,
        versions: Arc<Versions>,
    ) -> Self {
        Self { memory, redis, generations, versions }
    }

    /// The stamp of a fill that begins now: to be taken before the upstream is asked.
    pub fn stamp(&self) -> Stamp {
        self.generations.stamp()
    }

    /// What is in memory. Neither waits nor allocates.
    pub fn look_up_now(&self, key: &CacheKey, check: &Check, now_ms: u64) -> Option<Found> {
        let entry = self.memory.look_up(key, check, now_ms, &self.generations)?;
        Some(Found { entry, tier: TierName::Memory })
    }

    /// As [`Self::look_up_now`], for a call that has looked before.
    pub fn look_again(&self, key: &CacheKey, check: &Check, now_ms: u64) -> Option<Found> {
        let entry = self.memory.look_again(key, check, now_ms, &self.generations)?;
        Some(Found { entry, tier: TierName::Memory })
    }

    /// What is in the shared tiers; copied to memory. Waits for Redis's read time-out at most.
    pub async fn look_up_shared(
        &self,
        key: CacheKey,
        check: &Check,
        ttls: TierTtls,
        now_ms: u64,
    ) -> Option<Found> {
        ttls.redis_ms?;
        let entry = Arc::new(self.redis.as_ref()?.look_up(key, check, now_ms).await?);
        if let Some(memory_ms) = ttls.memory_ms {
            self.memory.store(key, entry.clone(), now_ms.saturating_add(memory_ms));
        }
        Some(Found { entry, tier: TierName::Redis })
    }

    /// Keeps an answer: in memory at once, in Redis as soon as may be. Nothing that was purged
    /// while it was made. Whether it was kept.
    pub fn store(&self, key: CacheKey, entry: Arc<Entry>, ttls: TierTtls, now_ms: u64) -> bool {
        let Some(fresh_for_ms) = entry.fresh_for_ms(now_ms) else { return false };
        if !self.generations.is_valid(entry.stamp, &entry.subjects, &entry.checked) {
            return false;
        }
        if let (Some(redis), Some(redis_ms)) = (&self.redis, ttls.redis_ms) {
            redis.store(key, entry.clone(), redis_ms.min(fresh_for_ms));
        }
        if let Some(memory_ms) = ttls.memory_ms {
            self.memory.store(key, entry, now_ms.saturating_add(memory_ms));
        }
        true
    }

    /// Voids every entry about `target`: here before this returns, elsewhere as far as the answer
    /// says.
    pub async fn purge(&self, target: Target<'_>) -> Purged {
        let subject = Subject::of(target);
        self.generations.purge_here(subject);
        // Void they are already; these two also give their bytes back at once.
        match target {
            Target::Key(key) => self.memory.remove(&key),
            Target::All => self.memory.clear(),
            Target::Tag(_) | Target::Route(_) | Target::Model(_) | Target::Tenant(_) => {}
        }
        let Some(redis) = &self.redis else {
            return Purged { reach: Reach::Instance, pending: false };
        };
        if redis.purge(subject).await {
            Purged { reach: Reach::Fleet, pending: false }
        } else {
            Purged { reach: Reach::Instance, pending: true }
        }
    }

    /// Frees what may no longer be given and nobody asks for. For a task that runs now and then.
    pub fn sweep(&self, now_ms: u64) {
        self.memory.sweep(now_ms, &self.generations);
    }

    pub fn memory(&self) -> &MemoryTier {
        &self.memory
    }

    pub fn redis(&self) -> Option<&RedisTier> {
        self.redis.as_ref()
    }

    pub fn versions(&self) -> &Versions {
        &self.versions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::tests::{entry, key};

    const TTLS: TierTtls = TierTtls { memory_ms: Some(10_000), redis_ms: Some(60_000) };

    fn with_one() -> (Tiers, Arc<Entry>) {
        let tiers = Tiers::new(MemoryTier::new(1 << 20), None, Arc::default(), Arc::default());
        let entry = Arc::new(Entry { stamp: tiers.stamp(), ..entry(key(1), b"{}") });
        assert!(tiers.store(key(1), entry.clone(), TTLS, 2_000));
        (tiers, entry)
    }

    #[test]
    fn memory_keeps_an_entry_for_the_lesser_of_its_time_and_the_tiers() {
        let (tiers, entry) = with_one();
        let there = |now_ms| tiers.look_up_now(&key(1), &entry.check, now_ms).is_some();
        assert!(there(11_999));
        assert!(!there(12_000));
        assert!(!tiers.store(key(1), entry.clone(), TTLS, 61_000), "past its own time");
        assert!(tiers.store(key(1), entry.clone(), TTLS, 60_000));
        assert!(there(60_999));
        assert!(!there(61_000));
    }

    #[test]
    fn a_route_that_does_not_use_memory_is_not_kept_there() {
        let (tiers, entry) = with_one();
        tiers.sweep(u64::MAX);
        let ttls = TierTtls { memory_ms: None, redis_ms: None };
        assert!(tiers.store(key(1), entry, ttls, 2_000));
        assert_eq!(tiers.memory().entries(), 0);
    }

    #[tokio::test]
    async fn without_redis_a_purge_reaches_this_instance_and_waits_for_nothing() {
        let alone = Purged { reach: Reach::Instance, pending: false };
        for target in [Target::Key(key(1)), Target::Tag("kb:7"), Target::All] {
            let (tiers, entry) = with_one();
            assert_eq!(tiers.purge(target).await, alone);
            assert!(tiers.look_up_now(&key(1), &entry.check, 2_000).is_none(), "{target:?}");
            assert_eq!(tiers.memory().bytes(), 0, "{target:?}");
        }
    }
}
