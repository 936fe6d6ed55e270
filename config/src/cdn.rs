//! What a CDN before a route is told.

use std::time::Duration;

/// Of answers that everybody may be given, by URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cdn {
    pub control: CdnControl,
    /// `None`: no tags are said.
    pub tags: Option<CdnTags>,
    /// The longest that an answer may be good there, from when it was made. `None`: as long as here.
    pub ttl_max: Option<Duration>,
}

/// The field that says for how long an answer is good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CdnControl {
    /// `cdn-cache-control` (RFC 9213).
    #[default]
    Targeted,
    /// `surrogate-control`, of the Edge Architecture note and those that followed it.
    Surrogate,
    /// `s-maxage` beside what `cache-control` says.
    Shared,
}

/// The field that names an answer's tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CdnTags {
    /// Separated by spaces.
    SurrogateKey,
    /// Separated by commas.
    CacheTag,
    /// Separated by spaces.
    Xkey,
}

impl CdnControl {
    /// The field's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Targeted => "cdn-cache-control",
            Self::Surrogate => "surrogate-control",
            Self::Shared => "cache-control",
        }
    }
}

impl CdnTags {
    /// The field's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::SurrogateKey => "surrogate-key",
            Self::CacheTag => "cache-tag",
            Self::Xkey => "xkey",
        }
    }

    /// What stands between two of them.
    pub fn separator(self) -> char {
        match self {
            Self::SurrogateKey | Self::Xkey => ' ',
            Self::CacheTag => ',',
        }
    }
}
