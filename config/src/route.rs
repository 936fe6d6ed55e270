//! Which call goes where, and what may be kept of its answer, after validation.
//!
//! Paths are compared as *normalised* paths: the part before `?`; `%` escapes of
//! letters, digits and `-._~` decoded and the digits of others in upper case; `.` and `..`
//! resolved; `//` as it is. A path that climbs above `/` or holds `%2F`, `%5C`, `%00` or `\`
//! never gets here (400). A rule that is not itself normalised could never match, so
//! validation refuses it.

use crate::{ClassRule, Trust};
use crate::{
    cache_policy::{Items, Join, KeyPolicy, Lifetime, Stale, Upkeep, When},
    defaults,
    upstream::UpstreamId,
    wire::{Encodings, Pacing},
};
use std::{fmt, num::NonZeroU32, time::Duration};
use tollgate_core::dialect::Dialect;

/// One line of the routing table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `[A-Za-z0-9._-]`, at most 64 bytes: it is a metric label.
    pub name: String,
    pub matches: Match,
    pub upstream: UpstreamId,
    /// `None`: detected from path and body.
    pub dialect: Option<Dialect>,
    pub class: ClassRule,
    /// A longer request body is refused (413). `None`: it streams through uncached.
    pub body_bytes_max: Option<u64>,
    pub cache: CachePolicy,
}

/// All of these must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    pub path: PathRule,
    /// Lower case, without a port.
    pub host: Option<String>,
    /// Lower-case name, exact value.
    pub headers: Vec<(String, String)>,
    /// Upper case; empty: every method.
    pub methods: Vec<String>,
}

/// A rule about the normalised path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PathRule {
    #[default]
    Any,
    Exact(String),
    /// Whole segments: `/v1` is `/v1` and `/v1/x`, not `/v1x`. Never ends with `/`;
    /// `/` itself is [`PathRule::Any`].
    Prefix(String),
}

/// What may be kept of a route's answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachePolicy {
    pub mode: CacheMode,
    /// In content mode, how long an entry may be used.
    pub ttl: Duration,
    pub lifetime: Lifetime,
    pub stale: Stale,
    /// In content mode.
    pub upkeep: Upkeep,
    pub when: When,
    /// In the order in which they are asked; never empty unless `mode` is off; none twice.
    pub tiers: Vec<TierUse>,
    pub writes: Writes,
    /// What a tier has is copied to those before it.
    pub promotes: bool,
    pub scope: Scope,
    pub forward: Forward,
    /// In content mode.
    pub key: KeyPolicy,
    /// In content mode.
    pub items: Items,
    /// `None`: each call is asked at once.
    pub join: Option<Join>,
    pub tags: Vec<TagTemplate>,
    /// `None`: nobody's word that an answer is bad is heard.
    pub vote_out: Option<VoteOut>,
    /// `None`: stored answers go out as they are kept.
    pub encodings: Option<Encodings>,
    /// In content mode. `None`: a stored stream is given at once.
    pub pacing: Option<Pacing>,
    /// As the default, unless `mode` is http or auto.
    pub http: HttpPolicy,
}

/// Who may say that an answer is bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteOut {
    /// Anyone: each tenant about answers that are its own alone.
    pub trust: Trust,
    /// Of each tenant.
    pub per_minute: NonZeroU32,
}

/// Which fields of a call's head go on to the upstream, where its answer may be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forward {
    #[default]
    All,
    /// Those that its key tells apart, and what is the same in every call.
    Keyed,
}

impl Forward {
    /// As the file writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Keyed => "keyed",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    /// Content for the calls a dialect lists as pure, http for the rest.
    Auto,
    /// Keyed by what is asked.
    Content,
    /// RFC 9111.
    Http,
    Off,
}

/// A tier and how long it keeps what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierUse {
    pub tier: Tier,
    /// In content mode, never longer than the policy's ttl, which is the default.
    pub ttl: Duration,
    /// As the file says it. In http mode, what is written caps what the answer's headers say;
    /// `None`: they alone decide.
    pub ttl_written: Option<Duration>,
    /// A larger entry, overhead included, is not kept here.
    pub entry_bytes_max: Option<u64>,
}

/// When an answer is written to which tiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writes {
    /// To memory at once, to the others after the answer.
    #[default]
    Back,
    /// The answer's end waits for all, and for no longer than the slowest may take.
    Through,
    /// To the last tier alone.
    Around,
}

/// What the operator decides in http mode, where RFC 9111 leaves a choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpPolicy {
    /// `None`: an answer that does not say how long it is good is never fresh.
    pub heuristic: Option<Heuristic>,
    pub set_cookie: SetCookie,
    pub query: QueryPolicy,
    /// `None`: a CDN is told nothing but what the upstream says.
    pub cdn: Option<crate::Cdn>,
}

/// How long an answer is good that only says when it was last changed (RFC 9111 §4.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heuristic {
    /// Of the time since the change; 1 to 100.
    pub percent: u8,
    /// Never zero.
    pub max: Duration,
    /// Also for the error answers that may be kept by heuristic, like 404 and 410.
    pub negative: bool,
}

