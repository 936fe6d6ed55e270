//! What others say through the same Redis: messages of a channel, or entries of a stream.
//!
//! Each feed has connections of its own: a read that waits for the next entry would hold up
//! whatever stands behind it. It finds its server as the tier does, and comes back by itself.
//!
//! A stream is caught up with after an outage and after a restart. How far its entries were acted
//! upon stands beside the fleet's purges (`tollgate:{NS}:events`, a field for each feed): what one
//! instance has done is done for all, so whoever starts goes on from there. Until then entries may
//! come twice. Where the entry that stands there is gone, the stream was cut, and entries behind it
//! may be gone as well. Where the stream ends before it, a failover took its end or it is another of
//! that name: what it had is not read again, only said to be lost.
//!
//! **Invariant:** a place is kept only after the caller is done with every entry up to it.

use super::{
    finder::{FindError, Finder},
    fleet::Names,
    link::Link,
    node,
    session::{Push, read_push},
    site::{Clients, RedisMode},
};
use crate::outer::losses::Losses;
use redis::{
    Cmd, ConnectionInfo, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value,
    aio::{MultiplexedConnection, SendError},
};
use std::{
    collections::VecDeque,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time};

/// Entries read at a time. More wait in Redis, not here.
const ENTRIES_MAX: usize = 32;
/// Messages not looked at yet; more are lost, and that is said.
const MESSAGES_MAX: usize = 1024;
/// One read waits so long for an entry: a connection that died is noticed by then.
const BLOCK: Duration = Duration::from_secs(1);
/// Told of in one outage.
const REASONS_MAX: usize = 16;
/// Before the first entry of a stream.
const START: Place = Place { ms: 0, sequence: 0 };

/// What is listened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedOf {
    Channel(String),
    Stream(String),
}

/// Of an entry: names and values, as they came.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Message(Vec<u8>),
    /// [`Feed::done`] wants its place.
    Entry {
        place: Place,
        fields: Fields,
    },
    /// Something may have been said that was not heard: so many messages; 0: nobody knows.
    Lost(u64),
}

/// An entry's place in its stream, which is its name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    ms: u64,
    sequence: u64,
}

/// One feed. Goes on for as long as it is asked.
#[derive(Debug)]
pub struct Feed {
    link: Arc<Link>,
    /// Of the place that is kept.
    name: String,
    of: FeedOf,
    line: Option<Line>,
    /// Of a stream: up to where it was read.
    read: Option<Place>,
    entries: VecDeque<(Place, Fields)>,
    /// The last read brought as much as it may: this is behind, and what it has not read may be cut.
    is_behind: bool,
    losses: Losses,
    /// It was connected once.
    was_up: bool,
    /// Why it is not, as far as that was told in this outage.
    told: Vec<String>,
}

#[derive(Debug)]
enum Line {
    Channel {
        pushes: mpsc::Receiver<Push>,
        /// The subscription ends when this is dropped.
        _subscription: MultiplexedConnection,
    },
    Stream {
        reads: MultiplexedConnection,
        home: MultiplexedConnection,
    },
}

#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error("redis cannot be listened to; see that it is up and lets us in")]
    Redis(#[from] RedisError),
    #[error(transparent)]
    Find(#[from] FindError),
    #[error("the user of redis may not listen there; add to its ACL: {needs}")]
    Denied {
        needs: String,
        #[source]
        said: RedisError,
    },
    #[error("redis did not answer in time")]
    Timeout,
    #[error("the connection to redis was lost")]
    Lost,
    #[error("what stands there is no stream, or of a redis that tells us something else of it")]
    NoStream,
}

/// What a stream says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    /// The place of the last entry that it ever had.
    last: Place,
    /// Every entry that it ever had is there. A Redis before 7.0 does not say, and is not believed
    /// to be.
    is_whole: bool,
}

/// Notes a place, unless a later one is known.
const KEEP: &str = "
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known then
  local ms, sequence = string.match(known, '^(%d+)-(%d+)$')
  local own_ms, own = string.match(ARGV[2], '^(%d+)-(%d+)$')
  ms, sequence, own_ms, own = tonumber(ms), tonumber(sequence), tonumber(own_ms), tonumber(own)
  if ms and (ms > own_ms or (ms == own_ms and sequence >= own)) and ARGV[3] ~= '1' then return 0 end
