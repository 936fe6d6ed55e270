//! Stores what an upstream answered, if it may be stored, under the key it belongs to.

mod arrival;
mod arrivals;
mod by_url;
mod cdn;
mod items;
mod list;
mod placed;
mod put;
mod refusal;
mod worth;

pub(super) use self::placed::Putting;
pub(crate) use self::{
    arrival::Arrival,
    items::Completed,
    placed::{InTier, Lacks, Placed},
    put::{Brought, NotPut, put},
};

use self::{arrivals::Arrivals, by_url::Begun, worth::worth};

use super::{
    Asked, Hit, Holds, Mode, Next, Question, Spare,
    alike::Said,
    encode_bill,
    held::is_trouble,
    http_mode::{self, ForOthers, Kept, keeps},
    learn,
    version::{self, OfHead},
};
use crate::{app::Parts, exchange::framing_of, listener::Own, meter::Bill, route::Life};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, response};
use smallvec::smallvec;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tollgate_cache::{
    delivery::Delivery,
    entry::{
        Entry, FieldNames, Form, Hits, Rule, is_storable, of_variant, storable_headers, subjects,
        with_url,
    },
    flight::Recording,
    freshness::Change,
    generations::{CheckedAt, Stamp, Target},
    key::{CacheKey, Check},
    shared::Lease,
    tiers::Stored,
};
use tollgate_config::Pacing;
use tollgate_core::dialect::Framing;

/// The right to store one answer. Dropped unused, nothing is stored.
#[must_use]
#[derive(Debug)]
pub(crate) struct Fill {
    parts: Arc<Parts>,
    question: Box<Question>,
    /// Taken before the upstream was asked: a purge from then on voids the entry.
    stamp: Stamp,
    under: Option<Box<Under>>,
    /// The fleet waits for this answer.
    lease: Option<Arc<Lease>>,
    /// The call of our own that asks, and wants to know whether the answer was kept.
    own: Option<Arc<Own>>,
    /// Of a stream that is to be given again as it came.
    arrivals: Option<Box<Arrivals>>,
    begun: Option<Begun>,
}

/// What the answer's head decided.
#[derive(Debug)]
struct Under {
    key: CacheKey,
    check: Check,
    version: Arc<str>,
    /// The body says it, and with it the key.
    version_later: bool,
    headers: Vec<(Bytes, Bytes)>,
    form: Form,
    /// Of mode http; in content mode `life` says it at the end.
    ttl_ms: u64,
    life: Option<Life>,
    made_at_ms: Option<u64>,
    rule: Rule,
    /// The answer's own.
    tags: Vec<Box<str>>,
    /// The fields that answers of this URL depend on, to lie under the URL's key.
    lists: Option<Box<[FieldNames]>>,
    /// What it is to who asks for the same URL now.
    others: Option<Arc<ForOthers>>,
    status: u16,
}

impl Fill {
    pub(crate) fn new(parts: &Arc<Parts>, question: Box<Question>) -> Self {
        let stamp = parts.cache.tiers.stamp();
        let begun = Begun::of(parts, &question);
        let (under, lease, own, arrivals) = (None, None, None, None);
        Self { parts: parts.clone(), question, stamp, under, lease, own, arrivals, begun }
    }

    /// For the fleet, where there is a lease.
    pub(crate) fn leased(mut self, lease: Option<Lease>) -> Self {
        self.lease = lease.map(Arc::new);
        self
    }

    /// A call of our own hears whether the answer was kept.
    pub(crate) fn telling(mut self, own: Option<&Arc<Own>>) -> Self {
        self.own = own.cloned();
        self
    }

    /// No caller waits for the answer: it renews what is held, or checks it.
    pub(crate) fn is_for_nobody(&self) -> bool {
        self.question.renews || self.question.is_check()
    }

    pub(crate) fn lease(&self) -> Option<&Arc<Lease>> {
        self.lease.as_ref()
    }

    /// The answer has come, and nobody else will be given it.
    pub(crate) fn nothing_to_store(self) {
        if let Some(lease) = &self.lease {
            lease.unshared();
        }
        self.was_to_be_kept();
    }

