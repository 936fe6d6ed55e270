//! `tollgate explain`: what would happen to a request, and why. Nothing is sent.
//!
//! The stages of the exchange themselves are asked, over a cache that is empty and a
//! ledger that nobody keeps, so that what is explained is what would be done.

mod page;
mod request;
#[cfg(test)]
mod tests;

use super::{
    Failure, block_on, scratch::Scratch, settings::ConfigFile, unreadable, warn_line, write_text,
};
use crate::{
    app::{self, Parts, Snapshot, with_causes},
    cache::{self, Ask, Consulted, Explained},
    exchange::{ExchangeError, say_scheme},
    head,
    identity::Caller,
    inspect::{self, AskBody, Held, InspectError},
    listener::Peer,
    meter::unix_ms,
    respond,
    route::{self, Route},
};
use bytes::Bytes;
use http::{HeaderValue, header, request as http_request};
use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tollgate_config::{Config, UpstreamTls, WarningKind};
use tollgate_core::class::ClassId;

/// The longest request that is read.
const REQUEST_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Explain what would happen to a request; without one, what the routes do
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tollgate explain -c tollgate.yaml\n  \
    tollgate explain -c tollgate.yaml --request request.http\n  \
    echo '{\"path\":\"/v1/chat/completions\",\"body\":{\"model\":\"gpt-4o\"}}' |\n    \
    tollgate explain -c tollgate.yaml --request -")]
pub(super) struct Explain {
    #[command(flatten)]
    config: ConfigFile,
    /// HTTP/1.1 text or JSON {"method","path","headers","body"}; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    /// Who asks: decides whether claims in headers are believed
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    peer: IpAddr,
    /// The version that the model says it is of, for the key
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    model_version: String,
}

impl Explain {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let source = self.config.source()?.ok_or_else(|| {
            Failure::Input(vec!["no configuration: give -c FILE or TOLLGATE_CONFIG".to_owned()])
        })?;
        let (config, warnings) = source.read()?;
        for warning in warnings.iter().filter(|warning| warning.kind == WarningKind::Missing) {
            warn_line(&warning.to_string());
        }
        let request = match &self.request {
            None => None,
            Some(file) => {
                let text = read(file).map_err(|error| {
                    unreadable(&format!("--request {}", file.display()), &error)
                })?;
                let request = request::read(&text).map_err(|what| {
                    Failure::Input(vec![format!("--request {}: {what}", file.display())])
                })?;
                Some(request)
            }
        };
        let from = From { peer: self.peer, version: self.model_version };
        write_text(&block_on(explain(config, request, from))??);
        Ok(())
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut text = Vec::new();
    if file == Path::new("-") {
        io::stdin().take(REQUEST_BYTES_MAX).read_to_end(&mut text)?;
    } else {
        fs::File::open(file)?.take(REQUEST_BYTES_MAX).read_to_end(&mut text)?;
    }
    Ok(text)
}

/// Who asks, and of which version of the model.
struct From {
    peer: IpAddr,
    version: String,
}

async fn explain(
    config: Config,
    request: Option<(http_request::Parts, Bytes)>,
    from: From,
) -> Result<String, Failure> {
    let scratch = Scratch::new()
        .map_err(|error| Failure::Environment(format!("a temporary directory: {error}")))?;
    // Nothing is to be sent, not even to a store.
    let data_dir = scratch.path().to_owned();
    let mut config = Config { redis: None, memcached: None, data_dir, ..config };
    // So no certificate is needed, and a price file that is missing has been warned of.
    for upstream in &mut config.upstreams {
        upstream.tls = UpstreamTls::default();
    }
    config.prices.files.retain(|file| file.exists());
    let parts = app::parts(Arc::new(config)).await;
    let parts = parts.map_err(|error| Failure::Input(vec![with_causes(&error)]))?;
    let snapshot = parts.snapshot.load_full();
    let Some((head, body)) = request else { return Ok(page::routes(&snapshot)) };
    let asked = format!("{} {}", head.method, head.uri);
    let text = match walk(&parts, &snapshot, head, body, &from).await {
        Ok(way) => page::way(&asked, &snapshot, &way),
        Err(error) => {
            let verdict = respond::verdict(&error);
            page::refusal(&asked, &verdict, &with_causes(&error))
        }
    };
    Ok(text)
}

/// What each stage of the exchange said.
struct Way {
    route: Arc<Route>,
    caller: Caller,
    is_trusted: bool,
    class: ClassId,
    ask: Ask,
    stream: bool,
    /// Until nobody waits for the answer.
    deadline: Duration,
    cache: Cached,
    price: Option<Price>,
}

