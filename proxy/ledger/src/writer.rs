//! The thread that carries entries from the segments to the disk and the database.
//!
//! A thread and not a tokio task: it blocks on the disk by profession. While there
//! is something it looks every `sync_ms`; when all is in the database it sleeps
//! until called and costs nothing. Nothing that goes wrong here ends it: what could
//! not be stored stays where it is and is tried again.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use crate::{
    batch::{Batch, OpenCalls, Watermark},
    error::LedgerError,
    ledger::Shared,
    mapping::{Drain, Mark},
    overflow::Spilled,
    store::Store,
};

/// Entries in one transaction: bounds its time (some ten milliseconds) and memory.
const ENTRIES_MAX: usize = 16_384;
/// Between two tries while the database cannot be written.
const RETRY: Duration = Duration::from_millis(500);
/// Between two lines about the same trouble.
const COMPLAINT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) drain: Drain,
    pub(crate) store: Store,
    pub(crate) sync_every: Duration,
    pub(crate) transfer_every: Duration,
    /// Bytes in the segments that are not left waiting any longer.
    pub(crate) transfer_bytes: usize,
    pub(crate) open_calls: OpenCalls,
    /// Taken out of the overflow, not stored yet.
    pub(crate) spilled: Spilled,
    /// Where the segments stood when `spilled` was taken.
    pub(crate) spilled_at: Mark,
    pub(crate) timing: Timing,
}

/// When what happened last.
#[derive(Debug, Default)]
pub(crate) struct Timing {
    /// Since when something waits for the database.
    waiting_since: Option<Instant>,
    failed_at: Option<Instant>,
    complained_at: Option<Instant>,
}

impl Writer {
    pub(crate) fn run(mut self) {
        self.shared.wake.register();
        loop {
            // In this order: who stops the thread has asked for a flush before.
            let stopping = self.shared.stopping.load(Ordering::SeqCst);
            let asked = self.shared.asked.load(Ordering::SeqCst);
            self.sync();
            if self.is_due(asked) {
                self.transfer(asked);
            }
            if stopping {
                break;
            }
            self.rest(asked);
        }
        if let Err(error) = self.store.end_run() {
            tracing::warn!(%error, "ledger: when this run ended is not known");
        }
        if let Err(error) = self.store.checkpoint() {
            tracing::warn!(%error, "ledger: the database's log was not folded in; the next start does it");
        }
        self.shared.wake.now();
    }

    fn rest(&mut self, asked: u64) {
        if self.anything_waits() {
            self.timing.waiting_since.get_or_insert_with(now);
            self.shared.wake.pause(self.sync_every);
            return;
        }
        self.timing.waiting_since = None;
        let shared = Arc::clone(&self.shared);
        shared.wake.sleep_unless(|| {
            self.anything_waits()
                || shared.asked.load(Ordering::SeqCst) != asked
                || shared.stopping.load(Ordering::SeqCst)
        });
    }

    fn anything_waits(&self) -> bool {
        self.drain.has_unread() || self.shared.overflow.has_any() || !self.spilled.is_empty()
    }

    fn is_due(&self, asked: u64) -> bool {
        if self.shared.done() < asked {
            return true;
        }
        let since = |at: Option<Instant>| at.map(|at| now().saturating_duration_since(at));
        if since(self.timing.failed_at).is_some_and(|ago| ago < RETRY) {
            return false;
        }
        since(self.timing.waiting_since).is_some_and(|waited| waited >= self.transfer_every)
            || self.shared.mapping.bytes_waiting() >= self.transfer_bytes
            || (self.shared.overflow.has_any() && self.timing.failed_at.is_none())
    }

    fn sync(&mut self) {
        if let Err(error) = self.drain.sync() {
            self.failed(&error.to_string());
        }
    }

