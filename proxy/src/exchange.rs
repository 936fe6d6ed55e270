//! The way of a request: one function, one line per stage.
//!
//! Each stage takes what the stages before it produced and returns what the stages
//! after it need. What must be given back (a permit, a connection, a usage record, the
//! right to fill) is a value whose `Drop` pays, so that an early return or a caller that
//! goes away needs no clean-up code. hyper drops this future when the caller hangs up.

mod by_url;
mod contain;
mod fall_back;
mod fetch;
mod instead;
mod joined;
mod lease;
mod mark;
mod own;
mod partial;
mod pause;
mod refresh;
mod send;
mod served;
mod unread;
mod upgrade;

pub(crate) use self::{
    fall_back::Fallback,
    fetch::{Fetch, Timing, framing_of},
    joined::{Joins, Together},
    mark::{Marks, say_scheme},
    own::{Outcome, ask_for, ask_ourselves},
    pause::Pauses,
    served::Served,
    unread::refuse_unread,
};

use self::contain::Contained;
use crate::{
    admission::Refused,
    app::{Parts, Snapshot},
    body::{Body, Carried},
    cache::{self, Ask, Consulted, Fill, Hit, Instead, Question},
    head::{self, BadHead},
    inspect::{self, InspectError},
    listener::Peer,
    meter::{Call, Seat},
    metrics::{CacheOutcome, TierLabel},
    prefetch,
    relay::{Answer, AnswerHead, Listened, Relayed},
    respond::{self, Debug},
    route::{self, Claimant, NoRoute},
    upstream::UpstreamError,
};
use http::{HeaderMap, Request, Response, StatusCode};
use std::{sync::Arc, time::Duration};
use tokio::time;
use tollgate_cache::flight::{Join, Lead, Listener, NoHead};
use tollgate_core::{
    dialect::{Dialect, Framing, Operation},
    usage::has_tokens,
};

