//! What a reload can change, and what it cannot.
//!
//! Sockets are bound, the ledger is locked, Redis is connected and the memory tier is laid out
//! once, at the start. A new file may say otherwise; then the operator is told so by path, and what
//! is in force stays. Everything
//! else of the new configuration takes effect.

use crate::Config;

/// The paths whose new values need a restart. Empty: all of `new` can be in force now.
pub fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let mut paths = Vec::new();
    let n_listeners = old.listeners.len().max(new.listeners.len());
    for i in 0..n_listeners {
        let old = old.listeners.get(i).map(|listener| listener.address);
        let new = new.listeners.get(i).map(|listener| listener.address);
        if old != new {
            paths.push(format!("listeners[{i}].address"));
        }
    }
    let mut changed = |path: &str, is_changed: bool| {
        if is_changed {
            paths.push(path.to_owned());
        }
    };
    changed("admin.address", old.admin.address != new.admin.address);
    changed("telemetry.metrics.address", old.metrics.address != new.metrics.address);
    changed("data_dir", old.data_dir != new.data_dir);
    changed("stores.redis", old.redis != new.redis);
    changed("cache.redis", old.cache.redis != new.cache.redis);
    changed("stores.memcached", old.memcached != new.memcached);
    changed("cache.memcached", old.cache.memcached != new.cache.memcached);
    changed("stores.postgres", old.postgres != new.postgres);
    changed("cache.postgres", old.cache.postgres != new.cache.postgres);
    changed("cache.disk", old.cache.disk != new.cache.disk);
    let (was, is) = (&old.cache, &new.cache);
    changed("cache.memory.size", was.memory_bytes_max != is.memory_bytes_max);
    changed("cache.memory.policy", was.memory_policy != is.memory_policy);
    changed("cache.warm.concurrency", was.warm.concurrency != is.warm.concurrency);
    changed("cache.events", was.events != is.events);
    paths
}

/// `new` with `old`'s values at those paths: what is in force after a reload.
///
/// Listeners are told apart by their place in the list. Where one was added, it is not there
/// yet; where one was taken away, it is there still.
pub fn keep_what_needs_a_restart(old: &Config, mut new: Config) -> Config {
    new.listeners.truncate(old.listeners.len());
    let gone = old.listeners.get(new.listeners.len()..).unwrap_or_default();
    for (new, old) in new.listeners.iter_mut().zip(&old.listeners) {
        new.address = old.address;
    }
    new.listeners.extend_from_slice(gone);
    // Off loopback there is always a token: a socket that stays keeps what protects it.
    if new.admin.address != old.admin.address {
        new.admin.address = old.admin.address.clone();
        if new.admin.token.is_none() {
            new.admin.token = old.admin.token.clone();
        }
    }
    new.metrics.address = old.metrics.address;
    new.data_dir.clone_from(&old.data_dir);
    new.redis.clone_from(&old.redis);
    new.cache.redis.clone_from(&old.cache.redis);
    new.memcached.clone_from(&old.memcached);
    new.cache.memcached.clone_from(&old.cache.memcached);
    new.postgres.clone_from(&old.postgres);
    new.cache.postgres.clone_from(&old.cache.postgres);
    new.cache.disk.clone_from(&old.cache.disk);
    new.cache.memory_bytes_max = old.cache.memory_bytes_max;
    new.cache.memory_policy = old.cache.memory_policy;
    new.cache.warm.concurrency = old.cache.warm.concurrency;
    new.cache.events.clone_from(&old.cache.events);
    new
}
