//! One memcached and the task that keeps the way to it: connects, catches up, probes, and starts
//! again.
//!
//! ```text
//!   away ── connect; the keeper's home also: push our purges, read the table ──▶ up
//!   up ── a probe fails, a connection breaks ──▶ away
//!   up ── a read took too long (the gate is shut) ── a probe answers ──▶ up
//! ```
//!
//! The task of the server where the table of purges lives is the only one of this instance that
//! changes or reads it.
//!
//! **Invariant:** that server is used only while the table was read in full since it was reached.

use super::{
    Cluster,
    line::{self, Address, Connection, Line, LineError},
    table,
    wire::{self, Answer, If},
};
use crate::{
    generations::FleetTable,
    outer::{gate::Gate, new_epoch},
};
use std::{
    convert::Infallible,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time;
use tokio_util::sync::CancellationToken;

/// What an item is larger than its value by: header, key and the ends, with room to spare.
const ITEM_OVERHEAD: usize = 1024;

/// How often a change is tried anew because another instance was faster. Each lost try is a change
/// by somebody, so this many at one time are purging.
const CHANGE_TRIES_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Server {
    address: Address,
    pub(super) gate: Gate<Arc<Lines>>,
}

/// Two connections for what must be quick, one for values on their way out: a connection answers in
/// order, and a megabyte in front of a small question is ten milliseconds.
#[derive(Debug)]
pub(super) struct Lines {
    quick: [Line; 2],
    turns: AtomicUsize,
    pub(super) bulk: Line,
    /// Larger ones the server refuses.
    pub(super) value_bytes_max: usize,
}

#[derive(Debug, thiserror::Error)]
enum ServerError {
    #[error(transparent)]
    Line(#[from] LineError),
    #[error("memcached did not answer within {0:?}")]
    Timeout(Duration),
    #[error("memcached does not keep the table of purges: {0}")]
    NotKept(String),
}

/// One set of connections, from connecting to the first that breaks.
struct Session<'a> {
    cluster: &'a Cluster,
    server: &'a Server,
    lines: Arc<Lines>,
    keeps: bool,
    /// The number of the table's value that was adopted last.
    seen: u64,
}

impl Server {
    pub(super) fn new(address: Address) -> Self {
        Self { address, gate: Gate::default() }
    }
}

impl Lines {
    /// The two take turns.
    pub(super) fn quick(&self) -> &Line {
        let [even, odd] = &self.quick;
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        if turn.is_multiple_of(2) { even } else { odd }
    }
}

/// Keeps the way to the server at `place` until `over`.
pub(super) async fn keep(
    cluster: Arc<Cluster>,
    place: usize,
    keeps: bool,
    over: CancellationToken,
) {
    let Some(server) = cluster.servers.get(place) else { return };
    // The first failure of each outage is told, the attempts after it are not.
    let mut told_of = None;
    loop {
        let ended = async {
            let error = match Box::pin(live(&cluster, server, keeps)).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            server.gate.shut();
            cluster.tell_state();
            if told_of.replace(server.gate.sessions()) != Some(server.gate.sessions()) {
                let cause = error.source().map(ToString::to_string);
                let address = &server.address;
                tracing::warn!(%error, cause, %address, "a memcached is skipped until it is back");
            }
            time::sleep(cluster.limits.reconnect_interval).await;
        };
        tokio::select! {
            () = over.cancelled() => return,
            () = ended => {}
        }
    }
}

async fn live(cluster: &Cluster, server: &Server, keeps: bool) -> Result<Infallible, ServerError> {
    let limits = &cluster.limits;
    let one = async || {
        let connecting = line::connect(&server.address, limits.value_bytes_max);
        let connected = time::timeout(limits.probe_timeout, connecting).await;
        Ok::<_, ServerError>(connected.map_err(|_| ServerError::Timeout(limits.probe_timeout))??)
    };
    let ((even, runs_even), (odd, runs_odd), (bulk, runs_bulk)) =
        (one().await?, one().await?, one().await?);
    let value_bytes_max = runs_bulk.item_bytes_max.saturating_sub(ITEM_OVERHEAD);
    let (quick, turns) = ([even, odd], AtomicUsize::new(0));
    let lines = Arc::new(Lines { quick, turns, bulk, value_bytes_max });
    let mut session = Session { cluster, server, lines, keeps, seen: 0 };
    let broken = async |runs: Connection| Err::<Infallible, ServerError>(runs.run().await.into());
    tokio::select! {
        ended = session.run() => ended,
        broken = broken(runs_even) => broken,
        broken = broken(runs_odd) => broken,
        broken = broken(runs_bulk) => broken,
    }
}

impl Session<'_> {
    async fn run(&mut self) -> Result<Infallible, ServerError> {
        if self.keeps {
            self.catch_up().await?;
        }
        self.open();
        tracing::info!(address = %self.server.address, "a memcached is up");
        let mut probes = time::interval(self.cluster.limits.probe_interval);
        probes.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = probes.tick() => self.probe().await?,
                () = self.server.gate.tripped() => {
                    self.probe().await?;
                    self.open();
                }
                () = self.cluster.unnumbered.came(), if self.keeps => self.push().await?,
            }
        }
    }

    fn open(&self) {
        self.server.gate.open(self.lines.clone());
        self.cluster.tell_state();
    }

    /// Whether the server answers, and whether the table is still the one that we know.
    async fn probe(&mut self) -> Result<(), ServerError> {
        if !self.keeps {
            let answer = self.ask(wire::noop()).await?;
            return if answer == Answer::Alive { Ok(()) } else { Err(not_kept(&answer)) };
        }
        let answer = self.ask(wire::number(&self.cluster.names.table)).await?;
        if answer == (Answer::Done { cas: self.seen }) {
            return Ok(());
        }
        if matches!(answer, Answer::Done { .. } | Answer::Missing) {
            return self.catch_up().await;
        }
        Err(not_kept(&answer))
    }

    /// Pushes what the others have not heard, and reads what we have not.
    async fn catch_up(&mut self) -> Result<(), ServerError> {
        let generations = &self.cluster.values.generations;
        let (read, number) = self.read().await?;
        let lost = match &read {
            None => true,
            // Before our own purges raise its sequence: was it brought back from an older state?
            Some(table) => generations.is_behind(table.at),
        };
        if lost {
            // Epoch and purges went together: whatever was purged with the old one stays void.
            self.write(&FleetTable::new(new_epoch()), number).await?;
        }
        self.push().await?;
        let (Some(table), Some(number)) = self.read().await? else {
            return Err(ServerError::NotKept("it was gone at once".to_owned()));
        };
        self.adopt(&table, number);
        Ok(())
    }

    fn adopt(&mut self, table: &FleetTable, number: u64) {
        self.cluster.values.generations.adopt(table);
        self.seen = number;
    }

    /// Has our own purges numbered.
    async fn push(&mut self) -> Result<(), ServerError> {
        for _ in 0..CHANGE_TRIES_MAX {
            let subjects = self.cluster.unnumbered.all();
            if subjects.is_empty() {
                return Ok(());
            }
            let (read, number) = self.read().await?;
            let is_behind = |at| self.cluster.values.generations.is_behind(at);
            let table = read.filter(|table| !is_behind(table.at));
            let table = table.unwrap_or_else(|| FleetTable::new(new_epoch()));
            let changed = table::with_purges(&table, &subjects);
            let Some(number) = self.write(&changed, number).await? else { continue };
            self.adopt(&changed, number);
            for subject in subjects {
                self.cluster.unnumbered.numbered(subject);
            }
        }
        Ok(())
    }

    /// The table, if there is one that can be read, and the number of the value that was there.
    async fn read(&self) -> Result<(Option<FleetTable>, Option<u64>), ServerError> {
        let names = &self.cluster.names;
        let answer = self.ask(wire::get_with_number(&names.table)).await?;
        if answer == Answer::Missing {
            return Ok((None, None));
        }
        let Answer::Value { bytes, cas } = answer else { return Err(not_kept(&answer)) };
        if cas == 0 {
            return Err(ServerError::NotKept("it was started with -C, without numbers".to_owned()));
        }
        let table = table::read(&names.namespace, &bytes);
        if table.is_none() {
            tracing::warn!("the table of purges in memcached is damaged; a new one begins");
        }
        Ok((table, Some(cas)))
    }

    /// Writes the table where the value with `number`, or none, is. Its number; `None` if another
    /// instance was faster.
    async fn write(
        &self,
        table: &FleetTable,
        number: Option<u64>,
    ) -> Result<Option<u64>, ServerError> {
        let names = &self.cluster.names;
        let value = table::write(&names.namespace, table);
        let when = number.map_or(If::Absent, If::Number);
        let answer = self.ask(wire::set_if(&names.table, &value, when)).await?;
        if answer == Answer::NotStored {
            return Ok(None);
        }
        let Answer::Done { cas } = answer else { return Err(not_kept(&answer)) };
        Ok(Some(cas))
    }

    async fn ask(&self, command: bytes::Bytes) -> Result<Answer, ServerError> {
        let timeout = self.cluster.limits.probe_timeout;
        match time::timeout(timeout, self.lines.quick().ask(command)).await {
            Ok(answer) => Ok(answer?),
            Err(_elapsed) => Err(ServerError::Timeout(timeout)),
        }
    }
}

fn not_kept(odd: &Answer) -> ServerError {
    ServerError::NotKept(match odd {
        Answer::Refused(why) => why.to_string(),
        Answer::Oversized => "a foreign value is in its place".to_owned(),
        Answer::Value { .. }
        | Answer::Done { .. }
        | Answer::Missing
        | Answer::NotStored
        | Answer::Alive => "an answer to another question".to_owned(),
    })
}
