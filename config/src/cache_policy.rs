//! What of a call makes its key, and for how long its answer is good, after validation.

use crate::Prefetch;
use serde_json::{Number, Value};
use std::{fmt, time::Duration};

/// What of a call makes its key, in content mode, beside what always does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPolicy {
    /// Further members of the key. In order of name, none twice.
    pub versions: Vec<KeyVersion>,
    /// JSON pointers (RFC 6901) to members that change nothing; a step `*` is any. None twice.
    pub ignore: Vec<String>,
    /// Lower case, none twice.
    pub include_headers: Vec<String>,
    /// Only these, in place of the whole body. Never empty, none twice; never both of a JSON body
    /// and of a form.
    pub of: Option<Vec<KeyPart>>,
}

/// A named member of the key, taken from a request header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyVersion {
    pub name: String,
    /// Lower case.
    pub header: String,
}

/// A part of a call that makes its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// All bytes of the body.
    Bytes,
    /// What a JSON pointer (RFC 6901) leads to in a JSON body.
    Body(String),
    /// A part of a `multipart/form-data` body.
    Field(String),
    /// A request header, lower case.
    Header(String),
    /// A query parameter, as it is meant: compared after `%` escapes are read.
    Query(String),
    /// A segment of the normalised path; `path.1` is the first, place 0 here.
    Segment(usize),
}

/// What must hold for an answer to be kept, in content mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct When {
    /// Of calls that write text; one that says none counts as 1.
    pub temperature_max: Option<Number>,
    pub n_max: Option<u64>,
    /// False: not when the request offers tools.
    pub tools: bool,
    /// Never empty.
    pub finish_reasons: Option<Vec<String>>,
    /// Never empty; final ones without 206 and 304. Only 200 unless the dialect is http.
    pub statuses: Vec<u16>,
    /// Of the answer.
    pub body_bytes_max: Option<u64>,
    pub request: Vec<Test>,
    pub answer: Vec<Test>,
}

/// What is said of one value of a JSON body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// A JSON pointer (RFC 6901).
    pub pointer: String,
    pub wants: Wants,
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wants {
    /// Booleans, numbers and texts; never empty.
    OneOf(Vec<Value>),
    Exists(bool),
}

/// How long an answer may be used, in content mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
    /// The first that fits decides; at most [`TTL_RULES_MAX`].
    pub rules: Vec<TtlRule>,
    /// The answer's headers decide, within what is said here.
    pub upstream: bool,
    /// 0 to 90: up to so much less.
    pub jitter_percent: u8,
}

/// For how long past its time an answer may be given; zero: not at all. In mode http, where the
/// answer's headers do not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// While one call renews it.
    pub while_revalidate: Duration,
    /// In place of an upstream's failure.
    pub if_error: Duration,
    /// In place of being shed.
    pub degrade: Duration,
}

/// What is done by itself for what is kept by content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    pub hot: Option<Hot>,
    /// In millionths of the hits: so many are checked against the upstream. 0: none.
    pub shadow_ppm: u32,
    pub adapt: Option<Adapt>,
    /// `None`: nothing is asked ahead.
    pub prefetch: Option<Prefetch>,
}

/// How long an answer is good follows how often it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adapt {
    /// Never zero, and not longer than the policy's ttl.
    pub min: Duration,
    /// Not shorter than the policy's ttl.
    pub max: Duration,
}

/// What is asked for often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hot {
    /// Never 0: from how many hits in one instance's memory an answer is hot.
    pub hits: u32,
    /// Never longer than the policy's ttl. Zero only where `refresh_ahead_ppm` is not.
    pub extend: Duration,
    /// In the last millionths of its time it is renewed beside a hit; below 1,000,000.
    pub refresh_ahead_ppm: u32,
}

/// All of it must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TtlRule {
    pub request: Vec<Test>,
    pub answer: Vec<Test>,
    /// Of the request: lower-case name, exact value.
    pub headers: Vec<(String, String)>,
    /// Empty: any.
    pub statuses: Vec<u16>,
    /// Zero: the answer is not kept.
    pub ttl: Duration,
}

/// Whose items are answered one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Items {
    Off,
    /// Those of the dialects' embeddings.
    #[default]
    Embeddings,
    /// And the documents that are to be ranked.
    Auto,
    /// Of a plain JSON service. Paths are JSON pointers (RFC 6901) through objects; the empty one
    /// is the whole document.
    Named {
        list: String,
        answers: String,
        index: Option<String>,
    },
}

/// How calls about items wait for others, to be asked with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    /// How long the first waits.
    pub within: Duration,
    /// Of one upstream call.
    pub items_max: usize,
}

/// So many fit into the bits that are remembered of a body.
pub const TTL_RULES_MAX: usize = 32;

impl Default for When {
    fn default() -> Self {
        Self {
            temperature_max: None,
            n_max: None,
            tools: true,
            finish_reasons: None,
            statuses: vec![200],
            body_bytes_max: None,
            request: Vec::new(),
            answer: Vec::new(),
        }
    }
}

impl KeyPolicy {
    /// The operator left all keys as they are.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pointer, wants } = self;
        match wants {
            Wants::Exists(true) => write!(f, "{pointer} is there"),
            Wants::Exists(false) => write!(f, "{pointer} is not there"),
            Wants::OneOf(values) => {
                let values: Vec<String> = values.iter().map(Value::to_string).collect();
                write!(f, "{pointer} = {}", values.join(" or "))
            }
        }
    }
}

impl fmt::Display for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes => f.write_str("body"),
            Self::Body(pointer) => write!(f, "body.{pointer}"),
            Self::Field(name) => write!(f, "part.{name}"),
            Self::Header(name) => write!(f, "header.{name}"),
            Self::Query(name) => write!(f, "query.{name}"),
            Self::Segment(place) => write!(f, "path.{}", place.saturating_add(1)),
        }
    }
}
