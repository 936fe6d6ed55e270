//! What a flight has brought so far, and how far each listener has come.

use super::{End, Fetching, Source};
use bytes::Bytes;
use std::{collections::VecDeque, mem};

/// How far the fastest listener may be ahead of the slowest when the answer is not
/// kept: enough to keep both busy, and a bound on what one slow caller makes us hold.
const WINDOW_BYTES_MAX: usize = 256 * 1024;

pub(super) struct State<S: Source> {
    pub(super) stage: Stage<S>,
    pub(super) pieces: VecDeque<Bytes>,
    /// How many pieces were dropped from the front of `pieces`.
    pub(super) base: usize,
    pub(super) bytes: usize,
    /// Every piece since the first is held, for late joiners and for storing.
    pub(super) keep_bytes_max: Option<usize>,
    /// Each listener's cursor, by place.
    pub(super) cursors: Vec<Option<usize>>,
}

pub(super) enum Stage<S: Source> {
    Boarding,
    Fetching(Fetching<S>),
    Streaming(S::Head, S),
    Ended(S::Head, End, S::Outcome),
    Failed(S::Failure),
    Gone,
}

impl<S: Source> State<S> {
    pub(super) fn push(&mut self, piece: Bytes) {
        self.bytes = self.bytes.saturating_add(piece.len());
        self.pieces.push_back(piece);
        if self.keep_bytes_max.is_some_and(|max| self.bytes > max) {
            self.keep_bytes_max = None;
        }
        self.trim();
    }

    /// Lets go of what every listener has had, unless all is kept.
    pub(super) fn trim(&mut self) {
        if self.keep_bytes_max.is_some() {
            return;
        }
        let slowest = self.cursors.iter().flatten().min().copied().unwrap_or(usize::MAX);
        while self.base < slowest
            && let Some(piece) = self.pieces.pop_front()
        {
            self.base += 1;
            self.bytes = self.bytes.saturating_sub(piece.len());
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.keep_bytes_max.is_none() && self.bytes > WINDOW_BYTES_MAX
    }

    /// The answer has ended: pays, and stays for those who have not had all of it.
    pub(super) fn end(&mut self, end: End) {
        let Stage::Streaming(head, source) = mem::replace(&mut self.stage, Stage::Gone) else {
            return;
        };
        let whole = end == End::Complete && self.base == 0 && self.keep_bytes_max.is_some();
        let whole = whole.then_some(&self.pieces);
        let outcome = source.finish(end, whole);
        self.stage = Stage::Ended(head, end, outcome);
    }
}
