//! Serves the process's own endpoints (metrics, probes, admin): small answers, made
//! whole, on connections that are few and bounded.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible, fs, future::Future, io, net::IpAddr, path::Path, sync::Arc, time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Scrapers, kubelets, a browser: a handful. More is somebody's mistake.
const CONNECTIONS_MAX: usize = 128;

/// Who sends half a head is gone after this; idle scrapers come back.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// An answer of our own.
pub(crate) type Answer = Response<Full<Bytes>>;

/// The address that a request came from; `None`: by a socket in the file system.
pub(crate) type PeerIp = Option<IpAddr>;

/// Where it is served.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A socket in the file system, in the place of one that a former process left.
pub(crate) fn bind_unix(path: &Path) -> io::Result<Socket> {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
        && std::os::unix::net::UnixStream::connect(path).is_err()
    {
        fs::remove_file(path)?;
    }
    let socket = UnixListener::bind(path)?;
    // Whoever may open it is the administrator.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(Socket::Unix(socket))
}

/// Serves until `over`.
pub(crate) async fn serve<F, A>(
    socket: Socket,
    tasks: TaskTracker,
    over: CancellationToken,
    answer: A,
) where
    A: Fn(PeerIp, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let connection = async {
            match &socket {
                Socket::Tcp(socket) => {
                    socket.accept().await.map(|(stream, from)| Stream::Tcp(stream, from.ip()))
                }
                Socket::Unix(socket) => {
                    socket.accept().await.map(|(stream, _)| Stream::Unix(stream))
                }
            }
        };
        let stream = tokio::select! {
            () = over.cancelled() => return,
            stream = connection => stream,
        };
        let (answer, over) = (answer.clone(), over.clone());
        match stream {
            Ok(Stream::Tcp(stream, from)) => {
                stream.set_nodelay(true).ok();
                tasks.spawn(async move {
                    connection_of(stream, over, |request| answer(Some(from), request)).await;
                    drop(place);
                });
            }
            Ok(Stream::Unix(stream)) => {
                tasks.spawn(async move {
                    connection_of(stream, over, |request| answer(None, request)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting on an own endpoint failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

enum Stream {
    Tcp(tokio::net::TcpStream, IpAddr),
    Unix(tokio::net::UnixStream),
}

async fn connection_of<T, F, A>(stream: T, over: CancellationToken, answer: A)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Answer>,
{
    let service = service_fn(|request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let served = std::pin::pin!(served);
    tokio::select! {
        _ = served => {}
        () = over.cancelled() => {}
    }
}

/// A short text.
pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    with_type(status, "text/plain; charset=utf-8", body)
}

pub(crate) fn with_type(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
