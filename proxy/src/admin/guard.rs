//! Who may talk to the admin address, and what a browser may do with its answers.
//!
//! A browser runs anybody's pages. On loopback there may be no token, so what keeps a
//! strange page out is that it cannot forge three things: the Host it was loaded from
//! (a name that was rebound to 127.0.0.1 is not a loopback name), its Origin, and the
//! content type of a cross-site form. Off loopback the configuration insists on a token.
//!
//! The console's cookie is not the token but a proof, good for half a day, that its
//! bearer had it: cookies know no ports, so a browser sends them to whatever else runs
//! on the same host, the proxied upstream included.

use super::{Judged, Problem, Tries};
use crate::aside::PeerIp;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request, uri::Authority};
use std::net::IpAddr;
use tollgate_config::{Admin, AdminAddress, Secret};

const COOKIE: &str = "tollgate_session";

/// How long a login lasts. A working day.
const SESSION_S: i64 = 12 * 3600;

/// Nothing but our own style, script and calls; nobody may frame us.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
     img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// A login of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// Unix time in seconds.
    pub(crate) expires_s: i64,
}

/// Refuses what a page of somebody else may have sent.
pub(super) fn check_origin(admin: &Admin, head: &request::Parts) -> Result<(), Problem> {
    let host = host(head)?;
    if is_on_loopback(admin) && !is_loopback_name(&host) {
        return Err(Problem::forbidden(
            "this address is for loopback names: use http://localhost or http://127.0.0.1",
        ));
    }
    if let Some(origin) = head.headers.get(header::ORIGIN) {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        let own = origin.is_some_and(|(_, authority)| {
            host.as_ref().is_some_and(|host| authority.eq_ignore_ascii_case(host.as_str()))
        });
        if !own {
            return Err(Problem::forbidden("the origin is not this console"));
        }
    }
    let said = |name: &HeaderName| head.headers.get(name).map(HeaderValue::as_bytes);
    match said(&FETCH_SITE) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        // Following a link to the console is fine; all else is another page's doing.
        Some(_) if head.uri.path() == "/" && said(&FETCH_MODE) == Some(b"navigate") => Ok(()),
        Some(_) => Err(Problem::forbidden("asked for by another site's page")),
    }
}

/// The Host that was named. A socket in the file system needs none.
fn host(head: &request::Parts) -> Result<Option<Authority>, Problem> {
    let mut named = head.headers.get_all(header::HOST).iter();
    let (host, second) = (named.next(), named.next());
    if second.is_some() {
        return Err(Problem::bad("more than one host header"));
    }
    let host = match host {
        None => None,
        Some(host) => {
            let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
            let host = host.filter(|host| !host.as_str().contains('@'));
            Some(host.ok_or_else(|| Problem::bad("the host header is no host"))?)
        }
    };
    match head.uri.authority() {
        Some(target) if host.as_ref().is_some_and(|host| host != target) => {
            Err(Problem::bad("the request line and the host header name two hosts"))
        }
        Some(_) | None => Ok(host),
    }
}

fn is_on_loopback(admin: &Admin) -> bool {
    match &admin.address {
        AdminAddress::Tcp(address) => address.ip().is_loopback(),
        AdminAddress::Unix(_) => false,
    }
}

fn is_loopback_name(host: &Option<Authority>) -> bool {
    let Some(host) = host else { return false };
    let name = host.host();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.is_ok_and(|address| address.is_loopback())
        || name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
}

/// Refuses who may not do everything.
pub(super) fn check_known(
    admin: &Admin,
    tries: &Tries,
    from: PeerIp,
    head: &request::Parts,
) -> Result<(), Problem> {
    let Some(token) = &admin.token else {
        // The configuration refuses anything else; should it ever slip, nobody gets in.
        let is_near = is_on_loopback(admin) || matches!(admin.address, AdminAddress::Unix(_));
        return if is_near { Ok(()) } else { Err(Problem::unauthenticated()) };
    };
    // A session first: a forged one is no guess at the token, and one that is over is what
    // a browser left open sends every few seconds.
    if Session::of(&head.headers, token).is_some() {
        return Ok(());
    }
    match bearer(&head.headers).filter(|claim| !claim.is_empty()) {
        None => Err(Problem::unauthenticated()),
        Some(claim) => match tries.judge(from, token.is_known_to(claim)) {
            Judged::Right => Ok(()),
            Judged::Wrong => Err(Problem::unauthenticated()),
            Judged::Later(wait) => Err(Problem::too_many_tries(wait)),
        },
    }
}

pub(super) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, claim) =
        headers.get(header::AUTHORIZATION)?.as_bytes().split_first_chunk::<7>()?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| claim.trim_ascii())
}

/// A form of another site cannot be of this type without being asked first.
pub(super) fn check_json(head: &request::Parts) -> Result<(), Problem> {
    let named = head.headers.get(header::CONTENT_TYPE).and_then(|named| named.to_str().ok());
    let essence = named.and_then(|named| named.split(';').next()).map(str::trim);
    let is_json = |essence: &str| {
        let known = ["application/json", "application/x-ndjson"];
        known.iter().any(|known| essence.eq_ignore_ascii_case(known))
    };
    if essence.is_some_and(is_json) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send content-type: application/json"))
}

/// On every answer, refusals included.
pub(super) fn harden(headers: &mut HeaderMap) {
    let fixed = HeaderValue::from_static;
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    headers.insert(header::REFERRER_POLICY, fixed("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, fixed("DENY"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), fixed("same-origin"));
}

impl Session {
    /// One that begins now.
    pub(crate) fn begin() -> Self {
        Self { expires_s: now_s().saturating_add(SESSION_S) }
    }

    /// The session that the cookies prove, if it is not over.
    fn of(headers: &HeaderMap, token: &Secret) -> Option<Self> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|it| it.to_str().ok());
        let mut pairs =
            cookies.flat_map(|line| line.split(';')).filter_map(|it| it.split_once('='));
        pairs.find_map(|(name, value)| {
            let value = (name.trim() == COOKIE).then(|| value.trim())?;
            let (expires_s, proof) = value.split_once('.')?;
            let session = Self { expires_s: expires_s.parse().ok()? };
            // `blake3::Hash` compares in constant time.
            let is_ours = blake3::Hash::from_hex(proof).ok()? == session.proof(token);
            (is_ours && session.expires_s > now_s()).then_some(session)
        })
    }

    fn proof(self, token: &Secret) -> blake3::Hash {
        let context = "tollgate 2026-11 session of the console";
        let key = blake3::derive_key(context, token.expose().as_bytes());
        blake3::keyed_hash(&key, &self.expires_s.to_le_bytes())
    }
}

/// The cookie of a session; without one, the cookie that ends it.
pub(crate) fn session_cookie(session: Option<Session>, token: &Secret) -> Option<HeaderValue> {
    let (value, age_s) = match session {
        Some(session) => (format!("{}.{}", session.expires_s, session.proof(token)), SESSION_S),
        None => (String::new(), 0),
    };
    let flags = "Path=/; HttpOnly; SameSite=Strict";
    HeaderValue::from_str(&format!("{COOKIE}={value}; Max-Age={age_s}; {flags}")).ok()
}

/// Whether this is the token; an empty one never is.
pub(crate) fn is_token(admin: &Admin, claim: &[u8]) -> bool {
    !claim.is_empty() && admin.token.as_ref().is_some_and(|token| token.is_known_to(claim))
}

fn now_s() -> i64 {
    crate::meter::unix_ms() / 1000
}
