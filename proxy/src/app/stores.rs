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
    tiers::{Outer, Tiers},
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

/// At the end of the process: what stores did not take in time is lost to them.
pub(super) fn tell_unwritten(tiers: &Tiers) {
    for outer in tiers.all_outer() {
        let (tier, queued_bytes) = (outer.name().as_str(), outer.queued_bytes());
        let purges_pending = outer.purges_pending();
        if queued_bytes > 0 || purges_pending > 0 {
            tracing::warn!(
                tier,
                queued_bytes,
                purges_pending,
                "a store did not take what was to be written in time; it is not written"
            );
        }
    }
}
