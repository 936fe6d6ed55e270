//! How entries lie in a segment, and how they are found again after a crash.
//!
//! ```text
//! segment  = header (64 B: magic, format, epoch) entry*
//! entry    = word (8 B) payload, padded to a multiple of 64 B
//! word     = crc32 (32 bits) · payload length (16) · kind (8) · mark (8), never 0
//! ```
//! A writer stores the payload first and the word last. So an entry either has a
//! word that vouches for it, or it is not there. The checksum covers the epoch and
//! the place: what an earlier lap left behind is not mistaken for this lap's.
//! Entries begin at multiples of 64 bytes, so the hole that a killed thread left
//! (reserved, never written) hides nothing that comes after it.

use crate::{
    dimension::{DIM_TEXT_BYTES_MAX, DimId},
    record::{OPEN_BYTES, OpenCall, Put, RECORD_BYTES, Take, UsageRecord},
};

pub(crate) const GRANULE_BYTES: usize = 64;
pub(crate) const HEADER_BYTES: usize = GRANULE_BYTES;
pub(crate) const WORD_BYTES: usize = 8;
pub(crate) const PAYLOAD_BYTES_MAX: usize = RECORD_BYTES;
pub(crate) const MAGIC: [u8; 8] = *b"tollgate";
pub(crate) const FORMAT: u32 = 1;
/// Where a header has its epoch.
pub(crate) const EPOCH_OFFSET: usize = 16;

const DEFINITION_BYTES_MAX: usize = 5 + DIM_TEXT_BYTES_MAX;
const MARK: u8 = 0xa5;

const _: () = assert!(DEFINITION_BYTES_MAX <= PAYLOAD_BYTES_MAX && OPEN_BYTES <= PAYLOAD_BYTES_MAX);
const _: () = assert!(RECORD_BYTES + WORD_BYTES == 3 * GRANULE_BYTES);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Definition,
    Open,
    Close,
    /// Nothing follows in this segment.
    End,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Definition(DimId, String),
    Open(OpenCall),
    Close(UsageRecord),
    End,
}

/// An entry's bytes, ready to be copied into a segment.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) kind: Kind,
    bytes: [u8; PAYLOAD_BYTES_MAX],
    len: usize,
}

/// A word, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) kind: Kind,
    pub(crate) len: usize,
    crc: u32,
}

impl Payload {
    pub(crate) fn open(call: &OpenCall) -> Self {
        Self::new(Kind::Open, &[&call.encode()])
    }

    pub(crate) fn close(record: &UsageRecord) -> Self {
        Self { kind: Kind::Close, bytes: record.encode(), len: RECORD_BYTES }
    }

    pub(crate) fn definition(DimId(id): DimId, text: &str) -> Self {
        let text_len = u8::try_from(text.len()).unwrap_or(u8::MAX);
        Self::new(Kind::Definition, &[&id.to_le_bytes(), &[text_len], text.as_bytes()])
    }

