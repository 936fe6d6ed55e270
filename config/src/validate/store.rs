//! How entries are written to the shared stores.

use crate::{
    CacheRedis, Encryption, EncryptionKey,
    raw::{RawCacheRedis, RawCompression, RawEncryption, RawSecret},
    review::Review,
    secret::KEY_IS,
};

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
