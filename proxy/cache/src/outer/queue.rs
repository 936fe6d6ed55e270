//! Entries on their way to a store: a queue bounded in entries and bytes.
//!
//! Nobody waits for a write. What does not fit is dropped and counted: the next asker of any
//! instance only finds a miss. Entries are encoded, compressed and sealed here, off the caller's
//! path; while queued they share their bytes with the memory tier.

use super::Values;
use crate::{
    codec,
    counters::TierCounters,
    entry::Entry,
    key::CacheKey,
    tiers::{Ack, Owed},
    wrap::Wrapper,
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::{sync::mpsc, task};
use tokio_util::sync::CancellationToken;

/// Small entries share a round trip, up to so many …
const BATCH_MAX: usize = 32;
/// … and so many bytes: what is in one batch is in memory twice.
const BATCH_BYTES_MAX: u64 = 1024 * 1024;

/// A larger batch is packed by a thread of its own.
const PACK_BYTES_MAX: u64 = 128 * 1024;

/// Ten years: stores refuse times near the end of their own numbers.
const TTL_MS_MAX: u64 = 10 * 365 * 24 * 3600 * 1000;

/// The callers' end of the queue.
#[derive(Debug)]
pub(crate) struct Queue {
    writes: mpsc::Sender<Write>,
    bytes: Arc<AtomicU64>,
    bytes_max: u64,
}

/// One entry to be written.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) key: CacheKey,
    pub(crate) entry: Arc<Entry>,
    pub(crate) ttl_ms: u64,
    /// Paid when this has been written, or given up.
    pub(crate) owed: Owed,
}

/// The writer's end.
#[derive(Debug)]
pub(crate) struct Queued {
    writes: mpsc::Receiver<Write>,
    bytes: Arc<AtomicU64>,
}

/// Entries that are written together. They count as queued, and whoever waits for them waits, until
/// this is dropped.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) writes: Vec<Write>,
    /// Of the callers who wait; the fleet's leases go with their entries.
    _acks: Vec<Ack>,
    weight: u64,
    bytes: Arc<AtomicU64>,
}

/// An entry as it goes out.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) write: Write,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn queue(entries_max: usize, bytes_max: u64) -> (Queue, Queued) {
    let (sender, receiver) = mpsc::channel(entries_max.max(1));
    let bytes = Arc::<AtomicU64>::default();
    let queue = Queue { writes: sender, bytes: bytes.clone(), bytes_max };
    (queue, Queued { writes: receiver, bytes })
}

impl Queue {
    /// Puts a write on its way to a store that is up, if it is no larger than `weight_max` and there
    /// is room; counts why not. Never waits.
    pub(crate) fn offer(
        &self,
        write: Write,
        weight_max: u64,
        is_up: impl FnOnce() -> bool,
        counters: &TierCounters,
    ) {
        if write.entry.weight() > weight_max {
            counters.dropped_large.add_one();
        } else if !is_up() {
            counters.dropped_down.add_one();
        } else if !self.push(write) {
            counters.dropped_full.add_one();
        }
    }

    /// Whether there was room.
    fn push(&self, mut write: Write) -> bool {
        write.ttl_ms = write.ttl_ms.clamp(1, TTL_MS_MAX);
        let weight = write.entry.weight();
        let before = self.bytes.fetch_add(weight, Ordering::Relaxed);
        if before.saturating_add(weight) > self.bytes_max || self.writes.try_send(write).is_err() {
            self.bytes.fetch_sub(weight, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Bytes waiting or under way.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Queued {
    /// What waits, as much as goes together. After `stop` what is queued by then, and at last
    /// nothing.
    pub(crate) async fn next(&mut self, stop: &CancellationToken) -> Option<Batch> {
        let first = tokio::select! {
            first = self.writes.recv() => first,
            () = stop.cancelled() => {
                // From here on nothing comes in, and `recv` ends when it is empty.
                self.writes.close();
                self.writes.recv().await
            }
        }?;
        let mut weight = first.entry.weight();
        let mut writes = vec![first];
        while writes.len() < BATCH_MAX
            && weight < BATCH_BYTES_MAX
            && let Ok(next) = self.writes.try_recv()
        {
            weight += next.entry.weight();
            writes.push(next);
        }
        let acks = writes.iter_mut().filter_map(|write| write.owed.ack.take()).collect();
        Some(Batch { writes, _acks: acks, weight, bytes: self.bytes.clone() })
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.weight, Ordering::Relaxed);
    }
}

/// Packs a batch, on a thread of its own where that takes a while: the runtime's threads are the
/// callers'.
pub(crate) async fn pack(
    values: &Arc<Values>,
    mut wrapper: Wrapper,
    batch: &mut Batch,
) -> (Wrapper, Vec<Packed>) {
    let writes = std::mem::take(&mut batch.writes);
    if batch.weight < PACK_BYTES_MAX {
        let packed = pack_now(values, &mut wrapper, writes);
        return (wrapper, packed);
    }
    let values_there = values.clone();
    let packed = task::spawn_blocking(move || {
        let packed = pack_now(&values_there, &mut wrapper, writes);
        (wrapper, packed)
    });
    // It fails only where the runtime is being taken down.
    packed.await.unwrap_or_else(|_| (Wrapper::new(values.wrapping.clone()), Vec::new()))
}

fn pack_now(values: &Values, wrapper: &mut Wrapper, writes: Vec<Write>) -> Vec<Packed> {
    let mut packed = Vec::with_capacity(writes.len());
    for write in writes {
        // Purged while it was queued, or begun before the keeper was heard: void to everybody.
        let stamp = write.entry.stamp.fleet;
        if values.generations.admit(stamp, write.entry.about()).is_none() {
            values.counters.dropped_void.add_one();
            continue;
        }
        match wrapper.wrap(write.key, codec::encode(write.key, &write.entry)) {
            Ok(bytes) => packed.push(Packed { write, bytes }),
            Err(error) => {
                values.counters.dropped_down.add_one();
                tracing::warn!(%error, "an entry stays out of a shared store");
            }
        }
    }
    packed
}
