//! The shape of what `telemetry.forecast` says about the load to come; see `raw`.

use crate::text::{DurationText, PercentText};
use schemars::JsonSchema;
use serde::Deserialize;

/// What request_load_forecast is made of. A forecast raises what autoscalers read and never
/// lowers it; one that is often wrong switches itself off.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawForecast {
    /// How far ahead, in whole minutes from 1m to 6h: a series each. Default: 5m, 15m.
    #[schemars(length(min = 1, max = 4))]
    pub(crate) horizons: Option<Vec<DurationText>>,
    /// The model never says more than this many times the highest rate of the last day. Default: 3.
    #[schemars(range(min = 1, max = 20))]
    pub(crate) raise_max: Option<f64>,
    /// Whose days and hours these are: a name of the IANA data base. Default: UTC.
    pub(crate) time_zone: Option<String>,
    /// Hours in which a part of the last day's highest rate is kept ready.
    #[schemars(length(max = 64))]
    pub(crate) schedules: Option<Vec<RawForecastSchedule>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawForecastSchedule {
    #[schemars(required)]
    pub(crate) name: Option<String>,
    /// On which it begins. Default: every day.
    #[schemars(length(min = 1, max = 7))]
    pub(crate) days: Option<Vec<RawWeekday>>,
    /// When it begins: "08:30".
    #[schemars(required)]
    pub(crate) from: Option<String>,
    /// When it ends; at or before from, it ends on the next day.
    #[schemars(required)]
    pub(crate) to: Option<String>,
    /// Of the highest rate of the last 24 hours: 0.0001% to 1000%.
    #[schemars(required)]
    pub(crate) share: Option<PercentText>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawWeekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}