    /// The head has come: whether, and under which key, the answer is to be stored.
    pub(crate) fn answered(mut self, answer: &response::Parts) -> Option<Self> {
        if self.asked().is_some_and(|asked| asked.is_posted()) {
            // What the POST itself has voided was before its answer.
            self.stamp = self.parts.cache.tiers.stamp();
            self.begun = Begun::of(&self.parts, &self.question);
        }
        let under = match self.question.mode {
            // However long it may be kept, what it was to renew is better while that lasts.
            Mode::Content | Mode::Http if self.question.renews && is_trouble(answer.status) => None,
            Mode::Content => self.content(answer),
            Mode::Http => {
                let kept = http_mode::storable(&self.question, answer).ok();
                kept.map(|kept| self.kept(kept, answer))
            }
            Mode::Off => None,
        };
        let is_paced = self.question.route.config.cache.pacing.is_some_and(Pacing::is_original);
        let is_stream = under.as_ref().is_some_and(|under| under.form == Form::Stream);
        self.arrivals = (is_paced && is_stream).then(Box::default);
        self.under = under.map(Box::new);
        if self.under.is_none() {
            self.nothing_to_store();
            return None;
        }
        Some(self)
    }

    fn content(&self, answer: &response::Parts) -> Option<Under> {
        let question = &self.question;
        let conditions = &question.route.conditions;
        if answer.status != StatusCode::OK && !conditions.take(answer.status) {
            return None;
        }
        // Its version is news whether or not the answer itself is kept.
        let version = match version::of_head(&self.parts, question, answer) {
            OfHead::Version(version) => Some(version),
            OfHead::Later => None,
            OfHead::NotKept => return None,
        };
        if let Some(why) = refusal::of(question, answer) {
            refusal::tell(question, why);
            return None;
        }
        let life =
            conditions.of_answer(question.fitting, (question.asked_ms, super::now_ms()), answer)?;
        let (key, check) = match &version {
            Some(version) => question.key_under(version),
            None => (question.key, question.check),
        };
        let version_later = version.is_none();
        let under = self.under(key, check, version.unwrap_or_default(), answer);
        Some(Under { life: Some(life), version_later, ..under })
    }

    fn under(
        &self,
        key: CacheKey,
        check: Check,
        version: Arc<str>,
        answer: &response::Parts,
    ) -> Under {
        let also = self.question.route.destination.version_header.as_ref();
        let also: Vec<&str> = also.iter().map(|name| name.as_str()).collect();
        let headers = answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        Under {
            key,
            check,
            version,
            headers: storable_headers(headers, &also),
            form: form_of(answer, self.question.framing),
            ttl_ms: 0,
            life: None,
            version_later: false,
            made_at_ms: None,
            rule: Rule::Ttl,
            tags: Vec::new(),
            lists: None,
            others: None,
            status: answer.status.as_u16(),
        }
    }

    fn kept(&self, kept: Kept, answer: &response::Parts) -> Under {
        Under {
            key: kept.key,
            check: kept.check,
            version: Arc::default(),
            headers: kept.headers,
            form: Form::Whole,
            ttl_ms: kept.useful_ms,
            life: None,
            version_later: false,
            made_at_ms: Some(kept.made_at_ms),
            rule: kept.rule,
            tags: kept.tags,
            lists: kept.lists,
            others: Some(kept.others),
            status: answer.status.as_u16(),
        }
    }

    pub(crate) fn key(&self) -> CacheKey {
        self.question.key
    }

    /// A piece of the answer has come.
    pub(crate) fn came(&mut self, at: Instant) {
        self.arrivals.iter_mut().for_each(|arrivals| arrivals.add(at));
    }

    /// What is held of a URL, where that is what is asked about.
    pub(crate) fn asked(&self) -> Option<&Arc<Asked>> {
        self.question.http.as_ref()
    }

    /// Something is held, and the upstream is asked whether it still holds, or for what is newer.
    pub(crate) fn asks_about(&self) -> bool {
        self.asked().is_some_and(|asked| asked.held.is_some()) || self.question.held().is_some()
    }

    /// What is given in place of an answer with this status.
    pub(crate) fn instead_of(&self, status: StatusCode) -> Option<Hit> {
        self.question.held()?.instead_of_status(status)
    }

    /// What there is for its caller, should there be no answer.
    pub(crate) fn spare(&self) -> Option<Spare> {
        let question = &self.question;
        if let Some(asked) = question.http.clone().filter(|_| !question.renews) {
            return Some(Spare::Asked(asked, question.route.freshness.windows.degrade_ms));
        }
        question.held().cloned().map(Spare::Held)
    }

