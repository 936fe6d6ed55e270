//! Passes the upstream's answer on, counting as it goes, and pays what is owed when it
//! ends: the permit, the connection, the usage record, the cache entry.
//!
//! Bytes are never held back: each piece is shown to the reader and handed on. The end
//! of a body has three faces. A body of known length is not polled after its last byte;
//! an empty one is never polled at all; an abandoned one is dropped. All three lead to
//! [`Answer::settle`], once.

mod decode;
mod listened;
mod made;
mod pace;
mod replay;

use self::made::Inflow;
pub(crate) use self::{
    decode::Counter,
    listened::Listened,
    made::Gathered,
    pace::{Pace, Score},
    replay::{Replay, count_units},
};

use crate::{
    admission::Permit,
    body::{BodyError, len_u64},
    cache::{Arrival, Fill, ForOthers},
    exchange::Timing,
    meter::{Answered, Bill, Call, Meter},
    upstream::Lease,
};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    collections::VecDeque,
    fmt,
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{self, Instant, Sleep};
use tollgate_cache::flight::{End, Next, Recording, Source};
use tollgate_core::{
    dialect::Framing,
    form::{Filtered, Keep, UsageFilter},
    usage::{Reading, Verdict},
};

/// An answer on its way from the upstream, with everything the call still owes.
pub(crate) struct Answer {
    incoming: Inflow,
    debts: Option<Debts>,
    status: u16,
    bytes_out: u64,
    patience: Patience,
}

/// What is owed when the answer ends.
pub(crate) struct Debts {
    pub(crate) meter: Arc<Meter>,
    /// Before the call, so that it is dropped before it.
    pub(crate) permit: Permit,
    pub(crate) call: Call,
    pub(crate) lease: Lease,
    /// `None`: a call without tokens.
    pub(crate) counter: Option<Counter>,
    pub(crate) fill: Option<Fill>,
}

/// How long the rest of the answer may take.
#[derive(Debug)]
pub(crate) struct Patience {
    idle: Duration,
    until: Instant,
    last: Instant,
    /// Made when there is first something to wait for: most answers come in one piece.
    timer: Option<Pin<Box<Sleep>>>,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Complete,
    UpstreamCut,
    UpstreamSlow,
    DownstreamGone,
}

/// What an answer came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settled {
    bill: Arc<Bill>,
    /// Where it is kept is being waited for.
    arrival: Option<Arrival>,
}

/// The head of an answer, for everyone who listens.
#[derive(Clone, Debug)]
pub(crate) struct AnswerHead {
    pub(crate) shared: Arc<SharedHead>,
}

#[derive(Clone, Debug)]
pub(crate) struct SharedHead {
    pub(crate) status: http::StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) framing: Framing,
    /// The length of the body, where it is known.
    pub(crate) len: Option<u64>,
    /// How much of it may be recorded for storing; `None`: it is not to be stored.
    pub(crate) recorded_bytes_max: Option<usize>,
    /// What it is to others, where the URL is the question; `None`: nothing.
    pub(crate) others: Option<Arc<ForOthers>>,
    pub(crate) timing: Timing,
    /// How many of a call's items came from the cache, and of how many.
    pub(crate) partial: Option<(usize, usize)>,
    /// It is of another upstream than the route's.
    pub(crate) is_fallback: bool,
}

impl Patience {
    pub(crate) fn new(idle: Duration, until: Instant) -> Self {
        Self { idle, until, last: Instant::now(), timer: None }
    }

    /// Whether patience has run out.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        loop {
            let due = (self.last + self.idle).min(self.until);
            let timer = self.timer.get_or_insert_with(|| Box::pin(time::sleep_until(due)));
            ready!(timer.as_mut().poll(cx));
            if due <= Instant::now() {
                let idle = due < self.until;
                let error = if idle { BodyError::UpstreamIdle } else { BodyError::UpstreamTotal };
                return Poll::Ready(error);
            }
            timer.as_mut().reset(due);
        }
    }
}

