//! The disk tier: answers that survive a restart, one file each, bounded in bytes.
//!
//! ```text
//!   DIR/ab/abcdef…     "TGD\x01" until_ms u64 │ the entry, wrapped      (the key in hex names the file)
//!   DIR/new/0          a file that is not whole yet
//!   DIR/versions       which version of each model they are of
//! ```
//!
//! A disk is a store like any other: it is waited for briefly, on threads of its own, and skipped
//! while it hangs; writes wait in a bounded queue and nobody waits for them, nor for removals, of which
//! a few are under way at a time. Files are not synced:
//! after a loss of power one may be torn, and is then no entry ([`crate::codec`]). What is there and
//! how large it is stands in an index in memory, which also says what goes when there is no room;
//! it is read from the directory at the start.
//!
//! **Invariant:** the files take at most `size_max`, counted in the blocks they occupy, beside the
//! one that is being written and the few that are being removed.

mod files;
mod index;
mod versions;
mod writes;

use self::versions::Remembered;
use crate::{
    codec,
    counters::TierCounters,
    entry::Entry,
    generations::Generations,
    key::{CacheKey, Check},
    outer::queue::{self, Queue, Write},
    tiers::Owed,
    versions::Versions,
    wrap::{Seals, Unreadable, Wrapper, Wrapping},
};
use bytes::Bytes;
use files::{Files, Read};
use index::Index;
use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Semaphore, watch},
    task,
    time::{self, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Reads under way; more wait their turn, within their time. Each holds a thread while the disk is
/// slow.
const READS_MAX: usize = 32;
/// Removals under way, each on a thread of its own. What finds no place stays in the index, and its
/// room is counted, until somebody comes by again.
const REMOVALS_MAX: usize = 8;

/// Where entries lie, and what may be spent on them.
#[derive(Clone, Debug)]
pub struct DiskSettings {
    /// This tier's alone.
    pub dir: PathBuf,
    /// Of the blocks that the files occupy.
    pub size_max: u64,
    /// What a caller waits for a read at most.
    pub read_timeout: Duration,
    /// How long a disk that hung is left alone.
    pub rest: Duration,
    pub queue_entries_max: usize,
    pub queue_bytes_max: u64,
    /// Larger values are neither written nor read.
    pub value_bytes_max: usize,
    /// Whether values are compressed where it pays.
    pub compress: bool,
    /// Values are sealed with these, and no others are read.
    pub seals: Option<Seals>,
}

impl DiskSettings {
    /// 1 GiB, 20 ms for a read, 32 MiB for the queue, 64 MiB for a value, in the clear.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            size_max: 1 << 30,
            read_timeout: Duration::from_millis(20),
            rest: Duration::from_secs(5),
            queue_entries_max: 4096,
            queue_bytes_max: 32 * 1024 * 1024,
            value_bytes_max: 64 * 1024 * 1024,
            compress: false,
            seals: None,
        }
    }
}

/// Entries on a local disk.
#[derive(Debug)]
pub struct DiskTier {
    disk: Arc<Disk>,
    queue: Queue,
    reads: Arc<Semaphore>,
    removals: Arc<Semaphore>,
}

/// What callers, the writer and the sweep share.
#[derive(Debug)]
struct Disk {
    settings: DiskSettings,
    wrapping: Wrapping,
    files: Files,
    index: Index,
    remembered: Remembered,
    generations: Arc<Generations>,
    counters: Arc<TierCounters>,
    /// It hung, and is left alone until then: milliseconds since `began`.
    rests_until_ms: AtomicU64,
    began: Instant,
    /// How much had been written when a failure to write was last told of.
    told_at: AtomicU64,
    state: watch::Sender<DiskState>,
}

/// Whether the tier is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskState {
    Up,
    /// The directory is still being read.
    Down,
}

