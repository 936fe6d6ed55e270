//! Sends a call to one endpoint of an upstream, over connections that are kept.
//!
//! The pool holds `hyper::client::conn` handles of our own: hyper-util's legacy client
//! costs 2 µs more a request (`decisions/0002`). A handle goes back only when the body
//! of its answer has ended; a call that is dropped takes its connection with it, and so
//! the upstream learns at once that nobody waits any more.

mod breakers;
mod connect;
mod endpoint;
mod retries;

use self::endpoint::Asked;
pub(crate) use self::{
    breakers::{Breakers, Pass},
    connect::Connector,
    endpoint::{Endpoint, Health, Lease},
    retries::{Cause, Retries, may_be_made_twice},
};
use crate::body::Outgoing;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use smallvec::SmallVec;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;
use tollgate_core::breaker::Verdict;

/// How many kept connections may turn out to be closed before a new one is made.
const STALE_MAX: usize = 3;

/// Why an upstream gave no answer, or not the whole of it.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("connecting to {endpoint} failed")]
    Unreachable { endpoint: Arc<str>, source: Arc<io::Error> },
    #[error("connecting to {endpoint} took longer than timeouts.connect")]
    ConnectTimeout { endpoint: Arc<str> },
    #[error("{endpoint} closed the connection before it answered")]
    Reset { endpoint: Arc<str>, source: Arc<hyper::Error> },
    #[error("{endpoint} cut its answer")]
    Cut { endpoint: Arc<str> },
    #[error("{endpoint} answered with something that is not HTTP/1.1")]
    Protocol { endpoint: Arc<str>, source: Arc<hyper::Error> },
    #[error("{endpoint} switched protocols without having been asked to")]
    Unasked { endpoint: Arc<str> },
    #[error("{endpoint} did not begin to answer within timeouts.first_byte")]
    FirstByteTimeout { endpoint: Arc<str> },
    /// Only where another is asked then: else its answer is passed on.
    #[error("{endpoint} answered with {status}")]
    Unavailable { endpoint: Arc<str>, status: StatusCode },
    #[error("{upstream} fails and is left alone for a while")]
    BreakerOpen { upstream: Arc<str>, wait: Duration },
    #[error("the caller's deadline passed before {endpoint} answered")]
    Deadline { endpoint: Arc<str> },
    #[error("the caller cut its request")]
    DownstreamCut,
    #[error("the request body is longer than routes[].max_body")]
    TooLarge,
}

/// How long each part of a call may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) connect: Duration,
    pub(crate) first_byte: Duration,
    pub(crate) idle: Duration,
    pub(crate) total: Duration,
}

/// Which `host` the upstream is told.
#[derive(Clone, Debug)]
pub(crate) enum HostRule {
    Upstream,
    Preserve,
    Name(HeaderValue),
}

/// Which of several endpoints is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Balance {
    LeastLoaded,
    RoundRobin,
}

/// A named set of interchangeable endpoints.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) name: Arc<str>,
    pub(crate) endpoints: Box<[Arc<Endpoint>]>,
    pub(crate) timeouts: Timeouts,
    pub(crate) host: HostRule,
    pub(crate) via: bool,
    pub(crate) balance: Balance,
    /// Stream usage may be asked for; turned off when this upstream refused it.
    pub(crate) inject_usage: AtomicBool,
    pub(crate) next: AtomicUsize,
    /// `None`: nothing is left alone, however it fails.
    pub(crate) breakers: Option<Arc<Breakers>>,
    /// `None`: a call is tried once.
    pub(crate) retries: Option<Retries>,
    /// How many calls it answered in place of another.
    pub(crate) stood_in: AtomicU64,
}

/// The endpoint that a try goes to, and the right to send it there.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) endpoint: Arc<Endpoint>,
    /// Its place among the upstream's.
    pub(crate) at: usize,
    pass: Option<Pass>,
}

/// Why a try came to nothing.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) error: UpstreamError,
    /// The request, if nothing of it was sent.
    pub(crate) unsent: Option<Box<Request<Outgoing>>>,
}

impl From<UpstreamError> for Unanswered {
    fn from(error: UpstreamError) -> Self {
        Self { error, unsent: None }
    }
}

impl Upstream {
    /// Every endpoint, and how it does. Nothing is asked for this.
    pub(crate) fn health(&self) -> impl Iterator<Item = (&Arc<Endpoint>, Health)> {
        self.endpoints.iter().enumerate().map(|(at, endpoint)| {
            let is_open = self.breakers.as_ref().is_some_and(|breakers| breakers.is_open(at));
            (endpoint, if is_open { Health::Open } else { endpoint.health() })
        })
    }

