//! Renews an answer that was just given past its time, or near its end: one upstream call for all who are given it
//! meanwhile (RFC 5861 §3), in a fleet by one instance, in the least important class, with a record
//! of its own. A check of an answer goes the same way, and renews nothing.

use super::{Answer, Fetch, Marks, lease, partial::IDEMPOTENCY_KEY};
use crate::{
    cache::{self, Fill, Question},
    inspect::AskBody,
    meter::Call,
    metrics::{CacheOutcome, TierLabel},
};
use http::header;
use tokio::{sync::Semaphore, time::Instant};
use tollgate_cache::flight::{Join, Lead};

/// How many stale answers are renewed at a time. With more, they stay stale until somebody asks
/// again: what callers wait for comes first.
static RENEWALS: Semaphore = Semaphore::const_new(256);

/// How many hits are checked at a time: what is only looked at takes less room than what is renewed.
static CHECKS: Semaphore = Semaphore::const_new(16);

/// Begins it, unless somebody has, or too many are under way.
pub(super) fn begin(mut fetch: Box<Fetch>, mut question: Box<Question>, marks: &Marks) {
    if question.is_check() && !has_room(&fetch) {
        return;
    }
    let places = if question.is_check() { &CHECKS } else { &RENEWALS };
    let Ok(place) = places.try_acquire() else { return };
    if question.is_shared() && !question.is_check() && !takes_turn(&mut fetch, &mut question) {
        return;
    }
    question.trace(&fetch.parts);
    let parts = fetch.parts.clone();
    fetch.class = fetch.route.lane.class_last();
    fetch.upgrade = None;
    let flight = match (question.is_check(), question.is_shared()) {
        (true, _) => question.check_key(),
        (false, true) if question.has_items() => question.renewal_key(),
        (false, true) => question.flight_key(&parts),
        (false, false) => question.key,
    };
    let Join::Lead(lead) = parts.flights.join(flight, fetch.class) else { return };
    if question.is_shared() {
        // What its caller said of the cache, it said of its own answer.
        fetch.head.headers.remove(header::CACHE_CONTROL);
    }
    let (cut, marks) = (parts.shutdown.cut.clone(), marks.clone());
    let renewed = async move {
        cut.run_until_cancelled(renew(fetch, question, lead, marks)).await;
        drop(place);
    };
    parts.connections.spawn(renewed);
}

/// Whether nobody has tried of late. Of a list, each of its items has its turn, and those that have
/// are asked about alone from here on.
fn takes_turn(fetch: &mut Fetch, question: &mut Question) -> bool {
    let parts = fetch.parts.clone();
    let pauses = &parts.cache.pauses;
    if !question.has_items() {
        let (known_ms, pause) = question.renewal();
        return pauses.begins(question.key, known_ms, pause);
    }
    let AskBody::Whole(whole, held) = &fetch.ask.body else { return false };
    let Some(body) = question.take_turns(whole, pauses) else { return false };
    let mut held = held.beside();
    if !held.grow(crate::body::len_u64(body.len())) {
        return false;
    }
    fetch.ask = fetch.ask.with_body(AskBody::Whole(body, held));
    // What the caller has named is the whole: this is another request.
    fetch.head.headers.remove(&IDEMPOTENCY_KEY);
    true
}

/// Whether the upstream would take one more call at once: a check waits for no turn, and takes
/// nobody's place in a queue.
fn has_room(fetch: &Fetch) -> bool {
    let now = fetch.route.destination.admission.snapshot();
    now.waiting == 0 && now.limit.is_none_or(|limit| now.inflight < u64::from(limit.get()))
}

async fn renew(mut fetch: Box<Fetch>, question: Box<Question>, lead: Lead<Answer>, marks: Marks) {
    fetch.deadline = Instant::now() + fetch.route.destination.upstream.timeouts.total;
    let (parts, lane) = (fetch.parts.clone(), fetch.route.lane.clone());
    let (question, lease, mut call) = if question.is_check() {
        let mut question = question;
        question.begin_check();
        (question, None, Call::begin(&parts.meter, &lane).ours())
    } else {
        // Another instance may have renewed it, or be at it.
        let Some(question) = cache::still_old(&fetch, question).await else { return };
        let lease::Turn::Lead(question, lease) = lease::turn(&fetch, question).await else {
            return;
        };
        (question, lease, Call::begin(&parts.meter, &lane))
    };
    call.routed(&lane, fetch.class, &fetch.caller);
    call.asks(
        fetch.ask.model(),
        fetch.ask.bytes_in(),
        tollgate_core::usage::has_tokens(fetch.ask.operation),
    );
    call.cache(CacheOutcome::Miss, TierLabel::None);
    fetch.queued = Some(lead.queued());
    fetch.fill = Some(Fill::new(&parts, question).leased(lease));
    let Some(mut listener) = lead.start(Box::pin(fetch.ask(call, marks))) else { return };
    if listener.head().await.is_ok() {
        listener.landed().await;
    }
}
