//! What makes a key: borrowed from the call while it is looked up, owned once it is a
//! miss, because only the answer says which version of the model it is of.

use super::{
    Ask, Consulted, Hit, Instead, Mode, bound::Binds, fill::Putting, held::Held, http_mode::Asked,
    items::Items, neighbours::Made, now_ms, shadow, tags, trace::Traced,
};
use crate::{
    app::Parts,
    identity::{Caller, Tenant},
    route::{Fitting, Route, Said},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, request};
use smallvec::SmallVec;
use std::{sync::Arc, time::Duration};
use tollgate_cache::{
    entry::Entry,
    freshness::RENEWAL_PAUSE_MS,
    key::{BodyDigest, CacheKey, Check, KeyParts, Line, Scope, Stem},
    tiers::Plan,
};
use tollgate_core::dialect::{Framing, Operation};

/// Everything that makes a key, kept until the answer says which version it is of.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) key: CacheKey,
    pub(crate) check: Check,
    /// Of this key and of all that differ from it in the model's version or the body.
    stem: Stem,
    pub(crate) mode: Mode,
    pub(super) route: Arc<Route>,
    pub(super) method: Method,
    pub(super) path: Arc<str>,
    pub(super) query: Option<Arc<str>>,
    pub(super) model: Arc<str>,
    pub(super) version: Option<Arc<str>>,
    pub(super) scope: OwnedScope,
    pub(super) tenant: Tenant,
    /// Fields that say the same in every call of the tenant.
    pub(super) credentials: &'static [HeaderName],
    pub(super) tags: Vec<Box<str>>,
    pub(super) headers: HeaderMap,
    pub(super) digest: BodyDigest,
    pub(super) operation: Operation,
    /// Which of the route's rules about times may fit its answer.
    pub(super) fitting: Fitting,
    /// How its caller wants the answer.
    pub(super) framing: Framing,
    /// When the call came, in milliseconds: what an answer's age is counted from.
    pub(super) asked_ms: u64,
    /// The caller wants no cached answer.
    pub(super) fresh: bool,
    /// Its caller has voted out the answer that there was.
    voted_out: bool,
    /// Where it is noted what questions are made of.
    pub(super) made: Option<Arc<Made>>,
    /// Where the URL is the question.
    pub(super) http: Option<Arc<Asked>>,
    /// In content mode: past its time, and better than nothing.
    pub(super) held: Option<Arc<Held>>,
    /// Its answer is for nobody but the cache.
    pub(super) renews: bool,
    /// Whatever was stored then or before is what is to be renewed, though its time is not over.
    pub(super) after_ms: Option<u64>,
    /// When that which is to be renewed was stored.
    pub(super) known_ms: Option<u64>,
    /// A renewal that fails is not tried again for so long.
    pub(super) pause_ms: u64,
    /// Its answer is compared with this one, and is for nobody.
    pub(super) checked: Option<Arc<Entry>>,
    /// That this was begun.
    pub(super) check_begun: Option<shadow::Check>,
    /// Where it asks about several things that are answered apart.
    pub(super) items: Option<Box<Items>>,
    /// Its line in the key trace, where there is one.
    pub(super) traced: Option<Box<Traced>>,
    /// Its answer is brought by an administrator.
    pub(super) putting: Option<Arc<Putting>>,
}

#[derive(Debug)]
pub(super) enum OwnedScope {
    Tenant,
    User(HeaderValue),
    Shared,
}

/// What makes a key, borrowed from the call.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) route: &'a Arc<Route>,
    pub(super) ask: &'a Ask,
    pub(super) head: &'a request::Parts,
    pub(super) method: &'a str,
    /// Part of the key where the URL is the question.
    pub(super) host: Option<&'a [u8]>,
    pub(super) query: Option<&'a str>,
    pub(super) digest: &'a BodyDigest,
    pub(super) model: &'a str,
    pub(super) scope: Scope<'a>,
    pub(super) fresh: bool,
}

/// A key, and what makes its like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyed {
    pub(super) key: CacheKey,
    pub(super) check: Check,
    stem: Stem,
}

