//! Asks ahead what a caller is likely to ask next: first order, learned from who asks.
//!
//! ```text
//!  a call of content mode ─▶ follow ─▶ trail: what follows what ─▶ likely next, not asked ahead yet
//!                              │                                            │ room at the upstream?
//!                              ▼                                            │ in the budget? pays?
//!                    was it asked ahead?                                    ▼ not there for long?
//!                 wanted ─▶ worth ◀─ not wanted in time ◀── kept ◀── exchange::ask_for
//! ```
//!
//! Off by default, and then one look at an `Option` on the way of a call. It is asked in the name of
//! the caller who is likely to want it, with that one's head and credentials, in the least important
//! class, as a call of our own (decision 0043).
//!
//! **Invariant:** nothing crosses a scope: every name has the caller's tenant in it, its user where
//! the route's scope is the user, and the host that it calls (see `held`).

mod budget;
mod held;
#[cfg(test)]
mod tests;
mod trail;
mod worth;

use self::{
    budget::Budget,
    held::{Held, anew},
    trail::{Name, Trail},
    worth::{Turned, Worth},
};
use crate::{
    app::Parts,
    cache::{self, Ask, Consulted},
    exchange::{Outcome, ask_for},
    identity::Caller,
    inspect,
    listener::Peer,
    metrics::{OwnOutcome, OwnPurpose, PrefetchOutcome, RouteMetrics},
    route::{Route, millis},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, header, request};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{self, Instant},
};
use tollgate_cache::key::BodyDigest;
use tollgate_config::{self as config, Scope, Succession};

/// How many calls ask ahead at a time, of all routes. With more, nothing is asked ahead: it is only
/// a guess.
static PLACES: Semaphore = Semaphore::const_new(32);

/// What was asked ahead and is not judged yet, or was of late, on one route; about 100 bytes each.
const AHEAD_MAX: usize = 16 * 1024;

/// The longest name of a session.
const SESSION_BYTES_MAX: usize = 128;

/// Separates these names from every other digest of the same.
static NAME_KEY: LazyLock<[u8; 32]> =
    LazyLock::new(|| blake3::derive_key("tollgate 2026-11 names of what follows what", b""));

/// What a route has learned and asked ahead. Outlives a reload that leaves its rule as it is.
#[derive(Debug)]
pub(crate) struct Prefetch {
    rule: config::Prefetch,
    scope: Scope,
    /// Where `per` is a header.
    session: Option<HeaderName>,
    /// What was asked ahead and is not wanted by then was asked for in vain.
    wanted_within_ms: u64,
    metrics: Arc<RouteMetrics>,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    trail: Trail,
    budget: Budget,
    worth: Worth,
    ahead: HashMap<Name, Ahead>,
    /// When each of those that are kept is judged, and of those that were wanted, would have been.
    ends: VecDeque<(u64, Name)>,
    /// Of those that were begun so far.
    begun: u64,
}

/// What was asked ahead, and nobody has wanted yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ahead {
    /// Begun as the so-manieth: who was wanted meanwhile may have been begun again.
    UnderWay {
        begun: u64,
    },
    Kept {
        until_ms: u64,
    },
}

/// What the cache had for a call that was asked ahead, perhaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Had {
    It,
    Nothing,
    /// Its caller did not want it.
    NotLooked,
}

/// A call, as far as the way has come with it.
#[derive(Clone, Copy, Debug)]
struct Asked<'a> {
    route: &'a Arc<Route>,
    scope: Scope,
    ask: &'a Ask,
    head: &'a request::Parts,
    caller: &'a Caller,
}

/// Something to be asked ahead.
struct Next {
    name: Name,
    request: Request<Bytes>,
}

