//! How a request's task tells the writer that there is something, almost always
//! without a system call.
//!
//! The writer says that it sleeps *before* it looks a last time whether there is
//! something; a task stores its record *before* it looks whether the writer
//! sleeps. Both steps are `SeqCst` (on the task's side the reservation's
//! `fetch_add` is, which costs nothing more), so one of the two sees the other.
//! While the writer is awake it looks every 2 ms by itself and nobody calls it.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

#[derive(Debug, Default)]
pub(crate) struct Wake {
    asleep: AtomicBool,
    writer: OnceLock<Thread>,
}

impl Wake {
    /// Called by the writer thread, once.
    pub(crate) fn register(&self) {
        self.writer.get_or_init(thread::current);
    }

    /// After storing something: one load, and a system call only if the writer sleeps.
    pub(crate) fn if_asleep(&self) {
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            self.now();
        }
    }

    #[cfg(test)]
    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::SeqCst)
    }

    /// A segment is full, or somebody waits for a flush: do not wait for the next look.
    pub(crate) fn now(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// By the writer: rests a moment without being called by records.
    pub(crate) fn pause(&self, pause: Duration) {
        thread::park_timeout(pause);
    }

    /// By the writer: sleeps until called, unless `anything` is there by now.
    pub(crate) fn sleep_unless(&self, anything: impl Fn() -> bool) {
        self.asleep.store(true, Ordering::SeqCst);
        if !anything() {
            thread::park();
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}
