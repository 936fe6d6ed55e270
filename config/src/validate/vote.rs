//! Who may say that an answer is bad.

use crate::{CacheMode, Scope, Trust, VoteOut, defaults, raw::RawVoteOut, review::Review};
use std::num::NonZeroU32;

/// `path`: of the route's cache.
pub(super) fn out(
    review: &mut Review<'_>,
    path: &str,
    raw: RawVoteOut,
    (mode, scope): (CacheMode, Scope),
) -> VoteOut {
    let path = format!("{path}.vote_out");
    if mode == CacheMode::Off {
        review.report(&path, "has no meaning where nothing is cached");
    }
    let is_everybodys = scope == Scope::Shared || mode == CacheMode::Http;
    if is_everybodys && raw.trust.is_none() {
        let message = "is needed where answers are everybody's: name the tenants that may";
        review.report(format!("{path}.trust"), message);
    }
    VoteOut {
        trust: raw.trust.map_or(Trust::Anyone, Trust::Only),
        per_minute: NonZeroU32::new(raw.per_minute.unwrap_or(defaults::VOTES_PER_MINUTE))
            .unwrap_or(NonZeroU32::MIN),
    }
}