/// Learns from a call, and asks ahead what is likely to follow it. Does not wait.
pub(crate) fn follow(
    (parts, route, peer): (&Arc<Parts>, &Arc<Route>, &Arc<Peer>),
    (ask, head, caller): (&Ask, &request::Parts, &Caller),
    consulted: &Consulted,
) {
    let Some(prefetch) = &route.prefetch else { return };
    // What is ours follows nothing.
    if peer.own.is_some() {
        return;
    }
    let had = match consulted {
        Consulted::Hit(_) | Consulted::Renewed(..) => Had::It,
        Consulted::Miss(question) if question.is_fresh() => Had::NotLooked,
        Consulted::Miss(_) => Had::Nothing,
        Consulted::Given(_) | Consulted::Bypass(_) | Consulted::NotCached => return,
    };
    let Some(digest) = ask.content() else { return };
    let asked = Asked { route, scope: prefetch.scope, ask, head, caller };
    let likely = prefetch.step(&asked, digest, had);
    if likely.is_empty() || parts.shutdown.is_draining() || !has_room(route) {
        return;
    }
    let next = likely.into_iter().filter_map(|(name, held)| {
        // Made anew of who asks: what is not this caller's to ask has another name.
        let request = (held.name_for(&asked) == name).then(|| held.request_for(&asked))??;
        Some(Next { name, request })
    });
    let next: Vec<Next> = next.collect();
    let Ok(place) = PLACES.try_acquire() else { return };
    let (parts, route, peer, caller) = (parts.clone(), route.clone(), peer.clone(), caller.clone());
    parts.connections.clone().spawn(async move {
        for next in next {
            Box::pin(ask_ahead(&parts, (&route, &peer, &caller), next)).await;
        }
        drop(place);
    });
}

/// Whether callers would not notice one more call: nobody waits, and less than half of what may run
/// does.
fn has_room(route: &Route) -> bool {
    let now = route.destination.admission.snapshot();
    let half = |limit: std::num::NonZeroU32| now.inflight.saturating_mul(2) < limit.get().into();
    now.waiting == 0 && now.limit.is_none_or(half)
}

async fn ask_ahead(
    parts: &Arc<Parts>,
    (route, peer, caller): (&Arc<Route>, &Arc<Peer>, &Caller),
    Next { name, request }: Next,
) {
    let Some(prefetch) = &route.prefetch else { return };
    let request = match Box::pin(need(parts, route, caller, &request)).await {
        Need::Nothing => return,
        Need::First => request,
        Need::Anew => anew(request),
    };
    if parts.shutdown.is_draining() || !has_room(route) {
        return;
    }
    let Some(begun) = prefetch.begin(name) else { return };
    let (outcome, cost) = Box::pin(ask_for(parts, peer, request)).await;
    let counted = match &outcome {
        Outcome::Hit => Some(OwnOutcome::Hit),
        Outcome::Stored => Some(OwnOutcome::Stored),
        Outcome::NotStored => Some(OwnOutcome::NotStored),
        Outcome::Failed { .. } => Some(OwnOutcome::Failed),
        Outcome::Dropped => None,
    };
    if let Some(outcome) = counted {
        parts.metrics.asked_ourselves(OwnPurpose::Prefetch, outcome);
    }
    if let Some(until) = prefetch.end((&name, begun), &outcome, cost) {
        // So that it is judged when its time is over, and not when somebody asks next.
        let (prefetch, leave) = (prefetch.clone(), parts.shutdown.leave.clone());
        parts.tasks.spawn(async move {
            if leave.run_until_cancelled(time::sleep_until(until)).await.is_some() {
                prefetch.judge();
            }
        });
    }
}

/// What is to be done about an answer that somebody is likely to want.
enum Need {
    Nothing,
    /// There is none.
    First,
    /// There is one that is old, or will be soon.
    Anew,
}

async fn need(
    parts: &Arc<Parts>,
    route: &Arc<Route>,
    caller: &Caller,
    request: &Request<Bytes>,
) -> Need {
    let (head, body) = request.clone().into_parts();
    let Ok(path) = crate::route::normal_path(&head) else { return Need::Nothing };
    let path: Arc<str> = Arc::from(&*path);
    let operation = route.operation(&head.method, &path);
    let body = inspect::AskBody::Whole(body, inspect::Held::default());
    let ask = cache::ask(parts, route, operation, &path, &head, body);
    let would = cache::peek(parts, route, &ask, &head, caller).await;
    let lies = || would.tiers.iter().find_map(|place| place.lies.as_ref());
    match (would.outcome, would.why) {
        ("miss", _) => Need::First,
        ("stale", "given-while-renewed") => Need::Anew,
        ("hit", _) if lies().is_some_and(is_ending) => Need::Anew,
        _ => Need::Nothing,
    }
}

/// In the last tenth of its time.
fn is_ending(lies: &cache::Lying) -> bool {
    u64::try_from(lies.left_ms).is_ok_and(|left_ms| left_ms < lies.age_ms / 9)
}

