//! Calls that ask about several things at once, each of which is a question of its own.
//!
//! An item's key is that of a call with this item alone, made by the same code, so that both share
//! one entry; what lies there is the answer such a call would have had, with its share of the bill.
//! A call is taken apart only when nothing was found for it as it is, so that no other call pays for
//! this. Of its answer only the parts are kept: nothing lies in the cache twice.
//!
//! ```text
//!   miss ─▶ read: which items ─▶ look up each ─▶ all known: composed, a hit
//!                                              ─▶ some: the rest is asked for ─▶ composed (exchange::partial)
//!                                              ─▶ none: asked as it came ─▶ taken apart when it is stored
//! ```

mod old;
mod peek;
mod renew;
mod together;

use self::renew::Renewal;
pub(super) use self::{peek::known, renew::told, together::together};
use super::{
    Hit, Question,
    answer::Served,
    coded::Agreed,
    decode_bill, encode_bill,
    held::{Looking, Use},
    http_mode::How,
    known,
    question::Asking,
    trace::Traced,
};
use crate::{
    app::Parts,
    inspect::{AskBody, Held},
    meter::Bill,
    metrics::{ItemOutcome, RouteMetrics},
    route::Route,
};
use bytes::Bytes;
use http::{HeaderMap, header};
use std::{borrow::Cow, collections::HashMap, sync::Arc};
use tokio::time;
use tollgate_cache::{
    cache_control::RequestControl,
    canonical::{Bounds, canonicalise},
    entry::{Entry, Form},
    key::BodyDigest,
    tiers::{Found, TierName},
};
use tollgate_config::TagPart;
use tollgate_core::{
    dialect::{Framing, Operation},
    items::{Answers, Asked, Layout, Piece, bare_as_list, compose},
};

/// The longest answer to a call with items that is gathered, to be taken apart or put together: as
/// long as a request may be by default. 2048 embeddings of 1536 numbers as base64 are 17 MB.
pub(crate) const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What is not about an item is read once for each. A call in which that comes to more than this
/// is asked whole: it would cost more here than it saves there.
const ENVELOPES_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A call about many waits for the tiers so many times as long as one about one thing does at most:
/// a store that answers each look-up a little before its time must not add up to seconds.
const TIMEOUTS_MAX: u32 = 8;

/// Fields that vouch for the bytes of a body: it must not be changed under them.
pub(super) const VOUCHERS: [&str; 6] =
    ["content-digest", "repr-digest", "digest", "content-md5", "x-amz-content-sha256", "signature"];

/// The items of a call, and what is known of them.
#[derive(Debug)]
pub(crate) struct Items {
    pub(super) layout: Layout,
    pub(super) asked: Asked,
    /// Those that are not the same as one before.
    pub(super) unique: Vec<Item>,
    /// Which of them each item is.
    pub(super) places: Vec<usize>,
    /// The items that the upstream is asked about, as places in the call.
    pub(super) sent: Vec<usize>,
    /// The body with a list, where it came without.
    pub(super) listed: Option<Bytes>,
    /// Their share of `limits.held`: what was found outside of memory, until it is given.
    held: Held,
}

#[derive(Debug)]
pub(super) struct Item {
    /// Where it comes first.
    pub(super) place: usize,
    pub(super) digest: BodyDigest,
    /// Its bytes: what its share of a bill goes by.
    pub(super) weight: u64,
    pub(super) found: Option<Hit>,
    /// Past its time, and better than nothing.
    old: Option<Found>,
    /// That it is to be renewed, where its list is given as it is.
    renewal: Option<Renewal>,
    /// Its line in the key trace, where there is one.
    pub(super) traced: Option<Box<Traced>>,
}

