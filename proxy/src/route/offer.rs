//! The content codings in which a route's stored answers are given.

use smallvec::SmallVec;
use tollgate_cache::coding::{CODINGS, Coding};
use tollgate_config as config;

/// What a route codes, made ready.
#[derive(Debug)]
pub(crate) struct Offer {
    /// Best first.
    pub(crate) codings: SmallVec<[Coding; CODINGS]>,
    /// Of an answer; a shorter one is given as it is.
    pub(crate) bytes_min: usize,
}

impl Offer {
    /// `None`: answers go out as they are kept.
    pub(super) fn new(cache: &config::CachePolicy) -> Option<Self> {
        let offered = cache.encodings.as_ref()?;
        let codings = offered.codings.iter().map(|coding| match coding {
            config::Coding::Zstd => Coding::Zstd,
            config::Coding::Br => Coding::Br,
            config::Coding::Gzip => Coding::Gzip,
        });
        let bytes_min = usize::try_from(offered.bytes_min).unwrap_or(usize::MAX);
        Some(Self { codings: codings.collect(), bytes_min })
    }
}
