//! Asks the cache, and tells it what came: the exchange's side of `tollgate-cache`.
//!
//! A body is digested once by its bytes; what it was found to ask (canonical form,
//! model, whether it streams) is remembered under that digest, so that a byte-identical
//! repeat never parses JSON.

mod answer;
mod explain;
mod fill;
mod http_mode;
mod note;
mod question;

pub(crate) use self::{
    answer::{Hit, respond},
    explain::Explained,
    fill::{Arrival, Fill, keep_shareable},
    http_mode::{Asked, Given, Holds, Next, after, posted},
    note::{decode_bill, encode_bill},
    question::Question,
};

use self::question::Asking;

use crate::{
    app::Parts,
    exchange::Fetch,
    identity::{Caller, Tenant},
    inspect::{self, AskBody},
    meter::unix_ms,
    metrics::TierLabel,
    route::Route,
};
use bytes::Bytes;
use http::{HeaderMap, Method, request};
use std::{borrow::Cow, sync::Arc};
use tokio::time::Instant;
use tollgate_cache::{
    cache_control::RequestControl,
    canonical::{Bounds, canonicalise},
    key::{BodyDigest, CacheKey, Check, Scope},
    memo::RawDigest,
    shared::Turn,
    tiers::{Found, TierName},
    versions::Current,
};
use tollgate_config::{CacheMode, Scope as ScopeRule};
use tollgate_core::{
    dialect::{Dialect, Framing, Operation},
    form,
};

/// A version that no upstream can say: the key of flights before the first answer.
const VERSION_UNKNOWN: &str = "\0unknown";

const QUERY_METHOD: &str = "QUERY";

/// How a call may be cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Content,
    Http,
    Off,
}

/// What a body was found to ask.
#[derive(Debug)]
pub(crate) struct Known {
    digest: Result<BodyDigest, &'static str>,
    pub(crate) model: Option<Arc<str>>,
    pub(crate) framing: Framing,
    /// Where the path is form too: the path without it.
    key_path: Option<Arc<str>>,
    /// The caller asked for usage in its stream.
    pub(crate) include_usage: bool,
}

/// What a call asks.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) operation: Operation,
    pub(crate) path: Arc<str>,
    pub(crate) body: AskBody,
    pub(crate) known: Option<Arc<Known>>,
    mode: Mode,
}

impl Ask {
    pub(crate) fn model(&self) -> Option<&Arc<str>> {
        self.known.as_ref()?.model.as_ref()
    }

    pub(crate) fn bytes_in(&self) -> u64 {
        match &self.body {
            AskBody::Whole(bytes, _) => crate::body::len_u64(bytes.len()),
            AskBody::Streamed { .. } => 0,
        }
    }

    /// How the answer is wanted.
    pub(crate) fn framing(&self) -> Framing {
        self.known.as_ref().map_or(Framing::Whole, |known| known.framing)
    }

    /// The path as the key has it.
    fn key_path(&self) -> &Arc<str> {
        self.known.as_ref().and_then(|known| known.key_path.as_ref()).unwrap_or(&self.path)
    }

    /// The caller did not ask for the usage chunk that its stream will have.
    pub(crate) fn hides_usage(&self) -> bool {
        let chunked =
            matches!(self.operation, Operation::OpenAiChat | Operation::OpenAiCompletions);
        let silent = |known: &Arc<Known>| known.framing.is_stream() && !known.include_usage;
        chunked && self.known.as_ref().is_some_and(silent)
    }
}

