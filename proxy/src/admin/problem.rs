//! Why an admin call was not done: `application/problem+json`, RFC 9457.

use crate::aside::{self, Answer};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use std::time::Duration;

/// How to be known.
pub(crate) const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"tollgate\"");

/// A refusal that says what, where and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
    /// Every mistake, where there may be several.
    problems: Vec<String>,
    also: Option<Also>,
}

/// The header that goes with some statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Also {
    Challenge,
    Allow(&'static str),
    RetryAfter(u64),
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), problems: Vec::new(), also: None }
    }

    /// The call itself is wrong.
    pub(crate) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(crate) fn unauthenticated() -> Self {
        let detail = "send the admin token: authorization: Bearer TOKEN";
        Self { also: Some(Also::Challenge), ..Self::new(StatusCode::UNAUTHORIZED, detail) }
    }

    pub(crate) fn method_not_allowed(allowed: &'static str) -> Self {
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("use {allowed}"));
        Self { also: Some(Also::Allow(allowed)), ..problem }
    }

    /// It may work a moment later.
    pub(crate) fn busy(detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        Self { also: Some(Also::RetryAfter(1)), ..problem }
    }

    /// Of wrong tokens.
    pub(crate) fn too_many_tries(wait: Duration) -> Self {
        let detail = "too many wrong tokens came from this address; none is looked at for a while";
        Self::too_often(detail, wait)
    }

    /// It would be one too many just now.
    pub(crate) fn too_often(detail: impl Into<String>, wait: Duration) -> Self {
        let also = Some(Also::RetryAfter(whole_seconds(wait)));
        Self { also, ..Self::new(StatusCode::TOO_MANY_REQUESTS, detail) }
    }

    pub(crate) fn with_problems(mut self, problems: Vec<String>) -> Self {
        self.problems = problems;
        self
    }
}

/// For `retry-after`: never too early.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        let Problem { status, detail, problems, also } = problem;
        let mut body = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or("refused"),
            "status": status.as_u16(),
            "detail": detail,
        });
        if let (false, Some(body)) = (problems.is_empty(), body.as_object_mut()) {
            body.insert("problems".to_owned(), problems.into());
        }
        let mut answer =
            aside::with_type(status, "application/problem+json", body.to_string() + "\n");
        let also = also.map(|also| match also {
            Also::Challenge => (header::WWW_AUTHENTICATE, CHALLENGE),
            Also::Allow(allowed) => (header::ALLOW, HeaderValue::from_static(allowed)),
            Also::RetryAfter(seconds) => (header::RETRY_AFTER, HeaderValue::from(seconds)),
        });
        answer.headers_mut().extend(also);
        answer
    }
}
