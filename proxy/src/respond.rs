//! Answers that the proxy itself gives. The one place where a failure becomes a
//! status, so that the whole table can be read, and changed, at once.

use crate::{
    admission::{Refused, Shed},
    body::Body,
    exchange::{ExchangeError, Timing},
    head::BadHead,
    inspect::InspectError,
    relay::{AnswerHead, SharedHead},
    seldom::Seldom,
    upstream::UpstreamError,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tollgate_core::dialect::Dialect;

pub(crate) const REASON: HeaderName = HeaderName::from_static("tollgate-reason");
pub(crate) const RECORD: HeaderName = HeaderName::from_static("tollgate-record");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const FALLBACK: HeaderName = HeaderName::from_static("tollgate-degraded");
const DEBUG: HeaderName = HeaderName::from_static("tollgate-debug");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// On whose side the cause lies. Alerts fire on `Proxy`, never on `Downstream`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Downstream,
    Upstream,
    Proxy,
}

/// Whether, and when, the same call again makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    Never,
    /// It may, but we cannot say when.
    Perhaps,
    After(Duration),
}

/// What a failure means to the caller, to the operator and to a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) status: StatusCode,
    pub(crate) fault: Fault,
    /// Low-cardinality name: metric label, ledger code and `tollgate-reason`.
    pub(crate) reason: &'static str,
    pub(crate) retry: Retry,
    /// For the caller: what, and what to do. Never hosts, paths or other people's text.
    pub(crate) message: &'static str,
}

/// One second: what is refused for another reason than who else asks may be over by then, and
/// another instance takes it at once.
const SOON: Retry = Retry::After(Duration::from_secs(1));

const BREAKER_OPEN: &str = "the upstream fails, and is left alone for a while";

/// In whole seconds, and not before it is worth it.
fn after(wait: Duration) -> Retry {
    let part = Duration::from_secs(u64::from(wait.subsec_nanos() > 0));
    Retry::After(Duration::from_secs(wait.as_secs()).saturating_add(part))
}

const METHOD_NOT_ALLOWED: StatusCode = StatusCode::METHOD_NOT_ALLOWED;
const BAD_REQUEST: StatusCode = StatusCode::BAD_REQUEST;
const HEAD_TOO_LARGE: StatusCode = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
const PAYLOAD_TOO_LARGE: StatusCode = StatusCode::PAYLOAD_TOO_LARGE;
const TIMEOUT: StatusCode = StatusCode::REQUEST_TIMEOUT;
const TOO_MANY: StatusCode = StatusCode::TOO_MANY_REQUESTS;
const BAD_GATEWAY: StatusCode = StatusCode::BAD_GATEWAY;
const GATEWAY_TIMEOUT: StatusCode = StatusCode::GATEWAY_TIMEOUT;
const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
const INTERNAL: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;
const NOT_FOUND: StatusCode = StatusCode::NOT_FOUND;

