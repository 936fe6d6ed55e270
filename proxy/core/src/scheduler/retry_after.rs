//! How long one who is turned away is asked to stay away.
//!
//! By how many are turned away: additive decrease, multiplicative increase, with the numbers
//! of Kubernetes' API Priority and Fairness. At three and more for each second of the time
//! that was named, the time doubles; at fewer than one it is a second less. Judged once for
//! each such time, so that one burst doubles it once. Unlike there, quiet times count, too: who
//! is turned away after a quiet hour is not told what held an hour ago.

/// The shortest time that is named: queues of model servers move on that scale.
const SECONDS_MIN: u64 = 1;

/// The longest: a queue that is full may be empty by then, and nobody would know.
const SECONDS_MAX: u64 = 32;

/// Turned away in a second: so many, and those that come back are too many.
const CROWD: u64 = 3;

const SECOND_NS: u64 = 1_000_000_000;

/// What callers of one class are told to wait, and what it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter {
    seconds: u64,
    /// When the time that is judged next began, in seconds.
    began_s: u64,
    /// Turned away since.
    refused: u64,
}

impl Default for RetryAfter {
    fn default() -> Self {
        Self { seconds: SECONDS_MIN, began_s: 0, refused: 0 }
    }
}

impl RetryAfter {
    /// One is turned away: after how many seconds it should come back, 1 to 32.
    pub fn refuse(&mut self, now_ns: u64) -> u64 {
        self.judge(now_ns / SECOND_NS);
        self.refused = self.refused.saturating_add(1);
        self.seconds
    }

    /// What one would be told now.
    pub fn seconds(mut self, now_ns: u64) -> u64 {
        self.judge(now_ns / SECOND_NS);
        self.seconds
    }

    /// Judges all that has ended. After the first of them nobody was refused, so that it comes to
    /// its shortest in so many steps at most, however long ago that was.
    fn judge(&mut self, now_s: u64) {
        while self.began_s.saturating_add(self.seconds) <= now_s {
            self.began_s += self.seconds;
            let refused = std::mem::take(&mut self.refused);
            if self.seconds.saturating_mul(CROWD) <= refused {
                self.seconds = (self.seconds * 2).min(SECONDS_MAX);
            } else if refused < self.seconds {
                self.seconds = (self.seconds - 1).max(SECONDS_MIN);
            }
            if refused == 0 && self.seconds == SECONDS_MIN {
                // Nothing in between would change it.
                self.began_s = now_s;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{RetryAfter, SECOND_NS, SECONDS_MAX};
    use proptest::prelude::*;

    /// So many are turned away in each of these seconds; what the last of them was told.
    fn told(times: &mut RetryAfter, seconds: std::ops::Range<u64>, each: u64) -> u64 {
        let mut last = 0;
        for second in seconds {
            for nth in 0..each {
                last = times.refuse(second * SECOND_NS + nth);
            }
        }
        last
    }

    #[test]
    fn it_doubles_while_a_crowd_comes_back_and_never_beyond_its_longest() {
        let mut times = RetryAfter::default();
        let after = [(0, 1), (1, 2), (3, 4), (7, 8), (15, 16), (31, 32), (63, 32), (200, 32)];
        let mut from = 0;
        for (second, expected) in after {
            assert_eq!(told(&mut times, from..second + 1, 3), expected, "second {second}");
            from = second + 1;
        }
    }

    #[test]
    fn it_stays_while_some_come_back_and_falls_by_one_once_few_do() {
        let mut times = RetryAfter::default();
        assert_eq!(told(&mut times, 0..8, 3), 8);
        // One and two a second are neither a crowd nor few.
        assert_eq!(told(&mut times, 8..40, 1), 8);
        assert_eq!(told(&mut times, 40..72, 2), 8);
        // Seven in the eight seconds from the 71st on are few.
        assert_eq!(told(&mut times, 72..77, 1), 8);
        assert_eq!(times.seconds(79 * SECOND_NS), 7);
    }

    #[test]
    fn a_quiet_time_is_not_held_against_who_comes_after_it() {
        let mut times = RetryAfter::default();
        assert_eq!(told(&mut times, 0..64, 3), SECONDS_MAX);
        let long_after = 1_000_000 * SECOND_NS;
        assert_eq!(times.seconds(long_after), 1);
        assert_eq!(times.refuse(long_after), 1);
    }

    #[test]
    fn a_burst_doubles_it_once() {
        let mut times = RetryAfter::default();
        assert_eq!(told(&mut times, 0..1, 10_000), 1);
        assert_eq!(told(&mut times, 1..2, 1), 2);
        assert_eq!(times.seconds(3 * SECOND_NS), 1);
    }

    proptest! {
        /// Whatever comes when: between its bounds, at most doubled from one to the next, and
        /// asking changes nothing.
        #[test]
        fn it_stays_between_its_bounds(steps in prop::collection::vec((0_u64..50, 0_u64..200), 1..60)) {
            let (mut times, mut now_s, mut before) = (RetryAfter::default(), 0, 1);
            for (pause_s, refused) in steps {
                now_s += pause_s;
                for _ in 0..refused {
                    let asked = times.seconds(now_s * SECOND_NS);
                    let seconds = times.refuse(now_s * SECOND_NS);
                    prop_assert_eq!(asked, seconds);
                    prop_assert!((1..=SECONDS_MAX).contains(&seconds));
                    prop_assert!(seconds <= before * 2);
                    before = seconds;
                }
            }
        }
    }
}
