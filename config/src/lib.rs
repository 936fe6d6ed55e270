//! The configuration: what the operator writes, checked once, and what is then true.
//!
//! ```text
//!   text ─ yaml ─▶ Value ─ shape (against the schema) ─▶ Raw… ─ validate ─▶ Config (what is true)
//! ```
//!
//! **Invariant:** outside this crate there is no `Raw…` type, no string that
//! still has to be parsed and no pair of fields that could contradict each
//! other. Code that holds a [`Config`] has nothing left to check.
//!
//! All mistakes in a file are reported together, each with its path: an operator
//! should need one restart to fix five typos, not five. A key of the contract whose
//! feature is not built yet is refused by name, never called unknown, never ignored.
//!
//! This is the only crate that reads the environment, and even here it is an
//! argument ([`Environment`]), so that tests own it.

mod near;
mod later;
mod defaults;
mod text;
mod problem;
mod yaml;
mod raw_upstream;
mod raw_cache;
mod raw_prefetch;
mod raw_upkeep;
mod raw_postgres;
mod raw_cdn;
mod raw_claims;
mod raw_route;
mod raw_events;
mod raw_warm;
mod raw_forecast;
mod raw_profiles;
mod raw_trace;
mod raw_wire;
mod purge;
mod raw;
mod shape;
mod environment;
mod secret;
mod upstream;
mod prefetch;
mod cache_policy;
mod postgres;
mod cdn;
mod claims;
mod route;
mod warm;
mod forecast;
mod profiles;
mod trace;
mod wire;
mod events;
mod review;
mod validate;
mod load;
mod reload;
mod redact;

pub use cache_policy::{
    Adapt, Hot, Items, Join, KeyPart, KeyPolicy, KeyVersion, Lifetime, Stale, TTL_RULES_MAX, Test,
    TtlRule, Upkeep, Wants, When,
};
pub use cdn::{Cdn, CdnControl, CdnTags};
pub use claims::{ClaimedIn, ClassRule, ClassSource, Says, Trust};
pub use environment::{Environment, ProcessEnvironment, memory_limit};
pub use events::{EventOrigin, EventPart, EventPurge, EventSource};
pub use forecast::Forecast;
pub use load::{assert_never_panics, load, schema, text_from};
pub use postgres::{CachePostgres, Postgres};
pub use prefetch::{Prefetch, Succession};
pub use problem::{Problem, Problems, Warning, WarningKind};
pub use profiles::{Gie, Profiles};
pub use purge::PurgeKind;
pub use redact::redacted;
pub use reload::{keep_what_needs_a_restart, needs_restart};
pub use route::{
    CacheMode, CachePolicy, Forward, Heuristic, HttpPolicy, Match, PathRule, QueryPolicy, Route,
    Scope, SetCookie, TagPart, TagTemplate, Tier, TierUse, VoteOut, Writes,
};
pub use secret::{EncryptionKey, Secret, SecretSource, StoreUrl};
pub use text::{duration, show_duration, show_ppm, show_size, show_usd, size};
pub use trace::KeyTrace;
pub use upstream::{
    Adaptive, Balance, BreakerRule, Certificate, Endpoint, Fallback, HostHeader, InjectUsage,
    ModelVersion, Retries, RetryCause, Scheme, Share, Timeouts, Upstream, UpstreamId, UpstreamTls,
    VersionList, VersionPoll,
};
pub use warm::{Warm, WarmRun, WarmWhen};
pub use wire::{Coding, Encodings, Pacing};

use ipnet::IpNet;
use std::{fmt, net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};
use tollgate_core::class::ClassId;

/// A configuration in force. Plain data, a few kilobytes: share it as `Arc<Config>`
/// and let each exchange hold one snapshot.
#[derive(Clone, Debug)]
pub struct Config {
    /// Never empty; no two overlap, nor do they overlap with `admin` or the metrics.
    pub listeners: Vec<Listener>,
    pub admin: Admin,
    pub metrics: Metrics,
    pub forecast: Forecast,
    pub logs: Logs,
    /// Where the ledger lives. A relative path is relative to the working directory,
    /// not to the file: a mounted configuration directory is read-only.
    pub data_dir: PathBuf,
    pub drain: Drain,
    pub redis: Option<Redis>,
    pub memcached: Option<Memcached>,
    pub postgres: Option<Postgres>,
    /// Never empty; in order of name; `upstreams[n].id.place() == n`.
    pub upstreams: Vec<Upstream>,
    pub identity: Identity,
    /// Most important first; never empty, at most `CLASSES_MAX`; `classes[n].id.place() == n`.
    pub classes: Vec<Class>,
    /// The class of a call that claims none.
    pub class_default: ClassId,
    /// Never empty; first match wins; no name twice.
    pub routes: Vec<Route>,
    pub cache: Cache,
    pub prices: Prices,
    /// What the service itself costs. No name twice.
    pub resources: Vec<Resource>,
}

