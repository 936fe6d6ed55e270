//! What lies under a URL's key, where its answers depend on fields of the request.

use bytes::Bytes;
use tollgate_cache::{
    entry::{Entry, FieldNames, Rule, subjects},
    key::{CacheKey, Check},
};

/// The list that leads to `answer`.
pub(super) fn of(
    lists: Box<[FieldNames]>,
    (url, check): (CacheKey, Check),
    answer: &Entry,
) -> Entry {
    Entry {
        headers: Vec::new(),
        body: Bytes::new(),
        rule: Rule::Variants(lists),
        check,
        // A purge of one variant is none of the list.
        subjects: subjects(url, &answer.route, &answer.model, &answer.tenant, &answer.tags),
        note: Bytes::new(),
        ..answer.clone()
    }
}
