//! What lies under a URL, tier by tier, for who asks about it: and what would come of it.

use super::{Held, read, scope};
use crate::{
    app::Parts,
    cache::{Lying, Place, Question, now_ms},
    identity::Caller,
};
use http::request;
use tollgate_cache::{
    rfc9111::{
        request::Request,
        reuse::{Reuse, Why, reuse},
    },
    tiers::{Found, Peeked},
};

/// What each tier has for a call with this `head`: of its own variant, where one is held.
pub(in crate::cache) async fn places(
    parts: &Parts,
    question: &Question,
    head: &request::Parts,
    caller: &Caller,
) -> Vec<Place> {
    let Some(asked) = question.http.as_deref() else { return Vec::new() };
    let (request, now_ms) = (read(head, scope(caller)), now_ms());
    let held = asked.held.as_ref().map(|held| (held.key, held.entry.check));
    let (key, check) = held.unwrap_or((question.key, question.check));
    let plan = &question.route.http.plan;
    let peeked = parts.cache.tiers.peek(key, &check, plan, now_ms).await;
    let place = |Peeked { tier, is_up, found }| {
        let lies = found.and_then(|found: Found| {
            let is_soft = found.soft_since_ms.is_some();
            Some(lying(&Held::of(found, key)?, is_soft, &request, now_ms))
        });
        Place { tier, is_up, lies }
    };
    peeked.into_iter().map(place).collect()
}

fn lying(held: &Held, is_soft: bool, request: &Request, now_ms: u64) -> Lying {
    let verdict = match reuse(&held.stored, request, now_ms) {
        Reuse::Fresh { .. } => "given",
        Reuse::Stale { why: Why::WhileRevalidate, .. } => "given-while-renewed",
        Reuse::Stale { .. } => "given-as-old",
        Reuse::Revalidate("no-cache" | "max-age" | "min-fresh") | Reuse::Miss(_) => "unwanted",
        Reuse::Revalidate(_) | Reuse::NotCached => "past-its-time",
    };
    let age_ms = held.stored.age_ms(now_ms);
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let left_ms = signed(held.stored.lifetime_ms).saturating_sub(signed(age_ms));
    Lying { age_ms, left_ms, is_soft, verdict }
}
