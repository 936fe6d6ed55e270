//! Which port is taken over, and who listens where from then on.
//!
//! Three ways, by what the Service has for a `targetPort` (which a pod does not tell, so
//! an annotation may):
//! - its name (the way that needs nothing said): the name comes to mean Tollgate's number;
//! - the server's number: Tollgate listens there, the server is told to go elsewhere;
//! - another number: Tollgate listens there, the server stays.

use super::{
    PREFIX, Reason, Refusal,
    options::Options,
    pod::{PortRef, annotation, container_mut, containers, list, list_mut, text},
};
use crate::config::Config;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The container that is stood before, and its port, as they are.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) container: String,
    pub(super) name: Option<String>,
    pub(super) port: u16,
    pub(super) speaks_tls: bool,
}

/// Who listens where when we are done.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) way: Way,
    /// Tollgate, for callers.
    pub(super) listen: u16,
    /// The server.
    pub(super) server: u16,
    pub(super) metrics: u16,
    pub(super) admin: u16,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The port's name gets Tollgate's number.
    Name(String),
    /// The server leaves its number, told by this variable.
    Moved { variable: String },
    /// Callers come to a number that nobody had.
    Own,
}

/// Finds the server.
pub(super) fn server(pod: &Value, options: &Options) -> Result<Server, Refusal> {
    let container = container(pod, options)?;
    let called = text(container, "name").unwrap_or_default();
    let declared = declared(container);
    let (name, port) = match (&options.port, &options.service_port) {
        (Some(port), _) | (None, Some(port @ PortRef::Name(_))) => meant(port, &declared, called)?,
        (None, Some(PortRef::Number(number))) => {
            match declared.iter().find(|(_, port)| port == number) {
                Some((name, port)) => (name.map(str::to_owned), *port),
                // Servers need not declare what they listen on.
                None if declared.is_empty() => (None, *number),
                None => only(&declared, called)?,
            }
        }
        (None, None) => only(&declared, called)?,
    };
    let mut server = Server { container: called.to_owned(), name, port, speaks_tls: false };
    server.speaks_tls = speaks_tls(container, &server);
    Ok(server)
}

fn container<'a>(pod: &'a Value, options: &Options) -> Result<&'a Value, Refusal> {
    let mains = list(pod, "/spec/containers");
    let find = |name: &str| mains.iter().find(|one| text(one, "name") == Some(name));
    if let Some(name) = &options.container {
        return find(name).ok_or_else(|| {
            Reason::Annotation.because(format!("{PREFIX}container: there is no container {name:?}"))
        });
    }
    // Whom kubectl means is whom people mean.
    let usual = annotation(pod, "kubectl.kubernetes.io/default-container").and_then(find);
    let mut with_ports = mains.iter().filter(|one| !declared(one).is_empty());
    let found = match (usual, mains, with_ports.next(), with_ports.next()) {
        (Some(usual), ..) => Some(usual),
        (None, [one], ..) => Some(one),
        (None, _, with_ports, None) => with_ports,
        (None, ..) => None,
    };
    found.ok_or_else(|| {
        let names: Vec<&str> = mains.iter().filter_map(|one| text(one, "name")).collect();
        let detail =
            format!("which container is the server? say {PREFIX}container: one of {names:?}");
        Reason::Ambiguous.because(detail)
    })
}

/// The TCP ports of a container.
fn declared(container: &Value) -> Vec<(Option<&str>, u16)> {
    let tcp = |port: &&Value| matches!(text(port, "protocol"), None | Some("TCP" | ""));
    let number = |port: &Value| match PortRef::of(port.get("containerPort")?)? {
        PortRef::Number(number) => Some(number),
        PortRef::Name(_) => None,
    };
    list(container, "/ports")
        .iter()
        .filter(tcp)
        .filter_map(|port| {
            Some((text(port, "name").filter(|name| !name.is_empty()), number(port)?))
        })
        .collect()
}

type Port = (Option<String>, u16);

