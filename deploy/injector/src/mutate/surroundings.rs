//! What has to be so around the sidecar: its kind, the order of the end, the time for it,
//! and who is scraped.

use super::{
    CONTAINER, PREFIX, Reason, Refusal,
    options::{Options, Scrape},
    pod::{PortRef, annotate, annotation, at, container_mut, list, object_mut, text, unannotate},
    ports::{Server, Taken, Way},
};
use crate::config::{Config, GRACE_BEYOND_DRAIN_S, NATIVE_SINCE, Version};
use serde_json::{Value, json};

/// Whether the sidecar is an init container that goes on (Kubernetes 1.29 and newer).
/// Ordinary ones end with the pod, which a pod that is to complete then never does.
pub(super) fn is_native(
    pod: &Value,
    options: &Options,
    config: &Config,
    server: Version,
) -> Result<bool, Refusal> {
    let native = match options.native_sidecar {
        // An older server drops the member it does not know, and the pod waits for ever
        // for an init container to end.
        Some(true) if server < NATIVE_SINCE => {
            let detail = format!(
                "{PREFIX}native-sidecar: Kubernetes {server} has none; they came with {NATIVE_SINCE}"
            );
            return Err(Reason::Annotation.because(detail));
        }
        Some(wanted) => wanted,
        None => server >= NATIVE_SINCE && server >= config.native_from,
    };
    if !native && completes(pod) {
        let detail = "the pod is to complete, which it never would beside an ordinary \
                      container; that takes a native sidecar";
        return Err(Reason::NeverEnds.because(detail));
    }
    Ok(native)
}

fn completes(pod: &Value) -> bool {
    let restarts = at(pod, "/spec/restartPolicy").as_str().unwrap_or("Always");
    let of_a_job =
        list(pod, "/metadata/ownerReferences").iter().any(|it| text(it, "kind") == Some("Job"));
    restarts != "Always" || of_a_job
}

/// The server stays until Tollgate has nothing in flight. A native sidecar gets its
/// SIGTERM after the containers it serves; so they have to wait for it, not it for them.
pub(super) fn wait_for_drain(
    pod: &mut Value,
    server: &Server,
    taken: &Taken,
    warnings: &mut Vec<String>,
) {
    let Some(container) = container_mut(pod, &server.container) else { return };
    let Some(hooks) = object_mut(container, "lifecycle") else { return };
    if hooks.get("preStop").is_some_and(|hook| !hook.is_null()) {
        warnings.push(format!(
            "container {:?} keeps its own preStop, so it does not wait until {CONTAINER} has \
             drained; have it ask http://127.0.0.1:{}/wait-for-drain",
            server.container, taken.metrics
        ));
        return;
    }
    let hook = json!({ "httpGet": { "path": "/wait-for-drain", "port": taken.metrics } });
    hooks.insert("preStop".to_owned(), hook);
}

/// What Kubernetes gives a pod that says nothing, in seconds.
const GRACE_DEFAULT_S: u64 = 30;

/// A pod that is killed while it drains cuts the calls that the drain is for.
pub(super) fn grace(pod: &mut Value, options: &Options, warnings: &mut Vec<String>) {
    let needed = u64::from(options.drain_deadline_s.saturating_add(GRACE_BEYOND_DRAIN_S));
    let Some(spec) = object_mut(pod, "spec") else { return };
    let there = spec.get("terminationGracePeriodSeconds").and_then(Value::as_u64);
    if there.unwrap_or(GRACE_DEFAULT_S) >= needed {
        return;
    }
    // The API server has put the default in before it asks: who wrote it cannot be told.
    if let Some(seconds) = there.filter(|seconds| *seconds != GRACE_DEFAULT_S) {
        warnings.push(format!(
            "terminationGracePeriodSeconds is {needed}, not {seconds}: a drain may take {} s \
             ({PREFIX}drain-deadline)",
            options.drain_deadline_s
        ));
    }
    spec.insert("terminationGracePeriodSeconds".to_owned(), json!(needed));
}

/// A pod has one set of these annotations and so one place to scrape: the server's, where
/// it has one, moved along with it; else Tollgate's, whose named port a PodMonitor finds
/// in any case.
pub(super) fn scrape(pod: &mut Value, options: &Options, taken: &Taken) {
    let [scrape, port, path, scheme] =
        ["scrape", "port", "path", "scheme"].map(|it| format!("prometheus.io/{it}"));
    let wanted = annotation(pod, &scrape);
    if options.scrape == Scrape::Server {
        if wanted == Some("true") {
            let named = annotation(pod, &port).map(|it| PortRef::of(&json!(it)));
            let moved = matches!(taken.way, Way::Moved { .. });
            if moved && named == Some(Some(PortRef::Number(taken.listen))) {
                annotate(pod, &port, taken.server.to_string());
            }
            return;
        }
        // Who says no means it.
        if wanted.is_some() {
            return;
        }
    }
    annotate(pod, &scrape, "true");
    annotate(pod, &port, taken.metrics.to_string());
    annotate(pod, &path, "/metrics");
    unannotate(pod, &scheme);
}
