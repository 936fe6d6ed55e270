//! The hot set: what was asked for most, noted where it outlives the process, so that the next one
//! has it in memory before somebody asks.
//!
//! Only keys are noted, in each outer tier; the answers lie there already. The note is made of
//! pieces that fit any store and are read within any time-out, the last of them shorter than the
//! others. Each is an entry like any other, so it is wrapped, sealed, bounded and purged as they are,
//! and what it says is believed no more than a caller's question would be: each key is looked up, and
//! what comes back is judged as for a caller.
//!
//! Instances that share a store share the note. Each writes the union of what is there, aged, and of
//! its own; two that write at once lose one's news until it writes again, which costs nothing but
//! some warmth.

use super::{Plan, Stored, TierUse, Tiers, Writes};
use crate::{
    delivery::Delivery,
    entry::{Entry, Form, Hits, Rule, subjects},
    generations::{CheckedAt, Stamp, Subject, Target},
    key::{CacheKey, Check},
};
use bytes::{BufMut as _, Bytes, BytesMut};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// Nobody wants to know what was hot a week ago.
const NOTE_TTL_MS: u64 = 7 * 24 * 3600 * 1_000;
/// What is not asked for again is half as hot after eleven notes.
const AGING: u32 = 16;
const RECORD_BYTES: usize = 32 + 8 + 16 + 16 + 4;
/// Keys of one piece: 304 KiB, where Memcached takes 1 MiB and a look-up has 10 ms.
const PIECE_KEYS: usize = 4096;
/// Nobody has so many; who writes more than that is not believed.
const PIECES_MAX: u32 = 1024;

/// A key that was asked for, and how often of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hot {
    pub key: CacheKey,
    pub check: Check,
    /// Names the route: whose plan it is kept by.
    pub route: Subject,
    pub hits: u32,
}

impl Hot {
    fn write(&self, note: &mut BytesMut) {
        note.put_slice(self.key.as_bytes());
        note.put_u64_le(self.check.len);
        note.put_slice(&self.check.digest128);
        note.put_slice(self.route.as_bytes());
        note.put_u32_le(self.hits);
    }

    fn read(record: &[u8]) -> Option<Self> {
        let (key, rest) = record.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let (digest128, rest) = rest.split_first_chunk()?;
        let (route, rest) = rest.split_first_chunk()?;
        Some(Self {
            key: CacheKey::from_bytes(*key),
            check: Check { len: u64::from_le_bytes(*len), digest128: *digest128 },
            route: Subject::from_bytes(*route),
            hits: u32::from_le_bytes(*rest.first_chunk()?),
        })
    }
}

/// The records of a note, the hottest first. What is no whole record is left out.
fn read_note(note: &[u8]) -> Vec<Hot> {
    note.chunks_exact(RECORD_BYTES).filter_map(Hot::read).collect()
}

fn write_note(hot: &[Hot]) -> Bytes {
    let mut note = BytesMut::with_capacity(hot.len() * RECORD_BYTES);
    hot.iter().for_each(|hot| hot.write(&mut note));
    note.freeze()
}

/// The `most` hottest of both, the hottest first.
fn merged(own: Vec<Hot>, noted: Vec<Hot>, most: usize) -> Vec<Hot> {
    let aged =
        noted.into_iter().map(|hot| Hot { hits: hot.hits - hot.hits.div_ceil(AGING), ..hot });
    let mut all: HashMap<CacheKey, Hot> = aged.map(|hot| (hot.key, hot)).collect();
    for hot in own {
        let known = all.entry(hot.key).or_insert(hot);
        known.hits = known.hits.max(hot.hits);
    }
    let mut all: Vec<Hot> = all.into_values().filter(|hot| hot.hits > 0).collect();
    all.sort_unstable_by_key(|hot| Reverse((hot.hits, hot.key)));
    all.truncate(most);
    all
}

