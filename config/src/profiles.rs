//! Which other systems' endpoints the telemetry address has.

use crate::UpstreamId;

/// `telemetry.metrics.profiles`. The default has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profiles {
    /// The key under which `/queue` tells what waits and runs; `None`: there is no such path.
    pub keda_host: Option<String>,
    pub gie: Option<Gie>,
}

/// A model server whose metrics pass through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gie {
    pub upstream: UpstreamId,
    /// Begins with `/`.
    pub path: String,
}
