//! The shape of `routes[].class`; see `raw`.

use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawClassRule {
    /// From a tenant to its class, whatever its calls claim.
    #[schemars(extend("maxProperties" = 1000))]
    pub(crate) tenants: Option<BTreeMap<String, String>>,
    /// The first that is asked what it claims. Default: x-priority.
    pub(crate) header: Option<String>,
    /// From a word of the header to the name of a class.
    #[schemars(extend("maxProperties" = 256))]
    pub(crate) map: Option<BTreeMap<String, String>>,
    /// What is asked after the header, in this order; the first that says a class counts.
    #[schemars(length(max = 16))]
    pub(crate) sources: Option<Vec<RawClassSource>>,
    /// Tenants whose claims in headers and bodies are believed. Absent: anyone's; empty: nobody's.
    #[schemars(length(max = 1000))]
    pub(crate) trust: Option<Vec<String>>,
    /// The most important class that anybody's call is of. Default: any.
    pub(crate) ceiling: Option<String>,
    /// From a tenant to a ceiling of its own.
    #[schemars(extend("maxProperties" = 1000))]
    pub(crate) ceilings: Option<BTreeMap<String, String>>,
}

/// One of map, at_least and at_most.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawClassSource {
    #[schemars(required)]
    pub(crate) from: Option<RawClaimedIn>,
    /// Of the header, or of the member of the JSON object that the body of a model call is, or of a
    /// call that is cached by content.
    pub(crate) name: Option<String>,
    /// From a word, or the beginning of a path in whole segments, to a class.
    #[schemars(extend("maxProperties" = 256))]
    pub(crate) map: Option<BTreeMap<String, String>>,
    /// From a whole number to the class of it and all above, up to the next: more is more urgent.
    #[schemars(extend("maxProperties" = 256))]
    pub(crate) at_least: Option<BTreeMap<String, String>>,
    /// From a whole number to the class of it and all below, down to the next: less is more urgent.
    #[schemars(extend("maxProperties" = 256))]
    pub(crate) at_most: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawClaimedIn {
    Header,
    Body,
    Path,
    User,
    Tier,
    Project,
    Business,
}
