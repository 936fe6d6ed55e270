//! Content codings (RFC 9110 §8.4.1): which one a caller likes best, and an answer in it.
//!
//! An entry is kept once, as it is; a coded form is made for the first who wants it and lies beside
//! it from then on (`delivery`). The caller's list is only weighed here, never kept: whatever it
//! says, there are as many forms as there are [`Coding`]s.

use crate::rfc9111::fields;
use flate2::{Compression, write::GzEncoder};
use std::io::{self, Write as _};

/// A coding that answers can be given in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Br,
    /// RFC 1952.
    Gzip,
}

/// How many there are.
pub const CODINGS: usize = 3;

/// Made once and sent often: a step above the fastest, where the curve of each is still steep.
const ZSTD_LEVEL: i32 = 3;
const BROTLI_QUALITY: u32 = 4;
/// 1 MiB: what a client must set aside to read it. zstd's at its level is no larger than that either.
const BROTLI_WINDOW_LOG: u32 = 20;
const BROTLI_BUFFER_BYTES: usize = 4096;
const GZIP_LEVEL: u32 = 6;
/// A form must be this many parts of the whole smaller: an eighth.
const PAYS_PART: usize = 8;

/// Weights of RFC 9110 §12.4.2, in thousandths.
const WEIGHT_MAX: u16 = 1000;

/// What a caller said of each.
#[derive(Debug, Default)]
struct Said {
    codings: [Option<u16>; CODINGS],
    identity: Option<u16>,
    any: Option<u16>,
}

impl Coding {
    /// In the order of their places.
    pub const ALL: [Self; CODINGS] = [Self::Zstd, Self::Br, Self::Gzip];

    /// As `content-encoding` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Br => "br",
            Self::Gzip => "gzip",
        }
    }

    /// Below [`CODINGS`].
    pub(crate) fn place(self) -> usize {
        match self {
            Self::Zstd => 0,
            Self::Br => 1,
            Self::Gzip => 2,
        }
    }

    fn of_name(name: &[u8]) -> Option<Self> {
        if name.eq_ignore_ascii_case(b"x-gzip") {
            // §8.4.1.3: the same.
            return Some(Self::Gzip);
        }
        Self::ALL.into_iter().find(|coding| name.eq_ignore_ascii_case(coding.name().as_bytes()))
    }

    /// `plain` in this coding; `None` where that does not pay, or there was no memory for it.
    pub fn encode(self, plain: &[u8]) -> Option<Vec<u8>> {
        let coded = match self {
            Self::Zstd => zstd::bulk::compress(plain, ZSTD_LEVEL),
            Self::Br => brotli_of(plain),
            Self::Gzip => gzip_of(plain),
        };
        coded.ok().filter(|coded| coded.len() < plain.len() - plain.len() / PAYS_PART)
    }
}

fn brotli_of(plain: &[u8]) -> io::Result<Vec<u8>> {
    let (quality, window) = (BROTLI_QUALITY, BROTLI_WINDOW_LOG);
    let mut writer =
        brotli::CompressorWriter::new(Vec::new(), BROTLI_BUFFER_BYTES, quality, window);
    writer.write_all(plain)?;
    // Ends it, too.
    Ok(writer.into_inner())
}

fn gzip_of(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL));
    encoder.write_all(plain)?;
    encoder.finish()
}

/// Which of `offered` (best first) the lines of an `accept-encoding` prefer; `None`: as it is, which
/// is also what a caller gets that refuses everything (RFC 9110 §12.5.3).
pub fn choose<'a>(lines: impl IntoIterator<Item = &'a [u8]>, offered: &[Coding]) -> Option<Coding> {
    let mut said = Said::default();
    for member in lines.into_iter().flat_map(fields::members) {
        said.hear(member);
    }
    let weight = |coding: Coding| said.codings.get(coding.place()).copied().flatten().or(said.any);
    let mut best: Option<(Coding, u16)> = None;
    for coding in offered {
        let weight = weight(*coding).unwrap_or(0);
        if weight > best.map_or(0, |(_, best)| best) {
            best = Some((*coding, weight));
        }
    }
    // Who says nothing of identity takes it where there is nothing else.
    let as_it_is = said.identity.or(said.any).unwrap_or(0);
    best.filter(|(_, weight)| *weight >= as_it_is).map(|(coding, _)| coding)
}

impl Said {
    /// What cannot be read says nothing. Of two words about one coding the first counts.
    fn hear(&mut self, member: &[u8]) {
        let mut pieces = fields::split(member, b';');
        let Some(name) = pieces.next() else { return };
        let mut weight = WEIGHT_MAX;
        for piece in pieces {
            let Some((name, value)) = piece.split_at_checked(2) else { return };
            let Some(said) = weight_of(value).filter(|_| name.eq_ignore_ascii_case(b"q=")) else {
                return;
            };
            weight = said;
        }
        let place = if name == b"*" {
            Some(&mut self.any)
        } else if name.eq_ignore_ascii_case(b"identity") {
            Some(&mut self.identity)
        } else {
            Coding::of_name(name).and_then(|coding| self.codings.get_mut(coding.place()))
        };
        if let Some(place) = place {
            place.get_or_insert(weight);
        }
    }
}

/// `0`, `0.5`, `1.000` in thousandths.
fn weight_of(text: &[u8]) -> Option<u16> {
    let (whole, places) = match text {
        [whole] => (*whole, [].as_slice()),
        [whole, b'.', places @ ..] if places.len() <= 3 => (*whole, places),
        _ => return None,
    };
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let mut weight = digit(whole).filter(|whole| *whole <= 1)?;
    for place in 0..3 {
        let digit = places.get(place).map_or(Some(0), |byte| digit(*byte))?;
        weight = weight * 10 + digit;
    }
    (weight <= WEIGHT_MAX).then_some(weight)
}

/// Whether answers of this `content-type` get smaller: text in its many names. Not what is
/// compressed already, and not streams of events, whose frames must not wait for each other.
pub fn is_compressible(content_type: &[u8]) -> bool {
    let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    let kind = fields::trim(kind).to_ascii_lowercase();
    if kind == b"text/event-stream" {
        return false;
    }
    kind.starts_with(b"text/")
        || kind.ends_with(b"+json")
        || kind.ends_with(b"+xml")
        || COMPRESSIBLE.iter().any(|name| *name == kind)
}

const COMPRESSIBLE: [&[u8]; 9] = [
    b"application/graphql",
    b"application/javascript",
    b"application/json",
    b"application/jsonl",
    b"application/wasm",
    b"application/x-javascript",
    b"application/x-ndjson",
    b"application/xml",
    b"application/yaml",
];

#[cfg(test)]
mod tests;
