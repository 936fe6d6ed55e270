//! When the parts of a replayed stream are due: as they once came, or evenly.
//!
//! Times are counted from the start of the replay and not from one part to the next, so that a
//! caller who reads slowly is not slowed down further. The first part is always due at once: what a
//! cache saves above all is the wait for it.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{self, Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// See the module.
#[derive(Debug)]
pub(crate) struct Pace {
    score: Score,
    began: Instant,
    /// Of the part that is next.
    due: Instant,
    /// Made when there is first something to wait for.
    timer: Option<Pin<Box<Sleep>>>,
    /// From when on all of it is due at once.
    hurry: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

/// Which part of a replay is due when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Score {
    /// So many milliseconds after the start, by the place of the part.
    ByPlace(Box<[u64]>),
    /// By the bytes before the part: all of them take the whole time.
    ByBytes { before: u64, all: u64, whole: Duration },
}

impl Score {
    /// As the parts once came, but no longer than `max` in all: then all gaps shrink alike.
    pub(crate) fn original(gaps_ms: &[u32], max: Duration) -> Self {
        let mut sum = 0_u64;
        let came = gaps_ms.iter().enumerate().map(|(place, gap)| {
            // What was waited before the first is not.
            sum = sum.saturating_add(if place == 0 { 0 } else { u64::from(*gap) });
            sum
        });
        let mut due: Box<[u64]> = came.collect();
        let max = u64::try_from(max.as_millis()).unwrap_or(u64::MAX);
        if sum > max {
            for at in &mut due {
                *at = part_of(*at, sum, max);
            }
        }
        Self::ByPlace(due)
    }

    /// So many tokens a second, `tokens` in `bytes` all told; no longer than `max`.
    pub(crate) fn even(tokens: u64, per_second: u32, bytes: u64, max: Duration) -> Self {
        let whole_ms = tokens.saturating_mul(1000) / u64::from(per_second.max(1));
        Self::ByBytes { before: 0, all: bytes, whole: Duration::from_millis(whole_ms).min(max) }
    }

    /// How long after the start the next part is due, which is so long.
    fn next(&mut self, place: usize, len: u64) -> Duration {
        match self {
            Self::ByPlace(due) => {
                let last = due.last().copied().unwrap_or(0);
                Duration::from_millis(due.get(place).copied().unwrap_or(last))
            }
            Self::ByBytes { before, all, whole } => {
                let whole_us = u64::try_from(whole.as_micros()).unwrap_or(u64::MAX);
                let due = Duration::from_micros(part_of(*before, *all, whole_us));
                *before = before.saturating_add(len);
                due
            }
        }
    }
}

/// `part` of `all`, of `whole`; never more than that.
fn part_of(part: u64, all: u64, whole: u64) -> u64 {
    let product = u128::from(part.min(all)) * u128::from(whole);
    product.checked_div(u128::from(all)).and_then(|of| u64::try_from(of).ok()).unwrap_or(0)
}

impl Pace {
    /// The replay begins.
    pub(crate) fn new(score: Score) -> Self {
        let began = Instant::now();
        Self { score, began, due: began, timer: None, hurry: None }
    }

    /// Once `leave` is told, all of it is due at once: whoever goes down soon would cut it.
    pub(super) fn hurry_at(&mut self, leave: &CancellationToken) {
        self.hurry = Some(Box::pin(leave.clone().cancelled_owned()));
    }

    /// The part at `place` is next.
    pub(super) fn take(&mut self, place: usize, len: usize) {
        let after = self.score.next(place, crate::body::len_u64(len));
        self.due = self.began + after;
    }

    /// Whether the next part is due.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.due <= Instant::now() {
            return Poll::Ready(());
        }
        if self.hurry.as_mut().is_some_and(|hurry| hurry.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(());
        }
        let due = self.due;
        let timer = self.timer.get_or_insert_with(|| Box::pin(time::sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx)
    }
}
