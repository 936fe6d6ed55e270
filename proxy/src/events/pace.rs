//! How many events are acted upon in a time.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// So much of the rate may come at once.
const BURST: Duration = Duration::from_secs(1);

/// Lets one through each `interval`, and a second's worth at once after a rest.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// When the next is due, if each takes its whole interval.
    due: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, due: Mutex::default() }
    }

    /// Whether it is somebody's turn; if not, after how long.
    pub(super) fn take(&self) -> Result<(), Duration> {
        let now = Instant::now();
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let at = due.map_or(now, |due| due.max(now));
        let ahead = at.saturating_duration_since(now);
        // At least one, however rare they are to be.
        if !ahead.is_zero() && ahead + self.interval > BURST {
            return Err(ahead.saturating_sub(BURST.saturating_sub(self.interval)));
        }
        *due = Some(at + self.interval);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time;

    #[tokio::test(start_paused = true)]
    async fn a_seconds_worth_may_come_at_once_and_then_one_at_a_time() {
        let pace = Pace::new(Duration::from_millis(250));
        for n in 0..4 {
            assert_eq!(pace.take(), Ok(()), "{n}");
        }
        assert_eq!(pace.take(), Err(Duration::from_millis(250)));
        time::advance(Duration::from_millis(250)).await;
        assert_eq!(pace.take(), Ok(()));
        assert!(pace.take().is_err());
        time::advance(Duration::from_secs(60)).await;
        assert_eq!((0..10).filter(|_| pace.take().is_ok()).count(), 4, "a rest is no credit");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_of_less_than_one_a_second_lets_one_through() {
        let pace = Pace::new(Duration::from_secs(60));
        assert_eq!(pace.take(), Ok(()));
        assert_eq!(pace.take(), Err(Duration::from_secs(60)));
        time::advance(Duration::from_secs(60)).await;
        assert_eq!(pace.take(), Ok(()));
    }
}
