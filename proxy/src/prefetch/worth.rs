//! Whether asking ahead pays: the share of what was asked ahead that somebody wanted. Where that is
//! too small it stops, and tries again with a few later, each time later.

use std::collections::VecDeque;

/// The last so many decide.
const WINDOW: usize = 50;
/// Fewer prove nothing; and a try is of so many.
const TRIAL: usize = 20;
/// How long nothing is asked ahead after it did not pay, at first and at most.
const PAUSE_MIN_MS: u64 = 10 * 60 * 1000;
const PAUSE_MAX_MS: u64 = 4 * 60 * 60 * 1000;
const PPM: u64 = 1_000_000;

#[derive(Debug)]
pub(super) struct Worth {
    precision_min_ppm: u32,
    /// Of the last ones: whether each was wanted.
    recent: VecDeque<bool>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Pays,
    Stopped { until_ms: u64, pause_ms: u64 },
    Tries { begun: usize, pause_ms: u64 },
}

/// What has changed, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    /// For so long.
    Off {
        pause_ms: u64,
    },
    On,
}

impl Worth {
    pub(super) fn new(precision_min_ppm: u32) -> Self {
        Self { precision_min_ppm, recent: VecDeque::new(), phase: Phase::Pays }
    }

    /// Whether one more may be asked ahead.
    pub(super) fn may_begin(&self, now_ms: u64) -> bool {
        match self.phase {
            Phase::Pays => true,
            Phase::Stopped { until_ms, .. } => now_ms >= until_ms,
            Phase::Tries { begun, .. } => begun < TRIAL,
        }
    }

    pub(super) fn begin(&mut self) {
        self.phase = match self.phase {
            Phase::Pays => Phase::Pays,
            Phase::Stopped { pause_ms, .. } => {
                self.recent.clear();
                Phase::Tries { begun: 1, pause_ms }
            }
            Phase::Tries { begun, pause_ms } => Phase::Tries { begun: begun + 1, pause_ms },
        };
    }

    /// It turned out not to be needed, so it proves nothing.
    pub(super) fn take_back(&mut self) {
        if let Phase::Tries { begun, .. } = &mut self.phase {
            *begun = begun.saturating_sub(1);
        }
    }

    /// It was wanted, or not.
    pub(super) fn end(&mut self, was_wanted: bool, now_ms: u64) -> Option<Turned> {
        if matches!(self.phase, Phase::Stopped { .. }) {
            // Begun before: it has been judged.
            return None;
        }
        if self.recent.len() >= WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(was_wanted);
        if self.recent.len() < TRIAL {
            return None;
        }
        let pays = self.precision_ppm() >= u64::from(self.precision_min_ppm);
        match (self.phase, pays) {
            (Phase::Pays, true) | (Phase::Stopped { .. }, _) => None,
            (Phase::Pays, false) => Some(self.stop(PAUSE_MIN_MS, now_ms)),
            (Phase::Tries { pause_ms, .. }, false) => {
                Some(self.stop(pause_ms.saturating_mul(2).min(PAUSE_MAX_MS), now_ms))
            }
            (Phase::Tries { .. }, true) => {
                self.phase = Phase::Pays;
                Some(Turned::On)
            }
        }
    }

    fn stop(&mut self, pause_ms: u64, now_ms: u64) -> Turned {
        self.phase = Phase::Stopped { until_ms: now_ms.saturating_add(pause_ms), pause_ms };
        Turned::Off { pause_ms }
    }

    /// Of the last ones, in millionths; 0 before there are any.
    pub(super) fn precision_ppm(&self) -> u64 {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let wanted = count(self.recent.iter().filter(|was_wanted| **was_wanted).count());
        wanted.saturating_mul(PPM).checked_div(count(self.recent.len())).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks so many ahead of which the first `wanted` are wanted.
    fn run(worth: &mut Worth, n: usize, wanted: usize, now_ms: u64) -> Vec<Turned> {
        let one = |place: usize| {
            assert!(worth.may_begin(now_ms), "{place}");
            worth.begin();
            worth.end(place < wanted, now_ms)
        };
        (0..n).filter_map(one).collect()
    }

    #[test]
    fn what_does_not_pay_stops_and_tries_again_each_time_later() {
        let mut worth = Worth::new(300_000);
        let off = |pause_ms| vec![Turned::Off { pause_ms }];
        assert_eq!(run(&mut worth, TRIAL, 5, 0), off(PAUSE_MIN_MS));
        assert_eq!(worth.precision_ppm(), 250_000);
        assert!(!worth.may_begin(PAUSE_MIN_MS - 1));
        assert_eq!(run(&mut worth, TRIAL, 0, PAUSE_MIN_MS), off(2 * PAUSE_MIN_MS));
        let mut now_ms = PAUSE_MIN_MS;
        for _ in 0..10 {
            now_ms += PAUSE_MAX_MS;
            run(&mut worth, TRIAL, 0, now_ms);
        }
        assert_eq!(run(&mut worth, TRIAL, 0, now_ms + PAUSE_MAX_MS), off(PAUSE_MAX_MS));
        now_ms += 2 * PAUSE_MAX_MS;
        assert_eq!(run(&mut worth, TRIAL, 10, now_ms), [Turned::On]);
        assert!(worth.may_begin(now_ms));
    }

    #[test]
    fn a_try_is_of_a_few_until_they_are_judged() {
        let mut worth = Worth::new(300_000);
        run(&mut worth, TRIAL, 0, 0);
        for _ in 0..TRIAL {
            assert!(worth.may_begin(PAUSE_MIN_MS));
            worth.begin();
        }
        assert!(!worth.may_begin(PAUSE_MIN_MS));
        worth.take_back();
        assert!(worth.may_begin(PAUSE_MIN_MS), "one of them was not needed");
    }

    #[test]
    fn the_last_ones_decide() {
        let mut worth = Worth::new(300_000);
        assert_eq!(run(&mut worth, 200, 200, 0), []);
        let off = run(&mut worth, 36, 0, 0);
        assert_eq!(off, [Turned::Off { pause_ms: PAUSE_MIN_MS }], "14 of 50");
    }
}
