//! What a purge may be about.

use std::fmt;

/// What a purge is aimed at, without its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PurgeKind {
    Key,
    Tag,
    /// A glob over tags.
    Pattern,
    Route,
    Model,
    Tenant,
    /// Has no name.
    All,
}

impl PurgeKind {
    /// In the order in which they are listed.
    pub const ALL: [Self; 7] =
        [Self::Key, Self::Tag, Self::Pattern, Self::Route, Self::Model, Self::Tenant, Self::All];
}

impl fmt::Display for PurgeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Tag => "tag",
            Self::Pattern => "pattern",
            Self::Route => "route",
            Self::Model => "model",
            Self::Tenant => "tenant",
            Self::All => "all",
        })
    }
}
