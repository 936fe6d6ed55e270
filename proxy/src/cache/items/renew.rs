//! Lists whose items are past their time, or hot and near its end: given at once, while one call beside
//! renews those items and no others.
//!
//! That call is the one that a caller would make who asks about these items alone: what it costs is
//! theirs, and what it brings needs nothing of what is known. How often an item's renewal is tried
//! goes by the item, whichever lists it stands in ([`Pauses`]).

use super::{Item, Items, version_of};
use crate::{
    app::Parts,
    cache::{
        Consulted, Question,
        answer::Hit,
        heat,
        held::{Looking, Use, terms},
        http_mode::How,
        shadow,
    },
    exchange::Pauses,
    metrics::ItemOutcome,
    route::Route,
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tollgate_cache::{
    freshness::{Left, RENEWAL_PAUSE_MS, Verdict},
    key::CacheKey,
    tiers::Found,
};

/// That an item is to be renewed, if its list is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Renewal {
    /// When that which is to be renewed was stored.
    pub(super) stored_at_ms: u64,
    pause_ms: u64,
}

impl Renewal {
    /// Of what is past its time.
    pub(super) fn of_old(found: &Found) -> Self {
        Self { stored_at_ms: found.entry.stored_at_ms, pause_ms: RENEWAL_PAUSE_MS }
    }

    /// Of what is of its time: where it is hot, and near its end.
    pub(super) fn ahead(found: &Found, looking: Looking<'_>) -> Option<Self> {
        let Left::Fresh { for_ms, is_ending: true } = left(found, looking) else { return None };
        let pause_ms = RENEWAL_PAUSE_MS.max(for_ms / 4);
        Some(Self { stored_at_ms: found.entry.stored_at_ms, pause_ms })
    }
}

fn left(found: &Found, looking: Looking<'_>) -> Left {
    let terms = terms(looking.route, looking.fitting, &found.entry);
    found.entry.left(found.soft_since_ms, &terms, looking.now_ms)
}

/// Whether it is past its time and given all the same, and not only for a failure.
pub(super) fn is_given(found: &Found, looking: Looking<'_>) -> bool {
    let windows = looking.route.freshness.windows;
    let left = left(found, looking);
    let verdict = found.entry.judge(left, looking.wish, windows, looking.now_ms);
    matches!(verdict, Verdict::Stale { .. })
}

/// All items are of their time, and this is what their list comes to.
/// `is_own`: nobody asked but ourselves.
pub(super) fn all_new(parts: &Arc<Parts>, (question, is_own): (&Question, bool), hit: Hit) -> Use {
    let Some(items) = &question.items else { return Use::Given(hit) };
    if !is_own {
        question.found_all(parts);
    }
    for item in &items.unique {
        let Some(found) = &item.found else { continue };
        let key = || question.item_key(&item.digest, &version_of(question)).0;
        heat::tell(parts, &question.route, found.entry(), key);
    }
    let renews = items.unique.iter().any(|item| item.renewal.is_some());
    if renews { Use::Renewed(hit) } else { Use::Given(hit) }
}

/// What is made of items that are past their time, where none is missing.
pub(super) fn some_old(
    parts: &Parts,
    (question, is_own): (&mut Question, bool),
    looking: Looking<'_>,
) -> Use {
    let Some(mut items) = question.items.take() else { return Use::Nothing };
    let all_given = items.are_at_hand(looking);
    let traced = all_given && !is_own && parts.cache.traces.is_written();
    let hits = if traced { items.old_hits(looking) } else { Vec::new() };
    let ages = items.unique.iter().filter_map(|item| item.age_ms(looking.now_ms));
    let age_ms = ages.max().unwrap_or(0);
    let used = match items.take_old(looking) {
        None => Use::Nothing,
        // As old as its oldest item: that one's time is the list's.
        Some(old) if all_given => match looking.at(old) {
            Use::Renewed(hit) => Use::Renewed(Hit { age_ms, ..hit }),
            Use::Given(hit) => Use::Given(Hit { age_ms, ..hit }),
            held @ (Use::Held(_) | Use::Nothing) => held,
        },
        Some(old) => Use::Held(old),
    };
    let (route, mode) = (&question.route, question.mode);
    if matches!(used, Use::Given(_) | Use::Renewed(_)) {
        route.lane.metrics.items(ItemOutcome::Hit, items.len());
        for (nth, hit) in &hits {
            let Some(item) = items.unique.get(*nth) else { continue };
            let (key, _) = question.item_key(&item.digest, &version_of(question));
            parts.cache.traces.given(route, mode, &key, hit);
        }
    }
    question.items = Some(items);
    used
}

