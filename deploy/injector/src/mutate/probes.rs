//! What the kubelet asks of the server, it must go on asking of the server: a probe that
//! met Tollgate would be queued, metered and cached with the calls.

use super::{
    CONTAINER,
    pod::{PortRef, list, text},
    ports::{Server, Taken, Way},
};
use serde_json::{Value, json};

/// Whatever asks a port of the pod.
const ASKING: [&[&str]; 5] = [
    &["livenessProbe"],
    &["readinessProbe"],
    &["startupProbe"],
    &["lifecycle", "postStart"],
    &["lifecycle", "preStop"],
];

/// The ways of asking that name a port. `exec` names one in words of its own, if at all.
const BY_PORT: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];

/// Points every probe and hook that means the server's port to where the server is.
pub(super) fn redirect(
    pod: &mut Value,
    server: &Server,
    taken: &Taken,
    warnings: &mut Vec<String>,
) {
    let moved = matches!(taken.way, Way::Moved { .. });
    if taken.way == Way::Own {
        return;
    }
    for kind in ["/spec/containers", "/spec/initContainers"] {
        let containers = pod.pointer_mut(kind).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let own = kind == "/spec/containers"
                && text(container, "name") == Some(server.container.as_str());
            for path in ASKING {
                let mut place = Some(&mut *container);
                for step in path {
                    place = place.and_then(|place| place.get_mut(step));
                }
                if let Some(place) = place {
                    redirect_one(
                        place,
                        |port| match port {
                            // A number is what it was, unless the server has left it.
                            PortRef::Number(number) => moved && *number == server.port,
                            // A name is looked up in the container of the probe.
                            PortRef::Name(_) => own && server.is(port),
                        },
                        taken.server,
                    );
                }
            }
            if moved && own {
                warn(container, server, taken, warnings);
            }
        }
    }
}

fn redirect_one(asking: &mut Value, is_meant: impl Fn(&PortRef) -> bool, to: u16) {
    for kind in BY_PORT {
        let Some(action) = asking.get_mut(kind).and_then(Value::as_object_mut) else { continue };
        // Another host's port is not ours.
        let elsewhere = action.get("host").and_then(Value::as_str).is_some_and(|it| !it.is_empty());
        let port = action.get("port").and_then(PortRef::of);
        if !elsewhere && port.as_ref().is_some_and(&is_meant) {
            action.insert("port".to_owned(), json!(to));
        }
    }
}

/// A server that is told its port on the command line does not look at variables.
fn warn(container: &Value, server: &Server, taken: &Taken, warnings: &mut Vec<String>) {
    let Way::Moved { variable } = &taken.way else { return };
    let port = server.port;
    let words = list(container, "/command").iter().chain(list(container, "/args"));
    if words.filter_map(Value::as_str).any(|word| names(word, port)) {
        warnings.push(format!(
            "the command line of container {:?} names port {port}, which {CONTAINER} takes; \
             write $({variable}) there, or the server cannot listen",
            server.container
        ));
    }
    let asks_itself = ASKING.iter().any(|path| {
        let pointer = format!("/{}/exec/command", path.join("/"));
        list(container, &pointer).iter().filter_map(Value::as_str).any(|word| names(word, port))
    });
    if asks_itself {
        warnings.push(format!(
            "an exec probe of container {:?} names port {port}, where {CONTAINER} answers now",
            server.container
        ));
    }
}

/// Whether the number stands there by itself.
fn names(word: &str, port: u16) -> bool {
    let port = port.to_string();
    word.split(|c: char| !c.is_ascii_digit()).any(|number| number == port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_found_in_a_word_only_by_itself() {
        assert!(names("--port=8000", 8000) && names("http://127.0.0.1:8000/", 8000));
        assert!(!names("--seed=18000", 8000) && !names("80001", 8000) && !names("", 8000));
    }
}
