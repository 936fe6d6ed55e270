//! What waits here, in the words of other autoscalers, on the telemetry address.
//!
//! Each answers as the thing it stands in for: KEDA's HTTP add-on asks its interceptors for
//! `/queue`; the endpoint picker of the Gateway API's inference extension reads a model server's
//! `/metrics`, and would not see who waits before it. Only what the configuration names is there.

mod gie;

use crate::{
    app::Parts,
    aside::{self, Answer},
    body::len_u64,
};
use http::{Method, StatusCode, request};
use serde_json::json;
use std::sync::Arc;
use tokio::time::Instant;

/// The answer, where a profile has that path.
pub(crate) async fn answer(parts: &Arc<Parts>, head: &request::Parts) -> Option<Answer> {
    let snapshot = parts.snapshot.load_full();
    let profiles = &snapshot.config.metrics.profiles;
    let reads = head.method == Method::GET || head.method == Method::HEAD;
    let refused = || aside::text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
    match head.uri.path() {
        "/queue" => {
            let host = profiles.keda_host.as_deref()?;
            Some(if reads { queue(parts, host) } else { refused() })
        }
        "/gie/metrics" => {
            let rule = profiles.gie.as_ref()?;
            let destination = snapshot.destinations.get(rule.upstream.place())?;
            Some(if reads { gie::answer(destination, &rule.path).await } else { refused() })
        }
        _ => None,
    }
}

/// As the interceptor of the HTTP add-on tells its scaler: calls that wait or run, and, for a
/// rate, how many there were (older scalers are told the rate).
fn queue(parts: &Parts, host: &str) -> Answer {
    let counts = json!({
        "Concurrency": parts.in_flight(),
        "RequestCount": parts.metrics.arrived(),
        "RPS": parts.metrics.arrival_rate(Instant::now()),
    });
    let body = json!({ host: counts }).to_string() + "\n";
    aside::with_type(StatusCode::OK, "application/json", body)
}

/// Calls that wait at one upstream.
fn waiting_at(destination: &crate::app::Destination) -> u64 {
    len_u64(destination.admission.snapshot().waiting)
}
