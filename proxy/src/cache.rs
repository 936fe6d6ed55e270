//! Asks the cache, and tells it what came: the exchange's side of `tollgate-cache`.
//!
//! A body is digested once by its bytes; what it was found to ask (canonical form,
//! model, whether it streams) is remembered under that digest, so that a byte-identical
//! repeat never parses JSON.

mod alike;
mod answer;
mod bound;
mod coded;
mod explain;
mod fill;
mod heat;
mod held;
mod http_mode;
mod items;
mod key_query;
mod known;
mod learn;
mod neighbours;
mod note;
mod paced;
mod peek;
mod question;
mod sends;
mod shadow;
mod tags;
mod trace;
mod turns;
mod varies;
mod version;
mod vote;

pub(crate) use self::{
    answer::Hit,
    explain::Explained,
    fill::{Arrival, Brought, Completed, Fill, InTier, Lacks, NotPut, Placed, keep_shareable, put},
    held::{Instead, Spare},
    http_mode::{Asked, ForOthers, Given, Holds, Next, Takes, after, found_now, posted},
    items::{ANSWER_BYTES_MAX, Items, wrong_for_parts},
    known::Known,
    neighbours::{Nearest, Neighbours, Story, Was},
    note::{decode_bill, encode_bill},
    peek::{Lying, Place, Would, peek},
    question::Question,
    trace::{Traces, dir_of, policy_of},
    turns::turn,
    vote::{VOTE, Votes},
};

use self::{
    answer::Wanted,
    coded::Agreed,
    held::{Held, Looking, Use},
    key_query::{key_query, unkeyed},
    question::{Asking, Keyed},
    sends::Sends,
};

use crate::{
    app::Parts,
    exchange::Fetch,
    identity::{Caller, Tenant},
    inspect::{self, AskBody},
    listener::Peer,
    meter::unix_ms,
    metrics::TierLabel,
    route::{Fitting, Route},
};
use http::{HeaderMap, Method, request};
use std::sync::Arc;
use tokio::time::Instant;
use tollgate_cache::{
    cache_control::RequestControl,
    key::{BodyDigest, CacheKey, Check, Scope},
    tiers::{Found, Plan, TierName},
};
use tollgate_config::{CacheMode, Pacing, Scope as ScopeRule};
use tollgate_core::dialect::{Dialect, Framing, Operation};

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

/// What a call asks.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) operation: Operation,
    pub(crate) path: Arc<str>,
    pub(crate) body: AskBody,
    pub(crate) known: Option<Arc<Known>>,
    mode: Mode,
    /// In what its caller takes a stored answer.
    agreed: Agreed,
    /// At which a stored stream is given; `None`: at once.
    pacing: Option<Pacing>,
    /// By a call of our own: what it finds, nobody has asked for.
    is_own: bool,
    /// What of its head the upstream sees.
    pub(crate) sends: Sends,
}

impl Ask {
    /// As who asks it.
    pub(crate) fn of(self, peer: &Peer) -> Self {
        Self { is_own: peer.own.is_some(), ..self }
    }

    /// As what may be kept of it wants to be sent.
    pub(crate) fn sent_for(self, question: Option<&Question>) -> Self {
        Self { sends: question.map(Question::sends).unwrap_or_default(), ..self }
    }

    /// The same question in another body.
    pub(crate) fn with_body(&self, body: AskBody) -> Self {
        let (path, known) = (self.path.clone(), self.known.clone());
        let Self { operation, mode, agreed, pacing, is_own, .. } = *self;
        let sends = self.sends.clone();
        Self { operation, path, body, known, mode, agreed, pacing, is_own, sends }
    }

    pub(crate) fn model(&self) -> Option<&Arc<str>> {
        self.known.as_ref()?.model.as_ref()
    }

    pub(crate) fn bytes_in(&self) -> u64 {
        match &self.body {
            AskBody::Whole(bytes, _) => crate::body::len_u64(bytes.len()),
            AskBody::Streamed { .. } => 0,
        }
    }

    /// What it asks, where that makes its key and may be kept.
    pub(crate) fn content(&self) -> Option<&BodyDigest> {
        let known = self.known.as_ref().filter(|_| self.mode == Mode::Content);
        known?.digest.as_ref().ok()
    }

    /// How the answer is wanted.
    pub(crate) fn framing(&self) -> Framing {
        self.known.as_ref().map_or(Framing::Whole, |known| known.framing)
    }

