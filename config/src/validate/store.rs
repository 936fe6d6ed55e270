//! Memcached, what addresses of stores have in common, and how entries are written to them.

use super::endpoint;
use crate::{
    CacheStore, Disk, Encryption, EncryptionKey, Memcached, RedisLease, Secret, SecretSource,
    StoreUrl, defaults,
    raw::{
        RawCompression, RawDisk, RawEncryption, RawLeaseRule, RawMemcached, RawSecret, RawStoreUrl,
    },
    raw_route::{RawOnOff, RawSwitch},
    review::Review,
    secret::KEY_IS,
};
use std::time::Duration;

pub(super) fn memcached(review: &mut Review<'_>, raw: RawMemcached) -> Memcached {
    let mut servers = Vec::new();
    for (i, raw) in raw.servers.into_iter().flatten().enumerate() {
        let path = format!("stores.memcached.servers[{i}]");
        match endpoint::memcached(&raw) {
            Ok(server) if servers.contains(&server) => {
                review.report(path, "is a server that stands here already");
            }
            Ok(server) => servers.push(server),
            Err(message) => review.report(path, message),
        }
    }
    let timeout = review.duration(
        "stores.memcached.timeout".to_owned(),
        raw.timeout.as_ref(),
        defaults::MEMCACHED_TIMEOUT,
    );
    Memcached { servers, timeout }
}

/// The address of a store: what `check` says of it is how it is shown, without user and password.
pub(super) fn url(
    review: &mut Review<'_>,
    path: &str,
    raw: RawStoreUrl,
    check: impl Fn(&str) -> Result<String, String>,
) -> StoreUrl {
    let secret = match raw {
        RawStoreUrl::Secret(reference) => review.secret(path, &reference),
        RawStoreUrl::Url(url) => Secret::new(SecretSource::Inline, Some(&url)),
    };
    let shown = match check(secret.expose()) {
        Ok(shown) => shown,
        Err(message) => {
            if !secret.is_missing() {
                review.report(path, message);
            }
            String::new()
        }
    };
    if *secret.source() == SecretSource::Inline && shown.contains('@') {
        review.advise(
            path,
            "a password stands in the configuration; a reference like { env: NAME } keeps it out",
        );
    }
    StoreUrl::new(secret, shown)
}

/// Renewals must come in time …
const LEASE_TTL_MIN: Duration = Duration::from_millis(100);
/// … and the dead be missed.
const LEASE_TTL_MAX: Duration = Duration::from_secs(300);

pub(super) fn disk(review: &mut Review<'_>, raw: &RawDisk) -> Disk {
    let size = raw.size.as_ref();
    let range = defaults::MEMORY_BYTES_MIN..=(1 << 40);
    Disk {
        bytes_max: review.size_within(
            "cache.disk.size".to_owned(),
            size,
            defaults::DISK_BYTES,
            range,
        ),
        timeout: review.duration(
            "cache.disk.timeout".to_owned(),
            raw.timeout.as_ref(),
            defaults::DISK_TIMEOUT,
        ),
        store: entries(review, "disk", raw.compression, raw.encryption.as_ref()),
    }
}

/// `name`: of the store, under `cache`.
pub(super) fn entries(
    review: &mut Review<'_>,
    name: &str,
    compression: Option<RawCompression>,
    raw: Option<&RawEncryption>,
) -> CacheStore {
    CacheStore {
        compress: matches!(compression, Some(RawCompression::Zstd)),
        encryption: raw.and_then(|raw| encryption(review, name, raw)),
    }
}

pub(super) fn lease(review: &mut Review<'_>, raw: Option<&RawLeaseRule>) -> Option<RedisLease> {
    let default = RedisLease::default();
    let raw = match raw {
        None
        | Some(RawLeaseRule::Switch(RawSwitch::Bool(true) | RawSwitch::Word(RawOnOff::On))) => {
            return Some(default);
        }
        Some(RawLeaseRule::Switch(RawSwitch::Bool(false) | RawSwitch::Word(RawOnOff::Off))) => {
            return None;
        }
        Some(RawLeaseRule::With(raw)) => raw,
    };
    let path = |name: &str| format!("cache.redis.lease.{name}");
    let lease = RedisLease {
        ttl: review.duration(path("ttl"), raw.ttl.as_ref(), default.ttl),
        wait: review.duration(path("wait"), raw.wait.as_ref(), default.wait),
    };
    if !(LEASE_TTL_MIN..=LEASE_TTL_MAX).contains(&lease.ttl) {
        review.report(path("ttl"), "must be 100ms to 5m");
    }
    if lease.wait < lease.ttl {
        review.advise(
            path("wait"),
            "less than ttl: an instance that died is not waited for to the end",
        );
    }
    Some(lease)
}

fn encryption(review: &mut Review<'_>, name: &str, raw: &RawEncryption) -> Option<Encryption> {
    let path = format!("cache.{name}.encryption");
    let key = key(review, format!("{path}.key"), raw.key.as_ref()?);
    let mut previous: Vec<EncryptionKey> = Vec::new();
    for (i, raw) in raw.previous.iter().flatten().enumerate() {
        let path = format!("{path}.previous[{i}]");
        let Some(one) = self::key(review, path.clone(), raw) else { continue };
        let mut others = previous.iter().chain(&key);
        if one.expose().is_some() && others.any(|other| other.expose() == one.expose()) {
            review.report(path, "is a key that stands here already");
        }
        previous.push(one);
    }
    Some(Encryption { key: key?, previous })
}

fn key(review: &mut Review<'_>, path: String, raw: &RawSecret) -> Option<EncryptionKey> {
    let secret = review.secret(&path, raw);
    let key = EncryptionKey::read(&secret);
    if key.is_none() {
        review.report(path, format!("{}: {KEY_IS}", secret.source()));
    }
    key
}
