//! Puts an answer in its place that somebody brings, as if the upstream had given it: under the key
//! of the request it is said to answer, and only where the upstream's own would have been kept.
//!
//! What it says is judged by the rules that an upstream's answer is judged by. It differs in one
//! thing: it teaches nobody a version of the model, unless who brings it says which one it is of.

use super::{Fill, Placed, Putting, Under, form_of, refusal};
use crate::{
    app::Parts,
    cache::{Ask, Consulted, VOTE, http_mode, learn, wishes},
    identity::Caller,
    listener::Own,
    meter::Bill,
    metrics,
    relay::Counter,
    route::Route,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header, request, response};
use std::{sync::Arc, time::Duration};
use tollgate_cache::{
    entry::Form,
    flight::Recording,
    key::CacheKey,
    rfc9111::store::dropped,
    versions::{Observed, Said},
};
use tollgate_core::{
    dialect::{Framing, Operation},
    form,
    usage::{AnswerReader, Verdict},
};

/// Of an answer that says who may not have it: a time of its own changes nothing about that.
const FORBIDDEN: [&str; 3] = ["no-store", "private", "must-understand"];

/// Why a rule of the route refuses it.
const RULE: &str = "a rule about what answers say, or a ttl of zero";

/// Says a time to this cache alone (RFC 9213).
const OWN_CONTROL: HeaderName = HeaderName::from_static("tollgate-cache-control");

/// An answer, and what is said of it.
#[derive(Debug)]
pub(crate) struct Brought {
    pub(crate) answer: Response<Bytes>,
    /// For how long it is good; `None`: for as long as the upstream's would be.
    pub(crate) ttl: Option<Duration>,
    /// Beside the route's own.
    pub(crate) tags: Vec<Box<str>>,
    /// Which version of the model it is of; `None`: the one that answers now.
    pub(crate) version: Option<Arc<str>>,
}

/// Why it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotPut {
    #[error("an answer to this request is not cached: {0}")]
    Bypass(&'static str),
    #[error(
        "which version of its model answers is not known yet: send a call first, or say model_version"
    )]
    VersionUnknown,
    #[error("model_version: not the one that answers now")]
    VersionOther,
    #[error("model_version: is for answers that are keyed by what is asked")]
    VersionOfUrl,
    #[error("such an answer would not be kept: {0}")]
    NotKept(&'static str),
    #[error("the answer is longer than {0} bytes")]
    Long(usize),
    #[error(
        "the store that keeps the fleet's purges is away: what was there is void, and so would be what \
         is put now; put it again when the store is back"
    )]
    Away,
}

/// Puts it under the key that this caller's call has.
///
/// # Errors
/// Why it is not kept. Nothing has changed then, unless the keeper of purges is away: what was there
/// has given way by then.
pub(crate) async fn put(
    parts: &Arc<Parts>,
    route: &Arc<Route>,
    ask: &Ask,
    head: &request::Parts,
    caller: &Caller,
    brought: Brought,
) -> Result<Placed, NotPut> {
    let bytes_max = parts.cache.entry_bytes_max;
    if brought.answer.body().len() > bytes_max {
        return Err(NotPut::Long(bytes_max));
    }
    let mut head = head.clone();
    // Who brings an answer does not vote, and wants to be given none.
    head.headers.remove(VOTE);
    if wishes(&head.headers).no_store {
        return Err(NotPut::Bypass("no-store"));
    }
    head.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let question = match crate::cache::consult(parts, route, ask, &head, caller).await {
        Consulted::Miss(question) | Consulted::Renewed(_, question) => question,
        Consulted::Bypass(why) => return Err(NotPut::Bypass(why)),
        Consulted::Hit(_) | Consulted::Given(_) | Consulted::NotCached => {
            return Err(NotPut::Bypass("found"));
        }
    };
    Fill::new(parts, question).put(ask, brought).await
}