impl Asked<'_> {
    /// What a question is called in this caller's scope.
    fn name(&self, method: &str, key_path: &str, digest: &BodyDigest) -> Name {
        let query = self.ask.operation.key_query(self.head.uri.query());
        let query = query.as_deref().map_or(&b""[..], str::as_bytes);
        let has_query = [u8::from(!query.is_empty())];
        self.digest(
            b"question",
            [method.as_bytes(), key_path.as_bytes(), &has_query, query, digest.first()],
        )
    }

    /// Who asks one thing after the other; `None`: nobody in particular.
    fn session(&self, header: Option<&HeaderName>) -> Option<Name> {
        let said = match header {
            None => self.caller.user.as_ref()?.as_bytes(),
            Some(name) => only(&self.head.headers, name)?,
        };
        let is_name = !said.is_empty() && said.len() <= SESSION_BYTES_MAX;
        is_name.then(|| self.digest(b"session", [said]))
    }

    /// Of the caller's scope and what is its own there, each with its length in front.
    fn digest<'a>(&'a self, kind: &'static [u8], own: impl IntoIterator<Item = &'a [u8]>) -> Name {
        let tenant = self.caller.tenant.as_str().as_bytes();
        let user = self.caller.user.as_ref().filter(|_| self.scope == Scope::User);
        let user = user.map_or(&b""[..], |user| user.as_bytes());
        // Callers without a credential are told apart by what they call.
        let host = self.head.headers.get(header::HOST).map(http::HeaderValue::as_bytes);
        let mut hasher = blake3::Hasher::new_keyed(&NAME_KEY);
        for part in [kind, tenant, user, host.unwrap_or_default()].into_iter().chain(own) {
            hasher.update(&crate::body::len_u64(part.len()).to_le_bytes()).update(part);
        }
        hasher.finalize().as_bytes().first_chunk().copied().unwrap_or_default()
    }
}

/// A field that is said once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    lines.next().is_none().then(|| first.as_bytes())
}

impl Prefetch {
    pub(crate) fn new(policy: &config::CachePolicy, metrics: &Arc<RouteMetrics>) -> Option<Self> {
        let rule = policy.upkeep.prefetch.clone()?;
        let wanted_within = rule.within.min(policy.ttl_longest());
        Some(Self {
            session: match &rule.per {
                Succession::User => None,
                Succession::Header(name) => HeaderName::from_bytes(name.as_bytes()).ok(),
            },
            scope: policy.scope,
            wanted_within_ms: millis(wanted_within),
            metrics: metrics.clone(),
            began: Instant::now(),
            state: Mutex::new(State {
                trail: Trail::default(),
                budget: Budget::new(rule.calls_per_minute, rule.hourly_pico_usd),
                worth: Worth::new(rule.precision_min_ppm),
                ahead: HashMap::new(),
                ends: VecDeque::new(),
                begun: 0,
            }),
            rule,
        })
    }

    /// It goes on under `policy` as it is.
    pub(crate) fn is_of(&self, policy: &config::CachePolicy) -> bool {
        policy.upkeep.prefetch.as_ref() == Some(&self.rule)
            && policy.scope == self.scope
            && millis(self.rule.within.min(policy.ttl_longest())) == self.wanted_within_ms
    }

    /// For people.
    pub(crate) fn explain(&self) -> String {
        let share = config::show_ppm(self.rule.precision_min_ppm);
        let within = config::show_duration(self.rule.within);
        let whose = match &self.rule.per {
            Succession::User => "user".to_owned(),
            Succession::Header(name) => name.clone(),
        };
        let calls = self.rule.calls_per_minute;
        let money = self.rule.hourly_pico_usd.map(config::show_usd);
        let money = money.map(|usd| format!(" and ${usd} an hour")).unwrap_or_default();
        format!(
            "and asked ahead where it is {share} of what follows within {within}, by {whose}, for \
             {calls} calls a minute{money} at most"
        )
    }

    /// A call has come: what is likely to follow it, and was not asked ahead yet.
    fn step(&self, asked: &Asked<'_>, digest: &BodyDigest, had: Had) -> Vec<(Name, Arc<Held>)> {
        let name = asked.name(asked.head.method.as_str(), asked.ask.key_path(), digest);
        let session = asked.session(self.session.as_ref());
        let now_ms = self.now_ms();
        let mut state = self.state();
        self.judge_ended(&mut state, now_ms);
        self.asked_for(&mut state, &name, had, now_ms);
        let Some(session) = session else { return Vec::new() };
        let within_ms = millis(self.rule.within);
        if state.trail.step(session, name, now_ms, within_ms)
            && let Some(held) = Held::of(asked, digest)
        {
            state.trail.hold(name, Arc::new(held), now_ms);
        }
        if !state.may_begin(now_ms) {
            return Vec::new();
        }
        let mut likely = state.trail.likely(&name, self.rule.precision_min_ppm, now_ms);
        likely.truncate(self.rule.successors_max);
        likely.retain(|(name, _)| !state.ahead.contains_key(name));
        if !likely.is_empty() && !state.budget.affords(likely.len(), &self.metrics, now_ms) {
            return Vec::new();
        }
        likely
    }

