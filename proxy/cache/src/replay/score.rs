//! What a replay adds up to, and how far that may be off. Whole numbers: ratios are millionths.

use super::Call;
use crate::trace::{Outcome, SAMPLE_ALL};
use std::collections::BTreeMap;

/// Groups of keys, by their digests, whose ratios are compared.
pub const GROUPS: usize = 16;
const PPM: u64 = 1_000_000;
/// Nothing is surer than this, half a hundredth: the policies' own tables are seeded by chance, and
/// two runs of one cache differ.
const ERROR_PPM_MIN: u64 = 5_000;

/// What became of the calls of a trace. Sums are of the trace: of a sample, not of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// That asked memory.
    pub calls: u64,
    pub hits: u64,
    /// Given what another call brought.
    pub joined: u64,
    /// Missed by memory and answered by a tier behind it.
    pub behind: u64,
    /// Of answers from memory, overhead included.
    pub bytes: u64,
    /// Not paid for hits and joined calls, in billionths of a dollar.
    pub nano_usd: u64,
    /// Of the upstream, for these.
    pub upstream_ms: u64,
    /// Entries that had to leave for others.
    pub pushed_out: u64,
    /// Answers that are larger than the tier takes.
    pub too_large: u64,
    /// In memory at the end.
    pub held_bytes: u64,
    /// Calls that were answered from what was there before the trace began: in no other number.
    pub from_before: u64,
    /// Calls of routes without memory: in no other number.
    pub elsewhere: u64,
    /// Calls that the cache had nothing to do with.
    pub passed: u64,
    pub by_route: BTreeMap<u16, Part>,
    groups: [Part; GROUPS],
}

/// Some of the calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    pub calls: u64,
    /// Hits and joined.
    pub answered: u64,
}

/// A ratio, and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    pub ratio_ppm: u64,
    /// To both sides.
    pub error_ppm: u64,
}

impl Score {
    /// Hits and joined calls, of all.
    pub fn ratio_ppm(&self) -> u64 {
        ratio_ppm(self.hits.saturating_add(self.joined), self.calls)
    }

    /// As it was written.
    pub(super) fn add_recorded(&mut self, call: &Call) {
        match call.line.outcome {
            Outcome::Passed => self.passed += 1,
            Outcome::Renewed => {}
            _ if !call.line.asks_memory => self.elsewhere += 1,
            _ if call.is_from_before => self.from_before += 1,
            outcome @ (Outcome::Memory
            | Outcome::Behind
            | Outcome::Joined
            | Outcome::Missed
            | Outcome::Anew) => self.add(call, outcome),
        }
    }

    /// A call that asked memory and came to `outcome`.
    pub(super) fn add(&mut self, call: &Call, outcome: Outcome) {
        let is_answered = matches!(outcome, Outcome::Memory | Outcome::Joined);
        self.calls += 1;
        match outcome {
            Outcome::Memory => self.hits += 1,
            Outcome::Joined => self.joined += 1,
            Outcome::Behind => self.behind += 1,
            Outcome::Missed | Outcome::Anew | Outcome::Renewed | Outcome::Passed => {}
        }
        let group = usize::try_from(call.line.digest).unwrap_or(0) % GROUPS;
        let parts =
            [Some(self.by_route.entry(call.line.route).or_default()), self.groups.get_mut(group)];
        for part in parts.into_iter().flatten() {
            part.calls += 1;
            part.answered += u64::from(is_answered);
        }
        if !is_answered {
            return;
        }
        let kept = &call.kept;
        self.upstream_ms = self.upstream_ms.saturating_add(kept.took_ms);
        if kept.is_priced {
            self.nano_usd = self.nano_usd.saturating_add(kept.worth);
        }
        if outcome == Outcome::Memory {
            self.bytes = self.bytes.saturating_add(kept.weight);
        }
    }

    /// The ratio of all calls, of which a sample is `expected` many. The calls that a sample has more
    /// or fewer than it should are those of a few keys that are asked for very often, and so hits:
    /// only what it misses is counted (SHARDS-adj).
    fn ratio_of_all_ppm(&self, expected: Option<u64>) -> u64 {
        match expected {
            None => self.ratio_ppm(),
            Some(expected) => PPM.saturating_sub(ratio_ppm(self.missed(), expected)),
        }
    }

    fn missed(&self) -> u64 {
        self.calls.saturating_sub(self.hits.saturating_add(self.joined))
    }

    /// The standard error of that, over groups of keys, of a sample of `sample` in [`SAMPLE_ALL`].
    fn standard_error_ppm(&self, expected: Option<u64>, sample: u64) -> u64 {
        let calls = i128::from(self.calls);
        let all = expected.map_or(calls, i128::from);
        if all == 0 {
            return 0;
        }
        let groups = i128::try_from(GROUPS).unwrap_or(2);
        let missed = i128::from(self.missed());
        // What each group misses more than its share: of all calls, or, where it is not known how
        // many these are, of those it has.
        let more = |part: &Part| {
            let own = i128::from(part.calls.saturating_sub(part.answered));
            match expected {
                Some(_) => own - missed / groups,
                None => own - missed * i128::from(part.calls) / calls.max(1),
            }
        };
        let squares: i128 = self.groups.iter().map(|part| more(part).pow(2)).sum();
        let unseen = i128::from(SAMPLE_ALL.saturating_sub(sample));
        let scale = i128::from(PPM).pow(2) / i128::from(SAMPLE_ALL);
        let variance = squares * groups / (groups - 1) * unseen / all * scale / all;
        u64::try_from(variance.isqrt()).unwrap_or(PPM)
    }
}

impl Estimate {
    /// `expected`: how many calls the sample should have, where that is known.
    pub(super) fn of(
        score: &Score,
        as_it_was: &Score,
        recorded_ppm: u64,
        (sample, expected): (u64, Option<u64>),
    ) -> Self {
        let method = as_it_was.ratio_of_all_ppm(expected).abs_diff(recorded_ppm);
        let by_chance = score.standard_error_ppm(expected, sample).saturating_mul(2);
        let error_ppm = method.saturating_add(by_chance).clamp(ERROR_PPM_MIN, PPM);
        Self { ratio_ppm: score.ratio_of_all_ppm(expected), error_ppm }
    }
}

pub(super) fn ratio_ppm(part: u64, all: u64) -> u64 {
    let ratio = u128::from(part) * u128::from(PPM) / u128::from(all.max(1));
    u64::try_from(ratio).unwrap_or(PPM)
}