    pub(crate) fn end() -> Self {
        Self::new(Kind::End, &[])
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn new(kind: Kind, parts: &[&[u8]]) -> Self {
        let mut bytes = [0; PAYLOAD_BYTES_MAX];
        let mut put = Put(&mut bytes);
        for part in parts {
            put.bytes(part);
        }
        let left = put.0.len();
        Self { kind, bytes, len: PAYLOAD_BYTES_MAX - left }
    }
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Definition => 1,
            Self::Open => 2,
            Self::Close => 3,
            Self::End => 4,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Definition, Self::Open, Self::Close, Self::End]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

impl Entry {
    /// `None` when the payload cannot be of that kind.
    pub(crate) fn decode(kind: Kind, payload: &[u8]) -> Option<Self> {
        match kind {
            Kind::Open => Some(Self::Open(OpenCall::decode(payload.try_into().ok()?))),
            Kind::Close => Some(Self::Close(UsageRecord::decode(payload.try_into().ok()?))),
            Kind::End => Some(Self::End),
            Kind::Definition => {
                let mut take = Take(payload);
                let id = DimId(u32::from_le_bytes(take.array()));
                let [len] = take.array();
                let text = take.0.get(..usize::from(len))?;
                Some(Self::Definition(id, String::from_utf8_lossy(text).into_owned()))
            }
        }
    }
}

/// Bytes that an entry takes in a segment.
pub(crate) fn entry_bytes(payload_len: usize) -> usize {
    (WORD_BYTES + payload_len).next_multiple_of(GRANULE_BYTES)
}

/// The word that vouches for `payload` at `offset` in the lap `epoch`.
pub(crate) fn word(epoch: u64, offset: usize, kind: Kind, payload: &[u8]) -> u64 {
    let len = u64::try_from(payload.len()).unwrap_or(u64::MAX) & 0xffff;
    let crc = checksum(epoch, offset, kind, payload);
    u64::from(crc) << 32 | len << 16 | u64::from(kind.code()) << 8 | u64::from(MARK)
}

/// `None` when no writer of this format stored that word.
pub(crate) fn read_word(word: u64) -> Option<Word> {
    let [mark, kind, len_low, len_high, crc @ ..] = word.to_le_bytes();
    let len = usize::from(u16::from_le_bytes([len_low, len_high]));
    if mark != MARK || len > PAYLOAD_BYTES_MAX {
        return None;
    }
    Some(Word { kind: Kind::from_code(kind)?, len, crc: u32::from_le_bytes(crc) })
}

/// Whether `word` vouches for `payload`.
pub(crate) fn vouches(word: Word, epoch: u64, offset: usize, payload: &[u8]) -> bool {
    word.len == payload.len() && word.crc == checksum(epoch, offset, word.kind, payload)
}

fn checksum(epoch: u64, offset: usize, kind: Kind, payload: &[u8]) -> u32 {
    let place = epoch
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(u64::try_from(offset).unwrap_or(u64::MAX))
        .wrapping_add(u64::from(kind.code()) << 24);
    let [a, b, c, d, e, f, g, h] = place.to_le_bytes();
    let seed = u32::from_le_bytes([a, b, c, d]) ^ u32::from_le_bytes([e, f, g, h]);
    let mut crc = crc32fast::Hasher::new_with_initial(seed);
    crc.update(payload);
    crc.finalize()
}

/// The first bytes of a segment in the lap `epoch`.
pub(crate) fn header(epoch: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    let mut put = Put(&mut bytes);
    put.bytes(&MAGIC);
    put.bytes(&FORMAT.to_le_bytes());
    put.bytes(&[0; 4]);
    put.bytes(&epoch.to_le_bytes());
    bytes
}

/// A segment's bytes as a crash left them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Image {
    /// Cut or zero before the header was whole: nothing was ever stored.
    Blank,
    /// Not ours to overwrite.
    Foreign,
    /// The lap, and every whole entry with its place.
    Entries { epoch: u64, entries: Vec<(usize, Entry)> },
}

/// Reads what a crash left. Total: takes any bytes.
pub(crate) fn read_image(image: &[u8]) -> Image {
    let mut take = Take(image);
    let (magic, format) = (take.array::<8>(), u32::from_le_bytes(take.array()));
    let (_, epoch) = (take.array::<4>(), u64::from_le_bytes(take.array()));
    if image.len() < HEADER_BYTES || magic == [0; 8] {
        return Image::Blank;
    }
    if magic != MAGIC || format != FORMAT {
        return Image::Foreign;
    }
    let mut entries = Vec::new();
    let mut offset = HEADER_BYTES;
    while let Some(rest) = image.get(offset..).filter(|rest| rest.len() >= WORD_BYTES) {
        let taken = match read_entry(rest, epoch, offset) {
            Some((Entry::End, _)) => break,
            Some((entry, len)) => {
                entries.push((offset, entry));
                entry_bytes(len)
            }
            None => GRANULE_BYTES,
        };
        offset += taken;
    }
    Image::Entries { epoch, entries }
}

