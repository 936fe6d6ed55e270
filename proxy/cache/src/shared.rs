//! The Redis tier: answers shared by a fleet.
//!
//! Redis is never waited for. A read has a few milliseconds; the first that takes longer opens the
//! breaker, and until a probe in the background has been answered nobody else asks. Writes go
//! through a bounded queue. A value is believed only if it is whole, of this key and not purged
//! ([`crate::codec`], [`crate::generations`]).
//!
//! What it costs a caller when Redis is slow, dead or lying: one time-out, and few callers that.

mod news;
mod fleet;
mod site;
mod survey;
mod sentinel;
mod slots;
mod finder;
mod node;
mod link;
mod reads;
mod waiters;
mod warden;
mod lease;
mod writes;
mod session;
mod feed;

pub use feed::{Feed, FeedOf, Fields, Place, Said};
pub use lease::{Lease, LeaseTimes, Step, Turn};
pub use site::{RedisMode, Sentinels};

pub use crate::outer::LinkState;

use crate::{
    counters::TierCounters,
    entry::Entry,
    generations::{Generations, Subject},
    key::{CacheKey, Check},
    outer::{
        StoreTls,
        queue::{self, Queue, Write},
    },
    tiers::Owed,
    versions::Versions,
    wrap::{Seals, Wrapping},
};
use link::Link;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use warden::Errand;

/// How Redis is reached, and what may be spent on it.
#[derive(Clone)]
pub struct RedisSettings {
    /// Each `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]`, `rediss://…` or, alone, `redis+unix:///PATH`;
    /// not none. What they are addresses of, `mode` says.
    pub urls: Vec<String>,
    pub mode: RedisMode,
    /// Instead of the URL's.
    pub user: Option<String>,
    /// Instead of the URL's.
    pub password: Option<String>,
    /// Of `rediss`.
    pub tls: StoreTls,
    /// Entries, purges and versions of one namespace are shared, and no others.
    pub namespace: String,
    /// What a caller waits for a read at most.
    pub read_timeout: Duration,
    /// Of a write, which nobody waits for.
    pub write_timeout: Duration,
    /// Of connecting, of a probe, of a purge.
    pub probe_timeout: Duration,
    /// Between probes of a Redis that is up; also how long a lost message can go unnoticed.
    pub probe_interval: Duration,
    /// Between attempts to reach a Redis that is away.
    pub reconnect_interval: Duration,
    pub queue_entries_max: usize,
    pub queue_bytes_max: u64,
    /// Larger values are neither written nor read.
    pub value_bytes_max: usize,
    /// Whether values are compressed where it pays.
    pub compress: bool,
    /// Values are sealed with these, and no others are read.
    pub seals: Option<Seals>,
    /// `None`: each instance fills for itself.
    pub lease: Option<LeaseTimes>,
}

/// What can be known to be wrong before Redis is asked.
#[derive(Debug, thiserror::Error)]
pub enum BadRedis {
    #[error("not an address of redis; write redis://host:port, rediss:// or redis+unix:///path")]
    Url(#[source] redis::RedisError),
    #[error("no address of redis is named")]
    NoUrl,
    #[error("the tls files for redis are no certificates or key in PEM")]
    Tls(#[source] redis::RedisError),
}

/// Entries in a Redis.
#[derive(Debug)]
pub struct RedisTier {
    link: Arc<Link>,
    queue: Queue,
    errands: mpsc::Sender<Errand>,
}

impl RedisSettings {
    /// With 10 ms for a read, 32 MiB for the queue, 16 MiB for a value, in the clear.
    pub fn new(url: impl Into<String>, namespace: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            mode: RedisMode::Single,
            user: None,
            password: None,
            tls: StoreTls::default(),
            namespace: namespace.into(),
            read_timeout: Duration::from_millis(10),
            write_timeout: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(500),
            probe_interval: Duration::from_secs(1),
            reconnect_interval: Duration::from_millis(250),
            queue_entries_max: 4096,
            queue_bytes_max: 32 * 1024 * 1024,
            value_bytes_max: 16 * 1024 * 1024,
            compress: false,
            seals: None,
            lease: Some(LeaseTimes { ttl: Duration::from_secs(5), wait: Duration::from_secs(10) }),
        }
    }
}

impl RedisSettings {
    fn wrapping(&self) -> Wrapping {
        Wrapping {
            compress: self.compress,
            seals: self.seals.clone(),
            bytes_max: self.value_bytes_max,
        }
    }
}

/// Without the address, which may hold a password.
impl std::fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisSettings")
            .field("namespace", &self.namespace)
            .field("read_timeout", &self.read_timeout)
            .finish_non_exhaustive()
    }
}

