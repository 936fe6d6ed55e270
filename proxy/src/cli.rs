//! The command line: what the operator types, and the exit code they get.
//!
//! 0 is fine, 1 the input was wrong, 2 the environment failed. An error is one line on
//! stderr: what, where, what to do.

mod demo;
mod logs;
mod run;
mod settings;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A caching, metering, prioritising reverse proxy for model servers and services.
#[derive(Debug, Parser)]
#[command(
    name = "tollgate",
    version,
    after_help = "Example:\n  tollgate run --upstream http://127.0.0.1:8000"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve: stand before an upstream until told to stop
    Run(run::Run),
    Demo(demo::Demo),
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was typed or written is wrong: exit code 1. A line each.
    Input(Vec<String>),
    /// What it needs is not there: exit code 2.
    Environment(String),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Input(_) => 1,
            Self::Environment(_) => 2,
        }
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::Input(lines) => lines.iter().map(String::as_str).collect::<Vec<_>>().into_iter(),
            Self::Environment(line) => vec![line.as_str()].into_iter(),
        }
    }
}

/// Runs the command that was typed.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap writes help to stdout and mistakes to stderr.
            error.print().ok();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let outcome = match cli.command {
        Command::Run(run) => run.execute(),
        Command::Demo(demo) => demo.execute(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            for line in failure.lines() {
                eprint_line(line);
            }
            ExitCode::from(failure.code())
        }
    }
}

/// A line on stderr; if that is closed, there is nobody to tell.
fn eprint_line(line: &str) {
    use std::io::Write as _;
    writeln!(std::io::stderr(), "tollgate: {line}").ok();
}

/// A line on stdout, where a command's result goes.
pub(crate) fn print_line(line: &str) {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{line}").ok();
}
