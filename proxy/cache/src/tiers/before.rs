//! What a new answer can be compared with.

use super::{Found, Tiers};
use crate::{
    generations::About,
    key::{CacheKey, Check},
};

/// What is known of what lay under a key before its new answer.
#[derive(Clone, Debug)]
pub enum Before {
    Nothing,
    /// Purged, itself or something that it is about.
    Purged,
    Lies(Found),
}

impl Tiers {
    /// What lies in memory under `key`, where an answer about `about` is to lie. Neither waits nor
    /// counts as a look-up.
    pub fn before(&self, key: &CacheKey, check: &Check, about: About<'_>, now_ms: u64) -> Before {
        match self.memory.peek(key, check, now_ms, &self.generations) {
            Some(kept) if kept.soft_since_ms.is_some() => Before::Purged,
            Some(kept) => Before::Lies(Found::in_memory(kept)),
            None if self.generations.was_purged(about) => Before::Purged,
            None => Before::Nothing,
        }
    }
}
