//! How many calls an upstream gets at one time, and how they share it.

use crate::{
    Adaptive, Share,
    problem::quoted,
    raw::{RawAdaptive, RawConcurrency, RawShare},
    review::Review,
};
use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64},
};

/// As many tenants as a scheduler tells apart may have a weight of their own.
const WEIGHTS_MAX: usize = 4096;

/// A tenant that counts more than this many others has a class of its own instead.
const WEIGHT_MAX: u32 = 1_000;

#[derive(Default)]
pub(super) struct Concurrency {
    pub(super) limit: Option<NonZeroU32>,
    pub(super) adaptive: Option<Adaptive>,
    pub(super) tenant_weights: BTreeMap<String, u32>,
    pub(super) queue_max: Option<usize>,
    pub(super) reserve: u32,
    pub(super) preempt_per_s: u32,
    pub(super) share: Share,
    pub(super) tokens_max: Option<NonZeroU64>,
}

pub(super) fn concurrency(
    review: &mut Review<'_>,
    path: &str,
    raw: Option<RawConcurrency>,
) -> Concurrency {
    let Some(raw) = raw else { return Concurrency::default() };
    match (raw.limit, &raw.adaptive) {
        (None, None) if !review.is_reported(path) => {
            review.report(format!("{path}.limit"), "missing; or say adaptive");
        }
        (Some(_), Some(_)) => {
            review.report(format!("{path}.adaptive"), "takes the place of limit; say one of them");
        }
        _ => {}
    }
    let adaptive = raw.adaptive.and_then(|raw| adaptive(review, &format!("{path}.adaptive"), &raw));
    // The limit itself, or what it may come down to.
    let least = raw.limit.or(adaptive.map(|range| range.min.get()));
    if let (Some(least), Some(reserve)) = (least, raw.reserve)
        && least <= reserve
    {
        let which = if raw.limit.is_some() { "limit" } else { "adaptive.min" };
        let message = format!("must be less than {which}, {least}, or no other class ever runs");
        review.report(format!("{path}.reserve"), message);
    }
    let share = match raw.share {
        Some(RawShare::Time) => Share::Time,
        Some(RawShare::Tokens) => Share::Tokens,
        Some(RawShare::Calls) | None => Share::Calls,
    };
    if raw.tokens.is_some() && share != Share::Tokens {
        review.report(format!("{path}.tokens"), "needs share: tokens, or nobody counts them");
    }
    Concurrency {
        limit: raw.limit.and_then(NonZeroU32::new),
        adaptive,
        tenant_weights: weights(review, &format!("{path}.weights"), raw.weights),
        queue_max: raw.queue.and_then(|queue| usize::try_from(queue).ok()),
        reserve: raw.reserve.unwrap_or(0),
        preempt_per_s: raw.preempt.unwrap_or(0),
        share,
        tokens_max: raw.tokens.and_then(NonZeroU64::new),
    }
}

fn adaptive(review: &mut Review<'_>, path: &str, raw: &RawAdaptive) -> Option<Adaptive> {
    let min = NonZeroU32::new(raw.min.unwrap_or(1))?;
    let max = NonZeroU32::new(raw.max?)?;
    if max < min {
        review.report(format!("{path}.max"), format!("must not be less than min, {min}"));
        return None;
    }
    Some(Adaptive { min, max })
}

fn weights(
    review: &mut Review<'_>,
    path: &str,
    raw: Option<BTreeMap<String, u32>>,
) -> BTreeMap<String, u32> {
    let weights = raw.unwrap_or_default();
    if WEIGHTS_MAX < weights.len() {
        review.report(path, format!("at most {WEIGHTS_MAX} tenants may have one"));
    }
    for (tenant, weight) in &weights {
        if !(1..=WEIGHT_MAX).contains(weight) {
            let message = format!("{} must have 1 to {WEIGHT_MAX}, not {weight}", quoted(tenant));
            review.report(path, message);
        }
    }
    weights
}
