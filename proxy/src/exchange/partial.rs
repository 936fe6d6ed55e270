//! Asks the upstream only for the items of a call that are not known, and puts the answer together.
//!
//! It is done by the call's leader, in the flight: who asks the same meanwhile is given the same. An
//! answer that does not fit what is known (too few, another version of the model) is not used: the
//! call is asked as it came, once.

use super::{ExchangeError, Failed, Fetch, Marks, failed};
use crate::{
    body::BodyError,
    cache::{ANSWER_BYTES_MAX, Completed, Fill, wrong_for_parts},
    inspect::{AskBody, Held},
    meter::{Answered, Bill, Call},
    metrics::ItemOutcome,
    relay::{Answer, AnswerHead, Gathered, SharedHead},
    upstream::UpstreamError,
};
use bytes::Bytes;
use http::StatusCode;
use std::sync::Arc;
use tollgate_cache::flight::{Fetching, Recording};

/// Asks for all of a call, or for what is missing.
pub(super) fn fetching(fetch: Box<Fetch>, call: Call, marks: Marks) -> Fetching<Answer> {
    match fetch.fill.as_ref().and_then(Fill::items) {
        Some(items) if items.is_partial() => Box::pin(rest(fetch, call, marks)),
        Some(items) => {
            fetch.route.lane.metrics.items(ItemOutcome::Miss, items.len());
            Box::pin(fetch.ask(call, marks))
        }
        None => Box::pin(fetch.ask(call, marks)),
    }
}

async fn rest(
    mut fetch: Box<Fetch>,
    call: Call,
    marks: Marks,
) -> Result<(AnswerHead, Answer), Failed> {
    let nothing = AskBody::Whole(Bytes::new(), Held::default());
    let whole = std::mem::replace(&mut fetch.ask.body, nothing);
    let items = fetch.fill.as_mut().and_then(Fill::items_mut);
    let (AskBody::Whole(bytes, held), Some(items)) = (&whole, items) else {
        // Only a body that was read has items.
        fetch.ask.body = whole;
        return fetch.ask(call, marks).await;
    };
    let mut held = held.beside();
    let (body, all) = (items.rest(bytes), items.len());
    let bytes_in = crate::body::len_u64(body.len());
    fetch.ask.body = AskBody::Whole(body, Held::default());
    let again = fetch.again(whole);
    let metrics = fetch.route.lane.metrics.clone();
    let (head, answer) = fetch.ask(call, marks.clone()).await?;
    if head.shared.status != StatusCode::OK {
        // The caller is told what the upstream says.
        return Ok((head, answer));
    }
    let endpoint = again.route.destination.upstream.name.clone();
    let gathered = answer.gather(ANSWER_BYTES_MAX, &mut held).await;
    let gathered = gathered.map_err(|error| broken(&error, endpoint))?;
    let Gathered { body, meter, mut call, reading, fill, upstream_took } = gathered;
    let is_finished = reading.as_ref().is_none_or(|reading| reading.verdict.is_finished());
    let bill = reading.map(|reading| meter.bill_of(reading, &call, bytes_in));
    let bill = bill.unwrap_or_else(|| Bill { model: call.model().cloned(), ..Bill::default() });
    // A caller who asked about many is never given what is only about some.
    let both = body.as_ref().zip(fill.as_ref()).filter(|_| is_finished);
    let completed = both.and_then(|(body, fill)| fill.complete(body, &bill));
    let Some((body, completed)) = body.zip(completed) else {
        metrics.items(ItemOutcome::Unfit, all);
        call.spent(bill);
        return Box::new(Fetch { fill: fill.map(Fill::whole), ..*again }).ask(call, marks).await;
    };
    let Completed { body: whole, known, spared } = completed;
    metrics.items(ItemOutcome::Hit, known);
    metrics.items(ItemOutcome::Miss, all.saturating_sub(known));
    let recording = Recording { body: body.into(), ..Recording::default() };
    let arrival = fill.and_then(|fill| fill.store(recording, &bill, upstream_took));
    let all_of_it = Arc::new(Bill::sum([&bill, &spared]));
    call.spares(spared);
    call.answered(end(&whole, &bill));
    let head = made(head, whole.len(), (known, all));
    Ok((head, Answer::made(whole, 200, all_of_it, arrival)))
}

fn end<'a>(body: &Bytes, bill: &'a Bill) -> Answered<'a> {
    let bytes_out = crate::body::len_u64(body.len());
    Answered { status: StatusCode::OK.as_u16(), bytes_out, reason: None, bill }
}

/// The head of an answer that is made of the upstream's.
fn made(head: AnswerHead, len: usize, partial: (usize, usize)) -> AnswerHead {
    let shared = Arc::try_unwrap(head.shared).unwrap_or_else(|shared| SharedHead::clone(&shared));
    let mut headers = shared.headers;
    wrong_for_parts(&mut headers);
    let partial = Some(partial);
    let len = Some(crate::body::len_u64(len));
    // Its parts are stored already.
    let shared = SharedHead { headers, len, recorded_bytes_max: None, partial, ..shared };
    AnswerHead { shared: Arc::new(shared) }
}

/// The head of it was never handed on: its caller is told what happened.
fn broken(error: &BodyError, endpoint: Arc<str>) -> Failed {
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
    fn again(&self, body: AskBody) -> Box<Self> {
        Box::new(Self {
            parts: self.parts.clone(),
            route: self.route.clone(),
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
        })
    }
}
