//! The bytes of a trace. What reads them believes nothing: a length is held against a bound before
//! anything is allocated for it, and what does not add up ends the reading.

use super::{Head, Kept, Line, Outcome, SAMPLE_ALL};
use crate::memory::Policy;
use std::collections::BTreeMap;

const MAGIC: &[u8; 3] = b"TGT";
const FORMAT: u8 = 1;
const BLOCK: &[u8; 4] = b"TGTB";
const CHECK_LEN: usize = 8;
/// Magic, format, length.
pub(super) const HEAD_START_LEN: usize = 8;
const HEAD_FIELDS_LEN: usize = 8 + 4 + 8 + 8 + 8 + 1 + 8;
/// The whole head.
pub(super) const HEAD_LEN: usize = HEAD_START_LEN + HEAD_FIELDS_LEN + CHECK_LEN;
/// Of a block, before its lines.
pub(super) const BLOCK_HEAD_LEN: usize = 4 + 4 + 4 + 8 + 3 * 4 + CHECK_LEN;
/// A block is written when its lines are as long as this.
pub(super) const BLOCK_BYTES: usize = 64 * 1024;
/// No block of ours is longer: one more line may have come, with the name of its route.
const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + 4096;
/// A longer name of a route is cut.
const NAME_BYTES_MAX: usize = 1024;
/// In place of an outcome: a route's number and name follow.
const NAME: u8 = 0xff;

/// What a block says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BlockHead {
    pub(super) len: usize,
    lines: u32,
    from_ms: u64,
    pub(super) counts: Counts,
    check: [u8; CHECK_LEN],
}

/// Of all calls since the block before, sampled or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) asked: u32,
    pub(super) answered: u32,
    /// Lines for which there was no room in the queue, or on the disk.
    pub(super) lost: u32,
}

/// Why bytes are no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    Foreign,
    Version(u8),
    Damaged,
}

/// Lines on their way to a file.
#[derive(Debug, Default)]
pub(super) struct Block {
    bytes: Vec<u8>,
    pub(super) lines: u32,
    from_ms: u64,
    before_ms: u64,
}

pub(super) fn write_head(head: &Head) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_LEN);
    bytes.extend_from_slice(MAGIC);
    bytes.push(FORMAT);
    bytes.extend_from_slice(&u32::try_from(HEAD_FIELDS_LEN).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&head.run.to_le_bytes());
    bytes.extend_from_slice(&head.part.to_le_bytes());
    for number in [head.begun_ms, head.sample, head.memory_bytes_max] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.push(match head.policy {
        Policy::Lfu => 0,
        Policy::Lru => 1,
        Policy::Cost => 2,
    });
    bytes.extend_from_slice(&head.held_bytes.to_le_bytes());
    let check = check(&bytes, &[]);
    bytes.extend_from_slice(&check);
    bytes
}

pub(super) fn read_head(bytes: &[u8]) -> Result<Head, NoHead> {
    let (start, rest) = bytes.split_first_chunk::<HEAD_START_LEN>().ok_or(NoHead::Foreign)?;
    let mut start = Cursor(start);
    if start.array::<3>() != Some(*MAGIC) {
        return Err(NoHead::Foreign);
    }
    match start.byte() {
        Some(FORMAT) => {}
        Some(format) => return Err(NoHead::Version(format)),
        None => return Err(NoHead::Foreign),
    }
    let len = start.u32().and_then(|len| usize::try_from(len).ok());
    if len != Some(HEAD_FIELDS_LEN) {
        return Err(NoHead::Damaged);
    }
    let whole = bytes.get(..HEAD_START_LEN + HEAD_FIELDS_LEN).ok_or(NoHead::Damaged)?;
    let mut fields = Cursor(rest);
    let head = fields.head().ok_or(NoHead::Damaged)?;
    if fields.array() != Some(check(whole, &[])) || head.sample == 0 || head.sample > SAMPLE_ALL {
        return Err(NoHead::Damaged);
    }
    Ok(head)
}

