//! A request as an operator writes it down: one JSON object; and an answer.
//!
//! What is wrong with one is said without its values: a header may be a credential, and this is
//! logged.

mod answer;

pub(crate) use self::answer::read_answer;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use serde::Deserialize;
use serde_json::{Map, Value, error::Category, value::RawValue};

/// `{"method","path","headers","body"}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    method: Option<String>,
    path: String,
    #[serde(default)]
    headers: Map<String, Value>,
    /// A text as it is; any other JSON byte for byte, so that it makes the key that a caller's
    /// would.
    #[serde(default)]
    body: Option<Box<RawValue>>,
}

/// Why it is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotARequest {
    #[error("no JSON, at character {0}")]
    Json(usize),
    #[error(
        "not an object of path, and maybe method, headers and body; looked at up to character {0}"
    )]
    Shape(usize),
    #[error("method: no HTTP method")]
    Method,
    #[error("path: neither a path nor a URL")]
    Path,
    #[error("body: a text that is not Unicode")]
    Text,
    #[error("headers: a name that is none")]
    HeaderName,
    #[error("headers: a value that is neither a text nor a number, or not one line of it")]
    HeaderValue,
}

/// Reads one. Without a method it is a GET, or a POST if there is a body; a body that is not a
/// text is JSON, and said to be unless a `content-type` is there.
///
/// # Errors
/// What is wrong with it, without its values.
pub(crate) fn read(text: &[u8]) -> Result<Request<Bytes>, NotARequest> {
    if text.trim_ascii_start().starts_with(b"[") {
        // A list of the same values in their order would do for what reads it.
        return Err(NotARequest::Shape(1));
    }
    let written: Written =
        serde_json::from_slice(text).map_err(|error| match error.classify() {
            Category::Data => NotARequest::Shape(error.column()),
            Category::Io | Category::Syntax | Category::Eof => NotARequest::Json(error.column()),
        })?;
    let (body, is_json) = text_or_json(written.body)?;
    let method = match written.method {
        Some(method) => method.parse().map_err(|_| NotARequest::Method)?,
        None if body.is_empty() => Method::GET,
        None => Method::POST,
    };
    let uri: Uri = written.path.parse().map_err(|_| NotARequest::Path)?;
    if !uri.path().starts_with('/') {
        return Err(NotARequest::Path);
    }
    let mut request = Request::new(Bytes::from(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = fields(written.headers, is_json)?;
    Ok(request)
}

/// The bytes of a body, and whether they are JSON.
fn text_or_json(body: Option<Box<RawValue>>) -> Result<(String, bool), NotARequest> {
    Ok(match body {
        None => (String::new(), false),
        Some(text) if text.get().starts_with('"') => {
            (serde_json::from_str(text.get()).map_err(|_| NotARequest::Text)?, false)
        }
        Some(body) => (Box::<str>::from(body).into(), true),
    })
}

/// The head's fields; of JSON it is said.
fn fields(written: Map<String, Value>, is_json: bool) -> Result<HeaderMap, NotARequest> {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let name: HeaderName = name.parse().map_err(|_| NotARequest::HeaderName)?;
        let value = match value {
            Value::String(value) => value,
            Value::Number(value) => value.to_string(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                return Err(NotARequest::HeaderValue);
            }
        };
        let value = HeaderValue::try_from(value).map_err(|_| NotARequest::HeaderValue)?;
        headers.append(name, value);
    }
    if is_json && !headers.contains_key(http::header::CONTENT_TYPE) {
        let json = HeaderValue::from_static("application/json");
        headers.insert(http::header::CONTENT_TYPE, json);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(&str, &str, &str), NotARequest>) {
        let found = read(text.as_bytes());
        let found = found.as_ref().map(|request| {
            let body = std::str::from_utf8(request.body()).unwrap();
            (request.method().as_str(), request.uri().to_string(), body)
        });
        let expected = expected.map(|(method, uri, body)| (method, uri.to_owned(), body));
        assert_eq!(found.map_err(|why| *why), expected, "{text}");
    }

    #[test]
    fn a_request_is_an_object_with_a_path() {
        check(r#"{"path":"/a"}"#, Ok(("GET", "/a", "")));
        check(r#"{"path":"https://x/a?b"}"#, Ok(("GET", "https://x/a?b", "")));
        check(r#"{"path":"/a","body":{"m":1.0}}"#, Ok(("POST", "/a", r#"{"m":1.0}"#)));
        let exact = r#"{"b": 1.10, "a":1e400,"a":12345678901234567890123}"#;
        check(&format!(r#"{{"path":"/a","body":{exact}}}"#), Ok(("POST", "/a", exact)));
        check(r#"{"path":"/a","body":null}"#, Ok(("GET", "/a", "")));
        check(r#"{"path":"/a","body":"\ud800"}"#, Err(NotARequest::Text));
        check(r#" {"method":"PUT","path":"/a","body":"x"}"#, Ok(("PUT", "/a", "x")));
        check("", Err(NotARequest::Json(0)));
        check("[]", Err(NotARequest::Shape(1)));
        check(r#"["GET","/a"]"#, Err(NotARequest::Shape(1)));
        check(r#"{"path":"a"}"#, Err(NotARequest::Path));
        check(r#"{"path":"/a b"}"#, Err(NotARequest::Path));
        check(r#"{"path":"/a","method":"a b"}"#, Err(NotARequest::Method));
        check(r#"{"path":"/a","headers":{"a b":"c"}}"#, Err(NotARequest::HeaderName));
        check(r#"{"path":"/a","headers":{"x":[]}}"#, Err(NotARequest::HeaderValue));
        check(r#"{"path":"/a","headers":{"x":"a\nb"}}"#, Err(NotARequest::HeaderValue));
    }

    #[test]
    fn a_json_body_is_said_to_be_one() {
        let kind = |text: &str| {
            let request = read(text.as_bytes()).unwrap();
            request.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned())
        };
        assert_eq!(kind(r#"{"path":"/a","body":{}}"#).as_deref(), Some("application/json"));
        assert_eq!(kind(r#"{"path":"/a","body":"{}"}"#), None);
        let own = r#"{"path":"/a","headers":{"Content-Type":"a/b"},"body":{}}"#;
        assert_eq!(kind(own).as_deref(), Some("a/b"));
    }

    #[test]
    fn what_is_wrong_is_said_without_what_was_written() {
        for text in [
            r#"{"path":"/a","sk-secret":1}"#,
            r#"{"path":"/a","headers":"sk-secret"}"#,
            r#"{"path":"/a","headers":{"x":"sk-secret\n"}}"#,
            r#"{"path":"/a","headers":{"sk-secret ":"x"}}"#,
            r#"{"path":"sk-secret"}"#,
            r#"{"path":"/a","method":"sk-secret "}"#,
        ] {
            let why = read(text.as_bytes()).unwrap_err().to_string();
            assert!(!why.contains("secret"), "{text}: {why}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&text).ok();
        }
    }
}
