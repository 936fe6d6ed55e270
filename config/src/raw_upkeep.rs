//! The shape of what `routes[].cache` says about answers that are looked after; see `raw`.

use crate::text::{DurationText, PercentText};
use schemars::JsonSchema;
use serde::Deserialize;

/// What is asked for often, of what is kept by content.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawHot {
    /// An answer is hot once one instance has given it so often from memory.
    #[schemars(required, range(min = 1, max = 1_000_000))]
    pub(crate) hits: Option<u32>,
    /// A hot answer is good for so much longer, once; at most as long again as its own time, and
    /// never longer than its upstream says where upstream_ttl holds. Default: 0s.
    pub(crate) extend: Option<DurationText>,
    /// A hot answer that is asked for in this last part of its time is given, and renewed beside.
    /// Default: 0%, not at all.
    pub(crate) refresh_ahead: Option<PercentText>,
}
