//! Entries on their way to Redis: a queue bounded in entries and bytes, and the task that empties
//! it.
//!
//! Nobody waits for a write. What does not fit is dropped and counted: the next asker of any
//! instance only finds a miss. Entries are encoded here, off the caller's path; while
//! queued they share their bytes with the memory tier.

use super::link::Link;
use crate::{codec, entry::Entry, key::CacheKey};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::{sync::mpsc, time};
use tokio_util::sync::CancellationToken;

/// Small entries share a round trip, up to so many …
const BATCH_MAX: usize = 32;
/// … and so many bytes: what is in one pipeline is in memory twice.
const BATCH_BYTES_MAX: u64 = 1024 * 1024;

/// The callers' end of the queue.
#[derive(Debug)]
pub(super) struct Queue {
    writes: mpsc::Sender<Write>,
    bytes: Arc<AtomicU64>,
    bytes_max: u64,
}

/// One entry to be written.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) key: CacheKey,
    pub(super) entry: Arc<Entry>,
    pub(super) ttl_ms: u64,
}

/// The task's end.
#[derive(Debug)]
pub(super) struct Queued {
    writes: mpsc::Receiver<Write>,
    bytes: Arc<AtomicU64>,
}

pub(super) fn queue(entries_max: usize, bytes_max: u64) -> (Queue, Queued) {
    let (sender, receiver) = mpsc::channel(entries_max.max(1));
    let bytes = Arc::<AtomicU64>::default();
    let queue = Queue { writes: sender, bytes: bytes.clone(), bytes_max };
    (queue, Queued { writes: receiver, bytes })
}

impl Queue {
    /// Whether there was room.
    pub(super) fn push(&self, write: Write) -> bool {
        let weight = write.entry.weight();
        let before = self.bytes.fetch_add(weight, Ordering::Relaxed);
        if before.saturating_add(weight) > self.bytes_max || self.writes.try_send(write).is_err() {
            self.bytes.fetch_sub(weight, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Bytes waiting or under way.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Queued {
    /// Writes until `stop`, then what is queued by then.
    pub(super) async fn write_all(mut self, link: Arc<Link>, stop: CancellationToken) {
        loop {
            let first = tokio::select! {
                first = self.writes.recv() => first,
                () = stop.cancelled() => {
                    // From here on nothing comes in, and `recv` ends when it is empty.
                    self.writes.close();
                    self.writes.recv().await
                }
            };
            let Some(first) = first else { return };
            let mut weight = first.entry.weight();
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && weight < BATCH_BYTES_MAX
                && let Ok(next) = self.writes.try_recv()
            {
                weight += next.entry.weight();
                batch.push(next);
            }
            self.write(&link, &batch).await;
            self.bytes.fetch_sub(weight, Ordering::Relaxed);
        }
    }

    async fn write(&self, link: &Link, batch: &[Write]) {
        let count = |writes: usize| u64::try_from(writes).unwrap_or(u64::MAX);
        let counters = &link.counters;
        let Some(mut up) = link.connections() else {
            counters.dropped_down.add(count(batch.len()));
            return;
        };
        let mut pipeline = redis::pipe();
        let mut writes = 0;
        for write in batch {
            // Purged while it was queued, or begun before Redis was heard: void to everybody.
            let (stamp, subjects) = (write.entry.stamp.fleet, &write.entry.subjects);
            if link.generations.admit(stamp, subjects).is_none() {
                counters.dropped_void.add_one();
                continue;
            }
            let value = codec::encode(write.key, &write.entry);
            let command = pipeline.cmd("SET").arg(link.names.entry(write.key)).arg(value);
            command.arg("PX").arg(write.ttl_ms).ignore();
            writes += 1;
        }
        if writes == 0 {
            return;
        }
        let sent = pipeline.exec_async(&mut up.bulk);
        match time::timeout(link.settings.write_timeout, sent).await {
            Ok(Ok(())) => counters.stored.add(count(writes)),
            Ok(Err(error)) => {
                counters.dropped_down.add(count(writes));
                if error.is_unrecoverable_error() {
                    link.trip(up.session);
                }
                tracing::debug!(%error, "redis refused a write");
            }
            Err(_elapsed) => {
                counters.dropped_down.add(count(writes));
                link.trip(up.session);
            }
        }
    }
}
