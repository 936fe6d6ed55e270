//! The patience of a connection, and its way out when the process drains.
//!
//! hyper's own header time-out allocates and registers a timer for every request, and
//! runs while a connection is idle. Here a connection has one timer that is looked at
//! when it fires: what it compares with is a clock reading taken on reads that begin a
//! request and on ends of requests.

use crate::shutdown::Shutdown;
use hyper::server::conn::{http1, http2};
use pin_project_lite::pin_project;
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tollgate_config::Limits;

/// What a connection is doing.
#[derive(Debug)]
pub(crate) struct Watch {
    opened: Instant,
    /// Requests whose answer has not ended.
    active: AtomicU32,
    /// Bytes of a head came while nothing was active.
    in_head: AtomicBool,
    /// When the present state began, in nanoseconds after `opened`.
    since_ns: AtomicU64,
    /// Nothing is active, and all of the answers has been handed to the system: what is
    /// written now answers no request.
    settled: AtomicBool,
    /// Any byte came, ever.
    heard: AtomicBool,
    /// A head was refused before it became a request.
    refused: AtomicBool,
}

/// One request under way; dropped when its answer has ended.
#[must_use]
#[derive(Debug)]
pub(crate) struct Active(Arc<Watch>);

impl Default for Watch {
    fn default() -> Self {
        Self {
            opened: Instant::now(),
            active: AtomicU32::new(0),
            in_head: AtomicBool::new(false),
            since_ns: AtomicU64::new(0),
            settled: AtomicBool::new(true),
            heard: AtomicBool::new(false),
            refused: AtomicBool::new(false),
        }
    }
}

impl Watch {
    pub(crate) fn begin(self: &Arc<Self>) -> Active {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.in_head.store(false, Ordering::Relaxed);
        self.settled.store(false, Ordering::Relaxed);
        Active(self.clone())
    }

    /// All that was to be written has been.
    pub(super) fn flushed(&self) {
        if self.active.load(Ordering::Relaxed) == 0 {
            self.settled.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    pub(super) fn refused(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    fn mark(&self) {
        let since = Instant::now().saturating_duration_since(self.opened);
        let since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        self.since_ns.store(since, Ordering::Relaxed);
    }

    fn bytes_came(&self) {
        if self.active.load(Ordering::Relaxed) == 0 && !self.in_head.load(Ordering::Relaxed) {
            self.in_head.store(true, Ordering::Relaxed);
            self.heard.store(true, Ordering::Relaxed);
            self.mark();
        }
    }

    /// When patience ends; `None` while a request is served.
    fn deadline(&self, patience: &Patience) -> Option<Instant> {
        if self.active.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let length =
            if self.in_head.load(Ordering::Relaxed) { patience.header } else { patience.idle };
        Some(self.opened + Duration::from_nanos(self.since_ns.load(Ordering::Relaxed)) + length)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if self.0.active.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.mark();
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Patience {
    header: Duration,
    idle: Duration,
}

impl Patience {
    /// How soon a look is due: no state can run out earlier than this after it began.
    fn step(&self) -> Duration {
        self.header.min(self.idle)
    }
}

pin_project! {
    /// A connection until it ends, runs out of patience or is told to go.
    pub(crate) struct Watched<C> {
        #[pin]
        connection: C,
        #[pin]
        timer: Sleep,
        #[pin]
        drained: WaitForCancellationFutureOwned,
        #[pin]
        cut_off: WaitForCancellationFutureOwned,
        drain: CancellationToken,
        cut: CancellationToken,
        watch: Arc<Watch>,
        patience: Patience,
        armed: bool,
        leaving: bool,
    }
}

/// hyper's connections, which have the same way out under different names.
pub(crate) trait Graceful: Future<Output = hyper::Result<()>> {
    fn graceful_shutdown(self: Pin<&mut Self>);
}

impl<I, B, S> Graceful for http1::UpgradeableConnection<I, S>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    B: hyper::body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        http1::UpgradeableConnection::graceful_shutdown(self);
    }
}

impl<I, B, S, E> Graceful for http2::Connection<I, S, E>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: hyper::body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        http2::Connection::graceful_shutdown(self);
    }
}

impl<C: Graceful> Watched<C> {
    pub(crate) fn new(
        connection: C,
        watch: Arc<Watch>,
        limits: &Limits,
        shutdown: &Shutdown,
    ) -> Self {
        let patience = Patience { header: limits.header_timeout, idle: limits.idle_timeout };
        let (drain, cut) = (shutdown.leave.clone(), shutdown.cut.clone());
        Self {
            connection,
            timer: tokio::time::sleep(patience.step()),
            drained: drain.clone().cancelled_owned(),
            cut_off: cut.clone().cancelled_owned(),
            drain,
            cut,
            watch,
            patience,
            armed: false,
            leaving: false,
        }
    }
}

impl<C: Graceful> Future for Watched<C> {
    type Output = hyper::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if this.cut.is_cancelled() {
            return Poll::Ready(Ok(()));
        }
        if !*this.leaving && this.drain.is_cancelled() {
            *this.leaving = true;
            this.connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(ended) = this.connection.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        if *this.leaving && !this.watch.heard.load(Ordering::Relaxed) {
            // hyper waits for the first request of a new connection: here none will come.
            return Poll::Ready(Ok(()));
        }
        // Registered once: both wake this same task, so that later polls (there is one
        // for every packet) look at an atomic instead of a lock.
        if !*this.armed {
            *this.armed = true;
            let told = this.drained.as_mut().poll(cx).is_ready() && !*this.leaving;
            if told || this.cut_off.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
            if this.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        while this.timer.is_elapsed() {
            let now = Instant::now();
            let next = match this.watch.deadline(this.patience) {
                Some(deadline) if deadline <= now && *this.leaving => return Poll::Ready(Ok(())),
                Some(deadline) if deadline <= now => {
                    if this.watch.in_head.load(Ordering::Relaxed) {
                        // Half a head: there is no request to answer.
                        return Poll::Ready(Ok(()));
                    }
                    *this.leaving = true;
                    this.connection.as_mut().graceful_shutdown();
                    if let Poll::Ready(ended) = this.connection.as_mut().poll(cx) {
                        return Poll::Ready(ended);
                    }
                    now + this.patience.step()
                }
                Some(deadline) => deadline.min(now + this.patience.step()),
                None => now + this.patience.step(),
            };
            this.timer.as_mut().reset(next);
            if this.timer.as_mut().poll(cx).is_pending() {
                break;
            }
        }
        Poll::Pending
    }
}

pin_project! {
    /// The stream of a connection, telling its watch when bytes come.
    pub(crate) struct WatchedIo<T> {
        #[pin]
        stream: T,
        watch: Arc<Watch>,
    }
}

impl<T> WatchedIo<T> {
    pub(crate) fn new(stream: T, watch: Arc<Watch>) -> Self {
        Self { stream, watch }
    }
}

impl<T: AsyncRead> AsyncRead for WatchedIo<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buffer.filled().len();
        let read = this.stream.poll_read(cx, buffer);
        if buffer.filled().len() > before {
            this.watch.bytes_came();
        }
        read
    }
}

impl<T: AsyncWrite> AsyncWrite for WatchedIo<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
