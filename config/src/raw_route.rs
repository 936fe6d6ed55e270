//! The shape of `routes`; see `raw`.

use crate::{
    raw::RawHeader,
    text::{DurationText, SizeText},
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRoute {
    #[schemars(required)]
    pub(crate) name: Option<String>,
    /// All of it must hold. Absent: every call.
    #[serde(rename = "match")]
    pub(crate) matches: Option<RawMatch>,
    /// Name of an upstream.
    #[schemars(required)]
    pub(crate) upstream: Option<String>,
    /// Default: detected from path and body.
    pub(crate) dialect: Option<RawDialect>,
    /// Absent: every call is of the default class.
    pub(crate) class: Option<RawClassRule>,
    /// A longer request body is refused. Absent: it streams through uncached.
    pub(crate) max_body: Option<SizeText>,
    /// Absent: off.
    pub(crate) cache: Option<RawCacheRule>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMatch {
    pub(crate) path: Option<String>,
    /// Whole segments: /v1 is /v1 and /v1/x, not /v1x.
    pub(crate) path_prefix: Option<String>,
    /// Without a port.
    pub(crate) host: Option<String>,
    /// Header names and the exact values they must have.
    #[schemars(extend("maxProperties" = 32))]
    pub(crate) headers: Option<BTreeMap<String, String>>,
    #[schemars(length(min = 1, max = 32))]
    pub(crate) methods: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawDialect {
    Openai,
    Anthropic,
    Http,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawClassRule {
    /// Default: x-priority.
    pub(crate) header: Option<String>,
    /// From a word of the header to the name of a class.
    #[schemars(required, extend("maxProperties" = 256))]
    pub(crate) map: Option<BTreeMap<String, String>>,
    /// Tenants whose claim is believed. Absent: anyone's; empty: nobody's.
    #[schemars(length(max = 1000))]
    pub(crate) trust: Option<Vec<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawCacheRule {
    Switch(RawSwitch),
    Policy(Box<RawCachePolicy>),
}

/// on or off; true and false mean the same, as tools that still write YAML 1.1 turn
/// one into the other.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawSwitch {
    Bool(bool),
    Word(RawOnOff),
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawOnOff {
    On,
    Off,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCachePolicy {
    /// content: keyed by what is asked; http: RFC 9111; off (or false). Absent: content
    /// for the calls a dialect lists as pure, http for the rest.
    pub(crate) mode: Option<RawCacheMode>,
    /// Default: 1h.
    pub(crate) ttl: Option<DurationText>,
    /// Nearest first: memory, redis. Default: memory.
    #[schemars(length(min = 1, max = 8))]
    pub(crate) tiers: Option<Vec<RawTier>>,
    /// Who may be answered from whose entry. Default: tenant.
    pub(crate) scope: Option<RawScope>,
    pub(crate) key: Option<RawKey>,
    /// Text with {header.N} {query.N} {path.N} {body./json/pointer} {tenant} {user} {project} {model}.
    #[schemars(length(max = 16))]
    pub(crate) tags: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawCacheMode {
    Bool(bool),
    Word(RawCacheModeWord),
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawCacheModeWord {
    Content,
    Http,
    Off,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawTier {
    Name(RawTierName),
    With(RawTierWith),
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTierWith {
    #[schemars(required)]
    pub(crate) name: Option<RawTierName>,
    /// Default: the policy's ttl.
    pub(crate) ttl: Option<DurationText>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawTierName {
    Memory,
    Redis,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawScope {
    Tenant,
    User,
    Shared,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawKey {
    /// Further members of the key, by name.
    #[schemars(extend("maxProperties" = 16))]
    pub(crate) versions: Option<BTreeMap<String, RawHeader>>,
}