/// `None`: what stands there is no block's.
pub(super) fn read_block_head(bytes: &[u8; BLOCK_HEAD_LEN]) -> Option<BlockHead> {
    let mut bytes = Cursor(bytes);
    if bytes.array::<4>()? != *BLOCK {
        return None;
    }
    let len = usize::try_from(bytes.u32()?).ok()?;
    let (lines, from_ms) = (bytes.u32()?, bytes.u64()?);
    let counts = Counts { asked: bytes.u32()?, answered: bytes.u32()?, lost: bytes.u32()? };
    let check = bytes.array()?;
    (len <= BLOCK_BYTES_MAX).then_some(BlockHead { len, lines, from_ms, counts, check })
}

/// Shows the lines of a block, whose head is `head`, and of new names of routes what they are the
/// names of. `None`: it is not what was written, and nothing of it counts.
pub(super) fn read_block(
    head: &BlockHead,
    bytes: &[u8],
    names: &mut BTreeMap<u16, Box<str>>,
    mut show: impl FnMut(Line<u16>),
) -> Option<()> {
    if check(&block_start(head), bytes) != head.check {
        return None;
    }
    let mut rest = Cursor(bytes);
    let (mut at_ms, mut lines) = (head.from_ms, 0_u32);
    while let Some(tag) = rest.byte() {
        if tag == NAME {
            let number = u16::try_from(rest.number()?).ok()?;
            let len = usize::try_from(rest.number()?).ok().filter(|len| *len <= NAME_BYTES_MAX)?;
            let name = std::str::from_utf8(rest.take(len)?).ok()?;
            names.insert(number, name.into());
            continue;
        }
        let line = rest.line(tag, at_ms)?;
        at_ms = line.at_ms;
        lines += 1;
        show(line);
    }
    (lines == head.lines).then_some(())
}

impl Block {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= BLOCK_BYTES
    }

    pub(super) fn name(&mut self, number: u16, name: &str) {
        let len = name.char_indices().map(|(at, one)| at + one.len_utf8());
        let len = len.take_while(|end| *end <= NAME_BYTES_MAX).last().unwrap_or_default();
        let name = name.get(..len).unwrap_or_default();
        self.bytes.push(NAME);
        put(&mut self.bytes, u64::from(number));
        put(&mut self.bytes, crate::key::len_u64(name.as_bytes()));
        self.bytes.extend_from_slice(name.as_bytes());
    }

    pub(super) fn line<R>(&mut self, line: &Line<R>, route: u16) {
        if self.lines == 0 {
            (self.from_ms, self.before_ms) = (line.at_ms, line.at_ms);
        }
        let bytes = &mut self.bytes;
        bytes.push(match line.outcome {
            Outcome::Memory => 0,
            Outcome::Behind => 1,
            Outcome::Joined => 2,
            Outcome::Missed => 3,
            Outcome::Anew => 4,
            Outcome::Renewed => 5,
            Outcome::Passed => 6,
        });
        let is_priced = line.kept.is_some_and(|kept| kept.is_priced);
        let marks =
            [line.is_stale, line.by_content, line.asks_memory, line.kept.is_some(), is_priced];
        bytes.push(marks.iter().zip(0..).fold(0, |all, (mark, at)| all | u8::from(*mark) << at));
        // Calls are written when they end: they are not in the order in which they came.
        let later = line.at_ms.wrapping_sub(self.before_ms).cast_signed();
        put(bytes, ((later << 1) ^ (later >> 63)).cast_unsigned());
        self.before_ms = line.at_ms;
        bytes.extend_from_slice(&line.digest.to_le_bytes());
        put(bytes, u64::from(route));
        if let Some(Kept { weight, worth, ttl_ms, after_ms, took_ms, is_priced: _ }) = line.kept {
            for number in [weight, worth, ttl_ms, after_ms, took_ms] {
                put(bytes, number);
            }
        }
        self.lines = self.lines.saturating_add(1);
    }

    /// The block as it stands in a file.
    pub(super) fn finish(&self, counts: Counts) -> Vec<u8> {
        let head = BlockHead {
            len: self.bytes.len(),
            lines: self.lines,
            from_ms: self.from_ms,
            counts,
            check: [0; CHECK_LEN],
        };
        let mut whole = block_start(&head);
        let check = check(&whole, &self.bytes);
        whole.extend_from_slice(&check);
        whole.extend_from_slice(&self.bytes);
        whole
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.lines = 0;
    }
}

