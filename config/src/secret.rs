//! Values that must not be seen: no way of printing them leads here.
//!
//! `Debug` names the place a secret came from, never the secret. Reading it is
//! called [`Secret::expose`], so that a reviewer can find every use by one word.

use base64::{Engine as _, prelude::BASE64_STANDARD};
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

/// 32 secret bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct EncryptionKey {
    source: SecretSource,
    /// `None`: not on this machine.
    bytes: Option<[u8; 32]>,
}

/// What a key is written as, for messages.
pub(crate) const KEY_IS: &str =
    "must be 32 bytes, as 64 hexadecimal digits or in base64 (openssl rand -hex 32 makes one)";

/// The address of a store, perhaps with a password in it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
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

impl EncryptionKey {
    /// `None` where `secret` is there and is none.
    pub(crate) fn read(secret: &Secret) -> Option<Self> {
        let bytes = if secret.is_missing() { None } else { Some(key_bytes(secret.expose())?) };
        Some(Self { source: secret.source.clone(), bytes })
    }

    /// `None` where it was missing, which a start refuses.
    pub fn expose(&self) -> Option<[u8; 32]> {
        self.bytes
    }

    pub fn source(&self) -> &SecretSource {
        &self.source
    }
}

fn key_bytes(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 {
        return BASE64_STANDARD.decode(text).ok()?.try_into().ok();
    }
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(bytes)
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = if self.bytes.is_none() { ", missing" } else { "" };
        write!(f, "EncryptionKey({}{missing})", self.source)
    }
}

impl StoreUrl {
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

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({})", self.shown)
    }
}
