//! The checks and the cleaning that every head needs, in both directions.
//!
//! hyper parses safely but forwards odd things unless told otherwise (`cache.md` §2).
//! What is refused here cannot reach a service that reads it differently than we do;
//! that is what request smuggling lives from.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header, request,
    uri::{Authority, PathAndQuery},
};
use smallvec::SmallVec;
use std::borrow::Cow;

/// What is wrong with the head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHead {
    #[error("the method is not forwarded: CONNECT and TRACE are not for a reverse proxy")]
    Method,
    #[error("a request needs exactly one host")]
    Host,
    #[error("the host is not a valid authority")]
    HostSyntax,
    #[error("transfer-encoding may be `chunked`, once, and nothing else")]
    TransferEncoding,
    #[error("the request target must be a path; `*` goes with OPTIONS only")]
    Target,
    #[error("the path contains %2f, %5c, %00 or a backslash, which services decode differently")]
    PathEncoding,
    #[error("a field that says who is asking comes twice")]
    TwoIdentities,
    #[error("the path climbs above /")]
    PathClimbs,
    #[error("the head has more fields than limits.headers")]
    TooManyFields,
    #[error("the head is not HTTP: its first line, a field or a length is malformed")]
    Malformed,
    #[error("the head is longer than limits.header_bytes, or has more fields than limits.headers")]
    TooLong,
}

const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Fields that `connection` may not name away: dropping them would change the message.
const NEVER_NAMED: [HeaderName; 3] =
    [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING];

/// Checks a request's head, and puts `host` where an HTTP/2 `:authority` said it.
///
/// # Errors
/// The first thing wrong with it.
pub(crate) fn check(head: &mut request::Parts, fields_max: usize) -> Result<(), BadHead> {
    // hyper counts those of HTTP/1.1; HTTP/2 bounds only their bytes.
    if head.headers.len() > fields_max {
        return Err(BadHead::TooManyFields);
    }
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Err(BadHead::Method);
    }
    check_host(head)?;
    join_cookies(&mut head.headers);
    let mut encodings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(encoding) = encodings.next()
        && (encodings.next().is_some() || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(BadHead::TransferEncoding);
    }
    let path = head.uri.path();
    if path == "*" && head.method != Method::OPTIONS || !path.starts_with('/') && path != "*" {
        return Err(BadHead::Target);
    }
    Ok(())
}

/// RFC 9112 §3.2: exactly one Host in HTTP/1.1, and an absolute target overrides it.
fn check_host(head: &mut request::Parts) -> Result<(), BadHead> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(BadHead::Host);
    }
    match (head.uri.authority(), first) {
        (Some(authority), named) => {
            if authority.as_str().contains('@') {
                return Err(BadHead::HostSyntax);
            }
            let differs = named.is_some_and(|host| {
                !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())
            });
            if differs && head.version == Version::HTTP_2 {
                return Err(BadHead::Host);
            }
            let host = HeaderValue::from_str(authority.as_str());
            head.headers.insert(header::HOST, host.map_err(|_| BadHead::HostSyntax)?);
        }
        (None, Some(host)) => {
            let valid = is_plain_host(host.as_bytes())
                || Authority::try_from(host.as_bytes())
                    .is_ok_and(|it| !it.as_str().contains('@') && has_possible_port(it.as_str()));
            if !valid {
                return Err(BadHead::HostSyntax);
            }
        }
        // HTTP/1.0 knew no Host.
        (None, None) if head.version == Version::HTTP_10 => {}
        (None, None) => return Err(BadHead::Host),
    }
    Ok(())
}

/// The common case, without building an `Authority`: letters, digits, dots, dashes, a port.
fn is_plain_host(host: &[u8]) -> bool {
    let mut parts = host.splitn(2, |byte| *byte == b':');
    let name = parts.next().unwrap_or_default();
    let port = parts.next().unwrap_or(b"0");
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !name.is_empty()
        && name.iter().all(is_name)
        && (1..=5).contains(&port.len())
        && (port.len() < 5 || port <= b"65535".as_slice())
        && port.iter().all(u8::is_ascii_digit)
}