    /// The endpoint for the next try; none of `tried`, if there are others. `None`: all are left
    /// alone. `probes`: it may be the one that finds out whether any answers again.
    pub(crate) fn pick(&self, probes: bool, tried: &[usize]) -> Option<Picked> {
        if let ([only], None) = (&*self.endpoints, &self.breakers) {
            return Some(Picked { endpoint: only.clone(), at: 0, pass: None });
        }
        let len = self.endpoints.len().max(1);
        // A second try takes nobody's turn: with two endpoints, one dead, all would begin at that.
        let start = match tried {
            [] => self.next.fetch_add(1, Ordering::Relaxed),
            _ => self.next.load(Ordering::Relaxed),
        };
        let load = |at: usize| match self.balance {
            Balance::RoundRobin => 0,
            Balance::LeastLoaded => self.endpoints.get(at).map_or(0, |it| it.in_flight()),
        };
        // What they do now is read once, for it changes meanwhile.
        let mut turns: SmallVec<[(bool, u32, usize); 8]> = (0..self.endpoints.len())
            .map(|step| start.wrapping_add(step) % len)
            .map(|at| (tried.contains(&at), load(at), at))
            .collect();
        // Of equals the first: ties go round, so that idle endpoints share the work.
        turns.sort_by_key(|(was_tried, load, _)| (*was_tried, *load));
        let (at, pass) = match &self.breakers {
            None => (turns.first()?.2, None),
            Some(breakers) => {
                let pass = breakers.pass(turns.iter().map(|turn| turn.2), probes)?;
                (pass.at(), Some(pass))
            }
        };
        Some(Picked { endpoint: self.endpoints.get(at)?.clone(), at, pass })
    }

    /// Sends `request` and waits for the head of the answer, until `deadline` at most. What came
    /// of it is told to the endpoint's breaker.
    ///
    /// A request that never left on a kept connection (the upstream had closed it) is
    /// sent again on another; one of which a byte may have been read is not. `sent` is told
    /// when a connection has the request, and when it gave it back untouched.
    pub(crate) async fn send(
        &self,
        picked: Picked,
        request: Request<Outgoing>,
        deadline: Instant,
        sent: &mut (impl FnMut(bool) + Send),
    ) -> Result<(Response<Incoming>, Lease), Unanswered> {
        let Picked { endpoint, pass, .. } = picked;
        let came = self.try_send(&endpoint, request, deadline, sent).await;
        if let Some(pass) = pass {
            let verdict = match &came {
                Ok((response, _)) => verdict_of_status(response.status()),
                Err(unanswered) => unanswered.error.verdict(),
            };
            if pass.settle(verdict) {
                let (upstream, endpoint) = (&*self.name, &*endpoint.name);
                match verdict {
                    Verdict::Failed => {
                        tracing::warn!(
                            upstream,
                            endpoint,
                            "it fails and is left alone for a while"
                        );
                    }
                    Verdict::Answered => tracing::info!(upstream, endpoint, "it answers again"),
                    Verdict::Untold => {}
                }
            }
        }
        came
    }

    /// The same, of a call that is no caller's: no breaker hears of it.
    pub(crate) async fn try_send(
        &self,
        endpoint: &Arc<Endpoint>,
        mut request: Request<Outgoing>,
        deadline: Instant,
        sent: &mut (impl FnMut(bool) + Send),
    ) -> Result<(Response<Incoming>, Lease), Unanswered> {
        let first_byte = self.timeouts.first_byte;
        for _ in 0..STALE_MAX {
            let Some(mut lease) = endpoint.take_idle(Instant::now()) else { break };
            match lease.ask(request, deadline, first_byte, sent).await? {
                Asked::Answered(response) => return Ok((response, lease)),
                Asked::NotSent(unsent, _) => request = *unsent,
            }
        }
        let patience = deadline.saturating_duration_since(Instant::now());
        let mut lease = match endpoint.connect(self.timeouts.connect, patience).await {
            Ok(lease) => lease,
            Err(error) => return Err(Unanswered { error, unsent: Some(Box::new(request)) }),
        };
        match lease.ask(request, deadline, first_byte, sent).await? {
            Asked::Answered(response) => Ok((response, lease)),
            Asked::NotSent(unsent, source) => {
                endpoint.note_failure();
                let (endpoint, source) = (endpoint.name.clone(), Arc::new(source));
                let error = UpstreamError::Reset { endpoint, source };
                Err(Unanswered { error, unsent: Some(unsent) })
            }
        }
    }
}

impl UpstreamError {
    /// What a try that ended so says of its endpoint.
    fn verdict(&self) -> Verdict {
        match self {
            Self::Unreachable { .. }
            | Self::ConnectTimeout { .. }
            | Self::Reset { .. }
            | Self::Cut { .. }
            | Self::Protocol { .. }
            | Self::FirstByteTimeout { .. } => Verdict::Failed,
            Self::Unasked { .. }
            | Self::BreakerOpen { .. }
            | Self::Unavailable { .. }
            | Self::Deadline { .. }
            | Self::DownstreamCut
            | Self::TooLarge => Verdict::Untold,
        }
    }
}

/// What a service, or a gateway before it, says where it cannot answer anybody now.
pub(crate) fn is_unavailable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 502..=504)
}

/// A service that says that it cannot answer now is one that fails. All else, errors of the
/// caller's and of the service's code among it, is an answer.
fn verdict_of_status(status: StatusCode) -> Verdict {
    if is_unavailable(status) { Verdict::Failed } else { Verdict::Answered }
}
