//! What the API server sends, and how it is answered.

use crate::config;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tollgate_injector::{
    config::{OnFailure, Version},
    review::{Answer, Verdict, answer},
};

/// A review of the creation of a pod that asks.
pub(crate) fn review() -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "namespace": "prod",
            "operation": "CREATE",
            "object": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": { "generateName": "web-", "labels": { "tollgate.dev/inject": "true" } },
                "spec": {
                    "containers": [{
                        "name": "web",
                        "image": "web",
                        "ports": [{ "name": "http", "containerPort": 8000 }],
                    }],
                },
            },
            "oldObject": null,
            "dryRun": false,
            "options": { "apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions" },
        },
    })
}

fn answered(review: &Value, on_failure: OnFailure) -> Answer {
    let mut config = config();
    config.on_failure = on_failure;
    answer(review.to_string().as_bytes(), &config, Version { major: 1, minor: 31 })
}

/// The patch of an answer, decoded.
pub(crate) fn patch(answer: &Value) -> Value {
    let patch = answer["response"]["patch"].as_str().unwrap();
    serde_json::from_slice(&STANDARD.decode(patch).unwrap()).unwrap()
}

#[test]
fn a_pod_that_asks_is_answered_with_a_patch_that_injects() {
    let review = review();
    let answer = answered(&review, OnFailure::Allow);
    let response = &answer.body["response"];
    assert_eq!(response["uid"], review["request"]["uid"]);
    assert_eq!(response["allowed"], true);
    assert_eq!(response["patchType"], "JSONPatch");
    assert_eq!(response["auditAnnotations"]["injection"], "injected");
    let mut pod = review["request"]["object"].clone();
    let steps: json_patch::Patch = serde_json::from_value(patch(&answer.body)).unwrap();
    json_patch::patch(&mut pod, &steps).unwrap();
    assert_eq!(pod["spec"]["initContainers"][0]["name"], "tollgate");
    let variable = &pod["spec"]["initContainers"][0]["env"][0];
    assert_eq!(variable["value"], "prod/web");
    assert_eq!(answer.verdict, Verdict::Injected);
}

#[test]
fn what_is_not_the_creation_of_a_pod_is_let_pass_untouched() {
    for (path, value) in [
        ("/request/operation", json!("UPDATE")),
        ("/request/operation", json!("DELETE")),
        ("/request/resource/resource", json!("deployments")),
        ("/request/resource/group", json!("metrics.k8s.io")),
        ("/request/subResource", json!("ephemeralcontainers")),
    ] {
        let mut review = review();
        match review.pointer_mut(path) {
            Some(there) => *there = value,
            None => review["request"]["subResource"] = value,
        }
        let answer = answered(&review, OnFailure::Deny);
        let response = &answer.body["response"];
        assert_eq!((&response["allowed"], &response["patch"]), (&json!(true), &Value::Null));
        assert_eq!(answer.verdict, Verdict::Passed);
    }
}

#[test]
fn a_dry_run_is_answered_like_any_other() {
    let mut review = review();
    let answer = answered(&review, OnFailure::Allow);
    review["request"]["dryRun"] = json!(true);
    assert_eq!(answered(&review, OnFailure::Allow).body, answer.body);
}

#[test]
fn a_pod_that_cannot_be_served_starts_without_and_its_owner_is_warned() {
    let mut review = review();
    review["request"]["object"]["spec"]["hostNetwork"] = json!(true);
    let answer = answered(&review, OnFailure::Allow);
    let response = &answer.body["response"];
    assert_eq!(response["allowed"], true);
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("tollgate was not injected: host-network: "), "{warning}");
    let steps = patch(&answer.body);
    assert_eq!(steps.as_array().unwrap().len(), 1, "the note alone: {steps}");
    assert_eq!(steps[0]["path"], "/metadata/annotations");
}

