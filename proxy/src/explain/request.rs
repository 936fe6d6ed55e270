//! A request as an operator writes it down: HTTP/1.1 text, or JSON.

use crate::written;
use bytes::Bytes;
use http::{HeaderValue, Request, header, request};

/// Reads either form.
///
/// # Errors
/// What is wrong with it, and where.
pub(crate) fn read(text: &[u8]) -> Result<(request::Parts, Bytes), String> {
    if text.trim_ascii_start().first() == Some(&b'{') { from_json(text) } else { from_http(text) }
}

fn from_json(text: &[u8]) -> Result<(request::Parts, Bytes), String> {
    let mut request = written::read(text).map_err(|error| error.to_string())?;
    if !request.headers().contains_key(header::HOST) {
        let localhost = HeaderValue::from_static("localhost");
        request.headers_mut().insert(header::HOST, localhost);
    }
    let (head, body) = request.into_parts();
    as_long_as_said(head, body)
}

/// A head of lines, an empty line, a body. Lines may end without a carriage return, as
/// an editor writes them.
fn from_http(text: &[u8]) -> Result<(request::Parts, Bytes), String> {
    let mut rest = text;
    let first = next_line(&mut rest).filter(|line| !line.is_empty());
    let first = first.ok_or("line 1: a request begins with METHOD PATH HTTP/1.1, or is JSON")?;
    let first = std::str::from_utf8(first).map_err(|_| "line 1: not text")?;
    let mut words = first.split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(method), Some(target), None) = (method, target, words.next()) else {
        return Err("line 1: must be METHOD PATH HTTP/1.1".to_owned());
    };
    if version.is_some_and(|version| !version.starts_with("HTTP/")) {
        return Err("line 1: must end with HTTP/1.1".to_owned());
    }
    let mut request = Request::builder().method(method).uri(target);
    for number in 2u64.. {
        let Some(line) = next_line(&mut rest).filter(|line| !line.is_empty()) else { break };
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (halves.next(), halves.next()) else {
            return Err(format!("line {number}: must be NAME: VALUE"));
        };
        request = request.header(name, value.trim_ascii());
    }
    parts(request, Bytes::copy_from_slice(rest))
}

fn parts(request: request::Builder, body: Bytes) -> Result<(request::Parts, Bytes), String> {
    let request = request.body(()).map_err(|error| error.to_string())?;
    let (head, ()) = request.into_parts();
    as_long_as_said(head, body)
}

fn as_long_as_said(head: request::Parts, body: Bytes) -> Result<(request::Parts, Bytes), String> {
    let said = head.headers.get(header::CONTENT_LENGTH).and_then(|said| said.to_str().ok());
    let len = said.and_then(|said| said.parse::<usize>().ok());
    // What an editor adds at the end is not of the body.
    let body = match len {
        Some(len) if len <= body.len() => body.slice(..len),
        Some(len) => return Err(format!("content-length: {len}, but the body has {}", body.len())),
        None => body,
    };
    Ok((head, body))
}

fn next_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    if rest.is_empty() {
        return None;
    }
    let mut halves = rest.splitn(2, |byte| *byte == b'\n');
    let line = halves.next()?;
    *rest = halves.next().unwrap_or_default();
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(&str, &str, &str), &str>) {
        let found = read(text.as_bytes());
        match (&found, expected) {
            (Ok((head, body)), Ok((method, target, expected))) => {
                assert_eq!(head.method.as_str(), method, "{text}");
                assert_eq!(head.uri.to_string(), target, "{text}");
                assert_eq!(&body[..], expected.as_bytes(), "{text}");
            }
            (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
            _ => panic!("{text}: {found:?}"),
        }
    }

    #[test]
    fn a_request_is_http_text_or_json() {
        check("GET /a?b HTTP/1.1\r\nhost: x\r\n\r\n", Ok(("GET", "/a?b", "")));
        check("POST /a HTTP/1.1\nhost: x\n\n{\"m\":1}\n", Ok(("POST", "/a", "{\"m\":1}\n")));
        check("POST /a\ncontent-length: 2\n\nabcd", Ok(("POST", "/a", "ab")));
        check(r#"{"path":"/a"}"#, Ok(("GET", "/a", "")));
        check(r#"{"path":"/a","body":{"m":1.0}}"#, Ok(("POST", "/a", r#"{"m":1.0}"#)));
        check(r#" {"method":"PUT","path":"/a","body":"x"}"#, Ok(("PUT", "/a", "x")));
        check("", Err("line 1"));
        check("hello", Err("line 1"));
        check("GET /a FTP\n\n", Err("HTTP/1.1"));
        check("GET /a HTTP/1.1\nhost\n\n", Err("line 2"));
        check("POST /a\ncontent-length: 9\n\nabcd", Err("content-length"));
        check(r#"{"path":"/a","boddy":1}"#, Err("not an object of path"));
        check(r#"{"path":"/a","headers":{"x":[]}}"#, Err("headers: a value"));
        check(r#"{"path":"/a b"}"#, Err("path: "));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&text).ok();
        }
    }
}