impl Asking<'_> {
    pub(super) fn key(&self, version: &str) -> Keyed {
        let destination = &self.route.destination;
        let headers = &self.head.headers;
        let said = self.said();
        let stem = KeyParts {
            namespace: &destination.namespace,
            upstream: &destination.upstream.name,
            method: self.method,
            path: self.route.key.path(said),
            query: self.route.key.query(said),
            model: self.model,
            model_version: version,
            versions: &own_lines(self.route, said, self.host),
            scope: self.scope,
            headers: &self.binds().lines(headers),
            body: self.digest,
        }
        .stem();
        let (key, check) = stem.key(version, self.digest);
        Keyed { key, check, stem }
    }

    fn binds(&self) -> Binds<'_> {
        let (mode, operation) = (self.ask.mode, self.ask.operation);
        Binds::new(mode, operation, self.scope, self.route)
    }

    /// What the route's rule reads for each call.
    pub(super) fn said(&self) -> Said<'_> {
        let (headers, path) = (&self.head.headers, &**self.ask.key_path());
        Said { by_content: self.ask.mode == Mode::Content, headers, path, query: self.query }
    }

    pub(super) fn question(
        &self,
        parts: &Parts,
        Keyed { key, check, stem }: Keyed,
        version: Option<Arc<str>>,
        caller: &Caller,
    ) -> Box<Question> {
        let mut headers = HeaderMap::new();
        let mut keep = |name: &HeaderName| {
            // Two members of the key may be said in one field.
            if !headers.contains_key(name) {
                for value in self.head.headers.get_all(name) {
                    headers.append(name.clone(), value.clone());
                }
            }
        };
        self.binds().kept(&self.head.headers, &mut keep);
        self.route.key.headers().for_each(keep);
        let fitting = self.ask.known.as_ref().map(|known| known.fitting).unwrap_or_default();
        let mut question = Box::new(Question {
            operation: self.ask.operation,
            // One that keeps nothing was a bypass.
            fitting: self.route.conditions.of_head(fitting, &self.head.headers).unwrap_or_default(),
            key,
            check,
            stem,
            mode: self.ask.mode,
            route: self.route.clone(),
            method: self.head.method.clone(),
            path: self.ask.key_path().clone(),
            framing: self.ask.framing(),
            query: self.query.map(Arc::from),
            model: Arc::from(self.model),
            version,
            scope: OwnedScope::of(self.scope, caller.user.as_ref()),
            tenant: caller.tenant.clone(),
            credentials: caller.credentials,
            tags: tags::filled(self.route, self.ask, self.head, caller),
            headers,
            digest: *self.digest,
            asked_ms: now_ms(),
            fresh: self.fresh,
            voted_out: false,
            http: None,
            held: None,
            renews: false,
            after_ms: None,
            known_ms: None,
            pause_ms: RENEWAL_PAUSE_MS,
            checked: None,
            check_begun: None,
            items: None,
            traced: None,
            putting: None,
            made: None,
        });
        if parts.snapshot.load().config.cache.explain_entries_max > 0 {
            question.made = Some(parts.cache.neighbours.made(&question, self.ask, self.host));
        }
        question
    }
}

impl Question {
    /// Its caller is given what there is; `why` says what the upstream is asked for beside.
    pub(super) fn beside(mut self: Box<Self>, hit: Hit, why: fn(&mut Self, &Hit)) -> Consulted {
        why(&mut self, &hit);
        Consulted::Renewed(Box::new(Instead::Hit(hit)), self)
    }

    /// It is asked for what takes the place of what was given.
    pub(super) fn renews(&mut self, hit: &Hit) {
        (self.renews, self.after_ms) = (true, hit.fresh_since_ms());
        self.known_ms = Some(hit.entry().stored_at_ms);
        self.pause_ms = hit.renewal_pause_ms();
    }

    /// When that which is to be renewed was stored, and how long until the next may try.
    pub(crate) fn renewal(&self) -> (Option<u64>, Duration) {
        (self.known_ms, Duration::from_millis(self.pause_ms))
    }

    /// Callers who ask the same at the same time share one upstream call.
    pub(crate) fn is_shared(&self) -> bool {
        self.mode == Mode::Content
    }

    /// What equal calls at one time have in common. Not the version, which the answer says
    /// while it is on its way; but the purges there were: who asks after a purge is not
    /// given an answer that was begun before it.
    pub(crate) fn flight_key(&self, parts: &Parts) -> CacheKey {
        let purges = parts.cache.tiers.stamp().local;
        self.key_of(&format!("\0flight {purges}")).0
    }

