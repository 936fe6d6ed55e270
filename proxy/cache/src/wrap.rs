//! What lies around an entry's bytes in a store outside the process: compression.
//!
//! ```text
//! plain     the bytes of `codec`, as they are
//! wrapped   "TGV" version │ flags │ [length 4 │ zstd frame]
//! ```
//!
//! A store may hold both at one time: instances that compress and instances that do not read each
//! other's values. What was written is not trusted: the length that a value says it has is held
//! against a bound before a byte is unpacked, and no more than that is ever unpacked.
//!
//! Level 1 of zstd, because on the way is a write that nobody waits for but every instance pays
//! for; and only where it pays: a small answer gains nothing, a picture gains nothing.

use bytes::Bytes;
use std::cell::RefCell;
use zstd::{bulk::Compressor, zstd_safe::DCtx};

/// The last byte is the version: bump it with any change of the layout.
const MAGIC: &[u8; 4] = b"TGV\x01";
const COMPRESSED: u8 = 1;
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

    /// `plain` as it is to be stored.
    pub fn wrap(&mut self, plain: Vec<u8>) -> Vec<u8> {
        let Some(frame) = self.compressed(&plain) else { return plain };
        let mut out = Vec::with_capacity(MAGIC.len() + 5 + frame.len());
        out.extend_from_slice(MAGIC);
        out.push(COMPRESSED);
        out.extend_from_slice(&length(&plain));
        out.extend_from_slice(&frame);
        out
    }

    /// The frame, where it is at least a tenth smaller.
    fn compressed(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        if !self.wrapping.compress || plain.len() < COMPRESS_BYTES_MIN {
            return None;
        }
        if self.compressor.is_none() {
            self.compressor = Compressor::new(LEVEL).ok();
        }
        // Were there no memory for it, the value would go as it is.
        let frame = self.compressor.as_mut()?.compress(plain).ok()?;
        (frame.len() < plain.len() / 10 * 9).then_some(frame)
    }
}

impl Wrapping {
    /// What [`Wrapper::wrap`] was given.
    pub fn unwrap(&self, value: Bytes) -> Result<Bytes, Unreadable> {
        let Some(rest) = value.strip_prefix(MAGIC) else { return Ok(value) };
        match rest.split_first() {
            Some((&COMPRESSED, packed)) => self.decompressed(packed),
            _ => Err(Unreadable::Foreign),
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
