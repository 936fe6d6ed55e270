//! Stores the answers to the items of a call, each as if it had been asked alone, and completes an
//! answer to some of them with what is known of the others.

use super::{Arrival, Fill};
use crate::{
    app::Parts,
    cache::{
        Question,
        alike::Said,
        encode_bill,
        items::{Item, Items, model_of},
        learn, version,
    },
    exchange,
    inspect::Held,
    meter::Bill,
    route::Life,
};
use bytes::Bytes;
use serde::de::IgnoredAny;
use smallvec::SmallVec;
use std::{sync::Arc, time::Duration};
use tollgate_cache::{
    entry::{Entry, Form, subjects},
    key::{BodyDigest, CacheKey},
    shared::Lease,
    tiers::Stored,
};
use tollgate_core::items::{Answers, Piece, compose};

/// An answer to some items, completed with what was known of the others.
#[derive(Debug)]
pub(crate) struct Completed {
    pub(crate) body: Bytes,
    /// How many items were not asked for.
    pub(crate) known: usize,
    /// What those would have cost.
    pub(crate) spared: Bill,
}

/// The answer is not one to the items that were asked for.
#[derive(Debug)]
pub(super) struct NotApart {
    /// It is the answer to the whole call, and may be kept as that.
    pub(super) is_whole: bool,
}

/// Fields that are about the bytes of a whole answer, and not of one to a part.
const OF_THE_WHOLE: [&[u8]; 4] = [b"etag", b"last-modified", b"content-location", b"expires"];

impl Fill {
    /// The items of the call, where it has several.
    pub(crate) fn items(&self) -> Option<&Items> {
        self.question.items.as_deref()
    }

    pub(crate) fn items_mut(&mut self) -> Option<&mut Items> {
        self.question.items.as_deref_mut()
    }

    /// What it asks, for others to be asked with it.
    pub(crate) fn asked_with(&self, whole: &Bytes, held: Held) -> Option<exchange::Together> {
        let items = self.items()?;
        let whole = items.listed.as_ref().unwrap_or(whole);
        let texts = items.sent.iter().map(|place| whole.slice_ref(items.asked.item(whole, *place)));
        Some(exchange::Together {
            items: texts.collect(),
            layout: items.layout.clone(),
            asked: items.asked.clone(),
            whole: whole.clone(),
            held,
        })
    }

    /// The key of the same call with another body.
    pub(crate) fn key_with(&self, body: &BodyDigest) -> CacheKey {
        let version = self.question.version.as_deref().unwrap_or_default();
        self.question.item_key(body, version).0
    }

    /// For another try, with the whole call.
    pub(crate) fn whole(mut self) -> Self {
        if let Some(items) = &mut self.question.items {
            items.forget();
        }
        self.stamp = self.parts.cache.tiers.stamp();
        Self { under: None, ..self }
    }

    /// Completes `body`, the answer to what was missing and `bill` its bill, with what was known.
    /// `None`: it does not fit, or is of another model than what was known.
    pub(crate) fn complete(&self, body: &Bytes, bill: &Bill) -> Option<Completed> {
        let items = self.items()?;
        let under = self.under.as_ref()?;
        let version = match under.version_later {
            true => version::of_body(&self.parts, &self.question, (Form::Whole, body))?,
            false => under.version.clone(),
        };
        let known = items.unique.iter().filter_map(|item| item.found.as_ref());
        for hit in known {
            if *hit.entry.model_version != *version || model_of(&hit.entry) != bill.model {
                return None;
            }
        }
        let rest = apart(items, body)?;
        let weights = items.weights(&items.sent);
        let (bills, counts) = (bill.divided(&weights), rest.divided(&weights));
        let elements = rest.elements(items.sent.len());
        let mut spared = Vec::new();
        let mut sources = Vec::with_capacity(items.unique.len());
        for item in &items.unique {
            sources.push(match &item.found {
                Some(hit) => Source::Known(items.layout.split(&hit.entry.body, 1)?),
                None => Source::Rest((*elements.get(nth_sent(items, item.place)?)?)?),
            });
        }
        let mut pieces = Vec::with_capacity(items.places.len());
        for (place, own) in items.places.iter().enumerate() {
            let item = items.unique.get(*own)?;
            pieces.push(match sources.get(*own)? {
                Source::Known(answers) => Piece::of(answers, 0),
                Source::Rest(element) => Piece::with_shares(&rest, *element, counts.get(*element)?),
            });
            match &item.found {
                Some(hit) => spared.extend(crate::cache::decode_bill(&hit.entry.note)),
                // The same once more.
                None if item.place != place => {
                    spared.push(bills.get(nth_sent(items, item.place)?)?.clone());
                }
                None => {}
            }
        }
        let body = items.on_its_way(compose(&rest, &pieces, items.asked.wanted())?)?;
        let known = items.len().saturating_sub(items.sent.len());
        Some(Completed { body, known, spared: Bill::sum(&spared) })
    }
}

