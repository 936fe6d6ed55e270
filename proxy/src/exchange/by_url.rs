//! Equal GETs at one time, where the URL is the question: one asks, and the others wait for the head
//! of its answer, which says whether it is theirs too. What they may be given is for
//! `cache::http_mode` to say; who is given nothing asks by itself, as if nobody else had.

use super::{
    ExchangeError, Failed, Fetch, LEADERS_OUTWAITED_MAX, Marks, Shape, deadline_passed, listened,
};
use crate::{
    body::Body,
    cache::{self, Given, Instead, Question, Takes},
    meter::Call,
    metrics::{CacheOutcome, TierLabel},
    respond,
};
use http::Response;
use tokio::time;
use tollgate_cache::flight::{Join, NoHead};

pub(super) async fn fly(
    fetch: Box<Fetch>,
    mut question: Box<Question>,
    call: &mut Call,
    marks: &Marks,
    shape: Shape,
) -> Result<Response<Body>, Failed> {
    let parts = fetch.parts.clone();
    for _ in 0..LEADERS_OUTWAITED_MAX {
        let Some(flight) = question.url_flight(&parts) else { break };
        let mut listener = match parts.flights.join(flight, fetch.class) {
            Join::Lead(lead) => {
                // Another leader may have stored between our look and our lead.
                if let Some(given) = cache::found_now(&fetch, &mut question) {
                    return Ok(given.serve(call.hand_over()));
                }
                return super::lead(fetch, question, lead, call, marks, shape).await;
            }
            Join::Follow(listener) => listener,
        };
        let Ok(came) = time::timeout_at(fetch.deadline, listener.head()).await else {
            return Err(deadline_passed(&fetch));
        };
        match came {
            Ok(head) => match question.takes(&parts, head.shared.others.as_deref()) {
                Takes::All => {
                    call.cache(CacheOutcome::Collapsed, TierLabel::None);
                    question.joined();
                    let seat = call.seat();
                    return Ok(listened(head, listener, seat, Some(call.hand_over()), shape).await);
                }
                Takes::Again => {}
                Takes::Nothing => break,
            },
            Err(NoHead::Lead) => {}
            Err(NoHead::Failed(failure)) => match instead(&fetch, &failure, &question) {
                Some((given, why)) => {
                    question.joined();
                    return Ok(given.serve(call.stands_in(why).hand_over()));
                }
                None if matches!(*failure, ExchangeError::Instead(_)) => break,
                None => return Err(failure),
            },
        }
    }
    // The answer may turn out to be this caller's only.
    let lead = parts.flights.alone(question.key, fetch.class);
    super::lead(fetch, question, lead, call, marks, shape).await
}

/// What a caller is given where the one that it waited for was given what is held, or nothing; and
/// why, where the reason is ours.
fn instead(
    fetch: &Fetch,
    failure: &Failed,
    question: &Question,
) -> Option<(Given, Option<&'static str>)> {
    if let ExchangeError::Instead(instead) = &**failure {
        let Instead::Given(given) = &**instead else { return None };
        return Some((question.given_as(&fetch.parts, given)?, None));
    }
    if !failure.is_no_answer() {
        return None;
    }
    Some((question.given_for_nothing()?, Some(respond::verdict(failure).reason)))
}
