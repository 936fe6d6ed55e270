//! What autoscalers read: latency quantiles and the error ratio of the last
//! minute, and the same quantiles under names of the operator's choosing.
//!
//! A histogram of Prometheus answers "how slow since the start"; an autoscaler
//! that reads one unlabelled number from `/metrics` needs "how slow now". So a
//! [`Window`] keeps a [`Sketch`] in each of twelve slots of time and forgets the
//! oldest; its answer is the slots merged. It is bounded (≤ 58 KiB, a slot's memory
//! is taken on first use), lock-free but for one short lock a slot, and off by at
//! most 2 %. Time is an argument: tests own it.

mod alias;
mod ring;
mod sketch;

pub use alias::{Alias, AliasError, Unit};
pub use ring::Ring;
pub use sketch::Sketch;

use sketch::{PLACES, place};
use std::time::Duration;

/// Slots of a [`Window`]: an answer covers the last 11 to 12 twelfths of the span.
const SLOTS: usize = 12;
/// Behind the places of the sketch.
const CALLS: usize = PLACES;
const ERRORS: usize = PLACES + 1;
const WIDTH: usize = PLACES + 2;

const _: () = assert!(SLOTS * WIDTH * size_of::<u32>() < 64 * 1024);

/// Latency quantiles and error ratio of the recent past.
#[derive(Debug)]
pub struct Window {
    ring: Ring,
}

/// A window at one moment.
#[derive(Debug)]
pub struct Recent {
    latencies: Sketch,
    calls: u64,
    errors: u64,
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
        let sums = self.ring.sums(now_ms);
        let at = |place: usize| sums.get(place).copied().unwrap_or(0);
        let mut latencies = Sketch::default();
        for (place, count) in sums.iter().take(PLACES).enumerate() {
            latencies.add_at(place, *count);
        }
        Recent { latencies, calls: at(CALLS), errors: at(ERRORS) }
    }
}

impl Recent {
    /// The latency that `quantile` (0 to 1) of the calls did not exceed, within
    /// 2 %; zero when there were none.
    pub fn latency(&self, quantile: f64) -> Duration {
        self.latencies.quantile(quantile)
    }

    /// Failed calls over all calls, both counted exactly; 0 when there were none.
    pub fn error_ratio(&self) -> f64 {
        ratio(self.errors, self.calls)
    }
}

/// `part / whole`; 0 of nothing is 0, never NaN.
#[expect(clippy::float_arithmetic, reason = "a ratio for a gauge, not money")]
pub fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests;
