//! What a route's cache rule says about what is asked ahead.

use crate::{
    Config, Prefetch, Succession,
    raw::{RawPrefetch, RawPrefetchBudget, RawSuccession, RawSuccessionWord},
    review::Review,
    text,
};
use std::{num::NonZeroU32, time::Duration};

/// A person reads an answer, and asks again.
const WITHIN: Duration = Duration::from_secs(5 * 60);
const WITHIN_MIN: Duration = Duration::from_millis(100);
/// What is asked after a longer pause is another session's, whatever its name.
const WITHIN_MAX: Duration = Duration::from_secs(60 * 60);
/// Less than this, and two calls of three are for nothing.
const PRECISION_MIN_PPM: u32 = 300_000;
const ONE_PERCENT_PPM: u32 = 10_000;
const ALL_PPM: u32 = 1_000_000;

/// `path`: of the rule itself.
pub(super) fn prefetch(review: &mut Review<'_>, path: &str, raw: RawPrefetch) -> Prefetch {
    let per = match raw.per {
        None | Some(RawSuccession::Word(RawSuccessionWord::User)) => Succession::User,
        Some(RawSuccession::Header(named)) => {
            let path = format!("{path}.per.header");
            Succession::Header(review.header(path, named.header.as_deref()))
        }
    };
    let within_range = WITHIN_MIN..=WITHIN_MAX;
    let precision_range = ONE_PERCENT_PPM..=ALL_PPM;
    let precision = raw.precision_min.as_ref();
    let RawPrefetchBudget { calls_per_minute, money_per_hour } = raw.budget.unwrap_or_default();
    Prefetch {
        per,
        within: review.duration_within(
            format!("{path}.within"),
            raw.within.as_ref(),
            WITHIN,
            within_range,
        ),
        successors_max: raw.successors_max.unwrap_or(1).into(),
        precision_min_ppm: review.ppm_within(
            format!("{path}.precision_min"),
            precision,
            PRECISION_MIN_PPM,
            precision_range,
        ),
        calls_per_minute: calls_per_minute.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN),
        hourly_pico_usd: money_per_hour.and_then(|written| {
            let path = format!("{path}.budget.money_per_hour");
            match text::usd(&written) {
                Ok(0) => {
                    review.report(path, "must be more than nothing: without prefetch there is none")
                }
                Ok(pico) => return Some(pico),
                Err(message) => review.report(path, format!("must be {message}")),
            }
            None
        }),
    }
}

/// Where it goes by users, there must be some.
pub(super) fn users(review: &mut Review<'_>, config: &Config) {
    if config.identity.user.is_some() {
        return;
    }
    for (i, route) in config.routes.iter().enumerate() {
        let prefetch = route.cache.upkeep.prefetch.as_ref();
        if prefetch.is_some_and(|prefetch| prefetch.per == Succession::User) {
            let message = "needs identity.user, which says who users are";
            review.report(format!("routes[{i}].cache.prefetch.per"), message);
        }
    }
}

/// A limit of money means little where nothing has a price.
pub(super) fn money(review: &mut Review<'_>, config: &Config) {
    if config.prices.builtin || !config.prices.files.is_empty() {
        return;
    }
    for (i, route) in config.routes.iter().enumerate() {
        let prefetch = route.cache.upkeep.prefetch.as_ref();
        if prefetch.is_some_and(|prefetch| prefetch.hourly_pico_usd.is_some()) {
            let message = "nothing has a price (prices), and a call that nobody can price takes the \
                           rest of the hour: one in an hour is asked ahead";
            review.advise(format!("routes[{i}].cache.prefetch.budget.money_per_hour"), message);
        }
    }
}
