//! Serves reviews over TLS, with probes and metrics beside them on the same port (the
//! kubelet and Prometheus need not trust the certificate).
//!
//! Anybody in the cluster can connect. So everything has an end: connections, the time
//! for a handshake and for a review, the bytes of one, and how many are read at a time.

use crate::{
    certificates::Certificates,
    config::{Config, Version},
    metrics::Metrics,
    review::{self, Answer, Verdict},
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    body::{Body, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Bytes of a review. The API server takes objects of up to 3 MiB.
const REVIEW_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Reviews that are read at a time; others wait within their own time. Times
/// `REVIEW_BYTES_MAX` that is what they hold at most.
pub const REVIEWS_MAX: usize = 16;

/// For a review from its first byte to its answer. The webhook's configuration waits 5 s.
pub const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);

/// An API server has a few; beyond these a connection is closed at once.
const CONNECTIONS_MAX: usize = 128;

/// Bytes that a connection may send before they are read; times [`CONNECTIONS_MAX`] that
/// is what those hold who are never read.
const WINDOW_BYTES: u32 = 256 * 1024;

/// Bytes of a request's head.
const HEAD_BYTES_MAX: u32 = 16 * 1024;

/// For the TLS handshake, and for the head of a request.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Between pings on a connection on which nothing happens.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// How old a connection becomes: after that an API server comes anew, maybe to another
/// replica, and who only sits here makes room.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);

/// After `accept` failed for want of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is still under way when it ends is waited for so long.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// What answers.
#[derive(Debug)]
pub struct Injector {
    config: Config,
    server: ArcSwap<Version>,
    metrics: Metrics,
    leaves: AtomicBool,
    reviews: Semaphore,
}

impl Injector {
    /// For an API server of that version.
    #[must_use]
    pub fn new(config: Config, server: Version) -> Self {
        Self {
            config,
            server: ArcSwap::from_pointee(server),
            metrics: Metrics::default(),
            leaves: AtomicBool::new(false),
            reviews: Semaphore::new(REVIEWS_MAX),
        }
    }

    /// The API server is of another version from now on.
    pub fn set_server(&self, version: Version) {
        self.server.store(Arc::new(version));
    }

    /// Readiness is false from now on.
    pub fn leave(&self) {
        self.leaves.store(true, Ordering::Relaxed);
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// Serves until `stop`, and until what is under way has ended.
///
/// # Errors
/// TLS cannot be set up.
pub async fn serve(
    socket: TcpListener,
    certificates: &Arc<Certificates>,
    injector: Arc<Injector>,
    stop: CancellationToken,
) -> Result<(), crate::certificates::CertificateError> {
    let acceptor = certificates.acceptor()?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = socket.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting failed");
                time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!(CONNECTIONS_MAX, "a connection was closed: there are too many");
            continue;
        };
        let (acceptor, injector, stop) = (acceptor.clone(), injector.clone(), stop.clone());
        connections.spawn(async move {
            if let Err(error) = connection(stream, &acceptor, injector, stop).await {
                tracing::debug!(%error, "a connection ended with an error");
            }
            drop(place);
        });
    }
    connections.close();
    if time::timeout(DRAIN_MAX, connections.wait()).await.is_err() {
        tracing::warn!(left = connections.len(), "connections were cut at the end");
    }
    Ok(())
}

/// Whatever went wrong with a connection.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

async fn connection(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    injector: Arc<Injector>,
    stop: CancellationToken,
) -> Result<(), Failed> {
    stream.set_nodelay(true)?;
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long");
    let stream =
        time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await.map_err(late)??;
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request: Request<Incoming>| {
        let injector = injector.clone();
        async move { Ok::<_, Infallible>(answer(request, &injector).await) }
    });
    let leave = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = time::sleep(CONNECTION_AGE_MAX) => {}
        }
    };
    let io = TokioIo::new(stream);
    if is_h2 {
        let served = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(u32::try_from(REVIEWS_MAX * 4).unwrap_or(u32::MAX))
            .keep_alive_interval(PING_INTERVAL)
            .initial_connection_window_size(WINDOW_BYTES)
            .initial_stream_window_size(WINDOW_BYTES)
            .max_header_list_size(HEAD_BYTES_MAX)
            .serve_connection(io, service);
        let mut served = pin!(served);
        tokio::select! {
            ended = &mut served => return Ok(ended?),
            () = leave => served.as_mut().graceful_shutdown(),
        }
        Ok(time::timeout(DRAIN_MAX, served).await??)
    } else {
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HANDSHAKE_TIMEOUT)
            .max_header_size(usize::try_from(HEAD_BYTES_MAX).unwrap_or(usize::MAX))
            .serve_connection(io, service);
        let mut served = pin!(served);
        tokio::select! {
            ended = &mut served => return Ok(ended?),
            () = leave => served.as_mut().graceful_shutdown(),
        }
        Ok(time::timeout(DRAIN_MAX, served).await??)
    }
}

