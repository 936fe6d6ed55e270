//! Sums over calls, and the key they are kept under.

use std::ops::AddAssign;

use crate::{
    codes::{CacheOutcome, CacheTier, Quality},
    dimension::DimId,
    record::{Dims, Put, Take, UsageRecord},
};

/// Length of a rollup's window.
pub(crate) const ROLLUP_MS: i64 = 5 * 60 * 1000;

pub(crate) const SUMS_BYTES: usize = 15 * 8 + 6 * 16;
pub(crate) const KEY_BYTES: usize = 8 * 4 + 2;

/// Exact sums over a set of calls. Money is `i128` pico units.
///
/// A call is a hit when it was answered without an upstream call of its own (hit,
/// stale or collapsed) and somebody was spared it: not for the proxy's own calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub calls: u64,
    pub hits: u64,
    pub unpriced_calls: u64,
    pub estimated_calls: u64,
    /// In the order of [`crate::TOKEN_KINDS`].
    pub tokens: [u64; 8],
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Σ time a permit was held, in microseconds.
    pub busy_us: u64,
    /// Pico units in the order of [`crate::COST_CATEGORIES`].
    pub cost: [i128; 5],
    /// Pico units.
    pub saved: i128,
}

/// What 5-minute rollups are kept apart by: every dimension whose words an
/// operator can count. (`user`, status and reason are not among them: by these a
/// report reads the records.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RollupKey {
    pub(crate) start_ms: i64,
    pub(crate) key: [u8; KEY_BYTES],
}

impl From<&UsageRecord> for Sums {
    fn from(record: &UsageRecord) -> Self {
        Self {
            calls: 1,
            // What we ask ourselves spares nobody a call.
            hits: u64::from(record.outcome.is_hit() && !record.own),
            unpriced_calls: u64::from(record.unpriced),
            estimated_calls: u64::from(record.quality == Quality::Estimated),
            tokens: record.tokens.as_array().map(u64::from),
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
            busy_us: record.times.upstream_us,
            cost: record.cost.as_array().map(i128::from),
            saved: i128::from(record.saved_pico),
        }
    }
}

impl AddAssign<&Self> for Sums {
    fn add_assign(&mut self, other: &Self) {
        for (sum, part) in self.counts_mut().into_iter().zip(other.counts()) {
            *sum = sum.saturating_add(part);
        }
        for (sum, part) in self.tokens.iter_mut().zip(other.tokens) {
            *sum = sum.saturating_add(part);
        }
        for (sum, part) in self.cost.iter_mut().zip(other.cost) {
            *sum = sum.saturating_add(part);
        }
        self.saved = self.saved.saturating_add(other.saved);
    }
}

impl Sums {
    /// All categories together; `None` where calls without a price are all there is.
    pub fn cost_known(&self) -> Option<i128> {
        let total = self.cost.iter().fold(0i128, |sum, part| sum.saturating_add(*part));
        (total != 0 || self.unpriced_calls == 0).then_some(total)
    }

    /// What hits saved; `None` where there are hits but none of them has a price.
    pub fn saved_known(&self) -> Option<i128> {
        (self.saved != 0 || self.unpriced_calls == 0 || self.hits == 0).then_some(self.saved)
    }

    fn counts(&self) -> [u64; 7] {
        [
            self.calls,
            self.hits,
            self.unpriced_calls,
            self.estimated_calls,
            self.bytes_in,
            self.bytes_out,
            self.busy_us,
        ]
    }

    fn counts_mut(&mut self) -> [&mut u64; 7] {
        [
            &mut self.calls,
            &mut self.hits,
            &mut self.unpriced_calls,
            &mut self.estimated_calls,
            &mut self.bytes_in,
            &mut self.bytes_out,
            &mut self.busy_us,
        ]
    }

