//! Words (route, tenant, user, model …) as numbers.
//!
//! A record holds eleven words' worth of meaning in 36 bytes because each word is
//! written once, as a definition, and named by number after. Numbers are never
//! reused, and reports group by the *word*: so the table in memory may forget a
//! word and number it again without any sum being wrong.
//!
//! `user` can be made up by callers, so the table is bounded: a word that finds it full
//! makes the table forget others; where that frees nothing it is booked under `~other`.

use std::{
    collections::HashMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
};

/// Longer words keep their beginning and end in a checksum.
pub const DIM_TEXT_BYTES_MAX: usize = 128;

/// Checksum and separator at the end of a word that was too long.
const DIGEST_BYTES: usize = 9;

/// One lock per shard, so that a new word seldom delays a known one.
const SHARDS: usize = 16;

/// A word of a dimension, as a number of this ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DimId(pub(crate) u32);

impl DimId {
    /// The empty word: the call has no such thing.
    pub const NONE: Self = Self(0);
    /// The word of all words for which there was no room.
    pub const OTHER: Self = Self(1);

    pub(crate) const FIRST: u32 = 2;
}

/// What [`DimId::OTHER`] reads as.
pub(crate) const OTHER_TEXT: &str = "~other";

type Shard = RwLock<HashMap<Box<str>, DimId>>;

/// The words of this process.
#[derive(Debug)]
pub(crate) struct Dictionary {
    shards: [Shard; SHARDS],
    next: AtomicU32,
    words: AtomicUsize,
    words_max: usize,
    refused: AtomicU64,
}

impl Dictionary {
    /// `known` are words of earlier runs; `next` is the first number never used.
    pub(crate) fn new(known: Vec<(u32, String)>, next: u32, words_max: usize) -> Self {
        let dictionary = Self {
            shards: Default::default(),
            next: AtomicU32::new(next.max(DimId::FIRST)),
            words: AtomicUsize::new(0),
            words_max,
            refused: AtomicU64::new(0),
        };
        for (id, text) in known.into_iter().take(words_max) {
            let mut words = dictionary.shard(&text).write().unwrap_or_else(PoisonError::into_inner);
            if words.insert(text.into_boxed_str(), DimId(id)).is_none() {
                dictionary.words.fetch_add(1, Ordering::Relaxed);
            }
        }
        dictionary
    }

    /// The number of `text`. A new word is handed to `publish` before anyone can
    /// use its number; where that fails (no room) the word becomes `~other`.
    pub(crate) fn id(&self, text: &str, publish: impl FnOnce(DimId, &str) -> bool) -> DimId {
        if text.is_empty() {
            return DimId::NONE;
        }
        if text.len() > DIM_TEXT_BYTES_MAX {
            return self.short_id(&shortened(text), publish);
        }
        self.short_id(text, publish)
    }

    fn short_id(&self, text: &str, publish: impl FnOnce(DimId, &str) -> bool) -> DimId {
        let shard = self.shard(text);
        if let Some(id) = shard.read().unwrap_or_else(PoisonError::into_inner).get(text) {
            return *id;
        }
        if text == OTHER_TEXT {
            return self.refuse();
        }
        let mut words = shard.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = words.get(text) {
            return *id;
        }
        if self.words.load(Ordering::Relaxed) >= self.words_max {
            // Callers can make up words: those of this shard are forgotten, and numbered
            // anew if they come again, so that nobody can push real ones out for good.
            let forgotten = std::mem::take(&mut *words).len();
            if forgotten == 0 {
                return self.refuse();
            }
            self.words.fetch_sub(forgotten, Ordering::Relaxed);
        }
        let id = DimId(self.next.fetch_add(1, Ordering::Relaxed));
        if !publish(id, text) {
            return self.refuse();
        }
        words.insert(text.into(), id);
        self.words.fetch_add(1, Ordering::Relaxed);
        id
    }

    /// Words booked under `~other` since the start.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn refuse(&self) -> DimId {
        self.refused.fetch_add(1, Ordering::Relaxed);
        DimId::OTHER
    }

    /// A cheap spread: the map inside has a keyed hash, this only parts the locks.
    fn shard(&self, text: &str) -> &Shard {
        let bytes = text.as_bytes();
        let last = bytes.last().copied().unwrap_or(0);
        let spread = usize::from(last).wrapping_add(bytes.len()) % SHARDS;
        let [first, ..] = &self.shards;
        self.shards.get(spread).unwrap_or(first)
    }
}

/// `text` cut to [`DIM_TEXT_BYTES_MAX`], with a checksum of the whole so that two
/// long words with one beginning stay apart.
fn shortened(text: &str) -> String {
    let mut end = DIM_TEXT_BYTES_MAX - DIGEST_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let start = text.get(..end).unwrap_or_default();
    format!("{start}~{:08x}", crc32fast::hash(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_its_number_and_is_published_once() {
        let dictionary = Dictionary::new(vec![(7, "chat".into())], 8, 10);
        let mut published = Vec::new();
        let mut id = |text: &str| {
            dictionary.id(text, |id, text| {
                published.push((id, text.to_owned()));
                true
            })
        };
        assert_eq!(id("chat"), DimId(7));
        assert_eq!(id("embed"), DimId(8));
        assert_eq!(id("embed"), DimId(8));
        assert_eq!(id(""), DimId::NONE);
        assert_eq!(published, [(DimId(8), "embed".to_owned())]);
    }

    #[test]
    fn a_full_dictionary_forgets_and_gives_new_numbers() {
        let dictionary = Dictionary::new(Vec::new(), 0, 2);
        // Words of one shard: they end alike and are equally long.
        assert_eq!(dictionary.id("1a", |_, _| true), DimId(2));
        assert_eq!(dictionary.id("2a", |_, _| true), DimId(3));
        assert_eq!(dictionary.id("3a", |_, _| true), DimId(4));
        assert_eq!(dictionary.id("1a", |_, _| true), DimId(5), "never an old number");
        assert_eq!(dictionary.id("3a", |_, _| true), DimId(4), "it is remembered");
        assert_eq!(dictionary.refused(), 0);
    }

    #[test]
    fn where_nothing_can_be_forgotten_words_are_booked_under_other() {
        let dictionary = Dictionary::new(Vec::new(), 0, 1);
        assert_eq!(dictionary.id("a", |_, _| true), DimId(2));
        assert_eq!(dictionary.id("b", |_, _| true), DimId::OTHER);
        assert_eq!(dictionary.id("a", |_, _| true), DimId(2));
        assert_eq!(dictionary.refused(), 1);
    }

    #[test]
    fn a_word_that_cannot_be_published_has_no_number() {
        let dictionary = Dictionary::new(Vec::new(), 0, 9);
        assert_eq!(dictionary.id("a", |_, _| false), DimId::OTHER);
        assert_ne!(dictionary.id("a", |_, _| true), DimId::OTHER);
    }

    #[test]
    fn long_words_with_one_beginning_stay_apart() {
        let long = "é".repeat(100);
        let (one, two) = (shortened(&format!("{long}1")), shortened(&format!("{long}2")));
        assert_ne!(one, two);
        assert!(one.len() <= DIM_TEXT_BYTES_MAX && two.len() <= DIM_TEXT_BYTES_MAX);
    }
}
