//! How a call's state is said in the ledger's words, and in the access log's.

use super::{Call, unix_ms};
use crate::metrics::CacheOutcome;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tollgate_core::{
    price::Cost,
    usage::{TOKENS_BELIEVED_MAX, Usage},
};
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

/// How often a server's absurd numbers are logged, at most.
const DISBELIEVED_INTERVAL_MS: i64 = 60_000;

/// A server reports more tokens than there can be: once a minute, with the number of
/// those that were not logged.
pub(super) fn log_disbelieved(call: &Call) {
    static LAST_MS: AtomicI64 = AtomicI64::new(0);
    static SKIPPED: AtomicU64 = AtomicU64::new(0);
    let (now_ms, last_ms) = (unix_ms(), LAST_MS.load(Ordering::Relaxed));
    let is_due = now_ms.saturating_sub(last_ms) >= DISBELIEVED_INTERVAL_MS
        && LAST_MS.compare_exchange(last_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    if !is_due {
        SKIPPED.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let not_logged = SKIPPED.swap(0, Ordering::Relaxed);
    let (record, model) = (call.id(), call.model().map(|model| &**model));
    tracing::warn!(
        %record,
        model,
        not_logged,
        tokens_max = TOKENS_BELIEVED_MAX,
        "an upstream reported more tokens than are believed; the call is an estimate"
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