impl Debts {
    /// A WebSocket has ended: there were bytes, and nothing that anyone bills.
    pub(crate) fn tunnelled(mut self, bytes_in: u64, bytes_out: u64, reason: Option<&'static str>) {
        drop((self.lease, self.permit));
        self.call.sent_in(bytes_in);
        let status = http::StatusCode::SWITCHING_PROTOCOLS.as_u16();
        self.call.answered(Answered { status, bytes_out, reason, bill: &Bill::default() });
    }
}

impl Answer {
    pub(crate) fn new(incoming: Incoming, status: u16, debts: Debts, patience: Patience) -> Self {
        let incoming = Inflow::Upstream(incoming);
        Self { incoming, debts: Some(debts), status, bytes_out: 0, patience }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, BodyError>> {
        loop {
            let incoming = match &mut self.incoming {
                Inflow::Upstream(incoming) => incoming,
                Inflow::Made(body, _) => {
                    return Poll::Ready(Ok(body.take().map_or(Next::End, Next::Last)));
                }
            };
            let frame = match Pin::new(&mut *incoming).poll_frame(cx) {
                Poll::Pending => return self.patience.poll(cx).map(Err),
                Poll::Ready(None) => return Poll::Ready(Ok(Next::End)),
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(BodyError::UpstreamCut(error)));
                }
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            // Trailers may be dropped by an intermediary (RFC 9110 §6.5.1), and are.
            let Ok(piece) = frame.into_data() else { continue };
            self.patience.last = Instant::now();
            self.bytes_out = self.bytes_out.saturating_add(len_u64(piece.len()));
            if let Some(debts) = &mut self.debts {
                debts.call.first_byte();
                if let Some(counter) = &mut debts.counter {
                    counter.push(&piece);
                }
                if let Some(fill) = &mut debts.fill {
                    fill.came(self.patience.last);
                }
            }
            let last = incoming.is_end_stream();
            return Poll::Ready(Ok(if last { Next::Last(piece) } else { Next::Piece(piece) }));
        }
    }

    /// Pays what is owed, once. `recording`: the whole answer, if it was recorded.
    fn settle(&mut self, ended: Ended, recording: Option<Recording>) -> Settled {
        let Some(debts) = self.debts.take() else { return self.incoming.settled() };
        let Debts { meter, call, lease, permit, counter, fill } = debts;
        let complete = ended == Ended::Complete;
        if complete {
            lease.give_back();
        } else {
            drop(lease);
        }
        let reading = counter.map(|counter| counter.finish(complete));
        permit.spent(reading.as_ref().map(|reading| &reading.usage), complete);
        let storable = is_storable(reading.as_ref());
        let model = call.model().cloned();
        let bill = match reading {
            Some(reading) if (200..300).contains(&self.status) => meter.bill(reading, &call),
            // An error answer has used nothing that anyone bills.
            Some(_) | None => Bill { model, ..Bill::default() },
        };
        let bill = Arc::new(bill);
        let arrival = match (fill, recording) {
            (Some(fill), Some(recording)) if complete && storable => {
                fill.store(recording, &bill, call.upstream_took())
            }
            (Some(fill), _) if ended != Ended::DownstreamGone => {
                fill.nothing_to_store();
                None
            }
            _ => None,
        };
        let reason = match ended {
            Ended::Complete => None,
            Ended::UpstreamCut => Some("upstream_reset"),
            Ended::UpstreamSlow => Some("upstream_timeout"),
            Ended::DownstreamGone => Some("downstream_gone"),
        };
        let (status, bytes_out) = (self.status, self.bytes_out);
        call.answered(Answered { status, bytes_out, reason, bill: &bill });
        Settled { bill, arrival }
    }

    /// There is no body, so nobody will poll for its end.
    pub(crate) fn settle_if_empty(&mut self) -> bool {
        let empty = self.incoming.is_end_stream();
        if empty {
            self.settle(Ended::Complete, Some(Recording::default()));
        }
        empty
    }

    /// An answer whose debts are paid elsewhere: the head of an upgraded connection.
    pub(crate) fn elsewhere(incoming: Incoming, status: u16, patience: Patience) -> Self {
        let incoming = Inflow::Upstream(incoming);
        Self { incoming, debts: None, status, bytes_out: 0, patience }
    }

