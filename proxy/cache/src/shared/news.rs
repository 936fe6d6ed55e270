//! What those are told who wait for another instance's answer.

use crate::key::CacheKey;
use std::sync::Arc;

/// What became of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// An answer lies in Redis, of this version of the model.
    Stored(Arc<str>),
    /// The answer is not to be shared, or there is none: each asks alone.
    Unshared,
    /// The holder left before there was an answer: the next may lead.
    Gone,
}

impl News {
    /// As it is said on the channel.
    pub(super) fn payload(&self, key: CacheKey) -> Vec<u8> {
        let (kind, version) = match self {
            Self::Stored(version) => (b's', &**version),
            Self::Unshared => (b'u', ""),
            Self::Gone => (b'g', ""),
        };
        [b"l", key.as_bytes().as_slice(), &[kind], version.as_bytes()].concat()
    }

    /// Reads what stands behind the first letter of a message.
    pub(super) fn read(payload: &[u8]) -> Option<(CacheKey, Self)> {
        let (key, rest) = payload.split_first_chunk::<32>()?;
        let (kind, version) = rest.split_first()?;
        let news = match kind {
            b's' => Self::Stored(std::str::from_utf8(version).ok()?.into()),
            b'u' => Self::Unshared,
            b'g' => Self::Gone,
            _ => return None,
        };
        Some((CacheKey::from_bytes(*key), news))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn news_is_read_as_it_is_said(key in any::<[u8; 32]>(), kind in 0..3, version in ".*") {
            let news = match kind {
                0 => News::Stored(version.into()),
                1 => News::Unshared,
                _ => News::Gone,
            };
            let said = news.payload(CacheKey::from_bytes(key));
            let (first, rest) = said.split_first().unwrap();
            prop_assert_eq!(*first, b'l');
            prop_assert_eq!(News::read(rest), Some((CacheKey::from_bytes(key), news)));
        }

        #[test]
        fn foreign_news_never_panics(said in proptest::collection::vec(any::<u8>(), 0..50)) {
            let _ = News::read(&said);
        }
    }
}