fn block_start(head: &BlockHead) -> Vec<u8> {
    let Counts { asked, answered, lost } = head.counts;
    let len = u32::try_from(head.len).unwrap_or(u32::MAX);
    let mut start = Vec::with_capacity(BLOCK_HEAD_LEN + head.len);
    start.extend_from_slice(BLOCK);
    start.extend_from_slice(&len.to_le_bytes());
    start.extend_from_slice(&head.lines.to_le_bytes());
    start.extend_from_slice(&head.from_ms.to_le_bytes());
    for count in [asked, answered, lost] {
        start.extend_from_slice(&count.to_le_bytes());
    }
    start
}

fn check(start: &[u8], rest: &[u8]) -> [u8; CHECK_LEN] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(start).update(rest);
    hasher.finalize().as_bytes().first_chunk().copied().unwrap_or_default()
}

/// Seven bits a byte, the lowest first.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

/// Bytes that are read from the front.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = u64::from(self.byte()?);
            let low = byte & 0x7f;
            if low << shift >> shift != low {
                return None;
            }
            number |= low << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn head(&mut self) -> Option<Head> {
        Some(Head {
            run: self.u64()?,
            part: self.u32()?,
            begun_ms: self.u64()?,
            sample: self.u64()?,
            memory_bytes_max: self.u64()?,
            policy: match self.byte()? {
                0 => Policy::Lfu,
                1 => Policy::Lru,
                2 => Policy::Cost,
                _ => return None,
            },
            held_bytes: self.u64()?,
        })
    }

    fn line(&mut self, tag: u8, before_ms: u64) -> Option<Line<u16>> {
        let outcome = match tag {
            0 => Outcome::Memory,
            1 => Outcome::Behind,
            2 => Outcome::Joined,
            3 => Outcome::Missed,
            4 => Outcome::Anew,
            5 => Outcome::Renewed,
            6 => Outcome::Passed,
            _ => return None,
        };
        let marks = self.byte()?;
        let marked = |at: u32| marks >> at & 1 == 1;
        let folded = self.number()?;
        let later = (folded >> 1).cast_signed() ^ -((folded & 1).cast_signed());
        Some(Line {
            outcome,
            at_ms: before_ms.wrapping_add_signed(later),
            digest: self.u64()?,
            route: u16::try_from(self.number()?).ok()?,
            is_stale: marked(0),
            by_content: marked(1),
            asks_memory: marked(2),
            kept: match marked(3) {
                false => None,
                true => Some(Kept {
                    weight: self.number()?,
                    worth: self.number()?,
                    ttl_ms: self.number()?,
                    after_ms: self.number()?,
                    took_ms: self.number()?,
                    is_priced: marked(4),
                }),
            },
        })
    }
}

/// For the fuzz target: foreign bytes are read without harm, and what was read from them reads the
/// same when it is written down again.
///
/// # Panics
/// It does not.
#[expect(clippy::panic, reason = "it is how a fuzz target tells")]
pub fn assert_reads_what_was_written(bytes: &[u8]) {
    if let Ok(head) = read_head(bytes)
        && read_head(&write_head(&head)) != Ok(head)
    {
        panic!("{head:?} does not read as it was written");
    }
    let mut rest = bytes.get(HEAD_LEN..).unwrap_or(bytes);
    while let Some((start, after)) = rest.split_first_chunk() {
        let Some(head) = read_block_head(start) else { return };
        let Some((body, after)) = after.split_at_checked(head.len) else { return };
        rest = after;
        // What a checksum would keep out is read all the same.
        let start = block_start(&head);
        let head = BlockHead { check: check(&start, body), ..head };
        let (mut names, mut lines) = (BTreeMap::new(), Vec::new());
        if read_block(&head, body, &mut names, |line| lines.push(line)).is_none() {
            continue;
        }
        let mut block = Block::default();
        names.iter().for_each(|(number, name)| block.name(*number, name));
        lines.iter().for_each(|line| block.line(line, line.route));
        let again = block.finish(head.counts);
        let (mut names_again, mut lines_again) = (BTreeMap::new(), Vec::new());
        let read = again.split_first_chunk().and_then(|(start, body)| {
            let mut head = read_block_head(start)?;
            // Numbers may be written longer than they need to be, but not by us.
            head.len = body.len();
            read_block(&head, body, &mut names_again, |line| lines_again.push(line))
        });
        if read.is_none() || lines != lines_again || names != names_again {
            panic!("{lines:?} do not read as they were written");
        }
    }
}
