//! When a call is tried again, and how often all of them together.
//!
//! What was not sent may be tried again whatever it asks. What was sent may have been done,
//! though no answer came: so of a reset, and of what a gateway says of a service behind it,
//! only those calls are tried again that may be made twice (RFC 9110 §9.2.2), and others where
//! the operator has written that out.

use http::{Method, Response, StatusCode, header};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;
use tollgate_core::retry_budget::RetryBudget;

/// How long it is waited before an endpoint is asked a second time; twice as long each time
/// after, and less by chance, so that not all come back at once. As Envoy's.
const PAUSE_BASE: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// What a try came to, where it may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Nothing was sent.
    Connect,
    /// It was sent, and no answer began.
    Reset,
    BadGateway,
    Unavailable,
    GatewayTimeout,
}

/// The rule of one upstream, and what was spent of its budget.
#[derive(Debug)]
pub(crate) struct Retries {
    /// How many tries a call has beside its first.
    attempts: u32,
    /// What is tried again whatever the method.
    written: Vec<Cause>,
    epoch: Instant,
    budget: Mutex<RetryBudget>,
    /// In the order of [`Cause::ALL`].
    counts: [AtomicU64; 5],
    over_budget: AtomicU64,
}

/// How many further tries there were.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Retried {
    /// By cause, in the order of [`Cause::ALL`].
    pub(crate) by_cause: [u64; 5],
    /// Those that were not made, because the budget was spent.
    pub(crate) over_budget: u64,
}

impl Cause {
    pub(crate) const ALL: [Self; 5] =
        [Self::Connect, Self::Reset, Self::BadGateway, Self::Unavailable, Self::GatewayTimeout];

    /// As it stands in a label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::BadGateway => "502",
            Self::Unavailable => "503",
            Self::GatewayTimeout => "504",
        }
    }

    /// Of an answer: none where the service says when to come again, for that is not now.
    pub(crate) fn of_answer<B>(answer: &Response<B>) -> Option<Self> {
        if answer.headers().contains_key(header::RETRY_AFTER) {
            return None;
        }
        match answer.status() {
            StatusCode::BAD_GATEWAY => Some(Self::BadGateway),
            StatusCode::SERVICE_UNAVAILABLE => Some(Self::Unavailable),
            StatusCode::GATEWAY_TIMEOUT => Some(Self::GatewayTimeout),
            _ => None,
        }
    }

    fn place(self) -> usize {
        match self {
            Self::Connect => 0,
            Self::Reset => 1,
            Self::BadGateway => 2,
            Self::Unavailable => 3,
            Self::GatewayTimeout => 4,
        }
    }
}

impl Retries {
    pub(crate) fn new(attempts: u32, written: Vec<Cause>, budget_ppm: u32) -> Self {
        Self {
            attempts,
            written,
            epoch: Instant::now(),
            budget: Mutex::new(RetryBudget::new(budget_ppm)),
            counts: Default::default(),
            over_budget: AtomicU64::new(0),
        }
    }

    /// How many tries a call has beside its first.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether anything that was sent may be sent again: then a copy is to be kept.
    pub(crate) fn sends_again(&self, method: &Method) -> bool {
        Cause::ALL.into_iter().any(|cause| cause != Cause::Connect && self.covers(cause, method))
    }

    /// Whether a try that came to this may be made again.
    pub(crate) fn covers(&self, cause: Cause, method: &Method) -> bool {
        let is_written = self.written.contains(&cause);
        is_written || (cause != Cause::Connect && may_be_made_twice(method))
    }

    /// A call has its first try.
    pub(crate) fn began(&self) {
        self.budget(|budget, now_ms| budget.call(now_ms));
    }

    /// Whether there may be one more try, which is counted then.
    pub(crate) fn spend(&self, cause: Cause) -> bool {
        let may = self.budget(RetryBudget::retry);
        let count = if may { self.counts.get(cause.place()) } else { Some(&self.over_budget) };
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        may
    }

    /// How long to wait before the same endpoint is asked for the `nth` time more; `chance` in
    /// thousandths.
    pub(crate) fn pause(nth: u32, chance: u32) -> Duration {
        let longest = PAUSE_BASE.saturating_mul(1 << nth.min(8)).min(PAUSE_MAX);
        longest.saturating_mul(chance.min(1000)) / 1000
    }

    pub(crate) fn counts(&self) -> Retried {
        let mut by_cause = [0; 5];
        for (seen, count) in by_cause.iter_mut().zip(&self.counts) {
            *seen = count.load(Ordering::Relaxed);
        }
        Retried { by_cause, over_budget: self.over_budget.load(Ordering::Relaxed) }
    }

    fn budget<R>(&self, with: impl FnOnce(&mut RetryBudget, u64) -> R) -> R {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let since = Instant::now().saturating_duration_since(self.epoch);
        with(&mut budget, u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// RFC 9110 §9.2.2, and QUERY, which is safe.
pub(crate) fn may_be_made_twice(method: &Method) -> bool {
    method.is_idempotent() || method.as_str() == "QUERY"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_sent_again_only_where_that_is_harmless_or_written_out() {
        let plain = Retries::new(2, vec![Cause::Connect], 0);
        assert!(plain.covers(Cause::Connect, &Method::POST));
        assert!(!plain.covers(Cause::Reset, &Method::POST) && !plain.sends_again(&Method::POST));
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::HEAD] {
            assert!(
                plain.covers(Cause::Reset, &method) && plain.covers(Cause::Unavailable, &method)
            );
        }
        let written = Retries::new(2, vec![Cause::Unavailable], 0);
        assert!(written.covers(Cause::Unavailable, &Method::POST));
        assert!(!written.covers(Cause::Reset, &Method::POST));
        assert!(!written.covers(Cause::Connect, &Method::GET), "it is not written");
    }

    #[test]
    fn a_pause_doubles_and_ends() {
        let all: Vec<u128> = (0..6).map(|nth| Retries::pause(nth, 1000).as_millis()).collect();
        assert_eq!(all, [25, 50, 100, 200, 250, 250]);
        assert_eq!(Retries::pause(3, 0), Duration::ZERO);
    }

    #[test]
    fn a_service_that_says_when_to_come_again_is_believed() {
        let answer = |fields: &[(&str, &str)]| {
            let mut answer = Response::builder().status(503);
            for (name, value) in fields {
                answer = answer.header(*name, *value);
            }
            answer.body(()).unwrap()
        };
        assert_eq!(Cause::of_answer(&answer(&[])), Some(Cause::Unavailable));
        assert_eq!(Cause::of_answer(&answer(&[("retry-after", "5")])), None);
    }
}