impl RedisTier {
    /// Starts the tier's tasks on `tasks`; they end with `stop`. Does not wait for Redis: the tier
    /// is down until it was reached.
    pub fn start(
        settings: RedisSettings,
        generations: Arc<Generations>,
        versions: Arc<Versions>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, BadRedis> {
        let (queue, queued) = queue::queue(settings.queue_entries_max, settings.queue_bytes_max);
        let link = Arc::new(Link::new(settings, generations, versions)?);
        tasks.spawn(session::keep(link.clone(), stop.clone()));
        tasks.spawn(writes::write_all(queued, link.clone(), stop.clone()));
        let (errands, to_do) = mpsc::channel(warden::ERRANDS_MAX);
        if let Some(times) = link.settings.lease {
            tasks.spawn(warden::keep(to_do, times.ttl, link.clone(), stop.clone()));
        }
        Ok(Self { link, queue, errands })
    }

    /// The entry under `key`, if Redis has it, it may be given at `now_ms`, and it came in time.
    pub async fn look_up(&self, key: CacheKey, check: &Check, now_ms: u64) -> Option<Entry> {
        let value = self.link.read(key).await?;
        self.link.values.judge(key, check, value, now_ms).await
    }

    /// Puts `entry` on its way; Redis forgets it after `ttl_ms`. Never waits.
    /// `owed` is paid when it is written or given up.
    pub fn store(&self, key: CacheKey, entry: Arc<Entry>, ttl_ms: u64, owed: Owed) {
        let most = u64::try_from(self.link.settings.value_bytes_max).unwrap_or(u64::MAX);
        let write = Write { key, entry, ttl_ms, owed };
        self.queue.offer(write, most, || self.is_up(), &self.link.values.counters);
    }

    /// Sends a purge that was applied here ([`Subject::told`]) to everybody. Whether Redis has it;
    /// if not, it is kept and sent when Redis is back.
    pub async fn purge(&self, subjects: &[Subject]) -> bool {
        let numbered = self.link.unnumbered.push_all(subjects);
        if !self.is_up() {
            return false;
        }
        matches!(time::timeout(self.link.settings.probe_timeout, numbered).await, Ok(Ok(())))
    }

    /// Listens to what others say there; of a stream, `name` is under which its place is kept.
    pub fn feed(&self, name: &str, of: FeedOf) -> Feed {
        Feed::new(self.link.clone(), name.to_owned(), of)
    }

    /// As [`Self::purge`], and waits for nothing.
    pub(crate) fn begin_purge(&self, subjects: &[Subject]) {
        drop(self.link.unnumbered.push_all(subjects));
    }

    /// The longest that a caller waits.
    pub fn timeout(&self) -> Duration {
        self.link.settings.read_timeout
    }

    /// Whether Redis is asked at all.
    pub fn is_up(&self) -> bool {
        *self.link.state().borrow() == LinkState::Up
    }

    /// To wait for a change of [`Self::is_up`].
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.link.state()
    }

    pub fn counters(&self) -> &Arc<TierCounters> {
        &self.link.values.counters
    }

    /// Bytes of entries waiting to be written.
    pub fn queued_bytes(&self) -> u64 {
        self.queue.bytes()
    }

    /// Purges that Redis has not heard yet.
    pub fn purges_pending(&self) -> usize {
        self.link.unnumbered.len()
    }
}

#[cfg(test)]
mod room_tests;
#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
#[cfg(test)]
mod wrapped_tests;
