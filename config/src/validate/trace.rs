//! The key trace.

use crate::{KeyTrace, raw_trace::RawTrace, review::Review};

/// About two million calls.
const BYTES: u64 = 64 << 20;
/// Two files of some thousand calls each.
const BYTES_MIN: u64 = 1 << 20;
const BYTES_MAX: u64 = 16 << 30;
/// A whole, in millionths.
const PPM: u32 = 1_000_000;

pub(super) fn trace(review: &mut Review<'_>, raw: Option<&RawTrace>) -> Option<KeyTrace> {
    let raw = raw?;
    let size = "cache.trace.size".to_owned();
    let sample = "cache.trace.sample".to_owned();
    Some(KeyTrace {
        bytes_max: review.size_within(size, raw.size.as_ref(), BYTES, BYTES_MIN..=BYTES_MAX),
        sample_ppm: review.ppm_within(sample, raw.sample.as_ref(), PPM, 1..=PPM),
    })
}
