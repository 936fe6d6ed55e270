//! The shape of what `routes[].cache` says about keys and times; see `raw`.

use crate::{
    raw::RawHeader,
    text::{DurationText, SizeText},
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What of a call makes its key, in mode content.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawKey {
    /// Further members of the key, by name.
    #[schemars(extend("maxProperties" = 16))]
    pub(crate) versions: Option<BTreeMap<String, RawHeader>>,
    /// Members of a JSON body that change nothing: JSON pointers (RFC 6901), in which * is any
    /// member or element.
    #[schemars(length(max = 64))]
    pub(crate) ignore: Option<Vec<String>>,
    /// Request headers that are part of the key, every line of them.
    #[schemars(length(max = 16))]
    pub(crate) include_headers: Option<Vec<String>>,
    /// Only these parts of a call, in place of the whole body: body (its bytes), body./json/pointer,
    /// part.NAME (of a form), header.N, query.N, path.N. The query and the path stay, unless a part
    /// of them is named. A call without one of them is not cached.
    #[schemars(length(min = 1, max = 16))]
    pub(crate) of: Option<Vec<String>>,
}

/// What must hold for an answer to be kept, in mode content. Where a call does not fit, it is not
/// looked for either.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWhen {
    /// Of calls that write text; one that says none counts as 1, the dialects' default.
    #[schemars(range(min = 0, max = 2))]
    pub(crate) temperature_max: Option<f64>,
    /// How many choices may be asked for; a call that says none asks for 1.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) n_max: Option<u64>,
    /// false: not when the request offers tools. Default: true.
    pub(crate) tools: Option<bool>,
    /// Why the answer ended, in its dialect's words: every choice for one of these.
    #[schemars(length(min = 1, max = 16))]
    pub(crate) finish_reasons: Option<Vec<String>>,
    /// Of answers. Others than 200 only with dialect: http. Default: 200.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) statuses: Option<Vec<u16>>,
    /// Of answers.
    pub(crate) body_max: Option<SizeText>,
    /// Of a JSON request body; all must hold.
    #[schemars(length(max = 32))]
    pub(crate) request: Option<Vec<RawTest>>,
    /// Of a JSON answer, or the one that a stream comes to; all must hold.
    #[schemars(length(max = 32))]
    pub(crate) answer: Option<Vec<RawTest>>,
}

/// What is said of one value: exactly one of equals, in and exists.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTest {
    /// A JSON pointer (RFC 6901).
    #[schemars(required)]
    pub(crate) pointer: Option<String>,
    pub(crate) equals: Option<RawScalar>,
    #[serde(rename = "in")]
    #[schemars(length(min = 1, max = 256))]
    pub(crate) one_of: Option<Vec<RawScalar>>,
    pub(crate) exists: Option<bool>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawScalar {
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawScalars {
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    OneOf(Vec<RawScalar>),
}

/// Who may say that an answer is bad, with `tollgate-vote: bad` beside the same request again: it is
/// voided, and the upstream is asked anew.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawVoteOut {
    /// Tenants that are believed. Absent: each about its own answers; needed where answers are
    /// everybody's (scope: shared, mode: http).
    #[schemars(length(max = 1000))]
    pub(crate) trust: Option<Vec<String>>,
    /// Of each tenant on this route. Default: 10.
    #[schemars(range(min = 1, max = 600))]
    pub(crate) per_minute: Option<u32>,
}

/// All that is written must hold.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTtlRule {
    /// From JSON pointers into the request body to a value, or a list of which it must be one.
    #[schemars(extend("maxProperties" = 16))]
    pub(crate) request: Option<BTreeMap<String, RawScalars>>,
    /// The same of the answer.
    #[schemars(extend("maxProperties" = 16))]
    pub(crate) answer: Option<BTreeMap<String, RawScalars>>,
    /// Request headers and the exact values they must have.
    #[schemars(extend("maxProperties" = 16))]
    pub(crate) headers: Option<BTreeMap<String, String>>,
    #[schemars(length(min = 1, max = 64))]
    pub(crate) statuses: Option<Vec<u16>>,
    /// 0s: not kept.
    #[schemars(required)]
    pub(crate) ttl: Option<DurationText>,
}

/// What is remembered, in memory and as digests only, to say why a call was not answered from the
/// cache (tollgate explain --admin, /api/cache/explain).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawExplain {
    /// Answers that were stored, and as many calls that missed: the latest. Default: 0, none.
    #[schemars(range(max = 20_000))]
    pub(crate) entries: Option<u16>,
}
