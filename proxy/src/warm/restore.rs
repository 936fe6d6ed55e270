//! Brings to memory, after the start, what was asked for most before it (`cache.warm.restore_hot`),
//! and notes every now and then what that is.
//!
//! Nobody is asked for it: the answers lie in the tiers behind memory, where the last process or
//! other instances left them. What is not there any more is left out.

use crate::app::Parts;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::{self, Instant};
use tollgate_cache::{
    generations::{Subject, Target},
    tiers::{Outer, Plan},
};

/// A process that is killed forgets no more than that.
const NOTE_INTERVAL: Duration = Duration::from_secs(60);
/// How long a start waits for stores that are not up yet; what is up by then is read.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long a shutdown waits for the note to arrive.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Restores, then takes notes until the end.
pub(super) fn begin(parts: &Arc<Parts>) {
    let weak = Arc::downgrade(parts);
    let leave = parts.shutdown.leave.clone();
    parts.tasks.spawn(async move {
        if let Some(parts) = weak.upgrade() {
            let restored = restore(&parts);
            if leave.run_until_cancelled(restored).await.is_none() {
                return;
            }
        }
        while leave.run_until_cancelled(time::sleep(NOTE_INTERVAL)).await.is_some() {
            let Some(parts) = weak.upgrade() else { return };
            note(&parts).await;
        }
    });
}

async fn restore(parts: &Arc<Parts>) {
    let snapshot = parts.snapshot.load_full();
    let most = snapshot.config.cache.warm.restore_hot;
    if most == 0 || parts.cache.tiers.all_outer().is_empty() {
        return;
    }
    wait_for_stores(parts).await;
    let (tiers, began) = (&parts.cache.tiers, Instant::now());
    let noted = tiers.noted_hot(&parts.cache.namespace, crate::cache::now_ms()).await;
    // Of a route's two plans the one that keeps nothing longer than the other.
    let plans: HashMap<Subject, &Plan> =
        snapshot.routes.iter().map(|route| (named(&route.name), &route.http.plan)).collect();
    let (mut wanted, mut found) = (0_u64, 0_u64);
    for hot in noted.iter().take(most) {
        let Some(plan) = plans.get(&hot.route) else { continue };
        wanted += 1;
        found += u64::from(tiers.restore(hot, plan, crate::cache::now_ms()).await);
    }
    let took_ms = Instant::now().saturating_duration_since(began).as_millis();
    tracing::info!(noted = noted.len(), wanted, found, took_ms, "the hot set was restored");
}

async fn wait_for_stores(parts: &Parts) {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until && !parts.cache.tiers.all_outer().iter().all(Outer::is_up) {
        time::sleep(LOOK_INTERVAL).await;
    }
}

fn named(route: &str) -> Subject {
    Subject::of(Target::Route(route))
}

/// The last note, before the process ends.
pub(crate) async fn note_last(parts: &Arc<Parts>) {
    time::timeout(LAST_WAIT, note(parts)).await.unwrap_or_default();
}

async fn note(parts: &Arc<Parts>) {
    let most = parts.snapshot.load().config.cache.warm.restore_hot;
    if most == 0 || parts.cache.tiers.all_outer().is_empty() {
        return;
    }
    let counted = parts.clone();
    let own = tokio::task::spawn_blocking(move || counted.cache.tiers.hottest(most)).await;
    let Ok(own) = own else { return };
    let (tiers, now_ms) = (&parts.cache.tiers, crate::cache::now_ms());
    tiers.note_hot(&parts.cache.namespace, own, (most, now_ms), LAST_WAIT).await;
}
