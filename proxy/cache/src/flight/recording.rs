//! The whole answer so far: for storing it, and for listeners who are behind.
//!
//! What a listener who is behind is given is split off, and shared with all who come after it: the
//! answer is held once, however many there are. One that nobody was behind of is one buffer to its
//! end; of another the parts are joined then.

use bytes::{Bytes, BytesMut};
use std::mem;

/// A whole answer.
#[derive(Debug, Default)]
pub struct Recording {
    pub body: Bytes,
    /// Where each piece ended, as offsets into `body`.
    pub ends: Vec<u32>,
}

/// What becomes one. One buffer, because a stream's pieces are slices of read buffers: kept one by
/// one, a few hundred bytes each would hold as many kilobytes.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    /// What was handed out, in its order, each with the place of its first byte.
    shared: Vec<(usize, Bytes)>,
    /// What came since.
    body: BytesMut,
    ends: Vec<u32>,
    /// Of all, whether it is still held or not.
    len: usize,
}

impl Recorder {
    /// `false`: it would be longer than `bytes_max`.
    pub(super) fn add(&mut self, piece: &[u8], bytes_max: usize) -> bool {
        let len = self.len.saturating_add(piece.len());
        let Ok(end) = u32::try_from(len) else { return false };
        if len > bytes_max {
            return false;
        }
        self.body.extend_from_slice(piece);
        self.ends.push(end);
        self.len = len;
        true
    }

    /// How many bytes were recorded.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What there is from `at` on, or a part of it; `None`: nothing.
    pub(super) fn part(&mut self, at: usize) -> Option<Bytes> {
        if at >= self.len.saturating_sub(self.body.len()) {
            self.share();
        }
        let place = self.shared.partition_point(|(from, _)| *from <= at).checked_sub(1)?;
        let (from, part) = self.shared.get(place)?;
        let had = at.saturating_sub(*from);
        (had < part.len()).then(|| part.slice(had..))
    }

    fn share(&mut self) {
        if !self.body.is_empty() {
            let from = self.len.saturating_sub(self.body.len());
            self.shared.push((from, self.body.split().freeze()));
        }
    }

    /// No more is added, and nothing is stored. `is_read`: somebody is behind.
    pub(super) fn give_up(&mut self, is_read: bool) {
        self.ends = Vec::new();
        if is_read {
            self.share();
        } else {
            self.clear();
        }
        self.body = BytesMut::new();
    }

    /// The whole, which is held further where somebody is behind (`is_read`).
    pub(super) fn finish(&mut self, is_read: bool) -> Recording {
        let body = mem::take(&mut self.body);
        let shared = mem::take(&mut self.shared);
        let body = if shared.is_empty() {
            body.freeze()
        } else {
            let mut all = Vec::with_capacity(self.len);
            shared.iter().for_each(|(_, part)| all.extend_from_slice(part));
            all.extend_from_slice(&body);
            Bytes::from(all)
        };
        if is_read {
            self.shared.push((0, body.clone()));
        }
        Recording { body, ends: mem::take(&mut self.ends) }
    }

    /// Nobody is behind any more.
    pub(super) fn clear(&mut self) {
        self.shared = Vec::new();
    }
}
