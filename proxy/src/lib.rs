//! Tollgate: a caching, metering, prioritising reverse proxy for model servers and
//! business services.
//!
//! The way of a request is `exchange`; the modules of the way are listed in its order,
//! and a stage uses what stands above it, not below (a tidy test holds it, and lists
//! the uses that still point down).

// The way of a request.
mod listener;
mod exchange;
mod route;
mod identity;
mod inspect;
mod cache;
mod meter;
pub mod admission;
mod upstream;
mod relay;
mod respond;

// Beside the way.
mod app;
mod admin;
mod aside;
mod body;
pub mod cli;
mod console;
mod events;
mod explain;
mod forecast;
mod gather;
mod head;
pub mod isolation;
pub mod metrics;
mod prefetch;
mod profiles;
mod purge;
pub mod scaling;
mod seldom;
mod shutdown;
pub mod standin;
mod telemetry;
mod warm;
mod written;

pub use app::{Addresses, App, StartError};
