//! `mode: http`: HTTP caching as RFC 9111 has it for a shared cache. What is allowed is for
//! `tollgate_cache::rfc9111` to say; here are the look-ups, the keys and the answers.
//!
//! ```text
//!  consult ─▶ find ─▶ reuse ─┬─ fresh ──────────────▶ Given
//!                            ├─ stale, to be renewed ▶ Given, and one refresh beside it
//!                            └─ to be asked ────────▶ Question with what is held
//!                                 answered: 304 freshens ▶ Given;  5xx, nobody there ▶ perhaps Given
//!                                           else judge ──▶ kept under its own key
//! ```
//!
//! An answer that varies lies under a key of its own; under the URL's key lies the list of the
//! fields it varies by ([`Rule::Variants`](tollgate_cache::entry::Rule)).

mod after;
mod answered;
mod cdn;
mod find;
mod flight;
mod given;
mod peek;

pub(crate) use self::{
    after::{after, posted},
    answered::{Holds, Next},
    flight::{ForOthers, Takes, found_now},
    given::Given,
};
pub(super) use self::{
    answered::{Kept, storable, storable_by},
    find::Held,
    find::keeps,
    given::{How, cache_status},
    peek::places,
};

use self::find::Looks;
use super::{
    Ask, Consulted, Instead, bound,
    question::{Asking, Keyed, OwnedScope},
    vote,
};
use crate::{
    app::Parts,
    identity::{Caller, Tenant},
    route::Route,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header, request};
use std::sync::Arc;
use tollgate_cache::{
    entry::FieldNames,
    key::{BodyDigest, CacheKey, Check, Scope},
    rfc9111::{
        request::{Kind, Request},
        reuse::{Reuse, Why, reuse},
        vary,
    },
    urls::Url,
};

/// Credentials that RFC 9111 does not know, and that are as good as `authorization`.
const CREDENTIALS: [HeaderName; 3] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// What a call for a URL is about, kept while the upstream is asked.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(super) request: Request,
    /// The caller's own: an answer may turn out to depend on any of them.
    pub(super) headers: HeaderMap,
    pub(super) host: Option<HeaderValue>,
    /// The URL for everybody.
    pub(super) named: Url,
    /// What the upstream is asked about, if it still holds.
    pub(super) held: Option<Held>,
    /// The fields that the URL's answers are known to depend on.
    pub(super) lists: Box<[FieldNames]>,
    /// Why the upstream is asked, as in `cache-status: …; fwd=`.
    pub(crate) forwarded: &'static str,
    /// What a CDN before us is told of its answer.
    pub(super) told: Option<Box<cdn::Told>>,
    /// A POST to this URL, whose answer may say that it is what GET would bring.
    pub(super) posted_to: Option<Uri>,
}

pub(super) async fn consult(
    parts: &Arc<Parts>,
    route: &Arc<Route>,
    ask: &Ask,
    head: &request::Parts,
    caller: &Caller,
) -> Consulted {
    consulted(parts, route, (ask, head), caller, Looks::ForCaller).await
}

/// What [`consult`] would say; nothing is counted or copied. A vote in `head` would be.
pub(super) async fn peek(
    parts: &Arc<Parts>,
    route: &Arc<Route>,
    ask: &Ask,
    head: &request::Parts,
    caller: &Caller,
) -> Consulted {
    consulted(parts, route, (ask, head), caller, Looks::Aside).await
}

async fn consulted(
    parts: &Arc<Parts>,
    route: &Arc<Route>,
    (ask, head): (&Ask, &request::Parts),
    caller: &Caller,
    looks: Looks,
) -> Consulted {
    let scope = scope(caller);
    let mut request = read(head, scope);
    if let Some(why) = request.passed {
        return Consulted::Bypass(why);
    }
    if caller.tenant_configured && caller.tenant == Tenant::Anonymous {
        return Consulted::Bypass("anonymous");
    }
    let query = route.http.query.normal(head.uri.query());
    let digest = chosen_by(&[], &head.headers);
    let asking = asking(route, ask, head, query.as_deref(), &digest, scope);
    let keyed = asking.key("");
    let Keyed { key, check, .. } = keyed;
    let variant = |names: &[HeaderName]| asking.variant_key(names);
    let mut found = find::find(parts, (route, looks), (key, check), variant).await;
    let votes = vote::is_cast(parts, route, caller, &head.headers, scope == Scope::Shared);
    request.control.no_cache |= votes;
    let about = vote::About { route, plan: &route.http.plan, key, check: &check };
    let voided = votes && Box::pin(vote::void(parts, caller, about)).await;
    if voided {
        // All that lies under the URL.
        found = find::Found::default();
    }
    let now_ms = super::now_ms();
    let held = found.held.as_ref();
    let verdict = match held {
        Some(held) => reuse(&held.stored, &request, now_ms),
        None if request.control.only_if_cached => Reuse::NotCached,
        None => Reuse::Miss(if found.lists.is_empty() { "uri-miss" } else { "vary-miss" }),
    };
    let of = (parts, &**route, looks.agreed(ask));
    let told = cdn::Told::of(route, &head.headers, &request, scope);
    let given = |how| {
        let held = held?;
        let given = Given::coded(of, held, &request, (now_ms, how));
        Some(given.telling(told.as_deref(), held, now_ms).traced_unless(ask.is_own))
    };
    let given = match verdict {
        Reuse::Fresh { .. } => given(How::Hit),
        Reuse::Stale { .. } => given(How::Stale),
        Reuse::NotCached => return Consulted::NotCached,
        Reuse::Revalidate(_) | Reuse::Miss(_) => None,
    };
    let (forwarded, holds) = forwarded(&verdict);
    let renews = matches!(verdict, Reuse::Stale { why: Why::WhileRevalidate, .. });
    match given {
        Some(given) if !renews || request.kind == Kind::Head => {
            return Consulted::Given(Box::new(given));
        }
        None if request.kind == Kind::Head => return Consulted::Bypass("head"),
        Some(_) | None => {}
    }
    let mut question = asking.question(parts, keyed, None, caller);
    question.http = Some(Arc::new(Asked {
        held: found.held.filter(|_| holds),
        lists: found.lists,
        told,
        ..Asked::new(&asking, request, forwarded)
    }));
    match given {
        Some(given) => {
            question.renews = true;
            Consulted::Renewed(Box::new(Instead::Given(given)), question)
        }
        None => Consulted::Miss(question.after_vote(voided)),
    }
}

