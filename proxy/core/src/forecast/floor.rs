//! What operators know better than any model: an event that was announced, the hours of a shop.

use super::{DAY, Moment};

/// An announced event: a campaign, a release.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What it is called; no two are called the same.
    pub name: String,
    /// The minute (since the epoch) from which on.
    pub from: i64,
    /// The minute from which on not any more.
    pub until: i64,
    /// How many times the usual load will come: above 1, at most
    /// [`FACTOR_MAX`](super::FACTOR_MAX).
    pub factor: f64,
}

impl Event {
    /// Whether it is under way at some time from `minute` to `ahead` minutes later.
    pub(super) fn covers(&self, minute: i64, ahead: u32) -> bool {
        self.from <= minute.saturating_add(i64::from(ahead)) && self.until > minute
    }
}

/// Hours in which the load is never taken for less than a part of the last day's highest.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// What it is called.
    pub name: String,
    /// On which days it begins, from Monday on.
    pub days: [bool; 7],
    /// The minute of the day in which it begins: 0 to 1439.
    pub from: u32,
    /// How long it lasts, in minutes: 1 to 1440.
    pub lasts: u32,
    /// Of the highest rate of the last 24 hours; 1 is all of it.
    pub share: f64,
}

impl Schedule {
    /// Whether it is in force at some time from `now` to `ahead` minutes later.
    pub(super) fn covers(&self, now: Moment, ahead: u32) -> bool {
        let (now_of_day, day) = (i64::from(now.of_day), i64::from(DAY));
        // Yesterday's may go past midnight, tomorrow's may be near.
        [(6, -day), (0, 0), (1, day)].into_iter().any(|(later, offset)| {
            let begins = offset + i64::from(self.from) - now_of_day;
            let is_day = self.days.get((now.weekday + later) % 7).copied().unwrap_or(false);
            is_day && begins <= i64::from(ahead) && begins + i64::from(self.lasts) > 0
        })
    }
}
