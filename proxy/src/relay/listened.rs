//! One listener's share of a flight: the leader's, or a follower's.

use super::{Answer, filtered};
use crate::{
    body::{BodyError, len_u64},
    cache::Arrival,
    meter::{Call, Seat},
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tollgate_cache::flight::Listener;
use tollgate_core::form::UsageFilter;

/// An answer that others may listen to as well.
pub(crate) struct Listened {
    /// First, and so dropped first: it tells the record that the caller has gone.
    seat: Seat,
    listener: Listener<Answer>,
    /// A follower's own call; the leader's is owed by the flight.
    call: Option<Call>,
    status: u16,
    bytes_out: u64,
    len: Option<u64>,
    filter: Option<Box<UsageFilter>>,
    ready: VecDeque<Bytes>,
    over: bool,
    /// The end is not handed on before this.
    arriving: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Listened {
    pub(crate) fn new(
        listener: Listener<Answer>,
        mut seat: Seat,
        mut call: Option<Call>,
        status: u16,
        len: Option<u64>,
        filter: bool,
    ) -> Self {
        let filter = filter.then(|| Box::new(UsageFilter::new()));
        let ready = VecDeque::new();
        seat.answered(status);
        let over = listener.is_over();
        if over {
            seat.stayed();
            if let (Some(call), Some(settled)) = (call.take(), listener.outcome()) {
                call.spared(status, 0, &settled.bill);
            }
        }
        let arriving = None;
        Self { seat, listener, call, status, bytes_out: 0, len, filter, ready, over, arriving }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(arriving) = &mut self.arriving {
                ready!(arriving.as_mut().poll(cx));
                self.arriving = None;
            }
            if let Some(piece) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if self.over {
                return Poll::Ready(None);
            }
            let (piece, last) = match ready!(self.listener.poll_piece(cx)) {
                Some(Ok(piece)) => {
                    let last = self.listener.is_over();
                    (piece, last)
                }
                None => (Bytes::new(), true),
                Some(Err(_)) => {
                    self.over = true;
                    self.seat.stayed();
                    if let Some(call) = self.call.take() {
                        call.refused(self.status, "upstream_reset");
                    }
                    return Poll::Ready(Some(Err(BodyError::Cut)));
                }
            };
            if let Some(call) = &mut self.call {
                call.first_byte();
            }
            self.bytes_out = self.bytes_out.saturating_add(len_u64(piece.len()));
            if last {
                self.over = true;
                self.seat.stayed();
                let settled = self.listener.outcome().unwrap_or_default();
                // A follower's record is written before its last byte is handed on.
                if let Some(call) = self.call.take() {
                    call.spared(self.status, self.bytes_out, &settled.bill);
                }
                self.arriving = settled.arrival.map(Arrival::wait);
            }
            filtered(&mut self.filter, piece, last, &mut self.ready);
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.ready.is_empty() && self.over && self.arriving.is_none()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.len {
            Some(len) if self.filter.is_none() => {
                SizeHint::with_exact(len.saturating_sub(self.bytes_out))
            }
            Some(_) | None => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Listened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listened")
            .field("status", &self.status)
            .field("bytes_out", &self.bytes_out)
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}