/// What the cache would do.
enum Cached {
    Bypass(&'static str),
    Keyed(Keyed),
}

struct Keyed {
    explained: Explained,
    tags: Vec<String>,
    /// No answer has said which version it is of.
    version_unknown: bool,
    /// Only what is stored already would be answered.
    only_if_cached: bool,
}

struct Price {
    model: String,
    provider: String,
    charge: Charge,
}

/// In dollars.
enum Charge {
    Request(String),
    /// Per million.
    Tokens {
        input: String,
        output: String,
    },
}

/// The way of `exchange`, up to where something would be sent.
async fn walk(
    parts: &Parts,
    snapshot: &Arc<Snapshot>,
    mut head: http_request::Parts,
    body: Bytes,
    from: &From,
) -> Result<Way, ExchangeError> {
    let peer = Peer::unconnected(from.peer, 0);
    head::check(&mut head, snapshot.headers_max(&peer))?;
    head::strip_hop_by_hop(&mut head.headers);
    let is_trusted = snapshot.trusts(&peer);
    if !is_trusted {
        snapshot.sources.strip_claims(&mut head.headers);
    }
    say_scheme(&mut head.headers, false);
    let path: Arc<str> = Arc::from(&*route::normal_path(&head)?);
    let route = snapshot.routes.choose(&head, &path)?;
    let operation = route.operation(&head.method, &path);
    let caller = snapshot.sources.read(&head.headers, &head.uri)?;
    let class = route.class(&head.headers, &caller);
    let now = Instant::now();
    let total = route.destination.upstream.timeouts.total;
    let deadline = inspect::deadline(&head.headers, now, total).saturating_duration_since(now);

    let limits = snapshot.body_limits(&peer, route);
    let len = crate::body::len_u64(body.len());
    if limits.refuse_above_bytes.is_some_and(|max| len > max) {
        return Err(InspectError::TooLarge.into());
    }
    let is_read = cache::reads_body(route, operation, &head.method);
    let is_held = is_read && len <= limits.hold_bytes_max;
    let body = AskBody::Whole(body, Held::default());
    let ask = cache::ask(parts, route, operation, &path, &head, body);
    let cache = if is_read && !is_held {
        Cached::Bypass("body-too-large")
    } else {
        consult(parts, route, &ask, &mut head, &caller, from).await
    };
    let price = ask.model().and_then(|model| price(parts, model));
    let stream = ask.framing().is_stream();
    let route = route.clone();
    Ok(Way { route, caller, is_trusted, class, ask, stream, deadline, cache, price })
}

async fn consult(
    parts: &Parts,
    route: &Arc<Route>,
    ask: &Ask,
    head: &mut http_request::Parts,
    caller: &Caller,
    from: &From,
) -> Cached {
    let mut consulted = cache::consult(parts, route, ask, head, caller).await;
    let only_if_cached = matches!(consulted, Consulted::NotCached);
    if only_if_cached {
        // It names no key, so the same is asked without that word.
        head.headers.remove(header::CACHE_CONTROL);
        consulted = cache::consult(parts, route, ask, head, caller).await;
    }
    match consulted {
        Consulted::Bypass(why) => Cached::Bypass(why),
        // An empty cache has none; a miss is what is left.
        Consulted::Hit(_) | Consulted::Given(_) | Consulted::Renewed(..) | Consulted::NotCached => {
            Cached::Bypass("none")
        }
        Consulted::Miss(question) => {
            let host = head.headers.get(header::HOST).map(HeaderValue::as_bytes);
            let version_unknown = question.version().is_none() && question.is_shared();
            let version = question.version().map_or(&*from.version, |version| &**version);
            Cached::Keyed(Keyed {
                explained: question.explain(version, host),
                tags: question.tags().iter().map(ToString::to_string).collect(),
                version_unknown,
                only_if_cached,
            })
        }
    }
}

fn price(parts: &Parts, model: &str) -> Option<Price> {
    use tollgate_core::usage::Usage;
    const MILLION: u64 = 1_000_000;
    let prices = parts.meter.prices.load();
    let price = prices.resolve(model, unix_ms())?;
    let of = |usage: Usage| price.cost(&usage).total().to_string();
    Some(Price {
        model: price.model().to_owned(),
        provider: price.provider().to_owned(),
        charge: match price.per_request() {
            Some(fixed) => Charge::Request(fixed.to_string()),
            None => Charge::Tokens {
                input: of(Usage { input: MILLION, ..Usage::default() }),
                output: of(Usage { output: MILLION, ..Usage::default() }),
            },
        },
    })
}
