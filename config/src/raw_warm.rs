//! The shape of what `cache.warm` says: which requests are asked before somebody wants their answers;
//! see `raw`.

use crate::text::{DurationText, RateText};
use schemars::JsonSchema;
use serde::Deserialize;

/// Calls of Tollgate's own, in the least important class, that fill the cache. A file of requests
/// has one a line, as JSON: {"method","path","headers","body"}.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWarm {
    /// Asked once after the start.
    pub(crate) file: Option<String>,
    /// Of the entries that were asked for most before a restart, or by other instances, this many are
    /// read from the tiers behind memory after the start. Default: 0.
    #[schemars(range(max = 20000))]
    pub(crate) restore_hot: Option<u32>,
    /// How many are begun in a time, all together, like 5/s or 100/m. Default: 5/s.
    pub(crate) rate: Option<RateText>,
    /// How many are under way at a time, all together. Default: 2.
    #[schemars(range(min = 1, max = 256))]
    pub(crate) concurrency: Option<u16>,
    /// Of the times of the schedule: a name of the IANA data base. Default: UTC.
    pub(crate) time_zone: Option<String>,
    /// Files that are asked again and again: before a peak, or to keep entries new.
    #[schemars(length(max = 64))]
    pub(crate) schedule: Option<Vec<RawWarmRun>>,
}

/// Exactly one of at and every.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWarmRun {
    #[schemars(required)]
    pub(crate) file: Option<String>,
    /// Every day at this time: "07:45".
    pub(crate) at: Option<String>,
    /// From the start on; 1s or more.
    pub(crate) every: Option<DurationText>,
    /// Ask for each answer anew, also where there is one; if that fails, the one there is stays.
    /// Default: false.
    pub(crate) refresh: Option<bool>,
}
