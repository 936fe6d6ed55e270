//! One call, as 184 bytes.
//!
//! Fixed size and fixed places: writing one is a run of stores, and a block of
//! 512 is read without parsing. Counts that do not fit saturate, they never wrap.

use uuid::Uuid;

use crate::{
    codes::{CacheOutcome, CacheTier, Quality, Reason},
    dimension::DimId,
};

/// Bytes of a record in the mapping and in a block.
pub(crate) const RECORD_BYTES: usize = 184;
/// Bytes of an open call.
pub(crate) const OPEN_BYTES: usize = 112;

/// Names of [`Tokens`], in its order.
pub const TOKEN_KINDS: [&str; 8] = [
    "input",
    "cached_input",
    "cache_write",
    "cache_write_1h",
    "audio_input",
    "output",
    "reasoning",
    "audio_output",
];

/// Names of [`Cost`], in its order.
pub const COST_CATEGORIES: [&str; 5] =
    ["input", "cached_input", "cache_write", "output", "request"];

const UNPRICED: u8 = 1;
const OWN: u8 = 2;
const FALLBACK: u8 = 4;

/// What a call is booked under. Numbers from [`crate::Ledger::dim`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Dims {
    pub route: DimId,
    pub tenant: DimId,
    pub user: DimId,
    pub tier: DimId,
    pub project: DimId,
    pub business: DimId,
    /// The name of the priority class: a place in a list would change its
    /// meaning with the configuration.
    pub class: DimId,
    pub model: DimId,
    pub version: DimId,
}

/// Tokens in disjoint buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    pub input: u32,
    pub cached_input: u32,
    pub cache_write: u32,
    pub cache_write_1h: u32,
    pub audio_input: u32,
    pub output: u32,
    pub reasoning: u32,
    pub audio_output: u32,
}

/// Money of one call by category, in pico units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    pub input: i64,
    pub cached_input: i64,
    pub cache_write: i64,
    pub output: i64,
    pub request: i64,
}

/// How long a call took, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    pub queue_us: u64,
    /// While a permit was held: from the dispatch to the end of the body.
    pub upstream_us: u64,
    pub first_byte_us: u64,
    pub total_us: u64,
}

/// Everything that is kept of a finished call. Never a prompt, never a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageRecord {
    pub id: Uuid,
    /// Unix time in milliseconds.
    pub started_at_ms: i64,
    pub dims: Dims,
    /// What the caller was answered; 0 when there was no answer or none is known.
    pub status: u16,
    pub reason: Reason,
    pub outcome: CacheOutcome,
    pub tier: CacheTier,
    pub quality: Quality,
    /// No price was known: the costs are not zero but unknown.
    pub unpriced: bool,
    /// Nobody's call but the proxy's own: a warm-up, a refresh, a prefetch.
    pub own: bool,
    /// Answered by another upstream than its route's; `reason` says why.
    pub fallback: bool,
    pub tokens: Tokens,
    /// Of the request's body, as the caller sent it.
    pub bytes_in: u64,
    /// Of the answer's body, as the upstream sent it or the cache holds it: what is taken
    /// out on the way to a caller (usage that it did not ask for) is among them.
    pub bytes_out: u64,
    pub times: Times,
    pub cost: Cost,
    /// What the answer would have cost without the cache, in pico units.
    pub saved_pico: i64,
}

/// What is known of a call before the upstream is asked. Stands for the whole
/// call if the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenCall {
    pub id: Uuid,
    pub started_at_ms: i64,
    pub dims: Dims,
    pub outcome: CacheOutcome,
    pub unpriced: bool,
    /// As in the record.
    pub own: bool,
    /// Estimated tokens of the question.
    pub input_tokens: u32,
    /// What the question alone costs at least, in pico units.
    pub cost: Cost,
}

impl UsageRecord {
    /// A record of nothing: the caller fills in what it knows.
    pub fn new(id: Uuid, started_at_ms: i64, dims: Dims) -> Self {
        Self {
            id,
            started_at_ms,
            dims,
            status: 0,
            reason: Reason::None,
            outcome: CacheOutcome::Bypass,
            tier: CacheTier::None,
            quality: Quality::Absent,
            unpriced: false,
            own: false,
            fallback: false,
            tokens: Tokens::default(),
            bytes_in: 0,
            bytes_out: 0,
            times: Times::default(),
            cost: Cost::default(),
            saved_pico: 0,
        }
    }