/// `Authority` takes any digits after the colon.
fn has_possible_port(authority: &str) -> bool {
    let after_brackets = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
    after_brackets.split_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_ok())
}

/// HTTP/2 may split `cookie` into several fields; HTTP/1.1 has one (RFC 9113 §8.2.3). Who
/// sends two there is the caller of both.
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (cookies.next(), cookies.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for cookie in std::iter::once(second).chain(cookies) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, joined);
    }
}

/// The path as routes see it: dot segments resolved (RFC 3986 §5.2.4), unreserved
/// characters decoded. Borrowed when there is nothing to do, which is nearly always.
/// Doubled slashes stay: to many services they mean something.
///
/// # Errors
/// A path that services would read differently from each other.
pub(crate) fn normal_path(path: &str) -> Result<Cow<'_, str>, BadHead> {
    let bytes = path.as_bytes();
    let odd = bytes.iter().any(|byte| matches!(byte, b'%' | b'\\'));
    let dotted = memchr::memmem::find(bytes, b"/.").is_some();
    if !odd && !dotted {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode_unreserved(path)?;
    let mut segments: SmallVec<[&str; 16]> = SmallVec::new();
    let mut ends_open = false;
    for segment in decoded.split('/').skip(1) {
        ends_open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                segments.pop().ok_or(BadHead::PathClimbs)?;
            }
            segment => segments.push(segment),
        }
    }
    let mut normal = String::with_capacity(decoded.len());
    for segment in &segments {
        normal.push('/');
        normal.push_str(segment);
    }
    if ends_open || segments.is_empty() {
        normal.push('/');
    }
    Ok(Cow::Owned(normal))
}

/// Decodes what never needed encoding (RFC 3986 §6.2.2.2), so that `/%761` is `/v1`.
fn decode_unreserved(path: &str) -> Result<String, BadHead> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path.chars();
    while let Some(character) = rest.next() {
        match character {
            '\\' => return Err(BadHead::PathEncoding),
            '%' => {
                let digits = rest.as_str().get(..2).ok_or(BadHead::PathEncoding)?;
                let byte = u8::from_str_radix(digits, 16).map_err(|_| BadHead::PathEncoding)?;
                let character = char::from(byte);
                if matches!(byte, 0 | b'/' | b'\\') || digits.starts_with('+') {
                    return Err(BadHead::PathEncoding);
                }
                if character.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                    out.push(character);
                } else {
                    out.push('%');
                    out.push_str(&digits.to_ascii_uppercase());
                }
                rest = rest.as_str().get(2..).unwrap_or_default().chars();
            }
            character => out.push(character),
        }
    }
    Ok(out)
}

/// What an HTTP/1.1 origin is sent as target: path and query, nothing else.
pub(crate) fn origin_form(uri: &Uri, normal: &str) -> Uri {
    if uri.authority().is_none() && uri.path() == normal {
        return uri.clone();
    }
    let target = match uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{normal}?{query}")),
        None => PathAndQuery::try_from(normal),
    };
    target.map_or_else(|_| Uri::from_static("/"), Uri::from)
}

/// Drops what is meant for one hop: what `connection` names, and the known ones.
/// `te: trailers` may stay in a request. Of a request before anything is read from it:
/// what the upstream will not see must count neither in a key nor in who is asking.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: SmallVec<[HeaderName; 4]> = headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .filter(|name| !NEVER_NAMED.contains(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, header::UPGRADE, HTTP2_SETTINGS] {
        headers.remove(name);
    }
    headers.remove(header::TRANSFER_ENCODING);
    if let Some(te) = headers.get(header::TE)
        && !te.as_bytes().eq_ignore_ascii_case(b"trailers")
    {
        headers.remove(header::TE);
    }
}

