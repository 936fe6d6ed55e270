//! Entries on their way to the disk: the shared queue's, packed and written by one thread at a time.

use super::Disk;
use crate::{
    clock::unix_ms,
    codec,
    outer::queue::{Queued, Write},
    wrap::Wrapper,
};
use std::{
    io,
    sync::{Arc, atomic::Ordering},
};
use tokio::task;
use tokio_util::sync::CancellationToken;

impl Disk {
    /// Writes until `stop`, then what is queued by then.
    pub(super) async fn write_all(
        self: Arc<Self>,
        mut queued: Queued,
        mut wrapper: Wrapper,
        stop: CancellationToken,
    ) {
        while let Some(mut batch) = queued.next(&stop).await {
            let writes = std::mem::take(&mut batch.writes);
            let here = self.clone();
            let written = task::spawn_blocking(move || {
                for write in writes {
                    here.write(&mut wrapper, &write);
                }
                if let Err(error) = here.remembered.write() {
                    here.refused(&error);
                }
                wrapper
            });
            // It fails only where the runtime is being taken down.
            let Ok(same) = written.await else { return };
            wrapper = same;
        }
    }

    fn write(&self, wrapper: &mut Wrapper, write: &Write) {
        let Write { key, entry, ttl_ms, .. } = write;
        let counters = &self.counters;
        // Purged while it was queued, or begun before purges were known: void to everybody.
        if self.generations.admit(entry.stamp.fleet, entry.about()).is_none() {
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
        let until_ms = unix_ms().saturating_add(*ttl_ms);
        match self.files.write(*key, until_ms, &value) {
            Ok(bytes) => {
                counters.stored.add_one();
                let pushed_out = self.index.put(*key, until_ms, bytes);
                self.remove_files(&pushed_out);
            }
            Err(error) => {
                counters.dropped_down.add_one();
                if error.kind() == io::ErrorKind::StorageFull {
                    // Others need room there, too: the ledger before all.
                    self.remove_files(&self.index.shed());
                }
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
