//! What the load to come is told from, written back.

use super::list;
use crate::{
    Forecast,
    forecast::WEEKDAYS,
    text::{show_duration, show_ppm},
};
use serde_json::{Value, json};
use std::time::Duration;
use tollgate_core::forecast::{DAY, Schedule};

pub(super) fn forecast(forecast: &Forecast) -> Value {
    let rules = &forecast.rules;
    let horizons =
        rules.horizons.iter().map(|minutes| show_duration(Duration::from_secs(60) * *minutes));
    json!({
        "horizons": horizons.collect::<Vec<_>>(),
        "raise_max": rules.raise_max,
        "time_zone": forecast.time_zone.iana_name(),
        "schedules": list(&rules.schedules, schedule),
    })
}

fn schedule(schedule: &Schedule) -> Value {
    let time = |minute: u32| format!("{:02}:{:02}", minute / 60, minute % 60);
    let days = WEEKDAYS.iter().zip(schedule.days).filter(|(_, is_one)| *is_one);
    json!({
        "name": schedule.name,
        "days": days.map(|(day, _)| *day).collect::<Vec<_>>(),
        "from": time(schedule.from),
        "to": time((schedule.from + schedule.lasts) % DAY),
        "share": show_ppm(ppm(schedule.share)),
    })
}

/// It was read from as many millionths.
#[expect(
    clippy::float_arithmetic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at most ten million, as validated; `as` saturates"
)]
fn ppm(share: f64) -> u32 {
    (share * 1e6).round() as u32
}
