//! What is to be purged, whoever says so: an administrator or an event.

use std::fmt;
use tollgate_cache::{
    generations::{Glob, Target},
    key::CacheKey,
};
use tollgate_config::PurgeKind;

/// One target, with its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Aim {
    Key(CacheKey),
    Pattern(Glob),
    /// Tag, route, model or tenant.
    Named(PurgeKind, Box<str>),
    All,
}

impl Aim {
    /// # Errors
    /// Why `name` names nothing of that kind. It is not quoted.
    pub(crate) fn new(kind: PurgeKind, name: &str) -> Result<Self, String> {
        if name.is_empty() && kind != PurgeKind::All {
            return Err(format!("{kind}: empty"));
        }
        match kind {
            PurgeKind::All => Ok(Self::All),
            PurgeKind::Key => CacheKey::from_hex(name)
                .map(Self::Key)
                .ok_or_else(|| "key: not the 64 hexadecimal digits that explain shows".to_owned()),
            PurgeKind::Pattern => {
                Glob::parse(name).map(Self::Pattern).map_err(|bad| format!("pattern: {bad}"))
            }
            PurgeKind::Tag | PurgeKind::Route | PurgeKind::Model | PurgeKind::Tenant => {
                Ok(Self::Named(kind, name.into()))
            }
        }
    }

    pub(crate) fn kind(&self) -> PurgeKind {
        match self {
            Self::Key(_) => PurgeKind::Key,
            Self::Pattern(_) => PurgeKind::Pattern,
            Self::Named(kind, _) => *kind,
            Self::All => PurgeKind::All,
        }
    }

    pub(crate) fn target(&self) -> Target<'_> {
        match self {
            Self::Key(key) => Target::Key(*key),
            Self::Pattern(glob) => Target::Pattern(glob),
            Self::Named(PurgeKind::Tag, name) => Target::Tag(name),
            Self::Named(PurgeKind::Route, name) => Target::Route(name),
            Self::Named(PurgeKind::Model, name) => Target::Model(name),
            Self::Named(PurgeKind::Tenant, name) => Target::Tenant(name),
            // Nothing else has a name: see `new`.
            Self::Named(..) | Self::All => Target::All,
        }
    }
}

/// Its name alone.
impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => f.write_str(&key.to_hex()),
            Self::Pattern(glob) => f.write_str(glob.as_str()),
            Self::Named(_, name) => f.write_str(name),
            Self::All => Ok(()),
        }
    }
}
