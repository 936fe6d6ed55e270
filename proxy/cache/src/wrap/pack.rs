//! Compression of values, the small ones with a dictionary of what answers of providers look like.
//!
//! A small answer is mostly names that every answer has, and zstd can only refer to what it has
//! seen. The dictionary is built in: it holds the shapes and no content (`bench/dictionary` makes
//! it), so that there is none to train, to keep in a store or to be missing there. A frame says by
//! zstd's own field which dictionary it needs; one that is not here is a miss, as of a newer
//! version. Decision 0040 has what it gains and what it takes.
//!
//! Level 1, because on the way is a write that nobody waits for but every instance pays for; and
//! only where it pays: a picture gains nothing.
//!
//! The dictionary is digested once for each way, when it is first needed: 190 KiB, and nothing
//! where nothing is compressed.

use super::Unreadable;
use bytes::Bytes;
use std::{cell::RefCell, sync::LazyLock};
use zstd::{
    bulk::Compressor,
    dict::{DecoderDictionary, EncoderDictionary},
    zstd_safe::DCtx,
};

/// Flags of a value.
const COMPRESSED: u8 = 1;
const WITH_DICTIONARY: u8 = 4;

const LEVEL: i32 = 1;
/// Smaller values are not worth the time.
pub(super) const COMPRESS_BYTES_MIN: usize = 256;
/// Larger ones have seen enough of themselves: the dictionary saves some 200 bytes of any value,
/// takes less time than going without up to 2 KiB, and half as much again beyond 4.
pub(super) const DICTIONARY_FOR_BYTES_MAX: usize = 4 * 1024;
/// Never changed: what it has packed is to be read. A better one is another file with another number.
const DICTIONARY: &[u8] = include_bytes!("dictionary-1");
/// What zstd says when there is more than it was given room for.
const DOES_NOT_FIT: usize = 0_usize.wrapping_sub(70);

static ENCODER: LazyLock<EncoderDictionary<'static>> =
    LazyLock::new(|| EncoderDictionary::copy(DICTIONARY, LEVEL));
static DECODER: LazyLock<DecoderDictionary<'static>> =
    LazyLock::new(|| DecoderDictionary::copy(DICTIONARY));

thread_local! {
    /// Its working memory is some hundreds of KiB: made once for each thread that reads.
    static DECOMPRESSOR: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// How a value is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Not,
    Zstd,
    WithDictionary,
}

impl Packing {
    pub(super) fn flags(self) -> u8 {
        match self {
            Self::Not => 0,
            Self::Zstd => COMPRESSED,
            Self::WithDictionary => COMPRESSED | WITH_DICTIONARY,
        }
    }

    /// `None`: no packing of this version.
    pub(super) fn of_flags(flags: u8) -> Option<Self> {
        [Self::Not, Self::Zstd, Self::WithDictionary]
            .into_iter()
            .find(|packing| packing.flags() == flags)
    }
}

/// Packs values, one after the other.
#[derive(Default)]
pub(super) struct Packer {
    /// Its working memory is some hundreds of KiB: made once, if at all, and for both ways.
    compressor: Option<Compressor<'static>>,
}

impl Packer {
    /// Length and frame, where it is at least a tenth smaller.
    pub(super) fn pack(&mut self, value: &[u8]) -> Option<(Packing, Vec<u8>)> {
        if value.len() < COMPRESS_BYTES_MIN {
            return None;
        }
        if self.compressor.is_none() {
            self.compressor = Compressor::new(LEVEL).ok();
        }
        // Were there no memory for it, the value would go as it is.
        let compressor = self.compressor.as_mut()?;
        let packing = if value.len() > DICTIONARY_FOR_BYTES_MAX {
            // Which lets go of the dictionary.
            compressor.set_compression_level(LEVEL).ok()?;
            Packing::Zstd
        } else {
            // Which refers to it only.
            compressor.set_prepared_dictionary(&ENCODER).ok()?;
            Packing::WithDictionary
        };
        let frame = compressor.compress(value).ok()?;
        let pays = frame.len() < value.len() / 10 * 9;
        pays.then(|| (packing, [length(value).as_slice(), &frame].concat()))
    }
}

/// What [`Packer::pack`] was given. Never more than `bytes_max`.
pub(super) fn unpack(
    packing: Packing,
    packed: &[u8],
    bytes_max: usize,
) -> Result<Bytes, Unreadable> {
    let (len, frame) = packed.split_first_chunk().ok_or(Unreadable::Foreign)?;
    let len = usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX);
    if len > bytes_max {
        return Err(Unreadable::Oversized);
    }
    let mut plain = Vec::with_capacity(len);
    let written = DECOMPRESSOR.with_borrow_mut(|own| {
        let context = own.get_or_insert_with(DCtx::default);
        match packing {
            Packing::WithDictionary => {
                context.decompress_using_ddict(&mut plain, frame, DECODER.as_ddict())
            }
            Packing::Not | Packing::Zstd => context.decompress(&mut plain, frame),
        }
    });
    match written {
        Ok(written) if written == len => Ok(plain.into()),
        Err(DOES_NOT_FIT) => Err(Unreadable::Oversized),
        Ok(_) | Err(_) => Err(Unreadable::Foreign),
    }
}

/// An entry beyond 4 GiB is never made (the tiers refuse it); were it, it would not be read.
fn length(plain: &[u8]) -> [u8; 4] {
    u32::try_from(plain.len()).unwrap_or(u32::MAX).to_le_bytes()
}
