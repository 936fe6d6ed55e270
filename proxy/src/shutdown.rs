//! The way down: readiness fails first, then nothing new is taken, then what is in
//! flight ends or is cut.
//!
//! ```text
//!  running ─SIGTERM─▶ not ready (quiet) ─▶ stop accepting, connections leave ─▶ deadline: cut
//!     ▲                   │ /wait-for-drain is undone when no SIGTERM follows
//!     └───────────────────┘
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What every part looks at to learn that the process goes down.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown {
    /// Listeners take no more connections.
    pub(crate) stop_accepting: CancellationToken,
    /// Connections end after what they are doing.
    pub(crate) leave: CancellationToken,
    /// What is still there is cut.
    pub(crate) cut: CancellationToken,
    /// Everything has been written; servers of our own end too.
    pub(crate) over: CancellationToken,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    draining: AtomicBool,
    /// How many have asked over HTTP for a drain that is not confirmed by a signal.
    asked: AtomicU64,
}

impl Default for Shutdown {
    fn default() -> Self {
        let cut = CancellationToken::new();
        let leave = CancellationToken::new();
        let stop_accepting = CancellationToken::new();
        let over = CancellationToken::new();
        Self { stop_accepting, leave, cut, over, state: Arc::default() }
    }
}

impl Shutdown {
    /// Readiness has failed.
    pub(crate) fn is_draining(&self) -> bool {
        self.state.draining.load(Ordering::Acquire) || self.state.asked.load(Ordering::Acquire) > 0
    }

    /// A drain that was asked for over HTTP. Dropped, it is undone, unless a signal came.
    pub(crate) fn ask(&self) -> Asked {
        self.state.asked.fetch_add(1, Ordering::AcqRel);
        Asked(self.state.clone())
    }

    /// Readiness fails from now on, and does not come back.
    pub(crate) fn begin(&self) {
        self.state.draining.store(true, Ordering::Release);
    }

    /// Goes down: `quiet` with readiness false and everything served, then connections
    /// leave; at `deadline`, counted from now, the rest is cut.
    ///
    /// Returns how many connections were cut.
    pub(crate) async fn drain(
        &self,
        connections: &TaskTracker,
        quiet: Duration,
        deadline: Duration,
    ) -> usize {
        let end = time::Instant::now() + deadline;
        self.begin();
        time::sleep(quiet).await;
        self.stop_accepting.cancel();
        self.leave.cancel();
        connections.close();
        if time::timeout_at(end, connections.wait()).await.is_ok() {
            return 0;
        }
        let cut = connections.len();
        self.cut.cancel();
        cut
    }
}

/// See [`Shutdown::ask`].
#[derive(Debug)]
pub(crate) struct Asked(Arc<State>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.asked.fetch_sub(1, Ordering::AcqRel);
    }
}
