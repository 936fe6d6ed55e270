//! The load to come, kept up to date: once a minute what came is told to the model in `core`,
//! and what it says is what `/metrics` and `/api/forecast` show.
//!
//! What is learned dies with the process (a model that is a day old is a day old wherever it is
//! kept); what an operator announced does not: it is in a file of `data_dir` before it is
//! answered (`forecast/kept.rs`).

mod kept;

use self::kept::Kept;
use crate::{app::Parts, meter::unix_ms, metrics::ForecastReading};
use jiff::{Timestamp, tz::TimeZone};
use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{self, Instant, MissedTickBehavior};
use tollgate_core::forecast::{Event, Forecast, Moment, Outlook};

/// The step of the model.
const TICK: Duration = Duration::from_secs(60);
/// A tick that comes later than this is of a process that stood still: what it counted says
/// nothing about a minute.
const TICK_MAX: Duration = Duration::from_secs(75);

/// The forecast of the process.
#[derive(Debug)]
pub(crate) struct Forecasts {
    state: Mutex<State>,
    kept: Kept,
}

#[derive(Debug)]
struct State {
    model: Forecast,
    time_zone: TimeZone,
}

/// What became of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Announced {
    /// It is in force; whether the next process will know it, too.
    InForce { kept: bool },
    /// There are as many as may be.
    TooMany,
    /// None of that name is known, so that it could be taken back.
    Unknown,
}

impl Forecasts {
    /// Begins with nothing learned, and with what was announced to the process before.
    pub(crate) fn new(rules: &tollgate_config::Forecast, data_dir: &Path) -> Self {
        let (kept, events) = Kept::open(data_dir);
        let mut model = Forecast::new(rules.rules.clone());
        let minute = minute_of(unix_ms());
        for event in events.into_iter().filter(|event| event.until > minute) {
            model.announce(event);
        }
        Self { state: Mutex::new(State { model, time_zone: rules.time_zone.clone() }), kept }
    }

    /// Other rules from now on; what was learned stays.
    pub(crate) fn set_rules(&self, rules: &tollgate_config::Forecast) {
        let mut state = self.lock();
        state.model.set_rules(rules.rules.clone());
        state.time_zone = rules.time_zone.clone();
    }

    /// In the minute that ends at `at_ms` so many calls a second came.
    pub(crate) fn tick(&self, at_ms: i64, rate: f64) {
        let mut state = self.lock();
        let now = moment(&state.time_zone, at_ms);
        state.model.tick(now, rate);
    }

    /// What is expected at `at_ms`, where `rate` is that of now.
    pub(crate) fn outlook(&self, at_ms: i64, rate: f64) -> Vec<Outlook> {
        let state = self.lock();
        state.model.outlook(moment(&state.time_zone, at_ms), rate)
    }

    /// What is announced and not over, the earliest first.
    pub(crate) fn events(&self, at_ms: i64) -> Vec<Event> {
        self.lock().model.events(minute_of(at_ms)).cloned().collect()
    }

    /// The highest rate of the last 24 hours.
    pub(crate) fn highest(&self, at_ms: i64) -> f64 {
        self.lock().model.highest(minute_of(at_ms))
    }

    /// Announces an event, or takes one back; blocks on the disk.
    pub(crate) fn announce(&self, event: Event) -> Announced {
        self.change(|model| if model.announce(event) { None } else { Some(Announced::TooMany) })
    }

    /// Takes an announcement back; blocks on the disk.
    pub(crate) fn withdraw(&self, name: &str) -> Announced {
        self.change(|model| if model.withdraw(name) { None } else { Some(Announced::Unknown) })
    }