    /// The path as the key has it.
    pub(crate) fn key_path(&self) -> &Arc<str> {
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
    /// A stored answer that is to be renewed beside.
    Renewed(Box<Instead>, Box<Question>),
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
    let address = known::Address::of(operation, path, head);
    let known = match &body {
        AskBody::Whole(bytes, _) if mode == Mode::Content => {
            let (rule, conditions, headers) = (&route.key, &route.conditions, &head.headers);
            let asked = known::Asked { address, rule, conditions, headers, bytes };
            let (raw, context) = (asked.raw(), asked.context());
            Some(parts.cache.memo.recall(&raw, context).unwrap_or_else(|| {
                let known = Arc::new(asked.know());
                parts.cache.memo.remember(raw, context, known.clone());
                known
            }))
        }
        AskBody::Whole(bytes, _) if inspect::is_known(operation) => {
            Some(Arc::new(address.unkeyed(bytes)))
        }
        AskBody::Streamed { .. } if operation.is_said_in_path() => Some(Arc::new(address.unread())),
        AskBody::Whole(..) | AskBody::Streamed { .. } => None,
    };
    let agreed = Agreed::with(route, &head.headers);
    let pacing = route.config.cache.pacing;
    let (path, is_own, sends) = (path.clone(), false, Sends::default());
    Ask { operation, path, body, known, mode, agreed, pacing, is_own, sends }
}

/// Asks the tiers.
pub(crate) async fn consult(
    parts: &Arc<Parts>,
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
    parts: &Arc<Parts>,
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
    let scope = match scope_of(rule, caller) {
        Ok(scope) => scope,
        Err(why) => return Consulted::Bypass(why),
    };
    let mut wish = wishes(&head.headers);
    if wish.no_store {
        return Consulted::Bypass("no-store");
    }
    let votes = vote::is_cast(parts, route, caller, &head.headers, vote::is_shared(route));
    wish.no_cache |= votes;
    let model = known.model.as_deref().unwrap_or_default();
    let version = version::current(parts, &route.destination, model);
    let (method, fresh) = (head.method.as_str(), wish.no_cache);
    let unkeyed = unkeyed((route, ask.operation), head.uri.query(), rule, caller);
    let query = key_query(ask.operation, head.uri.query(), rule, caller);
    let query = query.as_deref();
    let asking =
        Asking { route, ask, head, method, host: None, query, digest, model, scope, fresh };
    if let Some(why) = unkeyed.or_else(|| route.key.lacks(asking.said())) {
        return Consulted::Bypass(why);
    }
    let fitting = match route.conditions.of_head(known.fitting, &head.headers) {
        Ok(fitting) => fitting,
        Err(why) => return Consulted::Bypass(why.reason()),
    };
    let keyed = asking.key(version.as_deref().unwrap_or(VERSION_UNKNOWN));
    let Keyed { key, check, .. } = keyed;
    let about = vote::About { route, plan: &route.plan, key, check: &check };
    let voided = votes && Box::pin(vote::void(parts, caller, about)).await;
    let mut held = None;
    if version.is_some() && !wish.no_cache {
        let looking = looking(route, (ask, fitting), &wish);
        match look_up(parts, looking, &route.plan, &key, &check).await {
            Use::Given(hit) => {
                heat::given(parts, (route, ask), &key, &hit);
                if !shadow::draws(route, &hit) {
                    return Consulted::Hit(hit);
                }
                let question = asking.question(parts, keyed, version, caller);
                return question.beside(hit, Question::checks);
            }
            Use::Renewed(hit) => {
                heat::given(parts, (route, ask), &key, &hit);
                let question = asking.question(parts, keyed, version, caller);
                return question.beside(hit, Question::renews);
            }
            Use::Held(found) => held = Some(found),
            Use::Nothing => {}
        }
    }
    let mut question = asking.question(parts, keyed, version, caller);
    let used = items::consult(parts, &asking, &mut question, &wish).await;
    let (mut question, old) = match items::told(used, route, question) {
        Ok(told) => return told,
        Err(left) => left,
    };
    if wish.only_if_cached {
        return Consulted::NotCached;
    }
    let wanted = Wanted::of(ask);
    question.held = held.or(old).map(|found| Held::new(found, route, (fitting, wanted, wish)));
    Consulted::Miss(question.after_vote(voided))
}

/// Among whom this caller's answers are shared; else why none is kept for it.
fn scope_of(rule: ScopeRule, caller: &Caller) -> Result<Scope<'_>, &'static str> {
    if rule != ScopeRule::Shared && caller.tenant_configured && caller.tenant == Tenant::Anonymous {
        return Err("anonymous");
    }
    let tenant = caller.tenant.as_str();
    match (rule, &caller.user) {
        (ScopeRule::Shared, _) => Ok(Scope::Shared),
        (ScopeRule::Tenant, _) => Ok(Scope::Tenant(tenant)),
        (ScopeRule::User, None) => Err("no-user"),
        (ScopeRule::User, Some(user)) => {
            Ok(Scope::User { tenant, user: user.to_str().unwrap_or_default() })
        }
    }
}

fn looking<'a>(
    route: &'a Route,
    (ask, fitting): (&Ask, Fitting),
    wish: &'a RequestControl,
) -> Looking<'a> {
    let wanted = Wanted::of(ask);
    let (only_new, after_ms, known_ms) = (false, None, None);
    Looking { route, fitting, wanted, wish, only_new, after_ms, known_ms, now_ms: now_ms() }
}

