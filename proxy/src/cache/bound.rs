//! Which fields of a request's head every key binds, whatever a route's own rule names.
//!
//! What reaches the upstream, could change its answer and is in no key would let one caller make
//! the answer of another. So, where they are present:
//!
//! | where | a key binds, beside method, path, query, body and what the route names |
//! |---|---|
//! | always | the providers' own fields, and `content-encoding` ([`PROVIDERS`]) |
//! | mode content | fields that put another method, path or URL in place of the request's ([`REWRITES`]); the `content-type` of a body that a dialect reads, unless it only says JSON |
//! | mode content, open to all | what says which place is meant ([`PLACES`]), and `host` where it is sent on; that a body which a dialect reads came without a `content-type` |
//! | mode content, `forward: keyed` | the `content-type` of any body |
//! | mode http | `host`, [`REWRITES`], [`PLACES`], and what the answer's `vary` names |
//!
//! Open to all is the scope `shared`, and the tenant of callers without credentials: nobody there
//! has a reason to trust the others. Any other field is the caller's to set, and what it does is
//! seen by nobody outside of the scope: the same tenant, or the same user. What a service says in
//! `vary` is for `varies` to judge. What is left is written down in decision 0031.

use super::Mode;
use crate::{identity::Tenant, route::Route};
use http::{HeaderMap, HeaderName, header};
use smallvec::SmallVec;
use tollgate_cache::{
    key::{Line, Scope},
    share,
};
use tollgate_config::HostHeader;
use tollgate_core::dialect::Operation;

/// Fields of a request that change what a provider answers.
static PROVIDERS: [HeaderName; 6] = [
    HeaderName::from_static("anthropic-version"),
    HeaderName::from_static("anthropic-beta"),
    HeaderName::from_static("openai-organization"),
    HeaderName::from_static("openai-project"),
    HeaderName::from_static("openai-beta"),
    header::CONTENT_ENCODING,
];

/// Fields that frameworks obey in place of the request line.
static REWRITES: [HeaderName; 6] = [
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-envoy-original-path"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// Fields by which services choose another answer (a redirect to another scheme, another site,
/// links that lead elsewhere) without saying so in `vary`.
static PLACES: [HeaderName; 9] = [
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-forwarded-ssl"),
    header::FORWARDED,
    HeaderName::from_static("x-host"),
    HeaderName::from_static("x-original-host"),
];

/// In place of a `content-type` that is not there. No field can say it.
const NOT_SAID: &[u8] = b"\0";

/// All by which services choose in silence: part of every key of a URL.
pub(super) fn chosen_by() -> impl Iterator<Item = &'static HeaderName> {
    PLACES.iter().chain(&REWRITES)
}

/// Whose keys they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Binds<'a> {
    mode: Mode,
    operation: Operation,
    is_open: bool,
    /// What the upstream is sent as `host`.
    host: &'a HostHeader,
    /// Nothing else of a head goes on to the upstream ([`super::sends`]).
    keyed_only: bool,
}

impl<'a> Binds<'a> {
    pub(super) fn new(
        mode: Mode,
        operation: Operation,
        scope: Scope<'_>,
        route: &'a Route,
    ) -> Self {
        let host = &route.destination.config.host;
        Self::of(mode, operation, scope, host, route.keyed_only.is_some())
    }

    fn of(
        mode: Mode,
        operation: Operation,
        scope: Scope<'_>,
        host: &'a HostHeader,
        keyed_only: bool,
    ) -> Self {
        let is_open = match scope {
            Scope::Shared => true,
            // Nobody else can be of that name.
            Scope::Tenant(tenant) | Scope::User { tenant, .. } => {
                tenant == Tenant::Anonymous.as_str()
            }
        };
        Self { mode, operation, is_open, host, keyed_only }
    }

