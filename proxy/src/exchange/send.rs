//! Sends a call to its upstream, and once more where that is allowed: without asking for stream
//! usage, if that was refused; to another endpoint or after a pause, if its upstream has a rule
//! for that (`upstream/retries.rs`).
//!
//! All tries are one call: under one permit, until one deadline, with one record, which is of
//! the try that was answered. What was sent and came to nothing may have cost something; where
//! no try is answered, the record says so.

use crate::{
    admission::{Admission, Permit, Way},
    app::Destination,
    body::Outgoing,
    inspect::Held,
    meter::Call,
    upstream::{
        Cause, Endpoint, HostRule, Lease, Picked, Retries, Unanswered, Upstream, UpstreamError,
    },
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request};
use http_body::Body as _;
use hyper::body::Incoming;
use smallvec::SmallVec;
use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{self, Instant};

/// A request ready to be sent, perhaps more than once.
pub(super) struct Prepared {
    pub(super) head: request::Parts,
    pub(super) body: Outgoing,
    /// The caller's own bytes, where stream usage was asked for beside them.
    pub(super) plain: Option<Bytes>,
    pub(super) passed_in: Option<Arc<AtomicU64>>,
    pub(super) _held: Held,
}

/// Where a call goes, and until when it is waited for.
#[derive(Clone, Copy)]
pub(super) struct To<'a> {
    upstream: &'a Upstream,
    admission: &'a Admission,
    deadline: Instant,
    /// It may find out whether the upstream answers again.
    probes: bool,
}

/// The statuses by which a server says that it does not know `stream_options`.
const NOT_UNDERSTOOD: [StatusCode; 2] = [StatusCode::BAD_REQUEST, StatusCode::UNPROCESSABLE_ENTITY];

static CHANCE: LazyLock<RandomState> = LazyLock::new(RandomState::new);

type Came = Result<(Response<Incoming>, Lease), UpstreamError>;

impl<'a> To<'a> {
    pub(super) fn new(destination: &'a Destination, permit: &Permit, deadline: Instant) -> Self {
        Self {
            upstream: &destination.upstream,
            admission: &destination.admission,
            deadline,
            probes: permit.way() == Some(Way::Probe),
        }
    }

    fn pick(&self) -> Result<Picked, UpstreamError> {
        self.upstream
            .pick(self.probes, &[])
            .ok_or_else(|| breaker_open(self.upstream, self.admission))
    }

    async fn send(
        &self,
        picked: Picked,
        (mut head, body): (request::Parts, Outgoing),
        says_host: bool,
        call: &mut Call,
    ) -> Result<(Response<Incoming>, Lease), Unanswered> {
        address(&mut head, &self.upstream.host, &picked.endpoint, says_host);
        let request = Request::from_parts(head, body);
        self.upstream.send(picked, request, self.deadline, &mut |sent| call.sent(sent)).await
    }
}

/// Nothing is sent to it for a while.
pub(super) fn breaker_open(upstream: &Upstream, admission: &Admission) -> UpstreamError {
    UpstreamError::BreakerOpen { upstream: upstream.name.clone(), wait: admission.shut_for() }
}

/// Sends it; and once more without asking for usage, if that was refused.
pub(super) async fn send(prepared: Prepared, to: To<'_>, call: &mut Call) -> Came {
    let Prepared { head, body, plain, passed_in: _, _held } = prepared;
    let again = plain.map(|plain| (head.clone(), plain));
    let (response, lease) = tried(head, body, to, call).await?;
    let Some((head, plain)) = again else { return Ok((response, lease)) };
    if !NOT_UNDERSTOOD.contains(&response.status()) {
        return Ok((response, lease));
    }
    drop((response, lease));
    let (response, lease) = tried(head, Outgoing::Whole(plain), to, call).await?;
    if response.status().is_success() {
        tracing::warn!(
            upstream = &*to.upstream.name,
            "stream usage is not asked for any more: the upstream refused stream_options; \
             token counts of its streams will be estimates"
        );
        to.upstream.inject_usage.store(false, Ordering::Relaxed);
    }
    Ok((response, lease))
}

