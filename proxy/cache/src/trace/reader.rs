//! Reads a trace: a file, or the folder with the two files of one run.
//!
//! What it holds in memory has a bound: of a trace with more calls than that it keeps those of half
//! the keys, and of those half again, as if fewer had been sampled (SHARDS with a fixed size).

use super::{
    CURRENT, Head, Line, PREVIOUS, TraceError,
    codec::{self, BLOCK_HEAD_LEN, BlockHead, HEAD_LEN, NoHead},
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

/// The most calls that are held: some 300 MB of them.
const LINES_MAX: usize = 4_000_000;

/// A trace as it was read.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Of the first file; [`Head::sample`] is that of `lines`.
    pub head: Head,
    /// In the order in which the calls ended.
    pub lines: Vec<Line<u16>>,
    pub routes: BTreeMap<u16, Box<str>>,
    /// Calls that asked memory, whether or not they were sampled.
    pub asked: u64,
    /// Those of them that it answered, or another call at that time.
    pub answered: u64,
    /// Lines that were not written for want of room.
    pub lost: u64,
    /// Bytes at the ends of files that could not be read: a process that was killed leaves a torn
    /// block.
    pub unread_bytes: u64,
    /// Another run's file lay beside, and was left alone.
    pub left_alone: bool,
}

/// Reads the trace at `path`: a file, or a folder.
///
/// # Errors
/// There is none, or nothing of it can be read.
pub fn read(path: &Path) -> Result<Recording, TraceError> {
    read_bounded(path, LINES_MAX)
}

pub(super) fn read_bounded(path: &Path, lines_max: usize) -> Result<Recording, TraceError> {
    let recording = if path.is_dir() {
        read_dir(path, lines_max)?
    } else {
        let (head, file) = open(path)?;
        let mut recording = Recording::of(head);
        recording.add(path, file, lines_max)?;
        recording
    };
    match recording.lines.is_empty() {
        true => Err(TraceError::Empty(path.to_owned())),
        false => Ok(recording),
    }
}

type Bytes = BufReader<File>;

fn read_dir(dir: &Path, lines_max: usize) -> Result<Recording, TraceError> {
    let paths = [PREVIOUS, CURRENT].map(|name| dir.join(name));
    let [previous, current] = [&paths[0], &paths[1]];
    let Some(newest) = [current, previous].into_iter().find(|path| path.exists()) else {
        return Err(TraceError::Nothing(dir.to_owned()));
    };
    let (last, last_file) = open(newest)?;
    let before = if newest == current && previous.exists() { Some(open(previous)) } else { None };
    let mut recording = match before {
        Some(Ok((head, file))) if head.run == last.run => {
            let mut recording = Recording::of(head);
            recording.add(previous, file, lines_max)?;
            recording
        }
        Some(before) => {
            let mut recording = Recording::of(last);
            recording.add(newest, last_file, lines_max)?;
            return match before {
                // It has just begun.
                Ok((head, file)) if recording.lines.is_empty() => {
                    let mut recording = Recording::of(head);
                    recording.add(previous, file, lines_max)?;
                    Ok(recording)
                }
                Ok(_) | Err(_) => Ok(Recording { left_alone: true, ..recording }),
            };
        }
        None => Recording::of(last),
    };
    recording.add(newest, last_file, lines_max)?;
    Ok(recording)
}

fn open(path: &Path) -> Result<(Head, Bytes), TraceError> {
    if !path.exists() {
        return Err(TraceError::Nothing(path.to_owned()));
    }
    let file = File::open(path).map_err(TraceError::io(path))?;
    let mut file = BufReader::new(file);
    let mut bytes = Vec::with_capacity(HEAD_LEN);
    let length = u64::try_from(HEAD_LEN).unwrap_or(u64::MAX);
    file.by_ref().take(length).read_to_end(&mut bytes).map_err(TraceError::io(path))?;
    match codec::read_head(&bytes) {
        Ok(head) => Ok((head, file)),
        Err(NoHead::Foreign) => Err(TraceError::Foreign(path.to_owned())),
        Err(NoHead::Damaged) => Err(TraceError::Damaged(path.to_owned())),
        Err(NoHead::Version(format)) => Err(TraceError::Version { path: path.to_owned(), format }),
    }
}

impl Recording {
    fn of(head: Head) -> Self {
        Self {
            head,
            lines: Vec::new(),
            routes: BTreeMap::new(),
            asked: 0,
            answered: 0,
            lost: 0,
            unread_bytes: 0,
            left_alone: false,
        }
    }

    /// Adds the blocks of a file, up to the first that is not whole.
    fn add(&mut self, path: &Path, mut file: Bytes, lines_max: usize) -> Result<(), TraceError> {
        let mut body = Vec::new();
        loop {
            let mut start = [0; BLOCK_HEAD_LEN];
            let read = fill(&mut file, &mut start).map_err(TraceError::io(path))?;
            if read == 0 {
                return Ok(());
            }
            let head = if read == start.len() { codec::read_block_head(&start) } else { None };
            let Some(head) = head else { return self.unread(path, read, file) };
            body.resize(head.len, 0);
            let body_read = fill(&mut file, &mut body).map_err(TraceError::io(path))?;
            if body_read < head.len || self.add_block(&head, &body).is_none() {
                return self.unread(path, read.saturating_add(body_read), file);
            }
            self.thin(lines_max);
        }
    }

    /// All of a block, or nothing.
    fn add_block(&mut self, head: &BlockHead, body: &[u8]) -> Option<()> {
        let (sample, len) = (self.head.sample, self.lines.len());
        let lines = &mut self.lines;
        let read = codec::read_block(head, body, &mut self.routes, |line| {
            if line.digest >> 32 < sample {
                lines.push(line);
            }
        });
        if read.is_none() {
            lines.truncate(len);
            return None;
        }
        let counts = head.counts;
        for (all, more) in [
            (&mut self.asked, counts.asked),
            (&mut self.answered, counts.answered),
            (&mut self.lost, counts.lost),
        ] {
            *all = all.saturating_add(u64::from(more));
        }
        Some(())
    }

    fn thin(&mut self, lines_max: usize) {
        while self.lines.len() > lines_max && self.head.sample > 1 {
            self.head.sample /= 2;
            let sample = self.head.sample;
            self.lines.retain(|line| line.digest >> 32 < sample);
        }
    }

    fn unread(&mut self, path: &Path, read: usize, mut file: Bytes) -> Result<(), TraceError> {
        let rest = io::copy(&mut file, &mut io::sink()).map_err(TraceError::io(path))?;
        let read = u64::try_from(read).unwrap_or(u64::MAX);
        self.unread_bytes = self.unread_bytes.saturating_add(read).saturating_add(rest);
        Ok(())
    }
}

/// How many bytes came: fewer than there is room for only at the end of the file.
fn fill(file: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
