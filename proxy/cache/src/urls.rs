//! What is known of URLs, whoever asks for them: whether an answer may be kept, and that they have
//! changed.
//!
//! A change by one caller voids what is kept for all (RFC 9111 §4.4), and their keys it cannot know:
//! other tenants have others, and so has who came through another proxy. So what is kept for HTTP
//! bears its URL as a subject, and that is purged. The table of purges is bounded, and a URL of
//! which nothing is kept shall take no place in it: for how long something may be is known here, by
//! [`PLACES`] that URLs share by their digests. Two URLs at one place cost a purge that voids
//! nothing, never an old answer. Nor does a URL need purging twice while nothing is kept at its place.
//! What other instances keep is known once it was seen here.
//!
//! Who may change something may change as much as it likes. Where such changes have taken their share
//! of the table of purges, they void a place that many URLs share ([`Url::void_place`]) instead.
//!
//! What is on its way cannot be purged. It is told by the count of changes at its URL's place: what
//! was begun under another is not kept, and nobody joins it.
//!
//! **Invariant:** of an answer that is kept ([`Urls::keeps`]) and a change, one sees the other.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

/// So many URLs are told apart, at the most: 768 KiB, once anything is cached by URL.
pub const PLACES: usize = 32_768;

/// URLs share so many places by which they are voided where there is no room to name each. Half of
/// memcached's table, and each such change costs a 4,096th of what is kept by URL.
pub const VOID_PLACES: u16 = 4_096;

/// A URL as everybody names it: host, path and query, and nothing of who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Url([u8; 16]);

impl Url {
    /// Of a `host` as it was sent, and of path and query as the key has them.
    pub fn of(host: &[u8], path: &str, query: Option<&str>) -> Self {
        let mut digest = blake3::Hasher::new_derive_key("tollgate 2026-11 a url for everybody");
        let host = host.to_ascii_lowercase();
        for part in [&*host, path.as_bytes(), query.unwrap_or_default().as_bytes()] {
            digest.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            digest.update(part);
        }
        // A query that is empty is none to a key either, or is asked for apart: both are voided.
        Self(digest.finalize().as_bytes().first_chunk().copied().unwrap_or_default())
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The place by which it is voided together with others.
    pub fn void_place(self) -> u16 {
        let [_, _, first, second, ..] = self.0;
        u16::from_le_bytes([first, second]) % VOID_PLACES
    }

    fn place(self) -> usize {
        let [first, second, ..] = self.0;
        usize::from(u16::from_le_bytes([first, second])) % PLACES
    }

    /// Tells it from others at its place.
    fn mark(self) -> u32 {
        let [.., first, second, third, fourth] = self.0;
        u32::from_le_bytes([first, second, third, fourth])
    }
}

/// What is known of all of them.
#[derive(Debug, Default)]
pub struct Urls {
    places: OnceLock<Box<[Place]>>,
}

#[derive(Debug, Default)]
struct Place {
    /// Unix time in seconds; 0: nothing was kept.
    kept_until_s: AtomicU32,
    /// How often something was, going round.
    kept: AtomicU32,
    changes: AtomicU32,
    /// What was purged last: the count of what was kept until then, and the URL's mark.
    purged: AtomicU64,
}

impl Urls {
    fn at(&self, url: Url) -> Option<&Place> {
        let places = || (0..PLACES).map(|_| Place::default()).collect();
        self.places.get_or_init(places).get(url.place())
    }

    /// Something is kept for `url`, or may be, until then (Unix time).
    pub fn keeps(&self, url: Url, until_ms: u64) {
        let until_s = u32::try_from(until_ms.div_ceil(1_000)).unwrap_or(u32::MAX);
        self.at(url).inspect(|place| {
            place.kept_until_s.fetch_max(until_s, Ordering::SeqCst);
            place.kept.fetch_add(1, Ordering::SeqCst);
        });
    }

    /// A change of `url` has been seen. Whether anything may be kept for it, so that it is to be
    /// purged: once, until something is kept again.
    pub fn changes(&self, url: Url, now_ms: u64) -> bool {
        self.at(url).is_some_and(|place| {
            place.changes.fetch_add(1, Ordering::SeqCst);
            if u64::from(place.kept_until_s.load(Ordering::SeqCst)) <= now_ms / 1_000 {
                return false;
            }
            let kept = u64::from(place.kept.load(Ordering::SeqCst));
            let purges = (kept << 32) | u64::from(url.mark());
            place.purged.swap(purges, Ordering::SeqCst) != purges
        })
    }

    /// A number that is another after each change of `url`.
    pub fn changed(&self, url: Url) -> u32 {
        self.at(url).map_or(0, |place| place.changes.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;

    fn url(path: &str) -> Url {
        Url::of(b"A.example", path, None)
    }

    #[test]
    fn a_url_is_its_host_path_and_query_however_the_host_is_spelt() {
        assert_eq!(url("/a"), Url::of(b"a.EXAMPLE", "/a", Some("")));
        let others =
            [Url::of(b"b.example", "/a", None), url("/b"), Url::of(b"a.example", "/a", Some("x"))];
        assert!(others.iter().all(|other| *other != url("/a")));
        assert_ne!(Url::of(b"a", "b", None), Url::of(b"ab", "", None));
    }

    #[test]
    fn what_is_kept_is_known_until_its_last_moment_and_longest() {
        let urls = Urls::default();
        assert!(!urls.changes(url("/a"), NOW_MS));
        urls.keeps(url("/a"), NOW_MS + 10_500);
        urls.keeps(url("/a"), NOW_MS + 1);
        assert!(urls.changes(url("/a"), NOW_MS + 10_400));
        urls.keeps(url("/a"), NOW_MS + 1);
        assert!(!urls.changes(url("/a"), NOW_MS + 11_000));
        urls.keeps(url("/a"), u64::MAX);
        assert!(urls.changes(url("/a"), NOW_MS));
    }

    #[test]
    fn a_url_is_purged_once_until_something_is_kept_again() {
        let urls = Urls::default();
        urls.keeps(url("/a"), NOW_MS + 10_000);
        assert!(urls.changes(url("/a"), NOW_MS));
        assert!(!urls.changes(url("/a"), NOW_MS));
        urls.keeps(url("/a"), NOW_MS + 10_000);
        assert!(urls.changes(url("/a"), NOW_MS));
        // Of two at one place, the other's purge is none of this one.
        let other = Url({
            let mut bytes = url("/a").0;
            bytes[15] ^= 1;
            bytes
        });
        assert_eq!(other.place(), url("/a").place());
        assert!(urls.changes(other, NOW_MS));
    }

    #[test]
    fn a_change_is_seen_by_what_is_on_its_way() {
        let urls = Urls::default();
        let begun = urls.changed(url("/a"));
        assert_eq!(urls.changed(url("/a")), begun);
        urls.changes(url("/a"), NOW_MS);
        assert_ne!(urls.changed(url("/a")), begun);
    }
}
