//! Shows that nobody is given what another's question brought: calls of made-up callers go the real
//! way (head, identity, route, inspection, key, tiers, fill), and every answer that is found is held
//! against what its caller and the one it was made for had sent.
//!
//! The judge (`oracle`) reads the calls as they came, and shares no code with keys or identity.
//! Each of its verdicts is sound: it speaks only where two callers are surely apart, or ask surely
//! not the same. Property tests and the fuzz target `isolation` drive it.
//!
//! An input is a digit that chooses one of `SETTINGS`, then requests as text, divided by lines of
//! `====`; one that begins with `@` comes from a peer that is trusted. Before one that begins with
//! `~` everything that is kept is purged softly, so that it is found past its time.

mod oracle;
#[cfg(test)]
mod tests;

use crate::{
    app::{self, Parts, Snapshot, with_causes},
    body::Body,
    cache::{self, Consulted, Fill, ForOthers, Question, Takes},
    cli::Scratch,
    explain::{self, Arrived, request},
    meter::Bill,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Response, header, response};
use oracle::{Identity, Sent};
use std::{collections::HashMap, net::IpAddr, path::Path, sync::Arc, time::Duration};
use tollgate_cache::{flight::Recording, freshness::Trouble, generations::Target, key::CacheKey};
use tollgate_config::{Overrides, ProcessEnvironment, load};
use tollgate_core::dialect::Operation;

/// Who callers are, in each laboratory.
const SETTINGS: [(&str, Identity); 3] = [
    ("", Identity::Credential),
    (
        "identity: { tenant: { header: x-tenant }, user: { header: x-user } }\n",
        Identity::Header("x-tenant"),
    ),
    (
        "identity: { tenant: { api_key: { header: x-key } }, user: { header: x-user } }\n",
        Identity::Header("x-key"),
    ),
];

const CONFIGURATION: &str = "
listeners: [{ address: '127.0.0.1:0', trusted: [10.0.0.0/8] }]
upstreams:
  model:
    endpoints: [{ url: 'http://127.0.0.1:1' }]
    model_version: { from: static, value: '1' }
cache: { memory: { size: 16MiB }, disk: { size: 16MiB } }
prices: { book: none }
routes:
  - { name: user, match: { headers: { x-route: user } }, upstream: model, cache: { mode: content, scope: user, stale: { while_revalidate: 1h } } }
  - { name: shared, match: { headers: { x-route: shared } }, upstream: model, cache: { mode: content, scope: shared, stale: { if_error: 1h, degrade: 1h } } }
  - { name: http, match: { headers: { x-route: http } }, upstream: model, cache: { mode: http } }
  - { name: disk, match: { headers: { x-route: disk } }, upstream: model, cache: { mode: content, tiers: [disk], writes: through } }
  - name: ruled
    match: { headers: { x-route: ruled } }
    upstream: model
    cache:
      mode: content
      key: { ignore: [/user], include_headers: [x-flavour], versions: { kb: { header: x-kb } } }
  - name: named
    match: { headers: { x-route: named } }
    upstream: model
    dialect: http
    cache: { mode: content, key: { of: [body./messages, header.x-app] } }
  - { name: sealed, match: { headers: { x-route: sealed } }, upstream: model, cache: { mode: content, forward: keyed, key: { include_headers: [x-flavour] } } }
  - { name: sealed-user, match: { headers: { x-route: sealed-user } }, upstream: model, cache: { mode: content, scope: user, forward: keyed } }
  - { name: sealed-shared, match: { headers: { x-route: sealed-shared } }, upstream: model, cache: { mode: content, scope: shared, forward: keyed } }
  - { name: sealed-bytes, match: { headers: { x-route: sealed-bytes } }, upstream: model, dialect: http, cache: { mode: content, forward: keyed } }
  - { name: sealed-http, match: { headers: { x-route: sealed-http } }, upstream: model, cache: { mode: http, forward: keyed } }
  - { name: bytes, match: { headers: { x-route: bytes } }, upstream: model, dialect: http, cache: { mode: content } }
  - { name: tenant, upstream: model, cache: { mode: content, stale: { while_revalidate: 1h, if_error: 1h } } }
";

/// After so many calls what is kept is purged, and must not be found again.
const CALLS_MAX: usize = 2_000;
const KEPT: &str = "max-age=600, stale-while-revalidate=600, stale-if-error=600";
/// What stands before the number of the call that an answer was made for.
const MADE_FOR: &str = "\"id\":\"lab-";

