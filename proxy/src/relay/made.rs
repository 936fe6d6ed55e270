//! Answers that are put together here: the upstream's is gathered first, and what is made of it
//! takes its place.

use super::{Answer, Debts, Patience, Settled};
use crate::{
    body::{BodyError, len_u64},
    cache::{Arrival, Fill},
    inspect::Held,
    meter::{Answered, Bill, Call, Meter},
};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Body as _, SizeHint};
use hyper::body::Incoming;
use std::{future::poll_fn, sync::Arc, time::Duration};
use tokio::time::Instant;
use tollgate_cache::flight::Next;
use tollgate_core::usage::Reading;

/// Where the bytes of an answer come from.
pub(super) enum Inflow {
    Upstream(Incoming),
    /// Made here, and what it came to.
    Made(Option<Bytes>, Settled),
}

/// The upstream's whole answer. Connection and permit have been given back; the record and the
/// right to store are still owed.
pub(crate) struct Gathered {
    /// `None`: it is longer than what was to be gathered, and the rest was let go.
    pub(crate) body: Option<Bytes>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) call: Call,
    /// `None`: a call without tokens.
    pub(crate) reading: Option<Reading>,
    pub(crate) fill: Option<Fill>,
    pub(crate) upstream_took: Duration,
}

impl Inflow {
    pub(super) fn is_end_stream(&self) -> bool {
        match self {
            Self::Upstream(incoming) => incoming.is_end_stream(),
            Self::Made(body, _) => body.is_none(),
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Upstream(incoming) => incoming.size_hint(),
            Self::Made(..) => SizeHint::default(),
        }
    }

    pub(super) fn settled(&self) -> Settled {
        match self {
            Self::Upstream(_) => Settled::default(),
            Self::Made(_, settled) => settled.clone(),
        }
    }
}

impl Answer {
    /// All of it, while nobody is given any. Dropped meanwhile, it is settled as one whose caller
    /// has gone.
    ///
    /// # Errors
    /// It was cut, or came too slowly; its record is written.
    pub(crate) async fn gather(
        mut self,
        bytes_max: usize,
        held: &mut Held,
    ) -> Result<Gathered, BodyError> {
        let mut whole = BytesMut::new();
        let is_whole = loop {
            let (piece, is_last) = match poll_fn(|cx| self.poll_piece(cx)).await {
                Ok(Next::Piece(piece)) => (piece, false),
                Ok(Next::Last(piece)) => (piece, true),
                Ok(Next::End | Next::Cut) => (Bytes::new(), true),
                Err(error) => {
                    self.fail(&error);
                    return Err(error);
                }
            };
            whole.extend_from_slice(&piece);
            if whole.len() > bytes_max || !held.grow(len_u64(piece.len())) {
                break false;
            }
            if is_last {
                break true;
            }
        };
        let Some(debts) = self.debts.take() else { return Err(BodyError::Cut) };
        let Debts { meter, mut call, lease, permit, counter, fill } = debts;
        // Nobody will estimate what it cost: who has the answer says so.
        call.sent(false);
        if is_whole {
            lease.give_back();
        } else {
            drop(lease);
        }
        let reading = counter.map(|counter| counter.finish(is_whole));
        permit.spent(reading.as_ref().map(|reading| &reading.usage), is_whole);
        Ok(Gathered {
            body: is_whole.then(|| whole.freeze()),
            upstream_took: call.upstream_took(),
            reading,
            meter,
            call,
            fill,
        })
    }

    /// Nobody was given its head: the record says what its caller is told instead.
    fn fail(&mut self, error: &BodyError) {
        let Some(debts) = self.debts.take() else { return };
        let Debts { meter, call, counter, .. } = debts;
        let (status, reason) = match error {
            BodyError::UpstreamIdle | BodyError::UpstreamTotal => {
                (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout")
            }
            BodyError::UpstreamCut(_)
            | BodyError::Cut
            | BodyError::DownstreamCut(_)
            | BodyError::TooLarge => (StatusCode::BAD_GATEWAY, "upstream_reset"),
        };
        let bill = counter.map(|counter| meter.bill(counter.finish(false), &call));
        let bill = &bill.unwrap_or_default();
        let (status, reason) = (status.as_u16(), Some(reason));
        call.answered(Answered { status, bytes_out: 0, reason, bill });
    }

    /// An answer that is there already, and whose record is written. `bill`: what it would have
    /// cost its followers.
    pub(crate) fn made(
        body: Bytes,
        status: u16,
        bill: Arc<Bill>,
        arrival: Option<Arrival>,
    ) -> Self {
        let settled = Settled { bill, arrival };
        let patience = Patience::new(Duration::ZERO, Instant::now());
        let incoming = Inflow::Made(Some(body), settled);
        Self { incoming, debts: None, status, bytes_out: 0, patience }
    }
}
