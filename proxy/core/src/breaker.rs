//! Leaves alone what fails again and again, and finds out with one call when it answers again.
//!
//! ```text
//!            so many failures in a row             open_for has passed
//!   closed ───────────────────────────▶ open ─────────────────────────▶ probing
//!     ▲                                  ▲                                 │ │
//!     │            it answered           │           it failed             │ │
//!     └──────────────────────────────────┼─────────────────────────────────┘ │
//!                                        └───────────────────────────────────┘
//! ```
//!
//! Failures in a row, and not a share of a window: a model server answers a call in half a
//! minute, and a window long enough to hold some calls is longer than an outage. One probe,
//! because what just came back is the last thing to be given everything at once.
//!
//! Every call carries a [`Pass`] of the time it was begun in. What a call says that was begun
//! before the state changed is not heard: an old time-out says nothing about now.
//!
//! Time is an argument: nanoseconds since any fixed moment.

use std::num::NonZeroU32;

/// When it opens and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerRules {
    /// So many failures in a row open it.
    pub failures_max: NonZeroU32,
    /// How long nothing is sent then.
    pub open_ns: u64,
}

/// How one endpoint's calls have gone of late, and whether there may be more.
#[derive(Clone, Copy, Debug)]
pub struct Breaker {
    rules: BreakerRules,
    state: State,
    /// Counts the changes of state: the calls of one state are told from those of another.
    generation: u64,
    opened: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until_ns: u64 },
    Probing,
}

/// What may be sent at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Everything.
    Closed,
    /// Nothing before then.
    Open { until_ns: u64 },
    /// One call, which will tell.
    Ready,
    /// Nothing until that one call has told.
    Probing,
}

/// The right to send one call; owed back to [`Breaker::settle`].
#[must_use = "a pass that is not settled may be the only probe there is"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    generation: u64,
    is_probe: bool,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The endpoint answered, whatever it said.
    Answered,
    /// It did not, or said that it cannot.
    Failed,
    /// The call ended for a reason of its caller's.
    Untold,
}

impl Pass {
    /// Whether it is the one call by which it is found out.
    pub fn is_probe(&self) -> bool {
        self.is_probe
    }
}

impl Breaker {
    /// A new one is closed.
    pub fn new(rules: BreakerRules) -> Self {
        Self { rules, state: State::Closed { failures: 0 }, generation: 0, opened: 0 }
    }

    /// What may be sent now.
    pub fn stage(&self, now_ns: u64) -> Stage {
        match self.state {
            State::Closed { .. } => Stage::Closed,
            State::Open { until_ns } if until_ns <= now_ns => Stage::Ready,
            State::Open { until_ns } => Stage::Open { until_ns },
            State::Probing => Stage::Probing,
        }
    }

    /// Lets one call through, if one may go.
    pub fn pass(&mut self, now_ns: u64) -> Option<Pass> {
        let is_probe = match self.stage(now_ns) {
            Stage::Closed => false,
            Stage::Ready => {
                self.enter(State::Probing);
                true
            }
            Stage::Open { .. } | Stage::Probing => return None,
        };
        Some(Pass { generation: self.generation, is_probe })
    }

    /// Hears what became of a call. True: that changed what may be sent.
    pub fn settle(&mut self, pass: Pass, verdict: Verdict, now_ns: u64) -> bool {
        if pass.generation != self.generation {
            return false;
        }
        let next = match (self.state, verdict) {
            (State::Closed { failures }, Verdict::Failed) => {
                let failures = failures.saturating_add(1);
                if failures < self.rules.failures_max.get() {
                    self.state = State::Closed { failures };
                    return false;
                }
                self.open(now_ns)
            }
            (State::Closed { .. }, Verdict::Answered) => {
                self.state = State::Closed { failures: 0 };
                return false;
            }
            (State::Closed { .. }, Verdict::Untold) | (State::Open { .. }, _) => return false,
            (State::Probing, Verdict::Answered) => State::Closed { failures: 0 },
            (State::Probing, Verdict::Failed) => self.open(now_ns),
            // Nothing was found out: the next one may try.
            (State::Probing, Verdict::Untold) => State::Open { until_ns: now_ns },
        };
        self.enter(next);
        true
    }

    /// How often it opened.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    fn open(&mut self, now_ns: u64) -> State {
        self.opened += 1;
        State::Open { until_ns: now_ns.saturating_add(self.rules.open_ns) }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: BreakerRules =
        BreakerRules { failures_max: NonZeroU32::new(3).unwrap(), open_ns: 10 };