enum Source<'a> {
    Known(Answers<'a>),
    /// The element of the answer that has just come.
    Rest(usize),
}

/// Where in what was sent the item is that is at `place` in the call.
fn nth_sent(items: &Items, place: usize) -> Option<usize> {
    items.sent.binary_search(&place).ok()
}

/// The answers in an answer to the items that were sent.
fn apart<'a>(items: &Items, body: &'a [u8]) -> Option<Answers<'a>> {
    // What the meter read of it may have been its end only, or nothing.
    serde_json::from_slice::<IgnoredAny>(body).ok()?;
    items.layout.split(body, items.sent.len())
}

/// What items' answers are kept by.
pub(super) struct Keeping<'a> {
    pub(super) parts: &'a Parts,
    pub(super) question: &'a Question,
    pub(super) life: Option<Life>,
    pub(super) lease: &'a Option<Arc<Lease>>,
    /// How long the upstream was at all of them.
    pub(super) took: Duration,
}

/// What came of it.
pub(super) struct Kept {
    pub(super) is_kept: bool,
    pub(super) arrival: Option<Arrival>,
}

impl Keeping<'_> {
    /// Keeps what was answered to each item, under the key that a call about it alone has. `entry`:
    /// as the whole would be kept.
    ///
    /// # Errors
    /// There is not one answer for each.
    pub(super) fn keep(&self, items: &Items, entry: &Entry, bill: &Bill) -> Result<Kept, NotApart> {
        let is_whole = items.sent.len() == items.len();
        let is_plain = entry.status == 200 && entry.form == Form::Whole;
        let answers = is_plain.then(|| apart(items, &entry.body)).flatten();
        let answers = answers.ok_or(NotApart { is_whole })?;
        let weights = items.weights(&items.sent);
        let (bills, counts) = (bill.divided(&weights), answers.divided(&weights));
        let all: u64 = weights.iter().sum();
        let mut kept = Vec::with_capacity(answers.len());
        for (element, nth) in answers.places().iter().enumerate() {
            let place = items.sent.get(*nth);
            let item = place.and_then(|place| items.item_at(*place));
            let (Some(item), Some(own), Some(bill)) = (item, counts.get(element), bills.get(*nth))
            else {
                continue;
            };
            // The same item once more has the same answer.
            if place != Some(&item.place) {
                continue;
            }
            let worth = u128::from(entry.worth) * u128::from(item.weight) / u128::from(all.max(1));
            let one = Entry {
                body: Bytes::from(answers.one(element, own)),
                note: encode_bill(bill),
                worth: u64::try_from(worth).unwrap_or(u64::MAX),
                ..without_whole(entry)
            };
            let share = u32::try_from(item.weight.saturating_mul(1_000) / all.max(1)).unwrap_or(0);
            let own = self.entry(item, one);
            if let (Some(traced), Some((key, entry))) = (&item.traced, &own) {
                let (route, mode) = (&self.question.route, self.question.mode);
                traced.brought(route, mode, *key, entry, self.took * share / 1_000);
            }
            kept.extend(own);
        }
        Ok(self.store(kept))
    }

    /// The answer to one item under its key; `None`: it is not to be kept.
    fn entry(&self, item: &Item, one: Entry) -> Option<(CacheKey, Arc<Entry>)> {
        let Self { question, life, .. } = self;
        let (key, check) = question.item_key(&item.digest, &one.model_version);
        let said = (Form::Whole, &*one.body);
        let came = Said { status: one.status, form: Form::Whole, body: said.1 };
        let change = learn::change(self.parts, question, came, &key, &check);
        let (ttl_ms, rule) = learn::times(question, (*life)?, said, &key, change)?;
        let subjects = subjects(key, &one.route, &one.model, &one.tenant, &one.tags);
        Some((key, Arc::new(Entry { check, ttl_ms, rule, subjects, ..one })))
    }

    fn store(&self, kept: Vec<(CacheKey, Arc<Entry>)>) -> Kept {
        let (tiers, plan) = (&self.parts.cache.tiers, self.question.plan());
        let now_ms = crate::cache::now_ms();
        let last = kept.len().saturating_sub(1);
        let mut arriving = SmallVec::new();
        let mut is_kept = false;
        for (nth, (key, entry)) in kept.into_iter().enumerate() {
            // The fleet is told when the last of them is there: they are written in order.
            let lease = self.lease.as_ref().filter(|_| nth == last);
            self.question.putting.iter().for_each(|putting| putting.makes_one(key, &entry));
            let stored = tiers.store_leased(key, entry, plan, now_ms, lease);
            is_kept |= stored.is_kept();
            if let Stored::Arriving(one) = stored {
                arriving.push(one);
            }
        }
        let arrival = (!arriving.is_empty()).then(|| Arrival::of(arriving, tiers.timeout(plan)));
        Kept { is_kept, arrival }
    }
}

fn without_whole(entry: &Entry) -> Entry {
    let mut one = entry.clone();
    one.headers.retain(|(name, _)| !OF_THE_WHOLE.contains(&&**name));
    one
}
