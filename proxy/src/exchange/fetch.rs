//! Gets an answer from upstream: the turn, the call, the head of the answer.
//!
//! It is one future that owns everything it needs, because nobody's connection owns it:
//! a flight keeps it going while anyone listens, a call of its own awaits it in place.

mod turn;

use super::{
    ExchangeError, fall_back,
    mark::Marks,
    send::{Prepared, To, send},
    upgrade::{self, Sides, Tunnel},
};
use crate::{
    admission::{Ask as Turn, Queued},
    app::{Destination, Parts},
    body::Outgoing,
    cache::{self, Ask, Fill, Holds, Instead},
    head,
    identity::Caller,
    inspect::{BodyLimits, Held},
    listener::Peer,
    meter::Call,
    relay::{Answer, AnswerHead, Counter, Debts, Patience, SharedHead},
    respond,
    route::Route,
    upstream::{Endpoint, Lease, Upstream, UpstreamError, is_unavailable},
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header, request,
};
use http_body::Body as _;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use smallvec::SmallVec;
use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::Instant;
use tollgate_core::{
    class::ClassId,
    dialect::{Dialect, Framing, Operation},
    form,
    usage::AnswerReader,
};

/// Everything a call to the upstream needs.
pub(crate) struct Fetch {
    pub(crate) parts: Arc<Parts>,
    pub(crate) route: Arc<Route>,
    /// The route's, or who is asked in its place.
    pub(crate) destination: Arc<Destination>,
    pub(crate) peer: Arc<Peer>,
    pub(crate) class: ClassId,
    pub(crate) deadline: Instant,
    pub(crate) limits: BodyLimits,
    pub(crate) caller: Caller,
    pub(crate) head: request::Parts,
    pub(crate) ask: Ask,
    pub(crate) queued: Option<Queued>,
    pub(crate) fill: Option<Fill>,
    /// The caller's side of a WebSocket it asks for.
    pub(crate) upgrade: Option<OnUpgrade>,
    /// Another than the route's upstream is asked.
    pub(crate) is_fallback: bool,
    /// Another is asked if this one says that it cannot answer now.
    pub(crate) gives_way: bool,
}

impl Fetch {
    /// Asks the upstream. A failure is written to the call's record here, whoever hears
    /// of it.
    pub(crate) async fn ask(
        mut self: Box<Self>,
        mut call: Call,
        marks: Marks,
    ) -> Result<(AnswerHead, Answer), Arc<ExchangeError>> {
        let spare = self.fill.as_ref().and_then(Fill::spare);
        // Kept until it is known how the call ended: then it is told to the fleet.
        let lease = self.fill.as_ref().and_then(Fill::lease).cloned();
        let kept = fall_back::kept(&self);
        self.gives_way = kept.is_some() && fall_back::is_harmless(&self);
        match self.go(&mut call, &marks).await {
            Ok(answer) => Ok(answer),
            Err(ExchangeError::Instead(instead)) => {
                if let Some(lease) = lease {
                    lease.unshared();
                }
                instead.book(call);
                Err(Arc::new(ExchangeError::Instead(instead)))
            }
            Err(error) => {
                if let Some(lease) = lease.filter(|_| !error.is_leaders_own()) {
                    lease.unshared();
                }
                let verdict = respond::verdict(&error);
                let instead = error.trouble().and_then(|trouble| spare?.instead_of(trouble));
                if let Some(instead) = instead {
                    call.stands_in(Some(verdict.reason));
                    instead.book(call);
                    return Err(Arc::new(ExchangeError::Instead(Arc::new(instead))));
                }
                if let Some(kept) = kept {
                    let asking = Box::pin(fall_back::ask(kept, &error, &mut call, &marks));
                    if let Some(answer) = asking.await {
                        return Ok(answer);
                    }
                }
                call.refused(verdict.status.as_u16(), verdict.reason);
                Err(Arc::new(error))
            }
        }
    }

