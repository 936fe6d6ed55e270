//! Waiting for events, never for time.

use std::{fmt::Debug, future::Future, time::Duration};
use tokio::time;

/// How long anything may take. Far beyond what it does take on a busy machine: who
/// waits this long has found a defect.
pub const LIMIT: Duration = Duration::from_secs(15);

/// How often a state that tells nobody of its changes is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Waits for `event`.
///
/// # Panics
/// It does not come within [`LIMIT`]; the panic says `what` was waited for.
#[track_caller]
pub fn within<F: Future>(what: &str, event: F) -> impl Future<Output = F::Output> {
    let place = std::panic::Location::caller();
    async move {
        time::timeout(LIMIT, event)
            .await
            .unwrap_or_else(|_| panic!("{place}: waited {LIMIT:?} in vain for {what}"))
    }
}

/// Looks until `wanted` says yes, and returns what it said yes to.
///
/// # Panics
/// It does not within [`LIMIT`]; the panic shows the state that was seen last.
#[track_caller]
pub fn until<S, F>(
    what: &str,
    mut look: impl FnMut() -> F,
    mut wanted: impl FnMut(&S) -> bool,
) -> impl Future<Output = S>
where
    S: Debug,
    F: Future<Output = S>,
{
    let place = std::panic::Location::caller();
    async move {
        let mut last = None;
        let mut ticks = time::interval(LOOK_INTERVAL);
        // A look that takes longer than the interval must leave time to what it waits for.
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let looking = async {
            loop {
                ticks.tick().await;
                let state = look().await;
                if wanted(&state) {
                    return state;
                }
                last = Some(state);
            }
        };
        match time::timeout(LIMIT, looking).await {
            Ok(state) => state,
            Err(_) => panic!("{place}: waited {LIMIT:?} in vain for {what}; seen last: {last:#?}"),
        }
    }
}