#[rustfmt::skip] // a table
pub(crate) fn verdict(error: &ExchangeError) -> Verdict {
    use ExchangeError as E;
    use Fault::{Downstream, Proxy, Upstream};
    use Retry::{After, Never, Perhaps};
    use UpstreamError as U;
    let (status, fault, reason, retry, message) = match error {
        E::NoRoute(_)                            => (NOT_FOUND,          Downstream, "no_route",             Never,   "no route is configured for this method, host and path"),
        E::BadHead(BadHead::Method)              => (METHOD_NOT_ALLOWED, Downstream, "method_not_allowed",   Never,   "CONNECT and TRACE are not forwarded"),
        E::BadHead(BadHead::Host | BadHead::HostSyntax)
                                                 => (BAD_REQUEST,        Downstream, "bad_request",          Never,   "a request needs exactly one valid host"),
        E::BadHead(BadHead::TransferEncoding)    => (BAD_REQUEST,        Downstream, "bad_request",          Never,   "transfer-encoding may only be `chunked`, once"),
        E::BadHead(BadHead::Target)              => (BAD_REQUEST,        Downstream, "bad_request",          Never,   "the request target must be a path"),
        E::BadHead(BadHead::PathEncoding | BadHead::PathClimbs)
                                                 => (BAD_REQUEST,        Downstream, "bad_request",          Never,   "the path holds an encoded slash, backslash or NUL, or climbs above /"),
        E::BadHead(BadHead::TwoIdentities)       => (BAD_REQUEST,        Downstream, "bad_request",          Never,   "a field that says who is asking may come once only"),
        E::BadHead(BadHead::Malformed)           => (BAD_REQUEST,        Downstream, "bad_request",          Never,   "the head of the request is not HTTP"),
        E::BadHead(BadHead::TooLong)             => (HEAD_TOO_LARGE,     Downstream, "headers_too_large",    Never,   "the head is longer, or has more fields, than is taken"),
        E::BadHead(BadHead::TooManyFields)       => (HEAD_TOO_LARGE,     Downstream, "headers_too_large",    Never,   "the head has more fields than are taken"),
        E::Inspect(InspectError::TooLarge) | E::Upstream(U::TooLarge)
                                                 => (PAYLOAD_TOO_LARGE,  Downstream, "body_too_large",       Never,   "the request body is longer than this route takes"),
        E::Inspect(InspectError::Timeout)        => (TIMEOUT,            Downstream, "request_timeout",      Perhaps, "the request body did not arrive in time"),
        E::Inspect(InspectError::Cut) | E::Upstream(U::DownstreamCut)
                                                 => (BAD_REQUEST,        Downstream, "bad_request",          Never,   "the request body ended before its end"),
        E::NotCached                             => (GATEWAY_TIMEOUT,    Downstream, "not_cached",           Never,   "the answer is not in the cache, and only-if-cached was asked"),
        E::Shed(Refused { shed, retry_after })   => {
            let (status, fault, retry, message) = shed_verdict(*shed, After(*retry_after));
            (status, fault, shed.reason(), retry, message)
        }
        E::Upstream(U::BreakerOpen { wait, .. }) => (UNAVAILABLE,        Upstream,   "breaker_open",         after(*wait), BREAKER_OPEN),
        E::Upstream(U::Unreachable { .. } | U::ConnectTimeout { .. })
                                                 => (BAD_GATEWAY,        Upstream,   "upstream_unreachable", Perhaps, "the upstream cannot be reached"),
        E::Upstream(U::Reset { .. } | U::Cut { .. })
                                                 => (BAD_GATEWAY,        Upstream,   "upstream_reset",       Perhaps, "the upstream closed the connection before it answered"),
        E::Upstream(U::Protocol { .. } | U::Unasked { .. })
                                                 => (BAD_GATEWAY,        Upstream,   "upstream_protocol",    Perhaps, "the upstream's answer is not HTTP"),
        E::Upstream(U::FirstByteTimeout { .. } | U::Deadline { .. })
                                                 => (GATEWAY_TIMEOUT,    Upstream,   "upstream_timeout",     Perhaps, "the upstream did not begin to answer in time"),
        E::Upstream(U::Unavailable { status, .. })
                                                 => (*status,            Upstream,   "upstream_unreachable", Perhaps, "the upstream cannot answer now, and nor can those in its place"),
        E::Internal | E::Instead(_)              => (INTERNAL,           Proxy,      "internal",             Perhaps, "an error inside the proxy; it was logged"),
    };
    Verdict { status, fault, reason, retry, message }
}

#[rustfmt::skip] // a table
fn shed_verdict(shed: Shed, after: Retry) -> (StatusCode, Fault, Retry, &'static str) {
    use Fault::{Proxy, Upstream};
    match shed {
        Shed::QueueFull          => (TOO_MANY,        Proxy,    after,          "the queue of this class is full"),
        Shed::PushedOut          => (TOO_MANY,        Proxy,    after,          "the queue is full, and its place went to a call with a better right to it"),
        Shed::QueueTimeout       => (TOO_MANY,        Proxy,    after,          "no turn came within this class's max_wait"),
        Shed::DeadlineUnmeetable => (GATEWAY_TIMEOUT, Proxy,    Retry::Perhaps, "the deadline passes before an answer can come"),
        Shed::Preempted          => (UNAVAILABLE,     Proxy,    after,          "its place was taken back for a more important call; nothing of it was answered"),
        Shed::BreakerOpen        => (UNAVAILABLE,     Upstream, SOON,           BREAKER_OPEN),
        Shed::Draining           => (UNAVAILABLE,     Proxy,    SOON,           "this instance is going down; ask another"),
    }
}

