//! The administrator's side: what the process is doing, and a few things to tell it.
//!
//! JSON under `/api`, the console at `/`, and the probes that the telemetry address has.
//! [`ENDPOINTS`] is the whole API: requests are matched against it, and a test holds it
//! against the OpenAPI document, so that neither says what the other does not.
//!
//! ```text
//!  request ─▶ guard: for us? ─▶ probes, login page ─▶ guard: known? ─▶ console, API ─▶ hardened answer
//! ```

mod control;
mod entries;
mod explain;
mod forecast;
mod guard;
mod problem;
mod purge;
mod query;
mod queue;
mod reading;
mod state;
mod tries;
mod usage;
mod warm;
mod webhook;

#[cfg(test)]
mod tests;

pub(crate) use self::{
    control::ConfigSource,
    guard::{Session, is_token, session_cookie},
    problem::{CHALLENGE, Problem, whole_seconds},
    query::Query,
    reading::read_ledger,
    tries::{Judged, Tries},
    usage::report_query,
};

use crate::{
    app::Parts,
    aside::{self, Answer, PeerIp},
    console, telemetry,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header, request};
use http_body::Body;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::Value;
use std::{error::Error, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time};
use tokio_util::sync::CancellationToken;
use tollgate_config::Config;

/// The longest body: an order is a line of JSON.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Who sends a body more slowly than this is not waited for.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

const OPENAPI: &str = include_str!("admin/openapi.json");

/// What the admin side keeps while the process runs.
#[derive(Debug)]
pub(crate) struct AdminParts {
    /// Reads of the ledger that may run at one time.
    ledger_reads: Arc<Semaphore>,
    /// Somebody asked, over HTTP, for the drain that a signal would begin.
    pub(crate) drain_asked: CancellationToken,
    /// Where the configuration can be read again.
    pub(crate) source: std::sync::OnceLock<ConfigSource>,
    /// Wrong tokens of the last minute.
    tries: Tries,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Purge,
    Warm,
    Refresh,
    Event,
    WarmRuns,
    CacheStats,
    Entries,
    PutEntry,
    Explain,
    ExplainRecord,
    Usage,
    Records,
    Queue,
    Upstreams,
    Forecast,
    Announce,
    Config,
    Reload,
    Drain,
    OpenApi,
}

/// Every endpoint of the API. A GET is a HEAD too.
const ENDPOINTS: [(&str, &str, Endpoint); 20] = [
    ("POST", "/api/cache/purge", Endpoint::Purge),
    ("POST", "/api/cache/warm", Endpoint::Warm),
    ("GET", "/api/cache/warm", Endpoint::WarmRuns),
    ("POST", "/api/cache/refresh", Endpoint::Refresh),
    ("POST", webhook::PATH, Endpoint::Event),
    ("GET", "/api/cache/stats", Endpoint::CacheStats),
    ("GET", "/api/cache/entries", Endpoint::Entries),
    ("PUT", "/api/cache/entries", Endpoint::PutEntry),
    ("POST", "/api/cache/explain", Endpoint::Explain),
    ("GET", "/api/cache/explain", Endpoint::ExplainRecord),
    ("GET", "/api/usage", Endpoint::Usage),
    ("GET", "/api/usage/records", Endpoint::Records),
    ("GET", "/api/queue", Endpoint::Queue),
    ("GET", "/api/upstreams", Endpoint::Upstreams),
    ("GET", "/api/forecast", Endpoint::Forecast),
    ("POST", "/api/forecast/events", Endpoint::Announce),
    ("GET", "/api/config", Endpoint::Config),
    ("POST", "/api/config/reload", Endpoint::Reload),
    ("POST", "/api/drain", Endpoint::Drain),
    ("GET", "/api/openapi.json", Endpoint::OpenApi),
];

/// What will be here one day. Refused by name, never called unknown.
const LATER: [&str; 2] = ["/api/budgets", "/api/recommendations"];

