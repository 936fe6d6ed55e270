//! Calls of one tenant that ask the same way about other things, asked in one upstream call.
//!
//! Where a route says so, a call about items waits a moment for others like it: the same in
//! everything but the items, bytes and head alike, so that whoever is asked could not tell whose the
//! call is. The first goes for all, in a task of its own: who leaves meanwhile is left out of what
//! is asked, or has paid for its share; nobody else notices. Each is then given an answer as if it
//! had asked alone, and its share of the bill to the last token.
//!
//! What is not about the others is not shared with them: when what was sent is refused, the answer
//! cannot be taken apart, or the first one's own deadline or place in the queue was the reason for
//! a failure, each asks alone.

mod waiting;

use self::waiting::Waiting;
use super::{ExchangeError, Failed, Fetch, Marks, failed, partial};
use crate::{
    body::len_u64,
    cache::{ANSWER_BYTES_MAX, Fill},
    inspect::{AskBody, Held},
    meter::{Answered, Bill, Call},
    relay::{AnswerHead, Gathered},
    respond,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use std::{ops::Range, time::Duration};
use tokio::sync::oneshot;
use tollgate_cache::key::BodyDigest;
use tollgate_core::items::{Answers, Asked, Layout, Piece, compose};

/// The calls that wait for others.
pub(crate) type Joins = Waiting<GroupKey, Member>;

/// What calls that go together have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GroupKey([u8; 32]);

/// A call that waits, or that others are asked with.
#[derive(Debug)]
pub(crate) struct Member {
    /// As they stand in its body.
    items: Vec<Bytes>,
    /// `None`: it is the first one's, and on its way.
    call: Option<Call>,
    tell: oneshot::Sender<Told>,
}

/// What a call is told of what was asked for it.
#[derive(Debug)]
pub(super) enum Told {
    Brought(Box<Brought>),
    /// Nothing that is its own. It may ask by itself.
    Alone(Call),
    /// Its record is written.
    Failed(Failed),
}

/// An answer as if it had been asked alone.
#[derive(Debug)]
pub(super) struct Brought {
    pub(super) head: AnswerHead,
    pub(super) body: Bytes,
    pub(super) bill: Bill,
    pub(super) took: Duration,
    pub(super) call: Call,
    /// Another's call was the one that was sent: the head is of that.
    pub(super) is_others: bool,
}

/// What a call asks; where it is the first, also how all of them do.
pub(crate) struct Together {
    /// Those of the first, as they stand in its body.
    pub(crate) items: Vec<Bytes>,
    pub(crate) layout: Layout,
    pub(crate) asked: Asked,
    /// The body of the first.
    pub(crate) whole: Bytes,
    pub(crate) held: Held,
}

/// Fields that say something of one call, and nothing of what it asks or who asks.
const OF_ONE_CALL: [HeaderName; 8] = [
    header::CONTENT_LENGTH,
    header::CACHE_CONTROL,
    header::ACCEPT_ENCODING,
    header::USER_AGENT,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-stainless-retry-count"),
];

/// Who may go together: who asks the same, but for the items, with the same credentials, of the same
/// version, in the same class.
pub(super) fn key(fetch: &Fetch, fill: &Fill, together: &Together) -> GroupKey {
    let envelope = together.asked.envelope(&together.whole);
    let envelope = BodyDigest::of(&envelope.join(&b"\0"[..]));
    let mut digest =
        blake3::Hasher::new_derive_key("tollgate 2026-11 calls that are asked together");
    digest.update(fill.key_with(&envelope).as_bytes());
    digest.update(format!("{:?}", fetch.class).as_bytes());
    let mut add = |bytes: &[u8]| {
        digest.update(&len_u64(bytes.len()).to_le_bytes()).update(bytes);
    };
    // Also where answers are shared by all.
    add(fetch.caller.tenant.as_str().as_bytes());
    add(fetch.head.uri.to_string().as_bytes());
    for (name, value) in sorted(&fetch.head.headers) {
        add(name.as_str().as_bytes());
        add(value.as_bytes());
    }
    GroupKey(*digest.finalize().as_bytes())
}

fn sorted(headers: &HeaderMap) -> Vec<(&HeaderName, &HeaderValue)> {
    let mut all: Vec<_> = headers.iter().filter(|(name, _)| !OF_ONE_CALL.contains(name)).collect();
    // Lines of one field stay in their order.
    all.sort_by_key(|(name, _)| name.as_str());
    all
}

/// Waits for others and asks with them.
pub(super) async fn ask(
    fetch: Box<Fetch>,
    (call, marks): (Call, Marks),
    key: GroupKey,
    mut together: Together,
) -> Told {
    let Some(join) = fetch.route.config.cache.join else { return Told::Alone(call) };
    let parts = fetch.parts.clone();
    let (tell, told) = oneshot::channel();
    let items = std::mem::take(&mut together.items);
    let (size, metrics) = (items.len(), fetch.route.lane.metrics.clone());
    let member = Member { items, call: Some(call), tell };
    if let Some(first) = parts.cache.joins.join(key, member, size, join.items_max) {
        let cut = parts.shutdown.cut.clone();
        let goes = async move {
            let members = first.gather(join.within).await;
            go(fetch, marks, members, together).await;
        };
        parts.connections.spawn(async move {
            cut.run_until_cancelled(goes).await;
        });
    } else {
        metrics.joined();
    }
    told.await.unwrap_or_else(|_| Told::Failed(failed(ExchangeError::Internal)))
}

/// Asks for all of them, and tells each.
async fn go(mut fetch: Box<Fetch>, marks: Marks, mut members: Vec<Member>, mut together: Together) {
    // Who has gone is not asked for; its record says so when its call is dropped.
    let has_first = members.first().is_some_and(|first| !first.tell.is_closed());
    members.retain(|member| !member.tell.is_closed());
    let Some(first) = members.first_mut() else { return };
    let Some(call) = first.call.take() else { return };
    let all: Vec<&[u8]> =
        members.iter().flat_map(|member| &member.items).map(|item| &**item).collect();
    let body = Bytes::from(together.asked.body_with(&together.whole, &all));
    let len = len_u64(body.len());
    if !together.held.grow(len) {
        first_call(&mut members, call);
        members.into_iter().for_each(Member::alone);
        return;
    }
    fetch.ask.body = AskBody::Whole(body, Held::default());
    // One spelling of the answer for all.
    fetch.head.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let asking = bring(fetch, call, marks, &mut together.held, len);
    let gone = async {
        for member in &mut members {
            member.tell.closed().await;
        }
    };
    let got = tokio::select! {
        got = asking => got,
        // Nobody is left to be told.
        () = gone => return,
    };
    match got {
        Ok(got) => tell((members, has_first), got, &mut together),
        Err(failure) => fail(members, &failure),
    }
}

/// The upstream's answer, as it came.
struct Got {
    head: AnswerHead,
    /// `None`: longer than may be gathered.
    body: Option<Bytes>,
    bill: Bill,
    is_finished: bool,
    took: Duration,
    call: Call,
}

async fn bring(
    fetch: Box<Fetch>,
    call: Call,
    marks: Marks,
    held: &mut Held,
    bytes_in: u64,
) -> Result<Got, Failed> {
    let endpoint = fetch.route.destination.upstream.name.clone();
    // On the heap, as wherever a call is asked: this future is one of many.
    let (head, answer) = Box::pin(fetch.ask(call, marks)).await?;
    let gathered = answer.gather(ANSWER_BYTES_MAX, held).await;
    let gathered = gathered.map_err(|error| partial::broken(&error, endpoint))?;
    let Gathered { body, meter, call, reading, upstream_took: took, .. } = gathered;
    let is_finished = reading.as_ref().is_none_or(|reading| reading.verdict.is_finished());
    // An error answer has used nothing that anyone bills.
    let reading = reading.filter(|_| head.shared.status.is_success());
    let bill = reading.map(|reading| meter.bill_of(reading, &call, bytes_in));
    let bill = bill.unwrap_or_else(|| Bill { model: call.model().cloned(), ..Bill::default() });
    Ok(Got { head, body, bill, is_finished, took, call })
}

/// The record of the first, whose call it was, is written.
fn fail(members: Vec<Member>, failure: &Failed) {
    let verdict = respond::verdict(failure);
    for member in members {
        let told = match member.call {
            Some(call) if failure.is_leaders_own() => Told::Alone(call),
            Some(call) => {
                call.refused(verdict.status.as_u16(), verdict.reason);
                Told::Failed(failure.clone())
            }
            None => Told::Failed(failure.clone()),
        };
        // Who has gone need not know.
        member.tell.send(told).ok();
    }
}

/// Gives each its part of the answer. `has_first`: whose head was sent is still among them.
fn tell((mut members, has_first): (Vec<Member>, bool), got: Got, together: &mut Together) {
    let Got { head, body, bill, is_finished, took, mut call } = got;
    if members.len() > 1 && may_be_about_one(head.shared.status) {
        // One of them must not be the end of the others.
        first_call(&mut members, call);
        members.into_iter().for_each(Member::alone);
        return;
    }
    if !head.shared.status.is_success() {
        // What was asked was refused, and that is what each is told.
        let body = body.unwrap_or_default();
        first_call(&mut members, call);
        for (nth, member) in members.into_iter().enumerate() {
            let is_others = nth > 0 || !has_first;
            member.brought(&head, body.clone(), (Bill::default(), took), is_others);
        }
        return;
    }
    // Taken apart, it is there twice.
    let is_answer = is_finished && head.shared.status == StatusCode::OK;
    let whole = body.filter(|body| is_answer && together.held.grow(len_u64(body.len())));
    let parts = whole.as_ref().and_then(|body| parts(&members, body, &bill, together));
    let Some(parts) = parts else {
        call.spent(bill);
        first_call(&mut members, call);
        members.into_iter().for_each(Member::alone);
        return;
    };
    first_call(&mut members, call);
    for (nth, (member, (body, bill))) in members.into_iter().zip(parts).enumerate() {
        member.brought(&head, body, (bill, took), nth > 0 || !has_first);
    }
}

/// The upstream refuses what it was sent, which was of many.
fn may_be_about_one(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
    )
}

