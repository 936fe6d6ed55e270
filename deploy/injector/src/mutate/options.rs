//! What a pod's annotations say of how it shall be served.
//!
//! An annotation of ours that is not known is an error, like an unknown key of a
//! configuration: one that was mistyped would else be served by defaults, silently.

use super::{PREFIX, Reason, Refusal, pod::PortRef};
use crate::config::{Config, Quantity, Resources};
use serde_json::{Map, Value};
use std::str::FromStr;

/// What is known behind [`PREFIX`], but for what the injector writes itself.
const KNOWN: [&str; 23] = [
    "admin-port",
    "cache-namespace",
    "config",
    "config-map",
    "container",
    "cpu-limit",
    "cpu-request",
    "drain-deadline",
    "image",
    "inject",
    "ledger-size",
    "listen-port",
    "memory-limit",
    "memory-request",
    "metrics-port",
    "native-sidecar",
    "port",
    "port-env",
    "required",
    "scrape",
    "secret",
    "server-port",
    "service-port",
];

/// Written by the injector; a pod made from one that was read back has them.
const OURS: [&str; 2] = ["status", "not-injected"];

#[derive(Debug)]
pub(super) struct Options {
    /// Which container is the server.
    pub(super) container: Option<String>,
    /// Which of its ports callers mean.
    pub(super) port: Option<PortRef>,
    /// What the Service has for a `targetPort`.
    pub(super) service_port: Option<PortRef>,
    /// Where the server goes, where it has to go.
    pub(super) server_port: Option<u16>,
    /// The variable that moves it.
    pub(super) port_env: String,
    pub(super) listen_port: Option<u16>,
    pub(super) metrics_port: Option<u16>,
    pub(super) admin_port: Option<u16>,
    /// A whole configuration, as YAML text.
    pub(super) config: Option<String>,
    /// The ConfigMap that has one.
    pub(super) config_map: Option<String>,
    /// The secret whose keys become files.
    pub(super) secret: Option<String>,
    pub(super) cache_namespace: Option<String>,
    pub(super) image: String,
    pub(super) native_sidecar: Option<bool>,
    pub(super) resources: Resources,
    pub(super) ledger_size: Quantity,
    pub(super) drain_deadline_s: u32,
    /// Whose metrics the pod's `prometheus.io` annotations mean.
    pub(super) scrape: Scrape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scrape {
    /// The server's, where they name some; else Tollgate's.
    Server,
    /// Tollgate's, whatever they named.
    Tollgate,
}

impl Options {
    pub(super) fn read(annotations: &Map<String, Value>, config: &Config) -> Result<Self, Refusal> {
        let of = Annotations(annotations);
        of.check_names()?;
        let options = Self {
            container: of.checked("container", is_name)?,
            port: of.port_ref("port")?,
            service_port: of.port_ref("service-port")?,
            server_port: of.port("server-port")?,
            port_env: of.checked("port-env", is_variable)?.unwrap_or_else(|| "PORT".to_owned()),
            listen_port: of.port("listen-port")?,
            metrics_port: of.port("metrics-port")?,
            admin_port: of.port("admin-port")?,
            config: of.text("config").map(str::to_owned),
            config_map: of.checked("config-map", is_name)?,
            secret: of.checked("secret", is_name)?,
            cache_namespace: of.checked("cache-namespace", is_name)?,
            image: of.checked("image", is_image)?.unwrap_or_else(|| config.image.clone()),
            native_sidecar: of.flag("native-sidecar")?,
            resources: of.resources(&config.resources)?,
            ledger_size: of.parsed("ledger-size")?.unwrap_or_else(|| config.ledger_size.clone()),
            drain_deadline_s: of.seconds("drain-deadline")?.unwrap_or(config.drain_deadline_s),
            scrape: match of.text("scrape") {
                None | Some("server") => Scrape::Server,
                Some("tollgate") => Scrape::Tollgate,
                Some(other) => return Err(of.wrong("scrape", other, "server or tollgate")),
            },
        };
        of.flag("required")?;
        if options.config.is_some() && options.config_map.is_some() {
            let detail =
                format!("{PREFIX}config and {PREFIX}config-map are two configurations; leave one");
            return Err(Reason::Annotation.because(detail));
        }
        Ok(options)
    }

    /// The ConfigMap that is mounted, if one is.
    pub(super) fn mounted<'a>(&'a self, config: &'a Config) -> Option<&'a str> {
        if self.config.is_some() {
            return None;
        }
        self.config_map.as_deref().or(config.config_map.as_deref())
    }

