//! A request that is held to be asked ahead: what it asks, and nothing of who asked it.
//!
//! It is asked in the name of the caller who is likely to ask it next: with that one's head, and so
//! with its credentials, its address and its fields of the key. No credential of anybody is held.
//!
//! **Invariant:** nothing of a caller's scope is asked in the name of another scope. A held request
//! is found by a name that has the scope in it, and the name is made anew of who asks and what is
//! held before anything is sent.

use super::{Asked, trail::Name};
use crate::{cache, inspect::AskBody, respond::REQUEST_ID};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, header,
    uri::{PathAndQuery, Uri},
};
use tollgate_cache::key::BodyDigest;

/// A longer request is not asked ahead: a conversation with pictures is nobody else's next question.
const BYTES_MAX: usize = 256 * 1024;
/// What it takes beside its bytes.
const OVERHEAD_BYTES: usize = 512;

/// What of a head is about the body.
const OF_BODY: [HeaderName; 3] = [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::ACCEPT];

/// What is about one call, and would be a lie, or harm, beside another body.
const OF_ONE_CALL: [HeaderName; 32] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::ACCEPT,
    header::CONTENT_LENGTH,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::TRANSFER_ENCODING,
    header::EXPECT,
    header::RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::CACHE_CONTROL,
    header::PRAGMA,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    // A service takes what came under one of these for the same call again.
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("x-idempotency-key"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
    // How long its caller waits for its own answer.
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms"),
    HeaderName::from_static("x-stainless-read-timeout"),
    HeaderName::from_static("tollgate-timeout"),
    HeaderName::from_static("tollgate-debug"),
    REQUEST_ID,
];

#[derive(Debug)]
pub(super) struct Held {
    method: Method,
    /// As it is sent.
    path: Box<str>,
    /// As a key has it.
    key_path: Box<str>,
    digest: BodyDigest,
    headers: HeaderMap,
    body: Bytes,
}

impl Held {
    /// `None`: it is too long, or would be answered item by item.
    pub(super) fn of(asked: &Asked<'_>, digest: &BodyDigest) -> Option<Self> {
        let Asked { ask, head, route, .. } = asked;
        let AskBody::Whole(bytes, _) = &ask.body else { return None };
        let is_held = bytes.len() <= BYTES_MAX && route.layouts(ask.operation).is_empty();
        is_held.then(|| {
            let mut headers = HeaderMap::new();
            for name in &OF_BODY {
                for value in head.headers.get_all(name) {
                    // What hyper read is a part of a larger piece, all of which would be held, with
                    // its credentials.
                    let copied = HeaderValue::from_bytes(value.as_bytes());
                    copied.into_iter().for_each(|value| {
                        headers.append(name.clone(), value);
                    });
                }
            }
            Self {
                method: head.method.clone(),
                path: head.uri.path().into(),
                key_path: ask.key_path().as_ref().into(),
                digest: *digest,
                headers,
                body: Bytes::copy_from_slice(bytes),
            }
        })
    }

    pub(super) fn bytes(&self) -> usize {
        let fields = self.headers.values().map(HeaderValue::len);
        let head = fields.fold(self.path.len(), usize::saturating_add);
        let head = head.saturating_add(self.key_path.len());
        self.body.len().saturating_add(head).saturating_add(OVERHEAD_BYTES)
    }

    /// What it is called where `asked`'s caller asks it.
    pub(super) fn name_for(&self, asked: &Asked<'_>) -> Name {
        asked.name(self.method.as_str(), &self.key_path, &self.digest)
    }

    /// It, in the name of `asked`'s caller; `None`: there is no such target. The query is the
    /// caller's own: one in which it differs has another name.
    pub(super) fn request_for(&self, asked: &Asked<'_>) -> Option<Request<Bytes>> {
        let target = match asked.head.uri.query() {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.to_string(),
        };
        let mut parts = asked.head.uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::from_maybe_shared(Bytes::from(target)).ok()?);
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from_parts(parts).ok()?;
        let headers = request.headers_mut();
        headers.clone_from(&asked.head.headers);
        for name in OF_ONE_CALL.iter().chain([&cache::VOTE]) {
            headers.remove(name);
        }
        for (name, value) in &self.headers {
            headers.append(name.clone(), value.clone());
        }
        Some(request)
    }

    #[cfg(test)]
    pub(super) fn of_length(len: usize) -> Self {
        Self {
            method: Method::POST,
            path: "/".into(),
            key_path: "/".into(),
            digest: BodyDigest::of(b"1"),
            headers: HeaderMap::new(),
            body: Bytes::from(vec![0; len]),
        }
    }
}

/// The same request, to be answered anew whatever there is.
pub(super) fn anew(mut request: Request<Bytes>) -> Request<Bytes> {
    let no_cache = HeaderValue::from_static("no-cache");
    request.headers_mut().insert(header::CACHE_CONTROL, no_cache);
    request
}