    /// Every line of the fields that are bound: an upstream reads them all.
    pub(super) fn lines<'h>(&self, headers: &'h HeaderMap) -> SmallVec<[Line<'h>; 4]> {
        let mut lines = SmallVec::new();
        self.each(headers, |name| {
            let values = headers.get_all(name).into_iter();
            lines.extend(values.map(|value| (name.as_str(), value.as_bytes())));
        });
        // A service may refuse what is not said to be JSON.
        if self.minds_silence() && !headers.contains_key(header::CONTENT_TYPE) {
            lines.push((header::CONTENT_TYPE.as_str(), NOT_SAID));
        }
        lines
    }

    /// Those fields of a head of which the same lines can be made again.
    pub(super) fn kept(&self, headers: &HeaderMap, mut see: impl FnMut(&HeaderName)) {
        self.each(headers, &mut see);
        if self.minds_silence() {
            see(&header::CONTENT_TYPE);
        }
    }

    /// That there is no `content-type` is bound.
    fn minds_silence(&self) -> bool {
        self.is_open && self.mode == Mode::Content && self.operation != Operation::Other
    }

    /// Those of them that are there, always in one order.
    pub(super) fn each(&self, headers: &HeaderMap, mut see: impl FnMut(&'static HeaderName)) {
        static KIND: HeaderName = header::CONTENT_TYPE;
        static HOST: HeaderName = header::HOST;
        let mut each = |names: &'static [HeaderName]| {
            names.iter().filter(|name| headers.contains_key(*name)).for_each(&mut see);
        };
        each(&PROVIDERS);
        if self.mode != Mode::Content {
            return;
        }
        each(&REWRITES);
        if self.is_open {
            each(&PLACES);
        }
        if self.binds_host() {
            each(std::slice::from_ref(&HOST));
        }
        let is_read = self.operation != Operation::Other;
        // A service that no dialect reads for us may read anything into it.
        let minds_kind = if is_read { !is_plain_json(headers) } else { self.keyed_only };
        if minds_kind {
            each(std::slice::from_ref(&KIND));
        }
    }

    /// Whether a key tells apart whatever `name` says.
    pub(super) fn has(&self, name: &HeaderName) -> bool {
        PROVIDERS.contains(name)
            || REWRITES.contains(name)
            || self.is_open && PLACES.contains(name)
            || self.binds_host() && *name == header::HOST
    }

    fn binds_host(&self) -> bool {
        self.is_open && matches!(self.host, HostHeader::Preserve)
    }
}

/// The `content-type` says no more than that the body is JSON, as it does in nearly every call.
pub(super) fn is_plain_json(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::CONTENT_TYPE).iter();
    let (first, second) = (lines.next(), lines.next());
    first.is_some_and(|kind| second.is_none() && share::is_plain_json(kind.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn lines(mode: Mode, scope: Scope<'_>, fields: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let binds = Binds::of(mode, Operation::OpenAiChat, scope, &HostHeader::Preserve, false);
        let lines = binds.lines(&headers);
        lines.iter().map(|(name, value)| format!("{name}: {}", value.escape_ascii())).collect()
    }

    #[test]
    fn a_field_that_puts_another_request_in_place_of_this_one_is_bound() {
        let open = [Scope::Shared, Scope::Tenant("anonymous")];
        for (name, by_tenant, by_all) in [
            ("x-http-method-override", true, true),
            ("x-method-override", true, true),
            ("x-original-url", true, true),
            ("x-rewrite-url", true, true),
            ("x-forwarded-host", false, true),
            ("forwarded", false, true),
            ("host", false, true),
            ("accept-language", false, false),
            ("x-forwarded-for", false, false),
        ] {
            let fields = [("content-type", "application/json"), (name, "x")];
            let bound = |scope| lines(Mode::Content, scope, &fields).len();
            assert_eq!(bound(Scope::Tenant("acme")), usize::from(by_tenant), "{name}");
            for scope in open {
                assert_eq!(bound(scope), usize::from(by_all), "{name}");
            }
        }
    }

    #[test]
    fn a_body_that_is_not_said_to_be_plain_json_is_another_question() {
        let unsaid = lines(Mode::Content, Scope::Shared, &[]);
        assert_eq!(unsaid, ["content-type: \\x00"], "nobody there can trust the others");
        let lines = |fields: &[(&'static str, &'static str)]| {
            lines(Mode::Content, Scope::Tenant("acme"), fields)
        };
        assert!(lines(&[("content-type", "application/json")]).is_empty());
        assert!(lines(&[("content-type", "Application/JSON; charset=UTF-8")]).is_empty());
        assert!(lines(&[]).is_empty(), "nothing is said, and nothing bound");
        for kind in ["text/plain", "application/json; charset=utf-16", ""] {
            let fields = [("content-type", kind)];
            assert_eq!(lines(&fields), [format!("content-type: {kind}")]);
        }
        let twice = [("content-type", "application/json"), ("content-type", "text/plain")];
        assert_eq!(lines(&twice).len(), 2);
    }
}
