//! The task that keeps the way to PostgreSQL: connects, makes its tables, catches up, listens,
//! probes, and starts again.
//!
//! ```text
//!   away ── connect; the keeper also: read the table, push our purges ──▶ up
//!   up ── a read took too long (the gate is shut) ── every connection answers ──▶ up
//!   up ── a connection breaks, a probe fails, the server turned standby ──▶ away
//! ```
//!
//! It is the only one of this instance that writes purges and versions and takes them in, so that
//! their order is its order.
//!
//! **Invariant:** the tier of a keeper is up only if every purge up to a number of this epoch was
//! heard.

use super::{
    Store,
    connect::{SessionError, connect, make_tables, within},
    outages::Outages,
    reads::{Lines, Reader, stamp},
    sql::{self, Message, TABLE_ROWS_MAX},
    sweep::Sweeper,
};
use crate::{
    clock::unix_ms,
    generations::{FleetStamp, FleetTable, Heard, SUBJECTS_MAX, Subject},
    outer::new_epoch,
    versions::{ModelId, News},
};
use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{self, Interval},
};
use tokio_postgres::{Client, Notification, Row, types::ToSql};
use tokio_util::sync::CancellationToken;

/// Messages not yet looked at; one lost beyond that is noticed and the table read again.
const MESSAGES_MAX: usize = 1024;

/// Of too many purges so many are forgotten: a quarter.
const FORGOTTEN: i64 = 16_384;

/// One set of connections, from connecting to the first that breaks.
struct Session<'a> {
    store: &'a Arc<Store>,
    lines: Arc<Lines>,
    /// For purges, versions and what is said to everybody.
    home: Client,
    /// Each connection's; one that ends is the end of all.
    drivers: JoinSet<()>,
    messages: mpsc::Receiver<Message>,
    /// A message found the channel full.
    missed: Arc<AtomicBool>,
    sweeper: Sweeper,
    /// Every purge up to here was heard.
    heard: Option<FleetStamp>,
}

/// Keeps the way until `over`.
pub(super) async fn keep(store: Arc<Store>, over: CancellationToken) {
    let mut outages = Outages::default();
    loop {
        let ended = async {
            let error = match Box::pin(live(&store)).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            store.gate.shut();
            let slower = outages.failed(store.gate.sessions(), &error, |cause| {
                tracing::warn!(%error, cause, "the postgresql tier is skipped until it is back");
            });
            time::sleep(store.limits.reconnect_interval * slower).await;
        };
        tokio::select! {
            () = over.cancelled() => return,
            () = ended => {}
        }
    }
}

async fn live(store: &Arc<Store>) -> Result<Infallible, SessionError> {
    let mut session = Session::connect(store).await?;
    if store.keeps() {
        session.catch_up().await?;
    }
    store.gate.open(session.lines.clone());
    tracing::info!("postgresql is up");
    session.serve().await
}

impl<'a> Session<'a> {
    async fn connect(store: &'a Arc<Store>) -> Result<Self, SessionError> {
        let (said, messages) = mpsc::channel(MESSAGES_MAX);
        let missed = Arc::<AtomicBool>::default();
        let mut drivers = JoinSet::new();
        let mut one = async || {
            let (said, missed) = (said.clone(), missed.clone());
            let hear = move |note: Notification| {
                let message = sql::read_message(note.payload());
                if message.is_some_and(|message| said.try_send(message).is_err()) {
                    missed.store(true, Ordering::Relaxed);
                }
            };
            connect(store, &mut drivers, hear).await
        };
        let home = one().await?;
        let bulk = one().await?;
        let mut clients = Vec::with_capacity(store.connections);
        for _ in 0..store.connections {
            clients.push(one().await?);
        }
        make_tables(store, &home).await?;
        if store.keeps() {
            // Before anything is read: what is said from now on is heard.
            let listen = format!("LISTEN {}", store.channel);
            within(store.limits.probe_timeout, home.batch_execute(&listen)).await?;
        }
        let read = if store.keeps() { &store.sql.read } else { &store.sql.read_alone };
        let mut quick = Vec::with_capacity(clients.len());
        for client in clients {
            let read = within(store.limits.probe_timeout, client.prepare(read)).await?;
            quick.push(Reader { client, read });
        }
        let write = within(store.limits.probe_timeout, bulk.prepare(&store.sql.write)).await?;
        let turns = AtomicUsize::new(0);
        let lines = Arc::new(Lines { quick: quick.into(), turns, bulk, write });
        let sweeper = Sweeper::new(store.clone());
        Ok(Self { store, lines, home, drivers, messages, missed, sweeper, heard: None })
    }

