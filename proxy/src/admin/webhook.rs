//! `POST /api/cache/events/NAME`: somebody else's word that something has changed.
//!
//! Its sender need not be an administrator: a webhook can have a token of its own, which is good for
//! nothing else. A browser's page cannot send it, so the body need not be of JSON's type.

use super::{Judged, Problem, guard};
use crate::{
    app::Parts,
    aside::PeerIp,
    events::{self, EVENT_BYTES_MAX, Payload, Source, Unclear},
    metrics::EventOutcome,
};
use bytes::Bytes;
use http::{Method, StatusCode, request};
use serde_json::{Value, json};
use std::sync::Arc;
use tollgate_config::EventOrigin;

/// As the API's description has it.
pub(super) const PATH: &str = "/api/cache/events/{name}";
pub(super) const BYTES_MAX: usize = EVENT_BYTES_MAX;

/// The name in such a path.
pub(super) fn name(path: &str) -> Option<&str> {
    let (start, _) = PATH.split_once('{')?;
    path.strip_prefix(start).filter(|name| !name.is_empty() && !name.contains('/'))
}

/// Whether who sends has shown the token of that webhook alone. If not, it must be an administrator.
pub(super) fn is_known(
    parts: &Parts,
    from: PeerIp,
    head: &request::Parts,
) -> Result<bool, Problem> {
    let source = name(head.uri.path()).and_then(|name| parts.events.webhook(name));
    let Some(EventOrigin::Webhook { token: Some(token) }) = source.map(|it| &it.rule.origin) else {
        return Ok(false);
    };
    let claim = guard::bearer(&head.headers).filter(|claim| !claim.is_empty());
    if head.method != Method::POST || !claim.is_some_and(|claim| token.is_known_to(claim)) {
        return Ok(false);
    }
    match parts.admin.tries.judge(from, true) {
        Judged::Right | Judged::Wrong => Ok(true),
        Judged::Later(wait) => Err(Problem::too_many_tries(wait)),
    }
}

/// Purges what the event is about.
pub(super) async fn hear(parts: &Parts, path: &str, body: &Bytes) -> Result<Value, Problem> {
    let source = name(path).and_then(|name| parts.events.webhook(name));
    let source = source.ok_or_else(|| Problem::not_found("no webhook of that name"))?;
    if let Err(wait) = source.may() {
        parts.metrics.heard_event(&source.rule.name, EventOutcome::Limited);
        return Err(Problem::too_often("more events than this webhook's rate", wait));
    }
    let done = match Payload::read(body) {
        Ok(payload) => events::event(parts, source, &payload).await,
        Err(unclear) => Err(unclear),
    };
    match done {
        Ok(done) => Ok(json!({ "purges": done.purges, "pending": done.pending })),
        Err(unclear) => Err(refuse(parts, source, unclear)),
    }
}

fn refuse(parts: &Parts, source: &Arc<Source>, unclear: Unclear) -> Problem {
    events::refused(parts, source, &unclear);
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("the event is {unclear}"))
}