/// What is done with an answer that sets a cookie, given that it says how long it is good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetCookie {
    /// Kept without the cookie: one caller's session must not become everybody's.
    #[default]
    Strip,
    /// Not kept.
    Bypass,
    /// Kept with the cookie: everybody gets the same one.
    Keep,
}

/// What of the query enters the key; what is sent upstream stays as it is. A name may end with
/// `*`, which stands for any rest. Names are compared as bytes, nothing is decoded.
///
/// At most 64 names in each list, 1 to 128 bytes long, none twice in one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryPolicy {
    /// Parameters in another order are the same query.
    pub sort: bool,
    /// Left out, also where `only` has them.
    pub ignore: Vec<String>,
    /// `None`: all others are kept; empty: none is.
    pub only: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    Memory,
    Redis,
    Memcached,
    Postgres,
    Disk,
}

/// Who may be answered from whose entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Tenant,
    User,
    Shared,
}

/// A tag to be filled in for a call. Where one part is absent, there is no tag.
#[derive(Clone, PartialEq, Eq)]
pub struct TagTemplate {
    /// Never empty; no two literals in a row.
    pub parts: Vec<TagPart>,
}

/// A piece of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagPart {
    Literal(String),
    /// A request header, lower case.
    Header(String),
    /// A query parameter.
    Query(String),
    /// A segment of the normalised path; `{path.1}` is the first, place 0 here.
    Segment(usize),
    /// A JSON pointer (RFC 6901) into the request body, `/` in front or empty.
    Body(String),
    Tenant,
    User,
    Project,
    Model,
}

impl CachePolicy {
    /// The time of an answer whose rule, or what was learned of it, gives it the most.
    pub fn ttl_longest(&self) -> Duration {
        let learned = self.upkeep.adapt.map_or(self.ttl, |adapt| adapt.max);
        self.lifetime.rules.iter().map(|rule| rule.ttl).fold(learned, Duration::max)
    }
}

impl Match {
    /// Whether a call is this route's. `header` gives a request header's value by its
    /// lower-case name; `host` is without its port.
    pub fn accepts<'a>(
        &self,
        method: &str,
        host: &str,
        path: &str,
        header: impl Fn(&str) -> Option<&'a [u8]>,
    ) -> bool {
        self.path.accepts(path)
            && self.host.as_deref().is_none_or(|own| own.eq_ignore_ascii_case(host))
            && (self.methods.is_empty() || self.methods.iter().any(|own| own == method))
            && self.headers.iter().all(|(name, value)| header(name) == Some(value.as_bytes()))
    }

    /// Whether every call that `other` accepts is accepted here too.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.path.covers(&other.path)
            && (self.host.is_none() || self.host == other.host)
            && self.headers.iter().all(|header| other.headers.contains(header))
            && (self.methods.is_empty()
                || (!other.methods.is_empty()
                    && other.methods.iter().all(|method| self.methods.contains(method))))
    }
}

impl PathRule {
    /// `path` is normalised.
    pub fn accepts(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(own) => own == path,
            Self::Prefix(own) => path
                .strip_prefix(own.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match other {
            Self::Any => *self == Self::Any,
            Self::Exact(path) => self.accepts(path),
            Self::Prefix(prefix) => !matches!(self, Self::Exact(_)) && self.accepts(prefix),
        }
    }
}

impl CacheMode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Content => "content",
            Self::Http => "http",
            Self::Off => "off",
        }
    }
}

impl Default for HttpPolicy {
    fn default() -> Self {
        Self {
            heuristic: Some(Heuristic::default()),
            set_cookie: SetCookie::default(),
            query: QueryPolicy::default(),
            cdn: None,
        }
    }
}

impl Default for Heuristic {
    fn default() -> Self {
        Self { percent: defaults::HEURISTIC_PERCENT, max: defaults::HEURISTIC_MAX, negative: true }
    }
}

impl SetCookie {
    pub fn name(self) -> &'static str {
        match self {
            Self::Strip => "strip",
            Self::Bypass => "bypass",
            Self::Keep => "keep",
        }
    }
}

impl Tier {
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::Memcached => "memcached",
            Self::Postgres => "postgres",
            Self::Disk => "disk",
        }
    }
}

impl Writes {
    pub fn name(self) -> &'static str {
        match self {
            Self::Back => "back",
            Self::Through => "through",
            Self::Around => "around",
        }
    }
}

impl Scope {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::User => "user",
            Self::Shared => "shared",
        }
    }
}

impl fmt::Display for TagTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| part.fmt(f))
    }
}

impl fmt::Debug for TagTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TagTemplate({self})")
    }
}

impl fmt::Display for TagPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => f.write_str(text),
            Self::Header(name) => write!(f, "{{header.{name}}}"),
            Self::Query(name) => write!(f, "{{query.{name}}}"),
            Self::Segment(place) => write!(f, "{{path.{}}}", place.saturating_add(1)),
            Self::Body(pointer) => write!(f, "{{body.{pointer}}}"),
            Self::Tenant => f.write_str("{tenant}"),
            Self::User => f.write_str("{user}"),
            Self::Project => f.write_str("{project}"),
            Self::Model => f.write_str("{model}"),
        }
    }
}
