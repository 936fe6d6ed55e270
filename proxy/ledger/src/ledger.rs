//! The ledger as a proxy sees it: words in, records in, never a wait.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::fs::FlockOperation;

use crate::{
    batch::OpenCalls,
    dimension::{Dictionary, DimId},
    entry::Payload,
    error::LedgerError,
    mapping::{Mapping, Mark},
    overflow::{Overflow, Spilled},
    record::{OpenCall, UsageRecord},
    recovery,
    store::Store,
    wake::Wake,
    writer::{Timing, Writer},
};

const LOCK_FILE: &str = "lock";
pub(crate) const SEGMENT_FILES: [&str; 2] = ["segment-a", "segment-b"];

/// Sizes and times. The default is what the documentation promises.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size of each of the two segments in bytes.
    pub segment_bytes: usize,
    /// How old a record may be before it is on the disk, in milliseconds.
    pub sync_ms: u64,
    /// How old a record may be before a report sees it, in milliseconds.
    pub transfer_ms: u64,
    /// Words in memory; further ones are booked under `~other`.
    pub words_max: usize,
    /// Records kept in memory while the disk is full; of further ones only sums are.
    pub overflow_records_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 20,
            sync_ms: 2,
            transfer_ms: 250,
            words_max: 65_536,
            overflow_records_max: 65_536,
        }
    }
}

/// How a ledger is doing, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Closed calls that are not in the database yet.
    pub queue_records: u64,
    /// Bytes in the segments that are not in the database yet: of calls, and of words said
    /// for the first time.
    pub wal_bytes: u64,
    /// Calls of which only the sums were kept, since the start. Their money is not lost.
    pub dropped: u64,
    /// Entries that found both segments full, since the start: until they are in the
    /// database, a killed process loses these.
    pub unguarded: u64,
    /// Words booked under `~other`, since the start.
    pub words_refused: u64,
    /// Failed tries to write the database or the disk, since the start.
    pub failures: u64,
    /// Calls that a crash had left open, closed as unknown by this start.
    pub recovered_unknown: u64,
}

/// What tasks and the writer thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) mapping: Arc<Mapping>,
    pub(crate) overflow: Overflow,
    pub(crate) wake: Arc<Wake>,
    pub(crate) flush: Mutex<Flush>,
    pub(crate) flushed: Condvar,
    /// Flushes asked for so far.
    pub(crate) asked: AtomicU64,
    pub(crate) stopping: AtomicBool,
    /// Closed calls in the database.
    pub(crate) stored: AtomicU64,
    pub(crate) failures: AtomicU64,
    closed: AtomicU64,
    unguarded: AtomicU64,
    dictionary: Dictionary,
}

/// Which flushes were answered, and how the last one went.
#[derive(Debug, Default)]
pub(crate) struct Flush {
    pub(crate) done: u64,
    pub(crate) failure: Option<String>,
}

/// An open ledger: the only one on its directory.
///
/// All methods but [`Ledger::flush`] and [`Ledger::shutdown`] are for a request's
/// task: they do not wait and do not fail.
#[derive(Debug)]
pub struct Ledger {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    recovered_unknown: u64,
    dir: PathBuf,
    /// Locked as long as this lives.
    _lock: File,
}

impl Ledger {
    /// Locks `dir` (made if absent), stores what the last run left, and starts the
    /// writer thread. Blocking.
    pub fn open(dir: &Path, options: Options) -> Result<Self, LedgerError> {
        fs::create_dir_all(dir).map_err(LedgerError::io("create", dir))?;
        let lock = lock_soon(dir)?;
        let store = Store::open(dir)?;
        Self::start(dir, lock, store, options)
    }

