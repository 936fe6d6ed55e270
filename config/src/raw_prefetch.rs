//! The shape of what `routes[].cache.prefetch` says; see `raw`.

use crate::text::{DurationText, PercentText};
use schemars::JsonSchema;
use serde::Deserialize;

/// What is likely to be asked next is asked ahead, of what is kept by content: what follows what is
/// learned from the calls of this process, for each tenant apart. At most 8 MiB of requests are held
/// for it, in memory.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPrefetch {
    /// Whose calls follow each other: user, which needs identity.user, or those that say the same in
    /// a header.
    #[schemars(required)]
    pub(crate) per: Option<RawSuccession>,
    /// A call that comes later than this after the one before does not follow it; and an answer that
    /// was asked for ahead and is not wanted until then was asked for in vain. 100ms to 1h. Default:
    /// 5m.
    pub(crate) within: Option<DurationText>,
    /// Asked ahead after one call, at most. Default: 1.
    #[schemars(range(min = 1, max = 8))]
    pub(crate) successors_max: Option<u8>,
    /// What follows less often is not asked ahead; and if less of what was asked ahead was wanted,
    /// it stops, and tries again later. 1% to 100%. Default: 30%.
    pub(crate) precision_min: Option<PercentText>,
    #[schemars(required)]
    pub(crate) budget: Option<RawPrefetchBudget>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawSuccession {
    Word(RawSuccessionWord),
    Header(RawSuccessionHeader),
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawSuccessionWord {
    User,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSuccessionHeader {
    #[schemars(required)]
    pub(crate) header: Option<String>,
}

/// Of this route, in this process. When it is spent, nothing is asked ahead until a minute or an hour
/// later; that is logged, and counted in tollgate_cache_prefetch_over_budget_total.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPrefetchBudget {
    #[schemars(required, range(min = 1, max = 100_000))]
    pub(crate) calls_per_minute: Option<u32>,
    /// US dollars, as a decimal string: "0.50". Default: no limit but that of the calls.
    pub(crate) money_per_hour: Option<String>,
}
