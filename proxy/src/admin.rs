//! The administrator's side: what the process is doing, and a few things to tell it.

use crate::{
    app::Parts,
    aside::{self, Answer},
    telemetry,
};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use std::sync::Arc;

/// Answers a request on the admin address.
pub(crate) async fn answer(parts: Arc<Parts>, request: Request<Incoming>) -> Answer {
    telemetry::probe(&parts, &request)
        .await
        .unwrap_or_else(|| aside::text(StatusCode::NOT_FOUND, "not found\n"))
}
