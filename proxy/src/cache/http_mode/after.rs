//! What a call that is not answered from here does to what is: a change voids what is kept
//! for its URL (RFC 9111 §4.4), an answer to HEAD freshens or voids it (§4.3.5).

use super::{
    Asked,
    answered::{header_map, kept_headers},
    asking, chosen_by,
    find::{Held, find_now, is_kept},
    read, scope,
};
use crate::{
    app::Parts,
    cache::{Fill, Mode, Question, now_ms, question::Keyed, voided},
    exchange::Fetch,
    head,
};
use http::{HeaderMap, Method, StatusCode, Uri, header};
use std::sync::Arc;
use tollgate_cache::{
    entry::{Entry, HttpRule, Rule},
    rfc9111::{
        invalidate,
        request::{Kind, Request},
        store::Times,
        update::{self, Head},
    },
};

/// What is to be done once the head of the answer is known.
#[derive(Debug)]
pub(crate) struct After {
    question: Box<Question>,
    what: What,
}

#[derive(Debug)]
enum What {
    /// The target in absolute form.
    Voids(Uri),
    Compares(Box<Held>),
}

/// `None`: nothing, as for nearly all calls.
pub(crate) fn after(fetch: &Fetch) -> Option<Box<After>> {
    if fetch.ask.mode != Mode::Http {
        return None;
    }
    let (route, head) = (&fetch.route, &fetch.head);
    let scope = scope(&fetch.caller);
    let request = read(head, scope);
    if request.kind != Kind::Head && !request.invalidates() {
        return None;
    }
    let query = route.http.query.normal(head.uri.query());
    let digest = chosen_by(&[], &head.headers);
    let asking = asking(route, &fetch.ask, head, query.as_deref(), &digest, scope);
    let keyed = asking.key("");
    let Keyed { key, check, .. } = keyed;
    let what = if request.kind == Kind::Head {
        What::Compares(Box::new(find_now(&fetch.parts, &asking, key, check)?))
    } else {
        What::Voids(target(fetch)?)
    };
    Some(Box::new(After {
        question: asking.question(&fetch.parts, keyed, None, &fetch.caller),
        what,
    }))
}

/// The right to keep what a POST is answered with, if that is what GET would bring
/// (RFC 9110 §9.3.3).
pub(crate) fn posted(fetch: &Fetch) -> Option<Fill> {
    let (route, head) = (&fetch.route, &fetch.head);
    if fetch.ask.mode != Mode::Http || head.method != Method::POST || fetch.upgrade.is_some() {
        return None;
    }
    let scope = scope(&fetch.caller);
    let request = read(head, scope);
    let query = route.http.query.normal(head.uri.query());
    let digest = chosen_by(&[], &head.headers);
    let asking = asking(route, &fetch.ask, head, query.as_deref(), &digest, scope);
    let mut question = asking.question(&fetch.parts, asking.key(""), None, &fetch.caller);
    question.http = Some(Arc::new(Asked {
        request,
        headers: head.headers.clone(),
        host: head.headers.get(header::HOST).cloned(),
        held: None,
        lists: Box::default(),
        forwarded: "method",
        told: None,
        posted_to: Some(target(fetch)?),
    }));
    Some(Fill::new(&fetch.parts, question))
}

/// The URL in absolute form.
fn target(fetch: &Fetch) -> Option<Uri> {
    let host = fetch.head.headers.get(header::HOST)?.to_str().ok()?;
    let scheme = if fetch.peer.is_tls { "https" } else { "http" };
    let path = fetch.head.uri.path_and_query()?;
    format!("{scheme}://{host}{path}").parse().ok()
}

impl After {
    pub(crate) async fn answered(
        self: Box<Self>,
        parts: &Parts,
        status: StatusCode,
        headers: &HeaderMap,
    ) {
        let Self { question, what } = *self;
        match what {
            What::Voids(target) => voids(parts, &question, &target, status, headers).await,
            What::Compares(held) => compares(parts, &question, &held, status, headers).await,
        }
    }
}

async fn voids(
    parts: &Parts,
    question: &Question,
    target: &Uri,
    status: StatusCode,
    headers: &HeaderMap,
) {
    let host = target.authority().map(|authority| authority.as_str().as_bytes());
    for named in invalidate::voided(target, status, headers) {
        let (path, query) = match named.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (named.as_str(), None),
        };
        let Ok(path) = head::normal_path(path) else { continue };
        let (key, check) = question.url_key(host, &path, query);
        // The table of purges is bounded: what is not kept needs no place in it.
        if is_kept(parts, &question.route, &key, &check).await {
            voided::void(parts, question, (key, check)).await;
        }
    }
}

async fn compares(
    parts: &Parts,
    question: &Question,
    held: &Held,
    status: StatusCode,
    headers: &HeaderMap,
) {
    let mut kept = header_map(&held.entry.headers);
    let len = crate::body::len_u64(held.entry.body.len());
    match update::head(&kept, len, status, headers) {
        Head::Nothing => {}
        Head::Voids => {
            voided::void(parts, question, (question.key, question.check)).await;
        }
        Head::Freshens => {
            let rules = &question.route.http.rules;
            let times = Times { request_ms: question.asked_ms, response_ms: now_ms() };
            let request = Request::read(&Method::GET, &HeaderMap::new());
            let whole = StatusCode::from_u16(held.entry.status).unwrap_or(StatusCode::OK);
            let renewed = update::renew(&mut kept, whole, headers, &request, times, rules);
            let Ok(verdict) = renewed else { return };
            let mut entry = Entry::clone(&held.entry);
            entry.headers = kept_headers(&kept);
            entry.stored_at_ms = verdict.stored.made_at_ms;
            entry.rule =
                Rule::Http(Box::new(HttpRule { stored: verdict.stored, url: question.key }));
            let plan = &question.route.http.plan;
            // Nobody waits for it: the caller's own answer is another.
            let _kept = parts.cache.tiers.store(held.key, Arc::new(entry), plan, now_ms());
        }
    }
}
