//! Equal GETs at one time ask the upstream once, where what comes is for all of them (RFC 9111 §4:
//! a cache may collapse requests).
//!
//! Who waits is given what it would be given from the cache a moment later: the answer is kept, its
//! key is this caller's too, it is fresh to this caller. Only the head of the answer says so, and
//! until then one waits for another's. Where it says no, each goes on by itself, and the URL is
//! remembered for [`ALONE_FOR`]: whoever asks for it meanwhile waits for nobody. (Varnish calls that
//! hit-for-miss.) An answer that may be kept ends it.
//!
//! **Invariant:** nobody is given another's answer that it would not be given from the cache.

use super::{Asked, Given, answered::NEVER_KEPT, chosen_by, find::Held, given::How};
use crate::{
    app::Parts,
    cache::{Question, now_ms},
    exchange::Fetch,
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::{iter, sync::Arc, time::Duration};
use tollgate_cache::{
    entry::{FieldNames, Rule},
    key::CacheKey,
    rfc9111::{
        conditional::CONDITIONS,
        request::Kind,
        reuse::{Failure, Reuse, reuse},
        store::Stored,
    },
};

/// How long a URL is asked for by each for itself whose answer was not for all. As long as Varnish
/// has it; an answer that is for all ends it before.
const ALONE_FOR: Duration = Duration::from_secs(120);

/// What an answer that is on its way, and will be kept, is to others.
#[derive(Debug)]
pub(crate) struct ForOthers {
    pub(super) key: CacheKey,
    pub(super) stored: Stored,
    /// The fields of a request that it depends on.
    pub(super) vary: FieldNames,
    /// Its fields that are not kept.
    pub(super) drop: Vec<HeaderName>,
    /// It came without one.
    pub(super) date: Option<HeaderValue>,
}

/// What another's answer is to a call that has waited for its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    All,
    /// Nothing yet: those that it is to wait with are others.
    Again,
    /// Nothing. It asks by itself.
    Nothing,
}

impl ForOthers {
    /// Makes the head of the answer the one that it would have from the cache.
    pub(crate) fn told(&self, headers: &mut HeaderMap) {
        for name in self.drop.iter().chain(&NEVER_KEPT) {
            headers.remove(name);
        }
        if let Some(date) = &self.date {
            headers.insert(header::DATE, date.clone());
        }
        let age_ms = self.stored.age_ms(now_ms());
        headers.insert(header::AGE, HeaderValue::from(age_ms / 1_000));
    }

    /// It may be given to anybody at all, now.
    fn is_for_some(&self) -> bool {
        !self.stored.no_cache && self.stored.fresh_for_ms(now_ms()).is_some()
    }
}

impl Asked {
    /// What comes for another may be what this call wants, and what comes for this one is whole.
    fn joins(&self) -> bool {
        let control = &self.request.control;
        if self.request.kind != Kind::Get || control.no_cache || control.max_age_s == Some(0) {
            return false;
        }
        match &self.held {
            // Asked about with conditions of ours, and in whole.
            Some(held) => {
                let is_ever_given = !held.stored.no_cache && held.stored.lifetime_ms > 0;
                is_ever_given && (held.stored.shareable || !self.request.authorized)
            }
            None => {
                let is_special = |name: &HeaderName| self.headers.contains_key(name);
                !self.request.authorized && !CONDITIONS.iter().any(is_special)
            }
        }
    }

    /// What decides whether an answer is kept, beside what it says. Those who differ in it do not
    /// wait for each other, and do not spoil it for each other.
    fn sort(&self) -> [u8; 2] {
        let request = &self.request;
        [request.authorized, request.has_cookie].map(|is_so| b'0' + u8::from(is_so))
    }
}

impl Question {
    /// What equal calls for a URL at one time have in common; `None`: this one asks by itself.
    pub(crate) fn url_flight(&self, parts: &Parts) -> Option<CacheKey> {
        let asked = self.http.as_deref().filter(|asked| asked.joins())?;
        if parts.cache.alone.knows(&self.alone_key(asked)) {
            return None;
        }
        // By as many fields as are known; more may be learnt of the answer.
        let names = asked.lists.first().map(|names| &**names).unwrap_or_default();
        let digest = chosen_by(names, &asked.headers);
        // Who asks after a purge or a change is not given what was begun before it.
        let purges = parts.cache.tiers.stamp().local;
        let changed = parts.cache.urls.changed(asked.named);
        let [authorized, cookie] = asked.sort();
        let since = format!("\0flight {purges} {changed} {authorized} {cookie}");
        Some(self.item_key(&digest, &since).0)
    }

    fn alone_key(&self, asked: &Asked) -> CacheKey {
        let [authorized, cookie] = asked.sort();
        self.key_of(&format!("\0alone {authorized} {cookie}")).0
    }

