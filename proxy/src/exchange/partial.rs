//! Asks the upstream only for the items of a call that are not known, and puts the answer together.
//!
//! It is done by the call's leader, in the flight: who asks the same meanwhile is given the same. An
//! answer that does not fit what is known (too few, another version of the model) is not used: the
//! call is asked as it came, once. Where the route says so, what is not known is asked for together
//! with what others do not know (`joined`).

use super::{
    ExchangeError, Failed, Fetch, Marks, failed,
    joined::{self, Brought, Told},
};
use crate::{
    body::BodyError,
    cache::{ANSWER_BYTES_MAX, Completed, Fill, Items, keep_shareable, wrong_for_parts},
    inspect::{AskBody, Held},
    meter::{Answered, Bill, Call},
    metrics::ItemOutcome,
    relay::{Answer, AnswerHead, Gathered, SharedHead},
    upstream::UpstreamError,
};
use bytes::Bytes;
use http::{HeaderName, Response, StatusCode, response};
use std::{sync::Arc, time::Duration};
use tollgate_cache::flight::{Fetching, Recording};

/// Asks for all of a call, or for what is missing, or with others.
pub(super) fn fetching(fetch: Box<Fetch>, call: Call, marks: Marks) -> Fetching<Answer> {
    match fetch.fill.as_ref().and_then(Fill::items) {
        Some(items) if items.is_partial() || joins(&fetch) => Box::pin(rest(fetch, call, marks)),
        Some(items) => {
            fetch.route.lane.metrics.items(ItemOutcome::Miss, items.len());
            Box::pin(fetch.ask(call, marks))
        }
        None => Box::pin(fetch.ask(call, marks)),
    }
}

/// Names one request, body and all, to a service that must not do it twice.
pub(super) static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Whether others may be asked with this call. Not where something is held for it in case of a
/// failure, nor for our own calls, for which nobody waits; nor where the version of a model is said
/// in a field that is nobody's but ours, or the request is named; nor where only the best answers
/// are wanted, which those to others' items would be among.
fn joins(fetch: &Fetch) -> bool {
    let holds = fetch.fill.as_ref().is_none_or(|fill| fill.asks_about() || fill.spare().is_some());
    let is_limited = fetch.fill.as_ref().and_then(Fill::items).is_some_and(Items::is_limited);
    if is_limited || fetch.head.headers.contains_key(&IDEMPOTENCY_KEY) {
        return false;
    }
    let version = fetch.route.destination.version_header.as_ref();
    let is_ours = version.is_some_and(|name| name.as_str().starts_with("tollgate-"));
    fetch.route.config.cache.join.is_some() && fetch.peer.own.is_none() && !holds && !is_ours
}

/// The answer to what was asked for, and what it cost.
struct Came {
    head: AnswerHead,
    body: Option<Bytes>,
    bill: Bill,
    call: Call,
    fill: Option<Fill>,
    is_finished: bool,
    took: Duration,
}

type Fetched = Result<(AnswerHead, Answer), Failed>;

