//! What the load to come is told from: horizons, and the hours of a schedule.

use super::warm::{time_of_day, time_zone};
use crate::{
    Forecast, defaults,
    problem::quoted,
    raw_forecast::{RawForecast, RawForecastSchedule, RawWeekday},
    review::Review,
    text::DurationText,
};
use std::{collections::HashSet, time::Duration};
use tollgate_core::forecast::{DAY, HORIZON_MAX, Rules, Schedule};

const MINUTE: Duration = Duration::from_secs(60);
const RAISE: std::ops::RangeInclusive<f64> = 1.0..=20.0;
/// Ten times the highest: what an announced event is for.
const SHARE_PPM_MAX: u32 = 10_000_000;

pub(super) fn forecast(review: &mut Review<'_>, raw: RawForecast) -> Forecast {
    let at = "telemetry.forecast";
    let default = Forecast::default();
    let horizons = raw.horizons.map(|raws| horizons(review, &format!("{at}.horizons"), &raws));
    let raise_max = raw.raise_max.unwrap_or(defaults::RAISE_MAX);
    if !RAISE.contains(&raise_max) {
        review.report(format!("{at}.raise_max"), format!("must be 1 to 20, not {raise_max}"));
    }
    let mut seen = HashSet::new();
    let mut schedules = Vec::new();
    for (i, raw) in raw.schedules.into_iter().flatten().enumerate() {
        let path = format!("{at}.schedules[{i}]");
        let schedule = schedule(review, &path, raw);
        if !seen.insert(schedule.name.clone()) {
            review.report(format!("{path}.name"), format!("{} appears twice", schedule.name));
        }
        schedules.push(schedule);
    }
    let horizons = horizons.unwrap_or(default.rules.horizons);
    Forecast {
        rules: Rules { horizons, raise_max, schedules },
        time_zone: time_zone(review, &format!("{at}.time_zone"), raw.time_zone.as_deref()),
    }
}

fn horizons(review: &mut Review<'_>, at: &str, raws: &[DurationText]) -> Vec<u32> {
    let mut minutes = Vec::new();
    for (i, raw) in raws.iter().enumerate() {
        let path = format!("{at}[{i}]");
        let range = MINUTE..=MINUTE * HORIZON_MAX;
        let length = review.duration_within(path.clone(), Some(raw), MINUTE, range);
        if !length.as_secs().is_multiple_of(60) || length.subsec_nanos() != 0 {
            review.report(&path, format!("must be whole minutes, not {}", quoted(&raw.0)));
        }
        let horizon = whole_minutes(length);
        if minutes.contains(&horizon) && !review.is_reported(&path) {
            review.report(&path, format!("{} appears twice", raw.0));
        }
        minutes.push(horizon);
    }
    minutes
}

fn whole_minutes(length: Duration) -> u32 {
    u32::try_from(length.as_secs() / 60).unwrap_or(HORIZON_MAX)
}

fn schedule(review: &mut Review<'_>, path: &str, raw: RawForecastSchedule) -> Schedule {
    let name = review.name(format!("{path}.name"), raw.name, "-_");
    let mut days = [raw.days.is_none(); 7];
    for day in raw.days.into_iter().flatten() {
        let place = match day {
            RawWeekday::Mon => 0,
            RawWeekday::Tue => 1,
            RawWeekday::Wed => 2,
            RawWeekday::Thu => 3,
            RawWeekday::Fri => 4,
            RawWeekday::Sat => 5,
            RawWeekday::Sun => 6,
        };
        if let Some(day) = days.get_mut(place) {
            *day = true;
        }
    }
    let mut minute = |name: &str, raw: Option<String>| {
        let raw = raw.unwrap_or_default(); // its absence was reported
        let read = time_of_day(&raw).map(|(hour, minute)| u32::from(hour) * 60 + u32::from(minute));
        read.unwrap_or_else(|| {
            let message = format!("must be a time of day like \"08:30\", not {}", quoted(&raw));
            review.report(format!("{path}.{name}"), message);
            0
        })
    };
    let (from, to) = (minute("from", raw.from), minute("to", raw.to));
    let lasts = if to > from { to - from } else { DAY - from + to };
    let share = review.ppm_within(
        format!("{path}.share"),
        raw.share.as_ref(),
        SHARE_PPM_MAX,
        1..=SHARE_PPM_MAX,
    );
    #[expect(clippy::float_arithmetic, reason = "a part of a rate, no money")]
    let share = f64::from(share) / 1e6;
    Schedule { name, days, from, lasts, share }
}
