//! Asks another upstream where a call's own fails or has no turn for it.
//!
//! It is the same call: one record, one deadline. It takes a turn in the other's queue, is
//! priced as what answers, and its caller is told. What comes of it is never stored under
//! the caller's key, since it is not what was asked for; who waits for the same answer at that
//! moment is given it, as it would have gone the same way.
//!
//! What may have been done already is not done again elsewhere: after a reset only calls to
//! models go on, and those that may be made twice.

use super::{ExchangeError, fetch::Fetch, mark::Marks};
use crate::{
    admission::Shed,
    app::Destination,
    body::len_u64,
    inspect::AskBody,
    meter::Call,
    relay::{Answer, AnswerHead},
    respond,
    upstream::{UpstreamError, may_be_made_twice},
};
use bytes::Bytes;
use std::sync::{Arc, atomic::Ordering};
use tollgate_core::{dialect::Operation, form, usage::has_tokens};

/// Who is asked in a route's upstream's place, and for which model.
#[derive(Clone, Debug)]
pub(crate) struct Fallback {
    pub(crate) destination: Arc<Destination>,
    /// `None`: the one that the caller named.
    pub(crate) model: Option<Arc<str>>,
}

/// The call once more, in case it is needed. `None`: nobody else is to be asked, or its body
/// was not read.
pub(super) fn kept(fetch: &Fetch) -> Option<Box<Fetch>> {
    let is_for_nobody = fetch.fill.as_ref().is_some_and(crate::cache::Fill::is_for_nobody);
    if fetch.route.fallbacks.is_empty()
        || fetch.upgrade.is_some()
        || fetch.peer.own.is_some()
        || is_for_nobody
    {
        return None;
    }
    copy(fetch)
}

fn copy(fetch: &Fetch) -> Option<Box<Fetch>> {
    let AskBody::Whole(bytes, held) = &fetch.ask.body else { return None };
    let mut beside = held.beside();
    if !beside.grow(len_u64(bytes.len())) {
        return None;
    }
    Some(fetch.again(AskBody::Whole(bytes.clone(), beside)))
}

/// Whether the call may be made elsewhere though it may have been done here.
pub(super) fn is_harmless(fetch: &Fetch) -> bool {
    fetch.ask.operation != Operation::Other || may_be_made_twice(&fetch.head.method)
}

/// Whether another may answer what ended so.
fn goes_on(error: &ExchangeError, is_harmless: bool) -> bool {
    match error {
        ExchangeError::Shed(refused) => match refused.shed {
            Shed::QueueFull
            | Shed::PushedOut
            | Shed::QueueTimeout
            | Shed::DeadlineUnmeetable
            | Shed::BreakerOpen => true,
            Shed::Preempted => is_harmless,
            Shed::Draining => false,
        },
        ExchangeError::Upstream(error) => match error {
            UpstreamError::Unreachable { .. }
            | UpstreamError::ConnectTimeout { .. }
            | UpstreamError::BreakerOpen { .. } => true,
            UpstreamError::Reset { .. }
            | UpstreamError::Cut { .. }
            | UpstreamError::Protocol { .. }
            | UpstreamError::Unavailable { .. }
            | UpstreamError::FirstByteTimeout { .. } => is_harmless,
            UpstreamError::Unasked { .. }
            | UpstreamError::Deadline { .. }
            | UpstreamError::DownstreamCut
            | UpstreamError::TooLarge => false,
        },
        ExchangeError::NoRoute(_)
        | ExchangeError::BadHead(_)
        | ExchangeError::Inspect(_)
        | ExchangeError::NotCached
        | ExchangeError::Instead(_)
        | ExchangeError::Internal => false,
    }
}

/// Asks the others, one after the other. `None`: none of them answered either.
pub(super) async fn ask(
    kept: Box<Fetch>,
    why: &ExchangeError,
    call: &mut Call,
    marks: &Marks,
) -> Option<(AnswerHead, Answer)> {
    let is_harmless = is_harmless(&kept);
    if !goes_on(why, is_harmless) {
        return None;
    }
    let (model, bytes_in) = (call.model().cloned(), kept.ask.bytes_in());
    let billed = has_tokens(kept.ask.operation);
    let route = kept.route.clone();
    let mut left = route.fallbacks.iter();
    call.falls_back(Some(respond::verdict(why).reason));
    while let Some(to) = left.next() {
        let Some(mut fetch) = copy(&kept) else { break };
        fetch.destination = to.destination.clone();
        fetch.is_fallback = true;
        fetch.gives_way = is_harmless && !left.as_slice().is_empty();
        if let Some(model) = &to.model {
            rename(&mut fetch, model);
        }
        call.asks(to.model.as_ref().or(model.as_ref()), bytes_in, billed);
        match fetch.go(call, marks).await {
            Ok(answer) => {
                to.destination.upstream.stood_in.fetch_add(1, Ordering::Relaxed);
                return Some(answer);
            }
            Err(error) if goes_on(&error, is_harmless) => {
                tracing::debug!(%error, upstream = &*to.destination.upstream.name, "nor did the fallback answer");
            }
            Err(_) => break,
        }
    }
    call.falls_back(None);
    call.asks(model.as_ref(), bytes_in, billed);
    None
}

/// Says another model's name where the body says one.
fn rename(fetch: &mut Fetch, model: &str) {
    let AskBody::Whole(bytes, held) = &fetch.ask.body else { return };
    let Some(body) = form::rename_model(bytes, model) else { return };
    let body = AskBody::Whole(Bytes::from(body), held.beside());
    fetch.ask = fetch.ask.with_body(body);
}