/// What the cache says to a call.
#[derive(Debug)]
pub(crate) enum Consulted {
    Hit(Hit),
    /// What the URL's stored answer comes to for this caller.
    Given(Box<Given>),
    /// The same, and the stored answer is to be renewed beside it.
    Stale(Box<Given>, Box<Question>),
    Miss(Box<Question>),
    /// The cache has nothing to do with this call, and why.
    Bypass(&'static str),
    /// Only a cached answer was wanted.
    NotCached,
}

impl Route {
    pub(crate) fn mode(&self, operation: Operation, method: &Method) -> Mode {
        // Only where it was written out: what no dialect lists may have effects.
        let keyed_by_route = self.config.dialect == Some(Dialect::Http)
            && (method == Method::POST || method.as_str() == QUERY_METHOD);
        match self.config.cache.mode {
            CacheMode::Off => Mode::Off,
            CacheMode::Http => Mode::Http,
            CacheMode::Auto if operation.is_pure() => Mode::Content,
            CacheMode::Auto => Mode::Http,
            CacheMode::Content if operation.is_pure() || keyed_by_route => Mode::Content,
            CacheMode::Content => Mode::Off,
        }
    }
}

/// Whether a call's body is read before it is sent on.
pub(crate) fn reads_body(route: &Route, operation: Operation, method: &Method) -> bool {
    inspect::is_known(operation) || route.mode(operation, method) == Mode::Content
}

/// Finds out what `body` asks, or remembers it.
pub(crate) fn ask(
    parts: &Parts,
    route: &Arc<Route>,
    operation: Operation,
    path: &Arc<str>,
    head: &request::Parts,
    body: AskBody,
) -> Ask {
    let mode = route.mode(operation, &head.method);
    let asked = Address { operation, path, query: head.uri.query() };
    let known = match &body {
        AskBody::Whole(bytes, _) if mode == Mode::Content => {
            let raw = RawDigest::of(bytes);
            let context = asked.context();
            Some(parts.cache.memo.recall(&raw, context).unwrap_or_else(|| {
                let known = Arc::new(asked.know(bytes, true));
                parts.cache.memo.remember(raw, context, known.clone());
                known
            }))
        }
        AskBody::Whole(bytes, _) if inspect::is_known(operation) => {
            Some(Arc::new(asked.know(bytes, false)))
        }
        AskBody::Streamed { .. } if operation.is_said_in_path() => Some(Arc::new(asked.unread())),
        AskBody::Whole(..) | AskBody::Streamed { .. } => None,
    };
    Ask { operation, path: path.clone(), body, known, mode }
}

/// What of a question is not in its body.
#[derive(Clone, Copy, Debug)]
struct Address<'a> {
    operation: Operation,
    path: &'a str,
    query: Option<&'a str>,
}

impl Address<'_> {
    /// What is remembered of a body depends on the operation it was read for, and on the
    /// path where that says the model or the form.
    fn context(&self) -> u64 {
        let context = operation_context(self.operation);
        if !self.operation.is_said_in_path() {
            return context;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&context.to_le_bytes());
        // The query says the form only.
        hasher.update(self.framing(false).content_type().as_bytes());
        hasher.update(self.path.as_bytes());
        let digest = hasher.finalize();
        u64::from_le_bytes(digest.as_bytes().first_chunk().copied().unwrap_or_default())
    }

    fn framing(&self, stream: bool) -> Framing {
        self.operation.framing(self.path, self.query, stream)
    }

    fn model(&self) -> Option<&str> {
        let model = self.operation.model_in_path(self.path);
        model.filter(|model| model.len() <= form::MODEL_LEN_MAX)
    }

    /// What is known without the body.
    fn unread(&self) -> Known {
        Known {
            digest: Err("body-too-large"),
            model: self.model().map(Arc::from),
            framing: self.framing(false),
            key_path: None,
            include_usage: false,
        }
    }

    fn know(&self, bytes: &Bytes, keyed: bool) -> Known {
        let operation = self.operation;
        if operation == Operation::Other {
            return Known { digest: Ok(BodyDigest::of(bytes)), ..self.unread() };
        }
        let Ok(facts) = form::read_request(operation, bytes) else {
            return Known { digest: Err("not-json"), ..self.unread() };
        };
        let digest = if !facts.is_pure() || !keyed {
            Err("not-pure")
        } else {
            canonicalise(bytes, operation.form_members(), Bounds::default())
                .map(|canonical| BodyDigest::of(&canonical))
                .map_err(|error| error.reason())
        };
        let key_path = match operation.key_path(self.path) {
            Cow::Borrowed(_) => None,
            Cow::Owned(path) => Some(Arc::from(path)),
        };
        Known {
            digest,
            model: self.model().or(facts.model.as_deref()).map(Arc::from),
            framing: self.framing(facts.stream),
            key_path,
            include_usage: facts.include_usage,
        }
    }
}

