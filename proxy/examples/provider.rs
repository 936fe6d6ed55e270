//! The stand-in provider on a free port, for clients that are not written in Rust.
//!
//! It prints its URL and serves until standard input ends, so that it never outlives
//! whoever started it: `cargo run -p tollgate --example provider`.

use std::io::Write as _;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tollgate::standin::{Options, StandIn};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let stop = CancellationToken::new();
    let standin = StandIn::start(Options::default(), listener, &TaskTracker::new(), stop.clone());
    writeln!(std::io::stdout(), "{}", standin.url())?;
    let end = || std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    tokio::task::spawn_blocking(end).await??;
    stop.cancel();
    Ok(())
}
