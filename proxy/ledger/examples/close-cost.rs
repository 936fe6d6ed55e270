//! What a call costs its task here, in nanoseconds: a crude figure, run by hand.
//!
//! ```text
//! cargo run --release -p tollgate-ledger --example close-cost
//! ```
//! Each step is timed over laps that fit the segments, with a flush between them,
//! so that the figure is the task's and not the overflow's.
#![expect(
    clippy::disallowed_methods,
    reason = "a program of its own: there is no test time to respect"
)]

use std::{
    error::Error,
    hint::black_box,
    io::{Write, stdout},
    time::{Duration, Instant},
};

use tollgate_ledger::{Dims, Ledger, LedgerError, Options, UsageRecord, mint_id};

const LAPS: u32 = 100;
const CALLS: u32 = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let ledger = Ledger::open(dir.path(), Options::default())?;
    let words: Vec<String> = (0..CALLS).map(|n| format!("user-{n}")).collect();
    for word in &words {
        ledger.dim(word);
    }
    let record = UsageRecord::new(mint_id(0), 0, Dims::default());
    let words = words.as_slice();
    let figures = [
        ("dim, known word", time(&ledger, words, |word| black_box(ledger.dim(word)))?),
        ("mint_id", time(&ledger, words, |_| black_box(mint_id(0)))?),
        ("close", time(&ledger, words, |_| ledger.close(&record))?),
    ];
    let mut out = stdout().lock();
    for (what, ns) in figures {
        writeln!(out, "{what:16} {ns:5} ns")?;
    }
    writeln!(out, "{:?}", ledger.stats())?;
    Ok(())
}

/// Nanoseconds per step.
fn time<T>(
    ledger: &Ledger,
    words: &[String],
    mut step: impl FnMut(&str) -> T,
) -> Result<u128, LedgerError> {
    let mut spent = Duration::ZERO;
    for _ in 0..LAPS {
        ledger.flush()?;
        let start = Instant::now();
        for word in words {
            step(word);
        }
        spent += Instant::now() - start;
    }
    Ok(spent.as_nanos() / u128::from(LAPS * CALLS))
}
