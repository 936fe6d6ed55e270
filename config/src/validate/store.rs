//! The shared stores, and how entries are written to them.

use super::{endpoint, upstream};
use crate::{
    CacheRedis, Encryption, EncryptionKey, Redis, RedisUrl, Secret, SecretSource, defaults,
    raw::{
        RawCacheRedis, RawCompression, RawEncryption, RawRedis, RawRedisMode, RawRedisUrl,
        RawSecret,
    },
    review::Review,
    secret::KEY_IS,
};

pub(super) fn redis(review: &mut Review<'_>, raw: RawRedis) -> Redis {
    let (None | Some(RawRedisMode::Single)) = raw.mode; // a second will not compile unread
    let path = "stores.redis.urls[0]";
    let first = raw.urls.into_iter().flatten().next();
    let secret = match first {
        Some(RawRedisUrl::Secret(reference)) => review.secret(path, &reference),
        Some(RawRedisUrl::Url(url)) => Secret::new(SecretSource::Inline, Some(&url)),
        None => Secret::new(SecretSource::Inline, None), // reported by its shape
    };
    let shown = match endpoint::redis(secret.expose()) {
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
    let timeout = review.duration(
        "stores.redis.timeout".to_owned(),
        raw.timeout.as_ref(),
        defaults::REDIS_TIMEOUT,
    );
    let tls = raw.tls.map(|raw| {
        if shown.starts_with("redis:") {
            review.advise("stores.redis.tls", "has no effect: the URL is redis, not rediss");
        }
        upstream::tls_files(review, "stores.redis.tls", raw)
    });
    if raw.user.as_deref().is_some_and(|user| user.is_empty() || user.contains(char::is_whitespace))
    {
        review.report("stores.redis.user", "must be the name of a user of redis");
    }
    if raw.user.is_some() && raw.password.is_none() && !shown.contains('@') && !secret.is_missing()
    {
        review.report("stores.redis.password", "missing: user needs its password");
    }
    Redis {
        url: RedisUrl::new(secret, shown),
        user: raw.user,
        password: raw.password.map(|raw| review.secret("stores.redis.password", &raw)),
        tls: tls.unwrap_or_default(),
        timeout,
    }
}

pub(super) fn entries(review: &mut Review<'_>, raw: &RawCacheRedis) -> CacheRedis {
    CacheRedis {
        compress: matches!(raw.compression, Some(RawCompression::Zstd)),
        encryption: raw.encryption.as_ref().and_then(|raw| encryption(review, raw)),
    }
}

fn encryption(review: &mut Review<'_>, raw: &RawEncryption) -> Option<Encryption> {
    const PATH: &str = "cache.redis.encryption";
    let key = key(review, format!("{PATH}.key"), raw.key.as_ref()?);
    let mut previous: Vec<EncryptionKey> = Vec::new();
    for (i, raw) in raw.previous.iter().flatten().enumerate() {
        let path = format!("{PATH}.previous[{i}]");
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
