//! What becomes of a pod: the one decision of the injector, and a pure function.
//!
//! Callers of the pod's server shall meet Tollgate, without iptables and the rights they
//! need: so Tollgate takes over the *port*. Where the Service names the port, the name is
//! made to mean Tollgate's number; where it has a number, Tollgate listens there and the
//! server is moved by an environment variable (`ports`). The name stays on the server's
//! container, whatever container listens: before Kubernetes 1.32 a Service finds no
//! named port of a native sidecar, and some network plug-ins do not to this day; and
//! that containers of one pod declare each other's ports means nothing to the kubelet.
//!
//! Whatever is not said here stays as it is. A pod that asked and cannot be served is
//! left alone but for a note of the reason; who must not start without Tollgate says so.

mod asked;
mod options;
mod pod;
mod ports;
mod probes;
mod sidecar;
mod surroundings;

use self::{
    asked::Asked,
    options::Options,
    ports::{Server, Taken},
};
use crate::config::{Config, OnFailure, Version};
use serde_json::{Value, json};
use std::fmt;

/// Begins every label and annotation of ours.
pub const PREFIX: &str = "tollgate.dev/";

/// What the sidecar's container is called. A pod with one of that name is never touched.
pub const CONTAINER: &str = "tollgate";

/// What a pod that was injected says of it: JSON, for people and for tests.
const STATUS: &str = "tollgate.dev/status";

/// Why a pod that asked was not injected.
const NOTE: &str = "tollgate.dev/not-injected";

/// Characters of a [`Refusal`]'s detail; the list of known annotations fits.
const DETAIL_MAX: usize = 500;

/// What came of it.
#[derive(Clone, Debug)]
pub struct Mutation {
    /// The pod as it shall be; as it was where nothing is to be changed.
    pub pod: Value,
    /// What was done, or why not.
    pub outcome: Outcome,
    /// What its owner should know.
    pub warnings: Vec<String>,
}

/// What was done with a pod.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It has Tollgate now.
    Injected,
    /// It is as it was, and nobody wanted anything else.
    Left(Left),
    /// It asked, and cannot be served.
    Refused(Refusal),
}

/// Why a pod was left as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Neither label nor annotation asks.
    NotAsked,
    /// It says no.
    OptedOut,
    /// The namespace is Kubernetes' own, ours, or the operator's exception.
    Excluded,
    /// It has a container of that name: injected before, or by hand.
    Present,
}

impl Left {
    /// As it stands in metrics and audit annotations.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAsked => "not-asked",
            Self::OptedOut => "opted-out",
            Self::Excluded => "excluded-namespace",
            Self::Present => "present",
        }
    }
}

/// Why a pod that asked cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of which kind.
    pub reason: Reason,
    /// What, where, what to do.
    pub detail: String,
    /// Whether the pod said that it must not start without.
    pub required: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_str(), self.detail)
    }
}

/// Kinds of [`Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is no pod.
    Malformed,
    /// One of our annotations says what cannot be.
    Annotation,
    /// It shares the node's network, where ports are everybody's.
    HostNetwork,
    /// It runs on Windows.
    Windows,
    /// The kubelet's own, which the API server only mirrors.
    Mirror,
    /// An ordinary container would keep it from ever completing.
    NeverEnds,
    /// Which container or port is meant cannot be told.
    Ambiguous,
    /// There is no port that could be taken over.
    NoPort,
    /// Its port speaks TLS, which only a configuration of its own can end.
    Tls,
    /// A name or port that we need is taken.
    Taken,
}

impl Reason {
    /// Every kind, for series that are there from the start.
    pub const ALL: [Self; 10] = [
        Self::Malformed,
        Self::Annotation,
        Self::HostNetwork,
        Self::Windows,
        Self::Mirror,
        Self::NeverEnds,
        Self::Ambiguous,
        Self::NoPort,
        Self::Tls,
        Self::Taken,
    ];

    /// As it stands in notes, metrics and audit annotations.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Annotation => "annotation",
            Self::HostNetwork => "host-network",
            Self::Windows => "windows",
            Self::Mirror => "mirror-pod",
            Self::NeverEnds => "never-ends",
            Self::Ambiguous => "ambiguous",
            Self::NoPort => "no-port",
            Self::Tls => "tls",
            Self::Taken => "taken",
        }
    }

    /// Annotations may be long, and the note of this is one: all of a pod's together must
    /// stay below 256 KiB, or the API server refuses the pod.
    fn because(self, detail: impl Into<String>) -> Refusal {
        let mut detail: String = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(DETAIL_MAX) {
            detail.truncate(end);
            detail.push('…');
        }
        Refusal { reason: self, detail, required: false }
    }
}

/// The pod as it shall be, in `namespace`, on a server of that version.
#[must_use]
pub fn mutate(pod: &Value, namespace: &str, config: &Config, server: Version) -> Mutation {
    let unchanged = |outcome| Mutation { pod: pod.clone(), outcome, warnings: Vec::new() };
    let options = match asked::of(pod, namespace, config) {
        Asked::No(left) => return unchanged(Outcome::Left(left)),
        Asked::Wrongly(refusal) => Err(refusal),
        Asked::Yes(labels) => Options::read(&labels, config),
    };
    let required = config.on_failure == OnFailure::Deny || asked::is_required(pod);
    match options.and_then(|options| injected(pod, namespace, &options, config, server)) {
        Ok((pod, warnings)) => Mutation { pod, outcome: Outcome::Injected, warnings },
        Err(refusal) => {
            let refusal = Refusal { required, ..refusal };
            let mut left = pod.clone();
            // A mirror is the kubelet's: changed, it is made anew for ever.
            if !matches!(refusal.reason, Reason::Malformed | Reason::Mirror) {
                pod::annotate(&mut left, NOTE, refusal.to_string());
            }
            let warnings = vec![format!("tollgate was not injected: {refusal}")];
            Mutation { pod: left, outcome: Outcome::Refused(refusal), warnings }
        }
    }
}

fn injected(
    pod: &Value,
    namespace: &str,
    options: &Options,
    config: &Config,
    server: Version,
) -> Result<(Value, Vec<String>), Refusal> {
    let native = surroundings::is_native(pod, options, config, server)?;
    sidecar::is_there_room(pod)?;
    let server = ports::server(pod, options)?;
    let taken = ports::take(pod, &server, options, config)?;
    if server.speaks_tls && options.brings_none(config) {
        return Err(Reason::Tls.because(format!(
            "port {} of container {:?} speaks TLS; bring a configuration that ends it and \
             begins it anew, as {PREFIX}config-map",
            server.port, server.container
        )));
    }
    let mut warnings = Vec::new();
    let mut pod = pod.clone();
    probes::redirect(&mut pod, &server, &taken, &mut warnings);
    ports::apply(&mut pod, &server, &taken)?;
    surroundings::wait_for_drain(&mut pod, &server, &taken, &mut warnings);
    surroundings::grace(&mut pod, options, &mut warnings);
    surroundings::scrape(&mut pod, options, &taken);
    sidecar::add(&mut pod, namespace, native, options, config, &taken);
    pod::label(&mut pod, "tollgate.dev/proxy", "true");
    pod::unannotate(&mut pod, NOTE);
    pod::annotate(&mut pod, STATUS, status(&server, &taken, native));
    Ok((pod, warnings))
}

/// What was made of it, in one line.
fn status(server: &Server, taken: &Taken, native: bool) -> String {
    json!({
        "container": server.container,
        "listen": taken.listen,
        "server": taken.server,
        "metrics": taken.metrics,
        "native": native,
    })
    .to_string()
}
