//! `tollgate demo`: the whole of it in one process, on free ports, in a few seconds.
//!
//! A stand-in provider that answers four calls at once and fails loudly at a fifth, the
//! proxy before it as `run` starts it, and callers of all four classes who together ask
//! for more than the provider can do. What is shown at the end is read back from the
//! ledger and held against what the provider itself counted: they must agree.

mod load;
mod page;
mod stage;
mod tally;
#[cfg(test)]
mod tests;

use self::{
    load::Load,
    stage::Stage,
    tally::{Books, Tally},
};
use super::{Failure, logs, print_line};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tollgate_config::{LogFormat, LogLevel, Logs};

/// How long callers call: long enough for queues to build and empty, short enough to watch.
const LENGTH: Duration = Duration::from_secs(4);

/// See it work: a stand-in provider, the proxy and a little traffic, in one process
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tollgate demo\n  tollgate demo --exit")]
pub(super) struct Demo {
    /// Leave when the load has ended instead of staying up; 2 if the books disagree
    #[arg(long)]
    exit: bool,
}

impl Demo {
    pub(super) fn execute(self) -> Result<(), Failure> {
        logs::start(&Logs { format: LogFormat::Text, level: LogLevel::Error, access: false });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Environment(format!("the runtime: {error}")))?;
        let outcome = runtime.block_on(self.show());
        runtime.shutdown_timeout(Duration::from_millis(100));
        outcome
    }

    async fn show(self) -> Result<(), Failure> {
        let interrupted = interrupted()?;
        let stage = Stage::set().await?;
        self.play_on(stage, Load::default_for(LENGTH), interrupted, print_line).await
    }

    /// Plays the load, and stays up until `interrupted` or told over HTTP to go.
    async fn play_on(
        self,
        stage: Stage,
        load: Load,
        interrupted: impl Future<Output = ()>,
        tell: impl Fn(&str) + Copy,
    ) -> Result<(), Failure> {
        let drain_asked = stage.drain_asked();
        let over = async {
            tokio::select! {
                () = interrupted => {}
                () = drain_asked => {}
            }
        };
        let mut over = std::pin::pin!(over);
        tell(&page::opening(&stage, &load));
        let played = tokio::select! {
            played = play(&stage, load, tell) => played,
            () = &mut over => {
                stage.strike().await;
                return Ok(());
            }
        };
        let (tally, books) = match played {
            Ok(played) => played,
            Err(failure) => {
                stage.strike().await;
                return Err(failure);
            }
        };
        tell(&page::tables(&tally));
        tell(&page::audit(&books));
        if !self.exit {
            tell(&page::invitation(&stage));
            over.await;
        }
        stage.strike().await;
        books.verdict().map_err(Failure::Environment)
    }
}

/// Sends the load, telling how it goes, and reads back what it came to.
async fn play(stage: &Stage, load: Load, tell: impl Fn(&str)) -> Result<(Tally, Books), Failure> {
    let answered = load::send(stage, load, |progress| tell(&page::progress(&progress))).await;
    stage.settled().await?;
    let records = stage.records().await?;
    let tally = Tally::of(&records);
    let books = Books::of(&tally, &answered, &stage.provider());
    Ok((tally, books))
}

/// Ends at Ctrl-C or a SIGTERM.
fn interrupted() -> Result<impl Future<Output = ()>, Failure> {
    let environment = |error: std::io::Error| Failure::Environment(format!("signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(environment)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(environment)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