    pub(super) async fn go(
        self: Box<Self>,
        call: &mut Call,
        marks: &Marks,
    ) -> Result<(AnswerHead, Answer), ExchangeError> {
        let after = cache::after(&self);
        let Self { parts, route, peer, class, deadline, limits, caller, head, ask, .. } = *self;
        let Self { queued, fill, upgrade, destination, is_fallback, gives_way, .. } = *self;
        let turn = turn::of((&route, &destination), class, &ask, &caller);
        let turn = Turn { deadline: Some(deadline), queued, ..turn };
        let began = Instant::now();
        let mut permit = turn::admit(&destination, turn, call).await?;

        let upstream = &destination.upstream;
        let (operation, wanted) = (ask.operation, ask.framing());
        let method = head.method.clone();
        let mut prepared = prepare(ask, head, upstream, &peer, marks, &limits, fill.as_ref());
        if upgrade.is_some() {
            upgrade::say(&mut prepared.head.headers);
        }
        let sent = Instant::now();
        let to = To::new(&destination, &permit, deadline);
        call.streams(prepared.passed_in.take());
        let asked = match fill.as_ref().filter(|fill| fill.asks_about()) {
            None => {
                let asked = pin!(send(prepared, to, call));
                turn::unless_taken_back(&permit, asked).await
            }
            Some(fill) => {
                // What is rare is on the heap: this future is as large as its largest part.
                let asked = inquire(prepared, to, fill, call);
                turn::unless_taken_back(&permit, Box::pin(asked).as_mut()).await
            }
        };
        let (response, lease) = turn::heard(&mut permit, asked, call)?;
        if gives_way && is_unavailable(response.status()) {
            let (endpoint, status) = (lease.endpoint().name.clone(), response.status());
            call.sent(false);
            return Err(UpstreamError::Unavailable { endpoint, status }.into());
        }
        let waited = Timing {
            queue: permit.queue_wait(),
            upstream: Instant::now().saturating_duration_since(sent),
        };

        let (mut answer, incoming) = response.into_parts();
        if let Some(after) = after {
            // Before the caller hears of its change: what it asks next must not be older.
            Box::pin(after.answered(&parts, answer.status, &answer.headers)).await;
        }
        let sides = sides(&mut answer, upgrade, lease.endpoint())?;
        let fill = fill.and_then(|fill| fill.answered(&answer));
        fill.iter().for_each(|fill| fill.tell_cdn(&mut answer.headers));
        let mut shared =
            shared_head(&mut answer, &incoming, &method, fill.as_ref(), (wanted, waited));
        shared.is_fallback = is_fallback;
        let counter = counter(operation, &shared);
        if let Some(version) = destination.version_of(&shared.headers) {
            call.version(version);
        }
        let status = shared.status.as_u16();
        let meter = parts.meter.clone();
        let call = call.hand_over();
        let debts = Debts { meter, call, lease, permit, counter, fill };
        // From here on it is the upstream's pace that counts; a caller who waits no longer
        // hangs up.
        let until = began + upstream.timeouts.total;
        let patience = Patience::new(upstream.timeouts.idle, until);
        let answer = match sides {
            None => Answer::new(incoming, status, debts, patience),
            Some(sides) => {
                upgrade::say(&mut shared.headers);
                let (stay, idle) = (peer.stay(), upstream.timeouts.idle);
                let cut = parts.shutdown.cut.clone();
                parts.connections.spawn(Tunnel { sides, debts, stay, idle, cut }.run());
                Answer::elsewhere(incoming, status, patience)
            }
        };
        Ok((AnswerHead { shared: Arc::new(shared) }, answer))
    }
}

/// How long the parts of a call took, for `server-timing`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timing {
    pub(crate) queue: Duration,
    pub(crate) upstream: Duration,
}