async fn rest(mut fetch: Box<Fetch>, call: Call, marks: Marks) -> Fetched {
    let nothing = AskBody::Whole(Bytes::new(), Held::default());
    let whole = std::mem::replace(&mut fetch.ask.body, nothing);
    let with_others = joins(&fetch);
    let mut fill = fetch.fill.take();
    let items = fill.as_mut().and_then(Fill::items_mut);
    let (AskBody::Whole(bytes, held), Some(items)) = (&whole, items) else {
        // Only a body that was read has items.
        fetch.ask.body = whole;
        return Box::new(Fetch { fill, ..*fetch }).ask(call, marks).await;
    };
    let held = held.beside();
    let (body, all, is_partial) = (items.rest(bytes), items.len(), items.is_partial());
    let bytes_in = crate::body::len_u64(body.len());
    fetch.ask.body = AskBody::Whole(body, Held::default());
    let bytes = bytes.clone();
    let again = fetch.again(whole);
    // What the caller has named is the whole: this is another request.
    fetch.head.headers.remove(&IDEMPOTENCY_KEY);
    let metrics = fetch.route.lane.metrics.clone();
    let came = if with_others {
        together(fetch, fill, (call, marks.clone()), (bytes, held), &again).await
    } else {
        alone(Box::new(Fetch { fill, ..*fetch }), (call, marks.clone()), held, bytes_in).await
    };
    let Came { head, body, bill, mut call, fill, is_finished, took } = match came {
        Ok(came) => came,
        Err(ended) => return *ended,
    };
    // A caller who asked about many is never given what is only about some.
    let completed = match body.as_ref().filter(|_| is_finished) {
        // Nothing was known, and nothing has to be put together.
        Some(body) if !is_partial => {
            Some(Completed { body: body.clone(), known: 0, spared: Bill::default() })
        }
        Some(body) => fill.as_ref().and_then(|fill| fill.complete(body, &bill)),
        None => None,
    };
    let Some((body, completed)) = body.zip(completed) else {
        metrics.items(ItemOutcome::Unfit, all);
        call.spent(bill);
        return Box::new(Fetch { fill: fill.map(Fill::whole), ..*again }).ask(call, marks).await;
    };
    let Completed { body: whole, known, spared } = completed;
    metrics.items(ItemOutcome::Hit, known);
    metrics.items(ItemOutcome::Miss, all.saturating_sub(known));
    let recording = Recording { body, ..Recording::default() };
    let arrival = fill.and_then(|fill| fill.store(recording, &bill, took));
    let mut all_of_it = bill.clone();
    if known > 0 {
        all_of_it = Bill::sum([&bill, &spared]);
        call.spares(spared);
    }
    call.answered(end(StatusCode::OK, &whole, &bill));
    let head = made(head, whole.len(), Some((known, all)).filter(|_| known > 0));
    Ok((head, Answer::made(whole, 200, Arc::new(all_of_it), arrival)))
}

/// Asks for what is missing.
async fn alone(
    fetch: Box<Fetch>,
    (call, marks): (Call, Marks),
    mut held: Held,
    bytes_in: u64,
) -> Result<Came, Box<Fetched>> {
    let endpoint = fetch.route.destination.upstream.name.clone();
    let (head, answer) = fetch.ask(call, marks).await.map_err(|failure| Box::new(Err(failure)))?;
    let status = head.shared.status;
    if !status.is_success() {
        // The caller is told what the upstream says.
        return Err(Box::new(Ok((head, answer))));
    }
    let gathered = answer.gather(ANSWER_BYTES_MAX, &mut held).await;
    let gathered = gathered.map_err(|error| Box::new(Err(broken(&error, endpoint))))?;
    let Gathered { body, meter, call, reading, fill, upstream_took: took } = gathered;
    let is_finished = reading.as_ref().is_none_or(|reading| reading.verdict.is_finished());
    // Any other success is something to pay for, and no answer to a part.
    let is_finished = is_finished && status == StatusCode::OK;
    let bill = reading.map(|reading| meter.bill_of(reading, &call, bytes_in));
    let bill = bill.unwrap_or_else(|| Bill { model: call.model().cloned(), ..Bill::default() });
    Ok(Came { head, body, bill, call, fill, is_finished, took })
}

