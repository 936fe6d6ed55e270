//! How many calls a second will come: from what came at this time of other days, from what comes
//! now, and from what an operator announced.
//!
//! A wrong forecast must not take a service down, so it only ever raises what autoscalers read:
//! what is told is never below the rate of now. It is clamped to a multiple of the highest rate of
//! the last day, it tests itself against what came, and where it was off by more than
//! [`ERROR_MAX`] it says no more than now until it is right again. What operators know (an
//! announced event, a schedule) are floors beside it.
//!
//! Time comes as an argument, once a minute; a tick costs the same however long the history is.
#![expect(clippy::float_arithmetic, reason = "rates of calls, no money")]

mod floor;
mod season;
mod trial;

pub use floor::{Event, Schedule};

use season::Season;
use std::collections::VecDeque;
use trial::Trial;

/// Minutes of a day.
pub const DAY: u32 = 1440;
/// The furthest that is looked ahead, in minutes: behind a quarter of a day the shape of the day
/// is all there is, and a schedule says it better.
pub const HORIZON_MAX: u32 = 360;
/// How many horizons there may be: each is two series and a test of its own.
pub const HORIZONS_MAX: usize = 4;
/// A mean error above this part of the mean load switches a forecast off.
pub const ERROR_MAX: f64 = 0.35;
/// Announced events that are kept.
pub const EVENTS_MAX: usize = 64;
/// The largest factor of an event.
pub const FACTOR_MAX: f64 = 20.0;

/// Ticks whose mean is what a minute is held against: one minute of rare calls is mostly chance.
const SMOOTH: usize = 5;
/// Hours of the highest rates.
const PEAKS: usize = 24;
/// Of the calm rate: an hour of minutes.
const CALM_WEIGHT: f64 = 1.0 / 60.0;

/// A moment, in minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Since the epoch; goes on one by one.
    pub minute: i64,
    /// Of the operator's clock: 0 to 1439.
    pub of_day: u32,
    /// Of the operator's calendar: 0 (Monday) to 6.
    pub weekday: usize,
}

impl Moment {
    /// So many minutes later, by a clock that nobody sets meanwhile.
    pub fn plus(self, minutes: u32) -> Self {
        let of_day = self.of_day.saturating_add(minutes);
        let days = usize::try_from(of_day / DAY).unwrap_or(0);
        Self {
            minute: self.minute.saturating_add(i64::from(minutes)),
            of_day: of_day % DAY,
            weekday: (self.weekday + days) % 7,
        }
    }
}

/// What a forecast is made with.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// In minutes: 1 to [`HORIZON_MAX`], at most [`HORIZONS_MAX`], no two alike.
    pub horizons: Vec<u32>,
    /// Of the highest rate of the last day: the model never says more. 1 or more.
    pub raise_max: f64,
    pub schedules: Vec<Schedule>,
}

/// What is expected in so many minutes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlook {
    /// In minutes.
    pub horizon: u32,
    /// Calls a second to be ready for: never less than now.
    pub load: f64,
    /// What the model alone says, clamped; `None` before it has seen anything.
    pub model: Option<f64>,
    /// Mean error of what it said, over the mean of what came; 0 before anything came.
    pub error: f64,
    /// Whether what the model says counts.
    pub in_force: bool,
    /// What an announced event or a schedule asks for; 0 where none does.
    pub floor: f64,
}

/// The state of a forecast: a few tens of kilobytes, whatever came.
#[derive(Clone, Debug)]
pub struct Forecast {
    rules: Rules,
    season: Season,
    trials: Vec<Trial>,
    events: Vec<Event>,
    /// The last ticks in a row.
    recent: VecDeque<f64>,
    /// The highest rate of each of the last hours, by the hour of its minute.
    peaks: Vec<(i64, f64)>,
    /// The mean of the last hour without an event.
    calm: Option<f64>,
    last: Option<i64>,
}

impl Forecast {
    /// One that has seen nothing.
    pub fn new(rules: Rules) -> Self {
        let trials = rules.horizons.iter().map(|horizon| Trial::new(*horizon)).collect();
        Self {
            rules,
            season: Season::default(),
            trials,
            events: Vec::new(),
            recent: VecDeque::with_capacity(SMOOTH),
            peaks: Vec::with_capacity(PEAKS),
            calm: None,
            last: None,
        }
    }

    /// Other rules from now on: what was learned stays, and so does the test of a horizon that stays.
    pub fn set_rules(&mut self, rules: Rules) {
        let trials = rules.horizons.iter().map(|horizon| {
            let kept = self.trials.iter().find(|trial| trial.horizon() == *horizon);
            kept.cloned().unwrap_or_else(|| Trial::new(*horizon))
        });
        self.trials = trials.collect();
        self.rules = rules;
    }

