//! Lets writes to peers gather, so that a peer is woken once for many of them.
//!
//! A write to a peer that sleeps wakes it: on a virtual machine an interrupt of another
//! core, dearer than all else that a call costs. When many calls are ready at once, each is
//! first read and worked on, and what all of them have to say is written afterwards, back to
//! back: the peer that the first write woke is still awake for the others
//! (`decisions/0021`, with the numbers).
//!
//! The means is one turn of the runtime's queue: the first write of a burst asks to be
//! polled again, behind everybody who is ready now. With nobody else ready that is at once.

use pin_project_lite::pin_project;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pin_project! {
    /// A stream whose writes wait for one turn of the queue.
    #[derive(Debug)]
    pub(crate) struct Gathered<T> {
        #[pin]
        stream: T,
        // The turn was waited for; until all of this burst is flushed.
        waited: bool,
    }
}

impl<T> Gathered<T> {
    pub(crate) fn new(stream: T) -> Self {
        Self { stream, waited: false }
    }
}

/// Whether it is this burst's turn.
fn turn(waited: &mut bool, cx: &Context<'_>) -> Poll<()> {
    if *waited {
        return Poll::Ready(());
    }
    *waited = true;
    cx.waker().wake_by_ref();
    Poll::Pending
}

impl<T: AsyncRead> AsyncRead for Gathered<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.project().stream.poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite> AsyncWrite for Gathered<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        ready!(turn(this.waited, cx));
        this.stream.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        ready!(turn(this.waited, cx));
        this.stream.poll_write_vectored(cx, pieces)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        ready!(this.stream.poll_flush(cx))?;
        *this.waited = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
