//! What a flight has brought so far, and how far each listener has come.

use super::{End, Fetching, Source, order::Order};
use bytes::{Bytes, BytesMut};
use std::{collections::VecDeque, mem};

/// How far the fastest listener may be ahead of the slowest when the answer is not
/// kept: enough to keep both busy, and a bound on what one slow caller makes us hold.
const WINDOW_BYTES_MAX: usize = 256 * 1024;

/// The whole answer so far, for storing and for late joiners. One buffer, because a
/// stream's pieces are slices of read buffers: kept one by one, a few hundred bytes each
/// would hold as many kilobytes.
#[derive(Debug, Default)]
pub struct Recording {
    pub body: BytesMut,
    /// Where each piece ended, as offsets into `body`.
    pub ends: Vec<u32>,
}

pub(super) struct State<S: Source> {
    pub(super) stage: Stage<S>,
    /// What some listener has not had yet.
    pub(super) pieces: VecDeque<Bytes>,
    /// How many pieces were dropped from the front of `pieces`.
    pub(super) base: usize,
    pub(super) bytes: usize,
    /// `None`: the answer is not to be stored, or longer than may be.
    pub(super) recording: Option<Recording>,
    pub(super) recorded_bytes_max: usize,
    /// Each listener's cursor, by place.
    pub(super) cursors: Vec<Option<usize>>,
    /// `None`: it neither took another flight's place nor lost its own to one.
    pub(super) order: Option<Order>,
}

pub(super) enum Stage<S: Source> {
    Boarding,
    Fetching(Fetching<S>),
    Streaming(S::Head, S),
    Ended(S::Head, End, S::Outcome),
    Failed(S::Failure),
    Gone,
}

impl Recording {
    /// `false`: it would be longer than `bytes_max`.
    fn add(&mut self, piece: &[u8], bytes_max: usize) -> bool {
        let len = self.body.len().saturating_add(piece.len());
        let Ok(end) = u32::try_from(len) else { return false };
        if len > bytes_max {
            return false;
        }
        self.body.extend_from_slice(piece);
        self.ends.push(end);
        true
    }
}

impl<S: Source> State<S> {
    /// The head has come: how much of the answer may be recorded.
    pub(super) fn record(&mut self, bytes_max: Option<usize>) {
        self.recorded_bytes_max = bytes_max.unwrap_or(0);
        if bytes_max.is_none() {
            self.recording = None;
        }
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        let bytes_max = self.recorded_bytes_max;
        if self.recording.as_mut().is_some_and(|recording| !recording.add(&piece, bytes_max)) {
            self.recording = None;
        }
        self.bytes = self.bytes.saturating_add(piece.len());
        self.pieces.push_back(piece);
        self.trim();
    }

    /// Lets go of what every listener has had.
    pub(super) fn trim(&mut self) {
        let slowest = self.cursors.iter().flatten().min().copied().unwrap_or(usize::MAX);
        while self.base < slowest
            && let Some(piece) = self.pieces.pop_front()
        {
            self.base += 1;
            self.bytes = self.bytes.saturating_sub(piece.len());
        }
    }

    /// The fastest has to wait for the slowest. Not while the answer is recorded: that is
    /// bounded anyway, and storing it early serves everybody.
    pub(super) fn is_full(&self) -> bool {
        self.recording.is_none() && self.bytes > WINDOW_BYTES_MAX
    }

    /// The answer has ended: pays, and stays for those who have not had all of it.
    pub(super) fn end(&mut self, end: End) {
        let Stage::Streaming(head, source) = mem::replace(&mut self.stage, Stage::Gone) else {
            return;
        };
        // Held until its answer is stored.
        let ending = self.order.as_ref().map(Order::ends);
        let is_late = ending.as_ref().is_some_and(|ending| ending.is_late);
        let recording = self.recording.take().filter(|_| end == End::Complete && !is_late);
        let outcome = source.finish(end, recording);
        self.stage = Stage::Ended(head, end, outcome);
    }
}
