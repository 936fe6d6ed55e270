//! The shape of what `cache.cdn` of a route says; see `raw`.

use crate::text::DurationText;
use schemars::JsonSchema;
use serde::Deserialize;

/// In mode http, what a CDN before us is told of answers that everybody may be given: how long they
/// are good yet, and their tags. Nothing of answers to calls with credentials, of those that set a
/// cookie, and of any where identity.tenant tells callers apart.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCdn {
    /// The field that says the time. One that the upstream says itself stays as it is. cache-control:
    /// s-maxage, beside what else stands there. Default: cdn-cache-control.
    pub(crate) control: Option<RawCdnControl>,
    /// The field that names the tags: the route's, and those of the answer itself. Absent: none.
    pub(crate) tags: Option<RawCdnTags>,
    /// The longest that an answer is good there, but for what the upstream says in
    /// cdn-cache-control or surrogate-control of its own. Default: as long as here.
    pub(crate) ttl_max: Option<DurationText>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub(crate) enum RawCdnControl {
    #[serde(rename = "cdn-cache-control")]
    Targeted,
    #[serde(rename = "surrogate-control")]
    Surrogate,
    #[serde(rename = "cache-control")]
    Shared,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RawCdnTags {
    SurrogateKey,
    CacheTag,
    Xkey,
}
