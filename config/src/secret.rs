//! Values that must not be seen: no way of printing them leads here.
//!
//! `Debug` names the place a secret came from, never the secret. Reading it is
//! called [`Secret::expose`], so that a reviewer can find every use by one word.

use std::{fmt, path::PathBuf, sync::Arc};

/// A secret and where it came from.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    source: SecretSource,
    /// `None`: not on this machine (a warning at check, an error at run).
    value: Option<Arc<str>>,
}

/// The place a secret came from; safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    Env(String),
    File(PathBuf),
    /// It stands in the configuration itself.
    Inline,
}

/// The address of a Redis server, perhaps with a password in it.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    secret: Secret,
    /// Without user and password.
    shown: String,
}

impl Secret {
    pub(crate) fn new(source: SecretSource, value: Option<&str>) -> Self {
        Self { source, value: value.map(Arc::from) }
    }

    /// Whether somebody who says `claim` knows it; nobody knows a missing one. Takes as
    /// long for a near miss as for a wild one.
    pub fn is_known_to(&self, claim: &[u8]) -> bool {
        let own = self.expose().as_bytes();
        let differing = own.iter().zip(claim).fold(0, |bits, (a, b)| bits | (a ^ b));
        !self.is_missing() && own.len() == claim.len() && std::hint::black_box(differing) == 0
    }

    /// The secret itself. Empty where it was missing, which a start refuses: to compare,
    /// use [`Secret::is_known_to`].
    pub fn expose(&self) -> &str {
        self.value.as_deref().unwrap_or_default()
    }

    /// The place it should have come from did not have it.
    pub fn is_missing(&self) -> bool {
        self.value.is_none()
    }

    pub fn source(&self) -> &SecretSource {
        &self.source
    }
}

impl RedisUrl {
    pub(crate) fn new(secret: Secret, shown: impl Into<String>) -> Self {
        Self { secret, shown: shown.into() }
    }

    pub fn source(&self) -> &SecretSource {
        self.secret.source()
    }

    /// With user and password: for the connection only.
    pub fn expose(&self) -> &str {
        self.secret.expose()
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Inline => f.write_str("the configuration"),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = if self.is_missing() { ", missing" } else { "" };
        write!(f, "Secret({}{missing})", self.source)
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({})", self.shown)
    }
}
