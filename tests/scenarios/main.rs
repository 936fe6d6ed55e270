//! One binary for all scenarios: one link, shared helpers, and a list of what Tollgate
//! promises that can be read top to bottom.
//!
//! A scenario sees what a caller, an operator or the one who pays can see. Those of
//! `drain` run the binary: `cargo build -p tollgate` comes first.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test, a panic is the report"
)]

mod admission;
mod admission_learns;
mod admission_reload;
mod admission_rights;
mod ask;
mod breaker;
mod busy;
mod cache_cdn;
mod cache_cohere_v1;
mod cache_content;
mod cache_deadline;
mod cache_dialects;
mod cache_disk;
mod cache_encodings;
mod cache_entries;
mod cache_epoch;
mod cache_events;
mod cache_events_postgres;
mod cache_explain;
mod cache_faults;
mod cache_flight;
mod cache_forms;
mod cache_forward;
mod cache_hot;
mod cache_hot_set;
mod cache_http;
mod cache_http_change;
mod cache_http_flight;
mod cache_isolation;
mod cache_items;
mod cache_join;
mod cache_keys;
mod cache_lease;
mod cache_lease_cluster;
mod cache_list_times;
mod cache_lists;
mod cache_memcached;
mod cache_pacing;
mod cache_pattern;
mod cache_postgres;
mod cache_prefetch;
mod cache_purge;
mod cache_purge_kept;
mod redis_sets;
mod cache_redis;
mod cache_redis_modes;
mod cache_redis_refused;
mod cache_renewal;
mod cache_rules;
mod cache_said;
mod cache_scope;
mod cache_shadow;
mod cache_stage;
mod cache_stale;
mod cache_stores;
mod cache_tiers;
mod cache_trace;
mod cache_varnish;
mod cache_vote;
mod cache_warm;
mod cache_when;
mod class_claims;
mod rfc9111;
mod meter_kill;
mod meter_records;
mod meter_stream;
mod meter_usage;
mod signals;
mod stores;
mod world_self;
mod pass;
mod fallback;
mod hygiene;
mod limits;
mod line;
mod timeouts;
mod refusals;
mod retries;
mod unread;
mod websocket;
mod tls;
mod probes;
mod profiles;
mod drain;
mod tidy;