/// A request whose body has been read.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) head: request::Parts,
    pub(crate) body: Bytes,
}

impl Default for AdminParts {
    fn default() -> Self {
        Self {
            ledger_reads: Arc::new(Semaphore::new(reading::READS_MAX)),
            drain_asked: CancellationToken::new(),
            source: std::sync::OnceLock::new(),
            tries: Tries::default(),
        }
    }
}

/// Answers a request on the admin address.
pub(crate) async fn answer<B>(parts: Arc<Parts>, from: PeerIp, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let config = parts.snapshot.load().config.clone();
    let mut answer = serve(&parts, &config, from, request).await.unwrap_or_else(Answer::from);
    guard::harden(answer.headers_mut());
    answer
}

async fn serve<B>(
    parts: &Arc<Parts>,
    config: &Config,
    from: PeerIp,
    request: Request<B>,
) -> Result<Answer, Problem>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    guard::check_origin(&config.admin, &head)?;
    if let Some(answer) = telemetry::probe(parts, &head).await {
        return Ok(answer);
    }
    let path = head.uri.path();
    if path == "/login" && head.method == Method::POST {
        let ask = Ask { body: read(body).await?, head };
        return Ok(console::log_in(&config.admin, &parts.admin.tries, from, &ask));
    }
    if path == "/console.css" && reads(&head.method) {
        return Ok(console::style());
    }
    let is_webhook = webhook::is_known(parts, from, &head)?;
    let known = || guard::check_known(&config.admin, &parts.admin.tries, from, &head);
    if !is_webhook && let Err(problem) = known() {
        let is_stranger = problem.status == StatusCode::UNAUTHORIZED;
        return match path {
            "/" if is_stranger && reads(&head.method) => Ok(console::login_page(None)),
            _ => Err(problem),
        };
    }
    if let Some(answer) = console::answer(parts, config, &head).await {
        return answer;
    }
    let endpoint = find(&head.method, path)?;
    let ask = if matches!(head.method, Method::POST | Method::PUT) {
        if !is_webhook {
            guard::check_json(&head)?;
        }
        Ask { body: read_within(body, endpoint.body_bytes_max()).await?, head }
    } else {
        Ask { head, body: Bytes::new() }
    };
    run(parts, config, endpoint, &ask).await
}

/// The endpoint that is meant.
fn find(method: &Method, path: &str) -> Result<Endpoint, Problem> {
    let mut allowed = None;
    for (own, at, endpoint) in &ENDPOINTS {
        let is_meant = *at == path || *endpoint == Endpoint::Event && webhook::name(path).is_some();
        if is_meant {
            if *own == method.as_str() || *own == "GET" && method == Method::HEAD {
                return Ok(*endpoint);
            }
            allowed = Some(match (allowed, *own) {
                (None, own) => own,
                (Some(_), "PUT") => "GET, PUT",
                (Some(_), _) => "GET, POST",
            });
        }
    }
    match allowed {
        Some(own) => Err(Problem::method_not_allowed(own)),
        None if LATER.contains(&path) => Err(Problem::not_found("not in this version")),
        None => Err(Problem::not_found("no such endpoint; /api/openapi.json lists all")),
    }
}