/// The answer to a call that is refused, in the shape its dialect's SDK expects.
pub(crate) fn refusal(
    verdict: &Verdict,
    dialect: Dialect,
    request_id: &HeaderValue,
) -> Response<Body> {
    let (content_type, body) = match dialect {
        Dialect::OpenAi => ("application/json", openai_error(verdict)),
        Dialect::Anthropic => ("application/json", anthropic_error(verdict, request_id)),
        Dialect::Gemini => ("application/json", gemini_error(verdict)),
        Dialect::Ollama => ("application/json", serde_json::json!({ "error": verdict.message })),
        Dialect::Cohere => ("application/json", serde_json::json!({ "message": verdict.message })),
        Dialect::Tgi => ("application/json", tgi_error(verdict)),
        Dialect::Http => ("application/problem+json", problem(verdict)),
    };
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = Response::new(Body::Whole(Bytes::from(body)));
    *response.status_mut() = verdict.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REASON, HeaderValue::from_static(verdict.reason));
    match verdict.retry {
        Retry::Never => {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        Retry::Perhaps => {}
        Retry::After(wait) => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
    }
    response
}

fn openai_error(verdict: &Verdict) -> serde_json::Value {
    let kind = match verdict.status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        TOO_MANY if verdict.reason == "over_budget" => "insufficient_quota",
        TOO_MANY => "rate_limit_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    };
    serde_json::json!({
        "error": { "message": verdict.message, "type": kind, "param": null, "code": verdict.reason }
    })
}

fn anthropic_error(verdict: &Verdict, request_id: &HeaderValue) -> serde_json::Value {
    let kind = match verdict.status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        NOT_FOUND => "not_found_error",
        PAYLOAD_TOO_LARGE => "request_too_large",
        TOO_MANY => "rate_limit_error",
        UNAVAILABLE => "overloaded_error",
        GATEWAY_TIMEOUT | TIMEOUT => "timeout_error",
        status if status.is_server_error() => "api_error",
        _ => "invalid_request_error",
    };
    serde_json::json!({
        "type": "error",
        "error": { "type": kind, "message": verdict.message },
        "request_id": request_id.to_str().ok(),
    })
}

/// As Google's APIs do (AIP-193).
fn gemini_error(verdict: &Verdict) -> serde_json::Value {
    let status = match verdict.status {
        StatusCode::UNAUTHORIZED => "UNAUTHENTICATED",
        StatusCode::FORBIDDEN => "PERMISSION_DENIED",
        NOT_FOUND => "NOT_FOUND",
        METHOD_NOT_ALLOWED => "UNIMPLEMENTED",
        TOO_MANY => "RESOURCE_EXHAUSTED",
        GATEWAY_TIMEOUT | TIMEOUT => "DEADLINE_EXCEEDED",
        UNAVAILABLE | BAD_GATEWAY => "UNAVAILABLE",
        status if status.is_server_error() => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    };
    let reason = serde_json::json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": verdict.reason,
        "domain": "tollgate",
    });
    let code = verdict.status.as_u16();
    serde_json::json!({
        "error": { "code": code, "message": verdict.message, "status": status, "details": [reason] }
    })
}

fn tgi_error(verdict: &Verdict) -> serde_json::Value {
    let kind = match verdict.status {
        TOO_MANY | UNAVAILABLE => "overloaded",
        status if status.is_server_error() => "generation",
        _ => "validation",
    };
    serde_json::json!({ "error": verdict.message, "error_type": kind })
}

/// RFC 9457.
fn problem(verdict: &Verdict) -> serde_json::Value {
    serde_json::json!({
        "type": "about:blank",
        "title": verdict.status.canonical_reason().unwrap_or("error"),
        "status": verdict.status.as_u16(),
        "detail": verdict.message,
        "code": verdict.reason,
    })
}

/// Whether a peer that may ask wants to know where the time went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Debug {
    asked: bool,
    /// How long the cache was asked.
    cache: Duration,
}

