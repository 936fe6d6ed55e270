//! A small world for scenarios: a real stand-in provider, the real proxy, real callers,
//! all on ports that the system chooses, so that scenarios run side by side.
//!
//! ```text
//!  Client, Wire ──▶ tollgate::App (from YAML, own data_dir) ──▶ StandIn or Scripted
//! ```
//!
//! Nothing here sleeps: a scenario waits for an event, for [`LIMIT`] at the most, and
//! says what it saw last when the event does not come.
//!
//! [`Process`] runs the binary itself, for signals. Cargo tells a test the path of a
//! binary of the same package only, so this one is looked for beside the test's own
//! executable: **`cargo build -p tollgate` comes before `cargo test -p tollgate-tests`**.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test, a panic is the report"
)]

mod wait;
mod settings;
mod client;
mod wire;
mod scripted;
mod certificates;
mod postgres;
mod process;
mod world;

pub use certificates::{Authority, Certified, TlsFront};
pub use client::{Client, Live, Reply, Upload};
pub use postgres::Postgres;
pub use process::Process;
pub use scripted::{Line, Scripted, Seen};
pub use settings::Settings;
pub use tollgate::standin;
pub use wait::{LIMIT, until, within};
pub use wire::{RawReply, Wire};
pub use world::{CHAT, World, WorldBuilder, chat, chat_stream};