impl Fill {
    async fn put(mut self, ask: &Ask, brought: Brought) -> Result<Placed, NotPut> {
        let Brought { answer, ttl, tags, version } = brought;
        let (mut answer, body) = answer.into_parts();
        let mut is_of_another = false;
        let mut under = if self.question.http.is_some() {
            if version.is_some() {
                return Err(NotPut::VersionOfUrl);
            }
            self.of_url(&mut answer, ttl)?
        } else {
            let version = self.version_put(version)?;
            is_of_another = self.question.version.as_ref() != Some(&version);
            (self.question.key, self.question.check) = self.question.key_under(&version);
            self.question.version = Some(version.clone());
            self.of_content(&answer, &body, version, ttl)?
        };
        under.tags.extend(tags);
        let bill = self.bill(ask, &answer, &body)?;
        self.would_be_kept(&under, &body)?;
        // Only now: what is refused moves no version.
        if is_of_another {
            self.observe(&under.version)?;
        }
        let own = Arc::new(Own::default());
        let (parts, key) = (self.parts.clone(), under.key);
        // Before the purge: whoever asks because of it waits for what is put.
        self.lease = crate::cache::turns::lease_of_put(&parts, &self.question).await.map(Arc::new);
        // What is there gives way, in the memory of other instances too, and in tiers that are
        // written around.
        let purged = parts.cache.tiers.purge_keys(&self.keys(&under)).await;
        if purged.pending {
            // Its number, when it has one, is younger than what is put now.
            return Err(NotPut::Away);
        }
        self.stamp = parts.cache.tiers.stamp();
        let putting = Putting::new(self.question.plan());
        self.question.putting = Some(putting.clone());
        self.under = Some(Box::new(under));
        let recording = Recording { body, ends: Vec::new() };
        let arrival = self.telling(Some(&own)).store(recording, &bill, Duration::ZERO);
        if !own.is_kept() {
            return Err(NotPut::NotKept(RULE));
        }
        Ok(putting.placed(&parts, key, arrival, purged.pending).await)
    }

    /// Whether the route's rules about what answers say let it be kept; of a list that is taken apart
    /// each item is judged for itself.
    fn would_be_kept(&self, under: &Under, body: &Bytes) -> Result<(), NotPut> {
        let Some(life) = under.life.filter(|_| self.question.items.is_none()) else {
            return Ok(());
        };
        let times = learn::times(&self.question, life, (under.form, body), &under.key, None);
        times.map(|_| ()).ok_or(NotPut::NotKept(RULE))
    }

    /// Where it, or what it is made of, is to lie.
    fn keys(&self, under: &Under) -> Vec<CacheKey> {
        let items = self.items().into_iter().flat_map(|items| &items.unique);
        let items = items.map(|item| self.question.item_key(&item.digest, &under.version).0);
        [under.key].into_iter().chain(items).collect()
    }

    /// The version whose answer this is.
    fn version_put(&self, said: Option<Arc<str>>) -> Result<Arc<str>, NotPut> {
        let question = &self.question;
        let Some(said) = said else {
            return question.version.clone().ok_or(NotPut::VersionUnknown);
        };
        if let Some(now) = &question.version {
            // A slip of the pen would end every answer of the model that there is.
            return if *now == said { Ok(said) } else { Err(NotPut::VersionOther) };
        }
        let destination = &question.route.destination;
        if destination.version_static.is_some() || destination.version_poll.is_some() {
            // Others say that.
            return Err(NotPut::VersionOther);
        }
        Ok(said)
    }

    /// Takes it as the upstream's word that answers are of this version now.
    fn observe(&self, version: &str) -> Result<(), NotPut> {
        let question = &self.question;
        let upstream = &question.route.destination.upstream.name;
        let said = match version.is_empty() {
            true => Said::Nothing,
            false => Said::of([version.as_bytes()]),
        };
        let now_ms = crate::cache::now_ms();
        match self.parts.cache.versions.observe(upstream, &question.model, said, now_ms) {
            Observed::Store => Ok(()),
            Observed::DoNotStore => Err(NotPut::VersionOther),
        }
    }

