//! How a call's state is said in the ledger's words, and in the access log's.

use crate::metrics::CacheOutcome;
use tollgate_core::{price::Cost, usage::Usage};
use tollgate_ledger::{self as ledger, UsageRecord};

/// `telemetry.logs.access`: what an operator looks for in nginx's access log. Names and
/// numbers, never content.
pub(super) fn log_access(record: &UsageRecord, route: &str, model: Option<&str>) {
    let times = &record.times;
    tracing::info!(
        target: "access",
        record = %record.id,
        route,
        model,
        status = record.status,
        reason = record.reason.name(),
        cache = record.outcome.name(),
        tier = record.tier.name(),
        bytes_in = record.bytes_in,
        bytes_out = record.bytes_out,
        queue_us = times.queue_us,
        upstream_us = times.upstream_us,
        total_us = times.total_us,
        "call"
    );
}

pub(super) fn ledger_outcome(outcome: CacheOutcome) -> ledger::CacheOutcome {
    match outcome {
        CacheOutcome::Hit => ledger::CacheOutcome::Hit,
        CacheOutcome::Stale => ledger::CacheOutcome::Stale,
        CacheOutcome::Collapsed => ledger::CacheOutcome::Collapsed,
        CacheOutcome::Miss => ledger::CacheOutcome::Miss,
        CacheOutcome::Bypass => ledger::CacheOutcome::Bypass,
    }
}

pub(super) fn ledger_tokens(usage: &Usage) -> ledger::Tokens {
    let count = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX);
    ledger::Tokens {
        input: count(usage.input),
        cached_input: count(usage.cached_input),
        cache_write: count(usage.cache_write),
        cache_write_1h: count(usage.cache_write_1h),
        audio_input: count(usage.audio_input),
        output: count(usage.output),
        reasoning: count(usage.reasoning),
        audio_output: count(usage.audio_output),
    }
}

pub(super) fn ledger_cost(cost: &Cost) -> ledger::Cost {
    ledger::Cost {
        input: cost.input.to_record(),
        cached_input: cost.cached_input.to_record(),
        cache_write: cost.cache_write.to_record(),
        output: cost.output.to_record(),
        request: cost.request.to_record(),
    }
}
