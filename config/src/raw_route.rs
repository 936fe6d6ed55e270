//! The shape of `routes`; see `raw`.

use crate::{
    raw::{
        RawAdapt, RawCdn, RawClassRule, RawEncodingsRule, RawHot, RawKey, RawPacingRule,
        RawPrefetch, RawShadow, RawTtlRule, RawVoteOut, RawWhen,
    },
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
    /// The only one that is read on this route. Default: openai, anthropic and gemini are
    /// detected from the path; ollama, cohere and tgi, whose paths may be anybody's, are not.
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
    Gemini,
    Ollama,
    Cohere,
    Tgi,
    Http,
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
    /// How long an answer kept by content is good. Default: 1h. Not with mode http, where the
    /// answer's headers decide.
    pub(crate) ttl: Option<DurationText>,
    /// The first that fits says how long, in place of ttl.
    #[schemars(length(max = 32))]
    pub(crate) ttl_rules: Option<Vec<RawTtlRule>>,
    /// As long as the upstream says (s-maxage, max-age, expires), at most as long as ttl says; what
    /// it forbids to keep is not kept. Default: false.
    pub(crate) upstream_ttl: Option<bool>,
    /// Up to this percentage less, so that what was kept together does not end together. Default: 0.
    #[schemars(range(min = 0, max = 90))]
    pub(crate) jitter_percent: Option<u8>,
    pub(crate) when: Option<RawWhen>,
    /// In the order in which they are asked, memory first unless there is a reason: memory, redis,
    /// memcached, postgres, disk. Default: memory.
    #[schemars(length(min = 1, max = 8))]
    pub(crate) tiers: Option<Vec<RawTier>>,
    /// back: memory has an answer at once, the other tiers soon after its end. through: its end
    /// waits until every tier has it, or for the slowest tier's time-out. around: only the last
    /// tier is written; the others get what is asked for again. Default: back.
    pub(crate) writes: Option<RawWrites>,
    /// What a tier has is copied to those before it. Default: true.
    pub(crate) promote: Option<bool>,
    /// Who may be answered from whose entry. Default: tenant.
    pub(crate) scope: Option<RawScope>,
    /// Which fields of a call's head go on to the upstream, where its answer may be kept: all; or
    /// keyed, only those that its key binds, so that no caller can change what another is given.
    /// Default: all.
    pub(crate) forward: Option<RawForward>,
    pub(crate) key: Option<RawKey>,
    /// Calls with a list of items are answered item by item: what is known is not asked again.
    /// embeddings: those of dialects' embeddings. auto: documents to be ranked, too. off (or
    /// false): whole calls only. Or where a JSON service has its list. Default: embeddings.
    pub(crate) items: Option<RawItemsRule>,
    /// Calls about items wait for others of the same tenant that ask the same way, and are asked in
    /// one upstream call. Default: each is asked at once.
    pub(crate) join: Option<RawJoin>,
    /// Text with {header.N} {query.N} {path.N} {body./json/pointer} {tenant} {user} {project} {model}.
    #[schemars(length(max = 16))]
    pub(crate) tags: Option<Vec<String>>,
    /// Absent: nobody may.
    pub(crate) vote_out: Option<RawVoteOut>,
    pub(crate) stale: Option<RawStale>,
    pub(crate) hot: Option<RawHot>,
    pub(crate) shadow: Option<RawShadow>,
    pub(crate) adapt: Option<RawAdapt>,
    pub(crate) prefetch: Option<RawPrefetch>,
    /// Answers from the cache in the content coding that their caller prefers (accept-encoding): auto
    /// (zstd, br, gzip), a list of these, or off (or false). Default: off, as they are kept.
    pub(crate) encodings: Option<RawEncodingsRule>,
    /// A stored stream is given at a pace: original (as it came), or so many tokens per second.
    /// Default: none, at once.
    pub(crate) pacing: Option<RawPacingRule>,
    /// Of RFC 9111 §4.2.2: how long an answer is good that only says when it was last changed.
    /// off (or false): not at all. Default: 10 percent of the time since then.
    pub(crate) heuristic: Option<RawHeuristicRule>,
    /// In mode http, what is done with an answer that sets a cookie and says how long it is good:
    /// kept without the cookie, not kept, or kept with it, for everybody. Default: strip.
    pub(crate) set_cookie: Option<RawSetCookie>,
    /// What of the query tells answers apart in mode http. What is sent upstream stays as it is.
    pub(crate) query: Option<RawQuery>,
    pub(crate) cdn: Option<RawCdn>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawItemsRule {
    Bool(bool),
    Word(RawItemsWord),
    Lists(RawItems),
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawItemsWord {
    Off,
    Embeddings,
    Auto,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawJoin {
    /// How long the first waits for others: 1ms to 1s.
    #[schemars(required)]
    pub(crate) within: Option<DurationText>,
    /// Of one upstream call: 2 to 2048. Default: 64.
    #[schemars(range(min = 2, max = 2048))]
    pub(crate) items_max: Option<usize>,
}

/// One answer for each item, which depends on that item alone.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawItems {
    /// JSON pointer to the list in the request, through objects.
    #[schemars(required)]
    pub(crate) list: Option<String>,
    /// JSON pointer to the list in the answer, with one element for each item.
    #[schemars(required)]
    pub(crate) answers: Option<String>,
    /// Member of an answer that says which item it is of, from 0. Absent: they are in order.
    pub(crate) index: Option<String>,
}

/// How long past its time an answer may be given; in mode http, where its own headers do not say
/// so.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawStale {
    /// While one call fetches a new one. Default: 0s.
    pub(crate) while_revalidate: Option<DurationText>,
    /// When the upstream fails. Default: 0s.
    pub(crate) if_error: Option<DurationText>,
    /// In place of a refusal for want of a turn (queue_full, queue_timeout, deadline_unmeetable).
    /// Default: 0s.
    pub(crate) degrade: Option<DurationText>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawHeuristicRule {
    Switch(RawSwitch),
    With(RawHeuristic),
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawHeuristic {
    /// Of the time since the last change. Default: 10.
    #[schemars(range(min = 1, max = 100))]
    pub(crate) percent: Option<u8>,
    /// Never longer than this. Default: 24h.
    pub(crate) max: Option<DurationText>,
    /// Also for answers like 404 and 410. Default: true.
    pub(crate) negative: Option<bool>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawSetCookie {
    Strip,
    Bypass,
    Keep,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawQuery {
    /// Parameters in another order are the same query. Default: false.
    pub(crate) sort: Option<bool>,
    /// Parameters that change nothing: names, or the start of one and *.
    #[schemars(length(max = 64))]
    pub(crate) ignore: Option<Vec<String>>,
    /// Of the parameters, only these count; [] is none. Absent: all.
    #[schemars(length(max = 64))]
    pub(crate) only: Option<Vec<String>>,
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
    /// In mode content, default: the policy's ttl. In mode http, entries are kept here as long as
    /// their headers say, but not longer than this.
    pub(crate) ttl: Option<DurationText>,
    /// A larger entry is not kept here. Default: as large as the tier takes.
    pub(crate) max_entry: Option<SizeText>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawForward {
    All,
    Keyed,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawWrites {
    Back,
    Through,
    Around,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawTierName {
    Memory,
    Redis,
    Memcached,
    Postgres,
    Disk,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawScope {
    Tenant,
    User,
    Shared,
}