fn meant(
    port: &PortRef,
    declared: &[(Option<&str>, u16)],
    container: &str,
) -> Result<Port, Refusal> {
    match port {
        PortRef::Name(name) => declared
            .iter()
            .find(|(other, _)| *other == Some(name))
            .map(|(_, port)| (Some(name.clone()), *port))
            .ok_or_else(|| {
                let detail = format!("container {container:?} has no TCP port {name:?}");
                Reason::NoPort.because(detail)
            }),
        PortRef::Number(number) => {
            let name = declared.iter().find(|(_, port)| port == number).and_then(|(name, _)| *name);
            Ok((name.map(str::to_owned), *number))
        }
    }
}

/// The only port, or the one that says what it is.
fn only(declared: &[(Option<&str>, u16)], container: &str) -> Result<Port, Refusal> {
    let found = match declared {
        [one] => Some(one),
        several => several.iter().find(|(name, _)| *name == Some("http")),
    };
    found.map(|(name, port)| (name.map(str::to_owned), *port)).ok_or_else(|| {
        if declared.is_empty() {
            let detail = format!(
                "container {container:?} declares no TCP port; declare one with a name, or say \
                 {PREFIX}service-port"
            );
            return Reason::NoPort.because(detail);
        }
        let detail = format!(
            "container {container:?} has {} TCP ports, none called http; say {PREFIX}port",
            declared.len()
        );
        Reason::Ambiguous.because(detail)
    })
}

/// Whether the server's own probes of that port use TLS.
fn speaks_tls(container: &Value, server: &Server) -> bool {
    ["livenessProbe", "readinessProbe", "startupProbe"].into_iter().any(|probe| {
        let Some(get) = container.get(probe).and_then(|probe| probe.get("httpGet")) else {
            return false;
        };
        let port = get.get("port").and_then(PortRef::of);
        text(get, "scheme") == Some("HTTPS") && port.is_some_and(|port| server.is(&port))
    })
}

impl Server {
    /// Whether its container means this port by that.
    pub(super) fn is(&self, port: &PortRef) -> bool {
        match port {
            PortRef::Name(name) => self.name.as_ref() == Some(name),
            PortRef::Number(number) => self.port == *number,
        }
    }
}

/// Finds a number for everybody.
pub(super) fn take(
    pod: &Value,
    server: &Server,
    options: &Options,
    config: &Config,
) -> Result<Taken, Refusal> {
    let mut free = Free(used(pod));
    free.0.insert(server.port);
    let asked = options.listen_port.is_some();
    let (way, listen, moved) = match &options.service_port {
        Some(PortRef::Number(number)) if asked => {
            let detail = format!(
                "{PREFIX}listen-port and {PREFIX}service-port: {number} say the same; leave one"
            );
            return Err(Reason::Annotation.because(detail));
        }
        Some(PortRef::Number(number)) if *number == server.port => {
            let moved = free.find("server-port", options.server_port, next(server.port))?;
            (Way::Moved { variable: options.port_env.clone() }, *number, Some(moved))
        }
        Some(PortRef::Number(number)) => {
            (Way::Own, free.find("service-port", Some(*number), *number)?, None)
        }
        Some(PortRef::Name(name)) if server.name.as_ref() != Some(name) => {
            let detail =
                format!("{PREFIX}service-port: {name:?} is not the port that {PREFIX}port names");
            return Err(Reason::Annotation.because(detail));
        }
        Some(PortRef::Name(_)) | None => {
            let name = server.name.clone().ok_or_else(|| unnamed(server))?;
            (
                Way::Name(name),
                free.find("listen-port", options.listen_port, config.ports.listen)?,
                None,
            )
        }
    };
    if moved.is_none() && options.server_port.is_some() {
        let detail = format!(
            "{PREFIX}server-port is where the server goes when Tollgate takes its number; say \
             {PREFIX}service-port: \"{}\", too",
            server.port
        );
        return Err(Reason::Annotation.because(detail));
    }
    Ok(Taken {
        way,
        listen,
        server: moved.unwrap_or(server.port),
        metrics: free.find("metrics-port", options.metrics_port, config.ports.metrics)?,
        admin: free.find("admin-port", options.admin_port, config.ports.admin)?,
    })
}