/// Proxies without a network, each with its own rule of who is asking, and all that was asked.
#[derive(Debug)]
pub struct Laboratory {
    runtime: tokio::runtime::Runtime,
    labs: Vec<Lab>,
    /// Answers that were found, and calls that were not answered.
    pub hits: u64,
    pub misses: u64,
}

#[derive(Debug)]
struct Lab {
    identity: Identity,
    parts: Arc<Parts>,
    calls: HashMap<usize, Arc<Sent>>,
    /// Who leads the flights that there would be.
    flights: HashMap<CacheKey, Arc<Sent>>,
    /// And of those for URLs, with what their answers are to others.
    url_flights: HashMap<CacheKey, (Arc<Sent>, Option<Arc<ForOthers>>)>,
    /// With which head a key was asked for, on routes that forward only what is keyed.
    sealed: HashMap<CacheKey, HeaderMap>,
    next: usize,
    _dir: Scratch,
}

impl Laboratory {
    /// # Errors
    /// What of it could not be set up.
    pub fn new() -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let labs = SETTINGS.iter().map(|(text, identity)| {
            runtime.block_on(Lab::new(&format!("{text}{CONFIGURATION}"), *identity))
        });
        let labs = labs.collect::<Result<_, _>>()?;
        Ok(Self { runtime, labs, hits: 0, misses: 0 })
    }

    /// Asks what `input` says, one request after the other.
    ///
    /// # Panics
    /// Somebody was given an answer that was made for another, or for another question.
    pub fn assert_no_answer_crosses(&mut self, input: &[u8]) {
        let (first, text) = input.split_first().unwrap_or((&b'0', b""));
        let place = usize::from(first.wrapping_sub(b'0')) % self.labs.len().max(1);
        let Some(lab) = self.labs.get_mut(place) else { return };
        for text in split(text) {
            let text = match text.strip_prefix(b"~") {
                Some(text) => {
                    self.runtime.block_on(lab.parts.cache.tiers.purge_softly(Target::All));
                    text
                }
                None => text,
            };
            let (text, address) = match text.strip_prefix(b"@") {
                Some(text) => (text, IpAddr::from([10, 0, 0, 1])),
                None => (text, IpAddr::from([192, 0, 2, 1])),
            };
            let Ok((head, body)) = request::read(text) else { continue };
            match self.runtime.block_on(lab.ask(head, body, address)) {
                Some(true) => self.hits += 1,
                Some(false) => self.misses += 1,
                None => {}
            }
        }
    }
}

fn split(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    const DIVIDER: &[u8] = b"\n====\n";
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let place = text.windows(DIVIDER.len()).position(|window| window == DIVIDER);
        let (one, after) = match place {
            Some(place) => (text.get(..place), text.get(place + DIVIDER.len()..)),
            None => (Some(text), None),
        };
        rest = after;
        one
    })
}

impl Lab {
    async fn new(text: &str, identity: Identity) -> Result<Self, String> {
        let dir = Scratch::new().map_err(|error| error.to_string())?;
        let loaded = load(text, Path::new("."), &Overrides::default(), &ProcessEnvironment);
        let (mut config, _) = loaded.map_err(|problems| {
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        })?;
        config.data_dir = dir.path().to_owned();
        let parts = app::parts(Arc::new(config)).await.map_err(|error| with_causes(&error))?;
        let parts = Arc::new(parts);
        let (calls, flights, url_flights) = (HashMap::new(), HashMap::new(), HashMap::new());
        let (sealed, next) = (HashMap::new(), 0);
        Ok(Self { identity, parts, calls, flights, url_flights, sealed, next, _dir: dir })
    }

    /// Whether the cache had an answer; `None`: it had nothing to do with the call.
    async fn ask(
        &mut self,
        head: http::request::Parts,
        body: Bytes,
        address: IpAddr,
    ) -> Option<bool> {
        if self.calls.len() >= CALLS_MAX {
            self.parts.cache.tiers.purge(Target::All).await;
            self.calls.clear();
            self.flights.clear();
            self.url_flights.clear();
            self.sealed.clear();
        }
        let snapshot: Arc<Snapshot> = self.parts.snapshot.load_full();
        let as_sent = (head.clone(), body.clone());
        let arrived = explain::arrive(&self.parts, &snapshot, head, body, address).ok()?;
        let Arrived { head, route, caller, is_trusted, ask, .. } = arrived;
        let sent = Arc::new(Sent::new(self.identity, is_trusted, &route.name, as_sent));
        match cache::consult(&self.parts, &route, &ask, &head, &caller).await {
            Consulted::Hit(hit) => self.judge(&hit.entry().body, &sent),
            Consulted::Given(given) => self.judge(given.body(), &sent),
            Consulted::Renewed(instead, question) => {
                self.judge(instead.body(), &sent);
                self.seal(&question, head.headers, ask.operation);
                self.answer(question, sent).await;
            }
            Consulted::Miss(question) => {
                self.seal(&question, head.headers, ask.operation);
                self.answer(question, sent).await;
                return Some(false);
            }
            Consulted::Bypass(_) | Consulted::NotCached => return None,
        }
        Some(true)
    }