    pub(crate) fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let mut put = Put(&mut bytes);
        put.bytes(self.id.as_bytes());
        put.bytes(&self.started_at_ms.to_le_bytes());
        put.dims(&self.dims);
        for tokens in self.tokens.as_array() {
            put.bytes(&tokens.to_le_bytes());
        }
        for pico in self.cost.as_array() {
            put.bytes(&pico.to_le_bytes());
        }
        put.bytes(&self.saved_pico.to_le_bytes());
        let Times { queue_us, upstream_us, first_byte_us, total_us } = self.times;
        let wide = [queue_us, upstream_us, first_byte_us, total_us, self.bytes_in, self.bytes_out];
        for number in wide {
            put.u48(number);
        }
        put.bytes(&self.status.to_le_bytes());
        put.bytes(&[
            self.reason.code(),
            self.outcome.code(),
            self.tier.code(),
            self.quality.code(),
            flags(self.unpriced, self.own) | if self.fallback { FALLBACK } else { 0 },
        ]);
        bytes
    }

    /// Total: any bytes of the right length are some record. (A checksum has
    /// vouched for them; a code of a newer version reads as the vaguest one.)
    pub(crate) fn decode(bytes: &[u8; RECORD_BYTES]) -> Self {
        let mut take = Take(bytes);
        let id = Uuid::from_bytes(take.array());
        let started_at_ms = i64::from_le_bytes(take.array());
        let dims = take.dims();
        let tokens = Tokens::from_array(std::array::from_fn(|_| u32::from_le_bytes(take.array())));
        let cost = take.cost();
        let saved_pico = i64::from_le_bytes(take.array());
        let [queue_us, upstream_us, first_byte_us, total_us, bytes_in, bytes_out] =
            std::array::from_fn(|_| take.u48());
        let status = u16::from_le_bytes(take.array());
        let [reason, outcome, tier, quality, flags] = take.array();
        Self {
            id,
            started_at_ms,
            dims,
            status,
            reason: Reason::from_code(reason).unwrap_or(Reason::Other),
            outcome: CacheOutcome::from_code(outcome).unwrap_or(CacheOutcome::Bypass),
            tier: CacheTier::from_code(tier).unwrap_or(CacheTier::None),
            quality: Quality::from_code(quality).unwrap_or(Quality::Unknown),
            unpriced: flags & UNPRICED != 0,
            own: flags & OWN != 0,
            fallback: flags & FALLBACK != 0,
            tokens,
            bytes_in,
            bytes_out,
            times: Times { queue_us, upstream_us, first_byte_us, total_us },
            cost,
            saved_pico,
        }
    }
}

impl OpenCall {
    pub(crate) fn encode(&self) -> [u8; OPEN_BYTES] {
        let mut bytes = [0; OPEN_BYTES];
        let mut put = Put(&mut bytes);
        put.bytes(self.id.as_bytes());
        put.bytes(&self.started_at_ms.to_le_bytes());
        put.dims(&self.dims);
        for pico in self.cost.as_array() {
            put.bytes(&pico.to_le_bytes());
        }
        put.bytes(&self.input_tokens.to_le_bytes());
        put.bytes(&[self.outcome.code(), flags(self.unpriced, self.own)]);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; OPEN_BYTES]) -> Self {
        let mut take = Take(bytes);
        let id = Uuid::from_bytes(take.array());
        let started_at_ms = i64::from_le_bytes(take.array());
        let dims = take.dims();
        let cost = take.cost();
        let input_tokens = u32::from_le_bytes(take.array());
        let [outcome, flags] = take.array();
        Self {
            id,
            started_at_ms,
            dims,
            outcome: CacheOutcome::from_code(outcome).unwrap_or(CacheOutcome::Bypass),
            unpriced: flags & UNPRICED != 0,
            own: flags & OWN != 0,
            input_tokens,
            cost,
        }
    }

    /// The record of a call whose end nobody saw.
    pub(crate) fn closed_unknown(&self) -> UsageRecord {
        UsageRecord {
            reason: Reason::ProcessDied,
            outcome: self.outcome,
            quality: Quality::Estimated,
            unpriced: self.unpriced,
            own: self.own,
            tokens: Tokens { input: self.input_tokens, ..Tokens::default() },
            cost: self.cost,
            ..UsageRecord::new(self.id, self.started_at_ms, self.dims)
        }
    }
}

fn flags(unpriced: bool, own: bool) -> u8 {
    (if unpriced { UNPRICED } else { 0 }) | (if own { OWN } else { 0 })
}

