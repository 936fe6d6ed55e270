//! WebSockets: the one upgrade that is forwarded.
//!
//! A 101 is taken only if the caller asked for one and its request was sent on; from
//! then on bytes pass both ways, and the call goes on until one side ends, nothing has
//! passed for the upstream's idle time-out, or the drain is over. Its total time-out does
//! not count: a conversation may last all day.

use crate::{head, listener::Stay, relay::Debts};
use http::{HeaderMap, HeaderValue, header, request};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use std::{
    io,
    pin::Pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

/// The upgrade that a request asks for, if it is one that is forwarded.
pub(super) fn asked(head: &mut request::Parts) -> Option<OnUpgrade> {
    if !head::asks_for_websocket(head) {
        return None;
    }
    head.extensions.remove::<OnUpgrade>()
}

/// Says in a head that was cleaned of hop-by-hop fields that the connection changes.
pub(super) fn say(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// The two ends of a WebSocket.
#[derive(Debug)]
pub(super) struct Sides {
    pub(super) downstream: OnUpgrade,
    pub(super) upstream: OnUpgrade,
}

/// An open WebSocket, and all that it holds until it ends.
pub(super) struct Tunnel {
    pub(super) sides: Sides,
    pub(super) debts: Debts,
    /// The caller's place among the connections of its listener.
    pub(super) stay: Stay,
    pub(super) idle: Duration,
    pub(super) cut: CancellationToken,
}

/// What has passed so far: it is known also when the tunnel ends from outside.
#[derive(Debug)]
struct Passed {
    downstream: Side,
    upstream: Side,
    last: Mutex<Instant>,
}

/// What came from one side.
#[derive(Debug, Default)]
struct Side {
    bytes: AtomicU64,
    broken: AtomicBool,
}

impl Tunnel {
    /// Passes bytes until one side ends or the process cuts what is left.
    pub(super) async fn run(self) {
        let Self { sides: Sides { downstream, upstream }, debts, stay, idle, cut } = self;
        let sides = tokio::select! {
            sides = async { tokio::try_join!(downstream, upstream) } => sides,
            () = cut.cancelled() => return debts.tunnelled(0, 0, Some("draining")),
        };
        let (downstream, upstream) = match sides {
            Ok(sides) => sides,
            // The caller left before it had the 101: so says the record of a call that is dropped.
            Err(error) => return tracing::debug!(%error, "a websocket was not opened"),
        };
        let passed = Passed {
            downstream: Side::default(),
            upstream: Side::default(),
            last: Mutex::new(Instant::now()),
        };
        let mut downstream = Counted::new(TokioIo::new(downstream), &passed, &passed.downstream);
        let mut upstream = Counted::new(TokioIo::new(upstream), &passed, &passed.upstream);
        let reason = tokio::select! {
            _ = copy_bidirectional(&mut downstream, &mut upstream) => passed.broken(),
            () = passed.silence(idle) => Some("upstream_timeout"),
            () = cut.cancelled() => Some("draining"),
        };
        drop((downstream, upstream, stay));
        let [bytes_in, bytes_out] =
            [&passed.downstream, &passed.upstream].map(|side| side.bytes.load(Ordering::Relaxed));
        debts.tunnelled(bytes_in, bytes_out, reason);
    }
}

impl Passed {
    /// Whose fault an end was that no side had announced.
    fn broken(&self) -> Option<&'static str> {
        if self.upstream.broken.load(Ordering::Relaxed) {
            return Some("upstream_reset");
        }
        self.downstream.broken.load(Ordering::Relaxed).then_some("downstream_gone")
    }

    /// Ends when nothing has passed for that long.
    async fn silence(&self, idle: Duration) {
        loop {
            let due = *self.last.lock().unwrap_or_else(PoisonError::into_inner) + idle;
            if due <= Instant::now() {
                return;
            }
            time::sleep_until(due).await;
        }
    }
}

pin_project! {
    /// One side of a tunnel, which counts what comes from it.
    struct Counted<'a, T> {
        #[pin]
        stream: T,
        passed: &'a Passed,
        side: &'a Side,
    }
}

impl<'a, T> Counted<'a, T> {
    fn new(stream: T, passed: &'a Passed, side: &'a Side) -> Self {
        Self { stream, passed, side }
    }
}

impl<T: AsyncRead> AsyncRead for Counted<'_, T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buffer.filled().len();
        let read = this.stream.poll_read(cx, buffer);
        let came = buffer.filled().len().saturating_sub(before);
        if came > 0 {
            this.side.bytes.fetch_add(crate::body::len_u64(came), Ordering::Relaxed);
            *this.passed.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        this.side.noted(read)
    }
}

impl<T: AsyncWrite> AsyncWrite for Counted<'_, T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        this.side.noted(this.stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        this.side.noted(this.stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        this.side.noted(this.stream.poll_shutdown(cx))
    }
}

impl Side {
    fn noted<R>(&self, outcome: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if let Poll::Ready(Err(_)) = &outcome {
            self.broken.store(true, Ordering::Relaxed);
        }
        outcome
    }
}
