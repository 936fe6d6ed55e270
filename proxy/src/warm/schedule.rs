//! What is asked without anybody saying so: the file of the start, and files at their times.
//!
//! The configuration is looked at again each time, so that a reload's schedule counts at once. A
//! time of day that passed while the process did not run, or while the last run of its file went
//! on, is left out, not caught up with.

use super::{
    Order, Run,
    run::{Source, begin as begin_run, read_list},
};
use crate::app::Parts;
use jiff::{Timestamp, ToSpan as _, civil::Time, tz::TimeZone};
use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::time::{self, Instant};
use tollgate_config::{WarmRun, WarmWhen};

/// How often it is looked whether something is due: a time of day is met to a second.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A file of the schedule.
#[derive(Debug)]
struct Turn {
    rule: WarmRun,
    /// Of an interval.
    next: Instant,
    /// The last one.
    run: Option<Arc<Run>>,
}

/// Asks the file of the start, and those of the schedule until the end.
pub(crate) fn begin(parts: &Arc<Parts>) {
    let weak = Arc::downgrade(parts);
    let leave = parts.shutdown.leave.clone();
    parts.tasks.spawn(async move {
        if let Some(parts) = weak.upgrade() {
            let file = parts.snapshot.load().config.cache.warm.file.clone();
            if let Some(file) = file {
                let order = Order { source: Source::Start, refresh: false, is_patient: true };
                ask(&parts, order, file).await;
            }
        }
        let mut turns: Vec<Turn> = Vec::new();
        let mut last = Timestamp::now();
        while let Some(parts) = weak.upgrade() {
            let config = parts.snapshot.load().config.clone();
            let warm = &config.cache.warm;
            adopt(&mut turns, &warm.schedule);
            let now = Timestamp::now();
            for turn in &mut turns {
                if turn.is_due(&warm.time_zone, last, now) && !parts.shutdown.is_draining() {
                    turn.begin(&parts).await;
                }
            }
            last = now;
            let intervals = turns.iter().filter_map(Turn::interval_ends);
            let next = intervals.fold(Instant::now() + LOOK_INTERVAL, Instant::min);
            drop((parts, config));
            if leave.run_until_cancelled(time::sleep_until(next)).await.is_none() {
                return;
            }
        }
    });
}

/// Those that a reload left as they were keep their place in time.
fn adopt(turns: &mut Vec<Turn>, schedule: &[WarmRun]) {
    if turns.iter().map(|turn| &turn.rule).eq(schedule) {
        return;
    }
    let mut before = std::mem::take(turns);
    for rule in schedule {
        let same = before.iter().position(|turn| turn.rule == *rule);
        turns.push(same.map_or_else(|| Turn::new(rule), |place| before.swap_remove(place)));
    }
}

impl Turn {
    fn new(rule: &WarmRun) -> Self {
        let now = Instant::now();
        let next = match rule.when {
            WarmWhen::Every(interval) => now + interval,
            WarmWhen::Daily { .. } => now,
        };
        Self { rule: rule.clone(), next, run: None }
    }

    fn interval_ends(&self) -> Option<Instant> {
        matches!(self.rule.when, WarmWhen::Every(_)).then_some(self.next)
    }

    fn is_due(&mut self, zone: &TimeZone, last: Timestamp, now: Timestamp) -> bool {
        match self.rule.when {
            WarmWhen::Daily { hour, minute } => has_passed(hour, minute, zone, last, now),
            WarmWhen::Every(interval) => {
                let is_due = self.next <= Instant::now();
                if is_due {
                    self.next = Instant::now() + interval;
                }
                is_due
            }
        }
    }

    async fn begin(&mut self, parts: &Arc<Parts>) {
        if self.run.as_ref().is_some_and(|run| !run.is_over()) {
            let file = self.rule.file.display();
            tracing::warn!(%file, "still being asked from the last time; this time is left out");
            return;
        }
        let refresh = self.rule.refresh;
        let order = Order { source: Source::Schedule, refresh, is_patient: false };
        self.run = ask(parts, order, self.rule.file.clone()).await;
    }
}

async fn ask(parts: &Arc<Parts>, order: Order, file: PathBuf) -> Option<Arc<Run>> {
    let read = |file: PathBuf| move || read_list(File::open(&file)?);
    let list = tokio::task::spawn_blocking(read(file.clone())).await;
    match list.unwrap_or_else(|error| Err(error.into())) {
        Ok(list) => Some(begin_run(parts, order, list, None)),
        Err(error) => {
            unread(&file, &error);
            None
        }
    }
}

fn unread(file: &Path, error: &std::io::Error) {
    tracing::error!(
        file = %file.display(),
        %error,
        "a list of requests cannot be read and is not asked; see cache.warm"
    );
}

/// Whether the wall clock showed this time after `last` and not after `now`.
fn has_passed(hour: i8, minute: i8, zone: &TimeZone, last: Timestamp, now: Timestamp) -> bool {
    let Ok(time) = Time::new(hour, minute, 0, 0) else { return false };
    let today = now.to_zoned(zone.clone()).date();
    let days = [Ok(today), today.checked_sub(1.day())];
    // Where clocks are set, the time that is skipped counts as later, one that comes twice as its
    // first.
    let moments =
        days.into_iter().filter_map(|day| day.ok()?.to_datetime(time).to_zoned(zone.clone()).ok());
    moments.map(|moment| moment.timestamp()).any(|moment| last < moment && moment <= now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(zone: &str, last: &str, now: &str, expected: bool) {
        let zone = TimeZone::get(zone).unwrap();
        let found = has_passed(7, 45, &zone, last.parse().unwrap(), now.parse().unwrap());
        assert_eq!(found, expected, "{last} {now}");
    }

    #[test]
    fn a_time_of_day_is_due_once_a_day_in_its_zone() {
        check("UTC", "2026-11-21T07:44:59Z", "2026-11-21T07:45:00Z", true);
        check("UTC", "2026-11-21T07:45:00Z", "2026-11-21T07:45:01Z", false);
        check("UTC", "2026-11-21T07:44:58Z", "2026-11-21T07:44:59Z", false);
        check("Europe/Berlin", "2026-11-21T06:44:59Z", "2026-11-21T06:45:00Z", true);
        check("Asia/Shanghai", "2026-11-20T23:44:59Z", "2026-11-20T23:45:00Z", true);
        // A clock that was stopped for hours, and one that was set back.
        check("UTC", "2026-11-21T05:00:00Z", "2026-11-22T00:10:00Z", true);
        check("UTC", "2026-11-21T07:45:01Z", "2026-11-21T07:44:00Z", false);
    }

    #[test]
    fn a_time_that_is_skipped_or_comes_twice_is_due_once() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        for (day, at) in [("2026-03-29", 2), ("2026-10-25", 2)] {
            let start: Timestamp = format!("{day}T00:00:00Z").parse().unwrap();
            let passed = |minute: i64| {
                let now = start + (minute + 1).minutes();
                has_passed(at, 30, &zone, start + minute.minutes(), now)
            };
            assert_eq!((0..4 * 60).filter(|minute| passed(*minute)).count(), 1, "{day}");
        }
    }
}
