//! The file's shape, field by field, and nothing more: no defaults, no parsing of
//! strings, no meaning.
//!
//! These types are the schema: `tollgate schema` prints it, editors use it, and
//! `shape` holds a file against it. So what is documented is what is enforced.
//! A key of the contract that is not built yet is not here; `later` names it.
//!
//! Every field may be absent as far as serde is concerned: `shape` has reported what
//! is missing and taken out what does not fit before serde sees it.

use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The configuration of Tollgate.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Tollgate configuration")]
pub(crate) struct RawConfig {
    /// Sockets that callers connect to. Default: one on 127.0.0.1:8080.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) listeners: Option<Vec<RawListener>>,
    pub(crate) admin: Option<RawAdmin>,
    pub(crate) telemetry: Option<RawTelemetry>,
    /// Where the ledger lives, relative to the working directory. Default: ./tollgate-data.
    pub(crate) data_dir: Option<String>,
    pub(crate) drain: Option<RawDrain>,
    pub(crate) stores: Option<RawStores>,
    /// The services behind Tollgate, by name.
    #[schemars(required, extend("maxProperties" = 1000))]
    pub(crate) upstreams: Option<BTreeMap<String, RawUpstream>>,
    pub(crate) identity: Option<RawIdentity>,
    /// Most important first. Default: emergency (strict), vip, normal (default), batch.
    #[schemars(length(min = 1, max = 8))]
    pub(crate) classes: Option<Vec<RawClass>>,
    /// First match wins.
    #[schemars(required, length(min = 1, max = 1000))]
    pub(crate) routes: Option<Vec<RawRoute>>,
    pub(crate) cache: Option<RawCache>,
    pub(crate) prices: Option<RawPrices>,
    /// What the service itself costs.
    #[schemars(length(max = 1000))]
    pub(crate) resources: Option<Vec<RawResource>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawListener {
    /// IP address and port. HTTP/1.1 and HTTP/2 are served on it.
    #[schemars(required)]
    pub(crate) address: Option<String>,
    pub(crate) tls: Option<RawListenerTls>,
    /// Networks whose identity, class, forwarded and debug headers are believed. Absent: everybody's are.
    #[schemars(length(max = 1000))]
    pub(crate) trusted: Option<Vec<String>>,
    pub(crate) limits: Option<RawLimits>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawListenerTls {
    #[schemars(required, length(min = 1, max = 100))]
    pub(crate) certificates: Option<Vec<RawCertificate>>,
    /// PEM file; callers must show a certificate signed by one of these.
    pub(crate) client_ca: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCertificate {
    /// PEM file with the chain, relative to this file.
    #[schemars(required)]
    pub(crate) certificate: Option<String>,
    /// PEM file, relative to this file.
    #[schemars(required)]
    pub(crate) private_key: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawLimits {
    pub(crate) header_bytes: Option<SizeText>,
    #[schemars(range(min = 1, max = 4096))]
    pub(crate) headers: Option<u32>,
    /// A longer request body streams through uncached.
    pub(crate) body: Option<SizeText>,
    /// Of all request bodies held at one time.
    pub(crate) held: Option<SizeText>,
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) connections: Option<u32>,
    pub(crate) header_timeout: Option<DurationText>,
    pub(crate) idle_timeout: Option<DurationText>,
}

/// Admin API and console.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAdmin {
    /// IP address and port, or unix:/path. Default: 127.0.0.1:9900. Off loopback a token is needed.
    pub(crate) address: Option<String>,
    /// Default: TOLLGATE_ADMIN_TOKEN, if set.
    pub(crate) token: Option<RawSecret>,
}

/// A reference to a secret: exactly one of the two.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1, "writeOnly" = true))]
pub(crate) struct RawSecret {
    /// Name of an environment variable.
    pub(crate) env: Option<String>,
    /// Path of a file, relative to this one.
    pub(crate) file: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTelemetry {
    pub(crate) metrics: Option<RawMetrics>,
    pub(crate) forecast: Option<RawForecast>,
    pub(crate) logs: Option<RawLogs>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMetrics {
    /// IP address and port of /metrics and the probes. Default: 127.0.0.1:9464.
    pub(crate) address: Option<String>,
    /// Series under names of your own.
    #[schemars(length(max = 100))]
    pub(crate) aliases: Option<Vec<RawAlias>>,
    pub(crate) profiles: Option<RawProfiles>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAlias {
    #[schemars(required)]
    pub(crate) name: Option<String>,
    pub(crate) of: Option<RawAliasOf>,
    /// Above 0 and below 1.
    #[schemars(required)]
    pub(crate) quantile: Option<f64>,
    /// Default: s.
    pub(crate) unit: Option<RawUnit>,
    /// Default: 60s.
    pub(crate) window: Option<DurationText>,
    /// Names of routes. Default: all.
    #[schemars(length(max = 1000))]
    pub(crate) routes: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawAliasOf {
    RequestDuration,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawUnit {
    Ms,
    S,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawLogs {
    pub(crate) format: Option<RawLogFormat>,
    pub(crate) level: Option<RawLogLevel>,
    /// A line per exchange. Default: false; the ledger has every call.
    pub(crate) access: Option<bool>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawLogFormat {
    Json,
    Text,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawLogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Times of the way down, counted from SIGTERM.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawDrain {
    /// Readiness fails already, new connections are still served. Default: 5s.
    pub(crate) quiet: Option<DurationText>,
    /// What is in flight is cut. Default: 25s.
    pub(crate) deadline: Option<DurationText>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawStores {
    pub(crate) redis: Option<RawRedis>,
    pub(crate) memcached: Option<RawMemcached>,
    pub(crate) postgres: Option<RawPostgres>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRedis {
    /// `redis://[user:password@]host[:port][/database]`, or `rediss://` with TLS; with a password,
    /// better a reference. Of the server (single), of some nodes (cluster), or of the sentinels.
    #[schemars(required, length(min = 1, max = 16))]
    pub(crate) urls: Option<Vec<RawStoreUrl>>,
    /// Default: single.
    pub(crate) mode: Option<RawRedisMode>,
    /// What the sentinels call the servers they watch; with mode sentinel only, and then needed.
    pub(crate) master: Option<String>,
    /// Name of a user of the sentinels. Default: the URL's.
    pub(crate) sentinel_user: Option<String>,
    /// Default: the URL's.
    pub(crate) sentinel_password: Option<RawSecret>,
    /// Name of a user of Redis. Default: the URL's (but with mode sentinel: none), else Redis'
    /// default user.
    pub(crate) user: Option<String>,
    /// Default: the URL's.
    pub(crate) password: Option<RawSecret>,
    /// Of `rediss://`.
    pub(crate) tls: Option<RawUpstreamTls>,
    /// What one command may cost a caller. Default: 10ms.
    pub(crate) timeout: Option<DurationText>,
}

/// One or more memcached, version 1.6.6 or newer.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMemcached {
    /// `HOST[:PORT]` or `unix:/PATH`. Each has its share of the keys; the order does not matter.
    #[schemars(required, length(min = 1, max = 64))]
    pub(crate) servers: Option<Vec<String>>,
    /// What one command may cost a caller. Default: 10ms.
    pub(crate) timeout: Option<DurationText>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawStoreUrl {
    Url(String),
    Secret(RawSecret),
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawRedisMode {
    Single,
    Cluster,
    Sentinel,
}

/// Who is asking.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawIdentity {
    pub(crate) tenant: Option<RawTenant>,
    pub(crate) user: Option<RawHeader>,
    pub(crate) tier: Option<RawHeader>,
    pub(crate) project: Option<RawHeader>,
    pub(crate) business: Option<RawHeader>,
}

/// Exactly one of the two.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(crate) struct RawTenant {
    /// A digest of the credential in this header.
    pub(crate) api_key: Option<RawHeader>,
    /// The value of this header.
    pub(crate) header: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawHeader {
    /// Name of a request header.
    #[schemars(required)]
    pub(crate) header: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawClass {
    #[schemars(required)]
    pub(crate) name: Option<String>,
    /// Share among the classes that are not strict. Default: 1.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) weight: Option<u32>,
    /// Goes before all others; only the first may.
    pub(crate) strict: Option<bool>,
    /// How many may run at one time, per upstream. Default: as many as the upstream's limit lets.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) max: Option<u32>,
    /// How many run before weights are asked, per upstream; not of a strict class. Default: 0.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(crate) floor: Option<u32>,
    /// How many may wait, per upstream. Default: 512.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(crate) queue: Option<u32>,
    /// Default: 30s.
    pub(crate) max_wait: Option<DurationText>,
    /// How long a tenant's first call has waited when its newest goes before it; as long as
    /// max_wait: never. Default: a tenth of max_wait; never where strict.
    pub(crate) lifo_target: Option<DurationText>,
    /// Whether its calls may be taken back before their first byte, where the upstream's
    /// concurrency says preempt. Default: false.
    pub(crate) preemptible: Option<bool>,
    /// The class of a call that claims none; exactly one.
    pub(crate) default: Option<bool>,
}

/// What all routes' caches have in common.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCache {
    /// Who shares entries. Default: TOLLGATE_NAMESPACE, else the upstream's name.
    pub(crate) namespace: Option<String>,
    pub(crate) memory: Option<RawMemory>,
    pub(crate) redis: Option<RawCacheRedis>,
    pub(crate) memcached: Option<RawCacheStore>,
    pub(crate) postgres: Option<RawCachePostgres>,
    pub(crate) disk: Option<RawDisk>,
    pub(crate) warm: Option<RawWarm>,
    /// Who tells of changes that void what was answered before.
    #[schemars(length(max = 16))]
    pub(crate) events: Option<Vec<RawEventSource>>,
    pub(crate) explain: Option<RawExplain>,
    pub(crate) trace: Option<RawTrace>,
}

/// Entries on a local disk, in data_dir; they survive a restart.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawDisk {
    /// Of all files together, 1MiB to 1TiB. Default: 1GiB.
    pub(crate) size: Option<SizeText>,
    /// What one read may cost a caller. Default: 20ms.
    pub(crate) timeout: Option<DurationText>,
    /// Default: none. Compressed files are read either way.
    pub(crate) compression: Option<RawCompression>,
    pub(crate) encryption: Option<RawEncryption>,
}

/// How entries are written to a store outside the process.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCacheStore {
    /// Default: none. Compressed values are read either way.
    pub(crate) compression: Option<RawCompression>,
    pub(crate) encryption: Option<RawEncryption>,
}

/// How entries are written to Redis, and what else it is used for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCacheRedis {
    /// Default: none. Compressed values are read either way.
    pub(crate) compression: Option<RawCompression>,
    pub(crate) encryption: Option<RawEncryption>,
    /// Whether equal calls on several instances make one upstream call. Default: on.
    pub(crate) lease: Option<RawLeaseRule>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawLeaseRule {
    Switch(RawSwitch),
    With(RawLease),
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawLease {
    /// How long an instance that died is waited for. Default: 5s.
    pub(crate) ttl: Option<DurationText>,
    /// The longest that a call waits for other instances. Default: 10s.
    pub(crate) wait: Option<DurationText>,
}

/// AES-256-GCM. Each key is 32 bytes, as 64 hexadecimal digits or in base64.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEncryption {
    /// What is written is encrypted with it.
    #[schemars(required)]
    pub(crate) key: Option<RawSecret>,
    /// What was written with one of these is read, too.
    #[schemars(length(max = 8))]
    pub(crate) previous: Option<Vec<RawSecret>>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawCompression {
    None,
    Zstd,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMemory {
    /// Default: the lesser of 256MiB and a quarter of the cgroup's memory limit.
    pub(crate) size: Option<SizeText>,
    /// What is kept when there is no room for everything. Default: lfu, what is asked for often.
    /// lru: what was asked for last. cost: what saves most money, or upstream time, per byte.
    pub(crate) policy: Option<RawEvictionPolicy>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawEvictionPolicy {
    Lfu,
    Lru,
    Cost,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPrices {
    pub(crate) book: Option<RawBook>,
    /// CSV files, relative to this file; a later one wins.
    #[schemars(length(max = 100))]
    pub(crate) files: Option<Vec<String>>,
    pub(crate) currency: Option<RawCurrency>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawBook {
    Builtin,
    None,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum RawCurrency {
    Usd,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawResource {
    #[schemars(required)]
    pub(crate) name: Option<String>,
    #[schemars(required)]
    pub(crate) kind: Option<RawResourceKind>,
    /// US dollars per replica and hour, as a decimal string: "2.50".
    #[schemars(required)]
    pub(crate) hourly: Option<String>,
    /// Default: 1.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) replicas: Option<u32>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawResourceKind {
    Compute,
}

pub(crate) use crate::raw_cache::*;
pub(crate) use crate::raw_cdn::*;
pub(crate) use crate::raw_claims::*;
pub(crate) use crate::raw_events::*;
pub(crate) use crate::raw_forecast::*;
pub(crate) use crate::raw_postgres::*;
pub(crate) use crate::raw_prefetch::*;
pub(crate) use crate::raw_profiles::*;
pub(crate) use crate::raw_route::*;
pub(crate) use crate::raw_trace::*;
pub(crate) use crate::raw_upkeep::*;
pub(crate) use crate::raw_upstream::*;
pub(crate) use crate::raw_warm::*;
pub(crate) use crate::raw_wire::*;
use crate::text::{DurationText, SizeText};
