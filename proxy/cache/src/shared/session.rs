//! The task that keeps the link: connects, catches up, listens, probes, and starts again.
//!
//! It is the only one that writes purges and versions, so that their order is its order, and the
//! only one that closes the breaker.
//!
//! **Invariant:** the tier is up only if every purge up to a number of this epoch was heard:
//! first our own pending ones are pushed, then the table is read, then the tier is used.

use super::{
    fleet::{self, Message},
    link::{Connections, Link},
};
use crate::{
    generations::{FleetStamp, Heard, Subject},
    versions::News,
};
use redis::{
    AsyncConnectionConfig, Cmd, FromRedisValue, PushInfo, PushKind, RedisError, Value,
    aio::{MultiplexedConnection, SendError},
};
use std::{
    collections::HashMap,
    convert::Infallible,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::mpsc, time};
use tokio_util::sync::CancellationToken;

/// Messages not yet looked at; a message lost beyond that is noticed and the table read again.
const MESSAGES_MAX: usize = 1024;
/// Commands in the crate's pipeline; its default of 50 makes bursts wait.
const PIPELINE_MAX: usize = 1024;

#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("redis cannot be used; see that it is up, is version 6 or newer and lets us in")]
    Redis(#[from] RedisError),
    #[error("redis did not answer within {0:?}")]
    Timeout(Duration),
    #[error("the connection to redis was lost")]
    Lost,
    #[error("the table of purges in redis is not tollgate's; give cache.namespace another name")]
    ForeignTable,
}

/// What the subscription's connection hands over.
#[derive(Debug)]
enum Push {
    Message(Vec<u8>),
    Lost,
}

/// One set of connections, from connecting to the first that breaks.
struct Session<'a> {
    link: &'a Link,
    connections: Connections,
    pushes: mpsc::Receiver<Push>,
    /// A push found the channel full.
    missed: Arc<AtomicBool>,
    /// The subscription ends when this is dropped.
    _subscription: MultiplexedConnection,
}

/// Keeps `link` until `stop`.
pub(super) async fn keep(link: Arc<Link>, stop: CancellationToken) {
    // The first failure of each outage is told, the attempts after it are not.
    let mut told_of = None;
    loop {
        let error = tokio::select! {
            () = stop.cancelled() => return,
            ended = live(&link) => match ended {
                Ok(never) => match never {},
                Err(error) => error,
            },
        };
        link.close();
        if told_of.replace(link.sessions()) != Some(link.sessions()) {
            let cause = error.source().map(ToString::to_string);
            tracing::warn!(%error, cause, "the redis tier is skipped until redis is back");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = time::sleep(link.settings.reconnect_interval) => {}
        }
    }
}

async fn live(link: &Link) -> Result<Infallible, LinkError> {
    let mut session = Session::connect(link).await?;
    session.catch_up().await?;
    link.open(&mut session.connections);
    tracing::info!("redis is up");
    session.serve().await
}

