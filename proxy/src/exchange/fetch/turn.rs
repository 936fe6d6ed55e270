//! A call's turn at its upstream: what it asks for, how it waits, and what is learned of it.

use crate::exchange::{ExchangeError, send::breaker_open};
use crate::{
    admission::{Ask as Turn, Like, Permit, Shed},
    app::Destination,
    cache::Ask,
    identity::Caller,
    meter::Call,
    route::Route,
    upstream::{Lease, UpstreamError},
};
use http::Response;
use std::{
    hash::{BuildHasher as _, RandomState},
    pin::Pin,
    sync::LazyLock,
};
use tokio::time::Instant;
use tollgate_core::{class::ClassId, dialect::Operation, estimate::Kind, usage::tokens_in};

/// What the scheduler knows tenants by, and calls that are alike: nobody outside can make two meet.
static DIGESTS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// What a call asks for, without a deadline.
pub(super) fn of<'a>(
    (route, destination): (&'a Route, &Destination),
    class: ClassId,
    ask: &Ask,
    caller: &'a Caller,
) -> Turn<'a> {
    let who = caller.tenant.as_str();
    Turn {
        class,
        classes: &route.classes,
        tenant: DIGESTS.hash_one(who),
        who,
        weight: destination.config.tenant_weight(who),
        like: like(route, ask, who),
        deadline: None,
        queued: None,
    }
}

/// What is known of what it will take.
fn like(route: &Route, ask: &Ask, who: &str) -> Like {
    let way = (&*route.name, ask.framing().is_stream());
    let model = ask.model().map(|model| &**model);
    let kind = Kind {
        tenant: DIGESTS.hash_one((way, model, who)),
        model: DIGESTS.hash_one((way, model)),
        route: DIGESTS.hash_one(way),
    };
    let is_read = ask.operation != Operation::Other;
    let input = if is_read { tokens_in(ask.bytes_in()) } else { 0 };
    let output_max = ask.known.as_ref().and_then(|known| known.output_max);
    Like { kind, input, output_max }
}

/// Waits for the call's turn, and writes down for how long.
pub(super) async fn admit(
    destination: &Destination,
    turn: Turn<'_>,
    call: &mut Call,
) -> Result<Permit, ExchangeError> {
    let Destination { admission, upstream, .. } = destination;
    call.queued();
    let began = Instant::now();
    match admission.admit(turn).await {
        Ok(mut permit) => {
            call.dispatched(permit.queue_wait(), permit.way(), permit.holder());
            Ok(permit)
        }
        Err(refused) => {
            call.shed(Instant::now().saturating_duration_since(began), refused.shed);
            if refused == Shed::BreakerOpen {
                return Err(breaker_open(upstream, admission).into());
            }
            Err(ExchangeError::Shed(refused))
        }
    }
}

/// What was asked for, unless the right to it is taken back first. Until now nobody has seen
/// anything of it; from then on it stays.
pub(super) async fn unless_taken_back<T, E: Into<ExchangeError>>(
    permit: &Permit,
    asked: Pin<&mut impl Future<Output = Result<T, E>>>,
) -> Result<T, ExchangeError> {
    let Some(taken_back) = permit.taken_back() else { return asked.await.map_err(E::into) };
    let answer = Box::pin(taken_back.run_until_cancelled(asked)).await;
    let answer = answer.ok_or_else(|| ExchangeError::Shed(permit.refused()))?.map_err(E::into)?;
    permit.begin().map_err(ExchangeError::Shed)?;
    Ok(answer)
}

/// Tells the permit what came of the call: what is thought of others, and how many run, follows it.
pub(super) fn heard<T>(
    permit: &mut Permit,
    asked: Result<(Response<T>, Lease), ExchangeError>,
    call: &mut Call,
) -> Result<(Response<T>, Lease), ExchangeError> {
    match &asked {
        Ok((response, _)) => permit.headed(response.status()),
        // That it did not begin in time says that there is too much to do; that the caller has
        // less time, or nobody is there, does not.
        Err(ExchangeError::Upstream(UpstreamError::FirstByteTimeout { .. })) => permit.overloaded(),
        Err(ExchangeError::Shed(_)) => call.taken_back(),
        Err(_) => {}
    }
    asked
}
