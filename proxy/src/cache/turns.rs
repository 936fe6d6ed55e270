//! Whose turn it is to fill a key, where a fleet shares answers: a caller's, or what an administrator
//! brings. Apart, as the leases are the store's and not the cache's own.

use super::{Mode, Question};
use crate::{app::Parts, exchange::Fetch};
use tokio::time::Instant;
use tollgate_cache::{
    shared::{Lease, Turn},
    tiers::TierName,
};

/// A call's turn to fill what no tier holds, where its route shares answers with a fleet.
pub(crate) fn turn<'a>(fetch: &'a Fetch, question: &Question) -> Option<Turn<'a>> {
    turn_until(&fetch.parts, question, fetch.deadline)
}

/// The right to fill a key for what an administrator brings for it, where there are such rights:
/// other instances wait for that, and what they began before is not stored over it.
pub(super) async fn lease_of_put(parts: &Parts, question: &Question) -> Option<Lease> {
    // It waits for nobody.
    turn_until(parts, question, Instant::now())?.leads_anew().await
}

fn turn_until<'a>(parts: &'a Parts, question: &Question, until: Instant) -> Option<Turn<'a>> {
    let uses = question.route.plan.uses();
    if question.mode != Mode::Content || !uses.iter().any(|used| used.tier == TierName::Redis) {
        return None;
    }
    parts.cache.tiers.redis()?.turn(question.key, until)
}
