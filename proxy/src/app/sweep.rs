//! Looks after the memory tier beside the calls.

use super::Parts;
use std::{sync::Arc, time::Duration};

/// How often entries past their time are looked for. They are never served; this only
/// gives their memory back.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Gives back the memory of entries that are past their time.
pub(super) fn begin(parts: &Arc<Parts>) {
    let weak = Arc::downgrade(parts);
    let over = parts.shutdown.over.clone();
    parts.tasks.spawn(async move {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            tokio::select! {
                () = over.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let Some(parts) = weak.upgrade() else { return };
            parts.cache.tiers.sweep(crate::cache::now_ms());
        }
    });
}
