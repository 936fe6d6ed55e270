//! Why an admin call was not done: `application/problem+json`, RFC 9457.

use crate::aside::{self, Answer};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

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
    RetryLater,
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
        Self { also: Some(Also::RetryLater), ..problem }
    }

    pub(crate) fn with_problems(mut self, problems: Vec<String>) -> Self {
        self.problems = problems;
        self
    }
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
            Also::RetryLater => (header::RETRY_AFTER, HeaderValue::from_static("1")),
        });
        answer.headers_mut().extend(also);
        answer
    }
}
