//! The key trace: who asked the cache for what, and what came of it, one small line for each call,
//! so that [`crate::replay`] can tell what another cache would have made of the same calls.
//!
//! A key stands there as 64 bits of a digest under a secret that is made when the trace begins and
//! never written: what was asked can neither be read from a trace nor guessed at, nor can two traces
//! be compared. Which keys are noted is decided by that digest (spatial sampling: SHARDS,
//! Waldspurger and others, FAST '15), so that of a key there are all calls or none, and a sampled
//! trace replays against a cache that is smaller by the same factor.
//!
//! ```text
//!   file:  head │ block*                                                        little-endian
//!   head:  "TGT\x01" │ length u32 │ run, part, begun, sample, memory … │ check 8
//!   block: "TGTB" │ length u32 │ lines u32 │ from ms u64 │ asked, answered, lost u32 │ check 8 │ lines
//! ```
//!
//! The check is of all of the block, so that a file is read up to where it was torn off. Two files
//! take turns: the older half of a trace goes when its room is used up.

mod codec;
mod reader;
mod writer;

pub use codec::assert_reads_what_was_written;
pub use reader::{Recording, read};
pub use writer::{Settings, Trace, TraceCounters};

use crate::memory::Policy;
use std::{
    io,
    path::{Path, PathBuf},
};

/// The file that is written, in the directory of a trace.
pub const CURRENT: &str = "current";
/// The one before.
pub const PREVIOUS: &str = "previous";

/// All keys, in parts of which [`Head::sample`] has so many.
pub const SAMPLE_ALL: u64 = 1 << 32;

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered from memory.
    Memory,
    /// From a tier behind it.
    Behind,
    /// It was given what another call brought.
    Joined,
    /// The upstream was asked.
    Missed,
    /// As its caller wanted: nothing was looked for.
    Anew,
    /// Nobody asked: what was there was renewed.
    Renewed,
    /// The cache had nothing to do with it.
    Passed,
}

/// A call. `R` is what its route is: a name, or a number in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<R> {
    /// When it came. Unix time.
    pub at_ms: u64,
    pub digest: u64,
    pub route: R,
    pub outcome: Outcome,
    /// What it was given was past its time.
    pub is_stale: bool,
    /// Keyed by what is asked: equal calls at one time share an upstream call, and the time to live is
    /// the operator's to say.
    pub by_content: bool,
    /// Its route looks in memory.
    pub asks_memory: bool,
    /// Its answer, if memory has it or was given it.
    pub kept: Option<Kept>,
}

/// An answer in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Bytes, overhead included ([`crate::entry::Entry::weight`]).
    pub weight: u64,
    /// [`crate::entry::Entry::worth`].
    pub worth: u64,
    /// The worth is money: billionths of a dollar; else it is microseconds.
    pub is_priced: bool,
    /// For how long it is given.
    pub ttl_ms: u64,
    /// How long after the call it was there; 0 where it was already.
    pub after_ms: u64,
    /// How long the upstream was at it; 0 where that is not known.
    pub took_ms: u64,
}

/// What a file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// By chance: files of one run were written with one secret.
    pub run: u64,
    /// Which file of its run it is, from 0.
    pub part: u32,
    /// Unix time.
    pub begun_ms: u64,
    /// The part of all keys that is noted, of [`SAMPLE_ALL`].
    pub sample: u64,
    /// Bytes that memory may hold.
    pub memory_bytes_max: u64,
    pub policy: Policy,
    /// Bytes that were in memory when the file was begun; [`u64::MAX`]: not known.
    pub held_bytes: u64,
}

/// Why a trace cannot be read. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("{} cannot be read", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{}: not a key trace; cache.trace writes them, to the folder trace in data_dir",
        .0.display()
    )]
    Foreign(PathBuf),
    #[error("{}: a key trace of format {format}, and this version reads format 1; use the tollgate that wrote it", path.display())]
    Version { path: PathBuf, format: u8 },
    #[error("{}: the head of the key trace is damaged; the folder's other file may be whole", .0.display())]
    Damaged(PathBuf),
    #[error("{}: no key trace; set cache.trace and let calls come, or name a file", .0.display())]
    Nothing(PathBuf),
    #[error("{}: no calls in the key trace yet; they are written within a second of their end", .0.display())]
    Empty(PathBuf),
}

impl<R> Line<R> {
    /// It is one of the calls of which a hit ratio is made.
    pub fn is_call(&self) -> bool {
        self.asks_memory && !matches!(self.outcome, Outcome::Renewed | Outcome::Passed)
    }

    /// It needed no upstream call of its own and no tier behind memory.
    pub fn is_answered(&self) -> bool {
        matches!(self.outcome, Outcome::Memory | Outcome::Joined)
    }
}

impl TraceError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests;