impl Debug {
    /// The field was removed before if the peer is not trusted.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let asked = headers.get(DEBUG).is_some_and(|wish| wish == "1");
        Self { asked, cache: Duration::ZERO }
    }

    /// The time now, if somebody will be told: nobody else pays for a look at the clock.
    pub(crate) fn clock(self) -> Option<Instant> {
        self.asked.then(Instant::now)
    }

    /// The cache has said what it has, to a question of that moment.
    pub(crate) fn looked_up(&mut self, since: Option<Instant>) {
        if let Some(since) = since {
            self.cache = Instant::now().saturating_duration_since(since);
        }
    }

    /// Says in an answer where the time went; `upstream`: where one was asked.
    pub(crate) fn tell(self, headers: &mut HeaderMap, upstream: Option<&Timing>) {
        if !self.asked {
            return;
        }
        let ms = |length: Duration| {
            let us = length.as_micros();
            format!("{}.{:03}", us / 1000, us % 1000)
        };
        let mut text = format!("cache;dur={}", ms(self.cache));
        if let Some(Timing { queue, upstream }) = upstream {
            text = format!("queue;dur={}, {text}, upstream;dur={}", ms(*queue), ms(*upstream));
        }
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.append(SERVER_TIMING, value);
        }
    }
}

/// An upstream's answer, as this caller gets it.
pub(crate) fn from_upstream(
    head: AnswerHead,
    cache_status: HeaderValue,
    debug: Debug,
    body: Body,
) -> Response<Body> {
    // Shared with followers only where there are any.
    let shared = Arc::try_unwrap(head.shared).unwrap_or_else(|shared| SharedHead::clone(&shared));
    let mut response = Response::new(body);
    *response.status_mut() = shared.status;
    *response.headers_mut() = shared.headers;
    append_cache_status(response.headers_mut(), cache_status);
    debug.tell(response.headers_mut(), Some(&shared.timing));
    response
}

/// Says that another upstream than its own has answered a call: in a field of ours, and as the
/// cache's detail, for it is why nothing was stored.
pub(crate) fn say_fallback(headers: &mut HeaderMap, is_fallback: bool) {
    if !is_fallback {
        return;
    }
    headers.insert(FALLBACK, HeaderValue::from_static("fallback"));
    let statuses = headers.get_all(CACHE_STATUS).iter().filter_map(|value| value.to_str().ok());
    let mut statuses: Vec<String> = statuses.map(str::to_owned).collect();
    let Some(own) = statuses.last_mut() else { return };
    *own = format!("{}; detail=fallback", own.split("; detail=").next().unwrap_or_default());
    headers.remove(CACHE_STATUS);
    for status in statuses.iter().filter_map(|status| HeaderValue::from_str(status).ok()) {
        append_cache_status(headers, status);
    }
}

/// Says what the cache did (RFC 9211), after what caches behind us said.
pub(crate) fn append_cache_status(headers: &mut HeaderMap, status: HeaderValue) {
    headers.append(CACHE_STATUS, status);
}

/// `tollgate; fwd=bypass; detail=WHY`
pub(crate) fn bypass_status(why: &'static str) -> HeaderValue {
    // The two that every call of a route may have are ready made.
    match why {
        "off" => HeaderValue::from_static("tollgate; fwd=bypass; detail=off"),
        "not-pure" => HeaderValue::from_static("tollgate; fwd=bypass; detail=not-pure"),
        why => HeaderValue::from_str(&format!("tollgate; fwd=bypass; detail={why}"))
            .unwrap_or(HeaderValue::from_static("tollgate; fwd=bypass")),
    }
}

/// `tollgate; fwd=partial; detail="93/100"`: so many of the call's items were known (RFC 9211
/// §2.2).
pub(crate) fn partial_status((known, all): (usize, usize)) -> HeaderValue {
    HeaderValue::from_str(&format!("tollgate; fwd=partial; detail=\"{known}/{all}\""))
        .unwrap_or(HeaderValue::from_static("tollgate; fwd=partial"))
}

