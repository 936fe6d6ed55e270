//! The task that keeps the link: connects, catches up, listens, probes, and starts again.
//!
//! It is the only one that writes purges and versions, so that their order is its order, and the
//! only one that closes the breaker.
//!
//! **Invariant:** the tier is up only if every purge up to a number of this epoch was heard:
//! first our own pending ones are pushed, then the table is read, then the tier is used. Where
//! Redis answers and takes none ([`Link::takes_nothing`]), they stay in force here, as
//! [`crate::outer::unnumbered`] has it, and are pushed again with every probe.

use super::{
    finder::{FindError, Finder},
    fleet::{self, Message},
    link::Link,
    node::{self, Connections, Neighbours, Node, Nodes},
    sentinel,
    site::{Address, Clients, RedisMode},
};
use crate::{
    clock::unix_ms,
    generations::{FleetStamp, FleetTable, Heard, SUBJECTS_MAX, Subject},
    versions::News,
};
use redis::{
    Cmd, FromRedisValue, PushInfo, PushKind, RedisError, Value,
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
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

/// Messages not yet looked at; a message lost beyond that is noticed and the table read again.
const MESSAGES_MAX: usize = 1024;

/// Purges that Redis forgets in one step: a millisecond.
const FORGOTTEN_AT_ONCE: usize = 512;

#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("redis cannot be used; see that it is up, is version 6 or newer and lets us in")]
    Redis(#[from] RedisError),
    #[error(transparent)]
    Find(#[from] FindError),
    #[error("the server that redis' sentinels name says it is no master; it will be asked again")]
    NotMaster,
    #[error("another server is redis' master now, or holds the purges")]
    Moved,
    #[error("redis did not answer within {0:?}")]
    Timeout(Duration),
    #[error("the connection to redis was lost")]
    Lost,
    #[error("the table of purges in redis is not tollgate's; give cache.namespace another name")]
    ForeignTable,
}

/// What the subscription's connection hands over.
#[derive(Debug)]
pub(super) enum Push {
    Message(Vec<u8>),
    Lost,
}

/// One set of connections, from connecting to the first that breaks.
struct Session<'a> {
    link: &'a Arc<Link>,
    finder: Finder<'a>,
    /// Home's, where a sentinel or a cluster named it.
    address: Option<Address>,
    home: Arc<Node>,
    nodes: Arc<Nodes>,
    neighbours: Neighbours,
    connections: Connections,
    pushes: mpsc::Receiver<Push>,
    /// A push found the channel full.
    missed: Arc<AtomicBool>,
    /// That no room can be made.
    told_of_room: AtomicBool,
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

async fn live(link: &Arc<Link>) -> Result<Infallible, LinkError> {
    let mut session = Session::connect(link).await?;
    session.catch_up().await?;
    link.open(&session.nodes, &session.connections);
    tracing::info!("redis is up");
    session.serve().await
}

impl<'a> Session<'a> {
    async fn connect(link: &'a Arc<Link>) -> Result<Self, LinkError> {
        let mut finder = Finder::new(link);
        let found = finder.find().await?;
        let (pushed, pushes) = mpsc::channel(MESSAGES_MAX);
        let missed = Arc::new(AtomicBool::new(false));
        let config = node::config(link);
        let push_missed = missed.clone();
        let subscription = config.clone().set_push_sender(move |push: PushInfo| {
            let push = read_push(push);
            if push.is_some_and(|push| pushed.try_send(push).is_err()) {
                push_missed.store(true, Ordering::Relaxed);
            }
            Ok::<(), SendError>(())
        });
        let at = Clients::of(&found.home)?;
        // Of all nodes home: it is the one that says what is said, and where it ends we end.
        let mut subscription =
            at.messages.get_multiplexed_async_connection_with_config(&subscription).await?;
        subscription.subscribe(&link.names.channel).await?;
        let connections = Connections::open(&at, &config).await?;
        let (home, mut neighbours) = (Arc::<Node>::default(), Neighbours::default());
        let nodes = match (found.map, &found.address) {
            (Some(map), Some(address)) => {
                Nodes::of_cluster(map, home.clone(), address, &mut neighbours, link)
            }
            _ => Nodes::alone(home.clone()),
        };
        let session = Self {
            link,
            finder,
            address: found.address,
            home,
            nodes: Arc::new(nodes),
            neighbours,
            connections,
            pushes,
            missed,
            told_of_room: AtomicBool::new(false),
            _subscription: subscription,
        };
        session.see_that_it_is_master().await?;
        let _some_away = time::timeout(link.settings.probe_timeout, session.nodes.reached()).await;
        Ok(session)
    }

    /// A replica would answer, too, with what it has, and refuse what is written.
    async fn see_that_it_is_master(&self) -> Result<(), LinkError> {
        if !matches!(self.link.site.mode, RedisMode::Sentinel(_)) {
            return Ok(());
        }
        let role: Value = self.ask(&redis::cmd("ROLE")).await?;
        if sentinel::says_master(&role) { Ok(()) } else { Err(LinkError::NotMaster) }
    }

    /// Asks again who is where. An error if home is another.
    async fn look_around(&mut self) -> Result<(), LinkError> {
        let found = match self.finder.find().await {
            Ok(found) => found,
            // Nobody can say; what there is goes on for as long as it answers.
            Err(error) => {
                tracing::debug!(%error, "redis' servers are where they were, as far as is known");
                return Ok(());
            }
        };
        if found.address != self.address {
            return Err(LinkError::Moved);
        }
        if let (Some(map), Some(address)) = (found.map, &found.address)
            && !self.nodes.has_map(Some(&map))
        {
            let home = self.home.clone();
            let nodes = Nodes::of_cluster(map, home, address, &mut self.neighbours, self.link);
            self.nodes = Arc::new(nodes);
            self.link.turn_to(&self.nodes);
        }
        Ok(())
    }

    async fn serve(&mut self) -> Result<Infallible, LinkError> {
        let mut probes = time::interval(self.link.settings.probe_interval);
        probes.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        // A storm of doubts is one look.
        let (mut doubted, mut next_look) = (false, Instant::now());
        loop {
            let complete = tokio::select! {
                push = self.pushes.recv() => match push {
                    Some(Push::Message(payload)) => self.hear(&payload),
                    Some(Push::Lost) | None => return Err(LinkError::Lost),
                },
                _ = probes.tick() => self.probe().await? && self.push_again().await?,
                () = self.home.tripped() => self.open_again().await?,
                () = self.link.map_doubted(), if !doubted => {
                    doubted = true;
                    true
                }
                () = time::sleep_until(next_look), if doubted => {
                    self.look_around().await?;
                    doubted = false;
                    next_look = Instant::now() + self.link.settings.reconnect_interval;
                    true
                }
                () = self.link.unnumbered.came() => self.push_pending().await?,
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

    /// After a read that failed or took too long. Everything was heard then.
    async fn open_again(&mut self) -> Result<bool, LinkError> {
        if !(self.probe().await? && self.push_pending().await?) {
            self.catch_up().await?;
        }
        self.link.open(&self.nodes, &self.connections);
        Ok(true)
    }

    /// Takes note of a message. Whether nothing before it is missing.
    fn hear(&self, payload: &[u8]) -> bool {
        match fleet::read_message(payload) {
            Some(Message::Purged(at, subject)) => self.note(at, subject),
            Some(Message::Versions(model, list)) => {
                self.learn(model, list);
                true
            }
            Some(Message::Lease(key, news)) => {
                self.link.waiters.tell(key, &news);
                true
            }
            None => true,
        }
    }

    fn note(&self, at: FleetStamp, subject: Subject) -> bool {
        match self.link.values.generations.hear(at, subject) {
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
        if matches!(self.link.site.mode, RedisMode::Sentinel(_)) {
            // A master that was cut off from its sentinels does not know that it is none any more.
            self.see_that_it_is_master().await?;
            self.look_around().await?;
        }
        let at = self.place().await?;
        let generations = &self.link.values.generations;
        Ok(at.is_some_and(|at| generations.is_complete(at) && !generations.is_behind(at)))
    }

    /// Pushes what Redis has not heard, then reads what we have not.
    async fn catch_up(&mut self) -> Result<(), LinkError> {
        // Before our own purges raise its sequence: was it restored from an older state, or did a
        // replica take over that had not heard of all?
        let mut table = self.table(None).await?;
        if self.link.values.generations.has_lost(&table) {
            tracing::warn!("redis has forgotten purges it had numbered; a new epoch begins");
            table = self.table(Some(table.at.epoch)).await?;
        }
        self.link.values.generations.adopt(&table);
        if !self.push_pending().await? {
            self.link.values.generations.adopt(&self.table(None).await?);
        }
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

    /// The fleet's purges. `lost` names an epoch that is to end.
    async fn table(&self, lost: Option<u64>) -> Result<FleetTable, LinkError> {
        let fields: Vec<(Vec<u8>, Vec<u8>)> = self.ask_much(&self.link.names.read(lost)).await?;
        fleet::read_table(&fields).ok_or(LinkError::ForeignTable)
    }

    /// Pushes what Redis refused before, if anything. Whether no purge of others was missed.
    async fn push_again(&mut self) -> Result<bool, LinkError> {
        let complete = self.push_pending().await?;
        self.push_news().await?;
        Ok(complete)
    }

    /// Has our own purges numbered, oldest first, until Redis takes none. Whether none of others was
    /// missed meanwhile.
    async fn push_pending(&mut self) -> Result<bool, LinkError> {
        let mut complete = true;
        while let Some(subject) = self.link.unnumbered.oldest() {
            let command = self.link.names.purge(subject);
            let answer = self.ask::<(Vec<u8>, u64, Vec<u8>, usize)>(&command).await;
            let (epoch, sequence, meant, count) = match answer {
                Ok(numbered) => numbered,
                Err(LinkError::Redis(error)) if self.link.takes_nothing(&error) => break,
                Err(error) => return Err(error),
            };
            let epoch = fleet::epoch_of(&epoch).ok_or(LinkError::ForeignTable)?;
            // Redis may have made it a purge of everything, there being too many subjects.
            let meant = meant.try_into().map_err(|_| LinkError::ForeignTable)?;
            complete &= self.note(FleetStamp { epoch, sequence }, Subject::from_bytes(meant));
            self.link.unnumbered.numbered(subject);
            if count > SUBJECTS_MAX {
                self.make_room().await?;
            }
        }
        Ok(complete)
    }

    /// Has Redis forget the oldest purges, a few at a time: nobody else is answered meanwhile.
    async fn make_room(&self) -> Result<(), LinkError> {
        let table = self.table(None).await?;
        let Some((floor, oldest)) = table.oldest() else { return Ok(()) };
        for some in oldest.chunks(FORGOTTEN_AT_ONCE) {
            let command = self.link.names.forget(table.at.epoch, floor, some);
            match self.ask::<i64>(&command).await {
                Ok(1) => {}
                // Another epoch: there is room.
                Ok(_) => return Ok(()),
                Err(LinkError::Redis(error)) if !error.is_unrecoverable_error() => {
                    self.no_room(&error);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// It is no reason to lose the tier: the table has its bound all the same.
    fn no_room(&self, error: &RedisError) {
        if !self.link.takes_nothing(error) && !self.told_of_room.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %error,
                "redis' table of purges is full and none can be forgotten; when there are twice as \
                 many everything is void; does its user lack +hdel?"
            );
        }
    }

    async fn push_news(&mut self) -> Result<(), LinkError> {
        let mut news = self.link.versions.take_news();
        while let Some(first) = news.pop_front() {
            if let Err(error) = self.push_version(&first).await {
                if let LinkError::Redis(error) = &error
                    && self.link.takes_nothing(error)
                {
                    news.push_front(first);
                    self.link.versions.keep_news(news);
                    return Ok(());
                }
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

pub(super) fn read_push(push: PushInfo) -> Option<Push> {
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
