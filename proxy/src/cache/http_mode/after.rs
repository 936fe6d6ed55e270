//! What a call that is not answered from here does to what is: a change voids what is kept
//! for its URL (RFC 9111 §4.4), an answer to HEAD freshens or voids it (§4.3.5).

use super::{
    Asked,
    answered::{header_map, kept_headers},
    asking, chosen_by,
    find::{Looks, find, is_kept, keeps},
    read, scope,
};
use crate::{
    app::Parts,
    cache::{Fill, Mode, Question, now_ms},
    exchange::Fetch,
    head,
};
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use std::sync::Arc;
use tollgate_cache::{
    entry::{Entry, HttpRule, Rule},
    generations::Target,
    rfc9111::{
        invalidate,
        request::{Kind, Request},
        store::Times,
        update::{self, Head},
    },
    urls::Url,
};

/// What is to be done once the head of the answer is known.
#[derive(Debug)]
pub(crate) struct After {
    question: Box<Question>,
    /// The target in absolute form, of a change; `None`: it is HEAD that is answered.
    voids: Option<Uri>,
}

/// `None`: nothing, as for nearly all calls.
pub(crate) fn after(fetch: &Fetch) -> Option<Box<After>> {
    if fetch.ask.mode != Mode::Http {
        return None;
    }
    let request = read(&fetch.head, scope(&fetch.caller));
    let voids = match request.kind {
        // Its head went on as it came: what it brings is no word about what is kept.
        Kind::Head if fetch.route.keyed_only.is_some() => return None,
        Kind::Head => None,
        Kind::Post | Kind::Unsafe => Some(target(fetch)?),
        Kind::Get | Kind::Safe => return None,
    };
    Some(Box::new(After { question: question(fetch, request, None), voids }))
}

/// The right to keep what a POST is answered with, if that is what GET would bring
/// (RFC 9110 §9.3.3).
pub(crate) fn posted(fetch: &Fetch) -> Option<Fill> {
    if fetch.ask.mode != Mode::Http || fetch.head.method != Method::POST || fetch.upgrade.is_some()
    {
        return None;
    }
    if fetch.route.keyed_only.is_some() {
        // It was sent as it came.
        return None;
    }
    let request = read(&fetch.head, scope(&fetch.caller));
    let question = question(fetch, request, Some(target(fetch)?));
    Some(Fill::new(&fetch.parts, question))
}

/// What a call is about that is not answered from here.
fn question(fetch: &Fetch, request: Request, posted_to: Option<Uri>) -> Box<Question> {
    let Fetch { parts, route, head, ask, caller, .. } = fetch;
    let query = route.http.query.normal(head.uri.query());
    let digest = chosen_by(&[], &head.headers);
    let asking = asking(route, ask, head, query.as_deref(), &digest, scope(caller));
    let mut question = asking.question(parts, asking.key(""), None, caller);
    let asked = Asked { posted_to, ..Asked::new(&asking, request, "method") };
    question.http = Some(Arc::new(asked));
    question
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
        let Self { question, voids } = *self;
        match voids {
            Some(target) => self::voids(parts, &question, &target, status, headers).await,
            None => compares(parts, &question, status, headers).await,
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
        let normal = question.route.http.query.normal(query);
        let url = Url::of(host.unwrap_or_default(), &path, normal.as_deref());
        let (key, check) = question.url_key(host, &path, query);
        // The table of purges is bounded: what is not kept needs no place in it.
        let may_be_kept = parts.cache.urls.changes(url, now_ms());
        if may_be_kept || is_kept(parts, &question.route, &key, &check).await {
            parts.cache.tiers.purge_changed(url).await;
        }
    }
}

async fn compares(parts: &Parts, question: &Question, status: StatusCode, headers: &HeaderMap) {
    let Some(asked) = &question.http else { return };
    let variant = |names: &[HeaderName]| question.variant_key(names, asked);
    let (looks, url) = ((&*question.route, Looks::Aside), (question.key, question.check));
    // Now, and not when HEAD was asked: whatever came meanwhile is what it may be about.
    let Some(held) = find(parts, looks, url, variant).await.held else { return };
    let mut kept = header_map(&held.entry.headers);
    let len = crate::body::len_u64(held.entry.body.len());
    match update::head(&kept, len, status, headers) {
        Head::Nothing => {}
        Head::Voids => {
            parts.cache.tiers.purge_beside(Target::Key(question.key)).await;
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
            let (stored, url, named) = (verdict.stored, question.key, asked.named);
            entry.rule = Rule::Http(Box::new(HttpRule { stored, url, named }));
            keeps(parts, &entry);
            let plan = &question.route.http.plan;
            // Nobody waits for it: the caller's own answer is another.
            let _kept = parts.cache.tiers.store(held.key, Arc::new(entry), plan, now_ms());
        }
    }
}