fn unnamed(server: &Server) -> Refusal {
    let port = server.port;
    Reason::NoPort.because(format!(
        "port {port} has no name; give it one and have the Service target that, or say \
         {PREFIX}service-port: \"{port}\" where the Service has the number and the server \
         listens where the variable PORT tells it"
    ))
}

/// How far away another port is looked for.
const STEP: u16 = 10_000;

fn next(port: u16) -> u16 {
    port.checked_add(STEP).unwrap_or(STEP)
}

/// Numbers that containers declare, and that probes and variables name.
fn used(pod: &Value) -> BTreeSet<u16> {
    let mut used = BTreeSet::new();
    for container in containers(pod) {
        let ports = list(container, "/ports").iter().filter_map(|port| port.get("containerPort"));
        let probes = ["livenessProbe", "readinessProbe", "startupProbe"]
            .into_iter()
            .filter_map(|probe| container.get(probe))
            .flat_map(|probe| ["httpGet", "tcpSocket", "grpc"].map(|kind| probe.get(kind)))
            .filter_map(|action| action?.get("port"));
        let variables = list(container, "/env")
            .iter()
            .filter(|variable| text(variable, "name").is_some_and(|name| name.ends_with("PORT")))
            .filter_map(|variable| variable.get("value"));
        for port in ports.chain(probes).chain(variables).filter_map(PortRef::of) {
            if let PortRef::Number(number) = port {
                used.insert(number);
            }
        }
    }
    used
}

/// What is left to take.
struct Free(BTreeSet<u16>);

impl Free {
    /// The port that was asked for, or the nearest to the preferred one by [`STEP`]s.
    fn find(&mut self, what: &str, asked: Option<u16>, preferred: u16) -> Result<u16, Refusal> {
        let found = match asked {
            Some(port) => Some(port).filter(|port| !self.0.contains(port)),
            None => (0..=u16::MAX / STEP)
                .filter_map(|n| preferred.checked_add(n.checked_mul(STEP)?))
                .chain(preferred..preferred.saturating_add(STEP))
                .find(|port| !self.0.contains(port)),
        };
        let port = found.ok_or_else(|| {
            let port = asked.unwrap_or(preferred);
            Reason::Taken
                .because(format!("{port} is in use in the pod; say another {PREFIX}{what}"))
        })?;
        self.0.insert(port);
        Ok(port)
    }
}

/// Makes the pod's declarations and variables so.
pub(super) fn apply(pod: &mut Value, server: &Server, taken: &Taken) -> Result<(), Refusal> {
    let Some(container) = container_mut(pod, &server.container) else { return Ok(()) };
    match &taken.way {
        Way::Own => {}
        Way::Name(name) => {
            let ports = list_mut(container, "ports").into_iter().flatten();
            for port in ports.filter(|port| text(port, "name") == Some(name)) {
                if let Some(port) = port.as_object_mut() {
                    port.insert("containerPort".to_owned(), json!(taken.listen));
                }
            }
        }
        Way::Moved { variable } => set(container, variable, taken.server)?,
    }
    Ok(())
}

/// Sets a variable of the container, first of all: so that others may refer to it.
fn set(container: &mut Value, variable: &str, port: u16) -> Result<(), Refusal> {
    let value = port.to_string();
    let Some(all) = list_mut(container, "env") else { return Ok(()) };
    match all.iter_mut().find(|one| text(one, "name") == Some(variable)) {
        None => all.insert(0, json!({ "name": variable, "value": value })),
        Some(there) if there.get("valueFrom").is_some_and(|from| !from.is_null()) => {
            return Err(Reason::Taken.because(format!(
                "the variable {variable} comes from elsewhere (valueFrom); say another \
                 {PREFIX}port-env"
            )));
        }
        Some(there) => {
            if let Some(there) = there.as_object_mut() {
                there.insert("value".to_owned(), Value::String(value));
            }
        }
    }
    Ok(())
}
