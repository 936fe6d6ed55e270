//! The shape of what `telemetry.metrics.profiles` says about other systems' endpoints; see `raw`.

use schemars::JsonSchema;
use serde::Deserialize;

/// Answers on the telemetry address in the words of other autoscalers. Default: none.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawProfiles {
    pub(crate) keda: Option<RawKeda>,
    pub(crate) gie: Option<RawGie>,
}

/// GET /queue, as the interceptor of KEDA's HTTP add-on answers it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawKeda {
    /// What the add-on's scaler looks for: NAMESPACE/NAME of the HTTPScaledObject, or a host.
    #[schemars(required)]
    pub(crate) host: Option<String>,
}

/// GET /gie/metrics: the model server's own metrics, with the calls that wait here added to those
/// that wait there.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawGie {
    /// Which upstream's; one with a single endpoint.
    #[schemars(required)]
    pub(crate) upstream: Option<String>,
    /// Default: /metrics.
    pub(crate) path: Option<String>,
}
