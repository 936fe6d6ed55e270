//! From what the configuration says of stores to their tiers.

use super::{
    redis::{namespace, seals, tls},
    run::{StartError, with_causes},
};
use std::{path::Path, sync::Arc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tollgate_cache::{
    disk::DiskSettings,
    generations::Generations,
    memcached::{Address, MemcachedSettings, MemcachedTier},
    outer::{Limits, Role},
    postgres::{BadPostgres, PostgresSettings, PostgresTier},
    shared::RedisTier,
    tiers::{Outer, TierName, Tiers},
    versions::Versions,
};
use tollgate_config::{Config, Disk, Memcached, MemcachedServer, Postgres};

/// The stores of a fleet. The first keeps its purges: Redis tells them at once, PostgreSQL
/// remembers them longest, and Memcached does neither.
pub(super) fn start(
    config: &Config,
    generations: &Arc<Generations>,
    versions: &Arc<Versions>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Vec<Outer>, StartError> {
    let mut outer = Vec::new();
    if let Some(redis) = &config.redis {
        let settings = super::redis::settings(config, redis)?;
        let (generations, versions) = (generations.clone(), versions.clone());
        let tier = RedisTier::start(settings, generations, versions, tasks, stop);
        outer.push(Outer::Redis(tier.map_err(|error| StartError::Redis(error.to_string()))?));
    }
    let role = |before: &[Outer]| if before.is_empty() { Role::Keeper } else { Role::Shelf };
    if let Some(postgres) = &config.postgres {
        let settings = self::postgres(config, postgres, role(&outer))?;
        let (generations, versions) = (generations.clone(), versions.clone());
        let tier = PostgresTier::start(settings, generations, versions, tasks, stop);
        let unusable = |error: BadPostgres| StartError::Postgres(with_causes(&error));
        outer.push(Outer::Postgres(tier.map_err(unusable)?));
    }
    if let Some(memcached) = &config.memcached {
        let settings = self::memcached(config, memcached, role(&outer))?;
        let tier = MemcachedTier::start(settings, generations.clone(), tasks, stop);
        outer.push(Outer::Memcached(tier));
    }
    Ok(outer)
}

fn postgres(
    config: &Config,
    postgres: &Postgres,
    role: Role,
) -> Result<PostgresSettings, StartError> {
    let cache = &config.cache.postgres;
    let limits = Limits {
        read_timeout: postgres.timeout,
        compress: cache.store.compress,
        seals: seals("postgres", &cache.store)?,
        ..Limits::default()
    };
    Ok(PostgresSettings {
        user: postgres.user.clone(),
        password: postgres.password.as_ref().map(|password| password.expose().to_owned()),
        tls: tls(&postgres.tls, StartError::Postgres)?,
        schema: postgres.schema.clone(),
        connections: postgres.connections,
        size_max: cache.bytes_max,
        limits,
        ..PostgresSettings::new(postgres.url.expose(), namespace(config), role)
    })
}

fn memcached(
    config: &Config,
    memcached: &Memcached,
    role: Role,
) -> Result<MemcachedSettings, StartError> {
    let servers = memcached.servers.iter().map(|server| match server {
        MemcachedServer::Tcp(authority) => Address::Tcp(authority.as_str().into()),
        MemcachedServer::Unix(path) => Address::Unix(path.clone()),
    });
    let limits = Limits {
        read_timeout: memcached.timeout,
        compress: config.cache.memcached.compress,
        seals: seals("memcached", &config.cache.memcached)?,
        ..Limits::default()
    };
    let settings = MemcachedSettings::new(servers.collect(), namespace(config));
    Ok(MemcachedSettings { role, limits, ..settings })
}

/// `dir`: of all that the cache keeps on the disk.
pub(super) fn disk(disk: &Disk, dir: &Path) -> Result<DiskSettings, StartError> {
    Ok(DiskSettings {
        size_max: disk.bytes_max,
        read_timeout: disk.timeout,
        compress: disk.store.compress,
        seals: seals("disk", &disk.store)?,
        ..DiskSettings::new(dir.join("entries"))
    })
}

/// What a store has not taken when the process ends: it is lost to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unwritten {
    tier: TierName,
    /// Entries given up at the end.
    dropped: u64,
    /// Bytes of entries that are not even given up.
    queued_bytes: u64,
    /// The next process sends them, where they are kept on disk.
    purges_pending: usize,
}

/// How many writes each store has not taken so far, in the order of the tiers.
pub(super) fn dropped(tiers: &Tiers) -> Vec<u64> {
    let counters = tiers.all_outer().iter().map(Outer::counters);
    counters.map(|counters| counters.dropped_down.value()).collect()
}

/// `before`: what had been [`dropped`] when the end began.
pub(super) fn unwritten(tiers: &Tiers, before: &[u64]) -> Vec<Unwritten> {
    let outer = tiers.all_outer().iter().zip(before);
    let left = outer.map(|(outer, before)| Unwritten {
        tier: outer.name(),
        dropped: outer.counters().dropped_down.value().saturating_sub(*before),
        queued_bytes: outer.queued_bytes(),
        purges_pending: outer.purges_pending(),
    });
    let is_any =
        |left: &Unwritten| left.dropped > 0 || left.queued_bytes > 0 || left.purges_pending > 0;
    left.filter(is_any).collect()
}

impl Unwritten {
    pub(super) fn tell(&self) {
        let Self { tier, dropped, queued_bytes, purges_pending } = self;
        tracing::warn!(
            tier = tier.as_str(),
            dropped,
            queued_bytes,
            purges_pending,
            "a store did not take in time what was to be written to it before the end"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_cache::{generations::Target, memory::MemoryTier, shared::RedisSettings};

    #[tokio::test]
    async fn what_a_store_did_not_take_before_the_end_is_named() {
        let (generations, versions) = (Arc::<Generations>::default(), Arc::<Versions>::default());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let dir = tempfile::tempdir().unwrap();
        let nobody = format!("unix://{}", dir.path().join("nobody").display());
        let settings = RedisSettings::new(nobody, "test");
        let redis =
            RedisTier::start(settings, generations.clone(), versions.clone(), &tasks, &stop);
        let outer = vec![Outer::Redis(redis.unwrap())];
        let tiers = Tiers::new(MemoryTier::new(1 << 20), outer, generations, versions);
        let before = dropped(&tiers);
        assert_eq!(unwritten(&tiers, &before), []);
        tiers.purge(Target::Tag("a")).await;
        tiers.all_outer()[0].counters().dropped_down.add(2);
        let (tier, queued_bytes) = (TierName::Redis, 0);
        let expected = Unwritten { tier, dropped: 2, queued_bytes, purges_pending: 1 };
        assert_eq!(unwritten(&tiers, &before), [expected]);
    }
}