    /// One that has just been opened at 0.
    fn opened() -> Breaker {
        let mut breaker = Breaker::new(RULES);
        for nth in 0..3 {
            let pass = breaker.pass(0).unwrap();
            assert_eq!(breaker.settle(pass, Verdict::Failed, 0), nth == 2);
        }
        breaker
    }

    #[test]
    fn an_answer_between_failures_keeps_it_closed() {
        let mut breaker = Breaker::new(RULES);
        for nth in 0..30 {
            let pass = breaker.pass(0).unwrap();
            let verdict = if nth % 3 == 2 { Verdict::Answered } else { Verdict::Failed };
            assert!(!breaker.settle(pass, verdict, 0));
        }
        assert_eq!(breaker.stage(0), Stage::Closed);
    }

    #[test]
    fn nothing_goes_while_it_is_open_and_then_one_call() {
        let mut breaker = opened();
        assert_eq!((breaker.pass(9), breaker.stage(9)), (None, Stage::Open { until_ns: 10 }));
        let probe = breaker.pass(10).unwrap();
        assert!(probe.is_probe());
        assert_eq!((breaker.pass(10), breaker.stage(99)), (None, Stage::Probing));
        assert!(breaker.settle(probe, Verdict::Answered, 11));
        assert!(!breaker.pass(11).unwrap().is_probe());
    }

    #[test]
    fn a_probe_that_fails_opens_it_anew_and_one_that_is_given_up_leaves_its_place() {
        let mut breaker = opened();
        let probe = breaker.pass(10).unwrap();
        assert!(breaker.settle(probe, Verdict::Failed, 15));
        assert_eq!((breaker.stage(24), breaker.opened()), (Stage::Open { until_ns: 25 }, 2));
        let probe = breaker.pass(25).unwrap();
        assert!(breaker.settle(probe, Verdict::Untold, 26));
        assert!(breaker.pass(26).unwrap().is_probe());
    }

    #[test]
    fn what_was_begun_before_it_opened_is_not_heard() {
        let mut breaker = Breaker::new(RULES);
        let old: Vec<Pass> = (0..9).map(|_| breaker.pass(0).unwrap()).collect();
        for pass in &old[..3] {
            let _changed = breaker.settle(*pass, Verdict::Failed, 0);
        }
        assert!(!breaker.settle(old[3], Verdict::Answered, 1));
        assert_eq!(breaker.stage(1), Stage::Open { until_ns: 10 });
        let probe = breaker.pass(10).unwrap();
        assert!(!breaker.settle(old[4], Verdict::Failed, 10));
        assert!(breaker.settle(probe, Verdict::Answered, 10));
        for pass in &old[5..] {
            assert!(!breaker.settle(*pass, Verdict::Failed, 10));
        }
        assert_eq!(breaker.stage(10), Stage::Closed);
    }

    proptest! {
        /// Goal: whatever happens, there is at most one probe, none before its time, and after
        /// the last call has told there is always a way back.
        #[test]
        fn there_is_one_probe_at_most_and_always_a_way_back(
            steps in prop::collection::vec((0_u64..8, 0_usize..4, any::<prop::sample::Index>()), 1..200),
        ) {
            let mut breaker = Breaker::new(RULES);
            let (mut now_ns, mut opened_ns) = (0, 0);
            let mut out: Vec<Pass> = Vec::new();
            for (by_ns, what, which) in steps {
                now_ns += by_ns;
                let verdicts = [Verdict::Answered, Verdict::Failed, Verdict::Untold];
                if what == 3 || out.is_empty() {
                    let was_closed = breaker.stage(now_ns) == Stage::Closed;
                    let pass = breaker.pass(now_ns);
                    prop_assert!(!was_closed || pass.is_some_and(|pass| !pass.is_probe()));
                    if let Some(probe) = pass.filter(Pass::is_probe) {
                        prop_assert!(opened_ns + RULES.open_ns <= now_ns);
                        prop_assert!(out.iter().all(|pass| pass.generation != probe.generation));
                    }
                    out.extend(pass);
                } else {
                    let pass = out.swap_remove(which.index(out.len()));
                    let opened = breaker.opened();
                    let _changed = breaker.settle(pass, verdicts[what], now_ns);
                    if opened < breaker.opened() {
                        opened_ns = now_ns;
                    }
                }
            }
            for pass in out {
                let _changed = breaker.settle(pass, Verdict::Untold, now_ns);
            }
            prop_assert!(breaker.pass(now_ns + RULES.open_ns).is_some());
        }
    }
}
