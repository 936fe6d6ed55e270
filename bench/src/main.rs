//! The streaming half of `bench/run`: a model server that emits events at a fixed rate
//! (`emit`), and its callers, who count them (`listen`).
//!
//! wrk counts answers, not events, and nginx cannot emit any. Both sides are a blocking
//! thread per stream: sixty-four of them cost the core they share with nobody measured.

#![expect(clippy::disallowed_methods, reason = "a load generator reads the real clock")]
#![expect(clippy::print_stdout, reason = "`listen` hands its count to `bench/run`")]

mod emit;
mod listen;
mod wire;

use std::{io, process::ExitCode, str::FromStr, time::Duration};

const USAGE: &str = "tollgate-bench emit ADDRESS EVENTS RATE_HZ\n\
                     tollgate-bench listen ADDRESS EVENTS STREAMS SECONDS";

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
        _ => Err(io::Error::other(USAGE)),
    }
}

fn parsed<T: FromStr>(word: &str) -> io::Result<T> {
    word.parse().map_err(|_| io::Error::other(format!("`{word}` is not understood\n{USAGE}")))
}