impl DiskTier {
    /// Starts the tier's tasks on `tasks`; they end with `stop`. What lies in the directory is read
    /// beside it: until then the tier is down.
    ///
    /// # Errors
    /// The directory cannot be made or written.
    pub fn start(
        settings: DiskSettings,
        generations: Arc<Generations>,
        versions: Arc<Versions>,
        now_ms: u64,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> io::Result<Self> {
        let files = Files::open(&settings.dir, settings.value_bytes_max)?;
        let (queue, queued) = queue::queue(settings.queue_entries_max, settings.queue_bytes_max);
        let disk = Arc::new(Disk {
            wrapping: Wrapping {
                compress: settings.compress,
                seals: settings.seals.clone(),
                bytes_max: settings.value_bytes_max,
            },
            files,
            index: Index::new(settings.size_max),
            remembered: Remembered::read(&settings.dir, versions, now_ms),
            settings,
            generations,
            counters: Arc::default(),
            rests_until_ms: AtomicU64::new(0),
            began: Instant::now(),
            told_at: AtomicU64::new(u64::MAX),
            state: watch::Sender::new(DiskState::Down),
        });
        let (reader, over) = (disk.clone(), stop.clone());
        tasks.spawn_blocking(move || reader.read_all(&over));
        tasks.spawn(disk.clone().write_all(
            queued,
            Wrapper::new(disk.wrapping.clone()),
            stop.clone(),
        ));
        let places = |many| Arc::new(Semaphore::new(many));
        Ok(Self { disk, queue, reads: places(READS_MAX), removals: places(REMOVALS_MAX) })
    }

    /// The entry under `key`, if it may be given. Waits for the read time-out at most.
    pub async fn look_up(&self, key: CacheKey, check: &Check, now_ms: u64) -> Option<Entry> {
        let counters = &self.disk.counters;
        if !self.is_up() {
            counters.skipped.add_one();
            return None;
        }
        let Some(until_ms) = self.disk.index.until_ms(&key) else {
            counters.misses.add_one();
            return None;
        };
        if until_ms <= now_ms {
            counters.expired.add_one();
            counters.evicted_expired.add(self.forget(key));
            return None;
        }
        let until = Instant::now() + self.disk.settings.read_timeout;
        let turn = time::timeout_at(until, self.reads.clone().acquire_owned()).await;
        // Who waited too long waited for others' reads, and these have told whether it hangs.
        let (Ok(Ok(read)), true) = (turn, self.is_up()) else {
            counters.skipped.add_one();
            return None;
        };
        let disk = self.disk.clone();
        // The thread may hang for longer than anybody waits; the permit is its own.
        let found = task::spawn_blocking(move || {
            let found = disk.find(key);
            drop(read);
            found
        });
        match time::timeout_at(until, found).await {
            Ok(Ok(found)) => self.judge(key, found, check, now_ms),
            Ok(Err(_)) => {
                counters.errors.add_one();
                None
            }
            Err(_elapsed) => {
                counters.timeouts.add_one();
                self.disk.hung();
                None
            }
        }
    }

    fn judge(
        &self,
        key: CacheKey,
        found: Result<Entry, Unfound>,
        check: &Check,
        now_ms: u64,
    ) -> Option<Entry> {
        let counters = &self.disk.counters;
        let mut entry = match found {
            Ok(entry) => entry,
            Err(why) => {
                let count = match why {
                    Unfound::Gone => &counters.misses,
                    Unfound::Failed => &counters.errors,
                    Unfound::Unreadable(Unreadable::Foreign) => &counters.foreign,
                    Unfound::Unreadable(Unreadable::Oversized) => &counters.oversized,
                    Unfound::Unreadable(Unreadable::Locked) => &counters.locked,
                };
                count.add_one();
                if !matches!(why, Unfound::Failed) {
                    self.forget(key);
                }
                return None;
            }
        };
        if entry.fresh_for_ms(now_ms).is_none() {
            counters.expired.add_one();
            counters.evicted_expired.add(self.forget(key));
            return None;
        }
        let Some(stamp) = self.disk.generations.admit(entry.stamp.fleet, entry.about()) else {
            counters.purged.add_one();
            counters.evicted_purged.add(self.forget(key));
            return None;
        };
        if entry.check != *check {
            counters.collisions.add_one();
            return None;
        }
        entry.stamp = stamp;
        counters.hits.add_one();
        Some(entry)
    }

    /// Puts `entry` on its way; it is forgotten after `ttl_ms`. Never waits. `owed` is paid when
    /// it is written or given up.
    pub fn store(&self, key: CacheKey, entry: Arc<Entry>, ttl_ms: u64, owed: Owed) {
        let settings = &self.disk.settings;
        let most = u64::try_from(settings.value_bytes_max).unwrap_or(u64::MAX);
        let write = Write { key, entry, ttl_ms, owed };
        let is_up = || self.is_up();
        self.queue.offer(write, most.min(settings.size_max), is_up, &self.disk.counters);
    }

    /// Gives the room of an entry back that was purged.
    pub fn remove(&self, key: CacheKey) {
        self.forget(key);
    }

    /// Gives all room back.
    pub fn clear(&self) {
        self.sweep(u64::MAX);
    }

    /// Gives the room of what is past its time back. For a task that runs now and then.
    pub fn sweep(&self, now_ms: u64) {
        let past = self.disk.index.past(now_ms);
        if past.is_empty() {
            return;
        }
        let Ok(place) = self.removals.clone().try_acquire_owned() else { return };
        let disk = self.disk.clone();
        task::spawn_blocking(move || {
            let gone = past.into_iter().map(|key| disk.forget(key)).sum();
            disk.counters.evicted_expired.add(gone);
            drop(place);
        });
    }

    /// How many are gone. The file goes on another thread: a disk that hangs must hold none of those
    /// that callers are served on.
    fn forget(&self, key: CacheKey) -> u64 {
        let Ok(place) = self.removals.clone().try_acquire_owned() else { return 0 };
        if !self.disk.index.remove(&key) {
            return 0;
        }
        let disk = self.disk.clone();
        task::spawn_blocking(move || {
            // It may have been written anew since.
            if !disk.index.has(&key) {
                disk.files.remove(key);
            }
            drop(place);
        });
        1
    }

    /// Whether it is asked at all.
    pub fn is_up(&self) -> bool {
        *self.disk.state.borrow() == DiskState::Up && !self.disk.rests()
    }

    /// To wait until the directory has been read.
    pub fn state(&self) -> watch::Receiver<DiskState> {
        self.disk.state.subscribe()
    }

    pub fn counters(&self) -> &Arc<TierCounters> {
        &self.disk.counters
    }

    /// How many look-ups one call may have under way: others' have as much room.
    pub fn reads_at_once(&self) -> usize {
        READS_MAX / 2
    }

    /// The longest that a caller waits.
    pub fn timeout(&self) -> Duration {
        self.disk.settings.read_timeout
    }

    /// Bytes that the files occupy.
    pub fn bytes(&self) -> u64 {
        self.disk.index.held().0
    }

    pub fn entries(&self) -> usize {
        self.disk.index.held().1
    }

    pub fn size_max(&self) -> u64 {
        self.disk.settings.size_max
    }

    /// Bytes of entries waiting to be written.
    pub fn queued_bytes(&self) -> u64 {
        self.queue.bytes()
    }
}

/// Why a file gave no entry.
#[derive(Debug)]
enum Unfound {
    Gone,
    Failed,
    Unreadable(Unreadable),
}

impl Disk {
    /// Makes the index of what lies there.
    fn read_all(&self, stop: &CancellationToken) {
        let read = self.files.each(|found| {
            let pushed_out = self.index.put(found.key, found.until_ms, found.bytes);
            self.remove_files(&pushed_out);
            !stop.is_cancelled()
        });
        // Before it is said: who reads that it is up finds it so.
        self.state.send_replace(DiskState::Up);
        match read {
            Ok(()) => {
                let (bytes, entries) = self.index.held();
                tracing::info!(bytes, entries, "the disk tier is up");
            }
            // What was not read is written over in time.
            Err(error) => {
                tracing::warn!(%error, "the disk tier's directory was not read to its end")
            }
        }
    }

