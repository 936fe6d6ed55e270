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

mod world_self;