/// Asks for it with what others are missing. `again`: the call as it came.
async fn together(
    fetch: Box<Fetch>,
    fill: Option<Fill>,
    (call, marks): (Call, Marks),
    (whole, held): (Bytes, Held),
    again: &Fetch,
) -> Result<Came, Box<Fetched>> {
    let asked = fill.as_ref().and_then(|fill| {
        let together = fill.asked_with(&whole, held)?;
        Some((joined::key(&fetch, fill, &together), together))
    });
    let told = match asked {
        Some((key, together)) => joined::ask(fetch, (call, marks.clone()), key, together).await,
        None => Told::Alone(call),
    };
    let ended = |ended: Fetched| Err(Box::new(ended));
    match told {
        Told::Alone(call) => {
            let items = fill.as_ref().and_then(Fill::items).map_or(0, |items| items.len());
            again.route.lane.metrics.items(ItemOutcome::Miss, items);
            let again = again.again(AskBody::Whole(whole, Held::default()));
            let fill = fill.map(Fill::whole);
            ended(Box::new(Fetch { fill, ..*again }).ask(call, marks).await)
        }
        Told::Failed(failure) => {
            let lease = fill.as_ref().and_then(Fill::lease);
            lease.filter(|_| !failure.is_leaders_own()).inspect(|lease| lease.unshared());
            ended(Err(failure))
        }
        Told::Brought(brought) => {
            let Brought { mut head, body, bill, took, call, is_others } = *brought;
            let status = head.shared.status;
            // Of what it asked it is no answer that is kept.
            let fill = fill.filter(|_| !head.shared.is_fallback);
            let fill = fill.and_then(|fill| fill.answered(&response_head(&head)));
            if is_others {
                head = shareable(head, again.route.destination.version_header.as_ref());
            }
            if status != StatusCode::OK {
                call.answered(end(status, &body, &bill));
                let head = made(head, body.len(), None);
                let answer = Answer::made(body, status.as_u16(), Arc::new(bill), None);
                return ended(Ok((head, answer)));
            }
            Ok(Came { head, body: Some(body), bill, call, fill, is_finished: true, took })
        }
    }
}

/// An answer's head, as it decides about keeping it.
fn response_head(head: &AnswerHead) -> response::Parts {
    let mut response = Response::new(());
    *response.status_mut() = head.shared.status;
    *response.headers_mut() = head.shared.headers.clone();
    response.into_parts().0
}

fn end<'a>(status: StatusCode, body: &Bytes, bill: &'a Bill) -> Answered<'a> {
    let bytes_out = crate::body::len_u64(body.len());
    Answered { status: status.as_u16(), bytes_out, reason: None, bill }
}

fn unshared(head: AnswerHead) -> SharedHead {
    Arc::try_unwrap(head.shared).unwrap_or_else(|shared| SharedHead::clone(&shared))
}

/// What of the head describes the answer: the rest is of the one that went for all.
fn shareable(head: AnswerHead, version: Option<&HeaderName>) -> AnswerHead {
    let mut shared = unshared(head);
    let said = version.and_then(|name| Some((name, shared.headers.get(name)?.clone())));
    keep_shareable(&mut shared.headers);
    if let Some((name, version)) = said {
        shared.headers.insert(name, version);
    }
    AnswerHead { shared: Arc::new(shared) }
}

/// The head of an answer that is made of the upstream's.
fn made(head: AnswerHead, len: usize, partial: Option<(usize, usize)>) -> AnswerHead {
    let shared = unshared(head);
    let mut headers = shared.headers;
    wrong_for_parts(&mut headers);
    let len = Some(crate::body::len_u64(len));
    // Its parts are stored already.
    let shared = SharedHead { headers, len, recorded_bytes_max: None, partial, ..shared };
    AnswerHead { shared: Arc::new(shared) }
}

/// The head of it was never handed on: its caller is told what happened.
pub(super) fn broken(error: &BodyError, endpoint: Arc<str>) -> Failed {
    tracing::info!(%error, "an answer to the items that were missing was cut");
    let is_slow = matches!(error, BodyError::UpstreamIdle | BodyError::UpstreamTotal);
    failed(ExchangeError::Upstream(if is_slow {
        UpstreamError::FirstByteTimeout { endpoint }
    } else {
        UpstreamError::Cut { endpoint }
    }))
}

impl Fetch {
    /// The same call in another body, to be asked anew.
    pub(super) fn again(&self, body: AskBody) -> Box<Self> {
        Box::new(Self {
            parts: self.parts.clone(),
            route: self.route.clone(),
            destination: self.destination.clone(),
            peer: self.peer.clone(),
            class: self.class,
            deadline: self.deadline,
            limits: self.limits,
            caller: self.caller.clone(),
            head: self.head.clone(),
            ask: self.ask.with_body(body),
            queued: None,
            fill: None,
            upgrade: None,
            is_fallback: false,
            gives_way: false,
        })
    }
}