/// The status of an answer that the cache did not have. Not `stored`: that is only known
/// when the answer has come to its end and turned out to be whole and finished.
pub(crate) fn miss_status(collapsed: bool, forwarded: &'static str) -> HeaderValue {
    HeaderValue::from_static(match (forwarded, collapsed) {
        ("uri-miss", true) => "tollgate; fwd=uri-miss; collapsed",
        ("vary-miss", true) => "tollgate; fwd=vary-miss; collapsed",
        (_, true) => "tollgate; fwd=miss; collapsed",
        // An answer to POST that is kept for GET after all.
        ("bypass", _) => "tollgate; fwd=bypass; detail=method",
        ("uri-miss", _) => "tollgate; fwd=uri-miss",
        ("vary-miss", _) => "tollgate; fwd=vary-miss",
        ("stale", _) => "tollgate; fwd=stale",
        ("request", _) => "tollgate; fwd=request",
        ("voted-out", _) => "tollgate; fwd=miss; detail=voted-out",
        (_, false) => "tollgate; fwd=miss",
    })
}

/// How often refusals of one reason are logged, at most.
/// When a refusal was logged last, by fault.
static LOGGED: [Seldom; 3] = [const { Seldom::new() }; 3];

/// Logs a refusal or failure: the reason and the chain, once a second for each side's
/// fault, with the number of those that were not logged.
pub(crate) fn log(verdict: &Verdict, error: &ExchangeError, request_id: &HeaderValue) {
    let place = match verdict.fault {
        Fault::Downstream => 0,
        Fault::Upstream => 1,
        Fault::Proxy => 2,
    };
    let Some(not_logged) = LOGGED.get(place).and_then(Seldom::now) else { return };
    let (status, reason) = (verdict.status.as_u16(), verdict.reason);
    let error = chain(error);
    let fault = verdict.fault;
    tracing::warn!(status, reason, ?fault, error, ?request_id, not_logged, "a call was refused");
}

fn chain(error: &ExchangeError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::NoRoute;
    use http_body_util::BodyExt as _;

    #[track_caller]
    fn check(error: &ExchangeError, dialect: Dialect, expected: &str) {
        let id = HeaderValue::from_static("req-1");
        let response = refusal(&verdict(error), dialect, &id);
        let (parts, body) = response.into_parts();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = runtime.block_on(body.collect()).unwrap().to_bytes();
        let headers = [SHOULD_RETRY, header::RETRY_AFTER];
        let retry: Vec<_> = headers
            .iter()
            .filter_map(|name| Some(format!("{name}={}", parts.headers.get(name)?.to_str().ok()?)))
            .collect();
        let body = String::from_utf8_lossy(&body);
        assert_eq!(format!("{} {} {body}", parts.status.as_u16(), retry.join(" ")), expected);
    }

    fn shed(shed: Shed) -> ExchangeError {
        ExchangeError::Shed(Refused { shed, retry_after: Duration::from_secs(7) })
    }

    #[test]
    fn a_refusal_speaks_the_callers_dialect() {
        check(
            &shed(Shed::QueueFull),
            Dialect::OpenAi,
            r#"429 retry-after=7 {"error":{"code":"queue_full","message":"the queue of this class is full","param":null,"type":"rate_limit_error"}}"#,
        );
        check(
            &shed(Shed::Draining),
            Dialect::Anthropic,
            r#"503 retry-after=1 {"error":{"message":"this instance is going down; ask another","type":"overloaded_error"},"request_id":"req-1","type":"error"}"#,
        );
        check(
            &shed(Shed::QueueFull),
            Dialect::Gemini,
            r#"429 retry-after=7 {"error":{"code":429,"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","domain":"tollgate","reason":"queue_full"}],"message":"the queue of this class is full","status":"RESOURCE_EXHAUSTED"}}"#,
        );
        check(
            &shed(Shed::QueueFull),
            Dialect::Ollama,
            r#"429 retry-after=7 {"error":"the queue of this class is full"}"#,
        );
        check(
            &shed(Shed::QueueFull),
            Dialect::Cohere,
            r#"429 retry-after=7 {"message":"the queue of this class is full"}"#,
        );
        check(
            &shed(Shed::QueueFull),
            Dialect::Tgi,
            r#"429 retry-after=7 {"error":"the queue of this class is full","error_type":"overloaded"}"#,
        );
        check(
            &ExchangeError::NoRoute(NoRoute),
            Dialect::Http,
            r#"404 x-should-retry=false {"code":"no_route","detail":"no route is configured for this method, host and path","status":404,"title":"Not Found","type":"about:blank"}"#,
        );
    }
}
