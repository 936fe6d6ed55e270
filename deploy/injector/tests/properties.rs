//! What holds for any pod, and for what is none.

use crate::config;
use proptest::{collection::vec, option, prelude::*, sample::select, string::string_regex};
use serde_json::{Map, Value, json};
use tollgate_injector::{
    config::Version,
    diff::diff,
    mutate::{Outcome, mutate},
    review,
};

/// Any JSON, with names that mean something here and there.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        string_regex("[a-z~/]{0,3}").unwrap().prop_map(Value::from),
    ];
    let key = prop_oneof![
        string_regex("[a-z~/]{0,2}").unwrap(),
        select(vec!["name", "spec", "metadata", "containers", "ports"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((key.clone(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![select(vec![80, 8000, 8080, 9464, 9900, 18080, 65535]), 1..u16::MAX]
}

fn container(name: &'static str) -> impl Strategy<Value = Value> {
    let named = (option::weighted(0.8, select(vec!["http", "api"])), port(), any::<bool>());
    let probe = (select(vec!["httpGet", "tcpSocket", "grpc"]), any::<bool>(), port());
    (vec(named, 0..3), option::of(probe), option::of(any_json()), option::of(any_json())).prop_map(
        move |(ports, probe, lifecycle, env)| {
            let mut it = json!({ "name": name, "image": "x" });
            let ports: Vec<Value> = ports
                .into_iter()
                .map(|(name, port, tcp)| {
                    let mut it = json!({ "containerPort": port });
                    if let Some(name) = name {
                        it["name"] = json!(name);
                    }
                    if !tcp {
                        it["protocol"] = json!("UDP");
                    }
                    it
                })
                .collect();
            it["ports"] = json!(ports);
            if let Some((kind, named, port)) = probe {
                let port = if named { json!("http") } else { json!(port) };
                it["readinessProbe"] = json!({ kind: { "port": port } });
            }
            if let Some(lifecycle) = lifecycle {
                it["lifecycle"] = lifecycle;
            }
            if let Some(env) = env {
                it["env"] = env;
            }
            it
        },
    )
}

/// A pod that asks, with whatever else.
fn pod() -> impl Strategy<Value = Value> {
    let annotation = (
        select(vec![
            "port",
            "service-port",
            "server-port",
            "container",
            "config",
            "native-sidecar",
        ]),
        prop_oneof![
            select(vec!["http", "8000", "80", "true", "false", "a", ""]).prop_map(str::to_owned),
            string_regex(".{0,8}").unwrap(),
        ],
    );
    let grace = option::of(0..1000_u32);
    (container("a"), option::of(container("b")), vec(annotation, 0..2), grace, any_json()).prop_map(
        |(first, second, annotations, grace, more)| {
            let mut pod = json!({
                "metadata": { "name": "p", "labels": { "tollgate.dev/inject": "true" } },
                "spec": { "containers": [first], "more": more },
            });
            if let Some(second) = second {
                pod["spec"]["containers"].as_array_mut().unwrap().push(second);
            }
            for (key, value) in annotations {
                pod["metadata"]["annotations"][format!("tollgate.dev/{key}")] = json!(value);
            }
            if let Some(grace) = grace {
                pod["spec"]["terminationGracePeriodSeconds"] = json!(grace);
            }
            pod
        },
    )
}

fn server() -> impl Strategy<Value = Version> {
    (20..40_u16).prop_map(|minor| Version { major: 1, minor })
}

fn patched(old: &Value, new: &Value) -> Value {
    let steps = serde_json::to_value(diff(old, new)).unwrap();
    let mut patched = old.clone();
    json_patch::patch(&mut patched, &serde_json::from_value::<json_patch::Patch>(steps).unwrap())
        .unwrap();
    patched
}

proptest! {
    #[test]
    fn a_patch_makes_any_document_any_other(old in any_json(), new in any_json()) {
        prop_assert_eq!(patched(&old, &new), new);
    }

    #[test]
    fn any_pod_is_injected_at_most_once(pod in pod(), server in server()) {
        let config = config();
        let once = mutate(&pod, "prod", &config, server);
        let twice = mutate(&once.pod, "prod", &config, server);
        prop_assert_eq!(&patched(&pod, &once.pod), &once.pod);
        prop_assert_eq!(&twice.pod, &once.pod);
    }

    /// Two that listen on one port of a pod: the second never starts.
    #[test]
    fn no_two_of_a_pod_are_given_one_port(pod in pod(), server in server()) {
        let mutation = mutate(&pod, "prod", &config(), server);
        if !matches!(mutation.outcome, Outcome::Injected) {
            return Ok(());
        }
        let status = mutation.pod["metadata"]["annotations"]["tollgate.dev/status"].as_str();
        let status: Value = serde_json::from_str(status.unwrap()).unwrap();
        let [listen, server, metrics] = ["listen", "server", "metrics"].map(|it| &status[it]);
        prop_assert!(listen != server && server != metrics && metrics != listen, "{}", status);
        // Whom nobody asked to move has its port for itself.
        for other in pod["spec"]["containers"].as_array().unwrap() {
            for port in other["ports"].as_array().unwrap() {
                prop_assert_ne!(&port["containerPort"], metrics);
            }
        }
    }

    #[test]
    fn what_is_no_pod_is_let_pass_with_an_answer(object in any_json(), uid in "[a-z0-9-]{1,36}") {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": uid,
                "operation": "CREATE",
                "resource": { "group": "", "version": "v1", "resource": "pods" },
                "object": object,
            },
        });
        let answer = review::answer(review.to_string().as_bytes(), &config(), Version { major: 1, minor: 31 });
        prop_assert_eq!(&answer.body["response"]["uid"], &json!(uid));
        prop_assert_eq!(&answer.body["response"]["allowed"], &json!(true));
    }

    #[test]
    fn any_bytes_are_answered_by_a_review(body in vec(any::<u8>(), 0..64)) {
        let answer = review::answer(&body, &config(), Version { major: 1, minor: 31 });
        prop_assert_eq!(&answer.body["kind"], &json!("AdmissionReview"));
        prop_assert!(answer.body["response"]["allowed"].is_boolean());
    }
}
