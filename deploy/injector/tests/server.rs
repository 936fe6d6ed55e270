//! Reviews over real TLS: on a certificate made by the injector's own command, while the
//! certificate changes, and from callers who mean no good.

use crate::{config, review};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Body, Frame, Incoming},
    client::conn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;
use tollgate_injector::{
    certificates::{CertificateError, Certificates, LOOK_INTERVAL},
    cluster::Cluster,
    config::Version,
    self_made,
    server::{Injector, REVIEW_TIMEOUT, REVIEWS_MAX, answer, serve},
};

const NAME: &str = "tollgate-injector.tollgate.svc";

/// An injector on a free port, and what it is known by.
struct World {
    dir: TempDir,
    address: SocketAddr,
    certificates: Arc<Certificates>,
    injector: Arc<Injector>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        self_made::make(vec![NAME.to_owned()], 1).unwrap().write(dir.path()).unwrap();
        let certificates = Arc::new(open(dir.path()).unwrap());
        let injector = Arc::new(Injector::new(config(), Version { major: 1, minor: 31 }));
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let served = (certificates.clone(), injector.clone(), stop.clone());
        tasks.spawn(async move {
            let (certificates, injector, stop) = served;
            serve(socket, &certificates, injector, stop).await.unwrap();
        });
        Self { dir, address, certificates, injector, stop, tasks }
    }

    async fn connect(
        &self,
        authority: &Path,
        alpn: &[u8],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let stream = TcpStream::connect(self.address).await?;
        TlsConnector::from(Arc::new(config))
            .connect(ServerName::try_from(NAME).unwrap(), stream)
            .await
    }

    fn authority(&self) -> std::path::PathBuf {
        self.dir.path().join("ca.crt")
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let stream = self.connect(&self.authority(), b"http/1.1").await.unwrap();
        let (mut sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut running = JoinSet::new();
        running.spawn(connection);
        let answer = sender.send_request(request).await.unwrap();
        running.detach_all();
        answer
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let answer = self.send(Request::get(path).body(Full::default()).unwrap()).await;
        (answer.status(), text(answer).await)
    }
}

fn open(dir: &Path) -> Result<Certificates, CertificateError> {
    Certificates::open(&dir.join("tls.crt"), &dir.join("tls.key"))
}

fn post(body: String) -> Request<Full<Bytes>> {
    Request::post("/mutate")
        .header("content-type", "application/json")
        .body(Full::from(body))
        .unwrap()
}

async fn text(answer: Response<Incoming>) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn json(answer: Response<Incoming>) -> Value {
    serde_json::from_str(&text(answer).await).unwrap()
}

#[tokio::test]
async fn a_review_goes_round_over_tls_by_both_versions_of_http() {
    let world = World::new().await;
    let review = review::review();
    let answer = world.send(post(review.to_string())).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let first = json(answer).await;
    assert_eq!(first["response"]["uid"], review["request"]["uid"]);
    assert!(!review::patch(&first).as_array().unwrap().is_empty());

    // As API servers do: HTTP/2, several at a time on one connection.
    let stream = world.connect(&world.authority(), b"h2").await.unwrap();
    let (sender, connection) =
        conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let mut running = JoinSet::new();
    running.spawn(async move { drop(connection.await) });
    let mut asked = JoinSet::new();
    for _ in 0..50 {
        let (mut sender, body) = (sender.clone(), review.to_string());
        asked.spawn(async move { json(sender.send_request(post(body)).await.unwrap()).await });
    }
    while let Some(answer) = asked.join_next().await {
        assert_eq!(answer.unwrap(), first);
    }
    let (_, metrics) = world.get("/metrics").await;
    let line = "tollgate_injector_reviews_total{outcome=\"injected\",reason=\"\"} 51";
    assert!(metrics.lines().any(|it| it == line), "{metrics}");
}