    pub(crate) fn encode(&self) -> [u8; SUMS_BYTES] {
        let mut bytes = [0; SUMS_BYTES];
        let mut put = Put(&mut bytes);
        for count in self.counts().into_iter().chain(self.tokens) {
            put.bytes(&count.to_le_bytes());
        }
        for pico in self.cost.into_iter().chain([self.saved]) {
            put.bytes(&pico.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let mut take = Take(bytes);
        let mut sums = Self::default();
        for count in sums.counts_mut() {
            *count = u64::from_le_bytes(take.array());
        }
        sums.tokens = std::array::from_fn(|_| u64::from_le_bytes(take.array()));
        sums.cost = std::array::from_fn(|_| i128::from_le_bytes(take.array()));
        sums.saved = i128::from_le_bytes(take.array());
        sums
    }
}

impl RollupKey {
    pub(crate) fn of(record: &UsageRecord) -> Self {
        Self::new(
            record.started_at_ms.div_euclid(ROLLUP_MS) * ROLLUP_MS,
            &record.dims,
            record.outcome,
            record.tier,
        )
    }

    /// The key of calls for whose own there was no room.
    pub(crate) fn other(start_ms: i64) -> Self {
        let dims = Dims::from_array([DimId::OTHER; 9]);
        Self::new(start_ms, &dims, CacheOutcome::Bypass, CacheTier::None)
    }

    fn new(start_ms: i64, dims: &Dims, outcome: CacheOutcome, tier: CacheTier) -> Self {
        let mut key = [0; KEY_BYTES];
        let mut put = Put(&mut key);
        let [route, tenant, _user, rest @ ..] = dims.as_array();
        for DimId(id) in [route, tenant].into_iter().chain(rest) {
            put.bytes(&id.to_le_bytes());
        }
        put.bytes(&[outcome.code(), tier.code()]);
        Self { start_ms, key }
    }

    /// The dimensions back; the user is `~other`.
    pub(crate) fn parts(key: &[u8]) -> (Dims, CacheOutcome, CacheTier) {
        let mut take = Take(key);
        let mut id = || DimId(u32::from_le_bytes(take.array()));
        let dims = Dims {
            route: id(),
            tenant: id(),
            user: DimId::OTHER,
            tier: id(),
            project: id(),
            business: id(),
            class: id(),
            model: id(),
            version: id(),
        };
        let [outcome, tier] = take.array();
        (
            dims,
            CacheOutcome::from_code(outcome).unwrap_or(CacheOutcome::Bypass),
            CacheTier::from_code(tier).unwrap_or(CacheTier::None),
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::{
        codes::Reason,
        record::{Cost, Times, Tokens},
    };

    /// Records with few words and wide numbers.
    pub(crate) fn any_record() -> impl Strategy<Value = UsageRecord> {
        let wide = 0..(1u64 << 48);
        let outcomes = 0..CacheOutcome::ALL.len();
        let codes =
            (0..Reason::ALL.len(), outcomes, 0..3usize, 0..5usize, any::<bool>(), any::<bool>());
        let numbers = (any::<[u32; 8]>(), any::<[i64; 5]>(), any::<i64>(), any::<u16>());
        let times = [wide.clone(), wide.clone(), wide.clone(), wide.clone(), wide.clone(), wide];
        let who = (any::<u128>(), 0..10_000_000i64, prop::array::uniform9(0..4u32));
        (who, codes, numbers, times).prop_map(|(who, codes, numbers, wide)| {
            let [queue_us, upstream_us, first_byte_us, total_us, bytes_in, bytes_out] = wide;
            UsageRecord {
                id: Uuid::from_u128(who.0),
                started_at_ms: who.1,
                dims: Dims::from_array(who.2.map(DimId)),
                status: numbers.3,
                reason: Reason::ALL[codes.0],
                outcome: CacheOutcome::ALL[codes.1],
                tier: CacheTier::ALL[codes.2],
                quality: Quality::ALL[codes.3],
                unpriced: codes.4,
                own: codes.5,
                fallback: codes.5 ^ codes.4,
                tokens: Tokens::from_array(numbers.0),
                bytes_in,
                bytes_out,
                times: Times { queue_us, upstream_us, first_byte_us, total_us },
                cost: Cost::from_array(numbers.1),
                saved_pico: numbers.2,
            }
        })
    }

    proptest! {
        #[test]
        fn sums_come_back_as_they_were(records in prop::collection::vec(any_record(), 0..20)) {
            let mut sums = Sums::default();
            for record in &records {
                sums += &Sums::from(record);
            }
            prop_assert_eq!(Sums::decode(&sums.encode()), sums);
        }

        #[test]
        fn a_key_gives_back_all_but_the_user(record in any_record()) {
            let key = RollupKey::of(&record);
            let (dims, outcome, tier) = RollupKey::parts(&key.key);
            prop_assert_eq!(dims, Dims { user: DimId::OTHER, ..record.dims });
            prop_assert_eq!((outcome, tier), (record.outcome, record.tier));
            prop_assert!(key.start_ms <= record.started_at_ms);
            prop_assert!(record.started_at_ms < key.start_ms + ROLLUP_MS);
        }
    }
}
