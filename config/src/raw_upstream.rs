//! The shape of `upstreams`; see `raw`.

use crate::{
    raw::RawSwitch,
    text::{DurationText, PercentText},
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawUpstream {
    #[schemars(required, length(min = 1, max = 256))]
    pub(crate) endpoints: Option<Vec<RawEndpoint>>,
    /// upstream, preserve, or a name. Default: upstream for https, preserve for http.
    pub(crate) host: Option<String>,
    /// Whether requests get a via field. Default: on.
    pub(crate) via: Option<RawSwitch>,
    /// Default: least_loaded.
    pub(crate) balance: Option<RawBalance>,
    pub(crate) concurrency: Option<RawConcurrency>,
    pub(crate) timeouts: Option<RawTimeouts>,
    /// When a call is tried again. Default: never, but for a kept connection that was closed.
    pub(crate) retries: Option<RawRetries>,
    /// When an endpoint that fails is left alone. Default: never.
    pub(crate) breaker: Option<RawBreaker>,
    /// The upstream that a call goes to when this one fails or has no turn for it, before its answer
    /// has begun; as it came, credentials and all. Default: none.
    pub(crate) fallback: Option<RawFallback>,
    pub(crate) tls: Option<RawUpstreamTls>,
    pub(crate) model_version: Option<RawModelVersion>,
    /// Whether stream usage is asked for where the caller did not. Default: auto.
    pub(crate) inject_usage: Option<RawInjectUsage>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEndpoint {
    /// `http://host[:port]` or `https://host[:port]`; a path is refused.
    #[schemars(required)]
    pub(crate) url: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawBalance {
    LeastLoaded,
    RoundRobin,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawConcurrency {
    /// Calls at one time; more wait in their class's queue.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) limit: Option<u32>,
    /// In place of limit: as many as the upstream's answers show that it can have.
    pub(crate) adaptive: Option<RawAdaptive>,
    /// By tenant, its share among those of its class; of all others 1.
    pub(crate) weights: Option<BTreeMap<String, u32>>,
    /// How many may wait, of all classes together; the least important make place. Default: as
    /// many as their queues hold.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(crate) queue: Option<u32>,
    /// By what the upstream is shared out among classes and tenants. Default: calls.
    pub(crate) share: Option<RawShare>,
    /// Tokens in flight at one time, as they are estimated; with share: tokens. Default: any number.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub(crate) tokens: Option<u64>,
    /// How many of the limit only the strict class may take, used or not. Default: 0.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(crate) reserve: Option<u32>,
    /// How many calls of preemptible classes may be taken back in a second, before their first
    /// byte, for those of the strict class that wait. Default: 0.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(crate) preempt: Option<u32>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAdaptive {
    /// Never fewer. Default: 1.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) min: Option<u32>,
    /// Never more.
    #[schemars(required, range(min = 1, max = 1_000_000))]
    pub(crate) max: Option<u32>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawShare {
    /// Each call counts as one.
    Calls,
    /// By how long a place is held.
    Time,
    /// By tokens read, and twice those written.
    Tokens,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTimeouts {
    /// Default: 2s.
    pub(crate) connect: Option<DurationText>,
    /// From the request's last byte to the answer's head. Default: 10m.
    pub(crate) first_byte: Option<DurationText>,
    /// Between two pieces of an answer. Default: 5m.
    pub(crate) idle: Option<DurationText>,
    /// Default: 30m.
    pub(crate) total: Option<DurationText>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRetries {
    /// How many tries a call has beside its first. Default: 2.
    #[schemars(range(min = 1, max = 10))]
    pub(crate) attempts: Option<u32>,
    /// connect (nothing was sent), reset (it was, and no answer began), 502, 503, 504: tried again
    /// whatever the method. Of methods that may be made twice (GET, HEAD, PUT, DELETE, OPTIONS,
    /// QUERY) all but connect are, written here or not. Default: connect alone.
    #[serde(rename = "for")]
    #[schemars(length(max = 5))]
    pub(crate) causes: Option<Vec<RawRetryCause>>,
    /// Which part of the calls of the last ten seconds may be tried again, and ten more; at most
    /// 100%. Default: 20%.
    pub(crate) budget: Option<PercentText>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawRetryCause {
    Status(#[schemars(range(min = 502, max = 504))] u16),
    Word(RawRetryWord),
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawRetryWord {
    Connect,
    Reset,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawBreaker {
    /// So many calls in a row that could not connect, were reset, timed out, or were answered with
    /// 502, 503 or 504. Default: 5.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) consecutive_failures: Option<u32>,
    /// How long nothing is sent to the endpoint then; after that one call finds out. Default: 10s.
    pub(crate) open_for: Option<DurationText>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawFallback {
    Name(String),
    To(RawFallbackTo),
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFallbackTo {
    /// Name of an upstream.
    #[schemars(required)]
    pub(crate) upstream: Option<String>,
    /// What the member model of the body says there. Default: what the caller said.
    pub(crate) model: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawUpstreamTls {
    /// PEM file that takes the place of the system's roots.
    pub(crate) ca: Option<String>,
    pub(crate) client_certificate: Option<String>,
    pub(crate) client_key: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawModelVersion {
    /// Default: header.
    pub(crate) from: Option<RawVersionFrom>,
    /// Default: x-model-version.
    pub(crate) header: Option<String>,
    /// With from: static, the version.
    pub(crate) value: Option<String>,
    /// With from: body or poll, a JSON pointer (RFC 6901) to the version: in an answer, or in each
    /// element of list.
    pub(crate) pointer: Option<String>,
    /// With from: poll, what is asked for. Default: /v1/models.
    pub(crate) path: Option<String>,
    /// With from: poll, a JSON pointer to a list with an element for each model. Absent: one version
    /// for all models.
    pub(crate) list: Option<String>,
    /// With list, a JSON pointer into an element to the model's name. Default: /id.
    pub(crate) id: Option<String>,
    /// With from: poll. Default: 30s.
    pub(crate) interval: Option<DurationText>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawVersionFrom {
    Static,
    Header,
    Body,
    Poll,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawInjectUsage {
    Auto,
    Never,
}
