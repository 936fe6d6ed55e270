//! The vocabulary and the decisions of Tollgate: nothing here waits.
//!
//! No tokio, no hyper, no clock, no environment: time, randomness and bytes are
//! arguments. So everything in this crate is tested by thousands of cheap cases.

pub mod breaker;
pub mod class;
pub mod dialect;
pub mod estimate;
pub mod forecast;
pub mod form;
pub mod items;
pub mod limit;
pub mod money;
pub mod price;
pub mod retry_budget;
pub mod scheduler;
pub mod usage;