/// A socket that callers connect to: HTTP/1.1 and HTTP/2 on one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub address: SocketAddr,
    pub tls: Option<ListenerTls>,
    /// Peers whose identity, class, forwarded and debug headers are believed.
    /// `None`: not set, everybody's are. `Some`, also of nothing: only theirs.
    pub trusted: Option<Vec<IpNet>>,
    pub limits: Limits,
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// Never empty. The first is for callers that name no known server.
    pub certificates: Vec<Certificate>,
    /// A PEM file: callers must show a certificate signed by one of these.
    pub client_ca: Option<PathBuf>,
}

/// What a listener takes before it says no. Never zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request line and header section together.
    pub header_bytes_max: u64,
    /// Number of header fields.
    pub headers_max: usize,
    /// A longer body streams through uncached.
    pub body_bytes_max: u64,
    /// Of all request bodies held at one time; never below `body_bytes_max`.
    pub held_bytes_max: u64,
    pub connections_max: usize,
    /// From the first byte of a request to the end of its header section.
    pub header_timeout: Duration,
    /// How long a connection may be open without a request.
    pub idle_timeout: Duration,
}

/// Where admin API and console listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    pub address: AdminAddress,
    /// Always set when `address` is off loopback.
    pub token: Option<Secret>,
}

/// A TCP address, or a socket in the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    Tcp(SocketAddr),
    /// An absolute path.
    Unix(PathBuf),
}

/// The metrics listener, which also answers the probes.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    pub address: SocketAddr,
    /// No name twice, and none of Tollgate's own.
    pub aliases: Vec<Alias>,
    pub profiles: Profiles,
}

/// A quantile of request durations under a name of the operator's choice.
#[derive(Clone, Debug, PartialEq)]
pub struct Alias {
    /// A valid metric name.
    pub name: String,
    /// Above 0, below 1.
    pub quantile: f64,
    pub unit: AliasUnit,
    /// How far back the sliding window reaches.
    pub window: Duration,
    /// Names of configured routes; empty: all of them.
    pub routes: Vec<String>,
}

/// The unit an alias is shown in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AliasUnit {
    Milliseconds,
    Seconds,
}

/// What is written to stderr.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logs {
    pub format: LogFormat,
    pub level: LogLevel,
    /// A line per exchange. Off: the ledger has every call.
    pub access: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Times of the way down, counted from SIGTERM; `quiet < deadline`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Readiness is false already, new connections are still served.
    pub quiet: Duration,
    /// What is in flight is cut.
    pub deadline: Duration,
}

/// The shared store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// At least one; all with TLS or none. What they are addresses of, `mode` says.
    pub urls: Vec<StoreUrl>,
    pub mode: RedisMode,
    /// Instead of the URL's.
    pub user: Option<String>,
    /// Instead of the URL's.
    pub password: Option<Secret>,
    /// Meaningful where the URL says `rediss`.
    pub tls: UpstreamTls,
    /// What one command may cost a caller.
    pub timeout: Duration,
}

/// How many servers there are, and which of them is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RedisMode {
    /// The one of the only URL.
    #[default]
    Single,
    /// All, each for its slots; the URLs are of some of them.
    Cluster,
    /// The one that the sentinels name; the URLs are theirs.
    Sentinel {
        /// What they call the servers they watch.
        master: String,
        /// Who we are to them, instead of the URL's.
        user: Option<String>,
        /// Instead of the URL's.
        password: Option<Secret>,
    },
}

/// Servers of which each has its share of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memcached {
    /// At least one, none twice.
    pub servers: Vec<MemcachedServer>,
    /// What one command may cost a caller.
    pub timeout: Duration,
}

/// Where a memcached is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemcachedServer {
    /// `host:port`.
    Tcp(String),
    Unix(PathBuf),
}

/// Who is asking: the headers that say so, in lower case. `None`: that dimension is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `None`: a digest of the first credential present.
    pub tenant: Option<TenantSource>,
    pub user: Option<String>,
    pub tier: Option<String>,
    pub project: Option<String>,
    pub business: Option<String>,
}

