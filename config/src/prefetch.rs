//! What is asked ahead, after validation.

use std::{num::NonZeroU32, time::Duration};

/// What is likely to be asked next is asked ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefetch {
    pub per: Succession,
    /// Never zero. How long after a call the next may come and still follow it.
    pub within: Duration,
    /// Never 0: so many are asked ahead after one call.
    pub successors_max: usize,
    /// In millionths, never 0: the least share of what was asked ahead that must be wanted.
    pub precision_min_ppm: u32,
    pub calls_per_minute: NonZeroU32,
    /// In pico-USD. `None`: no limit.
    pub hourly_pico_usd: Option<i128>,
}

/// Whose calls follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Succession {
    User,
    /// Of those that say the same in this header; lower case.
    Header(String),
}
