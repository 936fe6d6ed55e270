//! What autoscalers read: latency quantiles and the error ratio of the last
//! minute, and the same quantiles under names of the operator's choosing.
//!
//! A histogram of Prometheus answers "how slow since the start"; an autoscaler
//! that reads one unlabelled number from `/metrics` needs "how slow now". So a
//! [`Window`] keeps log-spaced counts in twelve slots of time and forgets the
//! oldest. It is bounded (≤ 44 KiB, a slot's memory is taken on first use),
//! lock-free but for one short lock a slot, and off by at most 2 %. Time is an
//! argument: tests own it.

mod alias;
mod ring;

pub use alias::{Alias, AliasError, Unit};
pub use ring::Ring;

use std::time::Duration;

/// Slots of a [`Window`]: an answer covers the last 11 to 12 twelfths of the span.
const SLOTS: usize = 12;
/// Steps inside one doubling. 32 steps put the middle of a step within 1/64 (1.6 %) of all of it.
const STEPS: u64 = 32;
const STEPS_BITS: u32 = STEPS.ilog2();
/// The longest latency told apart, in µs (71.6 min); longer ones count as this.
const LONGEST_US: u64 = (1 << 32) - 1;
/// Latency places: 0..32 µs one by one, then 27 doublings up to [`LONGEST_US`].
const LATENCIES: usize = 896;
const CALLS: usize = LATENCIES;
const ERRORS: usize = LATENCIES + 1;
const WIDTH: usize = LATENCIES + 2;

const _: () = assert!(SLOTS * WIDTH * size_of::<u32>() < 64 * 1024);

/// Latency quantiles and error ratio of the recent past.
#[derive(Debug)]
pub struct Window {
    ring: Ring,
}

/// The sums of a window at one moment.
#[derive(Debug)]
pub struct Recent {
    counts: Vec<u64>,
}

impl Window {
    /// A window over the last `span` (at least 12 ms).
    pub fn spanning(span: Duration) -> Self {
        let slot_ms = span.as_millis().div_ceil(SLOTS as u128).max(1);
        let slot_ms = u64::try_from(slot_ms).unwrap_or(u64::MAX);
        Self { ring: Ring::new(SLOTS, slot_ms, WIDTH) }
    }

    /// One call that went to the queue or the upstream. `latency` is `None` for
    /// a call that never ran (shed, or gone while it waited): its short life
    /// would make a drowning service look fast.
    pub fn record(&self, now_ms: u64, latency: Option<Duration>, error: bool) {
        let places = [Some(CALLS), error.then_some(ERRORS), latency.map(place)];
        self.ring.add(now_ms, places.into_iter().flatten());
    }

    /// What the window holds at `now_ms`.
    pub fn recent(&self, now_ms: u64) -> Recent {
        Recent { counts: self.ring.sums(now_ms) }
    }
}

impl Recent {
    /// The latency that `quantile` (0 to 1) of the calls did not exceed, within
    /// 2 % (below 32 µs: within 1 µs); zero when there were none.
    pub fn latency(&self, quantile: f64) -> Duration {
        let latencies = self.counts.get(..LATENCIES).unwrap_or_default();
        let rank = rank(quantile, latencies.iter().sum());
        let mut seen = 0;
        for (place, count) in latencies.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= rank {
                return middle(place);
            }
        }
        Duration::ZERO
    }

    /// Failed calls over all calls; 0 when there were none.
    pub fn error_ratio(&self) -> f64 {
        ratio(self.count(ERRORS), self.count(CALLS))
    }

    fn count(&self, place: usize) -> u64 {
        self.counts.get(place).copied().unwrap_or(0)
    }
}

/// `part / whole`; 0 of nothing is 0, never NaN.
#[expect(clippy::float_arithmetic, reason = "a ratio for a gauge, not money")]
pub fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The nearest rank: the smallest place in the order that `quantile` of `calls` reach, from 1.
#[expect(
    clippy::float_arithmetic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank among counted calls: `as` saturates and the bounds follow"
)]
fn rank(quantile: f64, calls: u64) -> u64 {
    ((quantile * calls as f64).ceil() as u64).clamp(1, calls.max(1))
}

/// Which place counts `latency`: an octave and one of its equal steps.
fn place(latency: Duration) -> usize {
    let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).min(LONGEST_US);
    let place = if us < STEPS {
        us
    } else {
        let octave = us.ilog2() - STEPS_BITS;
        u64::from(octave + 1) * STEPS + ((us >> octave) & (STEPS - 1))
    };
    usize::try_from(place).unwrap_or(LATENCIES - 1)
}

/// The middle of what `place` counts.
fn middle(place: usize) -> Duration {
    let place = place as u64;
    let octave = (place / STEPS).saturating_sub(1);
    let low = if place < STEPS { place } else { (STEPS + place % STEPS) << octave };
    let width = 1_u64 << octave;
    Duration::from_nanos(low * 1000 + width * 500)
}

#[cfg(test)]
mod tests;
