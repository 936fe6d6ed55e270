//! A stored answer.
//!
//! Bytes are kept as they came: a streamed answer replays in the frames the service sent, so the
//! places where frames ended are kept, not the frames. What the meter knows about the answer
//! (usage, what it had cost) travels as an opaque note: this crate knows no money.

use crate::{
    delivery::Delivery,
    freshness::Times,
    generations::{About, CheckedAt, Stamp, Subject, Target},
    key::{CacheKey, Check},
    rfc9111::store::Stored,
    urls::Url,
};
use bytes::Bytes;
use http::HeaderName;
use smallvec::SmallVec;
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// Which of the two forms of an answer was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One body.
    Whole,
    /// Server-sent events.
    Stream,
}

/// What decides whether an entry may be given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// Its time to live alone: what a route keys by content.
    #[default]
    Ttl,
    /// The same, where the route gives stale answers or goes by how often answers are asked for or
    /// change.
    Timed(Box<Times>),
    /// HTTP caching.
    Http(Box<HttpRule>),
    /// No answer: the answers of this URL depend on fields of the request, and lie under keys of
    /// their own. One list of names for each way in which answers said so, newest first.
    Variants(Box<[FieldNames]>),
}

/// What decides whether an answer kept for HTTP may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpRule {
    pub stored: Stored,
    /// The key of its URL, which is not its own if it depends on fields of the request. A purge
    /// by this key voids all that is kept for the URL.
    pub url: CacheKey,
    /// The URL for everybody, whose key may be another.
    pub named: Url,
}

/// The fields that one `vary` named, sorted.
pub type FieldNames = Box<[HeaderName]>;

/// A stored answer, and what decides whether it may still be given.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub status: u16,
    /// Only what [`storable_headers`] lets through.
    pub headers: Vec<(Bytes, Bytes)>,
    pub body: Bytes,
    /// Where the frames of a stream ended, as offsets into `body`, ascending. Empty for a whole
    /// answer.
    pub frame_ends: Box<[u32]>,
    pub form: Form,
    pub check: Check,
    /// Unix time. For an answer that came with an age, that much earlier.
    pub stored_at_ms: u64,
    /// How long it can be of use. Whether it may be given is for `rule` to say.
    pub ttl_ms: u64,
    pub rule: Rule,
    /// Shared with whoever else speaks of the same: thousands of entries name a few models.
    pub model: Arc<str>,
    pub model_version: Arc<str>,
    pub tenant: Box<str>,
    pub route: Arc<str>,
    pub tags: Vec<Box<str>>,
    /// From [`subjects`]; what a purge may be aimed at.
    pub subjects: Box<[Subject]>,
    /// The meter's, opaque here.
    pub note: Bytes,
    /// What giving it again saves, in a unit that is the same for all entries; the caller's to
    /// choose. Whoever keeps what saves most goes by it.
    pub worth: u64,
    /// When the fill began.
    pub stamp: Stamp,
    pub checked: CheckedAt,
    pub hits: Hits,
    pub delivery: Delivery,
}

/// How often an entry was given from this process's memory since it came there.
#[derive(Debug, Default)]
pub struct Hits(AtomicU32);

