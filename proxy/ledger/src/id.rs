//! Ids of records: `UUIDv7`s that sort in the order in which a process made them.
//!
//! After RFC 9562, §6.2, method 1: the 12 bits behind the milliseconds count the ids of
//! that millisecond. The 4097th takes the next millisecond, a little early, and a clock
//! that goes back is waited for, so the order is total whatever the clock does. Both
//! numbers are one word, and a new id is that word plus one.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use uuid::Uuid;

/// Bits that count inside a millisecond: all of `rand_a`.
const COUNT_BITS: u32 = 12;

/// A UUID has room for 48 bits of milliseconds: until the year 10889.
const MS_MAX: u64 = (1 << 48) - 1;

/// Makes ids in order.
#[derive(Debug, Default)]
struct Mint {
    /// The next id's milliseconds, and behind them its place among those.
    next: AtomicU64,
}

/// A new record id: a UUIDv7 of `unix_ms`, without a system call, greater than every one
/// that this process made before.
///
/// Unlike `Uuid::now_v7` it asks the kernel for randomness once per process, not once
/// per call. Ids of two processes that count the same differ by 62 bits of a keyed stream.
pub fn mint_id(unix_ms: u64) -> Uuid {
    static MINT: Mint = Mint { next: AtomicU64::new(0) };
    MINT.mint(unix_ms)
}

impl Mint {
    fn mint(&self, unix_ms: u64) -> Uuid {
        static SEED: OnceLock<u64> = OnceLock::new();
        let seed = *SEED.get_or_init(|| RandomState::new().hash_one(std::process::id()));
        let first = unix_ms.min(MS_MAX) << COUNT_BITS;
        // Once per millisecond; a word that is too low can only be raised.
        if self.next.load(Ordering::Relaxed) < first {
            self.next.fetch_max(first, Ordering::Relaxed);
        }
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        let [_, _, _, _, _, _, high, low] = place.to_be_bytes();
        let [a, b, c, d, e, f, g, h] = mix(seed ^ place).to_le_bytes();
        // The builder writes the version over the upper half of the first byte.
        let bytes = [high, low, a, b, c, d, e, f, g, h];
        uuid::Builder::from_unix_timestamp_millis(place >> COUNT_BITS, &bytes).into_uuid()
    }
}

/// `SplitMix64`'s finisher: every input has its own output.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The time that an id says it is of.
    fn ms_of(id: Uuid) -> u64 {
        u64::try_from(id.as_u128() >> 80).unwrap()
    }

    proptest! {
        /// Over clocks that stand, run, jump and go back.
        #[test]
        fn an_id_is_greater_than_all_before_it_and_never_before_its_time(
            start in 0..MS_MAX - 10_000,
            steps in prop::collection::vec((-50_i64..50, 1_usize..20), 1..50),
        ) {
            let (mint, mut now_ms) = (Mint::default(), start);
            let (mut before, mut latest_ms) = (Uuid::nil(), 0);
            for (by_ms, ids) in steps {
                now_ms = now_ms.saturating_add_signed(by_ms);
                latest_ms = latest_ms.max(now_ms);
                for _ in 0..ids {
                    let id = mint.mint(now_ms);
                    prop_assert!(before < id, "{} {}", before, id);
                    prop_assert_eq!(id.get_version_num(), 7);
                    prop_assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
                    prop_assert_eq!(ms_of(id), latest_ms);
                    before = id;
                }
            }
        }
    }

    #[test]
    fn more_ids_than_a_millisecond_has_room_for_go_on_in_the_next() {
        let mint = Mint::default();
        let ids: Vec<_> = (0..3 << COUNT_BITS).map(|_| mint.mint(1_000)).collect();
        assert!(ids.is_sorted_by(|one, two| one < two));
        let of_ms = |ms| ids.iter().filter(|id| ms_of(**id) == ms).count();
        assert_eq!([1_000, 1_001, 1_002].map(of_ms), [1 << COUNT_BITS; 3]);
        assert!(mint.mint(1_001) > ids[ids.len() - 1], "the clock catches up");
        assert_eq!(ms_of(mint.mint(2_000)), 2_000);
    }

    #[test]
    fn ids_of_many_threads_are_all_different_and_each_thread_sees_them_grow() {
        let mint = Mint::default();
        let mut ids: Vec<Uuid> = std::thread::scope(|scope| {
            let mints = (0..4).map(|thread| {
                let mint = &mint;
                scope.spawn(move || {
                    let ids: Vec<_> = (0..5_000).map(|n| mint.mint((n + thread) / 7)).collect();
                    assert!(ids.is_sorted_by(|one, two| one < two));
                    ids
                })
            });
            let threads: Vec<_> = mints.collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 20_000);
    }

    #[test]
    fn a_time_beyond_the_end_of_time_is_the_end_of_time() {
        assert_eq!(ms_of(Mint::default().mint(u64::MAX)), MS_MAX);
    }
}
