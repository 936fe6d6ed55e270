//! Calls of our own: asked to have an answer before somebody wants it.
//!
//! They go the way of everybody's, in the least important class, and nobody hears the answer: it is
//! read to its end, so that it is stored, and dropped. What is special about them is only who they
//! come from (`listener::Own`), that they are nobody's in the numbers about callers, and that the
//! drain does not wait for them.

use super::exchange;
use crate::{
    app::Parts,
    body::Carried,
    cache::Ask,
    listener::{Own, Peer},
    meter::Call,
    respond::{CACHE_STATUS, REASON},
    route::{Claimant, Classed, Route},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Version, header, uri::Scheme};
use http_body_util::BodyExt as _;
use std::sync::Arc;
use tollgate_core::class::ClassId;

/// What came of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was there, or on its way for somebody else.
    Hit,
    /// It was fetched, and is there now.
    Stored,
    /// It was answered, and the answer is not one that is kept.
    NotStored,
    /// Refused, failed or cut; the status, and our reason if it was ours.
    Failed { status: u16, reason: Option<HeaderValue> },
    /// The process goes down.
    Dropped,
}

impl Outcome {
    /// Whether the upstream could not be asked now and may be soon: it starts, or has no room.
    pub(crate) fn is_worth_waiting_for(&self) -> bool {
        matches!(self, Self::Failed { status: 429 | 502 | 503 | 504, .. })
    }
}

/// Asks `request`, as an absolute target or with a `host` where the URL is the key.
pub(crate) async fn ask_ourselves(parts: &Arc<Parts>, mut request: Request<Bytes>) -> Outcome {
    if request.uri().authority().is_none() && !request.headers().contains_key(header::HOST) {
        // Who names no host speaks HTTP/1.0; the upstream gets its endpoint's.
        *request.version_mut() = Version::HTTP_10;
    }
    let is_tls = request.uri().scheme() == Some(&Scheme::HTTPS);
    let own = Arc::new(Own::default());
    let peer = Arc::new(Peer::ourselves(own.clone(), is_tls));
    ask(parts, &peer, &own, request).await
}

/// Asks `request` in the name of `caller`, and says what it cost in pico-USD; `None`: nobody knows.
pub(crate) async fn ask_for(
    parts: &Arc<Parts>,
    caller: &Peer,
    request: Request<Bytes>,
) -> (Outcome, Option<u64>) {
    let own = Arc::new(Own::default());
    let ours = Peer::ourselves(own.clone(), caller.is_tls);
    let peer = Arc::new(Peer { forwarded_for: caller.forwarded_for.clone(), ..ours });
    let outcome = ask(parts, &peer, &own, request).await;
    (outcome, own.cost())
}

async fn ask(parts: &Arc<Parts>, peer: &Arc<Peer>, own: &Own, request: Request<Bytes>) -> Outcome {
    let asked = async {
        let response = exchange(parts, peer, request.map(Carried::Own)).await;
        let (head, mut body) = response.into_parts();
        let mut is_whole = true;
        while let Some(frame) = body.frame().await {
            is_whole &= frame.is_ok();
        }
        let reason = head.headers.get(REASON).cloned();
        if reason.is_some() || head.status.is_client_error() || head.status.is_server_error() {
            return Outcome::Failed { status: head.status.as_u16(), reason };
        }
        match is_whole {
            false => Outcome::Failed { status: head.status.as_u16(), reason: None },
            true if own.is_kept() => Outcome::Stored,
            true if is_there(&head.headers) => Outcome::Hit,
            true => Outcome::NotStored,
        }
    };
    let leave = parts.shutdown.leave.clone();
    leave.run_until_cancelled(asked).await.unwrap_or(Outcome::Dropped)
}

/// What the cache said last is ours.
fn is_there(headers: &HeaderMap) -> bool {
    let said = headers.get_all(CACHE_STATUS).iter().next_back();
    let said = said.map(HeaderValue::as_bytes).unwrap_or_default();
    said.starts_with(b"tollgate; hit") || said.ends_with(b"; collapsed")
}

/// A caller's class by what its head claims; our own calls give way to everybody.
pub(super) fn class(peer: &Peer, route: &Route, claimant: &Claimant<'_>) -> ClassId {
    if peer.own.is_some() {
        return route.lane.class_last();
    }
    let classed = route.classed(claimant);
    if !route.claims_in_body() {
        count(route, classed);
    }
    classed.class
}

/// The same, now that its body is there: where that may say it, `call` is of that class.
pub(super) fn class_asking(
    (peer, route): (&Peer, &Route),
    claimant: Claimant<'_>,
    ask: &Ask,
    (call, class): (&mut Call, ClassId),
) -> ClassId {
    if peer.own.is_some() || !route.claims_in_body() {
        return class;
    }
    let classed = route.classed(&claimant.with_body(ask.body.whole()));
    count(route, classed);
    call.is_of(&route.lane, classed.class);
    classed.class
}

fn count(route: &Route, classed: Classed) {
    classed.outcomes().for_each(|outcome| route.lane.metrics.claimed(outcome));
}