/// The answer to a list whose items are known; else what is held of it, for want of anything newer.
pub(in crate::cache) fn told(
    used: Use,
    route: &Route,
    question: Box<Question>,
) -> Result<Consulted, (Box<Question>, Option<Found>)> {
    match used {
        Use::Given(hit) if shadow::draws(route, &hit) => Ok(question.beside(hit, Question::checks)),
        Use::Given(hit) => Ok(Consulted::Hit(hit)),
        Use::Renewed(hit) => Ok(question.beside(hit, Question::renews_items)),
        Use::Held(found) => Err((question, Some(found))),
        Use::Nothing => Err((question, None)),
    }
}

impl Item {
    /// Of what is known of it.
    fn age_ms(&self, now_ms: u64) -> Option<u64> {
        let old = || self.old.as_ref().map(|old| old.entry.age_ms(now_ms));
        self.found.as_ref().map(|hit| hit.age_ms).or_else(old)
    }
}

impl Items {
    /// Whether the whole list is given of what is at hand, some of it past its time.
    pub(super) fn are_at_hand(&self, looking: Looking<'_>) -> bool {
        let is_old = |item: &Item| item.old.as_ref().is_some_and(|old| is_given(old, looking));
        self.unique.iter().all(|item| item.found.is_some() || is_old(item))
    }

    /// As what each of them is given, for the key trace.
    fn old_hits(&self, looking: Looking<'_>) -> Vec<(usize, Hit)> {
        let hit = |(nth, item): (usize, &Item)| {
            if let Some(found) = &item.found {
                return Some((nth, found.clone()));
            }
            let old = item.old.as_ref()?;
            let how = (How::Stale, left(old, looking));
            Some((nth, Hit::of(old, looking.wanted, how, looking.now_ms)?))
        };
        self.unique.iter().enumerate().filter_map(hit).collect()
    }

    /// These items of a call, as a call about them alone; and its body.
    fn only(&self, chosen: Vec<Item>, body: &Bytes) -> Option<(Self, Bytes)> {
        let places: Vec<usize> = chosen.iter().map(|item| item.place).collect();
        let whole = self.listed.as_deref().unwrap_or(body);
        let body = Bytes::from(self.asked.body_of(whole, &places));
        let asked = self.layout.read(&body)?;
        if asked.len() != chosen.len() {
            return None;
        }
        let place = |(place, item): (usize, Item)| Item { place, found: None, old: None, ..item };
        let items = Self {
            layout: self.layout.clone(),
            unique: chosen.into_iter().enumerate().map(place).collect(),
            places: (0..asked.len()).collect(),
            sent: (0..asked.len()).collect(),
            listed: None,
            held: self.held.beside(),
            asked,
        };
        Some((items, body))
    }
}

impl Question {
    /// Whether it asks about several things, each of which is kept by itself.
    pub(crate) fn has_items(&self) -> bool {
        self.items.is_some()
    }

    /// It is asked for what takes the place of some of what was given.
    pub(in crate::cache) fn renews_items(&mut self, _: &Hit) {
        self.renews = true;
    }

    /// What renewals of one list at one time have in common. None of its callers: what it brings is
    /// no answer to the list.
    pub(crate) fn renewal_key(&self) -> CacheKey {
        self.key_of("\0renewal").0
    }

    /// Asks from now on about those of its items alone whose turn it is to be renewed: the body.
    /// `None`: there is none.
    pub(crate) fn take_turns(&mut self, body: &Bytes, pauses: &Pauses) -> Option<Bytes> {
        let version = self.version.clone()?;
        let mut items = self.items.take()?;
        let unique = std::mem::take(&mut items.unique);
        let is_due = |item: &Item| {
            item.renewal.is_some_and(|Renewal { stored_at_ms, pause_ms }| {
                let (key, _) = self.item_key(&item.digest, &version);
                pauses.begins(key, Some(stored_at_ms), Duration::from_millis(pause_ms))
            })
        };
        let due: Vec<Item> = unique.into_iter().filter(is_due).collect();
        if due.is_empty() {
            return None;
        }
        let (items, body) = items.only(due, body)?;
        self.items = Some(Box::new(items));
        Some(body)
    }
}