end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1";

impl FeedError {
    /// Says what is to be granted where that is all there is to do.
    fn of(self, of: &FeedOf) -> Self {
        let Self::Redis(said) = self else { return self };
        if said.kind() != ErrorKind::Server(ServerErrorKind::NoPerm) {
            return Self::Redis(said);
        }
        let needs = match of {
            FeedOf::Channel(channel) => format!("+subscribe &{channel}"),
            FeedOf::Stream(stream) => format!("+exists ~{stream} +xinfo|stream +xrange +xread"),
        };
        Self::Denied { needs, said }
    }
}

impl Place {
    /// As `1700000000000-0`.
    fn read(text: &[u8]) -> Option<Self> {
        let (ms, sequence) = std::str::from_utf8(text).ok()?.split_once('-')?;
        Some(Self { ms: ms.parse().ok()?, sequence: sequence.parse().ok()? })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.ms, self.sequence)
    }
}

impl Feed {
    /// `name`: under which a stream's place is kept.
    pub(super) fn new(link: Arc<Link>, name: String, of: FeedOf) -> Self {
        let entries = VecDeque::new();
        let (losses, told, is_behind, was_up) = (Losses::default(), Vec::new(), false, false);
        Self { link, name, of, line: None, read: None, entries, is_behind, losses, was_up, told }
    }

    /// Whatever comes next. Waits for as long as nothing does.
    pub async fn next(&mut self) -> Said {
        loop {
            match self.try_next().await {
                Ok(Some(said)) => return said,
                Ok(None) => {}
                Err(error) => {
                    let error = error.of(&self.of);
                    self.line = None;
                    // What a channel says until it is heard is gone, also before the first time.
                    self.was_up = true;
                    self.tell(&error);
                    time::sleep(self.link.settings.reconnect_interval).await;
                }
            }
        }
    }

    /// Tells why nothing is heard, each reason once in an outage.
    fn tell(&mut self, error: &FeedError) {
        let cause = error.source().map(ToString::to_string);
        let why = format!("{error}: {}", cause.as_deref().unwrap_or_default());
        if self.told.len() < REASONS_MAX && !self.told.contains(&why) {
            tracing::warn!(%error, cause, events = self.name, "no events are heard");
            self.told.push(why);
        }
    }

    /// The caller has done what an entry asks for.
    pub async fn done(&mut self, place: Place) {
        // A place for each batch: what of it comes twice does no harm.
        if !self.entries.is_empty() {
            return;
        }
        let Some(Line::Stream { home, .. }) = &mut self.line else { return };
        let command = keep(&self.link.names, &self.name, place, false);
        if let Err(error) = ask::<Value>(home, &command, self.link.settings.probe_timeout).await {
            // The next entry's place stands for this one.
            tracing::debug!(%error, "how far a stream was read is not kept yet");
        }
    }

    async fn try_next(&mut self) -> Result<Option<Said>, FeedError> {
        if let Some(messages) = self.losses.take() {
            return Ok(Some(Said::Lost(messages)));
        }
        if let Some((place, fields)) = self.entries.pop_front() {
            return Ok(Some(Said::Entry { place, fields }));
        }
        if self.line.is_none() {
            let is_lost = self.connect().await?;
            tracing::info!(events = self.name, "events are heard");
            self.was_up = true;
            self.told.clear();
            if is_lost {
                self.losses.was_away();
                return Ok(None);
            }
        }
        match &mut self.line {
            None => Ok(None),
            Some(Line::Channel { pushes, .. }) => tokio::select! {
                pushed = pushes.recv() => match pushed {
                    Some(Push::Message(payload)) => Ok(Some(Said::Message(payload))),
                    Some(Push::Lost) | None => Err(FeedError::Lost),
                },
                () = self.losses.due() => Ok(None),
            },
            Some(Line::Stream { .. }) => {
                if self.read_on().await? {
                    self.losses.was_away();
                }
                Ok(None)
            }
        }
    }

