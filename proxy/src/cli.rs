//! The command line: what the operator types, and the exit code they get.
//!
//! 0 is fine, 1 the input was wrong, 2 the environment failed. An error is one line on
//! stderr: what, where, what to do.

mod admin;
mod check;
mod demo;
mod explain;
mod later;
mod logs;
mod purge;
mod report;
mod run;
mod schema;
mod scratch;
mod settings;
mod stats;
#[cfg(test)]
mod tests;
mod warm;
mod what_if;

pub(crate) use self::scratch::Scratch;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A caching, metering, prioritising reverse proxy for model servers and services.
#[derive(Debug, Parser)]
#[command(
    name = "tollgate",
    version,
    after_help = "Examples:\n  tollgate demo\n  tollgate run --upstream http://127.0.0.1:8000"
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
    Check(check::Check),
    Schema(schema::Schema),
    Explain(explain::Explain),
    Stats(stats::Stats),
    Purge(purge::Purge),
    Warm(warm::Warm),
    WhatIf(what_if::WhatIf),
    Report(Box<report::Report>),
    #[command(hide = true, disable_help_flag = true)]
    Scaler(later::Later),
}

impl Command {
    fn execute(self) -> Result<(), Failure> {
        match self {
            Self::Run(run) => run.execute(),
            Self::Demo(demo) => demo.execute(),
            Self::Check(check) => check.execute(),
            Self::Schema(schema) => schema.execute(),
            Self::Explain(explain) => explain.execute(),
            Self::Stats(stats) => stats.execute(),
            Self::Purge(purge) => purge.execute(),
            Self::Warm(warm) => warm.execute(),
            Self::WhatIf(what_if) => what_if.execute(),
            Self::Report(report) => report.execute(),
            Self::Scaler(later) => later.refuse("scaler"),
        }
    }
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
        Err(error) => return mistyped(&error),
    };
    match cli.command.execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            for line in failure.lines() {
                eprint_line(line);
            }
            ExitCode::from(failure.code())
        }
    }
}

/// Help was asked for, or what was typed is no command.
fn mistyped(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        error.print().ok();
    } else {
        eprint_line(&in_a_line(&error.to_string()));
    }
    ExitCode::from(u8::from(error.use_stderr()))
}

/// What clap says in paragraphs, in one line.
fn in_a_line(text: &str) -> String {
    let first = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let first = first.collect::<Vec<_>>().join(" ");
    let what = first.strip_prefix("error: ").unwrap_or(&first);
    format!("{what}; see --help")
}

/// A file that was named cannot be read: what was typed is wrong.
pub(crate) fn unreadable(what: &str, error: &std::io::Error) -> Failure {
    Failure::Input(vec![format!("{what}: {error}")])
}

/// A line on stderr; if that is closed, there is nobody to tell.
fn eprint_line(line: &str) {
    use std::io::Write as _;
    writeln!(std::io::stderr(), "tollgate: {line}").ok();
}

/// Advice on stderr: nothing is wrong yet.
pub(crate) fn warn_line(line: &str) {
    eprint_line(&format!("warning: {line}"));
}

/// Waits for what a command does on the network or beside it: little, so one thread.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Environment(format!("the runtime: {error}")))?;
    Ok(runtime.block_on(work))
}

/// A text that ends its own lines, on stdout.
pub(crate) fn write_text(text: &str) {
    use std::io::Write as _;
    std::io::stdout().write_all(text.as_bytes()).ok();
}

/// A line on stdout, where a command's result goes.
pub(crate) fn print_line(line: &str) {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{line}").ok();
}
