//! What Tollgate asks by itself, to have the answers before somebody wants them.

use jiff::tz::TimeZone;
use std::{path::PathBuf, time::Duration};

/// `cache.warm`. The default asks nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warm {
    /// Requests to be asked after the start, one a line.
    pub file: Option<PathBuf>,
    /// How many entries are brought to memory after the start.
    pub restore_hot: usize,
    /// From the beginning of one call to that of the next, over all files.
    pub interval: Duration,
    /// How many calls are under way at a time, over all files; at least 1.
    pub concurrency: u16,
    /// What the times of day in the schedule are of.
    pub time_zone: TimeZone,
    pub schedule: Vec<WarmRun>,
}

/// A file that is asked again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmRun {
    pub file: PathBuf,
    pub when: WarmWhen,
    /// Answers are asked for anew, also where there is one.
    pub refresh: bool,
}

/// When a file's turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarmWhen {
    /// Every day, at this hour (0 to 23) and minute (0 to 59).
    Daily { hour: i8, minute: i8 },
    /// In this interval, from the start on; at least a second.
    Every(Duration),
}

impl Default for Warm {
    fn default() -> Self {
        Self {
            file: None,
            restore_hot: 0,
            interval: crate::defaults::WARM_INTERVAL,
            concurrency: crate::defaults::WARM_CONCURRENCY,
            time_zone: TimeZone::UTC,
            schedule: Vec::new(),
        }
    }
}
