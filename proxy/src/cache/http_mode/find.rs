//! Finds what is held for a URL, or for this caller's variant of it.

use crate::{
    app::Parts,
    cache::{Ask, coded::Agreed, in_memory, label, now_ms},
    route::Route,
};
use http::HeaderName;
use std::sync::Arc;
use tollgate_cache::{
    entry::{Entry, FieldNames, Rule},
    key::{CacheKey, Check},
    rfc9111::store::Stored,
    tiers::{Found as InTier, TierName},
};

/// A stored answer to just this request, whether or not it may be given now.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(super) key: CacheKey,
    pub(super) entry: Arc<Entry>,
    pub(super) tier: TierName,
    pub(super) stored: Stored,
}

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looks {
    /// What is found is counted, and copied to nearer tiers.
    ForCaller,
    /// Only to know: neither.
    Aside,
}

impl Looks {
    /// In what the caller takes an answer. Who only looks has no coded form made.
    pub(super) fn agreed(self, ask: &Ask) -> Agreed {
        match self {
            Self::ForCaller => ask.agreed,
            Self::Aside => Agreed::default(),
        }
    }
}

/// What there is under a URL.
#[derive(Default)]
pub(super) struct Found {
    pub(super) held: Option<Held>,
    pub(super) lists: Box<[FieldNames]>,
}

impl Held {
    /// `None`: it is not an answer of HTTP caching.
    pub(super) fn of(found: InTier, key: CacheKey) -> Option<Self> {
        let InTier { entry, tier, soft_since_ms } = found;
        let Rule::Http(rule) = &entry.rule else { return None };
        let mut stored = rule.stored;
        if let Some(since_ms) = soft_since_ms {
            // Its time was over then, whenever that was to be.
            let lived_ms = since_ms.saturating_sub(stored.made_at_ms);
            stored.lifetime_ms = stored.lifetime_ms.min(lived_ms);
        }
        Some(Self { key, entry, tier, stored })
    }
}

/// `variant`: the key of the answer that depends on these fields, for whoever asks.
pub(super) async fn find(
    parts: &Parts,
    (route, looks): (&Route, Looks),
    (key, check): (CacheKey, Check),
    variant: impl Fn(&[HeaderName]) -> (CacheKey, Check),
) -> Found {
    let nothing = Found::default();
    let Some(first) = look(parts, route, (&key, &check), looks).await else { return nothing };
    let lists = match &first.entry.rule {
        Rule::Ttl | Rule::Timed(_) => return nothing,
        Rule::Http(_) => {
            return Found { held: Held::of(first, key), lists: Box::default() };
        }
        Rule::Variants(lists) => lists.clone(),
    };
    let mut held: Option<Held> = None;
    for names in &lists {
        let (key, check) = variant(names);
        let found = look(parts, route, (&key, &check), looks).await;
        let found = found.and_then(|found| Held::of(found, key));
        // Of several that fit, the most recent (RFC 9111 §4.1).
        let made_at_ms = held.as_ref().map(|held| held.stored.made_at_ms);
        if found.as_ref().map(|found| found.stored.made_at_ms) > made_at_ms {
            held = found;
        }
    }
    Found { held, lists }
}

/// The nearest entry under a key.
async fn look(
    parts: &Parts,
    route: &Route,
    (key, check): (&CacheKey, &Check),
    looks: Looks,
) -> Option<InTier> {
    let now_ms = now_ms();
    let plan = &route.http.plan;
    if looks == Looks::Aside {
        let peeked = parts.cache.tiers.peek(*key, check, plan, now_ms).await;
        return peeked.into_iter().find_map(|peeked| peeked.found);
    }
    if plan.begins_in_memory()
        && let Some(found) = in_memory(parts, key, check, now_ms)
    {
        return Some(found);
    }
    if !plan.goes_on() {
        return None;
    }
    let took = |tier, took| parts.metrics.looked_up(label(tier), took);
    let found = parts.cache.tiers.look_up_rest(*key, check, plan, now_ms, took).await;
    // Another instance may have brought it there.
    found.iter().for_each(|found| keeps(parts, &found.entry));
    found
}

/// From now on a change of its URL voids it, whoever makes it.
pub(in crate::cache) fn keeps(parts: &Parts, entry: &Entry) {
    if let Rule::Http(rule) = &entry.rule {
        parts.cache.urls.keeps(rule.named, entry.stored_at_ms.saturating_add(entry.ttl_ms));
    }
}

/// Something is kept for a URL.
pub(super) async fn is_kept(parts: &Parts, route: &Route, key: &CacheKey, check: &Check) -> bool {
    let found = look(parts, route, (key, check), Looks::Aside).await;
    let is_nothing = |rule: &Rule| matches!(rule, Rule::Variants(lists) if lists.is_empty());
    found.is_some_and(|found| !is_nothing(&found.entry.rule))
}
