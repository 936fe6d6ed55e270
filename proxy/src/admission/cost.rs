//! What a call is thought to take of its upstream, and what it took.
//!
//! Nobody knows before. It is charged what calls of its class took of late, and settled by
//! what it took itself: so only the estimate of calls that run is ever wrong, by one call each.

use tollgate_core::{class::ClassId, usage::Usage};

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

/// Before anything was learned: a middling answer, of both milliseconds and tokens.
const FIRST: u64 = 1_000;

/// A mean moves by this part of what is new.
const PART: u64 = 8;

#[derive(Debug, Default)]
pub(super) struct Estimates {
    pub(super) share: Share,
    /// By class: a running mean, times [`PART`].
    means: Vec<u64>,
}

impl Estimates {
    pub(super) fn new(share: Share) -> Self {
        Self { share, means: Vec::new() }
    }

    pub(super) fn of(&self, class: ClassId) -> u64 {
        match self.share {
            Share::Calls => 1,
            Share::Time | Share::Tokens => {
                self.means.get(class.place()).map_or(FIRST, |mean| (mean / PART).max(1))
            }
        }
    }

    pub(super) fn learn(&mut self, class: ClassId, cost: u64) {
        // One answer of a billion tokens must not set the price of all others.
        let cost = cost.min(1 << 32);
        let place = class.place();
        if self.means.len() <= place {
            self.means.resize(place + 1, FIRST * PART);
        }
        if let Some(mean) = self.means.get_mut(place) {
            *mean = *mean - *mean / PART + cost;
        }
    }
}

/// What an answer took, in tokens; `None` where nobody counted.
pub(super) fn tokens(usage: &Usage) -> Option<u64> {
    let Usage { input, cached_input, cache_write, cache_write_1h, audio_input, .. } = *usage;
    let Usage { output, reasoning, audio_output, .. } = *usage;
    let sum = |kinds: &[u64]| kinds.iter().fold(0_u64, |sum, kind| sum.saturating_add(*kind));
    let read = sum(&[input, cached_input, cache_write, cache_write_1h, audio_input]);
    let written = sum(&[output, reasoning, audio_output]);
    Some(read.saturating_add(written.saturating_mul(2))).filter(|tokens| 0 < *tokens)
}

#[cfg(test)]
mod tests {
    use super::{Estimates, FIRST, Share, tokens};
    use tollgate_core::{class::ClassId, usage::Usage};

    #[test]
    fn a_class_is_charged_what_its_calls_took_of_late() {
        let (batch, other) = (ClassId::new(3).unwrap(), ClassId::new(1).unwrap());
        let mut estimates = Estimates::new(Share::Tokens);
        assert_eq!(estimates.of(batch), FIRST);
        for _ in 0..100 {
            estimates.learn(batch, 50);
        }
        assert!((50..=58).contains(&estimates.of(batch)), "{}", estimates.of(batch));
        assert_eq!(estimates.of(other), FIRST);
        assert_eq!(Estimates::new(Share::Calls).of(batch), 1);
    }

    #[test]
    fn written_tokens_count_twice_and_none_is_not_known() {
        let usage =
            Usage { input: 10, cached_input: 5, output: 3, reasoning: 1, ..Usage::default() };
        assert_eq!(tokens(&usage), Some(23));
        assert_eq!(tokens(&Usage::default()), None);
    }
}