/// The caller asks for a WebSocket: the one upgrade that is forwarded.
pub(crate) fn asks_for_websocket(head: &request::Parts) -> bool {
    let names = |name: HeaderName, token: &str| {
        head.headers.get_all(name).iter().any(|value| {
            let mut tokens = value.as_bytes().split(|byte| *byte == b',');
            tokens.any(|found| found.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
        })
    };
    head.method == Method::GET
        && head.version == Version::HTTP_11
        && names(header::CONNECTION, "upgrade")
        && names(header::UPGRADE, "websocket")
}

/// A status that never has a body, whatever the head says.
pub(crate) fn is_bodyless(method: &Method, status: StatusCode) -> bool {
    method == Method::HEAD
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || status.is_informational()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[track_caller]
    fn check_path(path: &str, expected: Result<&str, BadHead>) {
        assert_eq!(normal_path(path).as_deref().map_err(|bad| *bad), expected, "{path}");
    }

    #[test]
    fn routes_see_one_spelling_of_a_path() {
        check_path("/v1/chat", Ok("/v1/chat"));
        check_path("/v1//chat/", Ok("/v1//chat/"));
        check_path("/v1/./a/../chat", Ok("/v1/chat"));
        check_path("/%76%31/ch%61t", Ok("/v1/chat"));
        check_path("/a%20b%c3%a9", Ok("/a%20b%C3%A9"));
        check_path("/.hidden/x", Ok("/.hidden/x"));
        check_path("/a/..", Ok("/"));
        check_path("/a/b/..", Ok("/a/"));
    }

    #[test]
    fn a_path_that_services_read_differently_is_refused() {
        for path in ["/a%2fb", "/a%2Fb", "/a%5cb", "/a%00", "/a\\b", "/a%", "/a%4", "/a%zz"] {
            check_path(path, Err(BadHead::PathEncoding));
        }
        check_path("/..", Err(BadHead::PathClimbs));
        check_path("/a/../../b", Err(BadHead::PathClimbs));
        check_path("/%2e%2e/b", Err(BadHead::PathClimbs));
    }

    #[track_caller]
    fn check_head(build: impl FnOnce(&mut request::Parts), expected: Result<(), BadHead>) {
        let (mut head, ()) = Request::builder().uri("/x").body(()).unwrap().into_parts();
        head.headers.insert(header::HOST, HeaderValue::from_static("a.example:80"));
        build(&mut head);
        assert_eq!(check(&mut head, 100), expected);
    }

    #[test]
    fn a_head_has_one_host_and_a_known_framing() {
        check_head(|_| {}, Ok(()));
        check_head(|head| drop(head.headers.remove(header::HOST)), Err(BadHead::Host));
        let host = HeaderValue::from_static;
        check_head(
            |h| {
                h.headers.append(header::HOST, host("b"));
            },
            Err(BadHead::Host),
        );
        for bad in ["a b", "user@a", "a:99999999", "a/b", ""] {
            check_head(
                |h| drop(h.headers.insert(header::HOST, host(bad))),
                Err(BadHead::HostSyntax),
            );
        }
        check_head(|h| drop(h.headers.insert(header::HOST, host("[::1]:8080"))), Ok(()));
        let te = header::TRANSFER_ENCODING;
        check_head(|h| drop(h.headers.insert(te.clone(), host("Chunked"))), Ok(()));
        for bad in ["gzip, chunked", "identity", "chunked, chunked", "xchunked"] {
            check_head(
                |h| drop(h.headers.insert(te.clone(), host(bad))),
                Err(BadHead::TransferEncoding),
            );
        }
        check_head(|h| h.method = Method::CONNECT, Err(BadHead::Method));
        check_head(|h| h.method = Method::TRACE, Err(BadHead::Method));
        check_head(|h| h.uri = Uri::from_static("*"), Err(BadHead::Target));
    }

    #[test]
    fn an_absolute_target_overrides_host() {
        check_head(
            |head| {
                head.uri = Uri::from_static("http://other.example/x");
                check(head, 100).unwrap();
                assert_eq!(head.headers[header::HOST], "other.example");
            },
            Ok(()),
        );
    }

    #[test]
    fn what_is_meant_for_one_hop_stays_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-secret, content-length"),
            ("x-secret", "1"),
            ("content-length", "3"),
            ("keep-alive", "1"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("te", "gzip"),
            ("x-kept", "1"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "x-kept"]);
    }
}
