//! What an upstream's answer does to what is held, and whether it is kept itself.

use super::{Asked, ForOthers, Given, chosen_by, find::Held, given::How};
use crate::cache::{Question, now_ms};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, response};
use std::{iter, sync::Arc};
use tollgate_cache::{
    entry::{Entry, FieldNames, HttpRule, Rule},
    generations::{CheckedAt, Stamp},
    key::{CacheKey, Check, KeyParts},
    rfc9111::{
        conditional, date,
        reuse::{Failure, on_error},
        store::{Rules, Stored, Times, Verdict, judge, judge_posted},
        update::{self, Freshens},
    },
};

/// How many ways of varying are kept apart for a URL; the oldest is forgotten.
const LISTS_MAX: usize = 4;

/// An answer that can be validated is kept so long past its time, if it is of no other use.
const VALIDATE_MS: u64 = 3_600_000;

/// Fields of one exchange that hop-by-hop rules do not name: the length is said by the
/// body, an id of one call is not another's.
pub(super) const NEVER_KEPT: [HeaderName; 4] = [
    header::CONTENT_LENGTH,
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("request-id"),
    HeaderName::from_static("tollgate-record"),
];

/// Where and how an answer is kept.
pub(crate) struct Kept {
    pub(crate) key: CacheKey,
    pub(crate) check: Check,
    pub(crate) rule: Rule,
    pub(crate) headers: Vec<(Bytes, Bytes)>,
    pub(crate) tags: Vec<Box<str>>,
    /// Since when, and for how long, it can be of use, in milliseconds.
    pub(crate) made_at_ms: u64,
    pub(crate) useful_ms: u64,
    /// What is to lie under the URL's key, if this does not.
    pub(crate) lists: Option<Box<[FieldNames]>>,
    pub(crate) others: Arc<ForOthers>,
}

/// How an answer is kept, or why it is not.
pub(crate) fn storable(
    question: &Question,
    answer: &response::Parts,
) -> Result<Kept, &'static str> {
    storable_by(&question.route.http.rules, question, answer)
}

/// The same, by other rules than the route's.
pub(crate) fn storable_by(
    rules: &Rules,
    question: &Question,
    answer: &response::Parts,
) -> Result<Kept, &'static str> {
    let asked = question.http.as_deref().ok_or("mode")?;
    let times = Times { request_ms: question.asked_ms, response_ms: now_ms() };
    let (request, status, headers) = (&asked.request, answer.status, &answer.headers);
    let verdict = match &asked.posted_to {
        None => judge(request, status, headers, times, rules),
        Some(target) => judge_posted(target, request, status, headers, times, rules),
    };
    let verdict = verdict.inspect_err(|why| tracing::trace!(why, "an answer is not stored"));
    let Verdict { stored, mut vary, drop, tags, lacks_date } = verdict?;
    // Whoever codes answers without saying so gives them to callers who cannot read them.
    if is_coded(&answer.headers) && !vary.contains(&header::ACCEPT_ENCODING) {
        vary.push(header::ACCEPT_ENCODING);
        vary.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    }
    let mut headers = answer.headers.clone();
    for name in &drop {
        headers.remove(name);
    }
    let date = lacks_date.then(|| date::format(times.response_ms / 1000));
    if let Some(date) = &date {
        headers.insert(header::DATE, date.clone());
    }
    let (key, check, lists) = if vary.is_empty() {
        (question.key, question.check, None)
    } else {
        let (key, check) = question.variant_key(&vary, asked);
        let first = FieldNames::from(&*vary);
        let others = asked.lists.iter().filter(|list| **list != first).cloned();
        let lists: Box<[FieldNames]> =
            iter::once(first.clone()).chain(others).take(LISTS_MAX).collect();
        (key, check, Some(lists))
    };
    let others = Arc::new(ForOthers { key, stored, vary: vary.into(), drop, date });
    Ok(Kept {
        key,
        check,
        rule: Rule::Http(Box::new(HttpRule { stored, url: question.key, named: asked.named })),
        headers: kept_headers(&headers),
        tags,
        made_at_ms: stored.made_at_ms,
        useful_ms: useful_ms(&stored, question),
        lists,
        others,
    })
}

fn useful_ms(stored: &Stored, question: &Question) -> u64 {
    let useful_ms = stored.useful_until_ms(VALIDATE_MS).saturating_sub(stored.made_at_ms);
    let degrade_ms = question.route.freshness.windows.degrade_ms;
    let may_degrade = !stored.must_revalidate && !stored.no_cache;
    let degrade_ms = if may_degrade { degrade_ms } else { 0 };
    useful_ms.max(stored.lifetime_ms.saturating_add(degrade_ms))
}

