//! Why an answer of content mode is not kept, by what its head says; and that somebody hears of it:
//! a route whose answers are never kept looks like one whose callers never ask twice.

use super::super::Question;
use crate::{metrics::NotKept, seldom::Seldom};
use http::{HeaderMap, header, response};

/// An upstream that says so says so of every answer.
static LOGGED: Seldom = Seldom::new();

pub(super) fn of(question: &Question, answer: &response::Parts) -> Option<NotKept> {
    let headers = &answer.headers;
    if headers.contains_key(header::CONTENT_ENCODING) {
        Some(NotKept::Encoded)
    } else if has_no_store(headers) {
        Some(NotKept::NoStore)
    } else if !question.binds_all(headers) {
        Some(NotKept::Vary)
    } else {
        None
    }
}

pub(super) fn tell(question: &Question, why: NotKept) {
    let metrics = &question.route.lane.metrics;
    metrics.not_kept(why);
    if why == NotKept::Vary
        && let Some(not_logged) = LOGGED.now()
    {
        tracing::warn!(
            route = metrics.route(),
            not_logged,
            "an answer is not kept: its vary names a field that no key has; \
             name it in cache.key.include_headers, if answers may be kept for each value"
        );
    }
}

/// The one word of an upstream's cache-control that decides in content mode: providers
/// send `no-cache` on every stream.
fn has_no_store(headers: &HeaderMap) -> bool {
    headers.get_all(header::CACHE_CONTROL).iter().any(|value| {
        let mut words = value.as_bytes().split(|byte| *byte == b',');
        words.any(|word| word.trim_ascii().eq_ignore_ascii_case(b"no-store"))
    })
}
