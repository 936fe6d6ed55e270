//! The shape of what `cache.trace` says; see `raw`.

use crate::text::{PercentText, SizeText};
use schemars::JsonSchema;
use serde::Deserialize;

/// Which calls asked the cache for what, as digests under a secret that is never written, for tollgate
/// what-if. In data_dir/trace; absent: nothing is written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTrace {
    /// Of both files together, of which the older goes: 1MiB to 16GiB. Default: 64MiB, about two
    /// million calls.
    pub(crate) size: Option<SizeText>,
    /// The part of all keys whose calls are noted. Default: 100%.
    pub(crate) sample: Option<PercentText>,
}
