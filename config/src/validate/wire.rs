//! `routes[].cache.encodings` and `pacing`: how stored answers go out.

use crate::{
    CacheMode, Coding, Encodings, Pacing, defaults,
    raw::{
        RawCoding, RawEncodings, RawEncodingsRule, RawEncodingsWord, RawPacing, RawPacingRule,
        RawPacingWord,
    },
    review::Review,
};
use std::{num::NonZeroU32, time::Duration};

/// Below, a coded answer is longer than it was; above, it is no cache's entry.
const BYTES_MIN: std::ops::RangeInclusive<u64> = 64..=16 * 1024 * 1024;

/// `None`: stored answers go out as they are kept.
pub(super) fn encodings(
    review: &mut Review<'_>,
    path: &str,
    raw: Option<RawEncodingsRule>,
    mode: CacheMode,
) -> Option<Encodings> {
    let raw = match raw? {
        RawEncodingsRule::Bool(false) | RawEncodingsRule::Word(RawEncodingsWord::Off) => {
            return None;
        }
        RawEncodingsRule::Bool(true) => {
            review.report(path, "must be off, auto or a list of zstd, br and gzip, not true");
            return None;
        }
        RawEncodingsRule::Word(RawEncodingsWord::Auto) => RawEncodings::default(),
        RawEncodingsRule::Offer(offer) => {
            if offer.is_empty() {
                review.report(path, "must name a coding; or off");
            }
            RawEncodings { offer: Some(offer), min: None }
        }
        RawEncodingsRule::With(with) => with,
    };
    if mode == CacheMode::Off {
        review.report(path, "has no meaning where nothing is cached");
    }
    let mut codings = Vec::new();
    let all = || vec![RawCoding::Zstd, RawCoding::Br, RawCoding::Gzip];
    for raw in raw.offer.unwrap_or_else(all) {
        let coding = match raw {
            RawCoding::Zstd => Coding::Zstd,
            RawCoding::Br => Coding::Br,
            RawCoding::Gzip => Coding::Gzip,
        };
        if codings.contains(&coding) {
            review.report(path, format!("{} appears twice", coding.name()));
        }
        codings.push(coding);
    }
    let (min, default) = (raw.min.as_ref(), defaults::ENCODED_BYTES_MIN);
    let bytes_min = review.size_within(format!("{path}.min"), min, default, BYTES_MIN);
    Some(Encodings { codings, bytes_min })
}

/// Longer than any caller waits for an answer.
const PACED_MAX: Duration = Duration::from_secs(600);

/// `None`: stored streams are given at once.
pub(super) fn pacing(
    review: &mut Review<'_>,
    path: &str,
    raw: Option<RawPacingRule>,
    mode: CacheMode,
) -> Option<Pacing> {
    let raw = match raw? {
        RawPacingRule::Word(RawPacingWord::None) => return None,
        RawPacingRule::Word(RawPacingWord::Original) => RawPacing::default(),
        RawPacingRule::With(with) => with,
    };
    if matches!(mode, CacheMode::Http | CacheMode::Off) {
        let message = format!("has no meaning in mode {}, which keeps no streams", mode.name());
        review.report(path, message);
    }
    let range = Duration::from_millis(10)..=PACED_MAX;
    let (max, default) = (raw.max.as_ref(), defaults::PACED_MAX);
    let max = review.duration_within(format!("{path}.max"), max, default, range);
    Some(Pacing { tokens_per_second: raw.tokens_per_second.and_then(NonZeroU32::new), max })
}
