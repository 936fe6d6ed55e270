//! What a call is thought to take of its upstream, and what it took.
//!
//! Nobody knows before. It is charged what calls like it took of late, and settled by what it took
//! itself: so only the estimate of calls that run is ever wrong, by one call each.

use std::cell::Cell;
use tollgate_core::{
    estimate::{Estimate, Estimator, Kind, Took},
    usage::Usage,
};

/// By what an upstream is shared out among classes and tenants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// Each call counts as one.
    #[default]
    Calls,
    /// By milliseconds that a place is held.
    Time,
    /// By tokens read, and twice those written: writing one takes a model longer.
    Tokens,
}

/// What is known of a call before it runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Like {
    /// What makes it alike to others.
    pub kind: Kind,
    /// Tokens that it gives to read, as they are estimated.
    pub input: u64,
    /// Tokens that it lets be written; `None`: as many as there are.
    pub output_max: Option<u64>,
}

/// Before anything was learned: a middling answer's milliseconds, and tokens written.
const FIRST_MS: u64 = 1_000;
const FIRST_OUTPUT: u64 = 500;

#[derive(Debug, Default)]
pub(super) struct Estimates {
    pub(super) share: Share,
    estimator: Estimator,
    /// How many were estimated: of [`UNHELD`] one is held against no deadline.
    asked: Cell<u32>,
}

/// So that what is refused for its kind's sake is tried now and then: refused, it teaches nothing.
const UNHELD: u32 = 8;

impl Estimates {
    pub(super) fn new(share: Share) -> Self {
        Self { share, ..Self::default() }
    }

    /// What it costs, and the nanoseconds to the head of its answer that all like it took of late
    /// at least; 0 where nobody knows, and for one of [`UNHELD`].
    pub(super) fn of(&self, like: &Like, now_ns: u64) -> (u64, u64) {
        let estimate = self.estimator.estimate(&like.kind, now_ns / MS_NS);
        let asked = self.asked.get().wrapping_add(1);
        self.asked.set(asked);
        let least_ms = estimate.head_least_ms.filter(|_| !asked.is_multiple_of(UNHELD));
        let service_ns = least_ms.unwrap_or(0).saturating_mul(MS_NS);
        (self.cost(like, &estimate), service_ns)
    }

    fn cost(&self, like: &Like, estimate: &Estimate) -> u64 {
        match self.share {
            Share::Calls => 1,
            Share::Time => estimate.held_ms.unwrap_or(FIRST_MS).max(1),
            Share::Tokens => {
                let output = estimate.output.unwrap_or(FIRST_OUTPUT).max(1);
                let output = output.min(like.output_max.unwrap_or(u64::MAX).max(1));
                weighed(like.input, output)
            }
        }
    }

    /// What a call took in what is shared out; `None`: as it was thought.
    pub(super) fn settled(&self, held_ms: u64, tokens: Option<u64>) -> Option<u64> {
        match self.share {
            Share::Calls => None,
            Share::Time => Some(held_ms),
            Share::Tokens => tokens,
        }
    }

    pub(super) fn learn(&mut self, kind: &Kind, took: &Took, now_ns: u64) {
        self.estimator.learn(kind, took, now_ns / MS_NS);
    }

    /// A cost, where it is in tokens.
    pub(super) fn tokens(&self, cost: u64) -> u64 {
        match self.share {
            Share::Tokens => cost,
            Share::Calls | Share::Time => 0,
        }
    }
}

pub(super) const MS_NS: u64 = 1_000_000;

fn weighed(read: u64, written: u64) -> u64 {
    read.saturating_add(written.saturating_mul(2))
}

/// Tokens written, of whatever kind.
pub(super) fn output(usage: &Usage) -> u64 {
    let Usage { output, reasoning, audio_output, .. } = *usage;
    sum(&[output, reasoning, audio_output])
}

/// What a call took in tokens, those written twice; `None` where nobody knows.
pub(super) fn tokens(usage: &Usage) -> Option<u64> {
    let Usage { input, cached_input, cache_write, cache_write_1h, audio_input, .. } = *usage;
    let read = sum(&[input, cached_input, cache_write, cache_write_1h, audio_input]);
    Some(weighed(read, output(usage))).filter(|tokens| 0 < *tokens)
}

fn sum(kinds: &[u64]) -> u64 {
    kinds.iter().fold(0_u64, |sum, kind| sum.saturating_add(*kind))
}

#[cfg(test)]
mod tests {
    use super::{Estimates, FIRST_MS, FIRST_OUTPUT, Like, Share, tokens};
    use tollgate_core::{
        estimate::{Kind, Took},
        usage::Usage,
    };

    const ANN: Kind = Kind { tenant: 1, model: 10, route: 100 };

    fn like(input: u64, output_max: Option<u64>) -> Like {
        Like { kind: ANN, input, output_max }
    }

    #[test]
    fn a_call_is_charged_what_it_reads_and_what_calls_like_it_wrote_but_no_more_than_it_lets() {
        let mut estimates = Estimates::new(Share::Tokens);
        let cost = |estimates: &Estimates, like: &Like| estimates.of(like, 0).0;
        assert_eq!(cost(&estimates, &like(30, None)), 30 + 2 * FIRST_OUTPUT);
        for _ in 0..50 {
            let took = Took { output: Some(200), ..Took::default() };
            estimates.learn(&ANN, &took, 0);
        }
        assert_eq!(cost(&estimates, &like(30, None)), 430);
        assert_eq!(cost(&estimates, &like(30, Some(16))), 62);
        assert_eq!(cost(&estimates, &like(30, Some(0))), 32, "one is written at least");
        assert_eq!(cost(&estimates, &like(30, Some(100_000))), 430);
    }

    #[test]
    fn what_is_shared_out_says_what_a_call_costs() {
        let took = Took { output: Some(200), held_ms: Some(70), head_ms: Some(40) };
        for (share, first, then) in
            [(Share::Calls, 1, 1), (Share::Time, FIRST_MS, 70), (Share::Tokens, 1_000, 400)]
        {
            let mut estimates = Estimates::new(share);
            assert_eq!(estimates.of(&like(0, None), 0), (first, 0), "{share:?}");
            for _ in 0..100 {
                estimates.learn(&ANN, &took, 0);
            }
            let (cost, service_ns) = estimates.of(&like(0, None), 0);
            assert_eq!(cost, then, "{share:?}");
            assert!((38_000_000..=40_000_000).contains(&service_ns), "{service_ns}");
        }
    }

    #[test]
    fn written_tokens_count_twice_and_none_is_not_known() {
        let usage =
            Usage { input: 10, cached_input: 5, output: 3, reasoning: 1, ..Usage::default() };
        assert_eq!(tokens(&usage), Some(23));
        assert_eq!(tokens(&Usage::default()), None);
    }
}