    /// Others who asked the same have waited in vain, or will: for a while nobody does.
    pub(in crate::cache) fn goes_alone(&self, parts: &Parts) {
        if let Some(asked) = &self.http {
            parts.cache.alone.waited(self.alone_key(asked), ALONE_FOR);
        }
    }

    /// An answer has come that will be kept.
    pub(in crate::cache) fn is_kept_for(&self, parts: &Parts, others: &ForOthers) {
        if let Some(asked) = self.http.as_ref().filter(|_| others.is_for_some()) {
            parts.cache.alone.forget(&self.alone_key(asked));
        }
    }

    /// What an answer is to this call, whose head has come for another; `None`: it is for nobody
    /// else.
    pub(crate) fn takes(&mut self, parts: &Parts, others: Option<&ForOthers>) -> Takes {
        let others = others.filter(|others| others.is_for_some());
        let (Some(others), Some(asked)) = (others, self.http.as_deref()) else {
            self.goes_alone(parts);
            return Takes::Nothing;
        };
        let own = match others.vary.is_empty() {
            true => self.key,
            false => self.variant_key(&others.vary, asked).0,
        };
        if own == others.key {
            let is_fresh = reuse(&others.stored, &asked.request, now_ms());
            let is_fresh = matches!(is_fresh, Reuse::Fresh { .. });
            return if is_fresh { Takes::All } else { Takes::Nothing };
        }
        let is_known = asked.lists.first() == Some(&others.vary);
        // Nobody else has it yet: it is for the upstream's call only.
        match self.http.as_mut().and_then(Arc::get_mut) {
            Some(asked) if !is_known => {
                let known = asked.lists.iter().cloned();
                asked.lists = iter::once(others.vary.clone()).chain(known).collect();
                Takes::Again
            }
            Some(_) | None => Takes::Nothing,
        }
    }

    /// What this call is given where another was given what is held; `None`: it asks by itself.
    pub(crate) fn given_as(&self, parts: &Parts, other: &Given) -> Option<Given> {
        let asked = self.http.as_deref()?;
        let now_ms = now_ms();
        match (other.how, &other.newer) {
            (How::Validated, Some(newer)) => {
                let is_own = asked.held.as_ref().is_some_and(|held| held.key == newer.key);
                let verdict = reuse(&newer.stored, &asked.request, now_ms);
                let is_fresh = is_own && matches!(verdict, Reuse::Fresh { .. });
                is_fresh.then(|| asked.told(newer, now_ms, How::Joined))
            }
            (How::Validated, None) => {
                self.goes_alone(parts);
                None
            }
            (How::Instead(Some(status)), _) => {
                asked.instead_of(Failure::Status(status.as_u16()), other.how)
            }
            (How::Instead(None), _) => asked.instead_of_nothing(Failure::Unreachable),
            (How::Hit | How::Stale | How::Degraded | How::Joined, _) => None,
        }
    }

    /// What this call is given where another's has brought no answer.
    pub(crate) fn given_for_nothing(&self) -> Option<Given> {
        self.http.as_ref()?.instead_of_nothing(Failure::Unreachable)
    }
}

/// What is in memory by now, for a call that has looked before, if it may be given. Neither waits
/// nor asks farther tiers: what another call has brought is there. Its line in the key trace is the
/// one that it is given with.
pub(crate) fn found_now(fetch: &Fetch, question: &mut Question) -> Option<Given> {
    let given = in_memory_now(fetch, question)?;
    question.is_told_elsewhere();
    Some(given)
}

fn in_memory_now(fetch: &Fetch, question: &Question) -> Option<Given> {
    let Fetch { parts, route, ask, .. } = fetch;
    let asked = question.http.as_deref().filter(|_| route.http.plan.begins_in_memory())?;
    let now_ms = now_ms();
    let look = |(key, check)| Some((key, parts.cache.tiers.look_again(&key, &check, now_ms)?));
    let (key, found) = look((question.key, question.check))?;
    let held = match &found.entry.rule {
        Rule::Variants(lists) => lists.iter().find_map(|names| {
            let (key, found) = look(question.variant_key(names, asked))?;
            Held::of(found, key)
        }),
        Rule::Ttl | Rule::Timed(_) | Rule::Http(_) => Held::of(found, key),
    }?;
    let verdict = reuse(&held.stored, &asked.request, now_ms);
    matches!(verdict, Reuse::Fresh { .. }).then(|| {
        let of = (parts, &**route, ask.agreed);
        let given = Given::coded(of, &held, &asked.request, (now_ms, How::Hit));
        given.telling(asked.told.as_deref(), &held, now_ms)
    })
}
