//! What the metrics are told of upstreams that fail, and of what is done about it.

use super::{Destination, Parts};
use crate::{metrics::UpstreamReading, upstream::Cause};
use std::sync::{Arc, atomic::Ordering};

/// Tells the metrics where to look when somebody scrapes.
pub(super) fn report(parts: &Arc<Parts>) {
    let upstreams = Arc::downgrade(parts);
    parts.metrics.set_upstream_source(move || {
        let Some(parts) = upstreams.upgrade() else { return Vec::new() };
        let snapshot = parts.snapshot.load();
        let upstreams = &snapshot.config.upstreams;
        let stands_in = |to: &Destination| {
            let mut fallbacks = upstreams.iter().filter_map(|one| one.fallback.as_ref());
            fallbacks.any(|fallback| fallback.upstream == to.config.id)
        };
        snapshot.destinations.iter().map(|to| reading(to, stands_in(to))).collect()
    });
}

fn reading(to: &Destination, stands_in: bool) -> UpstreamReading {
    let upstream = &to.upstream;
    let breaker = upstream.breakers.as_ref().map(|breakers| {
        let open = breakers.open();
        (crate::body::len_u64(open.endpoints), open.opened)
    });
    let retries = upstream.retries.as_ref().map(|retries| {
        let counts = retries.counts();
        let by_cause = Cause::ALL.iter().zip(counts.by_cause);
        (by_cause.map(|(cause, count)| (cause.name(), count)).collect(), counts.over_budget)
    });
    let stood_in = stands_in.then(|| upstream.stood_in.load(Ordering::Relaxed));
    UpstreamReading { upstream: upstream.name.to_string(), breaker, retries, stood_in }
}