    fn find(&self, key: CacheKey) -> Result<Entry, Unfound> {
        let value = match self.files.read(key) {
            Ok(Read::Value(value)) => value,
            Ok(Read::Gone) => return Err(Unfound::Gone),
            Ok(Read::Foreign) => return Err(Unfound::Unreadable(Unreadable::Foreign)),
            Err(error) => {
                tracing::debug!(%error, "an entry on disk cannot be read");
                return Err(Unfound::Failed);
            }
        };
        self.unpack(key, value).map_err(Unfound::Unreadable)
    }

    fn unpack(&self, key: CacheKey, value: Bytes) -> Result<Entry, Unreadable> {
        let plain = self.wrapping.unwrap(key, value)?;
        codec::decode(key, &plain).map_err(|codec::Foreign| Unreadable::Foreign)
    }

    /// How many are gone.
    fn forget(&self, key: CacheKey) -> u64 {
        let there = self.index.remove(&key);
        self.files.remove(key);
        u64::from(there)
    }

    fn remove_files(&self, keys: &[CacheKey]) {
        for key in keys {
            self.files.remove(*key);
        }
        self.counters.evicted_for_room.add(u64::try_from(keys.len()).unwrap_or(u64::MAX));
    }

    /// Leaves it alone for a while.
    fn hung(&self) {
        let now_ms = self.now_ms();
        let rest_ms = u64::try_from(self.settings.rest.as_millis()).unwrap_or(u64::MAX);
        let until_ms = now_ms.saturating_add(rest_ms);
        if self.rests_until_ms.swap(until_ms, Ordering::AcqRel) > now_ms {
            return;
        }
        self.counters.breaker_opened.add_one();
        let dir = self.settings.dir.display();
        tracing::warn!(%dir, "the disk tier is skipped for a while: a read took too long");
    }

    fn rests(&self) -> bool {
        self.rests_until_ms.load(Ordering::Acquire) > self.now_ms()
    }

    /// Since the tier was started.
    fn now_ms(&self) -> u64 {
        let since = Instant::now().saturating_duration_since(self.began);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
