//! `mode: http`, the safe core: GET and HEAD of answers that say how long they are
//! fresh, and depend on nothing but their URL. All else passes by (RFC 9111 in full is
//! the cache issue's).

use super::{
    Ask, Consulted, look_up,
    question::{Asking, OwnedScope, Question},
};
use crate::{
    app::Parts,
    identity::{Caller, Tenant},
    route::Route,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header, request, response};
use std::sync::{Arc, LazyLock};
use tollgate_cache::{
    freshness::{self, Times},
    key::{BodyDigest, Scope},
};

/// Fields by which some services choose another answer without saying so in `vary`: a
/// stored answer could be poisoned by them, so who sends one is not served from it.
const UNKEYED: [HeaderName; 6] = [
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-http-method-override"),
    header::FORWARDED,
];

/// The digest of no body.
static NO_BODY: LazyLock<BodyDigest> = LazyLock::new(|| BodyDigest::of(b""));

pub(super) async fn consult(
    parts: &Parts,
    route: &Arc<Route>,
    ask: &Ask,
    head: &request::Parts,
    caller: &Caller,
) -> Consulted {
    let wish = match freshness::may_use_cache(head.method.as_str(), plain(&head.headers)) {
        Ok(wish) => wish,
        Err(why) => return Consulted::Bypass(why),
    };
    if head.headers.contains_key(header::COOKIE) {
        return Consulted::Bypass("cookie");
    }
    if UNKEYED.iter().any(|name| head.headers.contains_key(name)) {
        return Consulted::Bypass("unkeyed-header");
    }
    if caller.tenant_configured && caller.tenant == Tenant::Anonymous {
        return Consulted::Bypass("anonymous");
    }
    let scope = if caller.tenant_configured {
        Scope::Tenant(caller.tenant.as_str())
    } else {
        Scope::Shared
    };
    let asking = Asking {
        route,
        ask,
        head,
        // HEAD is answered from what GET stored.
        method: Method::GET.as_str(),
        host: head.headers.get(header::HOST).map(HeaderValue::as_bytes),
        digest: &NO_BODY,
        model: "",
        scope,
        fresh: wish.no_cache,
    };
    let (key, check) = asking.key("");
    if !wish.no_cache
        && let Some(hit) = look_up(parts, route, ask, &key, &check, &wish).await
    {
        return Consulted::Hit(hit);
    }
    if wish.only_if_cached {
        return Consulted::NotCached;
    }
    if head.method == Method::HEAD {
        return Consulted::Bypass("head");
    }
    Consulted::Miss(asking.question(key, check, None, caller))
}

/// How long an answer may be kept, and how old it was when it came: both in milliseconds.
pub(super) fn storable(question: &Question, answer: &response::Parts) -> Option<(u64, u64)> {
    // Nothing says which caller a coded answer is for until `vary` is read.
    if answer.headers.contains_key(header::CONTENT_ENCODING) {
        return None;
    }
    let times = Times { request_ms: question.asked_ms, response_ms: super::now_ms() };
    let found = freshness::may_store(answer.status.as_u16(), plain(&answer.headers), times);
    match found {
        Ok(freshness) => Some((freshness.lifetime_ms, freshness.age_ms)),
        Err(why) => {
            tracing::trace!(why, "an answer is not stored");
            None
        }
    }
}

fn plain(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
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
