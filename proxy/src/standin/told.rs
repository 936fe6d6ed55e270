//! An answer on its way out: the pieces in order, each held by gate and delay,
//! counted as it is handed on, and the ending that was asked for.

use super::{
    Gate,
    counts::{Call, End, Tokens},
    encoding::Encoder,
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

/// What is told at once: an event of a stream, or a whole body.
#[derive(Clone, Debug, Default)]
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    /// Billed when this piece is handed on.
    pub(super) billed: Tokens,
    /// What the usage member in this piece says.
    pub(super) told: Tokens,
    /// It says that the answer is complete, or comes after that.
    pub(super) closing: bool,
}

impl Piece {
    pub(super) fn new(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), ..Self::default() }
    }
}

/// How the body ends after its last piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// As it should, for what it is.
    Clean(End),
    /// The connection closes without an end.
    Cut,
    /// Nothing comes until the caller leaves.
    Stall,
}

/// What a body waits for before each piece.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    pub(super) gate: Option<Gate>,
    /// Before every piece but the first, which the head's latency covers.
    pub(super) delay: Duration,
}

/// The body of every answer.
pub(super) struct Told {
    pieces: VecDeque<Piece>,
    ending: Ending,
    pace: Pace,
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    waited: bool,
    first: bool,
    flushed: bool,
    is_stream: bool,
    encoder: Option<Encoder>,
    call: Option<Call>,
}

impl Told {
    /// A stream of events.
    pub(super) fn stream(
        pieces: Vec<Piece>,
        ending: Ending,
        pace: Pace,
        encoder: Option<Encoder>,
        call: Option<Call>,
    ) -> Self {
        Self::new(pieces.into(), ending, pace, true, encoder, call)
    }

    /// A body whose length is known; it is already encoded.
    pub(super) fn whole(
        mut pieces: Vec<Piece>,
        ending: Ending,
        pace: Pace,
        call: Option<Call>,
    ) -> Self {
        pieces.retain(|piece| !piece.bytes.is_empty());
        Self::new(pieces.into(), ending, pace, false, None, call)
    }

    fn new(
        pieces: VecDeque<Piece>,
        ending: Ending,
        pace: Pace,
        is_stream: bool,
        encoder: Option<Encoder>,
        call: Option<Call>,
    ) -> Self {
        let mut told = Self {
            pieces,
            ending,
            pace,
            wait: None,
            waited: false,
            first: true,
            flushed: false,
            is_stream,
            encoder,
            call,
        };
        // Nobody polls a body that is empty from the start.
        if told.pieces.is_empty() {
            told.end_if_clean();
        }
        told
    }

    fn end_if_clean(&mut self) {
        if let (Ending::Clean(end), Some(call)) = (self.ending, &mut self.call) {
            call.end(end);
        }
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waited {
            return Poll::Ready(());
        }
        let delay = if self.first { Duration::ZERO } else { self.pace.delay };
        let gate = self.pace.gate.clone().filter(Gate::holds_chunks);
        if self.wait.is_none() && (!delay.is_zero() || gate.is_some()) {
            self.wait = Some(Box::pin(async move {
                if let Some(gate) = gate {
                    gate.pass_chunk().await;
                }
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
            }));
        }
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        self.waited = true;
        Poll::Ready(())
    }

    /// The bytes of the next piece; whoever sees the last byte finds the call
    /// already ended.
    fn hand_on(&mut self, piece: Piece) -> io::Result<Bytes> {
        let last = self.pieces.is_empty();
        if let Some(call) = &self.call {
            let is_stream = self.is_stream;
            call.house().counts.send_modify(|counts| {
                counts.chunks += u64::from(is_stream);
                counts.billed.add(piece.billed);
                counts.told.add(piece.told);
            });
        }
        if last {
            self.end_if_clean();
        }
        match self.encoder.take() {
            None => Ok(piece.bytes),
            Some(encoder) if last => encoder.finish(&piece.bytes),
            Some(mut encoder) => {
                let bytes = encoder.push(&piece.bytes)?;
                self.encoder = Some(encoder);
                Ok(bytes)
            }
        }
    }
}

impl Body for Told {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if this.pieces.is_empty() {
            return match this.ending {
                Ending::Clean(_) => Poll::Ready(None),
                Ending::Stall => Poll::Pending,
                Ending::Cut if !this.flushed => {
                    // hyper drops what it has not yet written when a body fails;
                    // it writes when a body has nothing for it.
                    this.flushed = true;
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Ending::Cut => {
                    if let Some(call) = &mut this.call {
                        call.end(End::Failed);
                    }
                    Poll::Ready(Some(Err(io::Error::other("cut, as the test asked"))))
                }
            };
        }
        ready!(this.poll_wait(cx));
        this.waited = false;
        this.first = false;
        let Some(piece) = this.pieces.pop_front() else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(this.hand_on(piece).map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && matches!(self.ending, Ending::Clean(_))
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_stream {
            return SizeHint::default();
        }
        let bytes = self.pieces.iter().map(|piece| piece.bytes.len()).sum::<usize>();
        SizeHint::with_exact(u64::try_from(bytes).unwrap_or(u64::MAX))
    }
}
