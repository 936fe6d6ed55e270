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

/// A share of the hits on what is kept by content is asked for again beside, to see whether the
/// upstream still says the same. Nobody waits for it, and nothing of it is kept unless adapt learns
/// from it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawShadow {
    /// Of hits, 0.0001% to 100%. Each is one more call to the upstream.
    #[schemars(required)]
    pub(crate) share: Option<PercentText>,
}

/// How long an answer is good follows how often it is seen to change, in what is kept by content:
/// each new one that says the same is good for twice as long as the one before, each that does not
/// for half as long.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAdapt {
    /// Never shorter, and where an answer begins that was purged. Not longer than ttl.
    #[schemars(required)]
    pub(crate) min: Option<DurationText>,
    /// Never longer. Not shorter than ttl, with which an answer begins that nothing is known of.
    #[schemars(required)]
    pub(crate) max: Option<DurationText>,
}
