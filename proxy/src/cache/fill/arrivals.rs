//! When the pieces of an answer came, for routes that give a stored stream again at its own pace.

use tokio::time::Instant;

/// More pieces than any stream of ours has; beyond, none is timed.
const PIECES_MAX: usize = 1 << 20;

/// Four bytes for each piece, kept while the answer comes.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    last: Option<Instant>,
    gaps_ms: Vec<u32>,
}

impl Arrivals {
    /// A piece has come.
    pub(super) fn add(&mut self, at: Instant) {
        let gap = self.last.map_or(0, |last| at.saturating_duration_since(last).as_millis());
        self.last = Some(at);
        if self.gaps_ms.len() <= PIECES_MAX {
            self.gaps_ms.push(u32::try_from(gap).unwrap_or(u32::MAX));
        }
    }

    /// For each of `frames` how long after the one before it came; `None`: they are not those that
    /// were timed.
    pub(super) fn gaps_ms(self, frames: usize) -> Option<Box<[u32]>> {
        (self.gaps_ms.len() == frames).then(|| self.gaps_ms.into())
    }
}
