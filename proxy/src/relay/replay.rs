//! Hands out a cached stream, frame by frame as it came in.

use super::filtered;
use bytes::Bytes;
use std::{collections::VecDeque, sync::Arc};
use tollgate_cache::entry::Entry;
use tollgate_core::form::UsageFilter;

/// A stream from memory.
#[derive(Debug)]
pub(crate) struct Replay {
    frames: Frames,
    filter: Option<Box<UsageFilter>>,
    ready: VecDeque<Bytes>,
}

#[derive(Debug)]
enum Frames {
    /// Of a recorded stream: the next frame's number, and where it begins.
    Recorded(Arc<Entry>, usize, usize),
    /// Made from a whole answer.
    Made(VecDeque<Bytes>),
}

impl Replay {
    /// `filter`: the caller did not ask for the usage chunk.
    pub(crate) fn recorded(entry: Arc<Entry>, filter: bool) -> Self {
        Self::new(Frames::Recorded(entry, 0, 0), filter)
    }

    pub(crate) fn made(frames: Vec<Vec<u8>>, filter: bool) -> Self {
        Self::new(Frames::Made(frames.into_iter().map(Bytes::from).collect()), filter)
    }

    fn new(frames: Frames, filter: bool) -> Self {
        let filter = filter.then(|| Box::new(UsageFilter::new()));
        let mut replay = Self { frames, filter, ready: VecDeque::new() };
        replay.fill();
        replay
    }

    /// The next frame: always one ahead, so that the end is known with the last.
    pub(crate) fn next_frame(&mut self) -> Option<Bytes> {
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
            let last = self.frames.is_over();
            filtered(&mut self.filter, frame, last, &mut self.ready);
        }
    }
}

impl Frames {
    fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Made(frames) => frames.pop_front(),
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
            Self::Recorded(entry, place, _) => *place >= entry.frame_ends.len(),
        }
    }
}