/// Where a piece of the note of a namespace lies. No question has such a key: they are digests of
/// another form.
fn place(namespace: &str, piece: u32) -> (CacheKey, Check) {
    let key = if piece == 0 {
        blake3::derive_key("tollgate hot set of a namespace, version 1", namespace.as_bytes())
    } else {
        let name = [&piece.to_le_bytes(), namespace.as_bytes()].concat();
        blake3::derive_key("tollgate hot set of a namespace, version 1, further piece", &name)
    };
    (CacheKey::from_bytes(key), Check::default())
}

/// The pieces of a note: whole ones, and one that is not.
fn pieces(hot: &[Hot]) -> impl Iterator<Item = (u32, &[Hot])> {
    let rest = hot.chunks_exact(PIECE_KEYS).remainder();
    (0..PIECES_MAX).zip(hot.chunks_exact(PIECE_KEYS).chain([rest]))
}

/// A piece as it is kept.
fn note((key, check): (CacheKey, Check), hot: &[Hot], stamp: Stamp, now_ms: u64) -> Entry {
    Entry {
        status: 200,
        headers: Vec::new(),
        body: write_note(hot),
        frame_ends: Box::default(),
        form: Form::Whole,
        check,
        stored_at_ms: now_ms,
        ttl_ms: NOTE_TTL_MS,
        rule: Rule::Ttl,
        model: Arc::default(),
        model_version: Arc::default(),
        tenant: Box::default(),
        route: Arc::default(),
        subjects: subjects(key, "", "", "", &[]),
        tags: Vec::new(),
        note: Bytes::new(),
        worth: 0,
        stamp,
        checked: CheckedAt::default(),
        hits: Hits::default(),
        delivery: Delivery::default(),
    }
}

impl Tiers {
    /// The tiers that outlive the process, nearest first as they were started.
    fn lasting(&self) -> Plan {
        let lasting = self.all_outer().iter().map(|outer| TierUse::new(outer.name(), NOTE_TTL_MS));
        let mut plan = Plan::new(lasting);
        plan.writes = Writes::Through;
        plan.promotes = false;
        plan
    }

    /// What was noted as hot, the hottest first. Waits for each tier's read time-out at most.
    pub async fn noted_hot(&self, namespace: &str, now_ms: u64) -> Vec<Hot> {
        let (lasting, mut noted) = (self.lasting(), Vec::new());
        for piece in 0..PIECES_MAX {
            let (key, check) = place(namespace, piece);
            let found = self.look_up_rest(key, &check, &lasting, now_ms, |_, _| ()).await;
            let Some(found) = found else { break };
            let records = read_note(&found.entry.body);
            let is_last = records.len() < PIECE_KEYS;
            noted.extend(records);
            if is_last {
                break;
            }
        }
        noted
    }

    /// The `most` entries in memory that were asked for most. O(entries), a shard at a time: not
    /// for a thread that serves callers.
    pub fn hottest(&self, most: usize) -> Vec<Hot> {
        let mut hottest = BinaryHeap::with_capacity(most.saturating_add(1).min(1 << 16));
        self.memory().each(|key, entry| {
            let hits = entry.hits.value();
            if hits > 0 {
                let route = Subject::of(Target::Route(&entry.route));
                hottest.push(Reverse((hits, *key, entry.check.len, entry.check.digest128, route)));
                if hottest.len() > most {
                    hottest.pop();
                }
            }
        });
        let hot = hottest.into_iter().map(|Reverse((hits, key, len, digest128, route))| Hot {
            key,
            check: Check { len, digest128 },
            route,
            hits,
        });
        hot.collect()
    }

    /// Notes `own`, and what others noted, for who comes after. Waits for `patience` at most.
    pub async fn note_hot(
        &self,
        namespace: &str,
        own: Vec<Hot>,
        (most, now_ms): (usize, u64),
        patience: Duration,
    ) {
        let stamp = self.stamp();
        let noted = self.noted_hot(namespace, now_ms).await;
        let hot = merged(own, noted, most);
        if hot.is_empty() {
            return;
        }
        let (lasting, mut under_way) = (self.lasting(), Vec::new());
        for (piece, hot) in pieces(&hot) {
            let (key, check) = place(namespace, piece);
            let note = Arc::new(note((key, check), hot, stamp, now_ms));
            if let Stored::Arriving(arriving) = self.store(key, note, &lasting, now_ms) {
                under_way.push(arriving);
            }
        }
        let end = Instant::now() + patience;
        for arriving in under_way {
            arriving.wait(end.saturating_duration_since(Instant::now())).await;
        }
    }

