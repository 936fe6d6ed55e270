//! Hands out a cached stream, frame by frame as it came in; where its route says so, at a pace.

use super::{filtered, pace::Pace};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio_util::sync::CancellationToken;
use tollgate_cache::entry::Entry;
use tollgate_core::{dialect::Framing, form::UsageFilter};

/// A stream from memory.
#[derive(Debug)]
pub(crate) struct Replay {
    frames: Frames,
    /// How many frames were taken from there.
    taken: usize,
    filter: Option<Box<UsageFilter>>,
    ready: VecDeque<Bytes>,
    /// `None`: all of it is due at once.
    pace: Option<Box<Pace>>,
}

#[derive(Debug)]
enum Frames {
    /// Of a recorded stream: the next frame's number, and where it begins.
    Recorded(Arc<Entry>, usize, usize),
    /// Of a recorded stream: its events or lines, however they came; what is left of them.
    Units(Bytes, Framing),
    /// Made from a whole answer.
    Made(VecDeque<Bytes>),
}

impl Replay {
    /// `filter`: the caller did not ask for the usage chunk.
    pub(crate) fn recorded(entry: Arc<Entry>, filter: bool) -> Self {
        Self::new(Frames::Recorded(entry, 0, 0), filter)
    }

    /// A recorded stream event by event, or line by line, whatever pieces it came in.
    pub(crate) fn by_units(stream: Bytes, framing: Framing, filter: bool) -> Self {
        Self::new(Frames::Units(stream, framing), filter)
    }

    pub(crate) fn made(frames: Vec<Vec<u8>>, filter: bool) -> Self {
        Self::new(Frames::Made(frames.into_iter().map(Bytes::from).collect()), filter)
    }

    fn new(frames: Frames, filter: bool) -> Self {
        let filter = filter.then(|| Box::new(UsageFilter::new()));
        let mut replay = Self { frames, taken: 0, filter, ready: VecDeque::new(), pace: None };
        replay.fill();
        replay
    }

    /// From here on, at a pace. What is next is due at once.
    pub(crate) fn paced(self, pace: Option<Pace>) -> Self {
        let Some(mut pace) = pace else { return self };
        let len = self.ready.iter().map(Bytes::len).sum();
        pace.take(0, len);
        Self { pace: Some(Box::new(pace)), ..self }
    }

    /// Once `leave` is told, what is left of it is due at once.
    pub(crate) fn hurry_at(&mut self, leave: &CancellationToken) {
        self.pace.iter_mut().for_each(|pace| pace.hurry_at(leave));
    }

    /// The next frame, once it is due.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(pace) = &mut self.pace
            && !self.ready.is_empty()
        {
            ready!(pace.poll(cx));
        }
        Poll::Ready(self.next_frame())
    }

    /// The next frame: always one ahead, so that the end is known with the last.
    fn next_frame(&mut self) -> Option<Bytes> {
        let frame = self.ready.pop_front();
        self.fill();
        frame
    }

    pub(crate) fn is_over(&self) -> bool {
        self.ready.is_empty()
    }

    fn fill(&mut self) {
        while self.ready.is_empty()
            && let Some(frame) = self.frames.next()
        {
            if let Some(pace) = &mut self.pace {
                pace.take(self.taken, frame.len());
            }
            self.taken = self.taken.saturating_add(1);
            let last = self.frames.is_over();
            filtered(&mut self.filter, frame, last, &mut self.ready);
        }
    }
}

impl Frames {
    fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Made(frames) => frames.pop_front(),
            Self::Units(rest, framing) => {
                let len = unit_len(rest, *framing);
                (len > 0).then(|| rest.split_to(len))
            }
            Self::Recorded(entry, place, start) => {
                let end = entry.frame_ends.get(*place).copied()?;
                let end = usize::try_from(end).unwrap_or(usize::MAX).min(entry.body.len());
                let frame = entry.body.slice((*start).min(end)..end);
                (*place, *start) = (*place + 1, end);
                Some(frame)
            }
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Made(frames) => frames.is_empty(),
            Self::Units(rest, _) => rest.is_empty(),
            Self::Recorded(entry, place, _) => *place >= entry.frame_ends.len(),
        }
    }
}

/// How many units a stream has.
pub(crate) fn count_units(stream: &[u8], framing: Framing) -> u64 {
    let (mut rest, mut units) = (stream, 0);
    while !rest.is_empty() {
        rest = rest.get(unit_len(rest, framing)..).unwrap_or_default();
        units += 1;
    }
    units
}

/// The bytes of the first event or line, its end included; all, where there is none. What has
/// neither is one unit.
fn unit_len(stream: &[u8], framing: Framing) -> usize {
    let mut lines = memchr::memchr_iter(b'\n', stream).map(|at| at + 1);
    let end = match framing {
        Framing::Whole | Framing::Array => None,
        Framing::Lines => lines.next(),
        // An empty line after a line.
        Framing::Events => lines.find_map(|next| match stream.get(next..)? {
            [b'\n', ..] => Some(next + 1),
            [b'\r', b'\n', ..] => Some(next + 2),
            _ => None,
        }),
    };
    end.unwrap_or(stream.len())
}

#[cfg(test)]
mod tests;
