//! The injector: an admission webhook that puts Tollgate into pods that ask for it.
//!
//! What becomes of a pod is decided by one pure function, [`mutate`], which knows no
//! network, clock or cluster, so that its cases are files (`tests/golden`). Around it:
//! the review that the API server sends and is answered ([`review`]), and what serves it
//! over TLS ([`server`]).

pub mod config;
pub mod mutate;
pub mod diff;
pub mod review;
pub mod metrics;
pub mod certificates;
pub mod self_made;
pub mod server;
pub mod cluster;
pub mod cli;