    /// What an answer does to what is held.
    pub(crate) fn holds(&self, answer: &response::Parts) -> Holds {
        match self.asked() {
            None => Holds::Answer,
            Some(asked) => asked.holds(&self.question, answer, self.stamp),
        }
    }

    /// Does it.
    pub(crate) async fn next(&self, next: Next) {
        let tiers = &self.parts.cache.tiers;
        match next {
            Next::Stays => {}
            Next::Goes(key) => {
                tiers.purge_beside(Target::Key(key)).await;
            }
            Next::Renewed(key, newer) => {
                let until_ms = newer.stored_at_ms.saturating_add(newer.ttl_ms);
                if self.begun.is_some_and(|begun| !begun.may_keep(&self.parts, until_ms)) {
                    return;
                }
                let plan = &self.question.route.http.plan;
                self.question.brought(&key, &newer, Duration::ZERO);
                keeps(&self.parts, &newer);
                // Nobody waits for it: all that is new is its age.
                let kept = tiers.store(key, newer, plan, super::now_ms());
                self.own.iter().filter(|_| kept.is_kept()).for_each(|own| own.keep());
            }
        }
    }

    /// How many bytes of the answer are worth recording for it.
    pub(crate) fn recorded_bytes_max(&self) -> usize {
        let question = &self.question;
        // Its version is at its end, however long it is; of items, each is as long as it is.
        let is_read = question.route.destination.version_body.is_some() || question.items.is_some();
        self.parts.cache.entry_bytes_max.min(match question.mode {
            Mode::Content if !is_read => question.route.conditions.body_bytes_max(),
            Mode::Content | Mode::Http | Mode::Off => usize::MAX,
        })
    }

    /// The answer is complete and finished. What its callers are to wait for, if anything.
    pub(crate) fn store(
        self,
        recording: Recording,
        bill: &Bill,
        took: Duration,
    ) -> Option<Arrival> {
        let Self { parts, mut question, stamp, under, lease, own, arrivals, begun } = self;
        let gaps_ms = arrivals.and_then(|arrivals| arrivals.gaps_ms(recording.ends.len()));
        if let Some(lease) = &lease {
            // Unless Redis takes it.
            lease.unshared();
        }
        let mut under = *under?;
        let body = recording.body;
        under.learn_version(&parts, &question, &body)?;
        let came = Said { status: under.status, form: under.form, body: &body };
        // What is put by hand, and the purge before it, say nothing of how often answers change.
        let learns = under.life.filter(|_| question.putting.is_none());
        let change =
            learns.and_then(|_| learn::change(&parts, &question, came, &under.key, &under.check));
        // Of items, each teaches for itself.
        let teaches = |change: Change| question.items.is_some() || change.teaches();
        let teaches = change.is_some_and(teaches);
        if question.ends_check(came) && !teaches {
            return None;
        }
        // Of items, each has its own times.
        let times = under.times(&question, change, &body);
        if times.is_none() && question.items.is_none() {
            return None;
        }
        let (key, life, lists, has_times) =
            (under.key, under.life, under.lists.take(), times.is_some());
        let now_ms = super::now_ms();
        let until_ms = under.made_at_ms.unwrap_or(now_ms).saturating_add(under.ttl_ms);
        if begun.is_some_and(|begun| !begun.may_keep(&parts, until_ms)) {
            return None;
        }
        under.others.iter().for_each(|others| question.is_kept_for(&parts, others));
        let worth = worth(bill, took);
        let entry = Entry {
            frame_ends: under.frame_ends(recording.ends),
            delivery: Delivery::of_gaps(gaps_ms),
            note: encode_bill(bill),
            worth,
            stamp,
            ..under.entry(&mut question, body, times.unwrap_or((0, Rule::Ttl)), now_ms)
        };
        let tiers = &parts.cache.tiers;
        if let Some(items) = question.items.take() {
            let keeping =
                items::Keeping { parts: &parts, question: &question, life, lease: &lease, took };
            match keeping.keep(&items, &entry, bill) {
                Ok(stored) => {
                    own.filter(|_| stored.is_kept).inspect(|own| own.keep());
                    return stored.arrival;
                }
                // What is renewed or checked is not what was asked as a whole.
                Err(items::NotApart { is_whole }) if is_whole && has_times && !question.renews => {}
                Err(items::NotApart { .. }) => return None,
            }
        }
        let made = question.made.take();
        let plan = question.plan();
        if let Some(lists) = lists {
            // First, so that whoever finds the list may look for the answer.
            let list = Arc::new(list::of(lists, (question.key, question.check), &entry));
            // Whoever waits for the answer waits for this too: both go the same way.
            let _kept = tiers.store(question.key, list, plan, now_ms);
        }
        let about = if question.mode == Mode::Http { question.key } else { key };
        let entry = parts.cache.neighbours.kept(&parts, made, about, entry);
        question.brought(&key, &entry, took);
        question.putting.iter().for_each(|putting| putting.makes(key, &entry));
        let stored = tiers.store_leased(key, entry, plan, now_ms, lease.as_ref());
        own.filter(|_| stored.is_kept()).inspect(|own| own.keep());
        match stored {
            Stored::Arriving(arriving) => {
                Some(Arrival::of(smallvec![arriving], tiers.timeout(plan)))
            }
            Stored::Kept | Stored::Not => None,
        }
    }
}