impl Asked {
    /// About nothing that is held.
    fn new(asking: &Asking<'_>, request: Request, forwarded: &'static str) -> Self {
        let headers = asking.head.headers.clone();
        Self {
            request,
            host: headers.get(header::HOST).cloned(),
            named: Url::of(asking.host.unwrap_or_default(), &asking.ask.path, asking.query),
            headers,
            held: None,
            lists: Box::default(),
            forwarded,
            told: None,
            posted_to: None,
        }
    }
}

/// Why the upstream is asked, and whether that is about what is held.
fn forwarded(verdict: &Reuse) -> (&'static str, bool) {
    match verdict {
        Reuse::Revalidate("no-cache" | "max-age" | "min-fresh") => ("request", true),
        Reuse::Miss(why @ ("uri-miss" | "vary-miss")) => (why, false),
        Reuse::Miss(_) => ("miss", false),
        Reuse::Revalidate(_) | Reuse::Fresh { .. } | Reuse::Stale { .. } | Reuse::NotCached => {
            ("stale", true)
        }
    }
}

/// What stands in a key for the fields that an answer is chosen by: those that services
/// are silent about, and those that its `vary` names.
fn chosen_by(vary: &[HeaderName], headers: &HeaderMap) -> BodyDigest {
    let silent = bound::chosen_by().filter(|name| headers.contains_key(*name));
    let names: Vec<HeaderName> = silent.cloned().chain(vary.iter().cloned()).collect();
    BodyDigest::of(&vary::secondary(&names, headers))
}

/// The scope is shared, and RFC 9111's rules about credentials decide; unless the
/// operator says who tenants are.
fn scope(caller: &Caller) -> Scope<'_> {
    if caller.tenant_configured { Scope::Tenant(caller.tenant.as_str()) } else { Scope::Shared }
}

fn read(head: &request::Parts, scope: Scope<'_>) -> Request {
    let mut request = Request::read(&head.method, &head.headers);
    request.authorized |= CREDENTIALS.iter().any(|name| head.headers.contains_key(name));
    // What is kept is this tenant's only.
    request.authorized &= scope == Scope::Shared;
    request
}

fn asking<'a>(
    route: &'a Arc<Route>,
    ask: &'a Ask,
    head: &'a request::Parts,
    query: Option<&'a str>,
    digest: &'a BodyDigest,
    scope: Scope<'a>,
) -> Asking<'a> {
    Asking {
        route,
        ask,
        head,
        // HEAD is answered from what GET stored.
        method: Method::GET.as_str(),
        host: head.headers.get(header::HOST).map(HeaderValue::as_bytes),
        query,
        digest,
        model: "",
        scope,
        fresh: false,
    }
}

impl Asking<'_> {
    /// The key of this caller's variant.
    fn variant_key(&self, names: &[HeaderName]) -> (CacheKey, Check) {
        let digest = chosen_by(names, &self.head.headers);
        let Keyed { key, check, .. } = Asking { digest: &digest, ..*self }.key("");
        (key, check)
    }
}

impl OwnedScope {
    pub(super) fn of(scope: Scope<'_>, user: Option<&HeaderValue>) -> Self {
        match (scope, user) {
            (Scope::Shared, _) => Self::Shared,
            (Scope::User { .. }, Some(user)) => Self::User(user.clone()),
            (Scope::Tenant(_) | Scope::User { .. }, _) => Self::Tenant,
        }
    }
}