    #[expect(clippy::panic, reason = "the report of a property, never called by the proxy")]
    fn judge(&self, body: &[u8], sent: &Sent) {
        // Of a part of an answer, or of the word that the caller has it, nobody can tell.
        let Some(number) = made_for(body) else { return };
        let Some(stored) = self.calls.get(&number) else {
            panic!("an answer outlived its purge, found by {sent:#?}");
        };
        if let Some(why) = oracle::apart(stored, sent) {
            panic!("{why}: the answer of {stored:#?}\nwas given to {sent:#?}");
        }
    }

    /// Where only what is keyed goes on, one key is asked for with one head.
    #[expect(clippy::panic, reason = "the report of a property, never called by the proxy")]
    fn seal(&mut self, question: &Question, mut headers: HeaderMap, operation: Operation) {
        if question.forwards_all() {
            return;
        }
        question.sends().keep(&mut headers, operation);
        let before = self.sealed.entry(question.key).or_insert_with(|| headers.clone());
        if *before != headers {
            panic!("one key is asked for with {before:?}\nand with {headers:?}");
        }
    }

    /// As an upstream would, in whatever order it likes.
    #[expect(clippy::panic, reason = "the report of a property, never called by the proxy")]
    async fn answer(&mut self, mut question: Box<Question>, sent: Arc<Sent>) {
        if question.is_shared() {
            let flight = question.flight_key(&self.parts);
            let leader = self.flights.entry(flight).or_insert_with(|| sent.clone());
            // A follower sees the head first, and goes alone where that says it must.
            let follows = question.binds_all(&answer_head(leader).headers);
            if let Some(why) = oracle::apart(leader, &sent).filter(|_| follows) {
                panic!("{why}: the flight of {leader:#?}\nwould take along {sent:#?}");
            }
        }
        let url_flight = question.url_flight(&self.parts);
        if let Some((leader, others)) = url_flight.and_then(|key| self.url_flights.get(&key)) {
            let takes = question.takes(&self.parts, others.as_deref());
            if let Some(why) = oracle::apart(leader, &sent).filter(|_| takes == Takes::All) {
                panic!("{why}: the answer to {leader:#?}\nwould be taken by {sent:#?}");
            }
        }
        let number = self.next;
        self.next += 1;
        let body = format!(
            "{{{MADE_FOR}{number}\",\"object\":\"chat.completion\",\"model\":\"m\",\"choices\":[{{\"index\":0,\
             \"finish_reason\":\"stop\",\"message\":{{\"role\":\"assistant\",\"content\":\"x\"}}}}]}}"
        );
        self.calls.insert(number, sent.clone());
        let fill = Fill::new(&self.parts, question);
        let spare = fill.spare();
        for trouble in [Trouble::Upstream, Trouble::Shed] {
            let instead = spare.as_ref().and_then(|spare| spare.instead_of(trouble));
            instead.iter().for_each(|instead| self.judge(instead.body(), &sent));
        }
        let fill = fill.answered(&answer_head(&sent));
        if let Some(key) = url_flight {
            let others = fill.as_ref().and_then(|fill| fill.others(None));
            self.url_flights.entry(key).or_insert_with(|| (sent.clone(), others));
        }
        let recording =
            Recording { body: Bytes::copy_from_slice(body.as_bytes()), ends: Vec::new() };
        let arrival =
            fill.and_then(|fill| fill.store(recording, &Bill::default(), Duration::from_millis(1)));
        if let Some(arrival) = arrival {
            arrival.wait().await;
        }
    }
}

/// The head of an answer that says to depend on what its request names in `x-vary`.
fn answer_head(sent: &Sent) -> response::Parts {
    let mut answer = Response::new(Body::empty());
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static(KEPT));
    if let Some(vary) = sent.headers.get(HeaderName::from_static("x-vary")) {
        headers.insert(header::VARY, vary.clone());
    }
    answer.into_parts().0
}

fn made_for(body: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, after) = text.split_once(MADE_FOR)?;
    after.split_once('"')?.0.parse().ok()
}
