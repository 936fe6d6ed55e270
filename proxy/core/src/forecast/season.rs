//! The model: Holt and Winters' multiplicative smoothing over the shape of a day, and how days of
//! the week compare.
//!
//! `rate ≈ level × shape(time of day)`. The level follows within minutes, so that a shift, or a
//! promotion nobody announced, is followed and forgotten again. The shape is, bin by bin, the
//! median of the last days, each over its own mean: one odd day does not move it, and what
//! lasts is in it after three. (Winters learns it from the level, which, when it is fast, hides
//! every error of the shape.) When a day begins the level is multiplied by how that weekday compares to the one before. In
//! the first day there is no shape: then it is the level and its damped trend, which is Holt's.
#![expect(clippy::float_arithmetic, reason = "rates of calls, no money")]

use super::{DAY, Moment};
use std::collections::VecDeque;

/// Minutes of a bin of the day.
const BIN: u32 = 5;
const BINS: usize = 288;
/// How fast the level follows: nine tenths within a quarter of an hour.
const LEVEL: f64 = 0.15;
const TREND: f64 = 0.03;
/// What is left of a trend a minute later: a straight line into the next hour is seldom true.
const DAMPING: f64 = 0.97;
/// Days that the shape is the median of.
const DAYS: usize = 5;
/// What a new week is to a weekday.
const WEEKDAY: f64 = 0.5;
/// A day counts as seen when at most this many of its bins are missing.
const MISSING_MAX: usize = BINS / 10;
/// How little a shape may weigh in the level: where nothing comes at night, nothing is learned.
const SHAPE_FLOOR: f64 = 0.05;

/// What was learned.
#[derive(Clone, Debug)]
pub(super) struct Season {
    level: f64,
    trend: f64,
    /// The shape of the day; empty in the first day.
    shape: Vec<f64>,
    /// The last days' bins, each over its day's mean; the oldest first.
    days: VecDeque<Vec<Option<f64>>>,
    /// The mean rates of this day's bins as far as they are known.
    today: Vec<Option<f64>>,
    /// Sum and number of the ticks of the bin that is under way.
    bin: (usize, f64, u32),
    /// The mean rates of weekdays.
    weekdays: [Option<f64>; 7],
    weekday: Option<usize>,
    begun: bool,
}

impl Default for Season {
    fn default() -> Self {
        Self {
            level: 0.0,
            trend: 0.0,
            shape: Vec::new(),
            days: VecDeque::with_capacity(DAYS),
            today: vec![None; BINS],
            bin: (0, 0.0, 0),
            weekdays: [None; 7],
            weekday: None,
            begun: false,
        }
    }
}

impl Season {
    /// Some minutes are not told: where they would have led is not known.
    pub(super) fn pause(&mut self) {
        self.trend = 0.0;
    }

    pub(super) fn tick(&mut self, now: Moment, rate: f64) {
        if self.bin.0 != bin_of(now.of_day) {
            self.end_bin();
        }
        self.turn(now);
        if self.begun {
            let shape = self.shape_at(now);
            let weight = shape / (shape * shape + SHAPE_FLOOR);
            let before = self.level;
            // A tick's error, as the level sees it; what is quiet anyway says little about it.
            self.level += LEVEL * (rate - (self.level + self.trend) * shape) * weight + self.trend;
            self.level = self.level.max(0.0);
            self.trend = if self.shape.is_empty() {
                DAMPING * (self.trend + TREND * (self.level - before - self.trend))
            } else {
                0.0
            };
        } else {
            self.level = rate;
            self.begun = true;
        }
        self.bin.0 = bin_of(now.of_day);
        self.bin.1 += rate;
        self.bin.2 += 1;
    }

    /// What it expects in `ahead` minutes.
    pub(super) fn at(&self, now: Moment, ahead: u32) -> Option<f64> {
        if !self.begun {
            return None;
        }
        if self.shape.is_empty() {
            // The sum of a damped trend over that many minutes.
            let reach = DAMPING * (1.0 - DAMPING.powf(f64::from(ahead))) / (1.0 - DAMPING);
            return Some((self.level + self.trend * reach).max(0.0));
        }
        let then = now.plus(ahead);
        let level = self.level * self.between(now.weekday, then.weekday);
        Some((level * self.shape_at(then)).max(0.0))
    }

    /// The first tick of a day ends the day before.
    fn turn(&mut self, now: Moment) {
        let Some(before) = self.weekday.replace(now.weekday) else { return };
        if before == now.weekday {
            return;
        }
        self.end_day(before);
        self.level *= self.between(before, now.weekday);
    }

    /// What that day was is learned, if enough of it was seen.
    fn end_day(&mut self, weekday: usize) {
        let known: Vec<f64> = self.today.iter().flatten().copied().collect();
        let bins = std::mem::replace(&mut self.today, vec![None; BINS]);
        if known.len() + MISSING_MAX < BINS {
            return;
        }
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        if let Some(known) = self.weekdays.get_mut(weekday) {
            *known = Some(known.map_or(mean, |known| known + (mean - known) * WEEKDAY));
        }
        if mean <= 0.0 {
            // A day on which nothing came says nothing about when.
            return;
        }
        if self.shape.is_empty() {
            // The level was the rate itself until now.
            self.level = mean;
            self.trend = 0.0;
        }
        if self.days.len() == DAYS {
            self.days.pop_front();
        }
        self.days.push_back(bins.into_iter().map(|bin| Some(bin? / mean)).collect());
        self.learn_shape();
    }

    fn learn_shape(&mut self) {
        let mut last = 1.0;
        let bins = (0..BINS).map(|place| {
            let known = self.days.iter().filter_map(|day| day.get(place).copied().flatten());
            last = median(known.collect()).unwrap_or(last);
            last
        });
        self.shape = bins.collect();
    }

    /// A bin is over, and known where more than half of it was told.
    fn end_bin(&mut self) {
        let (place, sum, ticks) = std::mem::take(&mut self.bin);
        if ticks > BIN / 2
            && let Some(bin) = self.today.get_mut(place)
        {
            *bin = Some(sum / f64::from(ticks));
        }
    }

    /// The shape between the middles of two bins; 1 where none is known.
    fn shape_at(&self, then: Moment) -> f64 {
        let at = (f64::from(then.of_day) - f64::from(BIN) / 2.0) / f64::from(BIN);
        let share = at - at.floor();
        let later = bin_of((then.of_day + BIN - BIN / 2 - 1) % DAY);
        let earlier = (later + BINS - 1) % BINS;
        match (self.shape.get(earlier), self.shape.get(later)) {
            (Some(earlier), Some(later)) => earlier + (later - earlier) * share,
            _ => 1.0,
        }
    }

    /// How one weekday compares to another; 1 where that is not known.
    fn between(&self, one: usize, other: usize) -> f64 {
        let of = |day: usize| self.weekdays.get(day).copied().flatten().filter(|mean| *mean > 0.0);
        match (of(one), of(other)) {
            (Some(one), Some(other)) => (other / one).clamp(0.1, 10.0),
            _ => 1.0,
        }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).copied()?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(upper, values.get(middle - 1).copied()?))
}

fn bin_of(of_day: u32) -> usize {
    usize::try_from(of_day / BIN).unwrap_or(0).min(BINS - 1)
}
