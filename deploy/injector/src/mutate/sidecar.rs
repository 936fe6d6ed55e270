//! Tollgate's container, and the volumes it brings.
//!
//! The same as the component `deploy/kubernetes/components/sidecar` has, so that a pod
//! may go from one to the other; and it passes the restricted standard of pod security
//! by itself, whatever the pod says for its others.

use super::{
    CONTAINER, Reason, Refusal,
    options::Options,
    pod::{at, list, list_mut, text},
    ports::{Taken, Way},
};
use crate::config::{Config, Resources};
use serde_json::{Map, Value, json};

const CONFIGURATION: &str = "tollgate-configuration";
const SECRETS: &str = "tollgate-secrets";
const LEDGER: &str = "tollgate-ledger";

/// The image's user.
const USER: u32 = 65532;

/// 0444: without the pod's `fsGroup`, which is the server's to have, the files are
/// root's; no other container mounts them.
const FILE_MODE: u32 = 292;

/// # Errors
/// The pod has a volume of our names.
pub(super) fn is_there_room(pod: &Value) -> Result<(), Refusal> {
    let taken = list(pod, "/spec/volumes")
        .iter()
        .filter_map(|volume| text(volume, "name"))
        .find(|name| [CONFIGURATION, SECRETS, LEDGER].contains(name));
    match taken {
        None => Ok(()),
        Some(name) => Err(Reason::Taken.because(format!("the pod has a volume {name:?} already"))),
    }
}

/// Puts it into the pod.
pub(super) fn add(
    pod: &mut Value,
    namespace: &str,
    native: bool,
    options: &Options,
    config: &Config,
    taken: &Taken,
) {
    let cache = cache_namespace(pod, namespace, options);
    let sidecar = container(&cache, native, options, config, taken);
    let Some(spec) = pod.get_mut("spec") else { return };
    if native {
        // First, so that those after it, and all that is left of the pod's end, have it.
        if let Some(all) = list_mut(spec, "initContainers") {
            all.insert(0, sidecar);
        }
    } else if let Some(all) = list_mut(spec, "containers") {
        // Last: the first is whom `kubectl logs` and `exec` mean.
        all.push(sidecar);
    }
    if let Some(volumes) = list_mut(spec, "volumes") {
        volumes.extend(self::volumes(options, config));
    }
    let Some(secret) = &config.image_pull_secret else { return };
    let Some(secrets) = list_mut(spec, "imagePullSecrets") else { return };
    if !secrets.iter().any(|one| text(one, "name") == Some(secret)) {
        secrets.push(json!({ "name": secret }));
    }
}

fn container(
    cache: &str,
    native: bool,
    options: &Options,
    config: &Config,
    taken: &Taken,
) -> Value {
    let mut it = Map::new();
    let mut set = |member: &str, value: Value| it.insert(member.to_owned(), value);
    set("name", json!(CONTAINER));
    set("image", json!(options.image));
    if let Some(policy) = &config.image_pull_policy {
        set("imagePullPolicy", json!(policy));
    }
    if native {
        set("restartPolicy", json!("Always"));
    }
    set("args", arguments(options, config, taken));
    set("env", variables(cache, options));
    set("ports", ports(taken));
    // None of these asks the server behind: a slow start there must not stop this.
    set("startupProbe", probe("/readyz", 1, 30, taken));
    set("readinessProbe", probe("/readyz", 2, 1, taken));
    set("livenessProbe", probe("/livez", 10, 3, taken));
    let hook = json!({ "httpGet": { "path": "/wait-for-drain", "port": taken.metrics } });
    set("lifecycle", json!({ "preStop": hook }));
    set("resources", resources(&options.resources));
    set(
        "securityContext",
        json!({
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
            "seccompProfile": { "type": "RuntimeDefault" },
        }),
    );
    set("volumeMounts", mounts(options, config));
    Value::Object(it)
}

fn arguments(options: &Options, config: &Config, taken: &Taken) -> Value {
    let mut words = vec!["run".to_owned()];
    if options.mounted(config).is_some() {
        words.extend(["-c".to_owned(), "/etc/tollgate/tollgate.yaml".to_owned()]);
    } else if options.config.is_none() {
        words.push(format!("--upstream=http://127.0.0.1:{}", taken.server));
    }
    words.push(format!("--listen={}:{}", config.bind, taken.listen));
    words.push(format!("--metrics={}:{}", config.bind, taken.metrics));
    // On loopback, without a token: of the pod's own network and nobody else's.
    words.push(format!("--admin=127.0.0.1:{}", taken.admin));
    words.push("--data-dir=/data/ledger".to_owned());
    json!(words)
}

