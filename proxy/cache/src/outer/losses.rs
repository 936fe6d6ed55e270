//! What a feed of events could not hear, told at a pace: a word about losses may purge everything, and
//! a flood must not keep the feed from telling what it did hear.

use std::{
    future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{self, Instant};

/// Between two words about losses. What is lost in between is told with the next.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Losses {
    missed: Arc<AtomicU64>,
    /// Nobody knows how much was said meanwhile.
    was_away: bool,
    /// When it was last told of any.
    told: Option<Instant>,
}

impl Losses {
    /// For who finds no room for a message: to be counted up.
    pub(crate) fn counter(&self) -> Arc<AtomicU64> {
        self.missed.clone()
    }

    /// Something may have been said, and nobody listened.
    pub(crate) fn was_away(&mut self) {
        self.was_away = true;
    }

    /// How many messages are known to be lost that were not told of (0: nobody knows), where any are
    /// and it is time to say so.
    pub(crate) fn take(&mut self) -> Option<u64> {
        let now = Instant::now();
        if !self.are_any() || self.told.is_some_and(|told| now < told + INTERVAL) {
            return None;
        }
        (self.told, self.was_away) = (Some(now), false);
        Some(self.missed.swap(0, Ordering::Relaxed))
    }

    /// Until it is time to tell of those that there are; for ever where there are none.
    pub(crate) async fn due(&self) {
        match self.told {
            _ if !self.are_any() => future::pending().await,
            Some(told) => time::sleep_until(told + INTERVAL).await,
            None => {}
        }
    }

    fn are_any(&self) -> bool {
        self.was_away || self.missed.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_told_of_once_in_an_interval_and_none_of_it_is_forgotten() {
        let mut losses = Losses::default();
        assert_eq!(losses.take(), None);
        let counter = losses.counter();
        let mut told = Vec::new();
        for _ in 0..2_500 {
            counter.fetch_add(1, Ordering::Relaxed);
            told.extend(losses.take());
            time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(told, [1, 1000, 1000]);
        losses.was_away();
        let before = Instant::now();
        losses.due().await;
        assert!(before.elapsed() <= INTERVAL);
        assert_eq!(losses.take(), Some(499));
        time::advance(INTERVAL).await;
        assert_eq!(losses.take(), None, "it was told");
        losses.was_away();
        assert_eq!(losses.take(), Some(0), "nobody knows how many");
    }
}