/// The request as the upstream gets it.
fn prepare(
    ask: Ask,
    mut head: request::Parts,
    upstream: &Upstream,
    peer: &Peer,
    marks: &Marks,
    limits: &BodyLimits,
    fill: Option<&Fill>,
) -> Prepared {
    ask.sends.keep(&mut head.headers, ask.operation);
    marks.forward(&mut head.headers, peer, upstream.via);
    ask.sends.unname(&mut head.headers);
    head.uri = head::origin_form(&head.uri, &ask.path);
    head.version = Version::HTTP_11;
    let hides_usage = ask.hides_usage();
    // One spelling of the answer for all who will be given it, and one that the usage
    // chunk can be taken out of.
    // In http mode the answer says itself by which fields it is chosen.
    let one_spelling = fill.is_some_and(|fill| fill.asked().is_none());
    if one_spelling || hides_usage {
        head.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    let (body, passed_in, held) = ask.body.outgoing(limits);
    let inject = hides_usage && upstream.inject_usage.load(Ordering::Relaxed);
    let plain = match &body {
        Outgoing::Whole(bytes)
            if inject && !head.headers.contains_key(header::CONTENT_ENCODING) =>
        {
            Some(bytes.clone())
        }
        Outgoing::Whole(_) | Outgoing::Stream(_) => None,
    };
    let with_usage = plain.as_ref().and_then(|plain| form::inject_usage(plain));
    match with_usage {
        Some(bytes) => {
            let body = Outgoing::Whole(Bytes::from(bytes));
            Prepared { head, body, plain, passed_in, _held: held }
        }
        None => Prepared { head, body, plain: None, passed_in, _held: held },
    }
}

/// Sends it as a question about what is held, which may be the answer.
async fn inquire(
    mut prepared: Prepared,
    to: To<'_>,
    fill: &Fill,
    call: &mut Call,
) -> Result<(Response<Incoming>, Lease), ExchangeError> {
    let asked = fill.asked();
    let plain = asked.and_then(|asked| asked.condition(&mut prepared.head.headers));
    let Some(plain) = plain else {
        let (response, lease) = send(prepared, to, call).await?;
        let Some(hit) = fill.instead_of(response.status()) else { return Ok((response, lease)) };
        if response.body().is_end_stream() {
            lease.give_back();
        }
        return Err(ExchangeError::Instead(Arc::new(Instead::Hit(hit))));
    };
    let mut again = prepared.head.clone();
    let (response, lease) = send(prepared, to, call).await?;
    let (answer, body) = response.into_parts();
    match fill.holds(&answer) {
        Holds::Answer => Ok((Response::from_parts(answer, body), lease)),
        Holds::Given(given, next) => {
            fill.next(next).await;
            if body.is_end_stream() {
                lease.give_back();
            }
            Err(ExchangeError::Instead(Arc::new(Instead::Given(*given))))
        }
        Holds::Again => {
            drop((body, lease));
            again.headers = plain;
            let body = Outgoing::Whole(Bytes::new());
            let prepared = Prepared {
                head: again,
                body,
                plain: None,
                passed_in: None,
                _held: Held::default(),
            };
            Ok(send(prepared, to, call).await?)
        }
    }
}

/// What TGI says of a whole answer's tokens in its head.
const READ: &str = "x-prompt-tokens";
const WRITTEN: &str = "x-generated-tokens";

fn counter(operation: Operation, shared: &SharedHead) -> Option<Counter> {
    if operation == Operation::Other {
        return None;
    }
    let mut reader = AnswerReader::new(operation, shared.framing);
    if operation.dialect() == Dialect::Tgi {
        reader.told(count_in(&shared.headers, READ), count_in(&shared.headers, WRITTEN));
    }
    Some(Counter::new(reader, &shared.headers))
}

fn count_in(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// Of an answer with such a head, to a call that wanted `wanted`.
pub(crate) fn framing_of(headers: &HeaderMap, wanted: Framing) -> Framing {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    Framing::of_answer(kind, wanted)
}

/// Both ends of the WebSocket that an answer opens, if it does.
fn sides(
    answer: &mut http::response::Parts,
    asked: Option<OnUpgrade>,
    endpoint: &Endpoint,
) -> Result<Option<Sides>, ExchangeError> {
    if answer.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(None);
    }
    let theirs = answer.extensions.remove::<OnUpgrade>();
    let Some((downstream, upstream)) = asked.zip(theirs) else {
        // Nobody asked for it: no upgrade was forwarded.
        tracing::warn!(endpoint = &*endpoint.name, "101 without an upgrade having been asked for");
        let endpoint = endpoint.name.clone();
        return Err(ExchangeError::Upstream(UpstreamError::Unasked { endpoint }));
    };
    Ok(Some(Sides { downstream, upstream }))
}

/// `tollgate-*` is what this proxy says, and a caller believes it: a reason that an upstream
/// says is none of ours. (The version's field may be named so; it is read before.)
fn strip_own_words(headers: &mut HeaderMap) {
    let is_ours = |name: &&HeaderName| name.as_str().starts_with("tollgate-");
    let ours: SmallVec<[HeaderName; 4]> = headers.keys().filter(is_ours).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
}

fn shared_head(
    answer: &mut http::response::Parts,
    incoming: &Incoming,
    method: &Method,
    fill: Option<&Fill>,
    (wanted, timing): (Framing, Timing),
) -> SharedHead {
    let mut headers = std::mem::take(&mut answer.headers);
    head::strip_hop_by_hop(&mut headers);
    strip_own_words(&mut headers);
    if !head::is_bodyless(method, answer.status) {
        // Said again by hyper from the body's length, if that stays the same.
        headers.remove(header::CONTENT_LENGTH);
    }
    let framing = framing_of(&headers, wanted);
    let len = incoming.size_hint().exact();
    SharedHead {
        status: answer.status,
        framing,
        len,
        recorded_bytes_max: fill.map(Fill::recorded_bytes_max),
        others: fill.and_then(|fill| fill.others(len)),
        headers,
        timing,
        partial: None,
        is_fallback: false,
    }
}