    /// Whether Tollgate runs by `--upstream` alone.
    pub(super) fn brings_none(&self, config: &Config) -> bool {
        self.config.is_none() && self.mounted(config).is_none()
    }
}

struct Annotations<'a>(&'a Map<String, Value>);

impl Annotations<'_> {
    fn check_names(&self) -> Result<(), Refusal> {
        let ours = self.0.keys().filter_map(|key| key.strip_prefix(PREFIX));
        for name in ours {
            if !KNOWN.contains(&name) && !OURS.contains(&name) {
                let known = KNOWN.join(", ");
                let detail = format!("{PREFIX}{name} is not known; there are {known}");
                return Err(Reason::Annotation.because(detail));
            }
        }
        Ok(())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(&format!("{PREFIX}{name}"))?.as_str()
    }

    fn wrong(&self, name: &str, value: &str, right: &str) -> Refusal {
        Reason::Annotation.because(format!("{PREFIX}{name} is {value:?}; say {right}"))
    }

    fn checked(&self, name: &str, is_right: fn(&str) -> bool) -> Result<Option<String>, Refusal> {
        match self.text(name) {
            Some(value) if !is_right(value) => {
                Err(self.wrong(name, value, "what Kubernetes takes for one"))
            }
            value => Ok(value.map(str::to_owned)),
        }
    }

    fn parsed<T: FromStr<Err = String>>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let read = |text: &str| {
            text.parse()
                .map_err(|error| Reason::Annotation.because(format!("{PREFIX}{name}: {error}")))
        };
        self.text(name).map(read).transpose()
    }

    fn port(&self, name: &str) -> Result<Option<u16>, Refusal> {
        match self.port_ref(name)? {
            None => Ok(None),
            Some(PortRef::Number(port)) => Ok(Some(port)),
            Some(PortRef::Name(text)) => Err(self.wrong(name, &text, "a number from 1 to 65535")),
        }
    }

    fn port_ref(&self, name: &str) -> Result<Option<PortRef>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let port = PortRef::of(&Value::String(text.to_owned()));
        match port {
            Some(PortRef::Name(port)) if !is_port_name(&port) => {
                Err(self.wrong(name, text, "a port's name, or a number from 1 to 65535"))
            }
            port => Ok(port),
        }
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.text(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(self.wrong(name, other, "\"true\" or \"false\"")),
        }
    }

    /// `50` or `50s`, a day at most.
    fn seconds(&self, name: &str) -> Result<Option<u32>, Refusal> {
        let read = |text: &str| {
            let seconds = text.strip_suffix('s').unwrap_or(text).parse::<u32>().ok();
            seconds
                .filter(|seconds| *seconds <= 86_400)
                .ok_or_else(|| self.wrong(name, text, "seconds, as 50s"))
        };
        self.text(name).map(read).transpose()
    }

    fn resources(&self, given: &Resources) -> Result<Resources, Refusal> {
        let resources = Resources {
            cpu_request: self.parsed("cpu-request")?.unwrap_or_else(|| given.cpu_request.clone()),
            cpu_limit: self.limit("cpu-limit", given.cpu_limit.as_ref())?,
            memory_request: self
                .parsed("memory-request")?
                .unwrap_or_else(|| given.memory_request.clone()),
            memory_limit: self.limit("memory-limit", given.memory_limit.as_ref())?,
        };
        resources.check().map_err(|detail| Reason::Annotation.because(detail))?;
        Ok(resources)
    }

    /// A limit may be lifted.
    fn limit(&self, name: &str, given: Option<&Quantity>) -> Result<Option<Quantity>, Refusal> {
        match self.text(name) {
            Some("none") => Ok(None),
            Some(_) => self.parsed(name),
            None => Ok(given.cloned()),
        }
    }
}

/// RFC 1123's names, with points: what objects are called.
fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    text.len() <= 253
        && text.chars().all(inner)
        && outer(text.chars().next())
        && outer(text.chars().next_back())
}

/// RFC 6335's service names.
fn is_port_name(text: &str) -> bool {
    text.len() <= 15
        && is_name(text)
        && !text.contains('.')
        && !text.contains("--")
        && text.chars().any(|c| c.is_ascii_lowercase())
}

fn is_variable(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.len() <= 253
        && text.starts_with(first)
        && text.chars().all(|c| first(c) || c.is_ascii_digit())
}

fn is_image(text: &str) -> bool {
    !text.is_empty() && text.len() <= 1024 && text.chars().all(|c| c.is_ascii_graphic())
}
