//! Has answers before somebody asks for them: lists of requests, asked at the start, at times of
//! day, again and again, or when an administrator says so.
//!
//! ```text
//!  file at the start ─┐
//!  schedule ──────────┼─▶ run: line by line ─▶ pace ─▶ exchange::ask_ourselves ─▶ tally, log, API
//!  POST /api/cache/… ─┘
//! ```
//!
//! What was asked for most before the start needs no asking: it is read from the tiers behind memory
//! (`restore`).
//!
//! All runs together keep one pace (`cache.warm.rate`, `cache.warm.concurrency`), whatever asked
//! for them: what a warm-up may cost the upstream is one number. The calls are in the least
//! important class, so they wait behind everybody's.

mod pace;
mod restore;
mod run;
mod schedule;

pub(crate) use self::{
    restore::note_last as note_hot_set,
    run::{Order, Run, begin, read_list},
};

use self::pace::Pace;
use crate::app::Parts;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::Semaphore;

/// Runs that are remembered for the administrator, the newest first.
const RUNS_MAX: usize = 16;

/// Runs of administrators that may be under way at a time; each holds its requests in memory.
const ORDERED_MAX: usize = 4;

/// The longest list, of a file or an order: some ten thousand questions to a model. It is held in
/// memory while it is asked.
pub(crate) const LIST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What runs share.
#[derive(Debug)]
pub(crate) struct Warming {
    pace: Pace,
    runs: Mutex<VecDeque<Arc<Run>>>,
    /// Places for what administrators order.
    orders: Arc<Semaphore>,
    next_id: AtomicU64,
}

impl Warming {
    /// `concurrency`: calls under way at a time, of all runs.
    pub(crate) fn new(concurrency: u16) -> Self {
        Self {
            pace: Pace::new(concurrency),
            runs: Mutex::default(),
            orders: Arc::new(Semaphore::new(ORDERED_MAX)),
            next_id: AtomicU64::new(1),
        }
    }

    /// The runs of late, the newest first.
    pub(crate) fn runs(&self) -> Vec<Arc<Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn remember(&self, make: impl FnOnce(u64) -> Run) -> Arc<Run> {
        let run = Arc::new(make(self.next_id.fetch_add(1, Ordering::Relaxed)));
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if runs.len() == RUNS_MAX {
            // The oldest that is over: what is under way stays to be seen.
            let over = runs.iter().rposition(|run| run.is_over());
            runs.remove(over.unwrap_or(RUNS_MAX - 1));
        }
        runs.push_front(run.clone());
        run
    }
}

/// Begins what nobody has to ask for.
pub(crate) fn begin_by_itself(parts: &Arc<Parts>) {
    restore::begin(parts);
    schedule::begin(parts);
}

/// Begins what an administrator wants asked; `None`: too much of that is under way.
pub(crate) fn order(parts: &Arc<Parts>, list: bytes::Bytes, refresh: bool) -> Option<Arc<Run>> {
    let place = parts.warming.orders.clone().try_acquire_owned().ok()?;
    let order = Order { source: run::Source::Admin, refresh, is_patient: false };
    Some(begin(parts, order, list, Some(place)))
}
