//! The bodies that pass through: one closed enum each way, so that no frame costs a
//! virtual call or an allocation.

use crate::relay::{Listened, Relayed, Replay};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

/// Why a body could not be handed on to its end. The peer sees a cut (no last chunk,
/// RST_STREAM), never a clean end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the upstream cut its answer")]
    UpstreamCut(#[source] hyper::Error),
    #[error("the upstream sent nothing for too long")]
    UpstreamIdle,
    #[error("the answer took longer than the upstream's total time-out")]
    UpstreamTotal,
    #[error("the answer was cut")]
    Cut,
    #[error("the caller cut its request")]
    DownstreamCut(#[source] hyper::Error),
    #[error("the request body is longer than routes[].max_body")]
    TooLarge,
}

/// What goes downstream.
#[derive(Debug)]
pub(crate) enum Body {
    /// One piece, or nothing.
    Whole(Bytes),
    /// A cached stream, frame by frame as it came in.
    Replay(Box<Replay>),
    /// From the upstream, to this caller only.
    Relayed(Box<Relayed>),
    /// From a flight, which others may listen to as well.
    Listened(Box<Listened>),
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Replay(replay) => {
                replay.poll_frame(cx).map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::Relayed(relayed) => relayed.poll_frame(cx),
            Self::Listened(listened) => listened.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Replay(replay) => replay.is_over(),
            Self::Relayed(relayed) => relayed.is_over(),
            Self::Listened(listened) => listened.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(len_u64(bytes.len())),
            Self::Replay(_) => SizeHint::default(),
            Self::Relayed(relayed) => relayed.size_hint(),
            Self::Listened(listened) => listened.size_hint(),
        }
    }
}

/// What brings the body of a request.
#[derive(Debug)]
pub(crate) enum Carried {
    /// A caller's connection.
    Caller(Incoming),
    /// Nothing needs to: it is ours.
    Own(Bytes),
}

/// What goes upstream.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A body that was read, so that it can be sent again.
    Whole(Bytes),
    /// A body that streams through: what was read of it, then the rest.
    Stream(Box<Streaming>),
}

/// A request body on its way through, counted and limited.
#[derive(Debug)]
pub(crate) struct Streaming {
    /// Read before it was clear that the body is too long to hold.
    read: Option<Bytes>,
    rest: Incoming,
    passed: Arc<AtomicU64>,
    bytes_max: Option<u64>,
}

impl Outgoing {
    /// Streams `read` and then `rest`; `passed` counts the bytes.
    pub(crate) fn stream(
        read: Bytes,
        rest: Incoming,
        passed: Arc<AtomicU64>,
        bytes_max: Option<u64>,
    ) -> Self {
        let read = (!read.is_empty()).then_some(read);
        Self::Stream(Box::new(Streaming { read, rest, passed, bytes_max }))
    }
}

impl Streaming {
    fn count(&self, bytes: &Bytes) -> Result<(), BodyError> {
        let len = len_u64(bytes.len());
        let passed = self.passed.fetch_add(len, Ordering::Relaxed).saturating_add(len);
        match self.bytes_max {
            Some(max) if passed > max => Err(BodyError::TooLarge),
            Some(_) | None => Ok(()),
        }
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let streaming = match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Self::Whole(bytes) => {
                return Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))));
            }
            Self::Stream(streaming) => streaming,
        };
        if let Some(read) = streaming.read.take() {
            return Poll::Ready(Some(streaming.count(&read).map(|()| Frame::data(read))));
        }
        loop {
            let frame = match ready!(Pin::new(&mut streaming.rest).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => {
                    return Poll::Ready(Some(Err(BodyError::DownstreamCut(error))));
                }
                Some(Ok(frame)) => frame,
            };
            // Trailers of a request have no reader among HTTP/1.1 services.
            if let Ok(data) = frame.into_data() {
                return Poll::Ready(Some(streaming.count(&data).map(|()| Frame::data(data))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Stream(streaming) => streaming.read.is_none() && streaming.rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(len_u64(bytes.len())),
            Self::Stream(streaming) => {
                let read = streaming.read.as_ref().map_or(0, |read| len_u64(read.len()));
                match streaming.rest.size_hint().exact() {
                    Some(rest) => SizeHint::with_exact(rest.saturating_add(read)),
                    None => SizeHint::default(),
                }
            }
        }
    }
}

/// A length in memory as a length on the wire: `usize` is never wider than 64 bits here.
pub(crate) fn len_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
