//! What a route's cache rule says about answers past their time.

use crate::{
    CacheMode, Stale, defaults::DURATION_MAX, raw::RawStale, review::Review, text::DurationText,
};
use std::time::Duration;

/// None where `mode` keeps nothing.
pub(super) fn stale(
    review: &mut Review<'_>,
    path: &str,
    mode: CacheMode,
    raw: Option<RawStale>,
) -> Stale {
    let (path, mode_path) = (format!("{path}.stale"), &format!("{path}.mode"));
    // With a mode that nobody can read, nothing can be said of what goes with it.
    let is_off = mode == CacheMode::Off && !review.is_reported(mode_path);
    if is_off && raw.is_some() {
        review.report(&path, "has no meaning in mode off, which keeps nothing");
    }
    let raw = raw.unwrap_or_default();
    let mut time = |key: &str, raw: Option<&DurationText>| {
        let range = Duration::ZERO..=DURATION_MAX;
        review.duration_within(format!("{path}.{key}"), raw, Duration::ZERO, range)
    };
    Stale {
        while_revalidate: time("while_revalidate", raw.while_revalidate.as_ref()),
        if_error: time("if_error", raw.if_error.as_ref()),
        degrade: time("degrade", raw.degrade.as_ref()),
    }
}
