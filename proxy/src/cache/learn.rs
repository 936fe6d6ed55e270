//! What a new answer tells about how often answers to its question change.

use super::{
    Question,
    alike::{Said, say_the_same},
    now_ms,
};
use crate::{
    app::Parts,
    metrics::NotKept,
    route::{Life, Unkept},
};
use tollgate_cache::{
    entry::{Entry, Form, Rule, subjects},
    freshness::Change,
    generations::About,
    key::{CacheKey, Check},
    tiers::Before,
};

/// By what lies under its key in memory; `None` where the route does not go by it.
pub(super) fn change(
    parts: &Parts,
    question: &Question,
    came: Said<'_>,
    key: &CacheKey,
    check: &Check,
) -> Option<Change> {
    question.route.freshness.adapt?;
    let (route, tenant, now_ms) = (&question.route.name, question.tenant.as_str(), now_ms());
    let subjects = subjects(*key, route, &question.model, tenant, &question.tags);
    let about = About { subjects: &subjects, tags: &question.tags };
    let found = match parts.cache.tiers.before(key, check, about, now_ms) {
        Before::Nothing => return Some(Change::First),
        Before::Purged => return Some(Change::Purged),
        Before::Lies(found) => found,
    };
    let Entry { status, form, ref body, .. } = *found.entry;
    let learned_ms = found.entry.learned_ms();
    let stood_ms = found.entry.age_ms(now_ms);
    Some(match say_the_same(question.operation, Said { status, form, body }, came) {
        Some(true) => Change::Same { learned_ms, stood_ms },
        Some(false) => Change::Differs { learned_ms },
        None => Change::Unread { learned_ms },
    })
}

/// For how long an answer may be of use, and what decides about it until then; `None`: it is not to
/// be kept.
pub(super) fn times(
    question: &Question,
    life: Life,
    answer: (Form, &[u8]),
    key: &CacheKey,
    change: Option<Change>,
) -> Option<(u64, Rule)> {
    let (conditions, freshness) = (&question.route.conditions, &question.route.freshness);
    let mut learned_ms = 0;
    let adapted = |base_ms| match (life.said_ms, freshness.adapt.zip(change)) {
        (Some(said_ms), _) => said_ms,
        (None, Some((adapt, change))) => {
            learned_ms = adapt.time_ms(base_ms, change);
            learned_ms
        }
        (None, None) => base_ms,
    };
    let fresh_ms = conditions.of_body(life, question.operation, answer, key, adapted);
    if fresh_ms == Err(Unkept::Unread) {
        question.route.lane.metrics.not_kept(NotKept::Unread);
    }
    let fresh_ms = fresh_ms.ok()?;
    Some(freshness.of_entry(fresh_ms, life.cap_ms, learned_ms))
}
