//! What is done about an upstream that fails: tries that are made again, endpoints that are
//! left alone.

use crate::{
    BreakerRule, Retries, RetryCause, defaults,
    raw::{RawBreaker, RawRetries, RawRetryCause, RawRetryWord},
    review::Review,
};
use std::num::NonZeroU32;

/// All of the calls.
const WHOLE_PPM: u32 = 1_000_000;

pub(super) fn retries(review: &mut Review<'_>, path: &str, raw: RawRetries) -> Retries {
    let mut causes = Vec::new();
    for raw in raw.causes.unwrap_or_else(|| vec![RawRetryCause::Word(RawRetryWord::Connect)]) {
        let cause = cause(raw);
        if causes.contains(&cause) {
            review.report(format!("{path}.for"), format!("{} appears twice", cause.name()));
        } else {
            causes.push(cause);
        }
    }
    Retries {
        attempts: raw.attempts.unwrap_or(defaults::RETRY_ATTEMPTS),
        causes,
        budget_ppm: review.ppm_within(
            format!("{path}.budget"),
            raw.budget.as_ref(),
            defaults::RETRY_BUDGET_PPM,
            0..=WHOLE_PPM,
        ),
    }
}

fn cause(raw: RawRetryCause) -> RetryCause {
    match raw {
        RawRetryCause::Word(RawRetryWord::Connect) => RetryCause::Connect,
        RawRetryCause::Word(RawRetryWord::Reset) => RetryCause::Reset,
        RawRetryCause::Status(502) => RetryCause::BadGateway,
        RawRetryCause::Status(503) => RetryCause::Unavailable,
        // The schema takes these three only.
        RawRetryCause::Status(_) => RetryCause::GatewayTimeout,
    }
}

pub(super) fn breaker(review: &mut Review<'_>, path: &str, raw: &RawBreaker) -> BreakerRule {
    let failures = raw.consecutive_failures.and_then(NonZeroU32::new);
    BreakerRule {
        failures_max: failures.unwrap_or(defaults::BREAKER_FAILURES),
        open_for: review.duration(
            format!("{path}.open_for"),
            raw.open_for.as_ref(),
            defaults::BREAKER_OPEN,
        ),
    }
}
