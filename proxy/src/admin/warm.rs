//! `POST /api/cache/warm` and `…/refresh`: asks a list of requests, so that their answers are there.

use super::Problem;
use crate::{app::Parts, warm};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;

/// The longest body of these two.
pub(super) const LIST_BYTES_MAX: usize = warm::LIST_BYTES_MAX;

/// Begins it; how it goes on, `GET /api/cache/warm` says.
pub(super) fn begin(parts: &Arc<Parts>, list: Bytes, refresh: bool) -> Result<Value, Problem> {
    if list.trim_ascii().is_empty() {
        return Err(Problem::bad("body: empty; send a request a line, each a JSON object"));
    }
    if parts.shutdown.is_draining() {
        return Err(Problem::busy("the process goes down"));
    }
    let bytes = list.len();
    let run = warm::order(parts, list, refresh);
    let run = run.ok_or_else(|| {
        Problem::busy("as many lists as may be are being asked; wait for one to end")
    })?;
    let shown = run.show();
    tracing::info!(run = run.id(), bytes, refresh, "an administrator has a list of requests asked");
    Ok(shown)
}

/// `GET /api/cache/warm`: the runs of late, the newest first.
pub(super) fn runs(parts: &Parts) -> Value {
    let runs = parts.warming.runs();
    json!({ "runs": runs.iter().map(|run| run.show()).collect::<Vec<_>>() })
}