    fn is_over(&self) -> bool {
        self.debts.is_none()
    }
}

fn is_storable(reading: Option<&Reading>) -> bool {
    match reading.map(|reading| &reading.verdict) {
        None | Some(Verdict::Finished) => true,
        Some(Verdict::Unfinished(reason)) => {
            tracing::debug!(reason, "an answer was not stored");
            false
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.settle(Ended::DownstreamGone, None);
    }
}

impl Source for Answer {
    type Head = AnswerHead;
    type Failure = Arc<crate::exchange::ExchangeError>;
    type Outcome = Settled;

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let next = ready!(self.poll_piece(cx));
        Poll::Ready(next.unwrap_or_else(|error| {
            tracing::info!(%error, "an answer was cut");
            Next::Cut
        }))
    }

    fn finish(mut self, end: End, recording: Option<Recording>) -> Settled {
        let ended = match end {
            End::Complete => Ended::Complete,
            End::Cut => Ended::UpstreamCut,
        };
        self.settle(ended, recording)
    }

    fn recorded_bytes_max(head: &AnswerHead) -> Option<usize> {
        head.shared.recorded_bytes_max
    }

    fn is_leaders_own(failure: &Self::Failure) -> bool {
        failure.is_leaders_own()
    }
}

/// An answer that only its own caller gets.
#[derive(Debug)]
pub(crate) struct Relayed {
    answer: Answer,
    filter: Option<Box<UsageFilter>>,
    /// What the filter let go, to be handed on before anything else.
    ready: VecDeque<Bytes>,
    over: bool,
}

impl Relayed {
    pub(crate) fn new(answer: Answer, filter: bool) -> Self {
        let filter = filter.then(|| Box::new(UsageFilter::new()));
        Self { answer, filter, ready: VecDeque::new(), over: false }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if self.over {
                return Poll::Ready(None);
            }
            let (piece, last) = match ready!(self.answer.poll_piece(cx)) {
                Ok(Next::Piece(piece)) => (piece, false),
                Ok(Next::Last(piece)) => (piece, true),
                Ok(Next::End | Next::Cut) => (Bytes::new(), true),
                Err(error) => {
                    self.over = true;
                    let slow = matches!(error, BodyError::UpstreamIdle | BodyError::UpstreamTotal);
                    let ended = if slow { Ended::UpstreamSlow } else { Ended::UpstreamCut };
                    self.answer.settle(ended, None);
                    tracing::info!(%error, "an answer was cut");
                    return Poll::Ready(Some(Err(error)));
                }
            };
            if last {
                self.over = true;
                self.answer.settle(Ended::Complete, None);
            }
            filtered(&mut self.filter, piece, last, &mut self.ready);
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.ready.is_empty() && (self.over || self.answer.is_over())
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        if self.filter.is_some() { SizeHint::default() } else { self.answer.incoming.size_hint() }
    }
}

/// Shows a piece to the filter, if there is one, and queues what is to be handed on.
fn filtered(
    filter: &mut Option<Box<UsageFilter>>,
    piece: Bytes,
    last: bool,
    ready: &mut VecDeque<Bytes>,
) {
    let Some(active) = filter else {
        ready.extend((!piece.is_empty()).then_some(piece));
        return;
    };
    let Filtered { released, keep } = active.push(&piece);
    ready.extend((!released.is_empty()).then(|| Bytes::from(released)));
    match keep {
        Keep::All => ready.extend((!piece.is_empty()).then_some(piece)),
        Keep::Ranges(ranges) => {
            let parts = ranges.into_iter().filter(|range| !range.is_empty());
            ready.extend(parts.map(|range| piece.slice(range)));
        }
    }
    if last && let Some(active) = filter.take() {
        let held = active.finish();
        ready.extend((!held.is_empty()).then(|| Bytes::from(held)));
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("bytes_out", &self.bytes_out)
            .finish_non_exhaustive()
    }
}
