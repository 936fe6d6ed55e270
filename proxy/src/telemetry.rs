//! What the process tells without being asked who asks: metrics, probes, the drain.
//!
//! The kubelet has no token, so these say nothing that a stranger could use: names and
//! numbers of the operator's own, never a caller's.

use crate::{
    app::Parts,
    aside::{self, Answer},
    profiles,
};
use http::{Method, Request, StatusCode, header, request};
use hyper::body::Incoming;
use std::{sync::Arc, time::Duration};
use tokio::time;

/// How long after `/wait-for-drain` has answered a SIGTERM must follow. `preStop` and
/// the signal come within milliseconds; a person who tried the path comes back ready.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(1);

/// How often the drain looks whether something is in flight.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Answers a request on the telemetry address.
pub(crate) async fn answer(parts: Arc<Parts>, request: Request<Incoming>) -> Answer {
    let head = request.into_parts().0;
    if let Some(answer) = probe(&parts, &head).await {
        return answer;
    }
    profiles::answer(&parts, &head).await.unwrap_or_else(|| {
        aside::text(StatusCode::NOT_FOUND, "try /metrics, /livez, /readyz or /wait-for-drain\n")
    })
}

/// The endpoints that are on the admin address too.
pub(crate) async fn probe(parts: &Arc<Parts>, head: &request::Parts) -> Option<Answer> {
    let path = head.uri.path();
    if !matches!(path, "/metrics" | "/livez" | "/readyz" | "/wait-for-drain") {
        return None;
    }
    let reads = head.method == Method::GET || head.method == Method::HEAD;
    if !reads && path != "/wait-for-drain" {
        return Some(aside::text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n"));
    }
    Some(match path {
        "/livez" => aside::text(StatusCode::OK, "ok\n"),
        "/readyz" => ready(parts),
        "/wait-for-drain" => wait_for_drain(parts).await,
        _ => {
            let accept = head.headers.get(header::ACCEPT).and_then(|it| it.to_str().ok());
            let (content_type, text) = parts.metrics.render(accept);
            aside::with_type(StatusCode::OK, content_type, text)
        }
    })
}

/// Configuration in force, listeners bound and ledger open are true before the first
/// answer; what can change is the drain.
fn ready(parts: &Parts) -> Answer {
    if parts.shutdown.is_draining() {
        aside::text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        aside::text(StatusCode::OK, "ok\n")
    }
}

/// Fails readiness, waits until nothing is in flight, and comes back if nobody follows
/// it up with a signal.
async fn wait_for_drain(parts: &Arc<Parts>) -> Answer {
    let asked = parts.shutdown.ask();
    let deadline = parts.snapshot.load().config.drain.deadline;
    let until = time::Instant::now() + deadline;
    let quiet = async {
        while parts.in_flight() > 0 {
            time::sleep(LOOK_INTERVAL).await;
        }
    };
    let drained = time::timeout_at(until, quiet).await.is_ok();
    parts.tasks.spawn(async move {
        time::sleep(CONFIRMED_WITHIN).await;
        drop(asked);
    });
    let text = if drained { "drained\n" } else { "deadline passed\n" };
    aside::text(StatusCode::OK, text)
}
