//! The streaming half of `bench/run`: a model server that emits events at a fixed rate
//! (`emit`), and its callers, who count them (`listen`).
//!
//! Also a crowd that asks the same thing at once (`burst`), and one caller who waits for
//! first bytes (`first`).
//!
//! And what of it answers from memory: `hit-ratio`, `hit-cost`, `entry-cost`; and who goes
//! first, on a virtual clock: `admission`; and what an autoscaler makes of it: `autoscale`.
//!
//! wrk counts answers, not events, and nginx cannot emit any. Both sides are a blocking
//! thread per stream: sixty-four of them cost the core they share with nobody measured.

#![expect(clippy::disallowed_methods, reason = "a load generator reads the real clock")]
#![expect(clippy::print_stdout, reason = "`listen` hands its count to `bench/run`")]

mod admission;
mod autoscale;
mod burst;
mod draw;
mod emit;
mod entry_cost;
mod first;
mod hit_ratio;
mod listen;
mod wire;

use std::{io, process::ExitCode, str::FromStr, time::Duration};
use tollgate_cache::memory::Policy;

const USAGE: &str = "tollgate-bench emit ADDRESS EVENTS RATE_HZ\n\
                     tollgate-bench listen ADDRESS EVENTS STREAMS SECONDS\n\
                     tollgate-bench burst ADDRESS GET|POST EVENTS CALLERS SECONDS\n\
                     tollgate-bench first ADDRESS EVENTS SECONDS\n\
                     tollgate-bench hit-ratio [--smoke]\n\
                     tollgate-bench hit-cost\n\
                     tollgate-bench admission [--smoke]\n\
                     tollgate-bench autoscale [--smoke]\n\
                     tollgate-bench entry-cost lfu|lru|cost BYTES";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> io::Result<()> {
    match words {
        ["emit", address, events, rate] => {
            let gap = Duration::from_secs(1) / parsed::<u32>(rate)?.max(1);
            emit::serve(parsed(address)?, emit::Pace { events: parsed(events)?, gap })
        }
        ["listen", address, events, streams, seconds] => {
            let seconds = Duration::from_secs(parsed(seconds)?);
            let heard = listen::load(parsed(address)?, parsed(events)?, parsed(streams)?, seconds);
            println!("{} {} {}", heard.events, heard.answers, heard.wrong);
            Ok(())
        }
        ["burst", address, form, events, callers, seconds] => {
            let (to, form) = (parsed(address)?, form_named(form)?);
            let length = Duration::from_secs(parsed(seconds)?);
            let all = burst::load(to, form, parsed(events)?, parsed(callers)?, length)?;
            println!("{} {} {}", all.bursts, all.wrong, quantiles(&all.waited_us));
            Ok(())
        }
        ["first", address, events, seconds] => {
            let length = Duration::from_secs(parsed(seconds)?);
            let waited_us = first::waits(parsed(address)?, parsed(events)?, length)?;
            println!("{}", quantiles(&waited_us));
            Ok(())
        }
        ["hit-ratio"] => hit_ratio::run(false),
        ["hit-ratio", "--smoke"] => hit_ratio::run(true),
        ["admission"] => admission::run(admission::Size::Full),
        ["admission", "--smoke"] => admission::run(admission::Size::Smoke),
        ["autoscale"] => autoscale::run(false),
        ["autoscale", "--smoke"] => autoscale::run(true),
        ["entry-cost", policy, body] => entry_cost::run(named(policy)?, parsed(body)?),
        ["hit-cost"] => {
            hit_ratio::hit_cost(100_000);
            Ok(())
        }
        _ => Err(io::Error::other(USAGE)),
    }
}

/// How many there are, the middle one and the 99th of 100, of what is sorted.
fn quantiles(sorted: &[u128]) -> String {
    let count = sorted.len();
    let at = |of_100: usize| sorted.get(count * of_100 / 100).copied().unwrap_or(0);
    format!("{count} {} {}", at(50), at(99))
}

fn form_named(form: &str) -> io::Result<burst::Form> {
    match form {
        "GET" => Ok(burst::Form::Get),
        "POST" => Ok(burst::Form::Post),
        _ => Err(io::Error::other(USAGE)),
    }
}

fn named(policy: &str) -> io::Result<Policy> {
    match policy {
        "lfu" => Ok(Policy::Lfu),
        "lru" => Ok(Policy::Lru),
        "cost" => Ok(Policy::Cost),
        _ => Err(io::Error::other(USAGE)),
    }
}

fn parsed<T: FromStr>(word: &str) -> io::Result<T> {
    word.parse().map_err(|_| io::Error::other(format!("`{word}` is not understood\n{USAGE}")))
}