/// A number for every operation, for good.
fn operation_context(operation: Operation) -> u64 {
    match operation {
        Operation::OpenAiChat => 1,
        Operation::OpenAiCompletions => 2,
        Operation::OpenAiResponses => 3,
        Operation::OpenAiEmbeddings => 4,
        Operation::OpenAiModerations => 5,
        Operation::OpenAiRerank => 6,
        Operation::AnthropicMessages => 7,
        Operation::AnthropicCountTokens => 8,
        Operation::Other => 9,
        Operation::GeminiGenerate => 10,
        Operation::GeminiCountTokens => 11,
        Operation::GeminiEmbed => 12,
        Operation::OllamaChat => 13,
        Operation::OllamaGenerate => 14,
        Operation::OllamaEmbed => 15,
        Operation::CohereChat => 16,
        Operation::CohereEmbed => 17,
        Operation::CohereRerank => 18,
        Operation::TgiGenerate => 19,
        Operation::TgiRoot => 20,
    }
}

/// Asks the tiers.
pub(crate) async fn consult(
    parts: &Parts,
    route: &Arc<Route>,
    ask: &Ask,
    head: &request::Parts,
    caller: &Caller,
) -> Consulted {
    let consulted = match ask.mode {
        Mode::Off if route.config.cache.mode == CacheMode::Off => Consulted::Bypass("off"),
        Mode::Off => Consulted::Bypass("not-pure"),
        // On the heap: it is several look-ups long, and every call would carry that.
        Mode::Http => Box::pin(http_mode::consult(parts, route, ask, head, caller)).await,
        Mode::Content => content(parts, route, ask, head, caller).await,
    };
    // Whatever keeps a call from the cache, its caller may want nothing else (RFC 9111 §5.2.1.7).
    if matches!(consulted, Consulted::Bypass(_)) && wishes(&head.headers).only_if_cached {
        return Consulted::NotCached;
    }
    consulted
}

async fn content(
    parts: &Parts,
    route: &Arc<Route>,
    ask: &Ask,
    head: &request::Parts,
    caller: &Caller,
) -> Consulted {
    let Some(known) = &ask.known else { return Consulted::Bypass("body-too-large") };
    let digest = match &known.digest {
        Ok(digest) => digest,
        Err(why) => return Consulted::Bypass(why),
    };
    let rule = route.config.cache.scope;
    if rule != ScopeRule::Shared && caller.tenant_configured && caller.tenant == Tenant::Anonymous {
        return Consulted::Bypass("anonymous");
    }
    let scope = match (rule, &caller.user) {
        (ScopeRule::Shared, _) => Scope::Shared,
        (ScopeRule::Tenant, _) => Scope::Tenant(caller.tenant.as_str()),
        (ScopeRule::User, None) => return Consulted::Bypass("no-user"),
        (ScopeRule::User, Some(user)) => {
            Scope::User { tenant: caller.tenant.as_str(), user: user.to_str().unwrap_or_default() }
        }
    };
    let wish = wishes(&head.headers);
    if wish.no_store {
        return Consulted::Bypass("no-store");
    }
    let model = known.model.as_deref().unwrap_or_default();
    let version = current_version(parts, route, model);
    let (method, fresh) = (head.method.as_str(), wish.no_cache);
    let query = ask.operation.key_query(head.uri.query());
    let query = query.as_deref();
    let asking =
        Asking { route, ask, head, method, host: None, query, digest, model, scope, fresh };
    let (key, check) = asking.key(version.as_deref().unwrap_or(VERSION_UNKNOWN));
    if version.is_some()
        && !wish.no_cache
        && let Some(hit) = look_up(parts, route, ask, &key, &check, &wish).await
    {
        return Consulted::Hit(hit);
    }
    if wish.only_if_cached {
        return Consulted::NotCached;
    }
    Consulted::Miss(asking.question(key, check, version, caller))
}

/// The nearest entry that this caller may have.
async fn look_up(
    parts: &Parts,
    route: &Route,
    ask: &Ask,
    key: &CacheKey,
    check: &Check,
    wish: &RequestControl,
) -> Option<Hit> {
    let now_ms = now_ms();
    let tiers = &parts.cache.tiers;
    if route.plan.begins_in_memory() {
        let found = in_memory(parts, key, check, now_ms);
        if let Some(hit) = found.and_then(|found| answer::usable(found, ask, wish, now_ms)) {
            return Some(hit);
        }
    }
    if !route.plan.goes_on() {
        return None;
    }
    let took = |tier, took| parts.metrics.looked_up(label(tier), took);
    // On the heap: most calls end before it.
    let found = Box::pin(tiers.look_up_rest(*key, check, &route.plan, now_ms, took)).await;
    answer::usable(found?, ask, wish, now_ms)
}