/// What names the tenant. It alone decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantSource {
    /// A digest of the credential in this header.
    ApiKey { header: String },
    /// The value of this header.
    Header(String),
}

/// A level of urgency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    pub id: ClassId,
    /// `[a-z0-9_-]`, at most 32 bytes: it is a metric label.
    pub name: String,
    /// Goes before all others. Only the first may.
    pub strict: bool,
    /// Its share among the classes that are not strict; at least 1; 1 where `strict`.
    pub weight: u32,
    /// How many may run at one time, per upstream. `None`: as many as its limit lets.
    pub max: Option<NonZeroU32>,
    /// How many may run before weights are asked, per upstream; at most `max`.
    pub floor: u32,
    /// How many may wait, per upstream. 0: nobody waits.
    pub queue_max: usize,
    pub wait_max: Duration,
    /// How long a tenant's first call has waited when its newest goes before it; at most
    /// `wait_max`, which is never.
    pub lifo_target: Duration,
    /// Whether its calls may be taken back before their first byte; not where `strict`.
    pub preemptible: bool,
}

/// What all routes' caches have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// `None`: each upstream's name is its own; see [`Config::namespace`].
    pub namespace: Option<String>,
    pub memory_bytes_max: u64,
    pub memory_policy: EvictionPolicy,
    pub redis: CacheStore,
    /// `None`: instances do not wait for each other's upstream calls.
    pub redis_lease: Option<RedisLease>,
    pub memcached: CacheStore,
    pub postgres: CachePostgres,
    /// `None`: nothing is kept on a disk.
    pub disk: Option<Disk>,
    pub warm: Warm,
    pub events: Vec<EventSource>,
    /// How many answers, and as many calls that missed, are remembered to say why; 0: none.
    pub explain_entries_max: usize,
    /// `None`: no trace is written.
    pub trace: Option<KeyTrace>,
}

/// Entries on a local disk, in the data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Of all files together.
    pub bytes_max: u64,
    /// What one read may cost a caller.
    pub timeout: Duration,
    pub store: CacheStore,
}

/// How one upstream call is made for a whole fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedisLease {
    /// How long an instance that died is waited for. One that lives renews.
    pub ttl: Duration,
    /// The longest that a call waits for other instances before it goes upstream itself.
    pub wait: Duration,
}

impl Default for RedisLease {
    fn default() -> Self {
        Self { ttl: defaults::LEASE_TTL, wait: defaults::LEASE_WAIT }
    }
}

/// How entries are written to a store outside the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheStore {
    /// With zstd, where it pays.
    pub compress: bool,
    /// `None`: entries lie in the clear.
    pub encryption: Option<Encryption>,
}

/// The keys of what lies in a store. None twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encryption {
    pub key: EncryptionKey,
    /// For reading only.
    pub previous: Vec<EncryptionKey>,
}

/// What the memory tier keeps when there is no room for everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EvictionPolicy {
    /// What is asked for often.
    #[default]
    Lfu,
    /// What was asked for last.
    Lru,
    /// What saves most per byte.
    Cost,
}

/// Where prices come from. The currency is USD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prices {
    /// The book that is compiled in.
    pub builtin: bool,
    /// CSV files; a later one wins over an earlier one and over the built-in book.
    pub files: Vec<PathBuf>,
}

/// Something the service costs by the hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub name: String,
    pub kind: ResourceKind,
    /// Per replica and hour, in trillionths of a US dollar. Never negative.
    pub hourly_pico_usd: i128,
    pub replicas: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    /// Shared among routes by the time they keep it busy.
    Compute,
}

/// What the command line says over the file. Texts as typed: their mistakes are
/// reported with the file's, under `--listen` and so on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Takes the place of the first listener's address.
    pub listen: Option<String>,
    pub admin: Option<String>,
    pub metrics: Option<String>,
    pub data_dir: Option<PathBuf>,
}

impl Config {
    /// `None` only for an id of another configuration.
    pub fn upstream(&self, id: UpstreamId) -> Option<&Upstream> {
        self.upstreams.get(id.place())
    }

    /// `None` only for an id of another configuration.
    pub fn class(&self, id: ClassId) -> Option<&Class> {
        self.classes.get(id.place())
    }

    /// The cache namespace of calls to `upstream`.
    pub fn namespace<'a>(&'a self, upstream: &'a Upstream) -> &'a str {
        self.cache.namespace.as_deref().unwrap_or(&upstream.name)
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