    /// The minute that ends at `now` saw so many calls a second. A minute that is not told is a
    /// gap, not a zero; one that was told before is not told again.
    pub fn tick(&mut self, now: Moment, rate: f64) {
        if !rate.is_finite() || rate < 0.0 {
            return;
        }
        match self.last {
            // A clock that was set back a little runs up to where it was; a lot is a new time.
            Some(last) if now.minute <= last && last - now.minute < i64::from(HORIZON_MAX) => {
                return;
            }
            Some(last) if now.minute == last + 1 => {}
            Some(_) => {
                self.recent.clear();
                self.season.pause();
            }
            None => {}
        }
        self.last = Some(now.minute);
        self.events.retain(|event| event.until > now.minute);
        if self.events.iter().any(|event| event.covers(now.minute, 0)) {
            // What is announced is nobody's habit: nothing is learned of it.
            self.recent.clear();
            self.season.pause();
            return;
        }
        if self.recent.len() == SMOOTH {
            self.recent.pop_front();
        }
        self.recent.push_back(rate);
        self.calm = Some(self.calm.map_or(rate, |calm| calm + (rate - calm) * CALM_WEIGHT));
        self.season.tick(now, rate);
        let came = self.smooth();
        if let Some(came) = came {
            self.peak(now.minute, came);
        }
        for trial in &mut self.trials {
            if let Some(came) = came {
                trial.judge(now.minute - i64::try_from(SMOOTH / 2).unwrap_or(0), came);
            }
            if let Some(said) = self.season.at(now, trial.horizon()) {
                trial.note(now.minute, said);
            }
        }
    }

    /// What is expected, for each horizon in the order of the rules; `rate` is that of now.
    pub fn outlook(&self, now: Moment, rate: f64) -> Vec<Outlook> {
        let rate = if rate.is_finite() { rate.max(0.0) } else { 0.0 };
        self.trials.iter().map(|trial| self.outlook_of(trial, now, rate)).collect()
    }

    fn outlook_of(&self, trial: &Trial, now: Moment, rate: f64) -> Outlook {
        let horizon = trial.horizon();
        let most = self.highest(now.minute) * self.rules.raise_max;
        let model = self.season.at(now, horizon).map(|said| said.min(most).max(0.0));
        let in_force = model.is_some() && trial.is_passed();
        let expected = model.filter(|_| in_force).unwrap_or(0.0);
        let usual = expected.max(self.calm.unwrap_or(0.0));
        let announced = self.events.iter().filter(|event| event.covers(now.minute, horizon));
        let announced = announced.map(|event| event.factor).fold(0.0, f64::max) * usual;
        let schedules = &self.rules.schedules;
        let scheduled = schedules.iter().filter(|schedule| schedule.covers(now, horizon));
        let share = scheduled.map(|schedule| schedule.share).fold(0.0, f64::max);
        let floor = announced.max(share * self.highest(now.minute));
        let load = rate.max(expected).max(floor);
        Outlook { horizon, load, model, error: trial.error(), in_force, floor }
    }

    /// Announces an event, in place of one of the same name. False: there are too many.
    pub fn announce(&mut self, event: Event) -> bool {
        self.events.retain(|known| known.name != event.name);
        let has_room = self.events.len() < EVENTS_MAX;
        if has_room {
            self.events.push(event);
            self.events.sort_by(|a, b| (a.from, &a.name).cmp(&(b.from, &b.name)));
        }
        has_room
    }

    /// Takes an announcement back; whether there was one.
    pub fn withdraw(&mut self, name: &str) -> bool {
        let before = self.events.len();
        self.events.retain(|known| known.name != name);
        self.events.len() < before
    }

    /// What is announced and not over at `minute`, the earliest first.
    pub fn events(&self, minute: i64) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| event.until > minute)
    }

    /// The highest rate of the last 24 hours, over five minutes, without events.
    pub fn highest(&self, minute: i64) -> f64 {
        let hour = minute.div_euclid(60);
        let recent =
            self.peaks.iter().filter(|(of, _)| hour - of < i64::try_from(PEAKS).unwrap_or(0));
        recent.map(|(_, rate)| *rate).fold(0.0, f64::max)
    }

    /// The mean of the last ticks, where they are in a row.
    fn smooth(&self) -> Option<f64> {
        let whole = self.recent.len() == SMOOTH;
        whole.then(|| self.recent.iter().sum::<f64>() / SMOOTH as f64)
    }

    fn peak(&mut self, minute: i64, rate: f64) {
        let hour = minute.div_euclid(60);
        match self.peaks.last_mut() {
            Some((of, highest)) if *of == hour => *highest = highest.max(rate),
            _ => {
                if self.peaks.len() == PEAKS {
                    self.peaks.remove(0);
                }
                self.peaks.push((hour, rate));
            }
        }
    }
}

#[cfg(test)]
mod tests;
