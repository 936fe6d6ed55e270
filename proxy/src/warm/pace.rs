//! When the next call of our own may begin: not too often, and not too many at a time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{self, Instant},
};

/// One for the process.
#[derive(Debug)]
pub(super) struct Pace {
    places: Arc<Semaphore>,
    /// Not before this.
    next: Mutex<Option<Instant>>,
}

/// A call's place; dropped, it is free.
#[must_use]
#[derive(Debug)]
pub(super) struct Place {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Pace {
    pub(super) fn new(concurrency: u16) -> Self {
        Self { places: Arc::new(Semaphore::new(concurrency.into())), next: Mutex::default() }
    }

    /// Waits for a place and for the time.
    pub(super) async fn turn(&self, interval: Duration) -> Place {
        // Never closed, so there always is one.
        let _permit = self.places.clone().acquire_owned().await.ok();
        time::sleep_until(self.moment(interval)).await;
        Place { _permit }
    }

    /// The next moment, which is then somebody's.
    fn moment(&self, interval: Duration) -> Instant {
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let at = next.map_or(now, |next| next.max(now));
        *next = Some(at + interval);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_begin_at_the_rate_and_no_more_than_the_places_are_under_way() {
        let (pace, began) = (Pace::new(2), Instant::now());
        let interval = Duration::from_millis(200);
        let first = pace.turn(interval).await;
        let second = pace.turn(interval).await;
        assert_eq!(Instant::now() - began, interval);
        let third = time::timeout(Duration::from_secs(60), pace.turn(interval)).await;
        assert!(third.is_err(), "both places are taken");
        drop((first, second));
        let _third = pace.turn(interval).await;
        let at = Instant::now();
        let _fourth = pace.turn(interval).await;
        assert_eq!(Instant::now() - at, interval, "what was missed is not caught up with");
    }
}