    /// Whether something may have been said that was not heard.
    async fn connect(&mut self) -> Result<bool, FeedError> {
        let link = self.link.clone();
        let found = Finder::new(&link).find().await?;
        match self.of.clone() {
            FeedOf::Channel(channel) => {
                let missed = self.losses.counter();
                self.line = Some(subscribe(&link, &found.home, &channel, missed).await?);
                // At the start nobody can say; the others of the fleet have listened.
                Ok(self.was_up)
            }
            FeedOf::Stream(stream) => {
                let site = &link.site;
                let place = found
                    .map
                    .as_ref()
                    .and_then(|map| Some(site.at(map.nodes.get(map.owner(stream.as_bytes())?)?)));
                let at = match (place, &site.mode) {
                    (Some(place), _) => place,
                    (None, RedisMode::Cluster) => return Err(FindError::NoMap.into()),
                    (None, RedisMode::Single | RedisMode::Sentinel(_)) => found.home.clone(),
                };
                let patient = link.settings.probe_timeout + BLOCK;
                let mut reads = open(&link, &at, patient).await?;
                let mut home = open(&link, &found.home, link.settings.probe_timeout).await?;
                let is_lost = self.find_place(&stream, &mut reads, &mut home).await?;
                self.line = Some(Line::Stream { reads, home });
                Ok(is_lost)
            }
        }
    }

    /// Decides where reading goes on. Whether entries before that may be gone.
    async fn find_place(
        &mut self,
        stream: &str,
        reads: &mut MultiplexedConnection,
        home: &mut MultiplexedConnection,
    ) -> Result<bool, FeedError> {
        let timeout = self.link.settings.probe_timeout;
        // Asked first: what the fleet reads meanwhile is before the end that the stream has then.
        let kept = match self.read {
            Some(read) => Some(read),
            None => {
                let mut command = redis::cmd("HGET");
                command.arg(self.link.names.events()).arg(&self.name);
                let kept: Option<Vec<u8>> = ask(home, &command, timeout).await?;
                kept.and_then(|kept| Place::read(&kept))
            }
        };
        let Told { last, is_whole } = told_of(stream, reads, timeout).await?;
        let (from, is_lost) = match kept {
            // Nobody has listened before: from now on.
            None => (last, false),
            Some(kept) if kept == last => (kept, false),
            // It went back. What it has was read, or is of what is said to be lost.
            Some(kept) if kept > last => (last, true),
            // There was no stream when somebody first listened.
            Some(kept) if kept == START => (kept, !is_whole),
            Some(kept) => (kept, !has(stream, kept, reads, timeout).await?),
        };
        if kept != Some(from) {
            let command = keep(&self.link.names, &self.name, from, true);
            ask::<Value>(home, &command, timeout).await?;
        }
        self.read = Some(from);
        Ok(is_lost)
    }

    /// Whether entries before those that it reads may be gone.
    async fn read_on(&mut self) -> Result<bool, FeedError> {
        let (FeedOf::Stream(stream), Some(Line::Stream { reads, .. }), Some(from)) =
            (&self.of, &mut self.line, self.read)
        else {
            return Ok(false);
        };
        let timeout = self.link.settings.probe_timeout;
        let is_lost = self.is_behind && !has(stream, from, reads, timeout).await?;
        let mut command = redis::cmd("XREAD");
        let block_ms = u64::try_from(BLOCK.as_millis()).unwrap_or(u64::MAX);
        command.arg("COUNT").arg(ENTRIES_MAX).arg("BLOCK").arg(block_ms);
        command.arg("STREAMS").arg(stream).arg(from.to_string());
        let answer: Value = ask(reads, &command, BLOCK + timeout).await?;
        self.entries = entries(answer).ok_or(FeedError::NoStream)?.into();
        if let Some((last, _)) = self.entries.back() {
            self.read = Some(*last);
        }
        self.is_behind = self.entries.len() >= ENTRIES_MAX;
        Ok(is_lost)
    }
}

/// What finds no room is counted in `missed`.
async fn subscribe(
    link: &Link,
    home: &ConnectionInfo,
    channel: &str,
    missed: Arc<AtomicU64>,
) -> Result<Line, FeedError> {
    let (pushed, pushes) = mpsc::channel(MESSAGES_MAX);
    let config = node::config(link).set_push_sender(move |push| {
        if read_push(push).is_some_and(|push| pushed.try_send(push).is_err()) {
            missed.fetch_add(1, Ordering::Relaxed);
        }
        Ok::<(), SendError>(())
    });
    let messages = Clients::of(home)?.messages;
    let mut subscription = messages.get_multiplexed_async_connection_with_config(&config).await?;
    subscription.subscribe(channel).await?;
    Ok(Line::Channel { pushes, _subscription: subscription })
}

