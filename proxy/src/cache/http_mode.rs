//! `mode: http`, the safe core: GET and HEAD of answers that say how long they are
//! fresh, and depend on nothing but their URL.

use super::{Ask, Consulted, Question};
use crate::{app::Parts, identity::Caller, route::Route};
use http::{request, response};
use std::sync::Arc;

pub(super) async fn consult(
    _parts: &Parts,
    _route: &Arc<Route>,
    _ask: &Ask,
    _head: &request::Parts,
    _caller: &Caller,
) -> Consulted {
    Consulted::Bypass("http")
}

pub(super) fn storable(_question: &Question, _answer: &response::Parts) -> Option<(u64, u64)> {
    None
}