impl Items {
    /// Whether less is to be asked than the call as it came.
    pub(crate) fn is_partial(&self) -> bool {
        self.missing().len() < self.places.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Only the best of the answers are wanted: an answer to others, too, would be another.
    pub(crate) fn is_limited(&self) -> bool {
        self.asked.wanted().is_some()
    }

    /// Places of what is not known, each once.
    fn missing(&self) -> Vec<usize> {
        let missing = self.unique.iter().filter(|item| item.found.is_none());
        missing.map(|item| item.place).collect()
    }

    /// The request for what is not known.
    pub(crate) fn rest(&mut self, body: &[u8]) -> Bytes {
        self.sent = self.missing();
        let body = self.listed.as_deref().unwrap_or(body);
        self.asked.body_of(body, &self.sent).into()
    }

    /// From now on, the call is asked as it came.
    pub(crate) fn forget(&mut self) {
        self.unique.iter_mut().for_each(|item| item.found = None);
        self.sent = (0..self.places.len()).collect();
    }

    /// The item at a place in the call, which may have come before.
    pub(super) fn item_at(&self, place: usize) -> Option<&Item> {
        self.unique.get(*self.places.get(place)?)
    }

    pub(super) fn weights(&self, places: &[usize]) -> Vec<u64> {
        places.iter().map(|place| self.item_at(*place).map_or(0, |item| item.weight)).collect()
    }

    /// Lets go of what was answered by another model than the first of them: one answer is not
    /// mixed of two. And of all, where that is more than may be held.
    fn keep_what_fits(&mut self) {
        let mut first: Option<Option<Arc<str>>> = None;
        for item in &mut self.unique {
            let Some(hit) = &item.found else { continue };
            let model = model_of(&hit.entry);
            let is_same = *first.get_or_insert_with(|| model.clone()) == model;
            if !is_same {
                item.found = None;
            }
        }
        let bytes = |of: fn(&Hit) -> bool| -> usize {
            let found = self.unique.iter().filter_map(|item| item.found.as_ref());
            found.filter(|hit| of(hit)).map(|hit| hit.entry.body.len()).sum()
        };
        // What is in memory is held there anyway.
        let brought = bytes(|hit| hit.tier != TierName::Memory);
        let all = bytes(|_| true);
        if all > ANSWER_BYTES_MAX || !self.held.grow_to(crate::body::len_u64(brought)) {
            self.forget();
        }
    }

    /// An answer that was put together, as long as it is on its way within `limits.held`. `None`:
    /// there is no room for it.
    pub(super) fn on_its_way(&self, body: Vec<u8>) -> Option<Bytes> {
        let mut held = self.held.beside();
        let fits = body.len() <= ANSWER_BYTES_MAX && held.grow(crate::body::len_u64(body.len()));
        fits.then(|| Bytes::from_owner(OnItsWay { body, _held: held }))
    }

    /// The answer, if all of it is known.
    fn hit(&mut self, metrics: &RouteMetrics) -> Option<Hit> {
        let hits: Vec<&Hit> =
            self.unique.iter().map(|item| item.found.as_ref()).collect::<Option<_>>()?;
        let entries: Vec<&Entry> = hits.iter().map(|hit| &*hit.entry).collect();
        let body = composed(&self.layout, &self.asked, &entries, &self.places);
        let Some(body) = body.and_then(|body| self.on_its_way(body)) else {
            // What cannot be put together is no use.
            self.forget();
            return None;
        };
        let bills = self.places.iter().filter_map(|item| decode_bill(&hits.get(*item)?.entry.note));
        let bills: Vec<Bill> = bills.collect();
        let first = hits.first()?;
        // The tier that was waited for, if any was.
        let far = hits.iter().map(|hit| hit.tier).find(|tier| *tier != TierName::Memory);
        let entry =
            Entry { body, note: encode_bill(&Bill::sum(&bills)), ..Entry::clone(&first.entry) };
        metrics.items(ItemOutcome::Hit, self.places.len());
        Some(Hit {
            entry: Arc::new(entry),
            tier: far.unwrap_or(TierName::Memory),
            age_ms: hits.iter().map(|hit| hit.age_ms).max()?,
            left_ms: hits.iter().map(|hit| hit.left_ms).min()?,
            how: How::Hit,
            form: Served::AsRecorded,
            wanted: Framing::Whole,
            kind: Framing::Whole.content_type(),
            hides_usage: false,
            agreed: Agreed::default(),
            pacing: None,
        })
    }
}

/// The bytes of an answer, with what they take of `limits.held` while anybody has them.
struct OnItsWay {
    body: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for OnItsWay {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// Reads the items of a call for which nothing was found as it is, and looks each of them up. What
/// is missing stays with the question, or what is to be renewed.
pub(super) async fn consult(
    parts: &Arc<Parts>,
    asking: &Asking<'_>,
    question: &mut Question,
    wish: &RequestControl,
) -> Use {
    question.items = read(asking).map(Box::new);
    if wish.no_cache || question.items.is_none() {
        return Use::Nothing;
    }
    let looking = super::looking(asking.route, (asking.ask, question.fitting), wish);
    let is_own = asking.ask.is_own;
    match Box::pin(look_everywhere(parts, question, looking)).await {
        Some(hit) => renew::all_new(parts, (question, is_own), hit),
        None => renew::some_old(parts, (question, is_own), looking),
    }
}

/// Looks in memory, once more, for what is missing.
pub(super) fn look_again(
    parts: &Parts,
    question: &mut Question,
    looking: Looking<'_>,
) -> Option<Hit> {
    let mut items = question.items.take()?;
    find_in_memory(parts, question, &mut items, looking);
    items.keep_what_fits();
    let hit = items.hit(&question.route.lane.metrics);
    question.items = Some(items);
    hit
}

/// Looks for what is missing in all tiers of the route; in those outside memory for as much at once
/// as they take, so that one that is slow is waited for once.
pub(super) async fn look_everywhere(
    parts: &Parts,
    question: &mut Question,
    looking: Looking<'_>,
) -> Option<Hit> {
    question.version.as_ref()?;
    let mut items = question.items.take()?;
    if question.route.plan.begins_in_memory() {
        find_in_memory(parts, question, &mut items, looking);
    }
    // What is past its time and given is renewed beside, and nobody waits for a look elsewhere.
    let is_at_hand = !looking.only_new && items.are_at_hand(looking);
    if question.route.plan.goes_on() && !is_at_hand {
        let missing = items.unique.iter_mut().filter(|item| item.found.is_none());
        let (question, route) = (&*question, &question.route);
        let looks = missing.map(|item| async move {
            let (key, check) = question.item_key(&item.digest, &version_of(question));
            let took = |tier, took| parts.metrics.looked_up(super::label(tier), took);
            let found =
                parts.cache.tiers.look_up_rest(key, &check, &route.plan, looking.now_ms, took);
            item.sees(found.await, looking);
        });
        let tiers = &parts.cache.tiers;
        // What was found until then is not asked for.
        let time = tiers.timeout(&route.plan).saturating_mul(TIMEOUTS_MAX);
        time::timeout(time, together(looks, tiers.reads_at_once(&route.plan))).await.ok();
    }
    items.keep_what_fits();
    let hit = items.hit(&question.route.lane.metrics);
    question.items = Some(items);
    hit
}

fn version_of(question: &Question) -> Arc<str> {
    question.version.clone().unwrap_or_default()
}

/// Neither waits nor parses.
fn find_in_memory(parts: &Parts, question: &Question, items: &mut Items, looking: Looking<'_>) {
    let Some(version) = &question.version else { return };
    for item in items.unique.iter_mut().filter(|item| item.found.is_none()) {
        let (key, check) = question.item_key(&item.digest, version);
        item.sees(super::in_memory(parts, &key, &check, looking.now_ms), looking);
    }
}

impl Item {
    /// What is of its time is used: what is past it is asked about with the rest, and so renewed.
    fn sees(&mut self, found: Option<Found>, looking: Looking<'_>) {
        let Some(found) = found else { return };
        let known_ms = self.renewal.filter(|_| looking.only_new);
        let after_ms = known_ms.map(|known| known.stored_at_ms).max(looking.after_ms);
        self.found = plain(found.clone(), Looking { after_ms, ..looking });
        if self.found.is_some() && !looking.only_new {
            self.renewal = Renewal::ahead(&found, looking);
        }
        if let (Some(traced), Some(hit)) = (&self.traced, &self.found) {
            traced.finds(looking.route, hit);
        }
        // What a stream amounts to has no place in a list.
        let is_plain = found.entry.form == Form::Whole && found.entry.status == 200;
        let has_windows = looking.route.freshness.windows.longest_ms() > 0;
        // Who looks again has what it holds.
        if self.found.is_none() && is_plain && has_windows && !looking.only_new {
            self.renewal = Some(Renewal::of_old(&found));
            self.old = Some(found);
        }
    }
}

/// An entry of its time that may stand in a list.
fn plain(found: Found, looking: Looking<'_>) -> Option<Hit> {
    let hit = Looking { only_new: true, ..looking }.at(found).given()?;
    let is_plain = matches!(hit.form, Served::AsRecorded) && hit.entry.status == 200;
    (is_plain && hit.how == How::Hit).then_some(hit)
}

/// The items of a call; `None` where it is to be asked as it came.
fn read(asking: &Asking<'_>) -> Option<Items> {
    let Asking { route, ask, head, .. } = *asking;
    let AskBody::Whole(bytes, held) = &ask.body else { return None };
    let whole = ask.known.as_ref()?;
    if route.key.share.of.is_some() || is_bound(&head.headers) {
        return None;
    }
    // Of bodies that no dialect reads nobody has said yet that they are JSON.
    let is_json = || canonicalise(bytes, &[], Bounds::default()).is_ok();
    if ask.operation == Operation::Other && !is_json() {
        return None;
    }
    let may_join = route.config.cache.join.is_some();
    let listed = match bare_as_list(ask.operation, bytes) {
        Cow::Owned(listed) if may_join => Some(Bytes::from(listed)),
        Cow::Owned(_) | Cow::Borrowed(_) => None,
    };
    let bytes = listed.as_ref().unwrap_or(bytes);
    let mut layouts = route.layouts(ask.operation).iter();
    let (layout, asked) = layouts.find_map(|layout| Some((layout, layout.read(bytes)?)))?;
    let is_one = asked.len() == 1 && asked.wanted().is_none() && !may_join;
    let envelopes = asked.rest_len(bytes).saturating_mul(asked.len());
    if is_one || envelopes > ENVELOPES_BYTES_MAX || reaches(route, layout) {
        return None;
    }
    let mut items = Items {
        unique: Vec::with_capacity(asked.len()),
        places: Vec::with_capacity(asked.len()),
        sent: (0..asked.len()).collect(),
        layout: layout.clone(),
        asked,
        held: held.beside(),
        listed: listed.clone(),
    };
    let mut seen = HashMap::new();
    for place in 0..items.asked.len() {
        let body = Bytes::from(items.asked.body_of(bytes, &[place]));
        let known = known_of(asking, &body);
        let digest = known.digest.ok()?;
        // A rule about what is in the list is one about the call: it is not taken apart.
        if known.unmet.is_some() || known.fitting != whole.fitting {
            return None;
        }
        let next = items.unique.len();
        let own = *seen.entry(digest).or_insert(next);
        if own == next {
            let weight = crate::body::len_u64(items.asked.item(bytes, place).len());
            let (found, old, renewal, traced) = (None, None, None, None);
            items.unique.push(Item { place, digest, weight, found, old, renewal, traced });
        }
        items.places.push(own);
    }
    Some(items)
}

/// What the body of one item is found to ask, as if it had come alone.
fn known_of(asking: &Asking<'_>, body: &Bytes) -> known::Known {
    let Asking { route, ask, head, .. } = *asking;
    let address = known::Address::of(ask.operation, &ask.path, head);
    let (rule, conditions, headers) = (&route.key, &route.conditions, &head.headers);
    known::Asked { address, rule, conditions, headers, bytes: body }.know()
}

/// A changed body would not be what the head says.
fn is_bound(headers: &HeaderMap) -> bool {
    headers.contains_key(header::CONTENT_ENCODING)
        || VOUCHERS.iter().any(|name| headers.contains_key(*name))
}

/// The route's key may ignore the list, or what is in it: then its items cannot be told apart. Its
/// tags may be made of it: then those of an item are others than those of the call.
fn reaches(route: &Route, layout: &Layout) -> bool {
    let own = layout.list.first().map(|name| name.replace('~', "~0").replace('/', "~1"));
    let cache = &route.config.cache;
    let tags = cache.tags.iter().flat_map(|tag| &tag.parts).filter_map(|part| match part {
        TagPart::Body(pointer) => Some(pointer),
        TagPart::Literal(_)
        | TagPart::Header(_)
        | TagPart::Query(_)
        | TagPart::Segment(_)
        | TagPart::Tenant
        | TagPart::User
        | TagPart::Project
        | TagPart::Model => None,
    });
    let first = |pointer: &String| pointer.split('/').nth(1).map(str::to_owned);
    let mut reached = cache.key.ignore.iter().chain(tags).map(first);
    reached.any(|first| {
        own.is_none() || first.is_none() || first == own || first.as_deref() == Some("*")
    })
}

/// Takes from a head what was said of the bytes that the upstream sent, and is not true of others.
pub(crate) fn wrong_for_parts(headers: &mut HeaderMap) {
    for name in [header::ETAG, header::LAST_MODIFIED, header::CONTENT_LOCATION] {
        headers.remove(name);
    }
    for name in VOUCHERS {
        headers.remove(name);
    }
}

/// What an answer's model called itself.
pub(super) fn model_of(entry: &Entry) -> Option<Arc<str>> {
    decode_bill(&entry.note)?.model
}

/// The answer that is made of the answers to all items.
fn composed(
    layout: &Layout,
    asked: &Asked,
    entries: &[&Entry],
    places: &[usize],
) -> Option<Vec<u8>> {
    let answers: Vec<Answers<'_>> =
        entries.iter().map(|entry| layout.split(&entry.body, 1)).collect::<Option<_>>()?;
    let pieces: Vec<Piece<'_>> =
        places.iter().map(|item| Some(Piece::of(answers.get(*item)?, 0))).collect::<Option<_>>()?;
    compose(answers.first()?, &pieces, asked.wanted())
}
