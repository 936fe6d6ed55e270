//! What the ledger says the demo came to, and whether provider and callers say the same.

use super::{load::Answered, stage::LIMIT};
use crate::standin::Counts;
use std::collections::BTreeMap;
use tollgate_ledger::{CacheOutcome, CacheTier, RecordView};

/// The classes, in their order; a class of none of these names would be a defect.
pub(super) const CLASSES: [&str; 4] = ["emergency", "vip", "normal", "batch"];

/// Calls that have something in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) calls: u64,
    /// Answered from memory.
    pub(super) memory: u64,
    /// Answered by a call of another that was in flight.
    pub(super) collapsed: u64,
    /// Answered by the provider.
    pub(super) upstream: u64,
    pub(super) tokens_in: u64,
    pub(super) tokens_out: u64,
    /// In trillionths of a US dollar.
    pub(super) spent: i128,
    pub(super) saved: i128,
    pub(super) unpriced: u64,
    /// Waits for a permit of those that needed one, in microseconds; sorted.
    waits_us: Vec<u64>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) total: Line,
    /// In the order of [`CLASSES`].
    pub(super) classes: [Line; 4],
    pub(super) models: BTreeMap<String, Line>,
    pub(super) tenants: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn of(records: &[RecordView]) -> Self {
        let mut tally = Self::default();
        for view in records {
            let [_, tenant, _, _, _, _, class, model, _] = &view.words;
            tally.total.add(view);
            *tally.tenants.entry(tenant.clone()).or_default() += 1;
            tally.models.entry(model.clone()).or_default().add(view);
            let lines = CLASSES.iter().zip(&mut tally.classes);
            for (_, line) in lines.filter(|(name, _)| *name == class) {
                line.add(view);
            }
        }
        tally.total.waits_us.sort_unstable();
        for line in &mut tally.classes {
            line.waits_us.sort_unstable();
        }
        tally
    }
}

impl Line {
    fn add(&mut self, view: &RecordView) {
        let record = &view.record;
        self.calls += 1;
        self.memory += u64::from(record.tier == CacheTier::Memory);
        self.collapsed += u64::from(record.outcome == CacheOutcome::Collapsed);
        self.unpriced += u64::from(record.unpriced);
        self.saved = self.saved.saturating_add(i128::from(record.saved_pico));
        self.spent = self.spent.saturating_add(record.cost.total());
        if record.times.upstream_us > 0 {
            self.upstream += 1;
            self.waits_us.push(record.times.queue_us);
        }
        if !record.outcome.is_hit() {
            let [input, cached, write, write_1h, audio_in, output, reasoning, audio_out] =
                record.tokens.as_array().map(u64::from);
            self.tokens_in += input + cached + write + write_1h + audio_in;
            self.tokens_out += output + reasoning + audio_out;
        }
    }

    /// The wait that `percent` of the calls did not exceed, in microseconds; `None` where
    /// none needed a permit.
    pub(super) fn wait_us(&self, percent: usize) -> Option<u64> {
        let rank = (self.waits_us.len() * percent).div_ceil(100).max(1);
        self.waits_us.get(rank - 1).copied()
    }
}

/// One number, as two parties have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) what: &'static str,
    pub(super) ours: u64,
    pub(super) theirs: u64,
    pub(super) they: &'static str,
}

/// Our books beside others' books.
#[derive(Clone, Debug)]
pub(super) struct Books {
    pub(super) pairs: Vec<Pair>,
    pub(super) failures: u64,
    pub(super) most_at_once: u64,
    pub(super) limit_exceeded: u64,
}

impl Books {
    pub(super) fn of(tally: &Tally, answered: &Answered, provider: &Counts) -> Self {
        let total = &tally.total;
        let pair = |what, ours, theirs, they| Pair { what, ours, theirs, they };
        Self {
            pairs: vec![
                pair("calls answered", total.calls, answered.answers(), "callers"),
                pair("calls sent on", total.upstream, provider.calls, "provider"),
                pair("tokens in", total.tokens_in, provider.billed.input, "provider"),
                pair("tokens out", total.tokens_out, provider.billed.output, "provider"),
            ],
            failures: answered.failures(),
            most_at_once: provider.max_in_flight,
            limit_exceeded: provider.limit_exceeded,
        }
    }

    /// # Errors
    /// What does not agree.
    pub(super) fn verdict(&self) -> Result<(), String> {
        let mut wrong: Vec<String> = Vec::new();
        for Pair { what, ours, theirs, they } in &self.pairs {
            if ours != theirs {
                wrong.push(format!("{what}: the ledger has {ours}, the {they} {theirs}"));
            }
        }
        if self.limit_exceeded > 0 {
            let n = self.limit_exceeded;
            wrong.push(format!("{n} calls came while the provider answered {LIMIT} already"));
        }
        if self.failures > 0 {
            wrong.push(format!("{} calls were not answered", self.failures));
        }
        if wrong.is_empty() { Ok(()) } else { Err(format!("demo: {}", wrong.join("; "))) }
    }
}