    /// `name` is asked ahead from now on, as the so-manieth; `None`: it may not be.
    fn begin(&self, name: Name) -> Option<u64> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        self.judge_ended(&mut state, now_ms);
        let is_new = state.may_begin(now_ms) && !state.ahead.contains_key(&name);
        if !is_new || !state.budget.affords(1, &self.metrics, now_ms) {
            return None;
        }
        state.begun += 1;
        let begun = state.begun;
        state.ahead.insert(name, Ahead::UnderWay { begun });
        state.budget.begin(now_ms);
        state.worth.begin();
        Some(begun)
    }

    /// What came of it. When it is to be judged, if it is kept and nobody has wanted it yet.
    fn end(
        &self,
        (name, begun): (&Name, u64),
        outcome: &Outcome,
        cost: Option<u64>,
    ) -> Option<Instant> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        state.budget.end(cost, now_ms);
        // Whoever wanted it meanwhile has been counted, and it may have been begun again since.
        if state.ahead.get(name) != Some(&Ahead::UnderWay { begun }) {
            return None;
        }
        state.ahead.remove(name);
        match outcome {
            Outcome::Stored => {
                let until_ms = now_ms.saturating_add(self.wanted_within_ms);
                state.ahead.insert(*name, Ahead::Kept { until_ms });
                state.ends.push_back((until_ms, *name));
                return Some(self.began + Duration::from_millis(until_ms));
            }
            // It was there after all.
            Outcome::Hit | Outcome::Dropped => state.worth.take_back(),
            Outcome::NotStored | Outcome::Failed { .. } => {
                self.count(&mut state, PrefetchOutcome::Failed, now_ms);
            }
        }
        None
    }

    /// Judges what was not wanted in its time.
    fn judge(&self) {
        let now_ms = self.now_ms();
        self.judge_ended(&mut self.state(), now_ms);
    }

    fn judge_ended(&self, state: &mut State, now_ms: u64) {
        while let Some((until_ms, name)) = state.ends.front().copied() {
            if until_ms > now_ms {
                return;
            }
            state.ends.pop_front();
            if state.ahead.get(&name) == Some(&Ahead::Kept { until_ms }) {
                state.ahead.remove(&name);
                self.count(state, PrefetchOutcome::Wasted, now_ms);
            }
        }
    }

    /// Somebody asks `name`, which may have been asked ahead.
    fn asked_for(&self, state: &mut State, name: &Name, had: Had, now_ms: u64) {
        let outcome = match (state.ahead.get(name), had) {
            (None, _) | (_, Had::NotLooked) => return,
            // Who comes while it is under way waits for it, and not as long.
            (Some(Ahead::UnderWay { .. }), _) | (Some(Ahead::Kept { .. }), Had::It) => {
                PrefetchOutcome::Used
            }
            // Evicted, purged, or made for another form than is wanted.
            (Some(Ahead::Kept { .. }), Had::Nothing) => PrefetchOutcome::Wasted,
        };
        state.ahead.remove(name);
        self.count(state, outcome, now_ms);
    }

    fn count(&self, state: &mut State, outcome: PrefetchOutcome, now_ms: u64) {
        let turned = state.worth.end(outcome == PrefetchOutcome::Used, now_ms);
        let precision_ppm = state.worth.precision_ppm();
        self.metrics.prefetched(outcome, precision_ppm);
        let route = self.metrics.route();
        let precision = precision_ppm / 10_000;
        match turned {
            None => {}
            Some(Turned::Off { pause_ms }) => tracing::warn!(
                route,
                precision_percent = precision,
                pause_s = pause_ms / 1000,
                "nothing is asked ahead for a while: too little of it was wanted"
            ),
            Some(Turned::On) => tracing::info!(
                route,
                precision_percent = precision,
                "asking ahead pays again, and goes on"
            ),
        }
    }

    fn now_ms(&self) -> u64 {
        millis(Instant::now().saturating_duration_since(self.began))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn may_begin(&mut self, now_ms: u64) -> bool {
        let is_full = self.ends.len().max(self.ahead.len()) >= AHEAD_MAX;
        !is_full && self.worth.may_begin(now_ms)
    }
}
