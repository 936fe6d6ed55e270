//! Renews a stale answer that was just given: one upstream call for all who are given it
//! meanwhile (RFC 5861 §3), in the least important class, with a record of its own.

use super::{Fetch, Marks};
use crate::{
    admission::QueuedFlag,
    cache::{Fill, Question},
    meter::Call,
    metrics::{CacheOutcome, TierLabel},
};
use tokio::{sync::Semaphore, time::Instant};
use tollgate_cache::flight::Join;

/// How many stale answers are renewed at a time. With more, they stay stale until somebody asks
/// again: what callers wait for comes first.
static RENEWALS: Semaphore = Semaphore::const_new(256);

/// Begins it, unless somebody has, or too many are under way.
pub(super) fn begin(mut fetch: Box<Fetch>, question: Box<Question>, marks: &Marks) {
    let Ok(place) = RENEWALS.try_acquire() else { return };
    let parts = fetch.parts.clone();
    let lane = fetch.route.lane.clone();
    fetch.class = lane.class_last();
    let Join::Lead(lead) = parts.flights.join(question.key, fetch.class) else { return };
    let mut call = Call::begin(&parts.meter, &lane);
    call.routed(&lane, fetch.class, &fetch.caller);
    call.cache(CacheOutcome::Miss, TierLabel::None);
    fetch.deadline = Instant::now() + fetch.route.destination.upstream.timeouts.total;
    fetch.queued = Some(QueuedFlag::over(lead.queued()));
    fetch.fill = Some(Fill::new(&parts, question));
    let Some(mut listener) = lead.start(Box::pin(fetch.ask(call, marks.clone()))) else { return };
    let cut = parts.shutdown.cut.clone();
    parts.connections.spawn(async move {
        let renewed = async {
            if listener.head().await.is_ok() {
                listener.landed().await;
            }
        };
        cut.run_until_cancelled(renewed).await;
        drop(place);
    });
}
