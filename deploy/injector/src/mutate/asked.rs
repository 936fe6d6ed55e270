//! Whether a pod wants Tollgate at all, and whether it could have it anywhere.
//!
//! The namespace's label is the webhook configuration's to select by; the API server does
//! not send it. What is excluded there is excluded here once more: a configuration that
//! was changed by mistake must not reach what Kubernetes itself lives on.

use super::{
    CONTAINER, Left, PREFIX, Reason, Refusal,
    pod::{annotation, annotations, at, containers, list, text},
};
use crate::config::{Config, SYSTEM_NAMESPACES};
use serde_json::{Map, Value};

pub(super) enum Asked {
    /// It does; with its annotations.
    Yes(Map<String, Value>),
    No(Left),
    /// It does, but can have none.
    Wrongly(Refusal),
}

/// The label or annotation that asks. A label beats an annotation: it is what the webhook
/// configuration can select by.
const INJECT: &str = "tollgate.dev/inject";

/// The annotation of a pod that must not start without.
const REQUIRED: &str = "tollgate.dev/required";

pub(super) fn of(pod: &Value, namespace: &str, config: &Config) -> Asked {
    if SYSTEM_NAMESPACES.contains(&namespace) || config.excluded.iter().any(|it| it == namespace) {
        return Asked::No(Left::Excluded);
    }
    let label = at(pod, "/metadata/labels").get(INJECT).and_then(Value::as_str);
    match label.or_else(|| annotation(pod, INJECT)) {
        None => return Asked::No(Left::NotAsked),
        Some("false") => return Asked::No(Left::OptedOut),
        Some("true") => {}
        Some(other) => {
            let detail = format!("{INJECT} is {other:?}; say \"true\" or \"false\"");
            return Asked::Wrongly(Reason::Annotation.because(detail));
        }
    }
    if containers(pod).any(|container| text(container, "name") == Some(CONTAINER)) {
        return Asked::No(Left::Present);
    }
    match impossible(pod) {
        Some(refusal) => Asked::Wrongly(refusal),
        None => Asked::Yes(annotations(pod).cloned().unwrap_or_default()),
    }
}

pub(super) fn is_required(pod: &Value) -> bool {
    annotation(pod, REQUIRED) == Some("true")
}

/// What rules Tollgate out, whatever the annotations say.
fn impossible(pod: &Value) -> Option<Refusal> {
    let mains = list(pod, "/spec/containers");
    if mains.is_empty() || !mains.iter().all(|one| text(one, "name").is_some()) {
        let detail = "the object has no spec.containers with names; is it a pod?";
        return Some(Reason::Malformed.because(detail));
    }
    if annotation(pod, "kubernetes.io/config.mirror").is_some() {
        return Some(
            Reason::Mirror.because("a static pod is its kubelet's; put Tollgate in its file"),
        );
    }
    if at(pod, "/spec/hostNetwork") == &Value::Bool(true) {
        let detail = "the pod shares the node's network, where a port is everybody's; \
                      set hostNetwork: false or put Tollgate beside it by hand";
        return Some(Reason::HostNetwork.because(detail));
    }
    let node = at(pod, "/spec/nodeSelector").get("kubernetes.io/os");
    let os = at(pod, "/spec/os/name");
    if [node.and_then(Value::as_str), os.as_str()].contains(&Some("windows")) {
        let detail = format!("the pod runs on Windows, Tollgate on Linux; remove {PREFIX}inject");
        return Some(Reason::Windows.because(detail));
    }
    None
}
