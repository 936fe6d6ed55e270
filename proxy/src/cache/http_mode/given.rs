//! An answer made of what is held: whole, a part of it, or the word that the caller has it.

use super::{answered::header_map, cdn::Told, find::Held};
use crate::{
    app::Parts,
    body::{Body, len_u64},
    cache::{
        Mode,
        coded::{self, Agreed},
        decode_bill,
        trace::{Fact, Note},
    },
    meter::Call,
    metrics::CacheOutcome,
    respond,
    route::Route,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use std::{fmt::Write as _, sync::Arc};
use tollgate_cache::{
    rfc9111::{
        conditional::{self, Given as Judged},
        range::{self, Cut},
        request::{Kind, Request},
    },
    tiers::TierName,
};

/// How it came to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cache) enum How {
    Hit,
    /// Past its time, and the upstream was not asked.
    Stale,
    /// The upstream said that it still holds.
    Validated,
    /// The same, asked for another who asked at that time.
    Joined,
    /// Instead of this status of the upstream; `None`: of no answer.
    Instead(Option<StatusCode>),
    /// Instead of being shed.
    Degraded,
}

/// What a caller is given of a stored answer. The record and the answer are made apart: who
/// asks the upstream writes the one, who serves the caller sends the other.
#[derive(Debug)]
pub(crate) struct Given {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    tier: TierName,
    outcome: CacheOutcome,
    note: Bytes,
    /// Its line in the key trace, written when it is served.
    traced: Option<Box<Note>>,
    pub(super) how: How,
    /// What has taken the place of what was held, and is given.
    pub(super) newer: Option<Box<Held>>,
}

impl Given {
    pub(super) fn of(held: &Held, request: &Request, now_ms: u64, how: How) -> Self {
        let entry = &held.entry;
        let stored = header_map(&entry.headers);
        let whole = StatusCode::from_u16(entry.status).unwrap_or(StatusCode::OK);
        let (status, mut headers, body) = choose(request, whole, stored, &entry.body, now_ms);
        let age_ms = held.stored.age_ms(now_ms);
        headers.insert(header::AGE, HeaderValue::from(age_ms / 1000));
        let left_ms = i128::from(held.stored.lifetime_ms) - i128::from(age_ms);
        let said = cache_status(how, left_ms.div_euclid(1000), held.tier);
        respond::append_cache_status(&mut headers, said);
        let outcome = match how {
            How::Hit | How::Validated | How::Joined => CacheOutcome::Hit,
            How::Stale | How::Instead(_) | How::Degraded => CacheOutcome::Stale,
        };
        let (tier, note) = (held.tier, entry.note.clone());
        Self { status, headers, body, tier, outcome, note, traced: None, how, newer: None }
    }

    /// The same, with a line in the key trace where one is written.
    pub(super) fn traced(self, parts: &Parts, route: &Route, held: &Held) -> Self {
        let is_stale = self.outcome == CacheOutcome::Stale;
        let fact = Fact { entry: &held.entry, tier: held.tier, is_stale };
        Self { traced: parts.cache.traces.note(route, Mode::Http, held.key, fact), ..self }
    }

    /// Without that line for a call of our own: nobody has asked for it.
    pub(super) fn traced_unless(self, is_own: bool) -> Self {
        Self { traced: self.traced.filter(|_| !is_own), ..self }
    }

