//! Talks to the admin API of a running instance: one call, one connection.

use super::{Failure, settings::ConfigFile, unreadable};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header, uri::Authority};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{
    fmt, fs,
    future::pending,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time,
};
use tollgate_config::{AdminAddress, Environment as _, ProcessEnvironment};

/// Where an instance listens that was not told otherwise.
const DEFAULT: &str = "127.0.0.1:9900";

const DEFAULT_PORT: u16 = 9900;

/// The admin API answers at once; a purge waits for the store that tells the fleet, milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Which instance, and how it knows us.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct AdminAt {
    /// Where it is: http://HOST:PORT or unix:/PATH [default: from -c, else 127.0.0.1:9900]
    #[arg(long = "admin", value_name = "URL")]
    url: Option<String>,
    /// File that holds the admin token [default: from -c, else `TOLLGATE_ADMIN_TOKEN`]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
}

/// An instance that can be called.
pub(super) struct Admin {
    place: Place,
    token: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// A host and a port.
    Tcp(String, u16),
    Unix(PathBuf),
}

impl AdminAt {
    /// It was said where.
    pub(super) fn is_named(&self) -> bool {
        self.url.is_some()
    }

    pub(super) fn has_token_file(&self) -> bool {
        self.token_file.is_some()
    }

    pub(super) fn config(&self) -> ConfigFile {
        self.config.clone()
    }

    /// # Errors
    /// The URL, the configuration or the token file is wrong.
    pub(super) fn find(self) -> Result<Admin, Failure> {
        let config = match self.config.source()? {
            Some(source) => Some(source.read()?.0),
            None => None,
        };
        let place = match (&self.url, &config) {
            (Some(url), _) => Place::parse(url)?,
            (None, Some(config)) => Place::of(&config.admin.address),
            (None, None) => Place::parse(DEFAULT)?,
        };
        let configured = config.and_then(|config| config.admin.token);
        let token = match (&self.token_file, configured) {
            (Some(file), _) => Some(token_in(file)?),
            (None, Some(token)) if !token.is_missing() => Some(token.expose().to_owned()),
            (None, Some(_) | None) => ProcessEnvironment.var("TOLLGATE_ADMIN_TOKEN"),
        };
        Ok(Admin { place, token: token.filter(|token| !token.is_empty()) })
    }
}

/// The one line of a token file.
fn token_in(file: &Path) -> Result<String, Failure> {
    let name = format!("--token-file {}", file.display());
    let text = fs::read_to_string(file).map_err(|error| unreadable(&name, &error))?;
    let token = text.trim();
    if HeaderValue::from_str(token).is_err() {
        let line = format!("{name}: must hold one line, the token, in visible characters");
        return Err(Failure::Input(vec![line]));
    }
    Ok(token.to_owned())
}