    async fn serve(&mut self) -> Result<Infallible, SessionError> {
        let every = |interval| {
            let mut ticks = time::interval(interval);
            ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
            ticks
        };
        let mut probes = every(self.store.limits.probe_interval);
        let mut sweeps = every(self.store.sweep_interval);
        loop {
            let complete = self.step(&mut probes, &mut sweeps).await?;
            let missed = self.missed.swap(false, Ordering::Relaxed);
            if self.store.keeps() && (missed || !complete) {
                self.catch_up().await?;
            }
        }
    }

    /// Does the next thing that is to be done. Whether every purge up to the last was heard, as far
    /// as that has shown.
    async fn step(
        &mut self,
        probes: &mut Interval,
        sweeps: &mut Interval,
    ) -> Result<bool, SessionError> {
        let store = self.store;
        let keeps = store.keeps();
        tokio::select! {
            message = self.messages.recv() => match message {
                Some(message) => self.hear(message).await,
                None => Err(SessionError::Lost),
            },
            _ = self.drivers.join_next() => Err(SessionError::Lost),
            () = store.refused.notified() => Err(SessionError::Refused),
            _ = probes.tick() => self.probe().await,
            () = store.gate.tripped() => self.open_again().await,
            () = store.unnumbered.came(), if keeps => self.push_purges().await,
            () = store.behind.notified(), if keeps => self.hear_newer().await,
            () = store.versions.news_came(), if keeps => self.push_news().await,
            _ = sweeps.tick() => self.sweep().await,
        }
    }

    /// After a read that failed or took too long. Everything was heard then.
    async fn open_again(&mut self) -> Result<bool, SessionError> {
        if !(self.probe().await? && self.push_purges().await?) {
            self.catch_up().await?;
        }
        self.store.gate.open(self.lines.clone());
        Ok(true)
    }

    /// Takes note of a message. Whether nothing before it is missing.
    async fn hear(&mut self, message: Message) -> Result<bool, SessionError> {
        match message {
            Message::Purged(at, subject) => Ok(self.note(at, subject)),
            Message::Version(model) => {
                self.learn(Some(model)).await?;
                Ok(true)
            }
        }
    }

    fn note(&mut self, at: FleetStamp, subject: Subject) -> bool {
        match self.store.values.generations.hear(at, subject) {
            Heard::Applied => {
                self.heard = Some(at);
                self.store.heard.send_replace(());
                true
            }
            Heard::Known => true,
            Heard::Gap | Heard::OtherEpoch => false,
        }
    }

    fn adopt(&mut self, table: &FleetTable) {
        self.store.values.generations.adopt(table);
        self.heard = Some(table.at);
        self.store.heard.send_replace(());
    }

    /// Asks on every connection for look-ups. Whether no purge of others was missed.
    async fn probe(&mut self) -> Result<bool, SessionError> {
        let mut complete = true;
        for reader in &self.lines.quick {
            // No entry has this key. Late or not, it is what a look-up would meet.
            let asked = self.store.ask(reader, &[]);
            let answer = within(self.store.limits.probe_timeout, asked).await?;
            let generations = &self.store.values.generations;
            complete = answer
                .at
                .is_some_and(|at| generations.is_complete(at) && !generations.is_behind(at));
        }
        within(self.store.limits.probe_timeout, self.home.batch_execute("")).await?;
        Ok(complete || !self.store.keeps())
    }

