//! An answer as an operator writes it down: one JSON object.

use super::{NotARequest, fields, text_or_json};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

/// `{"status","headers","body"}`, or `"body_base64"` for what is no text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    status: Option<u16>,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    body: Option<Box<RawValue>>,
    #[serde(default)]
    body_base64: Option<String>,
}

/// Why it is no answer. Without its values, as of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAnAnswer {
    #[error(
        "not an object of body or body_base64, and maybe status and headers; looked at up to character {0}"
    )]
    Shape(usize),
    #[error("status: must be 200 to 599")]
    Status,
    #[error("body_base64: no base64, or beside a body")]
    Base64,
    #[error(transparent)]
    Part(#[from] NotARequest),
}

/// Reads one. Without a status it is a 200; a body that is no text is JSON, and said to be unless a
/// `content-type` is there.
///
/// # Errors
/// What is wrong with it, without its values.
pub(crate) fn read_answer(text: &[u8]) -> Result<Response<Bytes>, NotAnAnswer> {
    if text.trim_ascii_start().starts_with(b"[") {
        return Err(NotAnAnswer::Shape(1));
    }
    let written: Written =
        serde_json::from_slice(text).map_err(|error| NotAnAnswer::Shape(error.column()))?;
    let (body, is_json) = match (written.body, written.body_base64) {
        (body, None) => {
            let (text, is_json) = text_or_json(body)?;
            (Bytes::from(text), is_json)
        }
        (None, Some(coded)) => {
            (STANDARD.decode(coded).map_err(|_| NotAnAnswer::Base64)?.into(), false)
        }
        (Some(_), Some(_)) => return Err(NotAnAnswer::Base64),
    };
    let status = written.status.unwrap_or(200);
    let status = StatusCode::from_u16(status).ok().filter(|_| (200..600).contains(&status));
    let mut answer = Response::new(body);
    *answer.status_mut() = status.ok_or(NotAnAnswer::Status)?;
    *answer.headers_mut() = fields(written.headers, is_json)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(u16, Option<&str>, &[u8]), NotAnAnswer>) {
        let found = read_answer(text.as_bytes());
        let found = found.as_ref().map(|answer| {
            let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap());
            (answer.status().as_u16(), kind, &answer.body()[..])
        });
        assert_eq!(found.map_err(|why| *why), expected, "{text}");
    }

    #[test]
    fn an_answer_is_an_object_whose_body_is_json_text_or_bytes() {
        let json = Some("application/json");
        check(r#"{"body":{"a": 1.0}}"#, Ok((200, json, br#"{"a": 1.0}"#)));
        check(
            r#"{"body":"a","headers":{"content-type":"text/plain"}}"#,
            Ok((200, Some("text/plain"), b"a")),
        );
        check(r#"{"status":404,"body_base64":"/wA="}"#, Ok((404, None, &[0xff, 0])));
        check("{}", Ok((200, None, b"")));
        check("[200]", Err(NotAnAnswer::Shape(1)));
        check(r#"{"statuss":1}"#, Err(NotAnAnswer::Shape(10)));
        for status in [0, 100, 199, 600, 1000] {
            check(&format!(r#"{{"status":{status}}}"#), Err(NotAnAnswer::Status));
        }
        check(r#"{"body_base64":"?"}"#, Err(NotAnAnswer::Base64));
        check(r#"{"body":1,"body_base64":""}"#, Err(NotAnAnswer::Base64));
        check(r#"{"headers":{"a b":"c"}}"#, Err(NotAnAnswer::Part(NotARequest::HeaderName)));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            read_answer(&text).ok();
        }
    }
}