    /// Stores all that was there when it began, and says so to whoever asked.
    fn transfer(&mut self, asked: u64) {
        let goal = self.drain.mark();
        loop {
            match self.transfer_once() {
                Ok(true) if !self.is_all_stored(goal) => {}
                Ok(_) => break,
                Err(error) => {
                    let reason = error.to_string();
                    self.failed(&reason);
                    self.shared.answer(asked, Some(reason));
                    return;
                }
            }
        }
        self.timing.waiting_since = None;
        if self.is_all_stored(goal) {
            self.shared.answer(asked, None);
        }
    }

    fn is_all_stored(&self, goal: Mark) -> bool {
        self.drain.has_reached(goal) && self.spilled.is_empty() && !self.shared.overflow.has_any()
    }

    /// One transaction. `false`: there was nothing to store.
    fn transfer_once(&mut self) -> Result<bool, LedgerError> {
        let mut batch = Batch::default();
        let spilled = self.add_spilled(&mut batch);
        let mut drained = self.drain.read(ENTRIES_MAX);
        batch.add(std::mem::take(&mut drained.entries));
        if batch.is_empty() && !drained.ended {
            return Ok(false);
        }
        batch.watermark = if drained.ended {
            Watermark { epoch: drained.epoch + 1, offset: 0 }
        } else {
            Watermark { epoch: drained.epoch, offset: drained.offset }
        };
        self.open_calls.prepare(&mut batch, drained.ended);
        self.store.commit(&batch)?;

        self.open_calls.apply(&batch);
        self.drain.release(&drained);
        if let Some(records) = spilled {
            self.spilled.records.drain(..records);
            self.spilled.sums.clear();
            self.spilled.collapsed.clear();
            self.shared.overflow.stored(records);
        }
        let collapsed: u64 = batch.sums.values().map(|sums| sums.calls).sum();
        let records = u64::try_from(batch.records.len()).unwrap_or(u64::MAX);
        self.shared.stored.fetch_add(records.saturating_add(collapsed), Ordering::Relaxed);
        if self.timing.failed_at.take().is_some() {
            tracing::info!("ledger: the database can be written again");
            self.timing.complained_at = None;
        }
        Ok(true)
    }

    /// What went through the overflow, once the segments are stored up to where they
    /// stood: calls are opened before they are closed, and so must be stored.
    /// Gives the number of records taken.
    fn add_spilled(&mut self, batch: &mut Batch) -> Option<usize> {
        if self.spilled.is_empty() && self.shared.overflow.has_any() {
            self.spilled = self.shared.overflow.take();
            self.spilled_at = self.drain.mark();
        }
        if self.spilled.is_empty() || !self.drain.has_reached(self.spilled_at) {
            return None;
        }
        let records = self.spilled.records.len().min(ENTRIES_MAX);
        batch.records.extend(self.spilled.records.iter().take(records));
        batch.sums.clone_from(&self.spilled.sums);
        batch.collapsed.clone_from(&self.spilled.collapsed);
        Some(records)
    }

    fn failed(&mut self, reason: &str) {
        self.shared.failures.fetch_add(1, Ordering::Relaxed);
        let now = now();
        self.timing.failed_at = Some(now);
        let quiet = |at: Instant| now.saturating_duration_since(at) < COMPLAINT;
        if !self.timing.complained_at.is_some_and(quiet) {
            self.timing.complained_at = Some(now);
            tracing::error!(
                reason,
                "ledger: records cannot be stored; they are kept and tried again: free space in data_dir"
            );
        }
    }
}

impl Shared {
    fn done(&self) -> u64 {
        self.flush.lock().unwrap_or_else(PoisonError::into_inner).done
    }

    fn answer(&self, asked: u64, failure: Option<String>) {
        let mut flush = self.flush.lock().unwrap_or_else(PoisonError::into_inner);
        if asked > flush.done {
            flush.done = asked;
            flush.failure = failure;
            self.flushed.notify_all();
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a thread of its own, outside any runtime: no test pauses its time"
)]
fn now() -> Instant {
    Instant::now()
}