/// What is in memory. Neither waits nor allocates.
fn in_memory(parts: &Parts, key: &CacheKey, check: &Check, now_ms: u64) -> Option<Found> {
    let began = Instant::now();
    let found = parts.cache.tiers.look_up_now(key, check, now_ms);
    let took = Instant::now().saturating_duration_since(began);
    parts.metrics.looked_up(TierLabel::Memory, took);
    found
}

/// A tier as metrics name it.
pub(crate) fn label(tier: TierName) -> TierLabel {
    match tier {
        TierName::Memory => TierLabel::Memory,
        TierName::Redis => TierLabel::Redis,
        TierName::Memcached => TierLabel::Memcached,
    }
}

/// Looks in memory once more: for a caller that has just become the leader.
pub(crate) fn consult_now(fetch: &Fetch, question: Box<Question>) -> Result<Hit, Box<Question>> {
    let unknown = question.mode != Mode::Content || question.version.is_none();
    if !fetch.route.plan.begins_in_memory() || question.fresh || unknown {
        return Err(question);
    }
    let now_ms = now_ms();
    let found = fetch.parts.cache.tiers.look_again(&question.key, &question.check, now_ms);
    let wish = wishes(&fetch.head.headers);
    found.and_then(|found| answer::usable(found, &fetch.ask, &wish, now_ms)).ok_or(question)
}

/// A call's turn to fill what no tier holds, where its route shares answers with a fleet.
pub(crate) fn turn<'a>(fetch: &'a Fetch, question: &Question) -> Option<Turn<'a>> {
    let plan = &fetch.route.plan;
    let shares = plan.uses().iter().any(|used| used.tier == TierName::Redis);
    if question.mode != Mode::Content || question.fresh || !shares {
        return None;
    }
    fetch.parts.cache.tiers.redis()?.turn(question.key, fetch.deadline)
}

/// Looks everywhere once more, perhaps under another version of the model.
pub(crate) async fn look_again(
    fetch: &Fetch,
    mut question: Box<Question>,
    version: Option<Arc<str>>,
) -> Result<Hit, Box<Question>> {
    if let Some(version) = version
        && question.version.as_ref() != Some(&version)
    {
        (question.key, question.check) = question.key_of(&version);
        question.version = Some(version);
    }
    let Fetch { parts, route, ask, head, .. } = fetch;
    let wish = wishes(&head.headers);
    let hit = look_up(parts, route, ask, &question.key, &question.check, &wish).await;
    hit.ok_or(question)
}

/// After a flight that brought this caller nothing: it may have brought an entry, under
/// a version that was not known before.
pub(crate) async fn consult_again(
    fetch: &Fetch,
    mut question: Box<Question>,
) -> Result<Hit, Box<Question>> {
    if question.mode == Mode::Content
        && let Some(version) = current_version(&fetch.parts, &fetch.route, &question.model)
        && question.version.as_ref() != Some(&version)
    {
        (question.key, question.check) = question.key_of(&version);
        question.version = Some(version);
    }
    let elsewhere = !fetch.route.plan.begins_in_memory() && question.mode == Mode::Content;
    if elsewhere && !question.fresh && question.version.is_some() {
        return look_again(fetch, question, None).await;
    }
    consult_now(fetch, question)
}

/// What the caller's own `cache-control` asks of the cache.
fn wishes(headers: &HeaderMap) -> RequestControl {
    let lines = headers.get_all(http::header::CACHE_CONTROL);
    RequestControl::parse(lines.iter().map(http::HeaderValue::as_bytes))
}

pub(crate) fn now_ms() -> u64 {
    u64::try_from(unix_ms()).unwrap_or(0)
}

/// `None`: the upstream has not said one yet.
fn current_version(parts: &Parts, route: &Route, model: &str) -> Option<Arc<str>> {
    if let Some(version) = &route.destination.version_static {
        return Some(version.clone());
    }
    match parts.cache.versions.current(&route.destination.upstream.name, model) {
        Current::Known(version) => Some(version),
        Current::Unknown => None,
    }
}
