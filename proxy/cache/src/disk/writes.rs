//! Entries on their way to the disk: a queue bounded in entries and bytes, and the task that
//! empties it. Nobody waits for it; what does not fit is dropped and counted.

use super::Disk;
use crate::{codec, entry::Entry, key::CacheKey, tiers::Ack, wrap::Wrapper};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{sync::mpsc, task};
use tokio_util::sync::CancellationToken;

/// Written on one turn of the writing thread.
const BATCH_MAX: usize = 32;

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
    pub(super) until_ms: u64,
    /// Somebody waits until this has been written, or given up.
    #[expect(dead_code, reason = "it is paid by being dropped")]
    pub(super) ack: Option<Ack>,
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
    pub(super) async fn write_all(
        mut self,
        mut wrapper: Wrapper,
        disk: Arc<Disk>,
        stop: CancellationToken,
    ) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            tokio::select! {
                _ = self.writes.recv_many(&mut batch, BATCH_MAX) => {}
                () = stop.cancelled() => {
                    // From here on nothing comes in, and it ends when it is empty.
                    self.writes.close();
                    self.writes.recv_many(&mut batch, BATCH_MAX).await;
                }
            }
            if batch.is_empty() {
                return;
            }
            let writes = std::mem::take(&mut batch);
            let weight: u64 = writes.iter().map(|write| write.entry.weight()).sum();
            let here = disk.clone();
            let written = task::spawn_blocking(move || {
                for write in writes {
                    here.write(&mut wrapper, &write);
                }
                wrapper
            });
            self.bytes.fetch_sub(weight, Ordering::Relaxed);
            // It fails only where the runtime is being taken down.
            let Ok(same) = written.await else { return };
            wrapper = same;
        }
    }
}

impl Disk {
    fn write(&self, wrapper: &mut Wrapper, write: &Write) {
        let Write { key, entry, until_ms, .. } = write;
        let counters = &self.counters;
        // Purged while it was queued, or begun before purges were known: void to everybody.
        if self.generations.admit(entry.stamp.fleet, &entry.subjects).is_none() {
            counters.dropped_void.add_one();
            return;
        }
        let value = match wrapper.wrap(*key, codec::encode(*key, entry)) {
            Ok(value) => value,
            Err(error) => {
                counters.dropped_down.add_one();
                tracing::warn!(%error, "an entry stays off the disk");
                return;
            }
        };
        match self.files.write(*key, *until_ms, &value) {
            Ok(bytes) => {
                counters.stored.add_one();
                let pushed_out = self.index.put(*key, *until_ms, bytes);
                self.remove_files(&pushed_out);
            }
            Err(error) => {
                counters.dropped_down.add_one();
                self.refused(&error);
            }
        }
    }

    /// A full or failing disk is told of once, and again when it has worked in between.
    fn refused(&self, error: &io::Error) {
        let written = self.counters.stored.value();
        if self.told_at.swap(written, Ordering::Relaxed) != written {
            tracing::warn!(%error, dir = %self.settings.dir.display(), "the disk takes no entries");
        }
    }
}
