//! What the load to come is told from, beside the load that came.

use jiff::tz::TimeZone;
use tollgate_core::forecast::Rules;

/// `telemetry.forecast`.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    pub rules: Rules,
    /// What days, hours and the schedules are of.
    pub time_zone: TimeZone,
}

/// Days of the week as they are written, from Monday on.
pub(crate) const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Default for Forecast {
    fn default() -> Self {
        let rules = Rules {
            horizons: crate::defaults::HORIZONS.to_vec(),
            raise_max: crate::defaults::RAISE_MAX,
            schedules: Vec::new(),
        };
        Self { rules, time_zone: TimeZone::UTC }
    }
}
