//! A caller's word that an answer it was given is bad: `tollgate-vote: bad` beside the same request
//! again.
//!
//! It names no key, no tag and no record: what is voided is what this very call would have been
//! given, so nobody reaches further than into what it may read anyway. A route says who is believed
//! (`cache.vote_out`); all others' word is left aside, as a class that is not theirs is. What is
//! voided is gone in the whole fleet, and the upstream is asked for the answer in its place.
//!
//! **Invariant:** a vote purges at most one key, only one that holds something, at most so often for
//! each tenant and so often for all of them together: who votes cannot fill the table of purges.

use crate::{
    app::Parts,
    identity::{Caller, Tenant},
    metrics::VoteOutcome,
    route::Route,
};
use http::{HeaderMap, HeaderName};
use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tollgate_cache::{
    generations::Target,
    key::{CacheKey, Check},
    tiers::{Plan, Reach},
};
use tollgate_config::{Scope, Trust, VoteOut};

pub(crate) const VOTE: HeaderName = HeaderName::from_static("tollgate-vote");
const BAD: &[u8] = b"bad";

/// What is counted begins anew.
const WINDOW: Duration = Duration::from_secs(60);
/// Of all tenants together: a minute's votes are a hundredth of the purges that are told apart.
const VOTES_MAX: u32 = 600;

/// The votes of this minute.
#[derive(Debug)]
pub(crate) struct Votes(Mutex<Count>);

#[derive(Debug)]
struct Count {
    since: Instant,
    /// At most [`VOTES_MAX`], and with it the size of `by`.
    all: u32,
    by: HashMap<(Arc<str>, Box<str>), u32>,
}

impl Default for Votes {
    fn default() -> Self {
        Self(Mutex::new(Count { since: Instant::now(), all: 0, by: HashMap::new() }))
    }
}

impl Votes {
    /// Whether `tenant` has one left on `route`; it is then used.
    fn take(&self, route: &Arc<str>, tenant: &str, per_minute: NonZeroU32) -> bool {
        let now = Instant::now();
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= count.since + WINDOW {
            *count = Count { since: now, all: 0, by: HashMap::new() };
        }
        let name = (route.clone(), tenant.into());
        let own = count.by.get(&name).copied().unwrap_or(0);
        if count.all >= VOTES_MAX || own >= per_minute.get() {
            return false;
        }
        count.all += 1;
        count.by.insert(name, own + 1);
        true
    }
}

/// Whether this call says that its answer is bad, and is believed. `shared`: others are given the
/// same answer.
pub(super) fn is_cast(
    parts: &Parts,
    route: &Route,
    caller: &Caller,
    headers: &HeaderMap,
    shared: bool,
) -> bool {
    let Some(rule) = &route.config.cache.vote_out else { return false };
    let said = headers.get(&VOTE).map(|vote| vote.as_bytes().trim_ascii());
    if !said.is_some_and(|said| said.eq_ignore_ascii_case(BAD)) {
        return false;
    }
    let is_believed = may(rule, &caller.tenant, shared);
    if !is_believed {
        parts.metrics.voted(VoteOutcome::Refused);
    }
    is_believed
}

/// Nobody in particular is nobody to believe, and what belongs to all is not anybody's to void:
/// both must be named.
fn may(rule: &VoteOut, tenant: &Tenant, shared: bool) -> bool {
    match &rule.trust {
        Trust::Anyone => !shared && *tenant != Tenant::Anonymous,
        Trust::Only(_) => rule.trust.believes(tenant.as_str()),
    }
}

/// In content mode: whether others are given what this route keeps.
pub(super) fn is_shared(route: &Route) -> bool {
    route.config.cache.scope == Scope::Shared
}

/// What a vote is about: `key`, asked for as `plan` says.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) route: &'a Route,
    pub(super) plan: &'a Plan,
    pub(super) key: CacheKey,
    pub(super) check: &'a Check,
}

/// Voids what lies under a key, if something does. Whether it did.
pub(super) async fn void(parts: &Parts, caller: &Caller, about: About<'_>) -> bool {
    let About { route, plan, key, check } = about;
    let Some(rule) = &route.config.cache.vote_out else { return false };
    let (tiers, now_ms) = (&parts.cache.tiers, super::now_ms());
    let is_held = tiers.look_up_now(&key, check, now_ms).is_some()
        || tiers.look_up_rest(key, check, plan, now_ms, |_, _| ()).await.is_some();
    if !is_held {
        parts.metrics.voted(VoteOutcome::Nothing);
        return false;
    }
    let tenant = caller.tenant.as_str();
    if !parts.cache.votes.take(&route.name, tenant, rule.per_minute) {
        parts.metrics.voted(VoteOutcome::Limited);
        return false;
    }
    let purged = tiers.purge_beside(Target::Key(key)).await;
    parts.metrics.voted(VoteOutcome::Counted);
    tracing::info!(
        route = &*route.name,
        tenant,
        key = key.to_hex(),
        fleet = purged.reach == Reach::Fleet,
        pending = purged.pending,
        "an answer was voted out"
    );
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time;

    fn take(votes: &Votes, tenant: &str, per_minute: u32) -> bool {
        votes.take(&Arc::from("chat"), tenant, NonZeroU32::new(per_minute).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn each_tenant_has_so_many_votes_a_minute_and_all_together_too() {
        let votes = Votes::default();
        assert!(take(&votes, "a", 2) && take(&votes, "a", 2) && !take(&votes, "a", 2));
        assert!(take(&votes, "b", 2), "another tenant has its own");
        assert!(votes.take(&Arc::from("other"), "a", NonZeroU32::MIN), "and another route");
        for n in 4..VOTES_MAX {
            assert!(take(&votes, &n.to_string(), 1), "{n}");
        }
        assert!(!take(&votes, "late", 1), "{VOTES_MAX} in all");
        assert!(votes.0.lock().unwrap().by.len() < 600);
        time::advance(WINDOW).await;
        assert!(take(&votes, "late", 1) && take(&votes, "a", 2));
    }

    #[test]
    fn nobody_in_particular_is_believed_only_by_name() {
        let rule = |trust| VoteOut { trust, per_minute: NonZeroU32::MIN };
        let anyone = rule(Trust::Anyone);
        let acme = Tenant::Named(http::HeaderValue::from_static("acme"));
        assert!(may(&anyone, &acme, false));
        assert!(!may(&anyone, &acme, true), "what is everybody's");
        assert!(!may(&anyone, &Tenant::Anonymous, false));
        let named = rule(Trust::Only(vec!["acme".into(), "anonymous".into()]));
        assert!(may(&named, &acme, true) && may(&named, &Tenant::Anonymous, true));
        assert!(!may(&rule(Trust::Only(Vec::new())), &acme, false));
    }
}