/// Why a call ended without an answer from upstream or cache.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    #[error(transparent)]
    NoRoute(#[from] NoRoute),
    #[error(transparent)]
    BadHead(#[from] BadHead),
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error("not in the cache, and only-if-cached was asked")]
    NotCached,
    #[error("shed")]
    Shed(#[source] Refused),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// No failure to the caller: what was held is given, and the record is written.
    #[error("answered from what was held")]
    Instead(Arc<Instead>),
    #[error("a panic was contained; its message is in the log")]
    Internal,
}

/// Answers one request, whatever happens.
pub(crate) async fn exchange(
    parts: &Arc<Parts>,
    peer: &Arc<Peer>,
    request: Request<Carried>,
) -> Response<Body> {
    let snapshot = parts.snapshot.load_full();
    let mut call = Call::begin(&parts.meter, &snapshot.unrouted).of(peer);
    let marks = Marks::of(request.headers(), call.id());
    let mut dialect = Operation::of(request.method().as_str(), request.uri().path()).dialect();
    let way = run(parts, &snapshot, peer, request, &marks, &mut call, &mut dialect);
    let outcome = Contained::new(way).await;
    let mut response = outcome.unwrap_or_else(|error| {
        let verdict = respond::verdict(&error);
        // What went upstream has been written there.
        call.refused(verdict.status.as_u16(), verdict.reason);
        respond::log(&verdict, &error, marks.request_id());
        respond::refusal(&verdict, dialect, marks.request_id())
    });
    marks.mark(response.headers_mut(), dialect);
    if let Body::Replay(replay) = response.body_mut() {
        replay.hurry_at(&parts.shutdown.leave);
    }
    response
}

/// The way itself.
async fn run(
    parts: &Arc<Parts>,
    snapshot: &Arc<Snapshot>,
    peer: &Arc<Peer>,
    request: Request<Carried>,
    marks: &Marks,
    call: &mut Call,
    dialect: &mut Dialect,
) -> Result<Response<Body>, Failed> {
    let (mut head, body) = request.into_parts();
    head::check(&mut head, snapshot.headers_max(peer)).map_err(failed)?;
    let upgrade = upgrade::asked(&mut head);
    clean(&mut head.headers, snapshot, peer);
    let path: Arc<str> = Arc::from(&*route::normal_path(&head).map_err(failed)?);
    let route = snapshot.routes.choose(&head, &path).map_err(failed)?;
    let operation = route.operation(&head.method, &path);
    *dialect = route.dialect(operation);
    let caller = snapshot.sources.read(&head.headers, &head.uri).map_err(failed)?;
    let claimant = Claimant::new(&head.headers, &caller, &path, snapshot.trusts(peer));
    let class = own::class(peer, route, &claimant);
    call.routed(&route.lane, class, &caller);

    let total = route.destination.upstream.timeouts.total;
    let deadline = inspect::deadline(&head.headers, call.started(), total);
    let limits = snapshot.body_limits(peer, route);
    let is_read = cache::reads_body(route, operation, &head.method);
    let body = inspect::read_if(is_read, body, &limits, &parts.held).await.map_err(failed)?;
    let ask = cache::ask(parts, route, operation, &path, &head, body).of(peer);
    let class = own::class_asking((peer, route), claimant, &ask, (call, class));
    call.asks(ask.model(), ask.bytes_in(), has_tokens(operation));

    let mut debug = Debug::of(&head.headers);
    let asked = debug.clock();
    let consulted = cache::consult(parts, route, &ask, &head, &caller).await;
    debug.looked_up(asked);
    prefetch::follow((parts, route, peer), (&ask, &head, &caller), &consulted);
    let mut stale = None;
    let question = match consulted {
        Consulted::Hit(hit) => return Ok(hit_response(hit, call, debug)),
        Consulted::Given(given) => return Ok(given.serve(call.hand_over())),
        Consulted::Renewed(given, question) => {
            stale = Some(given.serve(call.hand_over()));
            Ok(question)
        }
        Consulted::NotCached => {
            call.cache(CacheOutcome::Miss, TierLabel::None);
            return Err(failed(ExchangeError::NotCached));
        }
        // An upgraded connection is nobody else's answer.
        Consulted::Miss(_) if upgrade.is_some() => Err("upgrade"),
        Consulted::Bypass(why) => Err(why),
        Consulted::Miss(question) => Ok(question),
    };
    let forwarded = question.as_ref().map_or("bypass", |question| question.forwarded());
    let shape = Shape::of(&ask, debug, forwarded);
    // On the heap, as is its future: by value it would be copied through every layer.
    let fetch = Box::new(Fetch {
        parts: parts.clone(),
        destination: route.destination.clone(),
        route: route.clone(),
        peer: peer.clone(),
        class,
        deadline,
        limits,
        caller,
        head,
        ask: ask.sent_for(question.as_deref().ok()),
        queued: None,
        fill: None,
        upgrade,
        is_fallback: false,
        gives_way: false,
    });
    match question {
        Ok(question) if let Some(response) = stale => {
            refresh::begin(fetch, question, marks);
            Ok(told(response, shape.debug))
        }
        Err(why) => direct(fetch, call, marks, why, shape).await,
        Ok(question) => Box::pin(fly(fetch, question, call, marks, shape)).await,
    }
}

/// Makes of a head what keys, identity and the upstream see alike.
pub(crate) fn clean(headers: &mut HeaderMap, snapshot: &Snapshot, peer: &Peer) {
    head::strip_hop_by_hop(headers);
    if !snapshot.trusts(peer) {
        snapshot.sources.strip_claims(headers);
    }
    say_scheme(headers, peer.is_tls);
}

fn hit_response(hit: Hit, call: &mut Call, debug: Debug) -> Response<Body> {
    told(hit.serve(call.hand_over()), debug)
}

/// With what a caller that may ask is told of how long it took.
fn told(mut response: Response<Body>, debug: Debug) -> Response<Body> {
    debug.tell(response.headers_mut(), None);
    response
}

/// What this caller is to be given of an answer that others may share.
#[derive(Clone, Copy, Debug)]
struct Shape {
    hides_usage: bool,
    framing: Framing,
    debug: Debug,
    /// Why the upstream is asked, as in `cache-status: …; fwd=`.
    forwarded: &'static str,
}

impl Shape {
    fn of(ask: &Ask, debug: Debug, forwarded: &'static str) -> Self {
        let (hides_usage, framing) = (ask.hides_usage(), ask.framing());
        Self { hides_usage, framing, debug, forwarded }
    }
}

type Failed = Arc<ExchangeError>;

/// A call that has nothing to do with the cache.
async fn direct(
    mut fetch: Box<Fetch>,
    call: &mut Call,
    marks: &Marks,
    why: &'static str,
    shape: Shape,
) -> Result<Response<Body>, Failed> {
    fetch.parts.cache.neighbours.passed(&fetch, call.id(), why);
    fetch.fill = cache::posted(&fetch);
    let alone = fetch.fill.as_ref().map(|fill| fetch.parts.flights.alone(fill.key(), fetch.class));
    let seat = alone.is_some().then(|| call.seat());
    let fetching = Box::pin(fetch.ask(call.hand_over(), marks.clone()));
    let (head, mut answer) = fetching.await?;
    if let (Some(lead), Some(seat), true) = (alone, seat, head.shared.recorded_bytes_max.is_some())
    {
        // Kept after all: recorded as it passes.
        return Box::pin(recorded(head, answer, lead, seat, shape)).await;
    }
    let empty = answer.settle_if_empty();
    let filter = shape.hides_usage && head.shared.framing == Framing::Events;
    let status = respond::bypass_status(why);
    let is_fallback = head.shared.is_fallback;
    let body =
        if empty { Body::empty() } else { Body::Relayed(Box::new(Relayed::new(answer, filter))) };
    let mut response = respond::from_upstream(head, status, shape.debug, body);
    respond::say_fallback(response.headers_mut(), is_fallback);
    Ok(response)
}

/// An answer that turned out to be worth keeping when its head had come.
async fn recorded(
    head: AnswerHead,
    answer: Answer,
    lead: Lead<Answer>,
    seat: Seat,
    shape: Shape,
) -> Result<Response<Body>, Failed> {
    let landed = std::future::ready(Ok((head, answer)));
    let listener = lead.start(Box::pin(landed));
    let mut listener = listener.ok_or_else(|| failed(ExchangeError::Internal))?;
    match listener.head().await {
        Ok(head) => Ok(listened(head, listener, seat, None, shape).await),
        Err(_) => Err(failed(ExchangeError::Internal)),
    }
}

/// A call whose answer may be stored, and may be on its way already.
async fn fly(
    mut fetch: Box<Fetch>,
    mut question: Box<Question>,
    call: &mut Call,
    marks: &Marks,
    shape: Shape,
) -> Result<Response<Body>, Failed> {
    let parts = fetch.parts.clone();
    call.cache(CacheOutcome::Miss, TierLabel::None);
    parts.cache.neighbours.missed(&fetch, call.id(), &question);
    if fetch.peer.own.is_none() {
        question.trace(&parts);
    }
    if !question.is_shared() {
        return by_url::fly(fetch, question, call, marks, shape).await;
    }
    for _ in 0..LEADERS_OUTWAITED_MAX {
        let flight = question.flight_key(&parts);
        let joined = if question.is_fresh() {
            // Every flight there is was begun before this call.
            Join::Lead(parts.flights.lead(flight, fetch.class))
        } else {
            parts.flights.join(flight, fetch.class)
        };
        let mut listener = match joined {
            Join::Lead(lead) => return self::lead(fetch, question, lead, call, marks, shape).await,
            Join::Follow(listener) => listener,
        };
        let until = fetch.deadline;
        let landed = match time::timeout_at(until, follow(&mut listener, shape, &question)).await {
            Ok(landed) => landed,
            Err(_elapsed) => return Err(deadline_passed(&fetch)),
        };
        match landed {
            Landed::Head(head) => {
                call.cache(CacheOutcome::Collapsed, TierLabel::None);
                question.joined();
                let seat = call.seat();
                return Ok(listened(head, listener, seat, Some(call.hand_over()), shape).await);
            }
            Landed::Failed(failure) => return Err(failure),
            Landed::Instead(hit, why) => {
                return Ok(hit_response(*hit, call.stands_in(why), shape.debug));
            }
            Landed::Again => {
                drop(listener);
                match Box::pin(cache::consult_again(&fetch, question)).await {
                    Ok(hit) => {
                        return Ok(hit_response(hit, call, shape.debug));
                    }
                    Err(same) => question = same,
                }
            }
        }
    }
    // So many leaders gave up that this caller goes alone.
    fetch.queued = None;
    direct(fetch, call, marks, "leaders-left", shape).await
}

/// How many leaders a caller outwaits before it asks on its own.
const LEADERS_OUTWAITED_MAX: u32 = 8;

async fn lead(
    mut fetch: Box<Fetch>,
    question: Box<Question>,
    lead: Lead<Answer>,
    call: &mut Call,
    marks: &Marks,
    shape: Shape,
) -> Result<Response<Body>, Failed> {
    // Another leader may have stored between our look and our lead.
    let question = match cache::consult_now(&fetch, question) {
        Ok(hit) => return Ok(hit_response(hit, call, shape.debug)),
        Err(question) => question,
    };
    // Another instance may be at it.
    let (question, lease) = match Box::pin(lease::turn(&fetch, question)).await {
        lease::Turn::Found(hit) => return Ok(hit_response(hit, call, shape.debug)),
        lease::Turn::Lead(question, lease) => (question, lease),
    };
    fetch.queued = Some(lead.queued());
    fetch.fill =
        Some(Fill::new(&fetch.parts, question).leased(lease).telling(fetch.peer.own.as_ref()));
    // The fetch itself gives up at the deadline, and its record says why.
    let deadline = fetch.deadline + LEADER_GRACE;
    let late = deadline_passed(&fetch);
    let seat = call.seat();
    let fetching = partial::fetching(fetch, call.hand_over(), marks.clone());
    let Some(mut listener) = lead.start(fetching) else {
        return Err(failed(ExchangeError::Internal));
    };
    let failure = match time::timeout_at(deadline, listener.head()).await {
        Ok(Ok(head)) => return Ok(listened(head, listener, seat, None, shape).await),
        Ok(Err(NoHead::Failed(failure))) => failure,
        Ok(Err(NoHead::Lead)) => failed(ExchangeError::Internal),
        Err(_elapsed) => late,
    };
    if let ExchangeError::Instead(instead) = &*failure {
        drop(seat);
        return Ok(instead.respond());
    }
    // Others may go on listening, and the record is written when they are done.
    let verdict = respond::verdict(&failure);
    seat.refused(verdict.status.as_u16(), verdict.reason);
    Err(failure)
}

/// How much longer a leader waits for its own fetch to say that the time is over.
const LEADER_GRACE: Duration = Duration::from_millis(50);

enum Landed {
    Head(AnswerHead),
    Failed(Failed),
    /// What this caller holds, because there is nothing newer, and why.
    Instead(Box<Hit>, Option<&'static str>),
    /// Nothing for this caller: look again, or lead.
    Again,
}

/// The statuses that say something about the leader's credentials.
const LEADERS_OWN: [StatusCode; 3] =
    [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS];

/// Waits for another's answer; for all of it, if it comes in the other form.
async fn follow(listener: &mut Listener<Answer>, shape: Shape, question: &Question) -> Landed {
    let for_all = question.is_for_all();
    match instead::of(listener.head().await, question) {
        Err(instead) => instead,
        // Where callers of any tenant share, one's bad key is not the others'.
        Ok(Ok(head)) if for_all && LEADERS_OWN.contains(&head.shared.status) => Landed::Again,
        // The leader's, by a field that may be another here.
        Ok(Ok(head)) if !question.binds_all(&head.shared.headers) => Landed::Again,
        Ok(Ok(head)) if head.shared.framing == shape.framing => Landed::Head(head),
        // An error has one form only.
        Ok(Ok(head)) if !head.shared.status.is_success() => Landed::Head(head),
        Ok(Ok(_)) => {
            listener.landed().await;
            Landed::Again
        }
        Ok(Err(NoHead::Failed(failure))) => Landed::Failed(failure),
        Ok(Err(NoHead::Lead)) => Landed::Again,
    }
}

async fn listened(
    head: AnswerHead,
    mut listener: Listener<Answer>,
    seat: Seat,
    call: Option<Call>,
    shape: Shape,
) -> Response<Body> {
    if head.shared.len == Some(0) {
        // Nobody polls a body that is known to be empty: it ends here.
        listener.landed().await;
    }
    let filter = shape.hides_usage && head.shared.framing == Framing::Events;
    let follows = call.is_some();
    let status = match head.shared.partial.filter(|_| !follows) {
        Some(partial) => respond::partial_status(partial),
        None => respond::miss_status(follows, shape.forwarded),
    };
    let (code, others) = (head.shared.status.as_u16(), head.shared.others.clone());
    let is_fallback = head.shared.is_fallback;
    let body = Listened::new(listener, seat, call, code, head.shared.len, filter);
    let mut response =
        respond::from_upstream(head, status, shape.debug, Body::Listened(Box::new(body)));
    if follows {
        let told = response.headers_mut();
        if let Some(others) = others { others.told(told) } else { cache::keep_shareable(told) }
    }
    respond::say_fallback(response.headers_mut(), is_fallback);
    response
}

fn deadline_passed(fetch: &Fetch) -> Failed {
    failed(UpstreamError::Deadline { endpoint: fetch.route.destination.upstream.name.clone() })
}

fn failed(error: impl Into<ExchangeError>) -> Failed {
    Arc::new(error.into())
}
