//! What lies on the disk, and what goes when there is no room.
//!
//! It is the library that keeps the memory tier's entries by how often they are asked for, holding
//! a few numbers in place of each file.

use crate::key::CacheKey;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter, sync::Cache};

/// Only a guess for the size of the table of ghosts.
const FILE_BYTES_GUESS: u64 = 16 * 1024;
/// So many places are made at first, at most: a large disk must not cost memory that nothing needs.
const PLACES_MAX: u64 = 16 * 1024;
/// No more files than this, or the index alone would be tens of megabytes: each is counted as at
/// least so small a part of the whole.
const FILES_MAX: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) struct Index {
    files: Cache<CacheKey, Slot, ByBytes, DefaultHashBuilder, Evictions>,
    file_bytes_min: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Slot {
    until_ms: u64,
    bytes: u64,
}

#[derive(Clone, Debug)]
struct ByBytes;

/// Tells [`Index::put`] what was pushed out.
#[derive(Clone, Debug)]
struct Evictions;

impl Index {
    pub(super) fn new(size_max: u64) -> Self {
        let places = (size_max / FILE_BYTES_GUESS).clamp(32, PLACES_MAX);
        let options = OptionsBuilder::new()
            .shards(1)
            .weight_capacity(size_max)
            .estimated_items_capacity(usize::try_from(places).unwrap_or(32))
            .build();
        let hasher = DefaultHashBuilder::default;
        let files = match options {
            Ok(options) => Cache::with_options(options, ByBytes, hasher(), Evictions),
            // Only for an option left out, which is none above.
            Err(_) => Cache::with(32, size_max, ByBytes, hasher(), Evictions),
        };
        Self { files, file_bytes_min: size_max / FILES_MAX }
    }

    /// How long the file of `key` may be used; asked for, it stays longer.
    pub(super) fn until_ms(&self, key: &CacheKey) -> Option<u64> {
        self.files.get(key).map(|slot| slot.until_ms)
    }

    /// The same without asking for it.
    pub(super) fn has(&self, key: &CacheKey) -> bool {
        self.files.contains_key(key)
    }

    /// Notes a file, perhaps in the place of an older one. Whose files have to go for it; perhaps
    /// its own.
    pub(super) fn put(&self, key: CacheKey, until_ms: u64, bytes: u64) -> Vec<CacheKey> {
        let mut left = Vec::new();
        let new = Slot { until_ms, bytes: bytes.max(self.file_bytes_min) };
        self.files.insert_with_lifecycle(key, new, &mut left);
        let is_there = self.files.contains_key(&key);
        // What it took the place of is among them, and has been written over.
        left.retain(|gone| *gone != key || !is_there);
        left.dedup();
        left
    }

    /// Lets go of an eighth of all files, and tells which.
    pub(super) fn shed(&self) -> Vec<CacheKey> {
        let many = self.files.len().div_ceil(8);
        let shed: Vec<CacheKey> = self.files.iter().take(many).map(|(key, _)| key).collect();
        shed.iter().for_each(|key| {
            self.files.remove(key);
        });
        shed
    }

    pub(super) fn remove(&self, key: &CacheKey) -> bool {
        self.files.remove(key).is_some()
    }

    /// What is past its time.
    pub(super) fn past(&self, now_ms: u64) -> Vec<CacheKey> {
        let past = self.files.iter().filter(|(_, slot)| slot.until_ms <= now_ms);
        past.map(|(key, _)| key).collect()
    }

    /// Bytes, as they are counted, and files.
    pub(super) fn held(&self) -> (u64, usize) {
        (self.files.weight(), self.files.len())
    }
}

impl Weighter<CacheKey, Slot> for ByBytes {
    fn weight(&self, _: &CacheKey, slot: &Slot) -> u64 {
        slot.bytes
    }
}

impl Lifecycle<CacheKey, Slot> for Evictions {
    type RequestState = Vec<CacheKey>;

    fn on_evict(&self, state: &mut Self::RequestState, key: CacheKey, _: Slot) {
        state.push(key);
    }
}
