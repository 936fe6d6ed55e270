//! The encryption of values: AES-256-GCM, under keys the operator holds.
//!
//! Each cache key has a key of its own, made from the operator's: random nonces of 96 bits must not
//! meet under one key, and the values of one cache key are few, while those of a fleet in a year
//! are not. The cache key is bound in as associated data besides: a value moved to another
//! place does not open.
//!
//! **Invariant:** with seals configured nothing else is written, and nothing else is read: who
//! may write to the store could otherwise put plain answers there.

use super::{HEADER_LEN, Unreadable};
use crate::key::CacheKey;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};

pub(super) const KEY_ID_LEN: usize = 8;
/// What a sealed value has more than its plain bytes.
pub(super) const SEAL_LEN: usize = KEY_ID_LEN + NONCE_LEN + 16;

/// 32 secret bytes. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SealKey {
    bytes: [u8; 32],
    id: [u8; KEY_ID_LEN],
}

/// The keys of a namespace.
#[derive(Clone, Debug)]
pub struct Seals {
    /// What is written is sealed with this one.
    pub current: SealKey,
    /// What was sealed with these is read all the same.
    pub previous: Vec<SealKey>,
}

/// There was no randomness to be had: nothing may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no random bytes; the value is not written")]
pub struct CannotSeal;

impl SealKey {
    pub fn new(bytes: [u8; 32]) -> Self {
        let digest = blake3::derive_key("tollgate 2026 id of a cache encryption key", &bytes);
        Self { bytes, id: digest.first_chunk().copied().unwrap_or_default() }
    }

    fn of(&self, key: CacheKey) -> Option<LessSafeKey> {
        let mut hasher = blake3::Hasher::new_keyed(&self.bytes);
        hasher.update(b"tollgate value under ").update(key.as_bytes());
        let own = UnboundKey::new(&AES_256_GCM, hasher.finalize().as_bytes()).ok()?;
        Some(LessSafeKey::new(own))
    }
}

/// Only what may be known: its id.
impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealKey({:016x})", u64::from_be_bytes(self.id))
    }
}

impl Seals {
    /// Seals what stands in `out` behind its header, in place.
    pub(super) fn seal(&self, key: CacheKey, header: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = Vec::with_capacity(header.len() + SEAL_LEN + plain.len());
        for part in [header, &self.current.id, &nonce, plain] {
            sealed.extend_from_slice(part);
        }
        let own = self.current.of(key)?;
        let bound = bound(header, &self.current.id, key);
        let inner = sealed.get_mut(header.len() + KEY_ID_LEN + NONCE_LEN..)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = own.seal_in_place_separate_tag(nonce, Aad::from(bound), inner).ok()?;
        sealed.extend_from_slice(tag.as_ref());
        Some(sealed)
    }

    /// What was sealed into `sealed`, which is what stands behind `header`.
    pub(super) fn open(
        &self,
        key: CacheKey,
        header: &[u8],
        sealed: &[u8],
    ) -> Result<Vec<u8>, Unreadable> {
        let (id, rest) = sealed.split_first_chunk::<KEY_ID_LEN>().ok_or(Unreadable::Locked)?;
        let (nonce, inner) = rest.split_first_chunk::<NONCE_LEN>().ok_or(Unreadable::Locked)?;
        let mut keys = std::iter::once(&self.current).chain(&self.previous);
        let own = keys.find(|own| own.id == *id).and_then(|own| own.of(key));
        let own = own.ok_or(Unreadable::Locked)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut inner = inner.to_vec();
        let opened = own.open_in_place(nonce, Aad::from(bound(header, id, key)), &mut inner);
        let len = opened.map_err(|_| Unreadable::Locked)?.len();
        inner.truncate(len);
        Ok(inner)
    }
}

/// What a value is bound to: how it says it is to be read, and its place.
fn bound(
    header: &[u8],
    id: &[u8; KEY_ID_LEN],
    key: CacheKey,
) -> [u8; HEADER_LEN + KEY_ID_LEN + 32] {
    let mut bound = [0; HEADER_LEN + KEY_ID_LEN + 32];
    let parts = header.iter().chain(id).chain(key.as_bytes());
    for (to, from) in bound.iter_mut().zip(parts) {
        *to = *from;
    }
    bound
}