async fn tried(head: request::Parts, body: Outgoing, to: To<'_>, call: &mut Call) -> Came {
    let says_host = head.headers.contains_key(header::HOST);
    let picked = to.pick()?;
    match &to.upstream.retries {
        None => to.send(picked, (head, body), says_host, call).await.map_err(|it| it.error),
        Some(retries) => {
            // What is not for every upstream is on the heap.
            Box::pin(tried_again((head, body), picked, says_host, retries, to, call)).await
        }
    }
}

async fn tried_again(
    (mut head, mut body): (request::Parts, Outgoing),
    mut picked: Picked,
    says_host: bool,
    retries: &Retries,
    to: To<'_>,
    call: &mut Call,
) -> Came {
    retries.began();
    let method = head.method.clone();
    let mut places: SmallVec<[usize; 4]> = SmallVec::new();
    for nth in 0.. {
        let is_last = retries.attempts() <= nth;
        let copy = if is_last { None } else { copy_of(&head, &body, retries, &method) };
        places.push(picked.at);
        let came = to.send(picked, (head, body), says_host, call).await;
        let (came, cause, again) = seen(came, copy);
        let cause = cause.filter(|cause| !is_last && retries.covers(*cause, &method));
        let (Some(cause), Some(again)) = (cause, again) else { return came };
        let Some(next) = to.upstream.pick(false, &places) else { return came };
        let is_same = places.contains(&next.at);
        let pause = if is_same { Retries::pause(nth, chance()) } else { Duration::ZERO };
        let has_time = pause < to.deadline.saturating_duration_since(Instant::now());
        if !has_time || !retries.spend(cause) {
            return came;
        }
        let_go(came, call);
        time::sleep(pause).await;
        (head, body) = again;
        picked = next;
    }
    Err(breaker_open(to.upstream, to.admission))
}

/// What a try came to, whether that may be tried again, and with what.
fn seen(
    came: Result<(Response<Incoming>, Lease), Unanswered>,
    copy: Option<(request::Parts, Outgoing)>,
) -> (Came, Option<Cause>, Option<(request::Parts, Outgoing)>) {
    match came {
        Ok(answer) => {
            let cause = Cause::of_answer(&answer.0);
            (Ok(answer), cause, copy)
        }
        Err(Unanswered { error, unsent: Some(unsent) }) => {
            let is_over = matches!(error, UpstreamError::Deadline { .. });
            (Err(error), (!is_over).then_some(Cause::Connect), Some(unsent.into_parts()))
        }
        Err(Unanswered { error, unsent: None }) => {
            let is_reset = matches!(error, UpstreamError::Reset { .. });
            (Err(error), is_reset.then_some(Cause::Reset), copy)
        }
    }
}

/// The same request once more, if it may be sent again when it was sent.
fn copy_of(
    head: &request::Parts,
    body: &Outgoing,
    retries: &Retries,
    method: &Method,
) -> Option<(request::Parts, Outgoing)> {
    match body {
        Outgoing::Whole(bytes) if retries.sends_again(method) => {
            Some((head.clone(), Outgoing::Whole(bytes.clone())))
        }
        Outgoing::Whole(_) | Outgoing::Stream(_) => None,
    }
}

/// An answer that nobody is given: it says that nothing was done, and nothing is owed for it.
fn let_go(came: Came, call: &mut Call) {
    let Ok((response, lease)) = came else { return };
    call.sent(false);
    if response.body().is_end_stream() {
        lease.give_back();
    }
}

/// In thousandths.
fn chance() -> u32 {
    u32::try_from(CHANCE.hash_one(Instant::now()) % 1001).unwrap_or(0)
}

/// `says_host`: the caller said one.
fn address(head: &mut request::Parts, rule: &HostRule, endpoint: &Endpoint, says_host: bool) {
    let host: &HeaderValue = match rule {
        HostRule::Preserve if says_host => return,
        // A caller of HTTP/1.0 may have said none.
        HostRule::Preserve | HostRule::Upstream => &endpoint.host,
        HostRule::Name(name) => name,
    };
    head.headers.insert(header::HOST, host.clone());
}
