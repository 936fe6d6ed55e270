//! Accepts connections: TCP, TLS where configured, then HTTP/1.1 or HTTP/2.
//!
//! Which of the two is decided by ALPN under TLS and by the first bytes without
//! (prior knowledge); `h2c` upgrades are never taken. Patience is one lazy timer per
//! connection: it looks at what happened only when it fires, so that a request that
//! comes and goes in time costs none.

mod own;
mod refuse;
mod tls;
mod watch;

pub(crate) use self::own::Own;
pub(crate) use self::tls::{TlsError, acceptor, chain_and_key, roots};
pub(crate) use self::watch::{Active, Watch};

use self::{
    refuse::{Refuser, RefusingIo},
    watch::{Watched, WatchedIo},
};
use crate::{
    app::Parts,
    body::Carried,
    exchange::{self, Served},
    gather::Gathered,
};
use http::{HeaderValue, Request};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time,
};
use tokio_rustls::TlsAcceptor;
use tollgate_config::Limits;

/// How long to wait after `accept` failed for want of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Streams that one HTTP/2 connection may have open: the value nginx and Envoy users know.
const H2_STREAMS_MAX: u32 = 128;

/// The connection preface of HTTP/2 begins with a method that HTTP/1.1 never saw.
const H2_PREFACE_START: &[u8] = b"PRI";

/// What holds for those who connect to one socket. Not the socket itself: connections
/// outlive it, and one that were still open would let callers wait for nobody.
pub(crate) struct Listener {
    pub(crate) place: usize,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) limits: Limits,
    pub(crate) open: Arc<AtomicUsize>,
}

/// Who is at the other end of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// The address as `x-forwarded-for` says it.
    pub(crate) forwarded_for: HeaderValue,
    pub(crate) is_tls: bool,
    /// Which of the configured listeners it came in by.
    pub(crate) listener: usize,
    pub(crate) watch: Arc<Watch>,
    /// Not the place itself: a flight may outlive the connection that began it.
    pub(crate) place: Weak<Place>,
    /// A call of our own, which no connection carries.
    pub(crate) own: Option<Arc<Own>>,
}

/// One of `limits.connections`; dropped, the place is free.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

/// Keeps a connection what it is after hyper has handed its stream to somebody else.
#[must_use]
#[derive(Debug)]
pub(crate) struct Stay {
    _active: Active,
    _place: Option<Arc<Place>>,
}

impl Peer {
    pub(crate) fn stay(&self) -> Stay {
        Stay { _active: self.watch.begin(), _place: self.place.upgrade() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts until the drain stops it.
pub(crate) async fn serve(socket: TcpListener, listener: Listener, parts: Arc<Parts>) {
    let listener = Arc::new(listener);
    let stop = parts.shutdown.stop_accepting.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if is_exhaustion(&error) {
                    tracing::warn!(%error, "accepting failed; raise the limit of open files");
                    time::sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        let Some(place) = take_place(&listener) else {
            tracing::warn!(
                connections_max = listener.limits.connections_max,
                "a connection was closed: listeners[].limits.connections is reached"
            );
            continue;
        };
        let (parts, listener) = (parts.clone(), listener.clone());
        parts.connections.clone().spawn(async move {
            let place = Arc::new(place);
            connection(stream, (address, &place), listener, parts).await;
        });
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    // EMFILE, ENFILE, ENOBUFS, ENOMEM: not the fault of one connection.
    matches!(error.raw_os_error(), Some(23 | 24 | 105 | 12))
}

fn take_place(listener: &Listener) -> Option<Place> {
    let open = listener.open.fetch_add(1, Ordering::Relaxed);
    let place = Place(listener.open.clone());
    (open < listener.limits.connections_max).then_some(place)
}

async fn connection(
    stream: TcpStream,
    from: (SocketAddr, &Arc<Place>),
    listener: Arc<Listener>,
    parts: Arc<Parts>,
) {
    // Else the last piece of an answer waits for the caller's delayed ACK (41 ms).
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone before it was served");
        return;
    }
    let patience = listener.limits.header_timeout;
    let speaks = tokio::select! {
        // What was sent before the drain is answered.
        biased;
        speaks = time::timeout(patience, speaks_h2(&stream)) => speaks,
        // Who has said nothing when connections leave is not waited for.
        () = parts.shutdown.leave.cancelled() => return,
    };
    let Ok(Ok(h2)) = speaks else { return };
    match &listener.tls {
        None => protocol(stream, from, h2, &listener, parts).await,
        Some(acceptor) => match time::timeout(patience, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                protocol(stream, from, h2, &listener, parts).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, peer = %from.0.ip(), "TLS handshake failed"),
            Err(_) => tracing::debug!(peer = %from.0.ip(), "TLS handshake took too long"),
        },
    }
}

/// Looks at the first bytes without taking them. Callers with prior knowledge send the
/// preface in one piece; who sends less than its first word gets HTTP/1.1 (waiting for
/// the rest of bytes that are not taken would be a busy loop).
async fn speaks_h2(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0; 3];
    stream.peek(&mut first).await?;
    Ok(first == H2_PREFACE_START)
}

async fn protocol<T>(
    stream: T,
    (address, place): (SocketAddr, &Arc<Place>),
    h2: bool,
    listener: &Listener,
    parts: Arc<Parts>,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let watch = Arc::new(Watch::default());
    let ip = address.ip().to_canonical();
    let peer = Arc::new(Peer {
        address: ip,
        forwarded_for: HeaderValue::from_str(&ip.to_string())
            .unwrap_or(HeaderValue::from_static("unknown")),
        is_tls: listener.tls.is_some(),
        listener: listener.place,
        watch: watch.clone(),
        place: Arc::downgrade(place),
        own: None,
    });
    let io = WatchedIo::new(Gathered::new(stream), watch.clone());
    let limits = &listener.limits;
    let header_bytes_max = usize::try_from(limits.header_bytes_max).unwrap_or(usize::MAX);
    let shutdown = parts.shutdown.clone();
    let refuser = Refuser::new(parts.clone(), peer.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        // Here and not in the future, which is not polled before hyper may write.
        let active = peer.watch.begin();
        let (parts, peer) = (parts.clone(), peer.clone());
        async move {
            let request = request.map(Carried::Caller);
            let response = exchange::exchange(&parts, &peer, request).await;
            Ok::<_, Infallible>(response.map(|body| Served::new(body, active)))
        }
    });
    let ended = if h2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(H2_STREAMS_MAX)
            .max_header_list_size(u32::try_from(header_bytes_max).unwrap_or(u32::MAX))
            .serve_connection(TokioIo::new(io), service);
        Watched::new(connection, watch, limits, &shutdown).await
    } else {
        let io = RefusingIo::new(io, refuser.clone());
        let connection = http1::Builder::new()
            .max_headers(limits.headers_max)
            // The buffer alone is no limit: one read may fill it to twice its size.
            .max_header_size(header_bytes_max)
            .max_buf_size(header_bytes_max.max(HYPER_BUFFER_BYTES_MIN))
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        Watched::new(connection, watch, limits, &shutdown).await.inspect_err(|e| refuser.note(e))
    };
    if let Err(error) = ended {
        tracing::debug!(%error, peer = %ip, "a connection ended with an error");
    }
}

/// hyper refuses smaller read buffers.
const HYPER_BUFFER_BYTES_MIN: usize = 8192;