impl<'a> Session<'a> {
    async fn connect(link: &'a Link) -> Result<Self, LinkError> {
        let (pushed, pushes) = mpsc::channel(MESSAGES_MAX);
        let missed = Arc::new(AtomicBool::new(false));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(link.settings.probe_timeout))
            .set_response_timeout(Some(link.settings.probe_timeout))
            .set_pipeline_buffer_size(PIPELINE_MAX);
        let push_missed = missed.clone();
        let subscription = config.clone().set_push_sender(move |push: PushInfo| {
            let push = read_push(push);
            if push.is_some_and(|push| pushed.try_send(push).is_err()) {
                push_missed.store(true, Ordering::Relaxed);
            }
            Ok::<(), SendError>(())
        });
        let at = link.site.find()?;
        let mut subscription =
            at.messages.get_multiplexed_async_connection_with_config(&subscription).await?;
        subscription.subscribe(&link.names.channel).await?;
        let one = || at.commands.get_multiplexed_async_connection_with_config(&config);
        let quick = [one().await?, one().await?];
        let connections = Connections { session: 0, quick, bulk: one().await? };
        Ok(Self { link, connections, pushes, missed, _subscription: subscription })
    }

    async fn serve(&mut self) -> Result<Infallible, LinkError> {
        let mut probes = time::interval(self.link.settings.probe_interval);
        probes.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            let complete = tokio::select! {
                push = self.pushes.recv() => match push {
                    Some(Push::Message(payload)) => self.hear(&payload),
                    Some(Push::Lost) | None => return Err(LinkError::Lost),
                },
                _ = probes.tick() => self.probe().await?,
                () = self.link.tripped() => {
                    if !(self.probe().await? && self.push_pending().await?) {
                        self.catch_up().await?;
                    }
                    self.link.open(&mut self.connections);
                    true
                }
                () = self.link.pending_came() => self.push_pending().await?,
                () = self.link.versions.news_came() => {
                    self.push_news().await?;
                    true
                }
            };
            if self.missed.swap(false, Ordering::Relaxed) || !complete {
                self.catch_up().await?;
            }
        }
    }

    /// Takes note of a message. Whether nothing before it is missing.
    fn hear(&self, payload: &[u8]) -> bool {
        match fleet::read_message(payload) {
            Some(Message::Purged(at, subject)) => self.note(at, subject),
            Some(Message::Versions(model, list)) => {
                self.learn(model, list);
                true
            }
            None => true,
        }
    }

    fn note(&self, at: FleetStamp, subject: Subject) -> bool {
        match self.link.generations.hear(at, subject) {
            Heard::Applied | Heard::Known => true,
            Heard::Gap | Heard::OtherEpoch => false,
        }
    }

    fn learn(&self, model: crate::versions::ModelId, list: Vec<Arc<str>>) {
        if let Some(news) = self.link.versions.learn(model, list, unix_ms()) {
            self.link.versions.tell(news);
        }
    }

    /// Asks Redis where it is. Whether we are there too.
    async fn probe(&mut self) -> Result<bool, LinkError> {
        let at = self.place().await?;
        let generations = &self.link.generations;
        Ok(at.is_some_and(|at| generations.is_complete(at) && !generations.is_behind(at)))
    }

    /// Pushes what Redis has not heard, then reads what we have not.
    async fn catch_up(&mut self) -> Result<(), LinkError> {
        // Before our own purges raise its sequence: was it restored from an older state?
        let behind = self.place().await?.filter(|at| self.link.generations.is_behind(*at));
        if let Some(at) = behind {
            tracing::warn!("redis has forgotten purges it had numbered; a new epoch begins");
            self.read_table(Some(at.epoch)).await?;
        }
        self.push_pending().await?;
        self.read_table(None).await?;
        self.push_news().await?;

        let fields: Vec<(Vec<u8>, Vec<u8>)> =
            self.ask_much(&self.link.names.read_versions()).await?;
        let fleet: HashMap<_, _> = fleet::read_versions(&fields).into_iter().collect();
        for news in self.link.versions.missing_from(&fleet) {
            self.link.versions.tell(news);
        }
        for (model, list) in fleet {
            self.learn(model, list);
        }
        Ok(())
    }

    async fn place(&mut self) -> Result<Option<FleetStamp>, LinkError> {
        type Place = (Option<Vec<u8>>, Option<Vec<u8>>);
        let (epoch, sequence): Place = self.ask(&self.link.names.place()).await?;
        Ok(fleet::read_place(epoch.as_deref(), sequence.as_deref()))
    }

    async fn read_table(&mut self, lost: Option<u64>) -> Result<(), LinkError> {
        let fields: Vec<(Vec<u8>, Vec<u8>)> = self.ask_much(&self.link.names.read(lost)).await?;
        let table = fleet::read_table(&fields).ok_or(LinkError::ForeignTable)?;
        self.link.generations.adopt(&table);
        Ok(())
    }

    /// Has our own purges numbered, oldest first. Whether none of others was missed meanwhile.
    async fn push_pending(&mut self) -> Result<bool, LinkError> {
        let mut complete = true;
        while let Some(subject) = self.link.oldest_pending() {
            let command = self.link.names.purge(subject);
            let (epoch, sequence, meant): (Vec<u8>, u64, Vec<u8>) = self.ask(&command).await?;
            let epoch = fleet::epoch_of(&epoch).ok_or(LinkError::ForeignTable)?;
            // Redis may have made it a purge of everything, there being too many subjects.
            let meant = meant.try_into().map_err(|_| LinkError::ForeignTable)?;
            complete &= self.note(FleetStamp { epoch, sequence }, Subject::from_bytes(meant));
            self.link.numbered(subject);
        }
        Ok(complete)
    }

    async fn push_news(&mut self) -> Result<(), LinkError> {
        let mut news = self.link.versions.take_news();
        while let Some(first) = news.pop_front() {
            if let Err(error) = self.push_version(&first).await {
                // What was not said is found missing when the tables are compared.
                tracing::debug!(%error, "a model's version was not told to the fleet yet");
                return Err(error);
            }
        }
        Ok(())
    }

    async fn push_version(&mut self, news: &News) -> Result<(), LinkError> {
        let list: Vec<u8> = self.ask(&self.link.names.observe(news)).await?;
        if let Some(list) = fleet::read_list(&list) {
            // The answer contains it, so nothing is left to tell.
            self.link.versions.learn(news.model, list, unix_ms());
        }
        Ok(())
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, LinkError> {
        let [connection, _] = &self.connections.quick;
        self.ask_on(connection, command).await
    }

    /// For answers of megabytes: callers' reads must not stand behind them.
    async fn ask_much<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, LinkError> {
        self.ask_on(&self.connections.bulk, command).await
    }

    async fn ask_on<T: FromRedisValue>(
        &self,
        connection: &MultiplexedConnection,
        command: &Cmd,
    ) -> Result<T, LinkError> {
        let timeout = self.link.settings.probe_timeout;
        let mut connection = connection.clone();
        match time::timeout(timeout, command.query_async(&mut connection)).await {
            Ok(answer) => Ok(answer?),
            Err(_elapsed) => Err(LinkError::Timeout(timeout)),
        }
    }
}

fn read_push(push: PushInfo) -> Option<Push> {
    if push.kind == PushKind::Disconnection {
        return Some(Push::Lost);
    }
    if push.kind != PushKind::Message {
        return None;
    }
    match push.data.into_iter().nth(1) {
        Some(Value::BulkString(payload)) => Some(Push::Message(payload)),
        _ => None,
    }
}

/// Of messages from elsewhere; everything a caller waits for has its time as an argument.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