/// A copy is another entry: nobody has asked for it yet.
impl Clone for Hits {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// It is no part of what an entry says.
impl PartialEq for Hits {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Hits {
    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn value(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What an entry costs beside its bytes: the structures, the map's slot, the allocator's share.
/// Measured, see `tollgate-bench entry-cost`.
const OVERHEAD: usize = 752;
/// And every separately allocated or shared piece.
pub(crate) const PIECE_OVERHEAD: usize = 48;

impl Rule {
    fn weight(&self) -> usize {
        match self {
            Self::Ttl => 0,
            Self::Timed(_) => size_of::<Times>() + PIECE_OVERHEAD,
            Self::Http(_) => size_of::<HttpRule>() + PIECE_OVERHEAD,
            Self::Variants(lists) => {
                let names = lists.iter().flat_map(|list| list.iter());
                let names: usize = names.map(|name| name.as_str().len() + PIECE_OVERHEAD).sum();
                names + lists.len() * PIECE_OVERHEAD
            }
        }
    }
}

impl Entry {
    /// Bytes of memory, overhead included.
    pub fn weight(&self) -> u64 {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + 2 * PIECE_OVERHEAD)
            .sum();
        let tags: usize = self.tags.iter().map(|tag| tag.len() + PIECE_OVERHEAD).sum();
        let names =
            self.model.len() + self.model_version.len() + self.tenant.len() + self.route.len();
        let tables = 4 * self.frame_ends.len() + 16 * self.subjects.len() + self.rule.weight();
        let tables = tables + self.delivery.weight();
        let all = OVERHEAD + self.body.len() + self.note.len() + headers + tags + names + tables;
        u64::try_from(all).unwrap_or(u64::MAX)
    }

    /// What a purge may be about, of this.
    pub fn about(&self) -> About<'_> {
        About { subjects: &self.subjects, tags: &self.tags }
    }

    /// How old the answer is. 0 if the clock went back.
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.stored_at_ms)
    }

    /// How long it may still be given; `None` once it is past its time.
    pub fn fresh_for_ms(&self, now_ms: u64) -> Option<u64> {
        self.ttl_ms.checked_sub(self.age_ms(now_ms)).filter(|left| *left > 0)
    }

    /// The frames as they came; one for a whole answer.
    pub fn frames(&self) -> impl Iterator<Item = Bytes> + '_ {
        let mut start = 0;
        let ends = self.frame_ends.iter().map(|end| usize::try_from(*end).unwrap_or(usize::MAX));
        // What follows the last end (for a whole answer: everything) is a frame too.
        ends.chain([self.body.len()]).filter_map(move |end| {
            let end = end.min(self.body.len());
            let frame = (start < end).then(|| self.body.slice(start..end));
            start = start.max(end);
            frame
        })
    }
}

/// What a purge that voids this entry may be aimed at (beside [`Subject::ALL`]).
pub fn subjects(
    key: CacheKey,
    route: &str,
    model: &str,
    tenant: &str,
    tags: &[Box<str>],
) -> Box<[Subject]> {
    let tags = tags.iter().map(|tag| Target::Tag(tag));
    [Target::Key(key), Target::Route(route), Target::Model(model), Target::Tenant(tenant)]
        .into_iter()
        .chain(tags)
        .map(Subject::of)
        .collect()
}

/// The same of an answer that is one of several under `url`: it can be meant by its own key, too.
pub fn of_variant(subjects: Box<[Subject]>, url: CacheKey, key: CacheKey) -> Box<[Subject]> {
    if url == key {
        return subjects;
    }
    subjects.into_iter().chain([Subject::of(Target::Key(key))]).collect()
}

/// [`subjects`], and the URL for everybody and its place where `rule` names one.
pub fn with_url(subjects: Box<[Subject]>, rule: &Rule) -> Box<[Subject]> {
    let Rule::Http(rule) = rule else { return subjects };
    let by_url = [Target::Url(rule.named), Target::UrlPlace(rule.named.void_place())];
    subjects.into_iter().chain(by_url.map(Subject::of)).collect()
}

/// Headers that describe the answer itself, and would be true whenever it is given again.
///
/// Everything else (cookies, request ids, rate limits, timings, hop-by-hop fields, CORS of one
/// origin) belongs to one exchange. `content-length` is the body's.
const STORABLE: &[&str] = &[
    "anthropic-version",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-location",
    "content-type",
    "date",
    "etag",
    "expires",
    "last-modified",
    "openai-model",
    "openai-version",
    "x-content-type-options",
    "x-model-version",
];

