//! The services behind us, as they are after validation.

use std::{
    collections::BTreeMap,
    fmt,
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    time::Duration,
};

/// The place of an upstream in [`crate::Config::upstreams`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamId(usize);

/// A named set of interchangeable endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub id: UpstreamId,
    /// `[A-Za-z0-9._-]`, at most 64 bytes. Part of every cache key.
    pub name: String,
    /// Never empty; all of one scheme; none twice.
    pub endpoints: Vec<Endpoint>,
    pub host: HostHeader,
    /// Whether requests get a `via` field.
    pub via: bool,
    pub balance: Balance,
    /// Calls at one time over all endpoints. `None`: no limit, nothing queues.
    pub concurrency_limit: Option<NonZeroU32>,
    /// In place of a limit: as many as its answers show that it can have.
    pub adaptive: Option<Adaptive>,
    /// By tenant, its share among those of its class; of all others 1.
    pub tenant_weights: BTreeMap<String, u32>,
    /// How many may wait, of all classes together. `None`: as many as their queues hold.
    pub queue_max: Option<usize>,
    /// How many of the limit only the strict class may take; less than the limit.
    pub reserve: u32,
    /// How many calls of preemptible classes may be taken back in a second.
    pub preempt_per_s: u32,
    pub share: Share,
    /// How many tokens may be in flight, as they are estimated; only where shared by tokens.
    pub tokens_max: Option<NonZeroU64>,
    pub timeouts: Timeouts,
    /// `None`: a call is tried once.
    pub retries: Option<Retries>,
    /// `None`: no endpoint is left alone, however it fails.
    pub breaker: Option<BreakerRule>,
    /// Who is asked instead; whoever follows these comes to an end.
    pub fallback: Option<Fallback>,
    pub tls: UpstreamTls,
    pub model_version: ModelVersion,
    pub inject_usage: InjectUsage,
}

/// The bounds of a limit that follows its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptive {
    pub min: NonZeroU32,
    /// Not below `min`.
    pub max: NonZeroU32,
}

impl Upstream {
    /// A tenant's share among those of its class.
    pub fn tenant_weight(&self, tenant: &str) -> u32 {
        self.tenant_weights.get(tenant).copied().unwrap_or(1)
    }
}

/// By what an upstream is shared out among classes and tenants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// Each call counts as one.
    #[default]
    Calls,
    /// By how long a place is held.
    Time,
    /// By tokens read, and twice those written.
    Tokens,
}

/// One address. Never has a path, a query or a user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub scheme: Scheme,
    /// A name or an address; an IPv6 address without brackets; lower case.
    pub host: String,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

/// What `host` says upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostHeader {
    /// The endpoint's authority.
    Upstream,
    /// What the caller said.
    Preserve,
    Name(String),
}

/// How the next endpoint is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    LeastLoaded,
    RoundRobin,
}

/// Lengths of patience with an upstream. Never zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    /// From the request's last byte to the answer's head.
    pub first_byte: Duration,
    /// Between two frames of an answer.
    pub idle: Duration,
    /// From permit to last byte.
    pub total: Duration,
}

/// When a call is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Beside the first try; never zero.
    pub attempts: u32,
    /// What is tried again whatever the method; each once.
    pub causes: Vec<RetryCause>,
    /// Which part of the calls may be tried again, in millionths.
    pub budget_ppm: u32,
}

/// What a try came to that is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryCause {
    /// Nothing was sent.
    Connect,
    /// It was sent, and no answer began.
    Reset,
    BadGateway,
    Unavailable,
    GatewayTimeout,
}

/// When an endpoint is left alone, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerRule {
    /// So many failures in a row.
    pub failures_max: NonZeroU32,
    /// Never zero.
    pub open_for: Duration,
}

/// Who is asked where an upstream fails or has no turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    pub upstream: UpstreamId,
    /// The model that is asked for there; `None`: the caller's.
    pub model: Option<String>,
}

/// TLS towards the upstream; meaningful where the scheme is https.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// A PEM file that takes the place of the system's roots.
    pub ca: Option<PathBuf>,
    /// What we show when asked.
    pub client: Option<Certificate>,
}

/// A chain and its key, PEM files. Relative paths were resolved against the
/// configuration file's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
}

/// How the version of the model behind a name is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelVersion {
    Static(String),
    /// The upstream's answers say it in this header (lower case).
    Header(String),
    /// The bodies of its answers say it where this JSON pointer (RFC 6901) leads to.
    Body(String),
    /// It is asked for from time to time.
    Poll(VersionPoll),
}

/// Where and how often an upstream is asked which version it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionPoll {
    /// Path and query; begins with `/`.
    pub path: String,
    /// A JSON pointer into the answer, or into each element of `list`.
    pub pointer: String,
    /// `None`: one version for all models.
    pub list: Option<VersionList>,
    pub interval: Duration,
}

/// Versions of several models in one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionList {
    /// A JSON pointer to the list.
    pub pointer: String,
    /// A JSON pointer into an element: the model's name.
    pub id: String,
}

/// Whether stream usage is asked for where the caller did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectUsage {
    Auto,
    Never,
}

impl RetryCause {
    /// As it stands in the file, but for the quotes around a number.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::BadGateway => "502",
            Self::Unavailable => "503",
            Self::GatewayTimeout => "504",
        }
    }
}

impl UpstreamId {
    pub fn new(place: usize) -> Self {
        Self(place)
    }

    pub fn place(self) -> usize {
        self.0
    }
}

impl Endpoint {
    /// `host` or `host:port`, brackets around IPv6; the port is left out where it is
    /// the scheme's own. What `host` says when it names the endpoint.
    pub fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        if self.port == self.scheme.port() { host } else { format!("{host}:{}", self.port) }
    }
}

impl Scheme {
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port meant by a URL without one.
    pub fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.authority())
    }
}
