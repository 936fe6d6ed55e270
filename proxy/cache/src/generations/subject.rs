//! What a purge is aimed at, as it is kept and carried: 16 bytes, whatever it is about.

use super::pattern::Glob;
use crate::{key::CacheKey, urls::Url};
use smallvec::SmallVec;

/// What a purge is aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    Key(CacheKey),
    Tag(&'a str),
    /// Every tag that it fits.
    Pattern(&'a Glob),
    Route(&'a str),
    Model(&'a str),
    Tenant(&'a str),
    /// All that is kept for a URL by HTTP's rules, whoever it is kept for.
    Url(Url),
    /// The same, of all URLs that share this place ([`Url::void_place`]).
    UrlPlace(u16),
    All,
}

/// A target as a 128-bit digest: fixed size, and no names in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject([u8; 16]);

/// The bit of a subject's first byte that tells soft purges from others.
const SOFT: u8 = 0x80;

fn join(first: u8, rest: [u8; 15]) -> [u8; 16] {
    let mut bytes = [first; 16];
    if let Some((_, tail)) = bytes.split_first_mut() {
        tail.copy_from_slice(&rest);
    }
    bytes
}

impl Subject {
    pub const ALL: Self = Self([0; 16]);

    pub fn of(target: Target<'_>) -> Self {
        let place;
        let (kind, name) = match &target {
            Target::Key(key) => (b'k', key.as_bytes().as_slice()),
            Target::Tag(name) => (b't', name.as_bytes()),
            Target::Route(name) => (b'r', name.as_bytes()),
            Target::Model(name) => (b'm', name.as_bytes()),
            Target::Tenant(name) => (b'n', name.as_bytes()),
            Target::Url(url) => (b'u', url.as_bytes().as_slice()),
            Target::UrlPlace(of_urls) => {
                place = of_urls.to_le_bytes();
                (b'p', place.as_slice())
            }
            Target::Pattern(glob) => return glob.subject(),
            Target::All => return Self::ALL,
        };
        // One kind byte in front of one name needs no lengths.
        let mut buffer = SmallVec::<[u8; 256]>::new();
        buffer.push(kind);
        buffer.extend_from_slice(name);
        let digest = blake3::hash(&buffer);
        Self(digest.as_bytes().first_chunk().copied().unwrap_or_default()).hard()
    }

    /// What everybody is told of a purge: itself, and before it what goes with it (a pattern's
    /// text), in this order.
    pub fn told(target: Target<'_>, softly: bool) -> SmallVec<[Self; 1]> {
        let subject = if softly { Self::of(target).softly() } else { Self::of(target) };
        let before = match target {
            Target::Pattern(glob) => Some(glob.pieces()),
            Target::Key(_)
            | Target::Tag(_)
            | Target::Route(_)
            | Target::Model(_)
            | Target::Tenant(_)
            | Target::Url(_)
            | Target::UrlPlace(_)
            | Target::All => None,
        };
        before.into_iter().flatten().chain([subject]).collect()
    }

    /// The same, purged softly.
    #[must_use]
    pub fn softly(self) -> Self {
        let Self([first, rest @ ..]) = self;
        Self(join(first | SOFT, rest))
    }

    /// The same, if it is one of a soft purge, purged for good.
    #[must_use]
    pub(super) fn hard(self) -> Self {
        let Self([first, rest @ ..]) = self;
        Self(join(first & !SOFT, rest))
    }

    pub(super) fn is_soft(self) -> bool {
        self.hard() != self
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}
