//! Pods as they come and as they go, each pair of files a promise by its name.
//!
//! `NAME.in.json` has the pod, and what differs of the operator's settings or the
//! server's version; `NAME.out.json` what becomes of it. The Python checks of what is
//! deployed hold the latter to the schemas of Kubernetes.

use crate::{config, raw::Raw};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tollgate_injector::{
    config::{Config, Version},
    diff::diff,
    mutate::{Mutation, Outcome, mutate},
};

/// A file, and what it says.
struct Case {
    name: String,
    out: PathBuf,
    text: String,
    pod: Value,
    namespace: String,
    config: Config,
    server: Version,
}

impl Case {
    fn mutate(&self, pod: &Value) -> Mutation {
        mutate(pod, &self.namespace, &self.config, self.server)
    }
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        let Some(name) = file.strip_suffix(".in.json") else { continue };
        let text = fs::read_to_string(&path).unwrap();
        let case: Value = serde_json::from_str(&text).unwrap();
        let text_of = |member: &str, default: &str| {
            case.get(member).map_or(default, |it| it.as_str().unwrap()).to_owned()
        };
        cases.push(Case {
            name: name.to_owned(),
            out: path.with_file_name(format!("{name}.out.json")),
            pod: case["pod"].clone(),
            namespace: text_of("namespace", "prod"),
            config: configured(&case["config"]),
            server: text_of("server", "1.31").parse().unwrap(),
            text,
        });
    }
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    cases
}

fn configured(settings: &Value) -> Config {
    let mut config = config();
    for (name, value) in settings.as_object().into_iter().flatten() {
        let value = value.as_str().unwrap().to_owned();
        match name.as_str() {
            "bind" => config.bind = value,
            "config_map" => config.config_map = Some(value),
            "image_pull_policy" => config.image_pull_policy = Some(value),
            "image_pull_secret" => config.image_pull_secret = Some(value),
            "native_from" => config.native_from = value.parse().unwrap(),
            other => panic!("{other}: no setting of a case"),
        }
    }
    config
}

fn shown(mutation: &Mutation) -> Value {
    let outcome = match &mutation.outcome {
        Outcome::Injected => "injected".to_owned(),
        Outcome::Left(left) => format!("left: {}", left.as_str()),
        Outcome::Refused(refusal) if refusal.required => format!("denied: {refusal}"),
        Outcome::Refused(refusal) => format!("refused: {refusal}"),
    };
    json!({ "outcome": outcome, "warnings": mutation.warnings, "pod": mutation.pod })
}

#[test]
fn every_pod_becomes_what_its_file_says() {
    let cases = cases();
    assert!(cases.len() >= 40, "{}", cases.len());
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden");
    fs::create_dir_all(&made).unwrap();
    let mut differ = Vec::new();
    for case in &cases {
        let got = shown(&case.mutate(&case.pod));
        let wanted = fs::read_to_string(&case.out).unwrap_or_else(|_| "null".to_owned());
        let wanted: Value = serde_json::from_str(&wanted).unwrap();
        if got != wanted {
            let text = serde_json::to_string_pretty(&got).unwrap() + "\n";
            fs::write(made.join(case.out.file_name().unwrap()), text).unwrap();
            differ.push(&case.name);
        }
    }
    let made = made.display();
    assert!(differ.is_empty(), "{differ:#?}\nwhat they became is in {made}; if right, copy it");
}

#[test]
fn what_was_done_once_is_not_done_twice() {
    for case in cases() {
        let once = case.mutate(&case.pod);
        let twice = case.mutate(&once.pod);
        assert_eq!(once.pod, twice.pod, "{}", case.name);
    }
}

/// Applied by another's code, as the API server does.
#[test]
fn the_patch_makes_the_pod() {
    for case in cases() {
        let mutation = case.mutate(&case.pod);
        let steps = serde_json::to_value(diff(&case.pod, &mutation.pod)).unwrap();
        let mut pod = case.pod.clone();
        let steps: json_patch::Patch = serde_json::from_value(steps).unwrap();
        json_patch::patch(&mut pod, &steps).unwrap();
        assert_eq!(pod, mutation.pod, "{}", case.name);
    }
}

/// What of a pod's own may be another afterwards. (What is new is no change.)
fn may_change(place: &str) -> bool {
    let ends = |of: &[&str]| of.iter().any(|end| place.ends_with(end));
    let annotation = place.strip_prefix("/metadata/annotations/");
    let asked = annotation.is_some_and(|key| {
        key.starts_with("prometheus.io~1")
            || ["tollgate.dev~1not-injected", "tollgate.dev~1status"].contains(&key)
    });
    let probes = ["httpGet/port", "tcpSocket/port", "grpc/port"];
    let of_container = place.starts_with("/spec/containers/")
        && (ends(&probes) || ends(&["/containerPort", "/env/PORT/value"]));
    asked || of_container || place == "/spec/terminationGracePeriodSeconds"
}

/// Numbers as they were written, escapes as they were chosen: what no step names is not
/// written anew.
#[test]
fn what_is_not_ours_stays_byte_by_byte() {
    let mut same = 0;
    for case in cases() {
        let mutation = case.mutate(&case.pod);
        let before = Raw::read(&case.text).member("pod").unwrap();
        let mut after = before.clone();
        for step in
            serde_json::to_value(diff(&case.pod, &mutation.pod)).unwrap().as_array().unwrap()
        {
            after.apply(step);
        }
        let after = after.leaves();
        for (place, text) in before.leaves() {
            if after.get(&place) == Some(&text) {
                same += 1;
            } else {
                assert!(may_change(&place), "{}: {place}: {text}", case.name);
            }
        }
    }
    assert!(same > 1000, "{same}");
}

#[test]
fn every_note_and_warning_says_what_to_do() {
    for case in cases() {
        let mutation = case.mutate(&case.pod);
        for warning in &mutation.warnings {
            assert!(warning.len() > 40, "{}: {warning}", case.name);
        }
        if let Outcome::Refused(refusal) = &mutation.outcome {
            assert!(!mutation.warnings.is_empty(), "{}", case.name);
            let note = &mutation.pod["metadata"]["annotations"]["tollgate.dev/not-injected"];
            let noted = note.as_str().is_some_and(|note| note.contains(&refusal.detail));
            let silent = ["malformed", "mirror-pod"].contains(&refusal.reason.as_str());
            assert!(noted != silent, "{}: {note}", case.name);
        }
    }
}
