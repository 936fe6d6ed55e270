//! From what the configuration says of Memcached and the disk to what their tiers are given.

use super::{
    redis::{namespace, seals},
    run::StartError,
};
use std::path::Path;
use tollgate_cache::{
    disk::DiskSettings,
    memcached::{Address, MemcachedSettings},
    outer::{Limits, Role},
};
use tollgate_config::{Config, Disk, Memcached, MemcachedServer};

pub(super) fn memcached(
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
