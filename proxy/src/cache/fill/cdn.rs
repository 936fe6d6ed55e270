//! Tells a CDN before us of an answer that passes and is kept: what it would be told of the same
//! answer from the cache.

use super::Fill;
use http::HeaderMap;

impl Fill {
    /// In its head, which has been judged.
    pub(crate) fn tell_cdn(&self, headers: &mut HeaderMap) {
        if let (Some(asked), Some(under)) = (self.asked(), &self.under)
            && asked.told.is_some()
        {
            let tags: Vec<_> = self.question.tags.iter().chain(&under.tags).cloned().collect();
            asked.tell(headers, &under.rule, &tags);
        }
    }
}