async fn open(
    link: &Link,
    at: &ConnectionInfo,
    timeout: Duration,
) -> Result<MultiplexedConnection, FeedError> {
    let config = node::config(link).set_response_timeout(Some(timeout));
    let commands = Clients::of(at)?.commands;
    Ok(commands.get_multiplexed_async_connection_with_config(&config).await?)
}

async fn ask<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
    timeout: Duration,
) -> Result<T, FeedError> {
    match time::timeout(timeout, command.query_async(connection)).await {
        Ok(answer) => Ok(answer?),
        Err(_elapsed) => Err(FeedError::Timeout),
    }
}

fn keep(names: &Names, name: &str, place: Place, back: bool) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command
        .arg(KEEP)
        .arg(2)
        .arg(names.events())
        .arg(names.nothing())
        .arg(name)
        .arg(place.to_string());
    command.arg(i32::from(back));
    command
}

async fn told_of(
    stream: &str,
    reads: &mut MultiplexedConnection,
    timeout: Duration,
) -> Result<Told, FeedError> {
    let mut command = redis::cmd("EXISTS");
    command.arg(stream);
    if ask::<i64>(reads, &command, timeout).await? == 0 {
        return Ok(Told { last: START, is_whole: true });
    }
    let mut command = redis::cmd("XINFO");
    command.arg("STREAM").arg(stream);
    let told: Value = ask(reads, &command, timeout).await?;
    read_told(&told).ok_or(FeedError::NoStream)
}

/// What `XINFO STREAM` says: names, each before its value.
fn read_told(told: &Value) -> Option<Told> {
    let Value::Array(told) = told else { return None };
    let mut said = told.iter();
    let (mut last, mut length, mut added) = (None, None, None);
    while let (Some(name), Some(value)) = (said.next(), said.next()) {
        match (bytes_of(name), value) {
            (Some(b"last-generated-id"), value) => last = Place::read(bytes_of(value)?),
            (Some(b"length"), Value::Int(entries)) => length = Some(*entries),
            (Some(b"entries-added"), Value::Int(entries)) => added = Some(*entries),
            _ => {}
        }
    }
    Some(Told { last: last?, is_whole: added.is_some() && added == length })
}

/// Whether the entry at that place is there.
async fn has(
    stream: &str,
    place: Place,
    reads: &mut MultiplexedConnection,
    timeout: Duration,
) -> Result<bool, FeedError> {
    let (mut command, place) = (redis::cmd("XRANGE"), place.to_string());
    command.arg(stream).arg(&place).arg(&place);
    let found: Value = ask(reads, &command, timeout).await?;
    Ok(matches!(found, Value::Array(found) if !found.is_empty()))
}

fn bytes_of(value: &Value) -> Option<&[u8]> {
    if let Value::BulkString(bytes) = value {
        return Some(bytes);
    }
    if let Value::SimpleString(text) = value { Some(text.as_bytes()) } else { None }
}

/// What `XREAD` of one stream says; `None` if it is something else.
fn entries(answer: Value) -> Option<Vec<(Place, Fields)>> {
    let Value::Array(streams) = answer else {
        return matches!(answer, Value::Nil).then(Vec::new);
    };
    let Some(Value::Array(stream)) = streams.into_iter().next() else { return None };
    let Some(Value::Array(entries)) = stream.into_iter().nth(1) else { return None };
    entries.into_iter().map(entry).collect()
}

fn entry(entry: Value) -> Option<(Place, Fields)> {
    let Value::Array(entry) = entry else { return None };
    let mut entry = entry.into_iter();
    let place = Place::read(bytes_of(&entry.next()?)?)?;
    let Value::Array(fields) = entry.next()? else { return None };
    let mut bytes = fields.into_iter().map(|field| bytes_of(&field).map(<[u8]>::to_vec));
    let mut pairs = Vec::new();
    while let Some(name) = bytes.next() {
        pairs.push((name?, bytes.next()??));
    }
    Some((place, pairs))
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
