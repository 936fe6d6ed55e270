//! What would happen to a request, and why: the stages of the exchange are asked themselves, up to
//! where something would be sent.
//!
//! `tollgate explain` asks over an empty cache, `/api/cache/explain` over the one that runs, and
//! [`isolation`](crate::isolation) about callers that it makes up.

pub(crate) mod request;

use crate::{
    app::{Parts, Snapshot},
    cache::{self, Ask, Consulted, Explained, Would},
    exchange::{ExchangeError, clean},
    head,
    identity::Caller,
    inspect::{self, AskBody, Held, InspectError},
    listener::Peer,
    meter::unix_ms,
    route::{self, Claimant, Classed, Route},
};
use bytes::Bytes;
use http::{HeaderValue, header, request as request_head, uri::Scheme};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Who asks, and of which version of the model.
pub(crate) struct From {
    pub(crate) peer: IpAddr,
    pub(crate) version: String,
}

/// What each stage of the exchange said.
pub(crate) struct Way {
    pub(crate) route: Arc<Route>,
    pub(crate) caller: Caller,
    pub(crate) is_trusted: bool,
    pub(crate) class: Classed,
    pub(crate) ask: Ask,
    pub(crate) stream: bool,
    /// Until nobody waits for the answer.
    pub(crate) deadline: Duration,
    pub(crate) cache: Cached,
    pub(crate) price: Option<Price>,
}

/// What the cache would do.
pub(crate) enum Cached {
    Bypass(&'static str),
    Keyed(Keyed),
}

pub(crate) struct Keyed {
    pub(crate) explained: Explained,
    pub(crate) tags: Vec<String>,
    /// No answer has said which version it is of.
    pub(crate) version_unknown: bool,
    /// Only what is stored already would be answered.
    pub(crate) only_if_cached: bool,
}

pub(crate) struct Price {
    pub(crate) model: String,
    pub(crate) provider: String,
    pub(crate) charge: Charge,
}

/// In dollars.
pub(crate) enum Charge {
    Request(String),
    /// Per million.
    Tokens {
        input: String,
        output: String,
    },
}

/// A call as far as the cache.
pub(crate) struct Arrived {
    /// As keys, identity and the upstream see it.
    pub(crate) head: request_head::Parts,
    pub(crate) route: Arc<Route>,
    pub(crate) caller: Caller,
    pub(crate) is_trusted: bool,
    pub(crate) class: Classed,
    pub(crate) deadline: Duration,
    pub(crate) ask: Ask,
    /// False: its body would stream through unread.
    pub(crate) is_held: bool,
}

/// The way of `exchange`, up to the cache.
pub(crate) fn arrive(
    parts: &Parts,
    snapshot: &Arc<Snapshot>,
    mut head: request_head::Parts,
    body: Bytes,
    address: IpAddr,
) -> Result<Arrived, ExchangeError> {
    let mut peer = Peer::unconnected(address, 0);
    // Where the URL is the question, its scheme is a part of it.
    peer.is_tls = head.uri.scheme() == Some(&Scheme::HTTPS);
    head::check(&mut head, snapshot.headers_max(&peer))?;
    clean(&mut head.headers, snapshot, &peer);
    let path: Arc<str> = Arc::from(&*route::normal_path(&head)?);
    let route = snapshot.routes.choose(&head, &path)?;
    let operation = route.operation(&head.method, &path);
    let caller = snapshot.sources.read(&head.headers, &head.uri)?;
    let now = Instant::now();
    let total = route.destination.upstream.timeouts.total;
    let deadline = inspect::deadline(&head.headers, now, total).saturating_duration_since(now);

    let limits = snapshot.body_limits(&peer, route);
    let len = crate::body::len_u64(body.len());
    if limits.refuse_above_bytes.is_some_and(|max| len > max) {
        return Err(InspectError::TooLarge.into());
    }
    let is_read = cache::reads_body(route, operation, &head.method);
    let is_held = !is_read || len <= limits.hold_bytes_max;
    let body = AskBody::Whole(body, Held::default());
    let ask = cache::ask(parts, route, operation, &path, &head, body);
    let is_trusted = snapshot.trusts(&peer);
    let claimant = Claimant::new(&head.headers, &caller, &path, is_trusted);
    let claimant = if is_held { claimant.with_body(ask.body.whole()) } else { claimant };
    let class = route.classed(&claimant);
    let route = route.clone();
    Ok(Arrived { head, route, caller, is_trusted, class, deadline, ask, is_held })
}

/// A call, and what the cache would say to it.
pub(crate) struct Asked {
    pub(crate) route: Arc<Route>,
    pub(crate) caller: Caller,
    pub(crate) would: Would,
}

/// What the cache that runs would say to a call.
pub(crate) async fn ask(
    parts: &Arc<Parts>,
    snapshot: &Arc<Snapshot>,
    head: request_head::Parts,
    body: Bytes,
    address: IpAddr,
) -> Result<Asked, ExchangeError> {
    let arrived = arrive(parts, snapshot, head, body, address)?;
    let Arrived { head, route, caller, ask, is_held, .. } = arrived;
    let would = if is_held {
        cache::peek(parts, &route, &ask, &head, &caller).await
    } else {
        Would::bypass("body-too-large")
    };
    Ok(Asked { route, caller, would })
}

/// And what the cache and the price book say.
pub(crate) async fn walk(
    parts: &Arc<Parts>,
    snapshot: &Arc<Snapshot>,
    head: request_head::Parts,
    body: Bytes,
    from: &From,
) -> Result<Way, ExchangeError> {
    let arrived = arrive(parts, snapshot, head, body, from.peer)?;
    let Arrived { mut head, route, caller, is_trusted, class, deadline, ask, is_held } = arrived;
    let cache = if is_held {
        consult(parts, &route, &ask, &mut head, &caller, from).await
    } else {
        Cached::Bypass("body-too-large")
    };
    let price = ask.model().and_then(|model| price(parts, model));
    let stream = ask.framing().is_stream();
    Ok(Way { route, caller, is_trusted, class, ask, stream, deadline, cache, price })
}

async fn consult(
    parts: &Arc<Parts>,
    route: &Arc<Route>,
    ask: &Ask,
    head: &mut request_head::Parts,
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
