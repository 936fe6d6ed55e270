//! What is done about an upstream that fails: tries that are made again, endpoints that are
//! left alone, another upstream in its place.

use crate::{
    BreakerRule, Fallback, Retries, RetryCause, Upstream, UpstreamId, defaults,
    problem::{member, quoted},
    raw::{RawBreaker, RawFallback, RawFallbackTo, RawRetries, RawRetryCause, RawRetryWord},
    review::Review,
};
use std::num::NonZeroU32;

/// All of the calls.
const WHOLE_PPM: u32 = 1_000_000;

/// No provider has longer names.
const MODEL_BYTES_MAX: usize = 256;

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

pub(super) fn fallback(
    review: &mut Review<'_>,
    path: &str,
    raw: RawFallback,
    names: &[String],
) -> Option<Fallback> {
    let (path, name, model) = match raw {
        RawFallback::Name(name) => (path.to_owned(), name, None),
        RawFallback::To(RawFallbackTo { upstream, model }) => {
            (format!("{path}.upstream"), upstream?, model)
        }
    };
    if model.as_ref().is_some_and(|model| !(1..=MODEL_BYTES_MAX).contains(&model.len())) {
        let path = path.trim_end_matches(".upstream");
        review.report(format!("{path}.model"), format!("must have 1 to {MODEL_BYTES_MAX} bytes"));
    }
    let place = names.iter().position(|known| *known == name);
    if place.is_none() {
        let message =
            format!("no such upstream: {}; there are {}", quoted(&name), names.join(", "));
        review.report(path, message);
    }
    Some(Fallback { upstream: UpstreamId::new(place?), model })
}

/// A call that went on for ever would be refused by nobody.
pub(super) fn no_circles(review: &mut Review<'_>, upstreams: &[Upstream]) {
    for first in upstreams {
        let next = |at: &Upstream| upstreams.get(at.fallback.as_ref()?.upstream.place());
        let mut chain = std::iter::successors(next(first), |at| next(at)).take(upstreams.len());
        if chain.any(|at| at.id == first.id) {
            let path = format!("{}.fallback", member("upstreams", &first.name));
            review.report(path, "leads back to this upstream");
        }
    }
}
