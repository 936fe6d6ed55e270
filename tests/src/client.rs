//! A caller: keeps connections, sees heads before bodies, and hangs up when told to.
//!
//! Not the proxy's own client, which could make the same mistake as the proxy.

use crate::{Authority, Certified, within};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt as _;
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::{http1, http2},
    rt::{Read, Write},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use serde_json::Value;
use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;

/// What a request sends.
#[derive(Debug)]
enum Sent {
    Whole(Option<Bytes>),
    /// Of a length that is not known before: chunked in HTTP/1.1.
    Pieces(mpsc::Receiver<Bytes>),
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Pieces(pieces) => {
                pieces.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(
                bytes.as_ref().map_or(0, |bytes| bytes.len().try_into().unwrap()),
            ),
            Self::Pieces(_) => SizeHint::default(),
        }
    }
}

/// A body that a scenario sends piece by piece. Dropped, it has ended.
#[derive(Debug)]
pub struct Upload(mpsc::Sender<Bytes>);

impl Upload {
    /// Sends a piece; `false`: nobody reads it any more.
    pub async fn send(&self, piece: impl Into<Bytes>) -> bool {
        within("room for a piece of the upload", self.0.send(piece.into())).await.is_ok()
    }
}

/// An answer whose head has come. Dropped, the caller has hung up.
#[derive(Debug)]
pub struct Live {
    pub status: StatusCode,
    pub version: Version,
    pub headers: HeaderMap,
    incoming: Incoming,
    back: Option<(http1::SendRequest<Sent>, Idle)>,
}

/// An answer with its whole body.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The body did not come to its end; `body` is what came of it.
    pub cut: bool,
}

type Idle = Arc<Mutex<Vec<http1::SendRequest<Sent>>>>;

/// A caller at one address. Clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    to: SocketAddr,
    tls: Option<Arc<rustls::ClientConfig>>,
    idle: Idle,
    h2: Option<http2::SendRequest<Sent>>,
    tasks: TaskTracker,
}

impl Client {
    /// Speaks HTTP/1.1.
    pub fn new(to: SocketAddr) -> Self {
        Self { to, tls: None, idle: Idle::default(), h2: None, tasks: TaskTracker::new() }
    }

    /// Speaks HTTP/2 because it knows that the other side does.
    pub async fn h2(to: SocketAddr) -> Self {
        let mut client = Self::new(to);
        let stream = TokioIo::new(client.tcp().await);
        client.h2 = Some(client.handshake_h2(stream).await);
        client
    }

    /// Speaks TLS, trusting `authority`, and what is agreed on of `alpn`.
    pub async fn tls(to: SocketAddr, authority: &Authority, alpn: &[&str]) -> Self {
        Self::over_tls(to, authority.client_config(alpn, None)).await
    }

    /// As [`Self::tls`], showing a certificate of its own.
    pub async fn tls_as(
        to: SocketAddr,
        authority: &Authority,
        alpn: &[&str],
        own: &Certified,
    ) -> Self {
        Self::over_tls(to, authority.client_config(alpn, Some(own))).await
    }

    async fn over_tls(to: SocketAddr, config: Arc<rustls::ClientConfig>) -> Self {
        let mut client = Self::new(to);
        client.tls = Some(config);
        let stream = client.tls_stream().await;
        let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        if agreed.as_deref() == Some(b"h2") {
            client.h2 = Some(client.handshake_h2(TokioIo::new(stream)).await);
        } else {
            let sender = client.handshake_h1(TokioIo::new(stream)).await;
            client.idle.lock().unwrap().push(sender);
        }
        client
    }