async fn run(
    parts: &Arc<Parts>,
    config: &Config,
    endpoint: Endpoint,
    ask: &Ask,
) -> Result<Answer, Problem> {
    let query = |known: &'static [&'static str]| Query::parse(ask.head.uri.query(), known);
    Ok(match endpoint {
        Endpoint::Purge => {
            query(&[])?;
            json(StatusCode::OK, &purge::purge(parts, &ask.body).await?)
        }
        Endpoint::Warm | Endpoint::Refresh => {
            query(&[])?;
            let refresh = endpoint == Endpoint::Refresh;
            json(StatusCode::ACCEPTED, &warm::begin(parts, ask.body.clone(), refresh)?)
        }
        Endpoint::Event => {
            query(&[])?;
            json(StatusCode::OK, &webhook::hear(parts, ask.head.uri.path(), &ask.body).await?)
        }
        Endpoint::WarmRuns => {
            query(&[])?;
            json(StatusCode::OK, &warm::runs(parts))
        }
        Endpoint::CacheStats => {
            query(&[])?;
            json(StatusCode::OK, &state::cache(parts, config))
        }
        Endpoint::Entries => {
            json(StatusCode::OK, &entries::list(parts, &query(entries::LIST_QUERY)?).await?)
        }
        Endpoint::PutEntry => {
            let query = query(entries::PUT_QUERY)?;
            json(StatusCode::OK, &entries::put(parts, ask, &query).await?)
        }
        Endpoint::Explain => {
            let query = query(explain::REQUEST_QUERY)?;
            json(StatusCode::OK, &explain::request(parts, ask, &query).await?)
        }
        Endpoint::ExplainRecord => {
            json(StatusCode::OK, &explain::record(parts, &query(explain::RECORD_QUERY)?)?)
        }
        Endpoint::Usage => usage::sums(parts, config, query(usage::SUMS_QUERY)?).await?,
        Endpoint::Records => usage::records(parts, query(usage::RECORDS_QUERY)?).await?,
        Endpoint::Queue => {
            query(&[])?;
            json(StatusCode::OK, &queue::queue(parts))
        }
        Endpoint::Upstreams => {
            query(&[])?;
            json(StatusCode::OK, &state::upstreams(parts))
        }
        Endpoint::Forecast | Endpoint::Announce => {
            query(&[])?;
            json(StatusCode::OK, &forecast::answer(parts, ask).await?)
        }
        Endpoint::Config => {
            query(&[])?;
            json(StatusCode::OK, &tollgate_config::redacted(config))
        }
        Endpoint::Reload => {
            query(&[])?;
            json(StatusCode::OK, &control::reload(parts, &ask.body).await?)
        }
        Endpoint::Drain => {
            query(&[])?;
            json(StatusCode::ACCEPTED, &control::drain(parts, config, &ask.body)?)
        }
        Endpoint::OpenApi => {
            query(&[])?;
            aside::with_type(StatusCode::OK, "application/json", OPENAPI)
        }
    })
}

impl Endpoint {
    fn body_bytes_max(self) -> usize {
        match self {
            Self::Warm | Self::Refresh => warm::LIST_BYTES_MAX,
            Self::Event => webhook::BYTES_MAX,
            Self::Explain => explain::REQUEST_BYTES_MAX,
            Self::PutEntry => entries::PUT_BYTES_MAX,
            Self::Purge
            | Self::WarmRuns
            | Self::CacheStats
            | Self::Entries
            | Self::ExplainRecord
            | Self::Usage
            | Self::Records
            | Self::Queue
            | Self::Upstreams
            | Self::Forecast
            | Self::Announce
            | Self::Config
            | Self::Reload
            | Self::Drain
            | Self::OpenApi => BODY_BYTES_MAX,
        }
    }
}

async fn read<B>(body: B) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    read_within(body, BODY_BYTES_MAX).await
}

async fn read_within<B>(body: B, bytes_max: usize) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let body = Limited::new(body, bytes_max).collect();
    match time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is longer than {bytes_max} bytes"),
        )),
        Ok(Err(error)) => Err(Problem::bad(format!("the body broke off: {error}"))),
        Err(_elapsed) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body came too slowly")),
    }
}

fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

fn json(status: StatusCode, value: &Value) -> Answer {
    aside::with_type(status, "application/json", value.to_string() + "\n")
}

/// A redirection to the console.
pub(crate) fn see_console() -> Answer {
    let mut answer = aside::text(StatusCode::SEE_OTHER, "see /\n");
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/"));
    answer
}