#[test]
fn a_pod_that_must_not_start_without_is_refused_with_the_reason() {
    let mut by_operator = review();
    by_operator["request"]["object"]["spec"]["hostNetwork"] = json!(true);
    let mut by_pod = by_operator.clone();
    by_pod["request"]["object"]["metadata"]["annotations"] =
        json!({ "tollgate.dev/required": "true" });
    for (review, on_failure) in [(by_operator, OnFailure::Deny), (by_pod, OnFailure::Allow)] {
        let answer = answered(&review, on_failure);
        let response = &answer.body["response"];
        assert_eq!((&response["allowed"], &response["patch"]), (&json!(false), &Value::Null));
        assert_eq!(response["status"]["code"], 422);
        let message = response["status"]["message"].as_str().unwrap();
        assert!(message.contains("host-network: "), "{message}");
        assert!(answer.is_review);
    }
}

#[test]
fn a_denial_is_for_pods_that_asked_and_for_nobody_else() {
    let mut review = review();
    review["request"]["object"]["metadata"]["labels"] = json!({});
    let answer = answered(&review, OnFailure::Deny);
    assert_eq!(answer.body["response"]["allowed"], true);
}

#[test]
fn an_object_that_is_no_pod_is_let_pass_with_a_warning_unless_told_otherwise() {
    let mut review = review();
    review["request"]["object"] =
        json!({ "metadata": { "labels": { "tollgate.dev/inject": "true" } } });
    let allowed = answered(&review, OnFailure::Allow);
    assert_eq!(allowed.body["response"]["allowed"], true);
    assert!(allowed.body["response"]["warnings"][0].as_str().unwrap().contains("malformed"));
    let denied = answered(&review, OnFailure::Deny);
    assert_eq!(denied.body["response"]["allowed"], false);
}

#[test]
fn what_is_no_review_is_answered_by_one_that_says_so() {
    let mut beta = review();
    beta["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let mut other = review();
    other["kind"] = json!("ConversionReview");
    let uid = beta["request"]["uid"].clone();
    for (body, uid) in [
        ("no JSON".to_owned(), json!("")),
        ("{}".to_owned(), json!("")),
        ("[".repeat(1_000), json!("")),
        (beta.to_string(), uid.clone()),
        (other.to_string(), uid),
    ] {
        let answer = answer(body.as_bytes(), &config(), Version { major: 1, minor: 31 });
        assert!(!answer.is_review);
        let response = &answer.body["response"];
        assert_eq!((&response["uid"], &response["allowed"]), (&uid, &json!(false)));
        assert_eq!(response["status"]["code"], 400);
        assert_eq!(answer.body["apiVersion"], "admission.k8s.io/v1");
    }
}

#[test]
fn a_warning_is_one_short_line_whatever_the_pod_says() {
    let mut review = review();
    review["request"]["object"]["metadata"]["annotations"] =
        json!({ "tollgate.dev/image": format!("a\r\nset-cookie: b{}", "é".repeat(1_000)) });
    let answer = answered(&review, OnFailure::Allow);
    let warning = answer.body["response"]["warnings"][0].as_str().unwrap();
    assert!(warning.chars().count() <= 256);
    assert!(!warning.chars().any(char::is_control), "{warning}");
}

#[test]
fn the_namespace_is_the_requests_where_the_pod_has_none() {
    let mut review = review();
    review["request"]["namespace"] = json!("kube-system");
    let answer = answered(&review, OnFailure::Allow);
    assert_eq!(answer.body["response"]["auditAnnotations"]["injection"], "excluded-namespace");
    assert_eq!(answer.body["response"]["patch"], Value::Null);
}

/// Annotations have a limit in all; a note that copies a long one would pass it, and the
/// API server would refuse the pod.
#[test]
fn a_note_is_short_however_long_what_it_is_about() {
    let mut review = review();
    review["request"]["object"]["metadata"]["annotations"] =
        json!({ "tollgate.dev/image": "é".repeat(200_000) });
    let answer = answered(&review, OnFailure::Allow);
    assert!(patch(&answer.body).to_string().len() < 2_000);
}
