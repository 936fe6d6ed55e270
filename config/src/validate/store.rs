//! Memcached, and how entries are written to the shared stores.

use super::endpoint;
use crate::{
    CacheStore, Encryption, EncryptionKey, Memcached, defaults,
    raw::{RawCacheStore, RawCompression, RawEncryption, RawMemcached, RawSecret},
    review::Review,
    secret::KEY_IS,
};

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

/// `name`: of the store, under `cache`.
pub(super) fn entries(
    review: &mut Review<'_>,
    name: &str,
    raw: Option<&RawCacheStore>,
) -> CacheStore {
    let Some(raw) = raw else { return CacheStore::default() };
    CacheStore {
        compress: matches!(raw.compression, Some(RawCompression::Zstd)),
        encryption: raw.encryption.as_ref().and_then(|raw| encryption(review, name, raw)),
    }
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
