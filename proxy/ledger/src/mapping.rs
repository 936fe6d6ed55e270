//! Two shared mappings that take entries from any task and outlive the process.
//!
//! A task reserves its place with one `fetch_add`, copies, and publishes with one
//! release-store: no lock, no wait, no system call. The pages belong to the
//! kernel, so `kill -9` loses nothing that was published. When one segment is
//! full the other takes over while the writer empties the first; when both are
//! full, `append` says so and the caller's record goes to the overflow.
//!
//! This is the only module with `unsafe`. Why it is sound:
//! * A range is handed out once per lap: `cursor` only grows, and it is set back
//!   only by [`Drain::release`], after the drain has read a published word at
//!   every place of the lap – so no reservation of that lap is still unwritten.
//! * Between laps the cursor stands at [`CLOSED`], so a task that slept through a
//!   whole lap gets nothing until the segment is in use again.
//! * The drain reads a payload only after an acquire-load of a non-zero word.
//! * The file is locked by `flock`, filled to its size before it is mapped (so a
//!   full disk cannot fault, unless the file system copies on write) and never shortened by us.
#![expect(
    unsafe_code,
    reason = "a shared mapping written by many tasks is memory only we vouch for"
)]

use std::{
    fs::OpenOptions,
    io::Write,
    path::Path,
    ptr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::{
    entry::{self, Entry, GRANULE_BYTES, HEADER_BYTES, PAYLOAD_BYTES_MAX, Payload, WORD_BYTES},
    error::LedgerError,
    wake::Wake,
};

/// A cursor that hands out nothing: beyond any segment, with room to grow.
const CLOSED: usize = usize::MAX / 2;

const PAGE_BYTES: usize = 4096;

/// How far ahead of the tasks the writer's thread faults pages in, so that no task's store is a
/// page's first: some two hundred entries for the time between two syncs. Not the whole segment
/// at the start: an instance that is hardly asked does not hold two megabytes for it.
const AHEAD_BYTES: usize = 64 * 1024;

/// Tries before a task gives up on finding the segment in use (each costs another
/// task a whole lap in between).
const TRIES_MAX: usize = 8;

/// The two segments, as tasks see them.
#[derive(Debug)]
pub(crate) struct Mapping {
    first: Segment,
    second: Segment,
    /// Which segment takes entries: 0 or 1.
    active: AtomicUsize,
    turn: Mutex<()>,
    /// How far the drain has read the segment it is in.
    drained_to: AtomicUsize,
    wake: Arc<Wake>,
}

#[derive(Debug)]
struct Segment {
    map: MmapRaw,
    bytes: usize,
    /// Where the next entry goes.
    cursor: AtomicUsize,
    /// The lap. Changes only while the cursor is [`CLOSED`].
    epoch: AtomicU64,
    /// Empty and waiting for its turn.
    free: AtomicBool,
}

/// A range that is the holder's alone until it is published.
struct Slot<'a> {
    segment: &'a Segment,
    offset: usize,
}

/// The writer's side: reads entries in order and gives segments back. One exists.
#[derive(Debug)]
pub(crate) struct Drain {
    mapping: Arc<Mapping>,
    index: usize,
    offset: usize,
    epoch_next: u64,
    /// At the last two syncs.
    synced: [Mark; 2],
    /// Up to where the pages of each segment have been faulted in.
    faulted_to: [usize; 2],
}

/// How far tasks have reserved: the lap and the bytes used, of each segment.
pub(crate) type Mark = [(u64, usize); 2];

/// Entries of one segment from the drain's place on.
#[derive(Debug)]
pub(crate) struct Drained {
    pub(crate) entries: Vec<Entry>,
    pub(crate) epoch: u64,
    /// Where the next reading goes on, once these are in the database.
    pub(crate) offset: usize,
    /// The segment is used up: nothing follows in this lap.
    pub(crate) ended: bool,
}

