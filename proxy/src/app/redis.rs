//! From what the configuration says of Redis to what its tier is given.

use super::run::StartError;
use crate::metrics::LeaseCounts;
use std::path::Path;
use tollgate_cache::{
    outer::StoreTls,
    shared::{LeaseTimes, RedisMode, RedisSettings, Sentinels},
    tiers::Outer,
    wrap::{SealKey, Seals},
};
use tollgate_config::{
    CacheStore, Config, EncryptionKey, Redis, RedisMode as Mode, Secret, UpstreamTls,
};

pub(super) fn settings(config: &Config, redis: &Redis) -> Result<RedisSettings, StartError> {
    let namespace = namespace(config);
    let exposed = |secret: &Secret| secret.expose().to_owned();
    let mode = match &redis.mode {
        Mode::Single => RedisMode::Single,
        Mode::Cluster => RedisMode::Cluster,
        Mode::Sentinel { master, user, password } => RedisMode::Sentinel(Sentinels {
            master: master.clone(),
            user: user.clone(),
            password: password.as_ref().map(exposed),
        }),
    };
    Ok(RedisSettings {
        urls: redis.urls.iter().map(|url| url.expose().to_owned()).collect(),
        mode,
        user: redis.user.clone(),
        password: redis.password.as_ref().map(exposed),
        tls: tls(&redis.tls, StartError::Redis)?,
        read_timeout: redis.timeout,
        compress: config.cache.redis.compress,
        seals: seals("redis", &config.cache.redis)?,
        lease: config
            .cache
            .redis_lease
            .map(|lease| LeaseTimes { ttl: lease.ttl, wait: lease.wait }),
        ..RedisSettings::new("", namespace)
    })
}

/// Who shares what is in the stores.
pub(super) fn namespace(config: &Config) -> String {
    config.cache.namespace.clone().unwrap_or_else(|| {
        config.upstreams.first().map(|first| first.name.clone()).unwrap_or_default()
    })
}

/// How often this instance waited for others, and they for it.
pub(super) fn leases(outer: &Outer) -> LeaseCounts {
    let Outer::Redis(redis) = outer else { return LeaseCounts::default() };
    let counters = redis.lease_counters();
    LeaseCounts {
        taken: counters.taken.value(),
        lost: counters.lost.value(),
        fenced: counters.fenced.value(),
        found: counters.found.value(),
        led: counters.led.value(),
        unshared: counters.unshared.value(),
        timeout: counters.timeouts.value(),
        away: counters.away.value(),
    }
}

/// What the files hold that the TLS to a store needs; `of`: the store's error.
pub(super) fn tls(
    files: &UpstreamTls,
    of: fn(String) -> StartError,
) -> Result<StoreTls, StartError> {
    let read = |path: &Path| {
        let unreadable = |error| of(format!("cannot read {}: {error}", path.display()));
        std::fs::read(path).map_err(unreadable)
    };
    let client = files.client.as_ref();
    let client = client
        .map(|pair| Ok::<_, StartError>((read(&pair.certificate)?, read(&pair.private_key)?)));
    Ok(StoreTls { ca: files.ca.as_deref().map(read).transpose()?, client: client.transpose()? })
}

/// The keys of what lies in a store. Without a key that was configured nothing may start: it would
/// write in the clear.
pub(super) fn seals(
    store: &'static str,
    entries: &CacheStore,
) -> Result<Option<Seals>, StartError> {
    let Some(keys) = &entries.encryption else { return Ok(None) };
    let key = |key: &EncryptionKey| {
        let missing = || StartError::CacheKey { store, key: key.source().to_string() };
        Ok(SealKey::new(key.expose().ok_or_else(missing)?))
    };
    let previous = keys.previous.iter().map(key).collect::<Result<_, StartError>>()?;
    Ok(Some(Seals { current: key(&keys.key)?, previous }))
}
