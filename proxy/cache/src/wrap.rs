//! What lies around an entry's bytes in a store outside the process: compression, encryption.
//!
//! ```text
//! plain        the bytes of `codec`, as they are
//! compressed   "TGV" version │ flags │ length 4 │ zstd frame
//! sealed       "TGV" version │ flags │ key id 8 │ nonce 12 │ ciphertext of either's rest │ tag 16
//! ```
//!
//! A store may hold both at one time: instances that compress and instances that do not read each
//! other's values. (Sealed ones are apart, see `wrap/seal.rs`.) What was written is not trusted: the length that a value says it has is held
//! against a bound before a byte is unpacked, and no more than that is ever unpacked.
//!
//! Level 1 of zstd, because on the way is a write that nobody waits for but every instance pays
//! for; and only where it pays: a small answer gains nothing, a picture gains nothing.

mod seal;

pub use seal::{CannotSeal, SealKey, Seals};

use crate::key::CacheKey;
use bytes::Bytes;
use std::cell::RefCell;
use zstd::{bulk::Compressor, zstd_safe::DCtx};

/// The last byte is the version: bump it with any change of the layout.
const MAGIC: &[u8; 4] = b"TGV\x01";
const COMPRESSED: u8 = 1;
const SEALED: u8 = 2;
/// Magic and flags.
const HEADER_LEN: usize = MAGIC.len() + 1;
const LEVEL: i32 = 1;
/// Smaller values are not worth the time.
const COMPRESS_BYTES_MIN: usize = 1024;
/// What zstd says when there is more than it was given room for.
const DOES_NOT_FIT: usize = 0_usize.wrapping_sub(70);

thread_local! {
    /// Its working memory is some hundreds of KiB: made once for each thread that reads.
    static DECOMPRESSOR: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

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
    /// Its working memory is some hundreds of KiB: made once, if at all.
    compressor: Option<Compressor<'static>>,
}

impl std::fmt::Debug for Wrapper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wrapper").field("wrapping", &self.wrapping).finish_non_exhaustive()
    }
}

impl Wrapper {
    pub fn new(wrapping: Wrapping) -> Self {
        Self { wrapping, compressor: None }
    }

    /// `plain` as it is to be stored under `key`.
    pub fn wrap(&mut self, key: CacheKey, plain: Vec<u8>) -> Result<Vec<u8>, CannotSeal> {
        let packed = self.compressed(&plain);
        let compressed = if packed.is_some() { COMPRESSED } else { 0 };
        let header = |flags| [MAGIC.as_slice(), &[flags]].concat();
        match (&self.wrapping.seals, packed) {
            (None, None) => Ok(plain),
            (None, Some(packed)) => Ok([header(COMPRESSED), packed].concat()),
            (Some(seals), packed) => {
                let inner = packed.as_ref().unwrap_or(&plain);
                seals.seal(key, &header(SEALED | compressed), inner).ok_or(CannotSeal)
            }
        }
    }

    /// Length and frame, where it is at least a tenth smaller.
    fn compressed(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        if !self.wrapping.compress || plain.len() < COMPRESS_BYTES_MIN {
            return None;
        }
        if self.compressor.is_none() {
            self.compressor = Compressor::new(LEVEL).ok();
        }
        // Were there no memory for it, the value would go as it is.
        let frame = self.compressor.as_mut()?.compress(plain).ok()?;
        let pays = frame.len() < plain.len() / 10 * 9;
        pays.then(|| [length(plain).as_slice(), &frame].concat())
    }
}

impl Wrapping {
    /// What [`Wrapper::wrap`] was given.
    pub fn unwrap(&self, key: CacheKey, value: Bytes) -> Result<Bytes, Unreadable> {
        let flags = value.strip_prefix(MAGIC).map(|rest| rest.first().copied());
        let is_compressed = match (flags, &self.seals) {
            (None, None) => return Ok(value),
            (Some(Some(COMPRESSED)), None) => true,
            (Some(Some(flags)), Some(_)) if flags & !COMPRESSED == SEALED => {
                flags & COMPRESSED != 0
            }
            // In the clear though it must not be, or sealed for somebody else.
            (None | Some(Some(COMPRESSED)), Some(_)) => return Err(Unreadable::Locked),
            (Some(Some(flags)), None) if flags & !COMPRESSED == SEALED => {
                return Err(Unreadable::Locked);
            }
            (Some(_), _) => return Err(Unreadable::Foreign),
        };
        let (header, rest) = value.split_at_checked(HEADER_LEN).ok_or(Unreadable::Foreign)?;
        let opened = match &self.seals {
            None => None,
            Some(seals) => Some(seals.open(key, header, rest)?),
        };
        match (is_compressed, opened) {
            (true, opened) => self.decompressed(opened.as_deref().unwrap_or(rest)),
            (false, Some(plain)) => Ok(plain.into()),
            (false, None) => Err(Unreadable::Foreign),
        }
    }

    fn decompressed(&self, packed: &[u8]) -> Result<Bytes, Unreadable> {
        let (len, frame) = packed.split_first_chunk().ok_or(Unreadable::Foreign)?;
        let len = usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX);
        if len > self.bytes_max {
            return Err(Unreadable::Oversized);
        }
        let mut plain = Vec::with_capacity(len);
        let written = DECOMPRESSOR.with_borrow_mut(|own| {
            own.get_or_insert_with(DCtx::default).decompress(&mut plain, frame)
        });
        match written {
            Ok(written) if written == len => Ok(plain.into()),
            Err(DOES_NOT_FIT) => Err(Unreadable::Oversized),
            Ok(_) | Err(_) => Err(Unreadable::Foreign),
        }
    }
}

/// An entry beyond 4 GiB is never made (the tiers refuse it); were it, it would not be read.
fn length(plain: &[u8]) -> [u8; 4] {
    u32::try_from(plain.len()).unwrap_or(u32::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests;