fn variables(cache: &str, options: &Options) -> Value {
    let mut variables = vec![json!({ "name": "TOLLGATE_NAMESPACE", "value": cache })];
    if let Some(text) = &options.config {
        // A doubled dollar is one to the kubelet, which would read $(…) as a variable.
        let text = text.replace('$', "$$");
        variables.push(json!({ "name": "TOLLGATE_CONFIG", "value": text }));
    }
    Value::Array(variables)
}

fn ports(taken: &Taken) -> Value {
    // Where the name is the server's container's, it is found there by everybody.
    let callers = match taken.way {
        Way::Name(_) | Way::Moved { .. } => {
            json!({ "containerPort": taken.listen, "protocol": "TCP" })
        }
        Way::Own => {
            json!({ "name": "tollgate", "containerPort": taken.listen, "protocol": "TCP" })
        }
    };
    json!([callers, { "name": "metrics", "containerPort": taken.metrics, "protocol": "TCP" }])
}

fn probe(path: &str, period_s: u32, failures: u32, taken: &Taken) -> Value {
    json!({
        "httpGet": { "path": path, "port": taken.metrics },
        "periodSeconds": period_s,
        "failureThreshold": failures,
    })
}

fn resources(of: &Resources) -> Value {
    let mut limits = Map::new();
    for (name, limit) in [("cpu", &of.cpu_limit), ("memory", &of.memory_limit)] {
        if let Some(limit) = limit {
            limits.insert(name.to_owned(), json!(limit.to_string()));
        }
    }
    json!({
        "requests": {
            "cpu": of.cpu_request.to_string(),
            "memory": of.memory_request.to_string(),
        },
        "limits": limits,
    })
}

fn mounts(options: &Options, config: &Config) -> Value {
    let mut mounts = Vec::new();
    if options.mounted(config).is_some() {
        mounts
            .push(json!({ "name": CONFIGURATION, "mountPath": "/etc/tollgate", "readOnly": true }));
    }
    if options.secret.is_some() {
        mounts.push(
            json!({ "name": SECRETS, "mountPath": "/run/secrets/tollgate", "readOnly": true }),
        );
    }
    mounts.push(json!({ "name": LEDGER, "mountPath": "/data" }));
    Value::Array(mounts)
}

fn volumes(options: &Options, config: &Config) -> Vec<Value> {
    let mut volumes = Vec::new();
    if let Some(name) = options.mounted(config) {
        volumes.push(json!({ "name": CONFIGURATION, "configMap": { "name": name } }));
    }
    if let Some(name) = &options.secret {
        let secret = json!({ "secretName": name, "defaultMode": FILE_MODE });
        volumes.push(json!({ "name": SECRETS, "secret": secret }));
    }
    let size = options.ledger_size.to_string();
    volumes.push(json!({ "name": LEDGER, "emptyDir": { "sizeLimit": size } }));
    volumes
}

/// Whose entries these pods share: those of one workload. The namespace in front is the
/// pod's own, so that no annotation reaches another's.
fn cache_namespace(pod: &Value, namespace: &str, options: &Options) -> String {
    let name = options.cache_namespace.clone().or_else(|| workload(pod));
    format!("{namespace}/{}", name.as_deref().unwrap_or(CONTAINER))
}

/// The name of what made the pod, the same for all that it makes.
fn workload(pod: &Value) -> Option<String> {
    let metadata = at(pod, "/metadata");
    let owners = list(metadata, "/ownerReferences");
    let owner = owners
        .iter()
        .find(|owner| owner.get("controller") == Some(&Value::Bool(true)))
        .or_else(|| owners.first());
    if let Some(owner) = owner.and_then(|owner| text(owner, "name")) {
        // A ReplicaSet is a Deployment's name and the hash of its template.
        let hash = at(metadata, "/labels").get("pod-template-hash").and_then(Value::as_str);
        let deployment =
            hash.and_then(|hash| owner.strip_suffix(hash)).and_then(|name| name.strip_suffix('-'));
        return Some(deployment.unwrap_or(owner).to_owned());
    }
    let prefix = text(metadata, "generateName").map(|name| name.trim_end_matches('-'));
    prefix.or_else(|| text(metadata, "name")).filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_called_as_what_made_the_pod() {
        let owner =
            |name: &str| json!([{ "kind": "ReplicaSet", "name": name, "controller": true }]);
        for (metadata, name) in [
            (
                json!({ "ownerReferences": owner("web-5d8f7"), "labels": { "pod-template-hash": "5d8f7" } }),
                Some("web"),
            ),
            (json!({ "ownerReferences": owner("web-5d8f7") }), Some("web-5d8f7")),
            (json!({ "ownerReferences": [{ "kind": "StatefulSet", "name": "db" }] }), Some("db")),
            (json!({ "generateName": "job-" }), Some("job")),
            (json!({ "name": "one" }), Some("one")),
            (json!({}), None),
        ] {
            assert_eq!(workload(&json!({ "metadata": metadata })).as_deref(), name, "{metadata}");
        }
    }
}
