//! Shows an answer to the usage reader, decoded if it was compressed.
//!
//! The caller gets the bytes as they came; only the reader sees them decoded. Decoders
//! write into the reader as they go, so that a compression bomb costs time for what it
//! is, and no memory.

use flate2::write::{GzDecoder, ZlibDecoder};
use http::{HeaderMap, header};
use std::{
    fmt,
    io::{self, Write as _},
};
use tollgate_core::{
    dialect::{Framing, Operation},
    usage::{AnswerReader, Reading},
};

/// Counts an answer's tokens as it passes.
pub(crate) struct Counter {
    decoder: Decoder,
    /// Compressed bytes: what an estimate falls back to if decoding fails.
    broken: bool,
}

enum Decoder {
    Identity(Sink),
    Gzip(Box<GzDecoder<Sink>>),
    Deflate(Box<ZlibDecoder<Sink>>),
    Brotli(Box<brotli::DecompressorWriter<Sink>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Sink>>),
}

struct Sink(AnswerReader);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// brotli's own default for its window buffer.
const BROTLI_BUFFER_BYTES: usize = 4096;

impl Counter {
    pub(crate) fn new(reader: AnswerReader, headers: &HeaderMap) -> Self {
        let sink = Sink(reader);
        let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
        let encoding = match (encodings.next(), encodings.next()) {
            (None, _) => b"identity".as_slice(),
            (Some(one), None) => one.as_bytes(),
            // Nobody compresses twice; it is counted by its bytes.
            (Some(_), Some(_)) => b"",
        };
        let decoder = match encoding {
            b"identity" => Decoder::Identity(sink),
            b"gzip" | b"x-gzip" => Decoder::Gzip(Box::new(GzDecoder::new(sink))),
            b"deflate" => Decoder::Deflate(Box::new(ZlibDecoder::new(sink))),
            b"br" => Decoder::Brotli(Box::new(brotli::DecompressorWriter::new(
                sink,
                BROTLI_BUFFER_BYTES,
            ))),
            b"zstd" => match zstd::stream::write::Decoder::new(sink) {
                Ok(decoder) => Decoder::Zstd(Box::new(decoder)),
                // Without memory for its window nothing is decoded, or counted.
                Err(_) => return Self::broken(),
            },
            _ => return Self { decoder: Decoder::Identity(sink), broken: false },
        };
        Self { decoder, broken: false }
    }

    fn broken() -> Self {
        let reader = AnswerReader::new(Operation::Other, Framing::Whole);
        Self { decoder: Decoder::Identity(Sink(reader)), broken: true }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.broken {
            return;
        }
        let written = match &mut self.decoder {
            Decoder::Identity(sink) => {
                sink.0.push(bytes);
                Ok(())
            }
            Decoder::Gzip(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
            Decoder::Deflate(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
            Decoder::Brotli(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
            Decoder::Zstd(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
        };
        if let Err(error) = written {
            tracing::debug!(%error, "an answer could not be decoded for counting");
            self.broken = true;
        }
    }

    /// `complete`: the answer came to its end.
    pub(crate) fn finish(self, complete: bool) -> Reading {
        let Self { decoder, broken } = self;
        let sink = match decoder {
            Decoder::Identity(sink) => Ok(sink),
            Decoder::Gzip(mut decoder) => {
                let finished = decoder.try_finish();
                decoder.finish().or_else(|error| finished.and(Err(error)))
            }
            Decoder::Deflate(decoder) => decoder.finish(),
            Decoder::Brotli(decoder) => decoder.into_inner().map_or_else(Ok, Ok),
            Decoder::Zstd(decoder) => Ok(decoder.into_inner()),
        };
        match sink {
            Ok(Sink(reader)) => reader.finish(complete && !broken),
            Err(error) => {
                tracing::debug!(%error, "a compressed answer ended before its end");
                AnswerReader::new(Operation::Other, Framing::Whole).finish(false)
            }
        }
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counter").field("broken", &self.broken).finish_non_exhaustive()
    }
}