    fn of_content(
        &self,
        answer: &response::Parts,
        body: &Bytes,
        version: Arc<str>,
        ttl: Option<Duration>,
    ) -> Result<Under, NotPut> {
        let question = &self.question;
        if form_of(answer, question.framing) == Form::Stream {
            return Err(NotPut::NotKept(
                "a stream; bring the whole answer, streams are made of it",
            ));
        }
        let has_form = || form::whole_to_stream(question.operation, body).is_some();
        if question.framing.is_stream() && !has_form() {
            return Err(NotPut::NotKept("a stream of it cannot be made"));
        }
        match refusal::of(question, answer) {
            None => {}
            Some(metrics::NotKept::Encoded) => return Err(NotPut::NotKept("content-encoding")),
            Some(metrics::NotKept::NoStore) => return Err(NotPut::NotKept("no-store")),
            Some(metrics::NotKept::Vary) => return Err(NotPut::NotKept("vary")),
            Some(metrics::NotKept::Unread) => return Err(NotPut::NotKept("it cannot be read")),
        }
        let times = (question.asked_ms, crate::cache::now_ms());
        let life = question.route.conditions.of_answer(question.fitting, times, answer);
        let mut life = life.ok_or(NotPut::NotKept("status or cache-control"))?;
        let allowed_ms =
            question.route.conditions.allowed_ms(question.fitting, answer.status.as_u16());
        // Longer than the rules let any caller have it, nobody would be given it.
        life.said_ms = ttl.map(|ttl| crate::route::millis(ttl).min(allowed_ms));
        let under = self.under(question.key, question.check, version, answer);
        Ok(Under { life: Some(life), ..under })
    }

    fn of_url(&self, answer: &mut response::Parts, ttl: Option<Duration>) -> Result<Under, NotPut> {
        let mut rules = self.question.route.http.rules.clone();
        let mut left = vec![OWN_CONTROL];
        if let Some(ttl) = ttl {
            // It stands in for how long the answer is good, and for no word on who may have it.
            match http_mode::storable(&self.question, answer) {
                Err(why) if FORBIDDEN.contains(&why) => return Err(NotPut::NotKept(why)),
                Ok(_) | Err(_) => {}
            }
            left.extend(dropped(&answer.headers, &rules));
            let control = HeaderValue::try_from(format!("max-age={}", ttl.as_secs()));
            control.into_iter().for_each(|control| {
                answer.headers.insert(OWN_CONTROL, control);
            });
            // Whichever fields the route obeys.
            rules.targeted.insert(0, OWN_CONTROL);
        }
        let kept = http_mode::storable_by(&rules, &self.question, answer);
        let mut under = self.kept(kept.map_err(NotPut::NotKept)?, answer);
        under.headers.retain(|(name, _)| !left.iter().any(|left| *name == left.as_str()));
        Ok(under)
    }

    /// What it would have cost.
    fn bill(&self, ask: &Ask, answer: &response::Parts, body: &Bytes) -> Result<Bill, NotPut> {
        let model = ask.model();
        let absent = || Bill { model: model.cloned(), ..Bill::default() };
        if ask.operation == Operation::Other {
            return Ok(absent());
        }
        let reader = AnswerReader::new(ask.operation, Framing::Whole);
        let mut counter = Counter::new(reader, &answer.headers);
        counter.push(body);
        let reading = counter.finish(true);
        if let Verdict::Unfinished(why) = reading.verdict {
            return Err(NotPut::NotKept(why));
        }
        if !answer.status.is_success() {
            return Ok(absent());
        }
        Ok(self.parts.meter.bill_of_put(reading, model, ask.bytes_in()))
    }
}