    /// Has `hot` in memory, if a tier of `plan` behind it has it and memory is the first. Whether
    /// it has.
    pub async fn restore(&self, hot: &Hot, plan: &Plan, now_ms: u64) -> bool {
        if !plan.begins_in_memory() || !plan.promotes {
            return false;
        }
        // Whoever asked for it meanwhile has what is newest.
        self.memory().holds(&hot.key)
            || self.look_up_rest(hot.key, &hot.check, plan, now_ms, |_, _| ()).await.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::tests::{entry, key},
        memory::MemoryTier,
        tiers::TierName,
    };
    use proptest::prelude::*;

    fn hot(n: u8, hits: u32) -> Hot {
        let check = Check { len: n.into(), digest128: [n; 16] };
        Hot { key: key(n), check, route: Subject::of(Target::Route("chat")), hits }
    }

    #[test]
    fn what_is_asked_for_most_is_noted_first_and_no_more_than_asked() {
        let tiers =
            Tiers::new(MemoryTier::new(1 << 20), Vec::new(), Arc::default(), Arc::default());
        let plan = Plan::new([TierUse::new(TierName::Memory, 10_000)]);
        for n in 0..9 {
            let entry = Entry { stamp: tiers.stamp(), ..entry(key(n), b"{}") };
            let check = entry.check;
            tiers.store(key(n), Arc::new(entry), &plan, 2_000);
            (0..n).for_each(|_| drop(tiers.look_up_now(&key(n), &check, 2_000)));
        }
        let found = merged(tiers.hottest(3), Vec::new(), 3);
        assert_eq!(
            found.iter().map(|hot| (hot.key, hot.hits)).collect::<Vec<_>>(),
            [(key(8), 8), (key(7), 7), (key(6), 6)]
        );
        assert_eq!(merged(tiers.hottest(100), Vec::new(), 100).len(), 8, "one was never asked for");
    }

    #[test]
    fn what_nobody_asks_for_any_more_cools_and_is_forgotten() {
        let mut noted = vec![hot(1, 100), hot(2, 1)];
        noted = merged(vec![hot(3, 50)], noted, 10);
        assert_eq!(noted, [hot(1, 93), hot(3, 50)], "one hit is forgotten at once");
        for _ in 0..100 {
            noted = merged(Vec::new(), noted, 10);
        }
        assert_eq!(noted, []);
        assert_eq!(merged(vec![hot(1, 5)], vec![hot(1, 100)], 10), [hot(1, 93)]);
        assert_eq!(merged(vec![hot(1, 5), hot(2, 6)], Vec::new(), 1), [hot(2, 6)]);
    }

    #[test]
    fn a_note_ends_with_a_piece_that_is_not_whole() {
        let lens = |n: usize| -> Vec<usize> {
            pieces(&vec![hot(1, 1); n]).map(|(_, piece)| piece.len()).collect()
        };
        assert_eq!(lens(1), [1]);
        assert_eq!(lens(PIECE_KEYS), [PIECE_KEYS, 0], "what was longer before ends there");
        assert_eq!(lens(2 * PIECE_KEYS + 1), [PIECE_KEYS, PIECE_KEYS, 1]);
        assert_ne!(place("a", 0), place("a", 1));
    }

    proptest! {
        #[test]
        fn a_note_reads_as_it_was_written(all in proptest::collection::vec((0..9_u8, 1..u32::MAX), 0..9)) {
            let all: Vec<Hot> = all.into_iter().map(|(n, hits)| hot(n, hits)).collect();
            prop_assert_eq!(read_note(&write_note(&all)), all);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(note in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(read_note(&note).len(), note.len() / RECORD_BYTES);
        }
    }
}
