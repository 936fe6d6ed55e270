//! A call whose head could not be read: refused before it became a request.

use super::ExchangeError;
use crate::{app::Parts, body::Body, exchange::Marks, head::BadHead, meter::Call, respond};
use http::{HeaderMap, Response};
use tollgate_core::dialect::Dialect;

/// Refuses it, in the one dialect that needs no path: it is recorded, counted and logged
/// as any other call that no route was found for.
pub(crate) fn refuse_unread(parts: &Parts, why: BadHead) -> Response<Body> {
    let call = Call::begin(&parts.meter, &parts.snapshot.load().unrouted);
    let marks = Marks::of(&HeaderMap::new(), call.id());
    let error = ExchangeError::BadHead(why);
    let verdict = respond::verdict(&error);
    call.refused(verdict.status.as_u16(), verdict.reason);
    respond::log(&verdict, &error, marks.request_id());
    let mut response = respond::refusal(&verdict, Dialect::Http, marks.request_id());
    marks.mark(response.headers_mut(), Dialect::Http);
    response
}