    /// Pushes what the others have not heard, and reads all that we have not.
    async fn catch_up(&mut self) -> Result<(), SessionError> {
        if !self.store.keeps() {
            return Ok(());
        }
        self.begin_epoch(None).await?;
        // Before our own purges raise its sequence: was it restored from an older state, or did a
        // standby take over that had not heard of all?
        let mut table = self.table(0).await?;
        if self.store.values.generations.has_lost(&table) {
            tracing::warn!("postgresql has forgotten purges it had numbered; a new epoch begins");
            self.begin_epoch(Some(table.at.epoch)).await?;
            table = self.table(0).await?;
        }
        self.adopt(&table);
        if !self.push_purges().await? {
            let table = self.table(0).await?;
            self.adopt(&table);
        }
        self.push_news().await?;
        self.learn(None).await
    }

    /// Reads what came since the last purge that was heard. Everything was, then.
    async fn hear_newer(&mut self) -> Result<bool, SessionError> {
        let Some(heard) = self.heard else { return Ok(false) };
        match self.rows_after(heard.sequence).await? {
            Some(newer) if newer.at.epoch == heard.epoch && newer.at.sequence >= heard.sequence => {
                self.adopt(&newer);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    async fn begin_epoch(&self, lost: Option<u64>) -> Result<(), SessionError> {
        let (epoch, lost) = (new_epoch().cast_signed(), lost.map(u64::cast_signed));
        let all = Subject::ALL.as_bytes().as_slice();
        let store = self.store;
        self.rows(&store.sql.begin_epoch, &[&store.namespace, &epoch, &lost, &store.channel, &all])
            .await?;
        Ok(())
    }

    /// The fleet's purges after a number.
    async fn table(&self, after: u64) -> Result<FleetTable, SessionError> {
        self.rows_after(after).await?.ok_or(SessionError::ForeignTable)
    }

    async fn rows_after(&self, after: u64) -> Result<Option<FleetTable>, SessionError> {
        let most = i64::try_from(TABLE_ROWS_MAX).unwrap_or(i64::MAX);
        let parameters: [&(dyn ToSql + Sync); 3] =
            [&self.store.namespace, &after.cast_signed(), &most];
        let rows = self.rows(&self.store.sql.table, &parameters).await?;
        if rows.len() >= TABLE_ROWS_MAX {
            return Err(SessionError::ForeignTable);
        }
        let Some(first) = rows.first() else { return Ok(None) };
        let at = stamp(first.try_get(0)?, first.try_get(1)?);
        let mut purges = Vec::with_capacity(rows.len());
        for row in &rows {
            let (subject, number): (Option<&[u8]>, Option<i64>) =
                (row.try_get(2)?, row.try_get(3)?);
            // One row without a subject: there are none.
            if let Some((subject, number)) = subject.zip(number) {
                purges.push((read_subject(subject)?, number.cast_unsigned()));
            }
        }
        Ok((at.epoch != 0).then_some(FleetTable { at, purges }))
    }

    /// Has our own purges numbered. Whether none of others was missed meanwhile.
    async fn push_purges(&mut self) -> Result<bool, SessionError> {
        let store = self.store;
        let mut complete = true;
        loop {
            let waiting = store.unnumbered.all();
            if waiting.is_empty() || !store.keeps() {
                return Ok(complete);
            }
            complete &= self.push(distinct(&waiting)).await?;
            for subject in waiting {
                store.unnumbered.numbered(subject);
            }
            let rows = self.rows(&store.sql.subjects, &[&store.namespace]).await?;
            let noted: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
            if usize::try_from(noted).unwrap_or(usize::MAX) > SUBJECTS_MAX {
                let all = Subject::ALL.as_bytes().as_slice();
                self.rows(&store.sql.forget, &[&store.namespace, &all, &FORGOTTEN]).await?;
            }
        }
    }

    async fn push(&mut self, subjects: Vec<Subject>) -> Result<bool, SessionError> {
        let store = self.store;
        let names: Vec<&[u8]> = subjects.iter().map(|one| one.as_bytes().as_slice()).collect();
        let all = Subject::ALL.as_bytes().as_slice();
        let rows =
            self.rows(&store.sql.purge, &[&store.namespace, &names, &store.channel, &all]).await?;
        if rows.is_empty() {
            // The epoch is gone, and with it what was noted: the next catching up begins another.
            return Err(SessionError::ForeignTable);
        }
        let mut complete = true;
        for row in &rows {
            let at = stamp(row.try_get(0)?, row.try_get(1)?);
            complete &= self.note(at, read_subject(row.try_get(2)?)?);
        }
        Ok(complete)
    }

    /// Tells the fleet of the versions that this instance saw first. No purge was missed by that.
    async fn push_news(&mut self) -> Result<bool, SessionError> {
        let mut news = self.store.versions.take_news();
        while let Some(first) = news.pop_front() {
            // What was not said is found missing when the tables are compared.
            self.push_version(&first).await?;
            self.learn(Some(first.model)).await?;
        }
        Ok(true)
    }

    async fn push_version(&self, news: &News) -> Result<(), SessionError> {
        let store = self.store;
        let (model, version) = (news.model.0.as_slice(), &*news.version);
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&store.namespace, &model, &version, &news.again, &store.channel];
        self.rows(&store.sql.observe, &parameters).await?;
        self.rows(&store.sql.forget_models, &[&store.namespace]).await?;
        Ok(())
    }

    /// Takes over the fleet's versions: of one model, or of all, telling it those that it lacks.
    async fn learn(&self, model: Option<ModelId>) -> Result<(), SessionError> {
        let store = self.store;
        let name = model.as_ref().map(|model| model.0.as_slice());
        let rows = self.rows(&store.sql.versions, &[&store.namespace, &name]).await?;
        let mut fleet = HashMap::new();
        for row in &rows {
            let (model, seen): (&[u8], Vec<&str>) = (row.try_get(0)?, row.try_get(1)?);
            let model = ModelId(model.try_into().map_err(|_| SessionError::ForeignTable)?);
            fleet.insert(model, seen.into_iter().map(Arc::from).collect::<Vec<Arc<str>>>());
        }
        if model.is_none() {
            for news in store.versions.missing_from(&fleet) {
                store.versions.tell(news);
            }
        }
        for (model, list) in fleet {
            if let Some(news) = store.versions.learn(model, list, unix_ms()) {
                store.versions.tell(news);
            }
        }
        Ok(())
    }

    /// Has what is past its time deleted, if no other instance does that. No purge was missed by
    /// that.
    async fn sweep(&mut self) -> Result<bool, SessionError> {
        if !self.sweeper.is_ours() {
            let rows = self.rows(&self.store.sql.try_sweep, &[]).await?;
            let ours = rows.first().map_or(Ok(false), |row| row.try_get(0))?;
            self.sweeper.is_given(ours);
        }
        self.sweeper.sweep();
        Ok(true)
    }

    async fn rows(
        &self,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, SessionError> {
        within(self.store.limits.probe_timeout, self.home.query(statement, parameters)).await
    }
}

/// No subject twice, in their order: what a pattern says goes before its purge. Everything alone,
/// as it stands for all.
fn distinct(subjects: &[Subject]) -> Vec<Subject> {
    if subjects.contains(&Subject::ALL) {
        return vec![Subject::ALL];
    }
    let mut seen = HashSet::new();
    subjects.iter().copied().filter(|subject| seen.insert(*subject)).collect()
}

fn read_subject(bytes: &[u8]) -> Result<Subject, SessionError> {
    Ok(Subject::from_bytes(bytes.try_into().map_err(|_| SessionError::ForeignTable)?))
}
