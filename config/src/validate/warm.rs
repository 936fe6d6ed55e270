//! What is asked before somebody wants it: files, times, how fast.

use crate::{
    Warm, WarmRun, WarmWhen, defaults,
    problem::quoted,
    raw_warm::{RawWarm, RawWarmRun},
    review::Review,
    text::{self, RATE_IS, RateText},
};
use jiff::tz::TimeZone;
use std::time::Duration;

/// A list that is asked more often is a load test.
const EVERY_MIN: Duration = Duration::from_secs(1);

pub(super) fn warm(review: &mut Review<'_>, raw: &RawWarm) -> Warm {
    let default = Warm::default();
    let file = raw.file.as_deref().map(|file| review.file("cache.warm.file", Some(file)));
    let runs = raw.schedule.iter().flatten().enumerate();
    let schedule = runs.map(|(i, raw)| run(review, &format!("cache.warm.schedule[{i}]"), raw));
    let schedule: Vec<_> = schedule.collect();
    let is_daily = schedule.iter().any(|run| matches!(run.when, WarmWhen::Daily { .. }));
    if raw.time_zone.is_some() && !is_daily {
        review
            .advise("cache.warm.time_zone", "has no effect: nothing in schedule has a time of day");
    }
    Warm {
        file,
        restore_hot: raw.restore_hot.map_or(0, |most| usize::try_from(most).unwrap_or(usize::MAX)),
        interval: interval(review, raw.rate.as_ref()).unwrap_or(default.interval),
        concurrency: raw.concurrency.unwrap_or(default.concurrency),
        time_zone: time_zone(review, "cache.warm.time_zone", raw.time_zone.as_deref()),
        schedule,
    }
}

fn interval(review: &mut Review<'_>, raw: Option<&RateText>) -> Option<Duration> {
    let RateText(written) = raw?;
    let interval = text::interval(written);
    if interval.is_none_or(|interval| interval < defaults::WARM_INTERVAL_MIN) {
        let message = format!("must be {RATE_IS}, at most 10000/s, not {}", quoted(written));
        review.report("cache.warm.rate", message);
    }
    interval
}

/// What the times at `path` are of. Default: UTC.
pub(super) fn time_zone(review: &mut Review<'_>, path: &str, raw: Option<&str>) -> TimeZone {
    let Some(name) = raw else { return TimeZone::UTC };
    TimeZone::get(name).unwrap_or_else(|_| {
        let message = format!("must be a time zone like Europe/Berlin, not {}", quoted(name));
        review.report(path, message);
        TimeZone::UTC
    })
}

fn run(review: &mut Review<'_>, path: &str, raw: &RawWarmRun) -> WarmRun {
    let when = match (&raw.at, &raw.every) {
        (Some(at), None) => daily(at).unwrap_or_else(|| {
            let message = format!("must be a time of day like \"07:45\", not {}", quoted(at));
            review.report(format!("{path}.at"), message);
            WarmWhen::Every(EVERY_MIN)
        }),
        (None, every @ Some(_)) => {
            let range = EVERY_MIN..=defaults::DURATION_MAX;
            let path = format!("{path}.every");
            WarmWhen::Every(review.duration_within(path, every.as_ref(), EVERY_MIN, range))
        }
        (None, None) | (Some(_), Some(_)) => {
            review.report(path, "must have one of at and every");
            WarmWhen::Every(EVERY_MIN)
        }
    };
    let file = review.file(format!("{path}.file"), raw.file.as_deref());
    WarmRun { file, when, refresh: raw.refresh.unwrap_or(false) }
}

fn daily(text: &str) -> Option<WarmWhen> {
    let (hour, minute) = time_of_day(text)?;
    Some(WarmWhen::Daily { hour: hour.cast_signed(), minute: minute.cast_signed() })
}

/// `HH:MM`, of 24 hours.
pub(super) fn time_of_day(text: &str) -> Option<(u8, u8)> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str, below: u8| {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| is_number && *number < below)
    };
    Some((number(hour, 24)?, number(minute, 60)?))
}