fn first_call(members: &mut [Member], call: Call) {
    if let Some(first) = members.first_mut() {
        first.call = Some(call);
    }
}

/// For each the answer to its items, and its share of the bill. `None`: it is no answer to all.
fn parts(
    members: &[Member],
    body: &Bytes,
    bill: &Bill,
    together: &Together,
) -> Option<Vec<(Bytes, Bill)>> {
    serde_json::from_slice::<serde::de::IgnoredAny>(body).ok()?;
    let weights: Vec<u64> =
        members.iter().flat_map(|member| &member.items).map(|item| len_u64(item.len())).collect();
    let answers: Answers<'_> = together.layout.split(body, weights.len())?;
    let (bills, counts) = (bill.divided(&weights), answers.divided(&weights));
    let elements = answers.elements(weights.len());
    let mut at = 0;
    let ranges = members.iter().map(|member| {
        let range: Range<usize> = at..at + member.items.len();
        at = range.end;
        range
    });
    ranges
        .map(|range| {
            let piece = |element: &Option<usize>| {
                let element = (*element)?;
                Some(Piece::with_shares(&answers, element, counts.get(element)?))
            };
            let own = elements.get(range.clone())?;
            let pieces: Vec<Piece<'_>> = own.iter().map(piece).collect::<Option<_>>()?;
            let body = compose(&answers, &pieces, None)?;
            Some((body.into(), Bill::sum(bills.get(range)?)))
        })
        .collect()
}

impl Member {
    fn alone(self) {
        if let Some(call) = self.call {
            // Who has gone has nobody to ask for: the record says so.
            self.tell.send(Told::Alone(call)).ok();
        }
    }

    /// Who has gone meanwhile has used its share all the same.
    fn brought(
        self,
        head: &AnswerHead,
        body: Bytes,
        (bill, took): (Bill, Duration),
        is_others: bool,
    ) {
        let Some(call) = self.call else { return };
        let head = head.clone();
        let brought = Box::new(Brought { head, body, bill, took, call, is_others });
        if let Err(Told::Brought(brought)) = self.tell.send(Told::Brought(brought)) {
            let Brought { head, body, bill, call, .. } = *brought;
            let (status, bytes_out) = (head.shared.status.as_u16(), len_u64(body.len()));
            call.answered(Answered { status, bytes_out, reason: None, bill: &bill });
        }
    }
}
