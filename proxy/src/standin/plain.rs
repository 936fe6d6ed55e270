//! The paths that are no model calls: `/static`, `/echo`, `/health`.

use super::counts::Recorded;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

/// Bytes of a static body at most.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// An answer that is no answer of a model.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: String,
}

impl Page {
    pub(super) fn json(status: StatusCode, body: String) -> Self {
        let json = HeaderValue::from_static("application/json");
        Self { status, headers: vec![(http::header::CONTENT_TYPE, json)], body }
    }
}

/// `/static/{name}?status=200&bytes=64&cache-control=max-age%3D60&vary=accept…`:
/// every other name in the query is a header of the answer. The body depends on
/// the name and the length only. With an `etag`, `if-none-match` is obeyed.
pub(super) fn static_page(request: &Recorded, name: &str, query: &str) -> Page {
    let mut page = Page { status: StatusCode::OK, headers: Vec::new(), body: String::new() };
    let mut bytes = 64;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decoded(value);
        match (name, std::str::from_utf8(&value)) {
            ("bytes", Ok(text)) => bytes = text.parse().unwrap_or(bytes).min(BYTES_MAX),
            ("status", Ok(text)) => {
                page.status = StatusCode::from_bytes(text.as_bytes()).unwrap_or(page.status);
            }
            _ => {
                if let (Ok(name), Ok(value)) =
                    (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(&value))
                {
                    page.headers.push((name, value));
                }
            }
        }
    }
    let known = request.headers.get(http::header::IF_NONE_MATCH);
    let has_it = |(name, value): &(HeaderName, HeaderValue)| {
        name == http::header::ETAG && Some(value) == known
    };
    if page.headers.iter().any(has_it) {
        page.status = StatusCode::NOT_MODIFIED;
    } else if page.status != StatusCode::NO_CONTENT && page.status != StatusCode::NOT_MODIFIED {
        let line = format!("static {name}\n");
        page.body = line.chars().filter(char::is_ascii).cycle().take(bytes).collect();
        if !page.headers.iter().any(|(name, _)| name == http::header::CONTENT_TYPE) {
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            page.headers.push((http::header::CONTENT_TYPE, text));
        }
    }
    page
}

/// The request as JSON. A body that is no UTF-8 comes as `body_base64`.
pub(super) fn echo(request: &Recorded) -> Page {
    let headers: Vec<[String; 2]> = request
        .headers
        .iter()
        .map(|(name, value)| {
            [name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()]
        })
        .collect();
    let (text, base64) = match std::str::from_utf8(&request.body) {
        Ok(text) => (Value::from(text), Value::Null),
        Err(_) => (Value::Null, STANDARD.encode(&request.body).into()),
    };
    let said = json!({
        "method": request.method.as_str(),
        "target": request.target,
        "version": format!("{:?}", request.version),
        "headers": headers,
        "body": text,
        "body_base64": base64,
    });
    Page::json(StatusCode::OK, said.to_string())
}

/// `%41` and `+`; a `%` that begins no byte stays.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let hex = after.first_chunk::<2>().filter(|_| byte == b'%');
        let value = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, value) {
            (_, Some(value)) => {
                decoded.push(value);
                rest = after.get(2..).unwrap_or_default();
            }
            (b'+', None) => decoded.push(b' '),
            (byte, None) => decoded.push(byte),
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_and_nothing_in_it_is_lost() {
        assert_eq!(percent_decoded("max-age%3D60%2c+x"), b"max-age=60, x");
        assert_eq!(percent_decoded("100%"), b"100%");
        assert_eq!(percent_decoded("%zz%4"), b"%zz%4");
    }
}