/// What goes out.
pub type Reply = Response<Full<Bytes>>;

/// Answers a request, whatever carried it.
pub async fn answer<B>(request: Request<B>, injector: &Injector) -> Reply
where
    B: Body<Data = Bytes>,
    B::Error: Into<Failed>,
{
    let reads = request.method() == Method::GET || request.method() == Method::HEAD;
    match request.uri().path() {
        "/mutate" if request.method() == Method::POST => review(request, injector).await,
        "/mutate" => text(StatusCode::METHOD_NOT_ALLOWED, "use POST\n"),
        "/healthz" | "/readyz" | "/metrics" if !reads => {
            text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n")
        }
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" if injector.leaves.load(Ordering::Relaxed) => {
            text(StatusCode::SERVICE_UNAVAILABLE, "leaving\n")
        }
        "/readyz" => text(StatusCode::OK, "ok\n"),
        "/metrics" => with_type(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            injector.metrics.render(),
        ),
        _ => text(StatusCode::NOT_FOUND, "try /mutate, /healthz, /readyz or /metrics\n"),
    }
}

/// One review, in its time.
async fn review<B>(request: Request<B>, injector: &Injector) -> Reply
where
    B: Body<Data = Bytes>,
    B::Error: Into<Failed>,
{
    let is_json =
        request.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).is_some_and(
            |it| it.split(';').next().unwrap_or_default().trim() == "application/json",
        );
    let (status, answer) = if is_json {
        time::timeout(REVIEW_TIMEOUT, read(request, injector)).await.unwrap_or_else(|_| {
            let message = "the review did not come, or had no turn, in time".to_owned();
            (StatusCode::REQUEST_TIMEOUT, review::unreadable("", message))
        })
    } else {
        let message = "send a review as application/json".to_owned();
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, review::unreadable("", message))
    };
    injector.metrics.reviewed(answer.verdict);
    log(&answer);
    with_type(status, "application/json", answer.body.to_string())
}

async fn read<B>(request: Request<B>, injector: &Injector) -> (StatusCode, Answer)
where
    B: Body<Data = Bytes>,
    B::Error: Into<Failed>,
{
    // Never closed; were it, reviews would go on without a limit rather than not at all.
    let _turn = injector.reviews.acquire().await;
    let body = match Limited::new(request.into_body(), REVIEW_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("the review is longer than {REVIEW_BYTES_MAX} bytes");
            return (StatusCode::PAYLOAD_TOO_LARGE, review::unreadable("", message));
        }
        Err(error) => {
            let message = format!("the review was cut: {error}");
            return (StatusCode::BAD_REQUEST, review::unreadable("", message));
        }
    };
    let answer = review::answer(&body, &injector.config, **injector.server.load());
    (if answer.is_review { StatusCode::OK } else { StatusCode::BAD_REQUEST }, answer)
}

fn log(answer: &Answer) {
    let pod = &answer.about;
    match answer.verdict {
        Verdict::Injected => tracing::info!(pod, "injected"),
        Verdict::Refused(_) => tracing::warn!(pod, "a pod that asked starts without"),
        Verdict::Denied(_) => tracing::warn!(pod, "a pod that asked was refused"),
        Verdict::Unreadable => tracing::debug!(pod, "what was sent is no review"),
        Verdict::Left(_) | Verdict::Passed => tracing::debug!(pod, "left as it is"),
    }
}

fn text(status: StatusCode, text: &str) -> Reply {
    with_type(status, "text/plain; charset=utf-8", text.to_owned())
}

fn with_type(status: StatusCode, content_type: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    reply
}
