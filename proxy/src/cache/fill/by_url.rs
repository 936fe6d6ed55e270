//! An answer that is kept by URL: whether a change of that came while it was on its way, and whether
//! who asks for the same meanwhile may be given it.

use super::{Fill, ForOthers, Question};
use crate::app::Parts;
use std::sync::Arc;
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

impl Fill {
    /// What the answer is to who asks for the same URL now; `len`: of its body, where it is known.
    pub(crate) fn others(&self, len: Option<u64>) -> Option<Arc<ForOthers>> {
        let others = self.under.as_ref()?.others.as_ref()?;
        let bytes_max = self.recorded_bytes_max();
        // What is not recorded comes no faster than the slowest of them takes it.
        let is_recorded = |len: u64| usize::try_from(len).is_ok_and(|len: usize| len <= bytes_max);
        len.is_none_or(is_recorded).then(|| others.clone())
    }

    /// It was too long to be recorded, or broke off: nobody waits for the next.
    pub(super) fn was_to_be_kept(&self) {
        if self.under.is_some() {
            self.question.goes_alone(&self.parts);
        }
    }
}
