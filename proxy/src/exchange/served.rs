//! The body as hyper is given it: with the sign that its request is under way, and with a
//! cut told only when what came before it has been handed on.

use crate::{
    body::{Body, BodyError},
    listener::Active,
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// What hyper is given to send: the body, and the sign that its request is under way.
#[derive(Debug)]
pub(crate) struct Served {
    body: Body,
    /// A cut that is not told yet, and for how many polls more.
    cut: Option<(BodyError, u8)>,
    _active: Active,
}

/// hyper drops what it has not written when it hears of a cut. What came before the cut is the
/// caller's: a first poll lets hyper ask for the write, a second lets its turn come (`gather`).
const POLLS_BEFORE_CUT: u8 = 2;

impl Served {
    pub(crate) fn new(body: Body, active: Active) -> Self {
        Self { body, cut: None, _active: active }
    }
}

impl http_body::Body for Served {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.cut.is_none() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Err(cut)) => this.cut = Some((cut, POLLS_BEFORE_CUT)),
                frame => return Poll::Ready(frame),
            }
        }
        match this.cut.take() {
            Some((cut, left @ 1..)) => {
                this.cut = Some((cut, left - 1));
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            told => Poll::Ready(told.map(|(cut, _)| Err(cut))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.cut.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