fn is_coded(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

impl Question {
    /// The key of this caller's variant.
    pub(super) fn variant_key(&self, names: &[HeaderName], asked: &Asked) -> (CacheKey, Check) {
        let digest = chosen_by(names, &asked.headers);
        let host = asked.host.as_ref().map(HeaderValue::as_bytes);
        self.with_parts("", host, |parts| KeyParts { body: &digest, ..*parts }.key())
    }

    /// The key of another URL of the same origin; `path` is normal.
    pub(super) fn url_key(
        &self,
        host: Option<&[u8]>,
        path: &str,
        query: Option<&str>,
    ) -> (CacheKey, Check) {
        let query = self.route.http.query.normal(query);
        let query = query.as_deref();
        let method = Method::GET;
        let method = method.as_str();
        self.with_parts("", host, |parts| KeyParts { method, path, query, ..*parts }.key())
    }
}

/// What the answer to a question about something held comes to.
pub(crate) enum Holds {
    /// It is an answer like any other.
    Answer,
    /// The caller is given what is held; and what becomes of that.
    Given(Box<Given>, Next),
    /// What is held is of no use: asked again, without conditions.
    Again,
}

/// What becomes of a held answer.
#[derive(Debug)]
pub(crate) enum Next {
    Stays,
    /// It is of no more use.
    Goes(CacheKey),
    /// A newer version of it takes its place.
    Renewed(CacheKey, Arc<Entry>),
}

impl Asked {
    pub(crate) fn is_posted(&self) -> bool {
        self.posted_to.is_some()
    }

    /// Makes of a request the one that asks whether what is held still holds. The former
    /// fields, if it does.
    pub(crate) fn condition(&self, headers: &mut HeaderMap) -> Option<HeaderMap> {
        let held = self.held.as_ref()?;
        let mut plain = headers.clone();
        for name in conditional::CONDITIONS {
            plain.remove(name);
        }
        conditional::validation(&header_map(&held.entry.headers), headers);
        Some(plain)
    }

    pub(crate) fn holds(
        &self,
        question: &Question,
        answer: &response::Parts,
        stamp: Stamp,
    ) -> Holds {
        let Some(held) = &self.held else { return Holds::Answer };
        let now_ms = now_ms();
        if answer.status != StatusCode::NOT_MODIFIED {
            let failure = Failure::Status(answer.status.as_u16());
            let may = on_error(&held.stored, &self.request, now_ms, failure).is_some();
            let how = How::Instead(Some(answer.status));
            return if may { self.given(held, now_ms, how, Next::Stays) } else { Holds::Answer };
        }
        let rules = &question.route.http.rules;
        let mut headers = header_map(&held.entry.headers);
        if update::freshened(&[&headers], &answer.headers) == Freshens::Nothing {
            return Holds::Again;
        }
        let times = Times { request_ms: question.asked_ms, response_ms: now_ms };
        let status = StatusCode::from_u16(held.entry.status).unwrap_or(StatusCode::OK);
        let newer = &answer.headers;
        let renewed = update::renew(&mut headers, status, newer, &self.request, times, rules);
        let mut entry = Entry::clone(&held.entry);
        entry.headers = kept_headers(&headers);
        let Ok(verdict) = renewed else {
            // The newer fields say that it may no longer be kept: given this once, as they say, and
            // no CDN is told anything else of it.
            let newer = Held { entry: Arc::new(entry), ..held.clone() };
            let given = Given::of(&newer, &self.request, now_ms, How::Validated);
            return Holds::Given(Box::new(given), Next::Goes(question.key));
        };
        entry.stored_at_ms = verdict.stored.made_at_ms;
        entry.ttl_ms = useful_ms(&verdict.stored, question);
        let (stored, url, named) = (verdict.stored, question.key, self.named);
        entry.rule = Rule::Http(Box::new(HttpRule { stored, url, named }));
        entry.stamp = stamp;
        entry.checked = CheckedAt::default();
        let entry = Arc::new(entry);
        let newer = Held { entry: entry.clone(), stored: verdict.stored, ..held.clone() };
        let mut given = self.told(&newer, now_ms, How::Validated);
        given.newer = Some(Box::new(newer));
        Holds::Given(Box::new(given), Next::Renewed(held.key, entry))
    }

    fn given(&self, held: &Held, now_ms: u64, how: How, next: Next) -> Holds {
        Holds::Given(Box::new(self.told(held, now_ms, how)), next)
    }

    /// What is given instead of nothing, if that is allowed.
    pub(crate) fn instead_of_nothing(&self, failure: Failure) -> Option<Given> {
        let how = if failure == Failure::Unreachable { How::Instead(None) } else { How::Degraded };
        self.instead_of(failure, how)
    }

    pub(super) fn instead_of(&self, failure: Failure, how: How) -> Option<Given> {
        let held = self.held.as_ref()?;
        let now_ms = now_ms();
        on_error(&held.stored, &self.request, now_ms, failure)?;
        Some(self.told(held, now_ms, how))
    }

    pub(super) fn told(&self, held: &Held, now_ms: u64, how: How) -> Given {
        let given = Given::of(held, &self.request, now_ms, how);
        given.telling(self.told.as_deref(), held, now_ms)
    }

    /// A CDN before us is told of an answer that is kept, as it passes.
    pub(crate) fn tell(&self, headers: &mut HeaderMap, rule: &Rule, tags: &[Box<str>]) {
        if let (Some(told), Rule::Http(rule)) = (&self.told, rule) {
            told.say(headers, &rule.stored, tags, now_ms());
        }
    }
}

pub(crate) fn header_map(pairs: &[(Bytes, Bytes)]) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(pairs.len() + 4);
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name);
        let value = HeaderValue::from_maybe_shared(value.clone());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

pub(crate) fn kept_headers(headers: &HeaderMap) -> Vec<(Bytes, Bytes)> {
    headers
        .iter()
        .filter(|(name, _)| !NEVER_KEPT.contains(name))
        .map(|(name, value)| {
            let name = Bytes::copy_from_slice(name.as_str().as_bytes());
            (name, Bytes::copy_from_slice(value.as_bytes()))
        })
        .collect()
}