/// The nearest entry that this caller may have.
async fn look_up(
    parts: &Arc<Parts>,
    looking: Looking<'_>,
    plan: &Plan,
    key: &CacheKey,
    check: &Check,
) -> Use {
    let now_ms = looking.now_ms;
    let tiers = &parts.cache.tiers;
    let mut nearest = Use::Nothing;
    if plan.begins_in_memory()
        && let Some(found) = in_memory(parts, key, check, now_ms)
    {
        nearest = looking.at(found);
    }
    if !plan.goes_on() || matches!(nearest, Use::Given(_) | Use::Renewed(_)) {
        return nearest.coded(parts, key);
    }
    let took = |tier, took| parts.metrics.looked_up(label(tier), took);
    let known_ms = match &nearest {
        Use::Held(found) => Some(found.entry.stored_at_ms),
        Use::Nothing | Use::Given(_) | Use::Renewed(_) => looking.known_ms,
    };
    let times = (now_ms, known_ms);
    // On the heap: most calls end before it.
    let found = Box::pin(tiers.look_up_other(*key, check, plan, times, took)).await;
    match found.map(|found| looking.at(found)) {
        None | Some(Use::Nothing) => nearest,
        Some(farther) => farther.coded(parts, key),
    }
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
        TierName::Postgres => TierLabel::Postgres,
        TierName::Disk => TierLabel::Disk,
    }
}

/// Looks in memory once more: for a caller that has just become the leader.
pub(crate) fn consult_now(
    fetch: &Fetch,
    mut question: Box<Question>,
) -> Result<Hit, Box<Question>> {
    let unknown = question.mode != Mode::Content || question.version.is_none();
    if !fetch.route.plan.begins_in_memory() || question.fresh || unknown {
        return Err(question);
    }
    let now_ms = now_ms();
    let found = fetch.parts.cache.tiers.look_again(&question.key, &question.check, now_ms);
    let wish = wishes(&fetch.head.headers);
    let looking = looking(&fetch.route, (&fetch.ask, question.fitting), &wish);
    let looking = Looking { only_new: true, ..looking };
    let parts = &fetch.parts;
    let hit = found.and_then(|found| looking.at(found).coded(parts, &question.key).given());
    let hit = hit.or_else(|| items::look_again(&fetch.parts, &mut question, looking));
    hit.inspect(|hit| question.finds(hit)).ok_or(question)
}

/// Looks everywhere once more, perhaps under another version of the model.
pub(crate) async fn look_again(
    fetch: &Fetch,
    mut question: Box<Question>,
    version: Option<Arc<str>>,
) -> Result<Hit, Box<Question>> {
    if let Some(version) = version {
        question.moves_to(version);
    }
    let Fetch { parts, route, ask, head, .. } = fetch;
    let wish = wishes(&head.headers);
    let (after_ms, known_ms) = (question.after_ms, question.known_ms);
    let looking = looking(route, (ask, question.fitting), &wish);
    let looking = Looking { only_new: true, after_ms, known_ms, ..looking };
    let found = look_up(parts, looking, &route.plan, &question.key, &question.check).await;
    let hit = match found.given() {
        None if question.items.is_some() => {
            Box::pin(items::look_everywhere(parts, &mut question, looking)).await
        }
        hit => hit,
    };
    hit.inspect(|hit| question.finds(hit)).ok_or(question)
}

/// Looks in the tiers that other instances write to for what is newer than what was found.
/// `None`: there is.
pub(crate) async fn still_old(fetch: &Fetch, question: Box<Question>) -> Option<Box<Question>> {
    if question.mode != Mode::Content || !fetch.route.plan.goes_on() {
        return Some(question);
    }
    look_again(fetch, question, None).await.err()
}

/// After a flight that brought this caller nothing: it may have brought an entry, under
/// a version that was not known before.
pub(crate) async fn consult_again(
    fetch: &Fetch,
    mut question: Box<Question>,
) -> Result<Hit, Box<Question>> {
    if question.mode == Mode::Content
        && let Some(version) =
            version::current(&fetch.parts, &fetch.route.destination, &question.model)
    {
        question.moves_to(version);
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
