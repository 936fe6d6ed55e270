//! Puts our own refusal in the place of hyper's bare one.
//!
//! A head that hyper cannot take (malformed, too long, too many fields) never becomes a
//! request: hyper itself writes `400` or `431` without a body, and closes. What a caller,
//! the ledger and the metrics are promised for every call would be missing. hyper has no
//! hook for it, so its words are caught where they leave: on the stream.
//!
//! They are told from an answer by when they are written, never by what they say: hyper
//! begins a head only when all that came before has been handed to the system, and then
//! flushes nothing of its own until a request was served. So the first bytes written while
//! the connection is settled (see [`Watch`]) are hyper's refusal, and they are all of it.

use super::{Peer, Watch};
use crate::{app::Parts, body::Body, exchange, head::BadHead};
use bytes::{Buf as _, Bytes};
use http::Response;
use pin_project_lite::pin_project;
use std::{
    fmt::Write as _,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much of what a refused caller goes on sending is read and thrown away. Closing on
/// unread bytes resets the connection, and the reset may overtake the refusal.
const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// Writes the refusals of one connection.
#[derive(Clone, Debug)]
pub(super) struct Refuser {
    parts: Arc<Parts>,
    peer: Arc<Peer>,
}

/// A refusal on its way.
#[derive(Debug)]
struct Refusal {
    rest: Bytes,
    lingered: usize,
    shut: bool,
}

pin_project! {
    /// The stream of an HTTP/1.1 connection, on which no refusal is bare.
    pub(super) struct RefusingIo<T> {
        #[pin]
        stream: T,
        refuser: Refuser,
        refusal: Option<Refusal>,
    }
}

impl<T> RefusingIo<T> {
    pub(super) fn new(stream: T, refuser: Refuser) -> Self {
        Self { stream, refuser, refusal: None }
    }
}

impl Refuser {
    pub(super) fn new(parts: Arc<Parts>, peer: Arc<Peer>) -> Self {
        Self { parts, peer }
    }

    fn watch(&self) -> &Watch {
        &self.peer.watch
    }

    /// What to send instead of what hyper says; `None`: it says something else, which a
    /// newer hyper may.
    fn refuse(&self, said: &[u8]) -> Option<Refusal> {
        let why = match said.get(9..12)? {
            b"400" => BadHead::Malformed,
            b"414" | b"431" => BadHead::TooLong,
            _ => return None,
        };
        self.watch().refused();
        let response = exchange::refuse_unread(&self.parts, why);
        Some(Refusal { rest: written(&response, date(said)), lingered: 0, shut: false })
    }

    /// hyper refused a head in a way that was not seen here: there is a record all the same.
    pub(super) fn note(&self, error: &hyper::Error) {
        if error.is_parse() && !self.watch().has_refused() {
            let too_long = error.is_parse_too_large();
            let why = if too_long { BadHead::TooLong } else { BadHead::Malformed };
            exchange::refuse_unread(&self.parts, why);
        }
    }
}

/// The value of the `date` field that hyper has made.
fn date(said: &[u8]) -> Option<&str> {
    let said = std::str::from_utf8(said).ok()?;
    said.lines().find_map(|line| line.strip_prefix("date: "))
}

/// A refusal as bytes, after which the connection ends.
fn written(response: &Response<Body>, date: Option<&str>) -> Bytes {
    let body: &[u8] = match response.body() {
        Body::Whole(bytes) => bytes,
        Body::Replay(_) | Body::Relayed(_) | Body::Listened(_) => b"",
    };
    let mut head = format!("HTTP/1.1 {}\r\n", response.status());
    for (name, value) in response.headers() {
        // Ours, all of them: no value is foreign text.
        write!(head, "{name}: {}\r\n", value.to_str().unwrap_or_default()).ok();
    }
    if let Some(date) = date {
        write!(head, "date: {date}\r\n").ok();
    }
    write!(head, "content-length: {}\r\nconnection: close\r\n\r\n", body.len()).ok();
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    bytes.into()
}

impl Refusal {
    fn poll_send<T: AsyncWrite>(
        &mut self,
        mut stream: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.has_remaining() {
            match ready!(stream.as_mut().poll_write(cx, &self.rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.rest.advance(sent),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what still comes, until the caller has closed. How long is the watch's
    /// business: to it the connection is in the middle of a head.
    fn poll_linger<T: AsyncRead>(
        &mut self,
        mut stream: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let mut thrown_away = [0; 4096];
        while self.lingered < LINGER_BYTES_MAX {
            let mut buffer = ReadBuf::new(&mut thrown_away);
            match ready!(stream.as_mut().poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => self.lingered += buffer.filled().len(),
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl<T: AsyncRead> AsyncRead for RefusingIo<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.project().stream.poll_read(cx, buffer)
    }
}

impl<T: AsyncRead + AsyncWrite> AsyncWrite for RefusingIo<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        if this.refusal.is_none() && this.refuser.watch().is_settled() {
            *this.refusal = this.refuser.refuse(bytes);
        }
        match this.refusal {
            None => this.stream.poll_write(cx, bytes),
            Some(refusal) => {
                ready!(refusal.poll_send(this.stream, cx))?;
                Poll::Ready(Ok(bytes.len()))
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.refusal.is_some() || self.refuser.watch().is_settled() {
            let first = pieces.iter().find(|piece| !piece.is_empty());
            return self.poll_write(cx, first.map_or(&[][..], |piece| piece));
        }
        self.project().stream.poll_write_vectored(cx, pieces)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        // hyper comes here only when it has handed on all that it had.
        this.refuser.watch().flushed();
        this.stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        let Some(refusal) = this.refusal else { return this.stream.poll_shutdown(cx) };
        if !refusal.shut {
            ready!(this.stream.as_mut().poll_shutdown(cx))?;
            refusal.shut = true;
        }
        refusal.poll_linger(this.stream, cx).map(Ok)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_taken_over_from_hyper() {
        let said = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ndate: Sat, 21 Nov 2026 06:00:00 GMT\r\n\r\n";
        assert_eq!(date(said), Some("Sat, 21 Nov 2026 06:00:00 GMT"));
        assert_eq!(date(b"HTTP/1.1 400 Bad Request\r\n\r\n"), None);
        assert_eq!(date(b"\xff"), None);
    }
}
