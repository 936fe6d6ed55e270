//! What callers void by what they ask: a change of a URL, an answer that may no longer be kept.
//!
//! Each takes a place in the fleet's table of purges, which is bounded: full, it forgets by voiding
//! everything, everybody's. Anybody may ask for a new URL and change it, as often as upstreams let
//! them; so these purges are bounded as votes are. Beyond the bound nothing takes a place: under the
//! key an empty list of variants is laid over what was kept, here and in the stores, which says that
//! there is nothing. What is lost then is reach: another instance may give what it has in its own
//! memory until its time is over, as a cache that hears of no changes would.

use super::{Question, now_ms};
use crate::{app::Parts, seldom::Seldom};
use bytes::Bytes;
use std::{num::NonZeroU32, sync::Arc};
use tollgate_cache::{
    delivery::Delivery,
    entry::{Entry, Form, Hits, Rule},
    generations::{CheckedAt, Target},
    key::{CacheKey, Check},
};

/// Purges that the calls of one tenant on one route make in a minute; of all there are twice as many.
const PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(299);
/// How long it is said that there is nothing. What was kept is written over, and does not come back.
const NOTHING_MS: u64 = 60_000;

static WARNED: Seldom = Seldom::new();

/// Voids what `target` means, or at least what lies under `key`, which is of `question`'s route and
/// tenant.
pub(super) async fn void(
    parts: &Parts,
    question: &Question,
    target: Target<'_>,
    (key, check): (CacheKey, Check),
) {
    let (route, tenant) = (&question.route, question.tenant.as_str());
    let tiers = &parts.cache.tiers;
    if parts.cache.voids.take(&route.name, tenant, PER_MINUTE) {
        tiers.purge_beside(target).await;
        return;
    }
    if let Some(not_logged) = WARNED.now() {
        let route = &*route.name;
        tracing::warn!(
            route,
            tenant,
            not_logged,
            "calls void more answers than the fleet is told of: another instance may give them until \
             their time is over"
        );
    }
    let _kept =
        tiers.store(key, Arc::new(nothing(parts, question, check)), &route.http.plan, now_ms());
}

/// What says that there is nothing.
fn nothing(parts: &Parts, question: &Question, check: Check) -> Entry {
    Entry {
        status: 200,
        headers: Vec::new(),
        body: Bytes::new(),
        frame_ends: Box::default(),
        form: Form::Whole,
        check,
        stored_at_ms: now_ms(),
        ttl_ms: NOTHING_MS,
        rule: Rule::Variants(Box::default()),
        model: Arc::default(),
        model_version: Arc::default(),
        tenant: question.tenant.as_str().into(),
        route: (&*question.route.name).into(),
        tags: Vec::new(),
        subjects: Box::default(),
        note: Bytes::new(),
        worth: 0,
        stamp: parts.cache.tiers.stamp(),
        checked: CheckedAt::default(),
        hits: Hits::default(),
        delivery: Delivery::default(),
    }
}