impl Mapping {
    /// Creates both files anew, in laps `epoch` and `epoch + 1`. What they held
    /// must be in the database.
    pub(crate) fn create(
        paths: [&Path; 2],
        bytes: usize,
        epoch: u64,
        wake: Arc<Wake>,
    ) -> Result<(Arc<Self>, Drain), LedgerError> {
        let [first, second] = paths;
        let first = Segment::create(first, bytes, epoch)?;
        let second = Segment::create(second, bytes, epoch + 1)?;
        first.cursor.store(HEADER_BYTES, Ordering::Release);
        first.free.store(false, Ordering::Release);
        let mapping = Arc::new(Self {
            first,
            second,
            active: AtomicUsize::new(0),
            turn: Mutex::new(()),
            drained_to: AtomicUsize::new(HEADER_BYTES),
            wake,
        });
        let mut drain = Drain {
            mapping: Arc::clone(&mapping),
            index: 0,
            offset: HEADER_BYTES,
            epoch_next: epoch + 2,
            synced: [Mark::default(); 2],
            faulted_to: [0; 2],
        };
        drain.fault_ahead();
        Ok((mapping, drain))
    }

    /// Stores an entry. `false`: both segments are full.
    pub(crate) fn append(&self, payload: &Payload) -> bool {
        let need = entry::entry_bytes(payload.bytes().len());
        for _ in 0..TRIES_MAX {
            let active = self.active.load(Ordering::Acquire);
            if let Some(slot) = self.segment(active).reserve(need) {
                slot.publish(payload);
                self.wake.if_asleep();
                return true;
            }
            if !self.swap(active) {
                return false;
            }
        }
        false
    }

    /// Bytes that wait for the database.
    pub(crate) fn bytes_waiting(&self) -> usize {
        let drained = self.drained_to.load(Ordering::Acquire) - HEADER_BYTES;
        let used = self.first.bytes_used() + self.second.bytes_used();
        used.saturating_sub(drained)
    }

    /// Makes the other segment the one in use. `false`: it is not empty yet.
    /// The lock is held for a few stores, once per some thousand entries.
    fn swap(&self, from: usize) -> bool {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.active.load(Ordering::Acquire) != from {
            return true;
        }
        let next = self.segment(1 - from);
        if !next.free.swap(false, Ordering::AcqRel) {
            return false;
        }
        next.cursor.store(HEADER_BYTES, Ordering::SeqCst);
        self.active.store(1 - from, Ordering::Release);
        self.wake.now();
        true
    }

    fn segment(&self, index: usize) -> &Segment {
        if index == 0 { &self.first } else { &self.second }
    }
}

impl Segment {
    fn create(path: &Path, bytes: usize, epoch: u64) -> Result<Self, LedgerError> {
        let bytes = bytes.next_multiple_of(PAGE_BYTES).max(PAGE_BYTES);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .map_err(LedgerError::io("create", path))?;
        let mut content = vec![0; bytes];
        for (byte, header) in content.iter_mut().zip(entry::header(epoch)) {
            *byte = header;
        }
        // A page at a time: the kernel keeps a long write as one large folio, and then
        // every sync writes, and write-protects, all of it. (Measured on ext4 and
        // Linux 6.18, a loaded machine: 800 ns per record; page by page 280.)
        for page in content.chunks(PAGE_BYTES) {
            (&file).write_all(page).map_err(LedgerError::io("fill", path))?;
        }
        file.sync_all().map_err(LedgerError::io("sync", path))?;
        let map =
            MmapOptions::new().len(bytes).map_raw(&file).map_err(LedgerError::io("map", path))?;
        // A fault brings its page and no others.
        map.advise(Advice::Random).map_err(LedgerError::io("map", path))?;
        Ok(Self {
            map,
            bytes,
            cursor: AtomicUsize::new(CLOSED),
            epoch: AtomicU64::new(epoch),
            free: AtomicBool::new(true),
        })
    }

    /// Stores to every page that begins in `from..to`. (Nothing is changed, whoever writes there.)
    fn fault_in(&self, from: usize, to: usize) {
        for offset in (from.next_multiple_of(PAGE_BYTES)..to.min(self.bytes)).step_by(PAGE_BYTES) {
            self.word(offset).fetch_or(0, Ordering::Relaxed);
        }
    }

