//! Every metric Tollgate has: name, kind, labels, help. No name is written elsewhere.
//!
//! Dashboards, alerts and autoscalers read these; a changed name breaks them.
//! Counters end in `_total`; a unit is the last word of a name before that.

/// A metric family.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Counter,
    Gauge,
    /// With the upper bounds of its buckets, in seconds.
    Histogram(&'static [f64]),
}

use Kind::{Counter, Gauge, Histogram};

pub(super) const CALL_SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];
const LOOKUP_SECONDS: &[f64] = &[0.000_01, 0.000_1, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.05];

/// Declares the families and the list of all of them together, so that none is forgotten.
macro_rules! families {
    ($($place:ident = $kind:expr, $name:literal, $labels:expr, $help:literal;)+) => {
        $(pub(super) static $place: Family = Family { name: $name, kind: $kind, labels: &$labels, help: $help };)+
        /// Every family above.
        pub(super) const ALL: &[&Family] = &[$(&$place),+];
    };
}

families! {
    // For autoscalers: unlabelled, sums over upstreams, without hits and followers.
    QUEUE_TOKENS_SUM = Gauge, "request_queue_tokens", [],
        "Tokens that waiting calls are thought to take, over all upstreams that are shared by tokens.";
    QUEUE_LENGTH_SUM = Gauge, "request_queue_length", [],
        "Calls waiting for a permit now, over all upstreams.";
    CONCURRENCY = Gauge, "request_concurrency", [],
        "Calls waiting for a permit or holding one now, over all upstreams.";
    INFLIGHT = Gauge, "request_inflight", [],
        "Calls holding a permit now, over all upstreams.";
    QUEUE_OLDEST = Gauge, "request_queue_oldest_seconds", [],
        "How long the oldest waiting call has waited; 0 when none waits.";
    CONCURRENCY_LIMIT = Gauge, "concurrency_limit", [],
        "Sum of the limits of the upstreams that have one; 0 = unlimited.";
    ERROR_RATIO = Gauge, "request_error_ratio", [],
        "Part of the calls of the last 60 s, hits and followers apart, that were shed or ended in a 5xx; exact, 0 when idle.";
    LATENCY_P50 = Gauge, "request_latency_p50_seconds", [],
        "Median duration, in seconds, of the calls that reached an upstream in the last 60 s, queue included; within 2 %, 0 when idle.";
    LATENCY_P95 = Gauge, "request_latency_p95_seconds", [],
        "95th percentile of the duration, in seconds, of the calls that reached an upstream in the last 60 s, queue included; within 2 %, 0 when idle.";
    LATENCY_P99 = Gauge, "request_latency_p99_seconds", [],
        "99th percentile of the duration, in seconds, of the calls that reached an upstream in the last 60 s, queue included; within 2 %, 0 when idle.";

    ARRIVAL_RATE = Gauge, "request_arrival_rate", [],
        "Calls a second that asked for a permit, of the last 60 s; hits and followers ask for none.";
    LOAD_FORECAST = Gauge, "request_load_forecast", ["horizon"],
        "Calls a second to be ready for in that time: what is foreseen, announced or scheduled, and never less than request_arrival_rate.";
    FORECAST_ERROR = Gauge, "tollgate_forecast_error_ratio", ["horizon"],
        "Mean error of what was foreseen for that time ahead, over the mean of what came, of about the last three days; 0 before anything came.";
    FORECAST_IN_FORCE = Gauge, "tollgate_forecast_in_force", ["horizon"],
        "1 if what is foreseen counts, 0 if it was right too seldom, or not often enough yet.";
    FORECAST_EVENTS = Gauge, "tollgate_forecast_events", [],
        "Announced events that are not over.";

    // Calls.
    REQUESTS = Counter, "tollgate_requests_total", ["route", "class", "code"],
        "Calls that ended, by the status the caller got; none = no answer was begun.";
    REQUEST_SECONDS = Histogram(CALL_SECONDS), "tollgate_request_duration_seconds", ["route", "class"],
        "From a call's head to the end of its answer's body.";
    UPSTREAM_SECONDS = Histogram(CALL_SECONDS), "tollgate_upstream_duration_seconds", ["route"],
        "From the start of the upstream call to the end of its answer.";
    FIRST_BYTE_SECONDS = Histogram(CALL_SECONDS), "tollgate_time_to_first_byte_seconds", ["route"],
        "From a call's head to the first byte of its answer's body.";
    QUEUE_LENGTH = Gauge, "tollgate_queue_length", ["class"],
        "Calls waiting for a permit now.";
    QUEUE_SECONDS = Histogram(CALL_SECONDS), "tollgate_queue_wait_seconds", ["class", "outcome"],
        "How long calls waited for a permit, and how the wait ended.";
    REJECTED = Counter, "tollgate_rejected_total", ["class", "reason"],
        "Calls Tollgate refused or failed itself, by the tollgate-reason it gave.";
    CLASS_CLAIMS = Counter, "tollgate_class_claims_total", ["route", "outcome"],
        "Calls that claimed a class: obeyed, lowered (to their caller's ceiling), unknown (a word or number that the route's class does not name), untrusted (of who is not believed).";
    DISPATCHED = Counter, "tollgate_dispatched_total", ["class"],
        "Calls that got a permit.";
    TURNS = Counter, "tollgate_queue_turns_total", ["class", "way"],
        "Calls that got a permit, by the rule that let them in; their sum is tollgate_dispatched_total.";
    SHED = Counter, "tollgate_queue_shed_total", ["class", "reason"],
        "Calls that the queue refused, or took back, by why; also those whose caller was given something older instead.";
    LIFTED = Counter, "tollgate_queue_lifted_total", [],
        "Waiting calls that went on in a more important class, because a caller of that class asked the same.";
    PREEMPTED = Counter, "tollgate_queue_preempted_total", [],
        "Calls that were taken back before their first byte, for one of the strict class.";
    PERMITS_LEAKED = Counter, "tollgate_permits_leaked_total", [],
        "Permits that did not come back before their call was over; above 0 is a defect of Tollgate, and that much of the limit is lost until a restart.";

    // Upstreams.
    ENDPOINTS_OPEN = Gauge, "tollgate_upstream_breakers_open", ["upstream"],
        "Endpoints that are left alone because they fail, by upstream that has a breaker.";
    BREAKER_OPENED = Counter, "tollgate_upstream_breaker_opened_total", ["upstream"],
        "Times an endpoint began, or went on after a probe, to be left alone.";
    RETRIES = Counter, "tollgate_upstream_retries_total", ["upstream", "cause"],
        "Tries of calls beside their first, by what the try before came to; of upstreams that have retries.";
    RETRIES_OVER_BUDGET = Counter, "tollgate_upstream_retries_over_budget_total", ["upstream"],
        "Calls that were not tried again because the budget of retries was spent.";

    FALLBACKS = Counter, "tollgate_upstream_fallback_calls_total", ["upstream"],
        "Calls that this upstream answered because another failed or had no turn for them.";

    // Cache.
    CACHE_REQUESTS = Counter, "tollgate_cache_requests_total", ["route", "tier", "outcome"],
        "Calls by how the cache answered them; each call counts in exactly one series.";
    CACHE_ITEMS = Counter, "tollgate_cache_items_total", ["route", "outcome"],
        "Items of calls that ask about several, by how each was answered; unfit = asked again with the whole call.";
    CACHE_JOINED = Counter, "tollgate_cache_joined_calls_total", ["route"],
        "Calls that were asked together with another, in its upstream call.";
    CACHE_LOOKUPS = Counter, "tollgate_cache_lookups_total", ["tier", "outcome"],
        "Look-ups in each tier.";
    CACHE_LEASES = Counter, "tollgate_cache_leases_total", ["outcome"],
        "Leases to fill for the fleet: taken, lost before their answer was there, fenced off from storing it.";
    CACHE_LEASE_WAITS = Counter, "tollgate_cache_lease_waits_total", ["outcome"],
        "Waits for another instance's answer, by how they ended.";
    CACHE_VOTES = Counter, "tollgate_cache_votes_total", ["outcome"],
        "Callers' words that an answer is bad: counted, about nothing that was held, beyond the limit, of who may not.";
    CACHE_SHADOWS = Counter, "tollgate_cache_shadow_total", ["route", "outcome"],
        "Hits for which the upstream was asked again, by whether it said the same: same, differs, unread (nobody could compare them), failed (no whole answer came).";
    CACHE_PREFETCHES = Counter, "tollgate_cache_prefetch_total", ["route", "outcome"],
        "Answers that were asked for ahead, by what became of them: used, wasted (not wanted in time, or gone before), failed (none came that is kept).";
    CACHE_PREFETCH_PRECISION = Gauge, "tollgate_cache_prefetch_precision", ["route"],
        "Part of the last 50 answers asked for ahead that were used; below precision_min nothing is asked ahead for a while.";
    CACHE_PREFETCH_OVER_BUDGET = Counter, "tollgate_cache_prefetch_over_budget_total", ["route", "budget"],
        "Answers that were likely to be wanted and not asked for ahead because the budget was spent: calls (of the minute), money (of the hour).";
    CACHE_NOT_KEPT = Counter, "tollgate_cache_not_kept_total", ["route", "reason"],
        "Answers to model calls that were not kept: for what their head says, vary (of a field that no key has), no_store, encoded; or unread (a stream that a rule would have to read and that has no whole form).";
    CACHE_EVENTS = Counter, "tollgate_cache_events_total", ["source", "outcome"],
        "Events of cache.events: that purged, were about nothing, unclear, beyond the rate, may have been lost, or were unnamed (about more than can be named; treated as lost).";
    CACHE_TRACE = Counter, "tollgate_cache_trace_lines_total", ["outcome"],
        "Calls in the key trace of cache.trace: written, or dropped because its queue or the disk was full.";
    CACHE_LOOKUP_SECONDS = Histogram(LOOKUP_SECONDS), "tollgate_cache_lookup_seconds", ["tier"],
        "How long a look-up in a tier took.";
    OWN_CALLS = Counter, "tollgate_cache_own_calls_total", ["purpose", "outcome"],
        "Calls that Tollgate made by itself to fill the cache, by what came of them; not among callers' requests.";
    CACHE_BYTES = Gauge, "tollgate_cache_bytes", [],
        "Bytes held by the cache in this process.";
    CACHE_ENTRIES = Gauge, "tollgate_cache_entries", [],
        "Entries held by the cache in this process.";
    CACHE_EVICTIONS = Counter, "tollgate_cache_evictions_total", ["cause"],
        "Entries that left the cache in this process.";
    CACHE_COLLISIONS = Counter, "tollgate_cache_collisions_total", [],
        "Entries found under the right key that answered another question; treated as misses.";
    CACHE_PATTERNS_FORGOTTEN = Counter, "tollgate_cache_patterns_forgotten_total", [],
        "Purges by patterns forgotten for want of room; what has tags and is older was voided, or renewed where they were soft.";
    CACHE_HIT_RATIO = Gauge, "tollgate_cache_hit_ratio", [],
        "Part of the cacheable calls of the last 5 minutes answered without an upstream call of their own; 0 when idle.";

    // Use and money.
    TOKENS = Counter, "tollgate_tokens_total", ["route", "model", "kind"],
        "Tokens used upstream, in disjoint kinds.";
    COST = Counter, "tollgate_cost_microusd_total", ["route", "model", "category"],
        "Money spent, in millionths of the price book's currency.";
    SAVED = Counter, "tollgate_saved_microusd_total", ["route", "model", "how"],
        "Money that calls answered without the upstream would have cost, in millionths of the price book's currency.";
    UNPRICED = Counter, "tollgate_unpriced_calls_total", [],
        "Calls whose model or kind of token has no price; their cost is unknown, not zero.";
    ESTIMATED = Counter, "tollgate_estimated_calls_total", [],
        "Calls whose use the upstream did not report; it is estimated.";
    LEDGER_QUEUE = Gauge, "tollgate_ledger_queue_records", [],
        "Usage records in the log that are not yet in the data base.";
    LEDGER_WAL = Gauge, "tollgate_ledger_wal_bytes", [],
        "Bytes of the ledger's log, of calls and of new names, that are not yet in the data base; 0 once they are.";
    LEDGER_DROPPED = Counter, "tollgate_ledger_dropped_total", [],
        "Usage records lost because the ledger had no room for them.";

    // The process.
    STORE_UP = Gauge, "tollgate_store_up", ["store"],
        "1 if the store answered last, 0 if not.";
    PURGES_PENDING = Gauge, "tollgate_store_purges_pending", ["store"],
        "Purges of this instance that the store has not taken yet: in force here, and the others have not heard of them.";
    RELOADS = Counter, "tollgate_config_reloads_total", ["outcome"],
        "Times the configuration was read again, by whether it was taken over.";
    CPU_SECONDS = Counter, "process_cpu_seconds_total", [],
        "Total user and system CPU time spent in seconds.";
    RESIDENT_BYTES = Gauge, "process_resident_memory_bytes", [],
        "Resident memory size in bytes.";
    VIRTUAL_BYTES = Gauge, "process_virtual_memory_bytes", [],
        "Virtual memory size in bytes.";
    MEMORY_LIMIT = Gauge, "process_memory_limit_bytes", [],
        "Memory this process may use before the kernel kills it, in bytes: the least limit of its cgroups; 0 = unlimited.";
    OPEN_FDS = Gauge, "process_open_fds", [],
        "Number of open file descriptors.";
    MAX_FDS = Gauge, "process_max_fds", [],
        "Maximum number of open file descriptors.";
    START_TIME = Gauge, "process_start_time_seconds", [],
        "Start time of the process since unix epoch in seconds.";
}

/// Whether `name` is the name of a family, or of one of the samples of a family.
pub(super) fn is_taken(name: &str) -> bool {
    ALL.iter().any(|family| {
        let endings: &[&str] = match family.kind {
            Gauge => &[""],
            Counter => &["_total"],
            Histogram(_) => &["", "_bucket", "_sum", "_count"],
        };
        let stem = stem(family.name);
        let rest = name.strip_prefix(stem);
        // The stem of a counter is the family's name in OpenMetrics.
        rest == Some("") || rest.is_some_and(|rest| endings.contains(&rest))
    })
}

/// A family's name in OpenMetrics, where `_total` belongs to the sample.
pub(super) fn stem(name: &str) -> &str {
    name.strip_suffix("_total").unwrap_or(name)
}
