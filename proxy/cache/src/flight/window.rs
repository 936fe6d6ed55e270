//! The last pieces of an answer, while listeners who are not behind have yet to take them.
//!
//! Each piece knows how many will, so that taking one costs the same however many listen.

use bytes::Bytes;
use std::collections::VecDeque;

/// How far the fastest listener may be ahead of the slowest before that one has to read what was
/// recorded, or, where nothing is, before the fastest has to wait: enough to keep both busy, and a
/// bound on what one slow caller makes us hold.
const BYTES_MAX: usize = 256 * 1024;
/// The same in pieces: a short one may hold a whole read buffer.
const PIECES_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Window {
    pieces: VecDeque<Piece>,
    /// The place of the first byte that is held, counted from the answer's first.
    from: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Piece {
    /// The place of its first byte.
    at: usize,
    bytes: Bytes,
    /// How many listeners will take it.
    left: usize,
}

impl Window {
    pub(super) fn from(&self) -> usize {
        self.from
    }

    /// How long the answer is so far.
    pub(super) fn end(&self) -> usize {
        self.from.saturating_add(self.bytes)
    }

    /// Takes a piece in, which is not empty, for `left` listeners.
    pub(super) fn push(&mut self, bytes: Bytes, left: usize) {
        let at = self.end();
        self.bytes = self.bytes.saturating_add(bytes.len());
        self.pieces.push_back(Piece { at, bytes, left });
        self.trim();
    }

    /// The piece that begins there, for one listener.
    pub(super) fn take(&mut self, at: usize) -> Option<Bytes> {
        let place = self.pieces.partition_point(|piece| piece.at < at);
        let piece = self.pieces.get_mut(place).filter(|piece| piece.at == at)?;
        piece.left = piece.left.saturating_sub(1);
        let bytes = piece.bytes.clone();
        self.trim();
        Some(bytes)
    }

    /// One more listener will take all there is.
    pub(super) fn enter(&mut self) {
        self.pieces.iter_mut().for_each(|piece| piece.left += 1);
    }

    /// One listener less will take what begins at `at` or later.
    pub(super) fn leave(&mut self, at: usize) {
        self.forgo(at, 1);
        self.trim();
    }

    fn forgo(&mut self, at: usize, many: usize) {
        let after = self.pieces.iter_mut().rev().take_while(|piece| piece.at >= at);
        after.for_each(|piece| piece.left = piece.left.saturating_sub(many));
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes > BYTES_MAX || self.pieces.len() > PIECES_MAX
    }

    /// Holds no more than it should, beside the newest piece. How many listeners are behind for that.
    pub(super) fn shrink(&mut self) -> usize {
        let mut behind = 0;
        while self.is_full()
            && self.pieces.len() > 1
            && let Some(piece) = self.pieces.pop_front()
        {
            self.gone(&piece);
            behind += piece.left;
            // They will not come for those after it either.
            self.forgo(self.from, piece.left);
        }
        self.trim();
        behind
    }

    /// Lets go of what all have had.
    fn trim(&mut self) {
        while self.pieces.front().is_some_and(|piece| piece.left == 0)
            && let Some(piece) = self.pieces.pop_front()
        {
            self.gone(&piece);
        }
    }

    fn gone(&mut self, piece: &Piece) {
        self.from = self.from.saturating_add(piece.bytes.len());
        self.bytes = self.bytes.saturating_sub(piece.bytes.len());
    }

    #[cfg(test)]
    pub(super) fn pieces(&self) -> usize {
        self.pieces.len()
    }
}
