//! What a caller's own `cache-control` asks of the cache (RFC 9111 §5.2.1).

use http::{HeaderMap, header};

/// A caller's wishes. The default has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Nothing from the cache; the answer may be stored.
    pub(crate) no_cache: bool,
    /// Neither from the cache nor into it.
    pub(crate) no_store: bool,
    /// Nothing but from the cache.
    pub(crate) only_if_cached: bool,
    /// No answer older than this, in milliseconds.
    max_age_ms: Option<u64>,
    /// None that is fresh for less than this, in milliseconds.
    min_fresh_ms: Option<u64>,
}

impl Wish {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut wish = Self::default();
        for value in headers.get_all(header::CACHE_CONTROL) {
            let Ok(text) = value.to_str() else { continue };
            for word in text.split(',') {
                let (name, argument) = word.split_once('=').unwrap_or((word, ""));
                wish.add(name.trim(), argument.trim().trim_matches('"'));
            }
        }
        wish
    }

    fn add(&mut self, name: &str, argument: &str) {
        // What is no number asks for the strictest: an answer of this moment.
        let ms = || argument.parse::<u64>().unwrap_or(0).saturating_mul(1000);
        match name.to_ascii_lowercase().as_str() {
            "no-cache" => self.no_cache = true,
            "no-store" => self.no_store = true,
            "only-if-cached" => self.only_if_cached = true,
            "max-age" => self.max_age_ms = Some(ms()),
            "min-fresh" => {
                let fresh = argument.parse::<u64>().map_or(u64::MAX, |s| s.saturating_mul(1000));
                self.min_fresh_ms = Some(fresh);
            }
            // `max-stale` allows stale answers, of which there are none yet.
            _ => {}
        }
    }

    /// Whether an answer of this age, fresh for so long, is good enough.
    pub(crate) fn accepts(&self, age_ms: u64, fresh_for_ms: u64) -> bool {
        self.max_age_ms.is_none_or(|max| age_ms <= max)
            && self.min_fresh_ms.is_none_or(|min| fresh_for_ms >= min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[track_caller]
    fn check(text: &'static str, expected: Wish) {
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(text));
        assert_eq!(Wish::of(&headers), expected, "{text}");
    }

    #[test]
    fn wishes_are_read_as_rfc_9111_says_them() {
        let none = Wish::default();
        check("", none);
        check("No-Cache, only-if-cached", Wish { no_cache: true, only_if_cached: true, ..none });
        check("max-age=5", Wish { max_age_ms: Some(5000), ..none });
        check("max-age=x", Wish { max_age_ms: Some(0), ..none });
        check("min-fresh=\"3\"", Wish { min_fresh_ms: Some(3000), ..none });
        check("no-store", Wish { no_store: true, ..none });
    }

    #[test]
    fn an_answer_too_old_or_too_soon_stale_is_a_miss() {
        let wish = Wish { max_age_ms: Some(5000), min_fresh_ms: Some(2000), ..Wish::default() };
        assert!(wish.accepts(5000, 2000));
        assert!(!wish.accepts(5001, 2000));
        assert!(!wish.accepts(5000, 1999));
    }
}