    /// The eight bytes at `offset`, a multiple of 8 inside the segment.
    fn word(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset.is_multiple_of(WORD_BYTES) && offset + WORD_BYTES <= self.bytes);
        let offset = offset.min(self.bytes - WORD_BYTES);
        // SAFETY: inside the mapping (`bytes` long, page-aligned), aligned because
        // every caller passes a multiple of 8, alive as long as `self`. These bytes
        // are only ever touched as atomics or, as part of a payload, by the one
        // holder of their `Slot`.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(offset).cast()) }
    }

    fn reserve(&self, need: usize) -> Option<Slot<'_>> {
        // SeqCst: see `wake`.
        let offset = self.cursor.fetch_add(need, Ordering::SeqCst);
        if offset <= self.bytes - need {
            return Some(Slot { segment: self, offset });
        }
        if offset < self.bytes {
            // The first one that does not fit owns what is left, and ends the lap.
            Slot { segment: self, offset }.publish(&Payload::end());
        }
        None
    }

    /// Copies out the payload whose word was read at `offset`.
    fn payload(&self, offset: usize, len: usize, into: &mut [u8; PAYLOAD_BYTES_MAX]) {
        let start = offset + WORD_BYTES;
        let len = len.min(PAYLOAD_BYTES_MAX).min(self.bytes.saturating_sub(start));
        // SAFETY: in bounds of both by the line above. The caller (the drain) saw
        // the word of this entry with acquire, so the copy of its writer happened
        // before, and nobody writes here until the drain releases the segment.
        unsafe {
            ptr::copy_nonoverlapping(self.map.as_ptr().add(start), into.as_mut_ptr(), len);
        }
    }

    /// Empties the segment for the lap `epoch`. Only while it is closed and drained.
    fn reset(&self, epoch: u64) {
        self.cursor.store(CLOSED, Ordering::SeqCst);
        // Entries first: a crash in between finds an old lap with fewer entries,
        // all of which are in the database.
        for offset in (HEADER_BYTES..self.bytes).step_by(WORD_BYTES) {
            self.word(offset).store(0, Ordering::Relaxed);
        }
        self.word(entry::EPOCH_OFFSET).store(epoch.to_le(), Ordering::Release);
        self.epoch.store(epoch, Ordering::Release);
        self.free.store(true, Ordering::Release);
    }

    fn bytes_used(&self) -> usize {
        let cursor = self.cursor.load(Ordering::SeqCst);
        if cursor >= CLOSED { 0 } else { cursor.min(self.bytes).saturating_sub(HEADER_BYTES) }
    }
}

impl Slot<'_> {
    fn publish(self, payload: &Payload) {
        let Self { segment, offset } = self;
        let bytes = payload.bytes();
        let epoch = segment.epoch.load(Ordering::Acquire);
        let word = entry::word(epoch, offset, payload.kind, bytes);
        // SAFETY: `reserve` gave `offset .. offset + entry_bytes(len)` to this slot
        // alone and it lies inside the mapping (an end entry has no payload and
        // needs only the granule that `offset < bytes` leaves). The source is a
        // separate array of ours.
        unsafe {
            let to = segment.map.as_mut_ptr().add(offset + WORD_BYTES);
            ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        segment.word(offset).store(word.to_le(), Ordering::Release);
    }
}

impl Drain {
    /// Up to `entries_max` entries of the current segment, as far as they are published.
    pub(crate) fn read(&self, entries_max: usize) -> Drained {
        let segment = self.mapping.segment(self.index);
        let epoch = segment.epoch.load(Ordering::Acquire);
        let mut drained = Drained { entries: Vec::new(), epoch, offset: self.offset, ended: false };
        let mut payload = [0; PAYLOAD_BYTES_MAX];
        while drained.entries.len() < entries_max {
            if drained.offset + GRANULE_BYTES > segment.bytes {
                drained.ended = true;
                break;
            }
            let word = segment.word(drained.offset).load(Ordering::Acquire);
            let Some(word) = entry::read_word(u64::from_le(word)) else { break };
            segment.payload(drained.offset, word.len, &mut payload);
            let bytes = payload.get(..word.len).unwrap_or_default();
            match Entry::decode(word.kind, bytes) {
                Some(Entry::End) => {
                    drained.ended = true;
                    break;
                }
                Some(entry) => drained.entries.push(entry),
                None => debug_assert!(false, "a published entry is whole"),
            }
            drained.offset += entry::entry_bytes(word.len);
        }
        drained
    }

    /// What `drained` held is in the database: go on behind it.
    pub(crate) fn release(&mut self, drained: &Drained) {
        self.offset = if drained.ended { HEADER_BYTES } else { drained.offset };
        // First, so that what waits is never reported too low.
        self.mapping.drained_to.store(self.offset, Ordering::Release);
        if drained.ended {
            self.mapping.segment(self.index).reset(self.epoch_next);
            self.epoch_next += 1;
            self.index = 1 - self.index;
        }
    }

