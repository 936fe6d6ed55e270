//! From what the configuration says of Memcached to what its tier is given.

use super::{
    redis::{namespace, seals},
    run::StartError,
};
use tollgate_cache::{
    memcached::{Address, MemcachedSettings},
    outer::{Limits, Role},
};
use tollgate_config::{Config, Memcached, MemcachedServer};

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
