//! A byte-identical repeat never parses.
//!
//! Digesting 2 KiB of raw bytes costs 1.5 µs, reading and ordering its JSON 7. So what was once
//! learnt from a body is remembered under the digest of its raw bytes, and of whatever else it
//! depended on (route, dialect, configuration: the caller's `context`). It is only a memory:
//! forgetting costs time, never a wrong answer.

use std::sync::Arc;

/// Digest of a body as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RawDigest([u8; 32]);

/// What was learnt from bodies, bounded by count.
pub struct RawMemo<V> {
    seen: quick_cache::sync::Cache<(RawDigest, u64), Arc<V>>,
}

impl RawDigest {
    /// One pass over `body`.
    pub fn of(body: &[u8]) -> Self {
        Self(*blake3::hash(body).as_bytes())
    }

    /// Of a body and the `content-type` that it is read by; `None`: it came without.
    pub fn of_kind(kind: Option<&[u8]>, body: &[u8]) -> Self {
        let body = blake3::hash(body);
        let mut hasher = blake3::Hasher::new();
        hasher.update(body.as_bytes()).update(&[u8::from(kind.is_some())]);
        hasher.update(kind.unwrap_or_default());
        Self(*hasher.finalize().as_bytes())
    }
}

impl<V> RawMemo<V> {
    pub fn new(bodies_max: usize) -> Self {
        Self { seen: quick_cache::sync::Cache::new(bodies_max) }
    }

    pub fn recall(&self, body: &RawDigest, context: u64) -> Option<Arc<V>> {
        self.seen.get(&(*body, context))
    }

    pub fn remember(&self, body: RawDigest, context: u64, learnt: Arc<V>) {
        self.seen.insert((body, context), learnt);
    }

    pub fn len(&self) -> usize {
        self.seen.len()
    }

    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

impl<V> std::fmt::Debug for RawMemo<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawMemo").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_recalled_in_its_context_only() {
        let memo = RawMemo::new(64);
        let body = RawDigest::of(b"{}");
        memo.remember(body, 1, Arc::new("learnt"));
        assert_eq!(memo.recall(&body, 1).as_deref(), Some(&"learnt"));
        assert_eq!(memo.recall(&body, 2), None);
        assert_eq!(memo.recall(&RawDigest::of(b"{ }"), 1), None);
    }

    #[test]
    fn a_body_of_another_kind_is_another() {
        let of = |kind| RawDigest::of_kind(kind, b"{}");
        assert_eq!(of(None), of(None));
        assert_ne!(of(None), of(Some(b"")));
        assert_ne!(of(Some(b"a/b")), of(Some(b"a/c")));
        assert_ne!(of(None), RawDigest::of(b"{}"));
    }

    #[test]
    fn it_never_holds_more_than_it_may() {
        let memo = RawMemo::new(64);
        for n in 0..1_000_u32 {
            memo.remember(RawDigest::of(&n.to_le_bytes()), 0, Arc::new(n));
        }
        assert!((1..=64).contains(&memo.len()), "{}", memo.len());
    }
}