    /// Whether everything that a [`Drain::mark`] saw has been released.
    pub(crate) fn has_reached(&self, mark: Mark) -> bool {
        let here = self.mapping.segment(self.index).epoch.load(Ordering::Acquire);
        mark.into_iter().all(|(epoch, used)| {
            used == 0 || epoch < here || (epoch == here && self.offset >= HEADER_BYTES + used)
        })
    }

    /// Whether a task reserved a place that was not read yet. (`SeqCst`: see `wake`.)
    pub(crate) fn has_unread(&self) -> bool {
        let here = self.mapping.segment(self.index);
        let cursor = here.cursor.load(Ordering::SeqCst);
        (cursor < CLOSED && cursor > self.offset)
            || self.mapping.segment(1 - self.index).bytes_used() > 0
    }

    /// Where the tasks are, to see whether anything new came.
    pub(crate) fn mark(&self) -> Mark {
        [&self.mapping.first, &self.mapping.second]
            .map(|segment| (segment.epoch.load(Ordering::Acquire), segment.bytes_used()))
    }

    /// Puts on the disk what was published before the call.
    ///
    /// Only the bytes that tasks have used: `fdatasync` of the file would also write
    /// the pages ahead of them, and every page that was written makes the next store
    /// to it a page fault – on a request's task. The range begins where the sync
    /// before the last one ended, because a task may publish some time after it
    /// reserved.
    pub(crate) fn sync(&mut self) -> std::io::Result<()> {
        let mark = self.mark();
        let [last, before] = self.synced;
        if mark == last && last == before {
            return Ok(());
        }
        let segments = [&self.mapping.first, &self.mapping.second];
        for (segment, (now, before)) in segments.into_iter().zip(mark.into_iter().zip(before)) {
            let from = if now.0 == before.0 { before.1 } else { 0 };
            if now.1 > 0 {
                segment.map.flush_range(from, HEADER_BYTES + now.1 - from)?;
            }
        }
        self.synced = [mark, last];
        self.fault_ahead();
        Ok(())
    }

    /// Faults in what tasks will soon store to, here and, near the end, in the other segment.
    fn fault_ahead(&mut self) {
        let active = self.mapping.active.load(Ordering::Acquire);
        let here = self.mapping.segment(active);
        let wanted = HEADER_BYTES + here.bytes_used() + AHEAD_BYTES;
        let beyond = wanted.saturating_sub(here.bytes);
        let places = if active == 0 { [wanted, beyond] } else { [beyond, wanted] };
        let segments = [&self.mapping.first, &self.mapping.second];
        for ((segment, to), done) in segments.into_iter().zip(places).zip(&mut self.faulted_to) {
            segment.fault_in(*done, to);
            *done = to.max(*done);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT_BYTES: usize = 1024 * 1024;

    /// Bytes of the two files that this process holds in memory.
    fn resident_bytes(folder: &Path) -> usize {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let folder = folder.to_str().unwrap();
        let mut is_ours = false;
        let mut sum = 0;
        for line in smaps.lines() {
            if let Some(size) = line.strip_prefix("Rss:") {
                let kib: usize = size.trim().trim_end_matches(" kB").parse().unwrap();
                sum += if is_ours { kib * 1024 } else { 0 };
            } else if line.contains('-') && !line.contains("kB") {
                is_ours = line.contains(folder);
            }
        }
        sum
    }

    #[test]
    fn pages_are_faulted_in_ahead_of_the_tasks_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["a", "b"].map(|name| folder.path().join(name));
        let (mapping, mut drain) =
            Mapping::create([&first, &second], SEGMENT_BYTES, 1, Arc::default()).unwrap();
        // The kernel may map neighbours along with a page.
        let ahead = AHEAD_BYTES..=4 * AHEAD_BYTES;
        assert!(ahead.contains(&resident_bytes(folder.path())));
        let entry = Payload::end();
        while mapping.first.bytes_used() < SEGMENT_BYTES / 2 {
            assert!(mapping.append(&entry));
        }
        drain.sync().unwrap();
        let used = SEGMENT_BYTES / 2;
        let ahead = used + AHEAD_BYTES..=used + 4 * AHEAD_BYTES;
        assert!(ahead.contains(&resident_bytes(folder.path())));
        while mapping.first.bytes_used() < SEGMENT_BYTES - AHEAD_BYTES {
            assert!(mapping.append(&entry));
        }
        drain.sync().unwrap();
        drain.sync().unwrap();
        assert!(SEGMENT_BYTES <= resident_bytes(folder.path()));
        assert!(0 < drain.faulted_to[1], "the other segment is next");
    }
}