impl Dims {
    pub(crate) fn as_array(&self) -> [DimId; 9] {
        let Self { route, tenant, user, tier, project, business, class, model, version } = *self;
        [route, tenant, user, tier, project, business, class, model, version]
    }

    pub(crate) fn from_array(ids: [DimId; 9]) -> Self {
        let [route, tenant, user, tier, project, business, class, model, version] = ids;
        Self { route, tenant, user, tier, project, business, class, model, version }
    }
}

impl Tokens {
    /// Counts in the order of [`TOKEN_KINDS`].
    pub fn as_array(&self) -> [u32; 8] {
        let Self {
            input,
            cached_input,
            cache_write,
            cache_write_1h,
            audio_input,
            output,
            reasoning,
            audio_output,
        } = *self;
        [
            input,
            cached_input,
            cache_write,
            cache_write_1h,
            audio_input,
            output,
            reasoning,
            audio_output,
        ]
    }

    /// Counts in the order of [`TOKEN_KINDS`].
    pub fn from_array(counts: [u32; 8]) -> Self {
        let [
            input,
            cached_input,
            cache_write,
            cache_write_1h,
            audio_input,
            output,
            reasoning,
            audio_output,
        ] = counts;
        Self {
            input,
            cached_input,
            cache_write,
            cache_write_1h,
            audio_input,
            output,
            reasoning,
            audio_output,
        }
    }
}

impl Cost {
    /// Pico units in the order of [`COST_CATEGORIES`].
    pub fn as_array(&self) -> [i64; 5] {
        let Self { input, cached_input, cache_write, output, request } = *self;
        [input, cached_input, cache_write, output, request]
    }

    /// Pico units in the order of [`COST_CATEGORIES`].
    pub fn from_array(pico: [i64; 5]) -> Self {
        let [input, cached_input, cache_write, output, request] = pico;
        Self { input, cached_input, cache_write, output, request }
    }

    /// All categories together, in pico units.
    pub fn total(&self) -> i128 {
        self.as_array().into_iter().map(i128::from).sum()
    }
}

/// Writes from the front; what does not fit is left out (sizes are constants, and
/// a test fills every field).
pub(crate) struct Put<'a>(pub(crate) &'a mut [u8]);

impl Put<'_> {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        if let Some((head, tail)) = std::mem::take(&mut self.0).split_at_mut_checked(bytes.len()) {
            head.copy_from_slice(bytes);
            self.0 = tail;
        }
    }

    /// Six bytes hold 281 terabytes, or nine years of microseconds.
    fn u48(&mut self, number: u64) {
        let [a, b, c, d, e, f, _, _] = number.min((1 << 48) - 1).to_le_bytes();
        self.bytes(&[a, b, c, d, e, f]);
    }

    fn dims(&mut self, dims: &Dims) {
        for DimId(id) in dims.as_array() {
            self.bytes(&id.to_le_bytes());
        }
    }
}

/// Reads from the front; beyond the end there are zeros.
pub(crate) struct Take<'a>(pub(crate) &'a [u8]);

impl Take<'_> {
    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let Some((head, tail)) = self.0.split_first_chunk::<N>() else {
            self.0 = &[];
            return [0; N];
        };
        self.0 = tail;
        *head
    }

    fn u48(&mut self) -> u64 {
        let [a, b, c, d, e, f] = self.array();
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    fn dims(&mut self) -> Dims {
        Dims::from_array(std::array::from_fn(|_| DimId(u32::from_le_bytes(self.array()))))
    }

    fn cost(&mut self) -> Cost {
        Cost::from_array(std::array::from_fn(|_| i64::from_le_bytes(self.array())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sums::tests::any_record;

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_was(record in any_record()) {
            prop_assert_eq!(UsageRecord::decode(&record.encode()), record);
        }

        #[test]
        fn an_open_call_comes_back_as_it_was(record in any_record()) {
            let open = OpenCall {
                id: record.id,
                started_at_ms: record.started_at_ms,
                dims: record.dims,
                outcome: record.outcome,
                unpriced: record.unpriced,
                own: record.own,
                input_tokens: record.tokens.input,
                cost: record.cost,
            };
            prop_assert_eq!(OpenCall::decode(&open.encode()), open);
        }
    }

    #[test]
    fn a_number_that_does_not_fit_saturates() {
        let mut record = UsageRecord::new(Uuid::nil(), 0, Dims::default());
        record.bytes_out = u64::MAX;
        assert_eq!(UsageRecord::decode(&record.encode()).bytes_out, (1 << 48) - 1);
    }
}