/// A call begun before the change ends after it, on its connection; the next is served
/// with the new certificate.
#[tokio::test]
async fn a_new_certificate_is_served_while_calls_go_on() {
    let mut world = World::new().await;
    let old = fs::read(world.authority()).unwrap();
    let old_authority = world.dir.path().join("old.crt");
    fs::write(&old_authority, old).unwrap();
    let body = review::review().to_string();
    let mut under_way = world.connect(&old_authority, b"http/1.1").await.unwrap();
    let head = format!(
        "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    under_way.write_all(head.as_bytes()).await.unwrap();

    for name in ["ca.crt", "tls.crt", "tls.key"] {
        fs::remove_file(world.dir.path().join(name)).unwrap();
    }
    self_made::make(vec![NAME.to_owned()], 1).unwrap().write(world.dir.path()).unwrap();
    assert!(world.certificates.look().unwrap());
    assert!(!world.certificates.look().unwrap(), "it is the same as before");

    let answer = world.send(post(body.clone())).await;
    assert_eq!(json(answer).await["response"]["allowed"], true);
    assert!(world.connect(&old_authority, b"http/1.1").await.is_err(), "the old one is gone");
    under_way.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    under_way.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    world.stop.cancel();
    world.tasks.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_its_key_leaves_the_old_one_in_force() {
    let world = World::new().await;
    let other = self_made::make(vec![NAME.to_owned()], 1).unwrap();
    fs::write(world.dir.path().join("tls.crt"), &other.certificate).unwrap();
    let error = world.certificates.look().unwrap_err();
    assert!(matches!(error, CertificateError::Unusable { .. }), "{error}");
    // Half of the change: told once, served as before.
    assert!(!world.certificates.look().unwrap());
    assert_eq!(world.get("/healthz").await.0, StatusCode::OK);
    fs::write(world.dir.path().join("tls.key"), &other.private_key).unwrap();
    assert!(world.certificates.look().unwrap());
    fs::write(world.authority(), &other.authority).unwrap();
    assert_eq!(world.get("/healthz").await.0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn the_files_are_looked_at_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let write = || self_made::make(vec![NAME.to_owned()], 1).unwrap().write(dir.path()).unwrap();
    write();
    let certificates = open(dir.path()).unwrap();
    let injector = Injector::new(config(), Version { major: 1, minor: 31 });
    let changes = async {
        // Between two looks.
        time::sleep(LOOK_INTERVAL * 5 / 2).await;
        for name in ["ca.crt", "tls.crt", "tls.key"] {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        time::sleep(LOOK_INTERVAL * 2).await;
        write();
        time::sleep(LOOK_INTERVAL * 2).await;
    };
    tokio::select! {
        () = certificates.keep_looking(injector.metrics()) => unreachable!(),
        () = changes => {}
    }
    let metrics = injector.metrics().render();
    let taken = "tollgate_injector_certificates_total{outcome=\"taken\"} 1";
    let refused = "tollgate_injector_certificates_total{outcome=\"refused\"} 2";
    for line in [taken, refused] {
        assert!(metrics.lines().any(|it| it == line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn a_review_that_is_too_long_or_none_is_answered_all_the_same() {
    let world = World::new().await;
    for (request, status) in [
        (post(" ".repeat(4 * 1024 * 1024 + 1)), StatusCode::PAYLOAD_TOO_LARGE),
        (post("no JSON".to_owned()), StatusCode::BAD_REQUEST),
        (
            Request::post("/mutate").body(Full::from("{}")).unwrap(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
    ] {
        let answer = world.send(request).await;
        assert_eq!(answer.status(), status);
        let answer = json(answer).await;
        assert_eq!(answer["kind"], "AdmissionReview");
        assert_eq!(answer["response"]["allowed"], false);
    }
}

#[tokio::test]
async fn probes_and_metrics_are_beside_the_reviews() {
    let world = World::new().await;
    assert_eq!(world.get("/healthz").await.0, StatusCode::OK);
    assert_eq!(world.get("/readyz").await.0, StatusCode::OK);
    world.injector.leave();
    assert_eq!(world.get("/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.get("/healthz").await.0, StatusCode::OK);
    assert_eq!(world.get("/mutate").await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(world.get("/").await.0, StatusCode::NOT_FOUND);
    let (_, metrics) = world.get("/metrics").await;
    // There before anything happened.
    let line = "tollgate_injector_reviews_total{outcome=\"refused\",reason=\"host-network\"} 0";
    assert!(metrics.lines().any(|it| it == line), "{metrics}");
}

#[tokio::test]
async fn a_server_is_asked_for_its_version() {
    let dir = tempfile::tempdir().unwrap();
    self_made::make(vec!["127.0.0.1".to_owned()], 1).unwrap().write(dir.path()).unwrap();
    fs::write(dir.path().join("token"), "word\n").unwrap();
    let acceptor = Arc::new(open(dir.path()).unwrap()).acceptor().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut stream = acceptor.accept(socket.accept().await.unwrap().0).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("GET /version HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("authorization: Bearer word\r\n"), "{head}");
        let body = r#"{"major":"1","minor":"34+"}"#;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let cluster = Cluster {
        address,
        authority: dir.path().join("ca.crt"),
        token: Some(dir.path().join("token")),
    };
    assert_eq!(cluster.version().await.unwrap(), Version { major: 1, minor: 34 });
    tasks.join_next().await.unwrap().unwrap();
    assert!(cluster.version().await.is_err(), "nobody is there any more");
}

/// A body of which nothing ever comes.
struct Silent;

impl Body for Silent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

fn silent() -> Request<Silent> {
    post(String::new()).map(|_| Silent)
}

#[tokio::test(start_paused = true)]
async fn a_review_that_does_not_come_is_answered_in_its_time() {
    let injector = Injector::new(config(), Version { major: 1, minor: 31 });
    let start = time::Instant::now();
    let reply = answer(silent(), &injector).await;
    assert_eq!(reply.status(), StatusCode::REQUEST_TIMEOUT);
    assert_eq!(time::Instant::now() - start, REVIEW_TIMEOUT);
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(review["response"]["allowed"], false);
}

/// Who holds places without saying anything holds them for a time only.
#[tokio::test(start_paused = true)]
async fn reviews_beyond_those_that_are_read_wait_for_a_turn() {
    let injector = Arc::new(Injector::new(config(), Version { major: 1, minor: 31 }));
    let mut idle = JoinSet::new();
    for _ in 0..REVIEWS_MAX {
        let injector = injector.clone();
        idle.spawn(async move { answer(silent(), &injector).await.status() });
    }
    // They are under way, and half of their time has gone.
    time::sleep(REVIEW_TIMEOUT / 2).await;
    let start = time::Instant::now();
    let reply = answer(post(review::review().to_string()), &injector).await;
    assert_eq!(reply.status(), StatusCode::OK);
    assert_eq!(time::Instant::now() - start, REVIEW_TIMEOUT / 2);
    while let Some(status) = idle.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::REQUEST_TIMEOUT);
    }
}
