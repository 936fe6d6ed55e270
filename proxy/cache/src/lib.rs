//! The cache of Tollgate: keys, tiers, purges, model versions, freshness.
//!
//! ```text
//!   body ─ canonical ─▶ BodyDigest ─┐
//!   everything else it depends on ──┴─ key ─▶ look_up_now ── memory ── hit ──▶
//!                                             look_up_rest ── the other tiers, in the route's order ── hit ─▶ (copied to those before)
//!                                             miss ─▶ flight (the proxy's) ─▶ store
//! ```
//!
//! It knows no money, no routes, no configuration, and of HTTP only what a message's head is (the
//! `http` crate's types): what it needs comes in as plain arguments, the clock included. So everything but the tiers outside
//! memory is tested without waiting, and those with real servers and a real disk.

mod clock;
pub mod counters;
mod number;
pub mod pointer;
pub mod omit;
pub mod canonical;
pub mod multipart;
pub mod key;
pub mod urls;
pub mod vain;
pub mod share;
pub mod memo;
pub mod generations;
pub mod journal;
pub mod coding;
pub mod delivery;
pub mod entry;
pub mod codec;
pub mod wrap;
pub mod memory;
pub mod versions;
pub mod outer;
pub mod shared;
pub mod postgres;
pub mod memcached;
pub mod disk;
pub mod tiers;
pub mod trace;
pub mod replay;
pub mod cache_control;
pub mod freshness;
pub mod rfc9111;
pub mod flight;
