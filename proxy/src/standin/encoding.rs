//! Compressed answers, event by event, as a provider behind a CDN sends them.

use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use std::io::{self, Write};
use zstd::stream::write::Encoder as ZstdEncoder;

const BROTLI_BUFFER_BYTES: usize = 4096;
const BROTLI_QUALITY: u32 = 4;
const BROTLI_WINDOW_BITS: u32 = 18;
const ZSTD_LEVEL: i32 = 3;

/// A content coding the stand-in can speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Gzip,
    Brotli,
    Zstd,
}

impl Encoding {
    /// The token of `accept-encoding` and `content-encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// The first of `offered` that `accept_encoding` lists and does not refuse.
    pub(super) fn choose(offered: &[Self], accept_encoding: &str) -> Option<Self> {
        let accepted = |encoding: &Self| {
            accept_encoding.split(',').any(|item| {
                let mut parts = item.split(';').map(str::trim);
                let names_it =
                    parts.next().is_some_and(|n| n.eq_ignore_ascii_case(encoding.name()));
                names_it && !parts.any(|weight| matches!(weight, "q=0" | "q=0.0" | "q=0.00"))
            })
        };
        offered.iter().copied().find(accepted)
    }

    pub(super) fn encoder(self) -> io::Result<Encoder> {
        Ok(match self {
            Self::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), Compression::fast())),
            Self::Brotli => Encoder::Brotli(Box::new(CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER_BYTES,
                BROTLI_QUALITY,
                BROTLI_WINDOW_BITS,
            ))),
            Self::Zstd => Encoder::Zstd(ZstdEncoder::new(Vec::new(), ZSTD_LEVEL)?),
        })
    }
}

/// One body being compressed.
pub(super) enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
}

impl Encoder {
    /// Compresses `plain` and flushes, so that it can be read at once.
    pub(super) fn push(&mut self, plain: &[u8]) -> io::Result<Bytes> {
        let done = match self {
            Self::Gzip(encoder) => {
                encoder.write_all(plain)?;
                encoder.flush()?;
                std::mem::take(encoder.get_mut())
            }
            Self::Brotli(encoder) => {
                encoder.write_all(plain)?;
                encoder.flush()?;
                std::mem::take(encoder.get_mut())
            }
            Self::Zstd(encoder) => {
                encoder.write_all(plain)?;
                encoder.flush()?;
                std::mem::take(encoder.get_mut())
            }
        };
        Ok(done.into())
    }

    /// Compresses `plain` as the last of the body.
    pub(super) fn finish(self, plain: &[u8]) -> io::Result<Bytes> {
        let done = match self {
            Self::Gzip(mut encoder) => {
                encoder.write_all(plain)?;
                encoder.finish()?
            }
            Self::Brotli(mut encoder) => {
                encoder.write_all(plain)?;
                encoder.into_inner()
            }
            Self::Zstd(mut encoder) => {
                encoder.write_all(plain)?;
                encoder.finish()?
            }
        };
        Ok(done.into())
    }
}