impl Under {
    /// For how long the answer may be of use, and what decides about it until then; `None`: it is
    /// not to be kept.
    fn times(
        &mut self,
        question: &Question,
        change: Option<Change>,
        body: &[u8],
    ) -> Option<(u64, Rule)> {
        let Some(life) = self.life else {
            return Some((self.ttl_ms, std::mem::take(&mut self.rule)));
        };
        if body.is_empty() && self.status == StatusCode::OK.as_u16() {
            return None;
        }
        learn::times(question, life, (self.form, body), &self.key, change)
    }

    fn frame_ends(&self, ends: Vec<u32>) -> Box<[u32]> {
        match self.form {
            Form::Whole => Box::default(),
            Form::Stream => ends.into(),
        }
    }

    /// The answer as it is kept, without what it cost.
    fn entry(
        self,
        question: &mut Question,
        body: Bytes,
        (ttl_ms, rule): (u64, Rule),
        now_ms: u64,
    ) -> Entry {
        let mut tags = std::mem::take(&mut question.tags);
        tags.extend(self.tags);
        let about = if question.mode == Mode::Http { question.key } else { self.key };
        let (tenant, route) = (question.tenant.as_str(), &question.route.name);
        Entry {
            status: self.status,
            headers: self.headers,
            body,
            frame_ends: Box::default(),
            form: self.form,
            check: self.check,
            stored_at_ms: self.made_at_ms.unwrap_or(now_ms),
            ttl_ms,
            subjects: with_url(
                of_variant(subjects(about, route, &question.model, tenant, &tags), about, self.key),
                &rule,
            ),
            rule,
            model: question.model.clone(),
            model_version: self.version,
            tenant: tenant.into(),
            route: route.clone(),
            tags,
            note: Bytes::new(),
            worth: 0,
            stamp: Stamp::default(),
            checked: CheckedAt::default(),
            hits: Hits::default(),
            delivery: Delivery::default(),
        }
    }

    /// The version that the whole answer turned out to be of; `None` if it is not to be kept.
    fn learn_version(&mut self, parts: &Parts, question: &Question, body: &Bytes) -> Option<()> {
        if self.version_later {
            self.version = version::of_body(parts, question, (self.form, body))?;
            (self.key, self.check) = question.key_under(&self.version);
        } else if question.route.destination.version_poll.is_some() && self.life.is_some() {
            version::still(parts, question)?;
        }
        Some(())
    }
}

fn form_of(answer: &response::Parts, wanted: Framing) -> Form {
    if framing_of(&answer.headers, wanted).is_stream() { Form::Stream } else { Form::Whole }
}

/// Leaves a follower what describes the answer, and drops what was the leader's: its
/// cookies, its request id, its rate limits.
pub(crate) fn keep_shareable(headers: &mut HeaderMap) {
    let kept = |name: &HeaderName| {
        is_storable(name.as_str(), &["cache-status", "retry-after", "server-timing"])
    };
    let others: Vec<HeaderName> = headers.keys().filter(|name| !kept(name)).cloned().collect();
    for name in others {
        headers.remove(name);
    }
}
