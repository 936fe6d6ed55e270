//! What a route's cache rule says about answers that are looked after by themselves: what is asked
//! for often, what the upstream is asked again about, and what is learned from that.

use super::prefetch::prefetch;
use crate::{
    Adapt, CacheMode, CachePolicy, Hot, Tier, Upkeep,
    defaults::DURATION_MAX,
    raw::{RawAdapt, RawHot, RawPrefetch, RawShadow},
    review::Review,
    text::show_duration,
};
use std::time::Duration;

/// All of the time apart from a moment: what is renewed at once would be renewed at every hit.
const REFRESH_AHEAD_PPM_MAX: u32 = 990_000;

/// A whole, in millionths.
const PPM: u32 = 1_000_000;

/// The keys of a cache rule that are about this.
pub(super) struct Written {
    pub(super) hot: Option<RawHot>,
    pub(super) shadow: Option<RawShadow>,
    pub(super) adapt: Option<RawAdapt>,
    pub(super) prefetch: Option<RawPrefetch>,
}

/// Of a `policy` that says the rest; nothing where its mode has no use for it.
pub(super) fn upkeep(
    review: &mut Review<'_>,
    path: &str,
    policy: &CachePolicy,
    raw: Written,
) -> Upkeep {
    // With a mode that nobody can read, nothing can be said of what goes with it.
    if !review.is_reported(&format!("{path}.mode")) {
        misplaced(review, path, policy.mode, &raw);
    }
    Upkeep {
        hot: raw.hot.map(|raw| hot(review, &format!("{path}.hot"), policy, &raw)),
        shadow_ppm: raw.shadow.map_or(0, |raw| {
            review.ppm_within(format!("{path}.shadow.share"), raw.share.as_ref(), 0, 1..=PPM)
        }),
        adapt: raw.adapt.map(|raw| adapt(review, &format!("{path}.adapt"), policy, &raw)),
        prefetch: raw.prefetch.map(|raw| prefetch(review, &format!("{path}.prefetch"), raw)),
    }
}

fn misplaced(review: &mut Review<'_>, path: &str, mode: CacheMode, raw: &Written) {
    let why = match mode {
        CacheMode::Http => "where the answer's headers decide",
        CacheMode::Off => "which keeps nothing",
        CacheMode::Auto | CacheMode::Content => return,
    };
    let written = [
        ("hot", raw.hot.is_some()),
        ("shadow", raw.shadow.is_some()),
        ("adapt", raw.adapt.is_some()),
        ("prefetch", raw.prefetch.is_some()),
    ];
    for (key, _) in written.iter().filter(|(_, is_written)| *is_written) {
        let message = format!("has no meaning in mode {}, {why}", mode.name());
        review.report(format!("{path}.{key}"), message);
    }
}

fn hot(review: &mut Review<'_>, path: &str, policy: &CachePolicy, raw: &RawHot) -> Hot {
    let (extend_path, ahead_path) = (format!("{path}.extend"), format!("{path}.refresh_ahead"));
    let range = Duration::ZERO..=policy.ttl;
    if raw.extend.is_none() && raw.refresh_ahead.is_none() && !review.is_reported(path) {
        review.report(path, "must say extend, refresh_ahead or both");
    }
    needs_memory(review, path, policy, "hits are counted there");
    let extend =
        review.duration_within(extend_path.clone(), raw.extend.as_ref(), Duration::ZERO, range);
    let ahead = raw.refresh_ahead.as_ref();
    let refresh_ahead_ppm = review.ppm_within(ahead_path, ahead, 0, 0..=REFRESH_AHEAD_PPM_MAX);
    if policy.lifetime.rules.iter().any(|rule| !rule.ttl.is_zero() && rule.ttl < extend) {
        let length = show_duration(extend);
        let message = format!(
            "less than {length} where a rule of ttl_rules says less: the time \
            of an answer is at most doubled"
        );
        review.advise(extend_path, message);
    }
    Hot { hits: raw.hits.unwrap_or(1), extend, refresh_ahead_ppm }
}

fn adapt(review: &mut Review<'_>, path: &str, policy: &CachePolicy, raw: &RawAdapt) -> Adapt {
    needs_memory(review, path, policy, "what was kept is compared there with what came");
    let (min, max) = (Duration::from_millis(1)..=policy.ttl, policy.ttl..=DURATION_MAX);
    let (min_path, max_path) = (format!("{path}.min"), format!("{path}.max"));
    Adapt {
        min: review.duration_within(min_path, raw.min.as_ref(), policy.ttl, min),
        max: review.duration_within(max_path, raw.max.as_ref(), policy.ttl, max),
    }
}

fn needs_memory(review: &mut Review<'_>, path: &str, policy: &CachePolicy, why: &str) {
    if !policy.tiers.iter().any(|used| used.tier == Tier::Memory) {
        review.report(path, format!("needs memory among the tiers: {why}"));
    }
}
