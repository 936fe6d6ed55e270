//! What lies around an entry's bytes in a store outside the process: compression, encryption.
//!
//! ```text
//! plain        the bytes of `codec`, as they are
//! compressed   "TGV" version │ flags │ length 4 │ zstd frame, which says what dictionary it needs
//! sealed       "TGV" version │ flags │ key id 8 │ nonce 12 │ ciphertext of either's rest │ tag 16
//! ```
//!
//! A store may hold both at one time: instances that compress and instances that do not read each
//! other's values. (Sealed ones are apart, see `wrap/seal.rs`.) What was written is not trusted: the length that a value says it has is held
//! against a bound before a byte is unpacked, and no more than that is ever unpacked. What is
//! compressed how is for `pack` to say.

mod pack;
mod seal;

pub use seal::{CannotSeal, SealKey, Seals};

use self::pack::{Packer, Packing};
use crate::key::CacheKey;
use bytes::Bytes;

/// The last byte is the version: bump it with any change of the layout.
const MAGIC: &[u8; 4] = b"TGV\x01";
/// A flag; the others are `pack`'s.
const SEALED: u8 = 2;
/// Magic and flags.
const HEADER_LEN: usize = MAGIC.len() + 1;

/// How values are written, and how large they may be.
#[derive(Clone, Debug)]
pub struct Wrapping {
    /// Whether values are compressed where it pays. Compressed ones are read either way.
    pub compress: bool,
    /// Values are sealed with these, and no others are read. `None`: they lie in the clear.
    pub seals: Option<Seals>,
    /// Of the bytes inside.
    pub bytes_max: usize,
}

/// Why a value cannot be read; each is a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("not a value of this version; treated as a miss")]
    Foreign,
    #[error("would unpack to more than an entry may have; treated as a miss")]
    Oversized,
    #[error("not sealed with a key of ours for this place; treated as a miss")]
    Locked,
}

/// Wraps values, one after the other.
pub struct Wrapper {
    wrapping: Wrapping,
    packer: Packer,
}

impl std::fmt::Debug for Wrapper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wrapper").field("wrapping", &self.wrapping).finish_non_exhaustive()
    }
}

impl Wrapper {
    pub fn new(wrapping: Wrapping) -> Self {
        Self { wrapping, packer: Packer::default() }
    }

    /// `plain` as it is to be stored under `key`.
    pub fn wrap(&mut self, key: CacheKey, plain: Vec<u8>) -> Result<Vec<u8>, CannotSeal> {
        let packed = if self.wrapping.compress { self.packer.pack(&plain) } else { None };
        let packing = packed.as_ref().map_or(Packing::Not, |(packing, _)| *packing).flags();
        let header = |flags| [MAGIC.as_slice(), &[flags]].concat();
        match (&self.wrapping.seals, packed) {
            (None, None) => Ok(plain),
            (None, Some((_, packed))) => Ok([header(packing), packed].concat()),
            (Some(seals), packed) => {
                let inner = packed.as_ref().map_or(&plain, |(_, packed)| packed);
                seals.seal(key, &header(SEALED | packing), inner).ok_or(CannotSeal)
            }
        }
    }
}

impl Wrapping {
    /// What [`Wrapper::wrap`] was given.
    pub fn unwrap(&self, key: CacheKey, value: Bytes) -> Result<Bytes, Unreadable> {
        let flags = match (value.strip_prefix(MAGIC), &self.seals) {
            (None, None) => return Ok(value),
            (None, Some(_)) => return Err(Unreadable::Locked),
            (Some(rest), _) => rest.first().copied().ok_or(Unreadable::Foreign)?,
        };
        let packing = Packing::of_flags(flags & !SEALED).ok_or(Unreadable::Foreign)?;
        let is_sealed = flags & SEALED != 0;
        // What is neither has no header.
        if packing == Packing::Not && !is_sealed {
            return Err(Unreadable::Foreign);
        }
        let (header, rest) = value.split_at_checked(HEADER_LEN).ok_or(Unreadable::Foreign)?;
        let opened = match (&self.seals, is_sealed) {
            (None, false) => None,
            (Some(seals), true) => Some(seals.open(key, header, rest)?),
            // In the clear though it must not be, or sealed for somebody else.
            (None, true) | (Some(_), false) => return Err(Unreadable::Locked),
        };
        match (packing, opened) {
            (Packing::Not, Some(plain)) => Ok(plain.into()),
            (packing, opened) => {
                pack::unpack(packing, opened.as_deref().unwrap_or(rest), self.bytes_max)
            }
        }
    }
}

#[cfg(test)]
mod tests;
