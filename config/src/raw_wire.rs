//! The shape of what `routes[].cache` says about how stored answers go out; see `raw`.

use crate::text::{DurationText, SizeText};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawEncodingsRule {
    Bool(bool),
    Word(RawEncodingsWord),
    Offer(Vec<RawCoding>),
    With(RawEncodings),
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawEncodingsWord {
    Off,
    Auto,
}

/// Content codings of answers from the cache.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEncodings {
    /// Best first: of those that a caller likes equally, it gets the first. Default: zstd, br, gzip.
    #[schemars(length(min = 1, max = 3))]
    pub(crate) offer: Option<Vec<RawCoding>>,
    /// A shorter answer is given as it is. Default: 1KiB.
    pub(crate) min: Option<SizeText>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawCoding {
    Zstd,
    Br,
    Gzip,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawPacingRule {
    Word(RawPacingWord),
    With(RawPacing),
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawPacingWord {
    None,
    Original,
}

/// The pace of stored streams.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPacing {
    /// Evenly, by what the answer's usage says it has. Absent: as it came.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) tokens_per_second: Option<u32>,
    /// A whole stream takes no longer: 10ms to 10m. Default: 1m.
    pub(crate) max: Option<DurationText>,
}
