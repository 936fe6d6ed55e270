//! The review that the API server sends (`admission.k8s.io/v1`), and its answer.
//!
//! Read by hand, not into a type: whatever of it is wrong, the `uid` is answered where it
//! can be found, since an answer without it is none to the API server. What is not the
//! creation of a pod is let pass untouched.

use crate::{
    config::{Config, OnFailure, Version},
    diff::diff,
    mutate::{Left, Mutation, Outcome, Reason, Refusal, mutate},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

/// The only version that is spoken; `v1beta1` went away with Kubernetes 1.22.
const API_VERSION: &str = "admission.k8s.io/v1";

/// What the API server cuts a warning to, in characters.
const WARNING_MAX: usize = 256;

/// The answer, and what it came to.
#[derive(Clone, Debug)]
pub struct Answer {
    /// False where there was no review to answer: `400`.
    pub is_review: bool,
    /// An AdmissionReview in any case.
    pub body: Value,
    /// What it came to.
    pub verdict: Verdict,
    /// For the log: the pod, as `namespace/name`, and why.
    pub about: String,
}

/// What became of what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A pod has Tollgate now.
    Injected,
    /// A pod that did not ask, or must not.
    Left(Left),
    /// A pod asked in vain and starts without.
    Refused(Reason),
    /// A pod asked in vain and must not start without.
    Denied(Reason),
    /// Not the creation of a pod.
    Passed,
    /// No review.
    Unreadable,
}

/// Answers the bytes of a request, of a server of that version.
#[must_use]
pub fn answer(body: &[u8], config: &Config, server: Version) -> Answer {
    let review: Value = match serde_json::from_slice(body) {
        Ok(review) => review,
        Err(error) => return unreadable("", format!("the body is no JSON: {error}")),
    };
    let Some(uid) = review.pointer("/request/uid").and_then(Value::as_str) else {
        return unreadable("", "request.uid is not there; is this an AdmissionReview?".to_owned());
    };
    let of = |member: &str| review.get(member).and_then(Value::as_str).unwrap_or_default();
    if of("kind") != "AdmissionReview" || of("apiVersion") != API_VERSION {
        let got = format!("{:?} of {:?}", of("kind"), of("apiVersion"));
        return unreadable(
            uid,
            format!("AdmissionReview of {API_VERSION} is understood, not {got}"),
        );
    }
    let request = review.get("request").unwrap_or(&Value::Null);
    if !is_creation_of_a_pod(request) {
        return answered(uid, json!({ "allowed": true }), Verdict::Passed, String::new());
    }
    let pod = request.get("object").unwrap_or(&Value::Null);
    let namespace = [request.get("namespace"), pod.pointer("/metadata/namespace")]
        .into_iter()
        .find_map(|it| it?.as_str().filter(|name| !name.is_empty()))
        .unwrap_or("default");
    let mutation = mutate(pod, namespace, config, server);
    decided(uid, pod, namespace, mutation, config)
}

fn is_creation_of_a_pod(request: &Value) -> bool {
    let text = |path: &str| request.pointer(path).and_then(Value::as_str).unwrap_or_default();
    text("/operation") == "CREATE"
        && text("/resource/group").is_empty()
        && text("/resource/resource") == "pods"
        && text("/subResource").is_empty()
}

fn decided(uid: &str, pod: &Value, namespace: &str, mutation: Mutation, config: &Config) -> Answer {
    let member = |name: &str| pod.pointer(&format!("/metadata/{name}")).and_then(Value::as_str);
    let name = member("name").or_else(|| member("generateName")).unwrap_or_default();
    let mut response = Map::new();
    let mut set = |member: &str, value: Value| response.insert(member.to_owned(), value);
    set("allowed", json!(true));
    let (verdict, why) = match mutation.outcome {
        Outcome::Injected => (Verdict::Injected, "injected".to_owned()),
        Outcome::Left(left) => (Verdict::Left(left), left.as_str().to_owned()),
        Outcome::Refused(refusal) => {
            let why = refusal.to_string();
            if refusal.required || config.on_failure == OnFailure::Deny {
                return denied(uid, namespace, name, &refusal);
            }
            (Verdict::Refused(refusal.reason), why)
        }
    };
    set("auditAnnotations", json!({ "injection": short(&why) }));
    if !mutation.warnings.is_empty() {
        let warnings: Vec<String> = mutation.warnings.iter().map(|it| short(it)).collect();
        set("warnings", json!(warnings));
    }
    let steps = diff(pod, &mutation.pod);
    if !steps.is_empty() {
        // Writing values that were read cannot fail; if it did, the pod stays as it is.
        if let Ok(steps) = serde_json::to_vec(&steps) {
            set("patchType", json!("JSONPatch"));
            set("patch", json!(STANDARD.encode(steps)));
        }
    }
    answered(uid, Value::Object(response), verdict, format!("{namespace}/{name}: {why}"))
}

fn denied(uid: &str, namespace: &str, name: &str, refusal: &Refusal) -> Answer {
    let message =
        format!("the pod may not start without tollgate, which was not injected: {refusal}");
    let status = json!({
        "status": "Failure",
        "code": 422,
        "reason": "Invalid",
        "message": message,
    });
    let response = json!({ "allowed": false, "status": status });
    let about = format!("{namespace}/{name}: {refusal}");
    answered(uid, response, Verdict::Denied(refusal.reason), about)
}

fn answered(uid: &str, mut response: Value, verdict: Verdict, about: String) -> Answer {
    if let Some(response) = response.as_object_mut() {
        response.insert("uid".to_owned(), json!(uid));
    }
    let body =
        json!({ "apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response });
    Answer { is_review: verdict != Verdict::Unreadable, body, verdict, about }
}

/// An answer to what is no review. The API server takes it, with its status, for a
/// failed call, and its `failurePolicy` decides.
#[must_use]
pub fn unreadable(uid: &str, message: String) -> Answer {
    let status = json!({
        "status": "Failure",
        "code": 400,
        "reason": "BadRequest",
        "message": message,
    });
    answered(uid, json!({ "allowed": false, "status": status }), Verdict::Unreadable, message)
}

/// What is fit for a header line: no control characters, and not too long.
fn short(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    if text.chars().count() <= WARNING_MAX {
        return plain.collect();
    }
    plain.take(WARNING_MAX - 1).chain(['…']).collect()
}