/// The headers of an answer that are stored with it: an allow-list, and what the route names in
/// `also` (such as the header that tells the model's version).
pub fn storable_headers<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    also: &[&str],
) -> Vec<(Bytes, Bytes)> {
    let headers = headers.into_iter().filter(|(name, _)| is_storable(name, also));
    let headers: SmallVec<[(&str, &[u8]); 8]> = headers.collect();
    // All values lie in one piece of memory, and names that are known in none.
    let values: Vec<u8> = headers.iter().flat_map(|(_, value)| *value).copied().collect();
    let mut values = Bytes::from(values);
    let stored = headers.into_iter().map(|(name, value)| {
        let known = STORABLE.iter().find(|known| known.eq_ignore_ascii_case(name));
        let name = known.map_or_else(
            || Bytes::from(name.to_ascii_lowercase().into_bytes()),
            |known| Bytes::from_static(known.as_bytes()),
        );
        (name, values.split_to(value.len()))
    });
    stored.collect()
}

/// Whether a header describes the answer itself: kept with it, and told to callers who
/// share it.
pub fn is_storable(name: &str, also: &[&str]) -> bool {
    STORABLE.iter().chain(also).any(|storable| storable.eq_ignore_ascii_case(name))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An entry as a fill makes it.
    pub(crate) fn entry(key: CacheKey, body: &'static [u8]) -> Entry {
        let tags: Vec<Box<str>> = vec!["kb:7".into()];
        Entry {
            status: 200,
            headers: storable_headers([("content-type", b"application/json".as_slice())], &[]),
            body: Bytes::from_static(body),
            frame_ends: Box::default(),
            form: Form::Whole,
            check: Check { len: 2, digest128: [9; 16] },
            stored_at_ms: 1_000,
            ttl_ms: 60_000,
            rule: Rule::Ttl,
            model: "m".into(),
            model_version: "1".into(),
            tenant: "acme".into(),
            route: "chat".into(),
            subjects: subjects(key, "chat", "m", "acme", &tags),
            tags,
            note: Bytes::from_static(b"note"),
            worth: 1_000,
            stamp: Stamp::default(),
            checked: CheckedAt::default(),
            hits: Hits::default(),
            delivery: Delivery::default(),
        }
    }

    pub(crate) fn key(n: u8) -> CacheKey {
        CacheKey::from_bytes([n; 32])
    }

    #[test]
    fn it_is_fresh_up_to_its_time_and_not_at_it() {
        let entry = entry(key(1), b"{}");
        assert_eq!(entry.fresh_for_ms(1_000), Some(60_000));
        assert_eq!(entry.fresh_for_ms(60_999), Some(1));
        assert_eq!(entry.fresh_for_ms(61_000), None);
        assert_eq!(entry.fresh_for_ms(0), Some(60_000), "a clock that went back makes it no older");
    }

    #[test]
    fn frames_replay_as_they_came_even_if_the_ends_lie() {
        let mut entry = entry(key(1), b"aabbbc");
        let frames = |entry: &Entry| entry.frames().collect::<Vec<_>>();
        assert_eq!(frames(&entry), ["aabbbc"]);
        entry.frame_ends = [2, 5, 6].into();
        assert_eq!(frames(&entry), ["aa", "bbb", "c"]);
        entry.frame_ends = [2, 5].into();
        assert_eq!(frames(&entry), ["aa", "bbb", "c"]);
        entry.frame_ends = [2, 1, 99].into();
        assert_eq!(frames(&entry), ["aa", "bbbc"]);
    }

    #[test]
    fn what_belongs_to_one_exchange_is_not_stored() {
        let headers = [
            ("Content-Type", b"a".as_slice()),
            ("set-cookie", b"b"),
            ("x-request-id", b"c"),
            ("x-ratelimit-remaining-tokens", b"d"),
            ("connection", b"e"),
            ("content-length", b"9"),
            ("x-version", b"f"),
        ];
        let stored = storable_headers(headers, &["x-version"]);
        assert_eq!(stored, [("content-type".into(), "a".into()), ("x-version".into(), "f".into())]);
    }

    #[test]
    fn the_weight_is_never_less_than_the_bytes() {
        let small = entry(key(1), b"");
        let large = entry(key(1), &[0; 4096]);
        assert_eq!(large.weight() - small.weight(), 4096);
    }
}
