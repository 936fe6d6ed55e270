//! Waiting for what was stored to have come everywhere.

use smallvec::SmallVec;
use std::{pin::Pin, time::Duration};
use tokio::time::Instant;
use tollgate_cache::tiers::Arriving;

/// An answer on its way to tiers that its callers wait for.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    /// One for each entry that was made of it.
    arriving: SmallVec<[Arriving; 1]>,
    timeout: Duration,
}

impl Arrival {
    pub(super) fn of(arriving: SmallVec<[Arriving; 1]>, timeout: Duration) -> Self {
        Self { arriving, timeout }
    }

    /// As one that is waited for so long.
    pub(super) fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Until it has come everywhere, and no longer than the slowest tier may take.
    pub(crate) fn wait(self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let Self { arriving, timeout } = self;
        Box::pin(async move {
            let until = Instant::now() + timeout;
            for one in arriving {
                // All have had the same time.
                one.wait(until.saturating_duration_since(Instant::now())).await;
            }
        })
    }
}