    fn change(&self, change: impl FnOnce(&mut Forecast) -> Option<Announced>) -> Announced {
        // One at a time, so that the file is as new as what is in force.
        let writing = self.kept.begin();
        let events: Vec<Event> = {
            let mut state = self.lock();
            if let Some(refused) = change(&mut state.model) {
                return refused;
            }
            state.model.events(minute_of(unix_ms())).cloned().collect()
        };
        Announced::InForce { kept: writing.write(&events) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts the minutes of a running process.
pub(crate) fn begin(parts: &Arc<Parts>) {
    let weak = Arc::downgrade(parts);
    let over = parts.shutdown.over.clone();
    parts.tasks.spawn(async move {
        let mut ticks = time::interval_at(Instant::now() + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut clock = Clock::new(unix_ms());
        let (mut counted, mut last) = (None, Instant::now());
        loop {
            if over.run_until_cancelled(ticks.tick()).await.is_none() {
                return;
            }
            let Some(parts) = weak.upgrade() else { return };
            let now = Instant::now();
            let took = now.saturating_duration_since(last);
            last = now;
            let arrived = parts.metrics.arrived();
            let before = counted.replace(arrived).unwrap_or(0);
            let minute = clock.next(unix_ms());
            if took <= TICK_MAX {
                parts.forecasts.tick(minute, per_second(arrived.saturating_sub(before), took));
            }
        }
    });
}

/// What `/metrics` shows of it.
pub(crate) fn reading(parts: &Parts) -> ForecastReading {
    let (now, at_ms) = (Instant::now(), unix_ms());
    let rate = parts.metrics.arrival_rate(now);
    ForecastReading {
        outlooks: parts.forecasts.outlook(at_ms, rate),
        events: parts.forecasts.events(at_ms).len(),
    }
}

/// The minutes of the wall clock, one by one: a timer that is a little late, or a clock that is
/// set a little, makes no gap and tells no minute twice.
#[derive(Debug)]
struct Clock {
    minute: i64,
}

impl Clock {
    fn new(now_ms: i64) -> Self {
        Self { minute: minute_of(now_ms) }
    }

    /// The beginning of the next minute, in ms since the epoch.
    fn next(&mut self, now_ms: i64) -> i64 {
        let (next, shown) = (self.minute + 1, minute_of(now_ms));
        self.minute = if next.abs_diff(shown) <= 1 { next } else { shown };
        self.minute.saturating_mul(60_000)
    }
}

#[expect(clippy::float_arithmetic, reason = "a rate of calls, no money")]
fn per_second(calls: u64, took: Duration) -> f64 {
    let seconds = took.as_secs_f64();
    if seconds > 0.0 { calls as f64 / seconds } else { 0.0 }
}

/// Of a moment, since the epoch.
pub(crate) fn minute_of(at_ms: i64) -> i64 {
    at_ms.div_euclid(60_000)
}

/// As the operator's clock and calendar show it.
fn moment(zone: &TimeZone, at_ms: i64) -> Moment {
    let shown = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let shown = shown.to_zoned(zone.clone());
    let (hour, minute) =
        (u32::from(shown.hour().unsigned_abs()), u32::from(shown.minute().unsigned_abs()));
    Moment {
        minute: minute_of(at_ms),
        of_day: hour * 60 + minute,
        weekday: usize::from(shown.weekday().to_monday_zero_offset().unsigned_abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_moment_is_of_the_operators_clock() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        // A Friday in UTC, and already a Saturday in Berlin.
        let at: Timestamp = "2026-07-03T22:30:59Z".parse().unwrap();
        let seen = moment(&zone, at.as_millisecond());
        assert_eq!((seen.weekday, seen.of_day), (5, 30));
        assert_eq!(seen.minute, at.as_second() / 60);
    }

    #[test]
    fn a_rate_is_calls_by_the_time_they_really_took() {
        assert_eq!(per_second(120, Duration::from_secs(60)), 2.0);
        assert_eq!(per_second(120, Duration::from_secs(75)), 1.6);
        assert_eq!(per_second(1, Duration::ZERO), 0.0);
    }

    proptest! {
        /// A timer that drifts by up to half a minute tells every minute once.
        #[test]
        fn no_minute_is_told_twice_and_none_is_left_out(late in prop::collection::vec(-20_000_i64..30_000, 1..200)) {
            let mut clock = Clock::new(0);
            for (place, late) in (1_i64..).zip(late) {
                prop_assert_eq!(clock.next(place * 60_000 + late), place * 60_000);
            }
        }
    }

    #[test]
    fn a_clock_that_is_set_is_followed() {
        let mut clock = Clock::new(0);
        assert_eq!(clock.next(7_200_000), 7_200_000);
        assert_eq!(clock.next(60_000), 60_000);
    }
}