    /// As [`Self::of`], traced, in the coding that its caller prefers, if it is the whole answer.
    pub(super) fn coded(
        (parts, route, agreed): (&Arc<Parts>, &Route, Agreed),
        held: &Held,
        request: &Request,
        (now_ms, how): (u64, How),
    ) -> Self {
        let agreed = agreed.about(&held.entry);
        let given = if agreed.coding.is_some() && request.conditions.has_date_for_range() {
            // It may have a part of the coded form, of which a range is none.
            Self::of(held, &Request { range: None, ..request.clone() }, now_ms, how)
        } else {
            Self::of(held, request, now_ms, how)
        };
        let mut given = given.traced(parts, route, held);
        let is_whole = given.status.as_u16() == held.entry.status;
        let form = if is_whole { coded::form(parts, &held.key, &held.entry, agreed) } else { None };
        agreed.tell(&mut given.headers, form.as_ref().map(|(coding, _)| *coding));
        if given.status == StatusCode::NOT_MODIFIED && agreed.coding.is_some() {
            // Who holds the coded answer is told of it that it still holds.
            conditional::weaken(&mut given.headers);
        }
        let Some((_, form)) = form else { return given };
        if given.headers.contains_key(header::CONTENT_LENGTH) {
            // Of HEAD.
            given.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len_u64(form.len())));
        } else {
            given.body = form;
        }
        given
    }

    /// With what a CDN before us is told of it, if anything.
    pub(super) fn telling(mut self, told: Option<&Told>, held: &Held, now_ms: u64) -> Self {
        let Some(told) = told else { return self };
        let (headers, tags) = (&mut self.headers, &held.entry.tags);
        match self.status {
            StatusCode::RANGE_NOT_SATISFIABLE => {}
            StatusCode::NOT_MODIFIED | StatusCode::PARTIAL_CONTENT => {
                let whole = header_map(&held.entry.headers);
                told.say_of_part((headers, &whole), &held.stored, tags, now_ms);
            }
            _ => told.say(headers, &held.stored, tags, now_ms),
        }
        self
    }

    /// Its caller was shed, which is no reason to give others the same.
    pub(crate) fn is_degraded(&self) -> bool {
        self.how == How::Degraded
    }

    pub(crate) fn body(&self) -> &Bytes {
        &self.body
    }

    /// The record, then the answer.
    pub(crate) fn serve(self, call: Call) -> Response<Body> {
        self.book(call);
        let Self { status, headers, body, .. } = self;
        response(status, headers, body)
    }

    /// Writes the call's record.
    pub(crate) fn book(&self, mut call: Call) {
        call.cache(self.outcome, crate::cache::label(self.tier));
        call.first_byte();
        self.traced.iter().for_each(|traced| traced.write());
        let bill = decode_bill(&self.note).unwrap_or_default();
        call.spared(self.status.as_u16(), len_u64(self.body.len()), &bill);
    }

    /// The answer, where the record was written by who asked the upstream.
    pub(crate) fn respond(&self) -> Response<Body> {
        response(self.status, self.headers.clone(), self.body.clone())
    }
}

fn response(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::Whole(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The caller's conditions first, then its range (RFC 9110 §13.2.2).
fn choose(
    request: &Request,
    status: StatusCode,
    stored: HeaderMap,
    body: &Bytes,
    now_ms: u64,
) -> (StatusCode, HeaderMap, Bytes) {
    let holds = request.is_conditional()
        && conditional::evaluate(&request.conditions, status, &stored, now_ms)
            == Judged::NotModified;
    if holds {
        return (StatusCode::NOT_MODIFIED, conditional::not_modified(&stored), Bytes::new());
    }
    let len = len_u64(body.len());
    let place = |place| usize::try_from(place).unwrap_or(usize::MAX);
    match range::cut(request, status, &stored, len) {
        Cut::Part { first, last } if last < len && first <= last => {
            let mut headers = range::part_fields(request, &stored);
            headers.insert(header::CONTENT_RANGE, range::content_range(first, last, len));
            let part = body.slice(place(first)..=place(last));
            (StatusCode::PARTIAL_CONTENT, headers, part)
        }
        Cut::Unsatisfiable => {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, range::unsatisfied(len));
            (StatusCode::RANGE_NOT_SATISFIABLE, headers, Bytes::new())
        }
        Cut::Part { .. } | Cut::Whole => {
            let mut headers = stored;
            // hyper says the length of what it is given, and of HEAD it is given nothing.
            let is_head = request.kind == Kind::Head;
            if is_head {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
            }
            (status, headers, if is_head { Bytes::new() } else { body.clone() })
        }
    }
}

/// `tollgate; hit; ttl=2873; detail=memory`; a stale answer's ttl is below 0 (RFC 9211 §2.2).
pub(in crate::cache) fn cache_status(how: How, ttl_s: i128, tier: TierName) -> HeaderValue {
    let mut text = String::from("tollgate; ");
    text.push_str(match how {
        How::Hit | How::Stale | How::Degraded => "hit",
        How::Validated | How::Instead(_) => "fwd=stale",
        How::Joined => "fwd=stale; collapsed",
    });
    let told = match how {
        How::Hit | How::Stale | How::Instead(None) | How::Degraded => None,
        How::Validated | How::Joined => Some(StatusCode::NOT_MODIFIED),
        How::Instead(status) => status,
    };
    if let Some(status) = told {
        write!(text, "; fwd-status={}", status.as_u16()).ok();
    }
    // The upstream was not asked, and not because it need not be.
    let detail = if how == How::Degraded { "degrade" } else { tier.as_str() };
    write!(text, "; ttl={ttl_s}; detail={detail}").ok();
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("tollgate; hit"))
}