    async fn tcp(&self) -> TcpStream {
        let stream = within("a connection", TcpStream::connect(self.to)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    async fn tls_stream(&self) -> tokio_rustls::client::TlsStream<TcpStream> {
        let connector = TlsConnector::from(self.tls.clone().unwrap());
        let name = ServerName::try_from("localhost").unwrap();
        within("TLS", connector.connect(name, self.tcp().await)).await.unwrap()
    }

    async fn handshake_h1<T>(&self, io: T) -> http1::SendRequest<Sent>
    where
        T: Read + Write + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(io).await.unwrap();
        self.tasks.spawn(connection);
        sender
    }

    async fn handshake_h2<T>(&self, io: T) -> http2::SendRequest<Sent>
    where
        T: Read + Write + Unpin + Send + 'static,
    {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        self.tasks.spawn(connection);
        sender
    }

    async fn connection(&self) -> http1::SendRequest<Sent> {
        loop {
            let kept = self.idle.lock().unwrap().pop();
            let Some(mut kept) = kept else { break };
            if kept.ready().await.is_ok() {
                return kept;
            }
        }
        match &self.tls {
            None => self.handshake_h1(TokioIo::new(self.tcp().await)).await,
            Some(_) => self.handshake_h1(TokioIo::new(self.tls_stream().await)).await,
        }
    }

    /// Sends and waits for the head.
    ///
    /// # Errors
    /// The connection ended before one came.
    async fn begin(&self, request: Request<Sent>) -> Result<Live, hyper::Error> {
        let (mut parts, body) = request.into_parts();
        let (response, back) = if let Some(h2) = &self.h2 {
            let scheme = if self.tls.is_some() { "https" } else { "http" };
            parts.uri = format!("{scheme}://{}{}", self.to, parts.uri).parse().unwrap();
            let mut sender = h2.clone();
            let request = Request::from_parts(parts, body);
            (within("the head of an answer", sender.send_request(request)).await?, None)
        } else {
            let host = self.to.to_string().parse().unwrap();
            parts.headers.entry(header::HOST).or_insert(host);
            let mut sender = self.connection().await;
            let request = Request::from_parts(parts, body);
            let response = within("the head of an answer", sender.send_request(request)).await?;
            (response, Some((sender, self.idle.clone())))
        };
        let (head, incoming): (_, Incoming) = Response::into_parts(response);
        Ok(Live {
            status: head.status,
            version: head.version,
            headers: head.headers,
            incoming,
            back,
        })
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// The connection ended before one came.
    pub async fn try_open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Live, hyper::Error> {
        let body = Some(body.into()).filter(|body| !body.is_empty());
        self.begin(request(method, path, headers, Sent::Whole(body))).await
    }

    /// As [`Self::try_open`], where an answer is certain.
    pub async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Live {
        self.try_open(method, path, headers, body).await.unwrap()
    }

    /// A request whose body is still to be sent; its head's answer comes when it comes.
    pub fn upload(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (Upload, impl Future<Output = Result<Live, hyper::Error>> + Send + 'static) {
        let (sender, pieces) = mpsc::channel(4);
        let request = request(method, path, headers, Sent::Pieces(pieces));
        let client = self.clone();
        (Upload(sender), async move { client.begin(request).await })
    }

    /// A request and its whole answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        self.open(method, path, headers, body).await.finish().await
    }

    /// `GET path`
    pub async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[], "").await
    }

    /// `POST path` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_with(path, &[], body).await
    }

    /// `POST path` with a JSON body and headers.
    pub async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        self.stream_with(path, headers, body).await.finish().await
    }

    /// `POST path` with a JSON body, seen from its head on.
    pub async fn stream(&self, path: &str, body: &Value) -> Live {
        self.stream_with(path, &[], body).await
    }

    /// `POST path` with a JSON body and headers, seen from its head on.
    pub async fn stream_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Live {
        let headers = [&[("content-type", "application/json")], headers].concat();
        self.open(Method::POST, path, &headers, body.to_string()).await
    }
}

fn request(method: Method, path: &str, headers: &[(&str, &str)], body: Sent) -> Request<Sent> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

impl Live {
    /// The next piece; `None` at the clean end, `Some(Err(_))` where it was cut.
    pub async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            let frame = within("the next piece of a body", self.incoming.frame()).await?;
            match frame.map(Frame::into_data) {
                Ok(Ok(piece)) if !piece.is_empty() => return Some(Ok(piece)),
                // Trailers, or the empty piece by which HTTP/2 says the end.
                Ok(Ok(_) | Err(_)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Reads on until `wanted` is in what came since the head; returns that.
    ///
    /// # Panics
    /// The body ends before.
    pub async fn read_until(&mut self, wanted: &str) -> String {
        let mut seen = Vec::new();
        while let Some(Ok(piece)) = self.next().await {
            seen.extend_from_slice(&piece);
            if String::from_utf8_lossy(&seen).contains(wanted) {
                return String::from_utf8_lossy(&seen).into_owned();
            }
        }
        panic!("the body ended before {wanted:?}: {:?}", String::from_utf8_lossy(&seen))
    }

    /// Reads what is left.
    pub async fn finish(mut self) -> Reply {
        let mut body = Vec::new();
        let mut cut = false;
        while let Some(piece) = self.next().await {
            match piece {
                Ok(piece) => body.extend_from_slice(&piece),
                Err(_) => {
                    cut = true;
                    break;
                }
            }
        }
        if let Some((sender, idle)) = self.back.take().filter(|_| !cut) {
            idle.lock().unwrap().push(sender);
        }
        let Self { status, version, headers, .. } = self;
        Reply { status, version, headers, body: body.into(), cut }
    }

    /// A header's text; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        text_of(&self.headers, name)
    }
}

impl Reply {
    /// A header's text; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        text_of(&self.headers, name)
    }

    /// Status and `tollgate-reason`, what a caller sees of a refusal.
    pub fn refusal(&self) -> (u16, &str) {
        (self.status.as_u16(), self.header("tollgate-reason"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// # Panics
    /// The body is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// Of the stand-in's `/echo`: what the upstream was sent under this name.
    pub fn echoed(&self, name: &str) -> Vec<String> {
        let said = self.json();
        let headers = said["headers"].as_array().unwrap().iter();
        let named = headers.filter(|header| header[0] == name);
        named.map(|header| header[1].as_str().unwrap().to_owned()).collect()
    }
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap_or("(not text)"))
}
