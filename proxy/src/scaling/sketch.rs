//! The shape of many durations in a bounded number of counts: a sketch that answers any
//! quantile within a stated relative error, and of which two make one by adding.
//!
//! It is DDSketch (Masson, Rim, Lee, VLDB 2019) with its linearly interpolated mapping: each
//! doubling is cut into [`STEPS`] equal steps, so that the place of a duration is a shift and a
//! mask of its nanoseconds, where logarithms would cost more than all the rest. What is told is
//! the harmonic middle of a place, from which neither of its ends is further than
//! 1 / (2 × `STEPS` + 1) of itself.

use std::time::Duration;

/// Steps inside one doubling.
const STEPS: u64 = 32;
const STEPS_BITS: u32 = STEPS.ilog2();
/// The longest duration told apart, in ns (73.3 min); longer ones count as this.
pub(super) const LONGEST_NS: u64 = (1 << 42) - 1;
/// Places: 0 to 31 ns one by one, then 37 doublings up to [`LONGEST_NS`].
pub(super) const PLACES: usize = 1216;

/// Counts of durations, by place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sketch {
    counts: Box<[u64]>,
}

impl Default for Sketch {
    fn default() -> Self {
        Self { counts: vec![0; PLACES].into() }
    }
}

impl Sketch {
    /// How far a quantile may be from the truth, as a part of the truth: 1.6 %, of which 2 % is
    /// promised. (Of durations below 32 ns: half a nanosecond.)
    pub const ERROR_MAX: f64 = 0.016;

    /// One more duration.
    pub fn add(&mut self, duration: Duration) {
        if let Some(count) = self.counts.get_mut(place(duration)) {
            *count += 1;
        }
    }

    /// So many more at `place`; what is beyond the last is nobody's.
    pub(super) fn add_at(&mut self, place: usize, more: u64) {
        if let Some(count) = self.counts.get_mut(place) {
            *count += more;
        }
    }

    /// Becomes what one sketch of the durations of both would be.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// How many durations it has seen.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The duration that `quantile` (0 to 1) of them did not exceed, within
    /// [`Self::ERROR_MAX`]; zero when there were none.
    pub fn quantile(&self, quantile: f64) -> Duration {
        let rank = rank(quantile, self.count());
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= rank {
                return middle(place);
            }
        }
        Duration::ZERO
    }
}

/// The nearest rank: the smallest place in the order that `quantile` of `calls` reach, from 1.
#[expect(
    clippy::float_arithmetic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank among counted calls: `as` saturates and the bounds follow"
)]
pub(super) fn rank(quantile: f64, calls: u64) -> u64 {
    ((quantile * calls as f64).ceil() as u64).clamp(1, calls.max(1))
}

/// Which place counts `duration`: a doubling and one of its equal steps.
pub(super) fn place(duration: Duration) -> usize {
    let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).min(LONGEST_NS);
    let place = if ns < STEPS {
        ns
    } else {
        let octave = ns.ilog2() - STEPS_BITS;
        u64::from(octave + 1) * STEPS + ((ns >> octave) & (STEPS - 1))
    };
    usize::try_from(place).unwrap_or(PLACES - 1)
}

/// The harmonic middle of what `place` counts, 2·a·b / (a + b): the error is the same at both ends.
fn middle(place: usize) -> Duration {
    let place = u64::try_from(place).unwrap_or(0);
    if place < STEPS {
        return Duration::from_nanos(place);
    }
    let octave = place / STEPS - 1;
    let low = (STEPS + place % STEPS) << octave;
    let high = low + (1 << octave);
    let middle = 2 * u128::from(low) * u128::from(high) / u128::from(low + high);
    Duration::from_nanos(u64::try_from(middle).unwrap_or(u64::MAX))
}
