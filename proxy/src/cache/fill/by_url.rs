//! An answer that is kept by URL: whether a change of that came while it was on its way.

use super::Question;
use crate::app::Parts;
use tollgate_cache::urls::Url;

/// A URL, and its changes until its answer was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    url: Url,
    changed: u32,
}

impl Begun {
    pub(super) fn of(parts: &Parts, question: &Question) -> Option<Self> {
        let url = question.http.as_ref()?.named;
        Some(Self { url, changed: parts.cache.urls.changed(url) })
    }

    /// What it was before a change is not kept. What is kept until then is voided by the next.
    pub(super) fn may_keep(self, parts: &Parts, until_ms: u64) -> bool {
        let Self { url, changed } = self;
        parts.cache.urls.keeps(url, until_ms);
        parts.cache.urls.changed(url) == changed
    }
}