    fn start(
        dir: &Path,
        lock: File,
        mut store: Store,
        options: Options,
    ) -> Result<Self, LedgerError> {
        let [first, second] = SEGMENT_FILES.map(|file| dir.join(file));
        let (epoch, unknown) = recovery::recover(&mut store, [&first, &second])?;
        if unknown > 0 {
            tracing::warn!(
                calls = unknown,
                "ledger: the last run ended with open calls; they are closed as unknown"
            );
        }
        store.begin_run()?;
        let (words, next) = store.dictionary(options.words_max / 2)?;
        let wake = Arc::new(Wake::default());
        let bytes = options.segment_bytes;
        let (mapping, drain) = Mapping::create([&first, &second], bytes, epoch, Arc::clone(&wake))?;
        let shared = Arc::new(Shared {
            mapping,
            overflow: Overflow::new(options.overflow_records_max),
            wake,
            flush: Mutex::default(),
            flushed: Condvar::new(),
            asked: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            stored: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            unguarded: AtomicU64::new(0),
            dictionary: Dictionary::new(words, next, options.words_max),
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            drain,
            store,
            sync_every: Duration::from_millis(options.sync_ms.max(1)),
            transfer_every: Duration::from_millis(options.transfer_ms),
            transfer_bytes: bytes / 4,
            open_calls: OpenCalls::default(),
            spilled: Spilled::default(),
            spilled_at: Mark::default(),
            timing: Timing::default(),
        };
        let thread = thread::Builder::new()
            .name("ledger".into())
            .spawn(|| writer.run())
            .map_err(LedgerError::Thread)?;
        Ok(Self {
            shared,
            writer: Mutex::new(Some(thread)),
            recovered_unknown: u64::try_from(unknown).unwrap_or(u64::MAX),
            dir: dir.to_owned(),
            _lock: lock,
        })
    }

    /// The number of a word: route, tenant, model … Worth keeping where the word is
    /// known in advance; about 50 ns for a word that was seen before. The empty word
    /// is [`DimId::NONE`].
    pub fn dim(&self, text: &str) -> DimId {
        let mapping = &self.shared.mapping;
        self.shared.dictionary.id(text, |id, text| mapping.append(&Payload::definition(id, text)))
    }

    /// Before the upstream is asked: should the process die, the call is in the
    /// ledger as unknown, with what is known here. Every opened call must be closed:
    /// it is kept in memory until then.
    pub fn open_call(&self, call: &OpenCall) {
        if !self.shared.mapping.append(&Payload::open(call)) {
            self.shared.unguarded.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The call's final record. On return a killed process does not lose it.
    /// Call it once per id, before the last frame is handed on.
    pub fn close(&self, record: &UsageRecord) {
        self.shared.closed.fetch_add(1, Ordering::Relaxed);
        if !self.shared.mapping.append(&Payload::close(record)) {
            self.shared.unguarded.fetch_add(1, Ordering::Relaxed);
            self.shared.overflow.push(record);
            self.shared.wake.if_asleep();
        }
    }

    /// Waits until every record closed before the call is in the database. Blocking.
    pub fn flush(&self) -> Result<(), LedgerError> {
        let asked = self.shared.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.shared.wake.now();
        let mut flush = self.shared.flush.lock().unwrap_or_else(PoisonError::into_inner);
        while flush.done < asked {
            if self.has_stopped() {
                let reason = "the ledger was shut down; the next start stores them".to_owned();
                return Err(LedgerError::NotFlushed { reason });
            }
            let waited = self.shared.flushed.wait_timeout(flush, Duration::from_millis(50));
            (flush, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        match &flush.failure {
            Some(reason) => Err(LedgerError::NotFlushed { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Flushes, ends the writer thread and folds the database's log in. Blocking.
    /// What is closed afterwards is stored by the next start.
    pub fn shutdown(&self) -> Result<(), LedgerError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(thread) = writer.take() else { return Ok(()) };
        drop(writer);
        let asked = self.shared.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.wake.now();
        if thread.join().is_err() {
            let reason = "the writer thread died; the next start stores them".to_owned();
            return Err(LedgerError::NotFlushed { reason });
        }
        let flush = self.shared.flush.lock().unwrap_or_else(PoisonError::into_inner);
        match &flush.failure {
            Some(reason) => Err(LedgerError::NotFlushed { reason: reason.clone() }),
            None if flush.done < asked => {
                let reason = "a task was still storing; the next start stores them".to_owned();
                Err(LedgerError::NotFlushed { reason })
            }
            None => Ok(()),
        }
    }

    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let stored = shared.stored.load(Ordering::Relaxed);
        let bytes = shared.mapping.bytes_waiting();
        Stats {
            queue_records: shared.closed.load(Ordering::Relaxed).saturating_sub(stored),
            wal_bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
            dropped: shared.overflow.collapsed(),
            unguarded: shared.unguarded.load(Ordering::Relaxed),
            words_refused: shared.dictionary.refused(),
            failures: shared.failures.load(Ordering::Relaxed),
            recovered_unknown: self.recovered_unknown,
        }
    }

    /// Where the ledger lives.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn has_stopped(&self) -> bool {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if let Err(error) = self.shutdown() {
            tracing::error!(%error, "ledger: not everything is in the database");
        }
    }
}

/// Like [`lock`], but outlasts a [`crate::Reader`] that is just storing what a crash left.
fn lock_soon(dir: &Path) -> Result<File, LedgerError> {
    const TRIES: u32 = 10;
    for _ in 0..TRIES {
        match lock(dir) {
            Err(LedgerError::Locked { .. }) => thread::sleep(Duration::from_millis(20)),
            other => return other,
        }
    }
    lock(dir)
}

/// Takes the directory for this process; the lock goes with the file, however the
/// process ends.
pub(crate) fn lock(dir: &Path) -> Result<File, LedgerError> {
    let path = dir.join(LOCK_FILE);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(LedgerError::io("open", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            let read = (&file).take(20).read_to_string(&mut holder);
            let holder = match read {
                Ok(_) if !holder.trim().is_empty() => format!(" (pid {})", holder.trim()),
                Ok(_) | Err(_) => String::new(),
            };
            return Err(LedgerError::Locked { dir: dir.to_owned(), holder });
        }
        Err(error) => return Err(LedgerError::io("lock", &path)(error.into())),
    }
    file.set_len(0).map_err(LedgerError::io("write", &path))?;
    writeln!(file, "{}", std::process::id()).map_err(LedgerError::io("write", &path))?;
    Ok(file)
}

#[cfg(test)]
pub(crate) mod tests;