impl Place {
    fn parse(url: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::Input(vec![format!("--admin {url:?}: {why}")]);
        if let Some(path) = url.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            let found = path.is_absolute().then_some(Self::Unix(path));
            return found.ok_or_else(|| wrong("must be unix: and an absolute path"));
        }
        if url.starts_with("https://") {
            return Err(wrong("the admin API speaks http; tunnel to it, or use unix:"));
        }
        let rest = url.strip_prefix("http://").unwrap_or(url);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let authority = rest.parse::<Authority>().ok().filter(|it| !it.as_str().contains('@'));
        let authority =
            authority.ok_or_else(|| wrong("use http://HOST:PORT without a path, or unix:/PATH"))?;
        Ok(Self::Tcp(authority.host().to_owned(), authority.port_u16().unwrap_or(DEFAULT_PORT)))
    }

    /// Where the instance of a configuration is found from this machine.
    fn of(address: &AdminAddress) -> Self {
        match address {
            AdminAddress::Unix(path) => Self::Unix(path.clone()),
            AdminAddress::Tcp(address) => {
                let ip = match address.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
                    IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
                    ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
                };
                let shown = SocketAddr::new(ip, address.port()).to_string();
                let host = shown.rsplit_once(':').map_or(&*shown, |(host, _)| host);
                Self::Tcp(host.to_owned(), address.port())
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(f, "http://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Admin {
    /// Calls `path`; the answer's JSON.
    ///
    /// # Errors
    /// Nobody is there (the environment), or what was asked is refused (the input).
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let body = body.map(|body| ("application/json", Bytes::from(body.to_string())));
        self.exchange(method, path, body).await
    }

    /// Sends `list`, a JSON value a line, to `path`; the answer's JSON.
    ///
    /// # Errors
    /// As of [`Self::call`].
    pub(super) async fn send_list(&self, path: &str, list: Bytes) -> Result<Value, Failure> {
        self.exchange(Method::POST, path, Some(("application/x-ndjson", list))).await
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<Value, Failure> {
        let place = &self.place;
        let failed = |why: String| Failure::Environment(format!("{place}: {why}"));
        let request =
            self.request(method, path, body).map_err(|error| failed(error.to_string()))?;
        let answer = time::timeout(PATIENCE, self.send(request)).await;
        let (status, bytes) = answer
            .map_err(|_elapsed| failed(format!("no answer within {} s", PATIENCE.as_secs())))?
            .map_err(failed)?;
        let answer: Option<Value> = serde_json::from_slice(&bytes).ok();
        match (status, answer) {
            (StatusCode::OK | StatusCode::ACCEPTED, Some(answer)) => Ok(answer),
            (StatusCode::OK | StatusCode::ACCEPTED, None) => {
                Err(failed("the answer is no JSON: is it Tollgate?".into()))
            }
            (status, answer) => Err(self.refused(status, answer.as_ref())),
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let host = match &self.place {
            Place::Tcp(host, port) => format!("{host}:{port}"),
            Place::Unix(_) => "localhost".to_owned(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::ACCEPT, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut bytes = Bytes::new();
        if let Some((kind, body)) = body {
            request = request.header(header::CONTENT_TYPE, kind);
            bytes = body;
        }
        request.body(Full::new(bytes))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), String> {
        let unreachable = |error: std::io::Error| {
            format!("{error}; is an instance running there? (--admin URL, or -c FILE)")
        };
        match &self.place {
            Place::Tcp(host, port) => {
                let name = host.trim_start_matches('[').trim_end_matches(']');
                let stream = TcpStream::connect((name, *port)).await.map_err(unreachable)?;
                exchange(stream, request).await
            }
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(unreachable)?;
                exchange(stream, request).await
            }
        }
    }

    fn refused(&self, status: StatusCode, answer: Option<&Value>) -> Failure {
        let place = &self.place;
        let detail = answer.and_then(|answer| answer.get("detail")?.as_str());
        let detail = detail.map(|detail| detail.escape_debug().to_string());
        let line = match (status, detail) {
            (StatusCode::UNAUTHORIZED, _) if self.token.is_none() => {
                format!("{place}: a token is needed: --token-file FILE, or -c FILE that names it")
            }
            (StatusCode::UNAUTHORIZED, _) => format!("{place}: the token is not this instance's"),
            (status, Some(detail)) => format!("{place}: {detail} ({})", status.as_u16()),
            (status, None) => {
                format!("{place}: answered {status}: is it Tollgate's admin address?")
            }
        };
        if status.is_client_error() {
            Failure::Input(vec![line])
        } else {
            Failure::Environment(line)
        }
    }
}

/// One request on a connection of its own.
pub(super) async fn exchange<T>(
    stream: T,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), String>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut send, connection) = handshake.map_err(|error| error.to_string())?;
    let asked = async move {
        let answer = send.send_request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| error.to_string())?;
        Ok((head.status, body.to_bytes()))
    };
    let connection = async move {
        // How it ended, the call itself will tell.
        connection.await.ok();
        pending::<()>().await;
    };
    tokio::select! {
        answer = asked => answer,
        () = connection => Err("the connection ended".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aside::{self, Socket};
    use serde_json::json;
    use tokio_util::{sync::CancellationToken, task::TaskTracker};

    #[track_caller]
    fn check(url: &str, expected: Option<Place>) {
        assert_eq!(Place::parse(url).ok(), expected, "{url}");
    }

    #[test]
    fn an_admin_url_is_a_host_a_port_or_a_socket() {
        let tcp = |host: &str, port| Some(Place::Tcp(host.to_owned(), port));
        check("http://127.0.0.1:9900", tcp("127.0.0.1", 9900));
        check("localhost:1234/", tcp("localhost", 1234));
        check("http://[::1]:7", tcp("[::1]", 7));
        check("example.org", tcp("example.org", 9900));
        check("unix:/run/t.sock", Some(Place::Unix("/run/t.sock".into())));
        check("unix:t.sock", None);
        check("https://x:1", None);
        check("http://x:1/path", None);
        check("http://user@x:1", None);
        check("", None);
    }

    #[test]
    fn an_instance_that_listens_everywhere_is_called_on_loopback() {
        let everywhere = AdminAddress::Tcp("0.0.0.0:9900".parse().unwrap());
        assert_eq!(Place::of(&everywhere).to_string(), "http://127.0.0.1:9900");
        let everywhere = AdminAddress::Tcp("[::]:9900".parse().unwrap());
        assert_eq!(Place::of(&everywhere).to_string(), "http://[::1]:9900");
    }

    /// An instance in a socket of the file system that knows the token `good`.
    async fn answered(token: Option<&str>, path: &str) -> Result<Value, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("admin.sock");
        let socket: Socket = aside::bind_unix(&file).unwrap();
        let (tasks, over) = (TaskTracker::new(), CancellationToken::new());
        let answer = |_, request: Request<hyper::body::Incoming>| async move {
            let token = request.headers().get(header::AUTHORIZATION);
            let problem = |detail| json!({ "detail": detail }).to_string();
            match (token.map(|token| token.as_bytes()), request.uri().path()) {
                (Some(b"Bearer good"), "/odd") => aside::text(StatusCode::OK, "hello"),
                (Some(b"Bearer good"), "/bad") => {
                    aside::text(StatusCode::BAD_REQUEST, problem("tag: empty"))
                }
                (Some(b"Bearer good"), "/busy") => {
                    aside::text(StatusCode::SERVICE_UNAVAILABLE, problem("later"))
                }
                (Some(b"Bearer good"), path) => {
                    aside::text(StatusCode::OK, json!({ "path": path }).to_string())
                }
                _ => aside::text(StatusCode::UNAUTHORIZED, problem("send the token")),
            }
        };
        tasks.spawn(aside::serve(socket, tasks.clone(), over.clone(), answer));
        let admin = Admin { place: Place::Unix(file), token: token.map(str::to_owned) };
        let answer = admin.call(Method::GET, path, None).await;
        over.cancel();
        tasks.close();
        tasks.wait().await;
        answer
    }

    #[tokio::test]
    async fn a_call_over_a_socket_carries_the_token_and_says_what_came() {
        assert_eq!(answered(Some("good"), "/x").await.unwrap(), json!({ "path": "/x" }));
        let Err(Failure::Input(lines)) = answered(Some("good"), "/bad").await else { panic!() };
        assert!(lines[0].ends_with("tag: empty (400)"), "{lines:?}");
        let Err(Failure::Input(lines)) = answered(None, "/x").await else { panic!() };
        assert!(lines[0].contains("a token is needed"), "{lines:?}");
        let Err(Failure::Input(lines)) = answered(Some("bad"), "/x").await else { panic!() };
        assert!(lines[0].contains("not this instance's"), "{lines:?}");
        assert!(matches!(answered(Some("good"), "/busy").await, Err(Failure::Environment(_))));
        assert!(matches!(answered(Some("good"), "/odd").await, Err(Failure::Environment(_))));
    }

    #[test]
    fn a_token_file_that_is_no_token_is_named_as_a_wrong_input() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        for (text, expected) in [
            (Some("good\n"), Ok("good")),
            (Some("good\nbad\n"), Err("one line")),
            (Some("g\u{0}d"), Err("one line")),
            (None, Err("No such file")),
        ] {
            fs::remove_file(&file).ok();
            if let Some(text) = text {
                fs::write(&file, text).unwrap();
            }
            match (token_in(&file), expected) {
                (Ok(token), Ok(expected)) => assert_eq!(token, expected),
                (Err(Failure::Input(lines)), Err(part)) => {
                    assert!(lines[0].contains(part) && lines[0].contains("token:"), "{lines:?}");
                }
                (found, _) => panic!("{text:?}: {found:?}"),
            }
        }
    }

    #[tokio::test]
    async fn nobody_there_is_the_environments_failure() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::Unix(dir.path().join("none.sock"));
        let admin = Admin { place, token: None };
        let Err(Failure::Environment(line)) = admin.call(Method::GET, "/", None).await else {
            panic!()
        };
        assert!(line.contains("is an instance running there"), "{line}");
    }
}