    /// Which tiers its answer goes to.
    pub(super) fn plan(&self) -> &Plan {
        match (&self.putting, self.mode) {
            (Some(putting), _) => &putting.plan,
            (None, Mode::Http) => &self.route.http.plan,
            (None, Mode::Content | Mode::Off) => &self.route.plan,
        }
    }

    /// The caller wants an answer that was begun after it asked.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    pub(super) fn after_vote(mut self: Box<Self>, voted_out: bool) -> Box<Self> {
        self.voted_out = voted_out;
        self
    }

    /// Why the upstream is asked, as in `cache-status: …; fwd=`.
    pub(crate) fn forwarded(&self) -> &'static str {
        if self.voted_out {
            return "voted-out";
        }
        let by_content = if self.held.is_some() { "stale" } else { "miss" };
        self.http.as_ref().map_or(by_content, |asked| asked.forwarded)
    }

    /// What its caller is given in place of an answer with this status, or of a failure.
    pub(crate) fn held(&self) -> Option<&Arc<Held>> {
        self.held.as_ref().filter(|_| !self.renews)
    }

    /// The answer is kept for everybody, whatever their credentials.
    pub(crate) fn is_for_all(&self) -> bool {
        matches!(self.scope, OwnedScope::Shared)
    }

    /// It is asked of this version from now on. What was found of another is not mixed with it.
    pub(super) fn moves_to(&mut self, version: Arc<str>) {
        if self.version.as_ref() == Some(&version) {
            return;
        }
        (self.key, self.check) = self.key_of(&version);
        self.version = Some(version);
        if let Some(items) = &mut self.items {
            items.forget();
        }
    }

    /// The key under the version that the answer says.
    pub(super) fn key_under(&self, version: &Arc<str>) -> (CacheKey, Check) {
        if self.version.as_ref() == Some(version) {
            return (self.key, self.check);
        }
        self.key_of(version)
    }

    /// The key under another version than was looked for.
    pub(super) fn key_of(&self, version: &str) -> (CacheKey, Check) {
        self.stem.key(version, &self.digest)
    }

    /// The key of a call about one of its items alone.
    pub(super) fn item_key(&self, digest: &BodyDigest, version: &str) -> (CacheKey, Check) {
        self.stem.key(version, digest)
    }

    /// What the key is made of; `host` where the URL is the question.
    pub(super) fn with_parts<T>(
        &self,
        version: &str,
        host: Option<&[u8]>,
        read: impl FnOnce(&KeyParts<'_>) -> T,
    ) -> T {
        let destination = &self.route.destination;
        let query = self.query.as_deref();
        let said = Said {
            by_content: self.mode == Mode::Content,
            headers: &self.headers,
            path: &self.path,
            query,
        };
        read(&KeyParts {
            namespace: &destination.namespace,
            upstream: &destination.upstream.name,
            method: self.method.as_str(),
            path: self.route.key.path(said),
            query: self.route.key.query(said),
            model: &self.model,
            model_version: version,
            versions: &own_lines(&self.route, said, host),
            scope: self.scope(),
            headers: &self.binds().lines(&self.headers),
            body: &self.digest,
        })
    }

    /// Which fields of the head its keys bind.
    pub(super) fn binds(&self) -> Binds<'_> {
        Binds::new(self.mode, self.operation, self.scope(), &self.route)
    }

    fn scope(&self) -> Scope<'_> {
        let tenant = self.tenant.as_str();
        match &self.scope {
            OwnedScope::Shared => Scope::Shared,
            OwnedScope::Tenant => Scope::Tenant(tenant),
            OwnedScope::User(user) => {
                Scope::User { tenant, user: user.to_str().unwrap_or_default() }
            }
        }
    }
}

/// What the route has of its own in a key, as a call says it: every line of it.
fn own_lines<'a>(
    route: &'a Route,
    said: Said<'a>,
    host: Option<&'a [u8]>,
) -> SmallVec<[Line<'a>; 4]> {
    // No configured name is empty, or in braces with nothing behind it: neither can be mistaken for
    // a version. What was asked for with heads as they came is not for who keeps them apart.
    let sealed = route.keyed_only.as_ref().map(|_| ("{forward}", &b"keyed"[..]));
    let ours = host.map(|host| ("", host)).into_iter().chain(sealed);
    ours.chain(route.key.lines(said)).collect()
}