fn read_entry(rest: &[u8], epoch: u64, offset: usize) -> Option<(Entry, usize)> {
    let (word, rest) = rest.split_first_chunk::<WORD_BYTES>()?;
    let word = read_word(u64::from_le_bytes(*word))?;
    let payload = rest.get(..word.len)?;
    if !vouches(word, epoch, offset, payload) {
        return None;
    }
    Some((Entry::decode(word.kind, payload)?, word.len))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::record::Dims;

    pub(crate) fn record(n: u16) -> UsageRecord {
        let mut record =
            UsageRecord::new(Uuid::from_u128(u128::from(n) + 1), i64::from(n), Dims::default());
        record.status = n;
        record
    }

    /// A segment of definitions, opens and closes, and where each entry lies.
    fn image(epoch: u64) -> (Vec<u8>, Vec<(usize, usize, Entry)>) {
        let open = OpenCall { input_tokens: 9, ..crate::ledger::tests::open_call(&record(3)) };
        let payloads = [
            (Payload::definition(DimId(2), "chat"), Entry::Definition(DimId(2), "chat".into())),
            (Payload::close(&record(1)), Entry::Close(record(1))),
            (Payload::open(&open), Entry::Open(open)),
            (Payload::close(&record(2)), Entry::Close(record(2))),
        ];
        let mut bytes = header(epoch).to_vec();
        let mut places = Vec::new();
        for (payload, entry) in payloads {
            let offset = bytes.len();
            bytes.extend(word(epoch, offset, payload.kind, payload.bytes()).to_le_bytes());
            bytes.extend(payload.bytes());
            places.push((offset, bytes.len(), entry));
            bytes.resize(offset + entry_bytes(payload.bytes().len()), 0);
        }
        (bytes, places)
    }

    fn entries(image: &[u8]) -> Vec<Entry> {
        match read_image(image) {
            Image::Entries { entries, .. } => entries.into_iter().map(|(_, e)| e).collect(),
            Image::Blank | Image::Foreign => Vec::new(),
        }
    }

    /// Method: cut the file, and separately zero its tail, at every byte.
    #[test]
    fn a_torn_tail_loses_only_what_it_tore_at_every_byte() {
        let (bytes, places) = image(5);
        for cut in 0..=bytes.len() {
            let whole = |end: usize| end <= cut && cut >= HEADER_BYTES;
            let expected: Vec<_> = places
                .iter()
                .filter(|(_, end, _)| whole(*end))
                .map(|(_, _, entry)| entry.clone())
                .collect();
            assert_eq!(entries(&bytes[..cut]), expected, "cut at {cut}");

            let mut zeroed = bytes.clone();
            zeroed[cut..].fill(0);
            let survivors = entries(&zeroed);
            // A zeroed tail may leave an entry whole whose last bytes were zero anyway.
            assert!(survivors.starts_with(&expected) || cut < HEADER_BYTES, "zeroed at {cut}");
            for (_, end, entry) in &places {
                if survivors.contains(entry) {
                    assert_eq!(zeroed[..*end], bytes[..*end], "zeroed at {cut}");
                }
            }
        }
    }

    #[test]
    fn a_spoiled_byte_loses_one_entry_and_never_those_after_it() {
        let (bytes, places) = image(5);
        for spoiled in HEADER_BYTES..bytes.len() {
            let mut image = bytes.clone();
            image[spoiled] ^= 0x10;
            let expected: Vec<_> = places
                .iter()
                .filter(|(start, end, _)| !(*start..*end).contains(&spoiled))
                .map(|(_, _, entry)| entry.clone())
                .collect();
            assert_eq!(entries(&image), expected, "byte {spoiled}");
        }
    }

    #[test]
    fn what_an_earlier_lap_left_behind_is_not_read() {
        let (mut bytes, _) = image(5);
        bytes[..HEADER_BYTES].copy_from_slice(&header(7));
        assert_eq!(entries(&bytes), []);
    }

    #[test]
    fn another_programs_file_is_not_ours() {
        assert_eq!(read_image(&[b'x'; 4096]), Image::Foreign);
        assert_eq!(read_image(&[0; 4096]), Image::Blank);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            read_image(&bytes);
            for (byte, header) in bytes.iter_mut().zip(header(1)) {
                *byte = header;
            }
            read_image(&bytes);
        }
    }
}
