//! Sends a call to one endpoint of an upstream, over connections that are kept.
//!
//! The pool holds `hyper::client::conn` handles of our own: hyper-util's legacy client
//! costs 2 µs more a request (`decisions/0002`). A handle goes back only when the body
//! of its answer has ended; a call that is dropped takes its connection with it, and so
//! the upstream learns at once that nobody waits any more.

mod connect;

pub(crate) use self::connect::Connector;
use crate::body::{BodyError, Outgoing};
use http::{HeaderValue, Request, Response};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use std::{
    error::Error as _,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{self, Instant};

/// How long a connection may lie idle before it is not used again. Below the five
/// seconds after which uvicorn (vLLM, FastAPI) and node close theirs: a request sent
/// into a closing connection is a failure that the caller would see.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// Idle connections kept per endpoint. More than any model server takes; a bound.
const IDLE_CONNECTIONS_MAX: usize = 1024;

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
}

/// One address of an upstream.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// `host:port`, for logs and errors.
    pub(crate) name: Arc<str>,
    pub(crate) host: HeaderValue,
    pub(crate) connector: Connector,
    idle: Mutex<Vec<Idle>>,
    in_flight: AtomicU32,
    pub(crate) answered: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// What `answered` was when it last failed: if it still is, nothing came since.
    answered_at_failure: AtomicU64,
}

/// How an endpoint does, by the last call that it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Nothing was sent yet.
    Unused,
    Answering,
    /// Nothing was answered since the last failure.
    Failing,
}

impl Health {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Answering => "answering",
            Self::Failing => "failing",
        }
    }
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Outgoing>,
    since: Instant,
}

/// A connection in use. Given back after the last byte of the answer; dropped before
/// that, the connection is closed.
#[must_use]
#[derive(Debug)]
pub(crate) struct Lease {
    sender: Option<SendRequest<Outgoing>>,
    endpoint: Arc<Endpoint>,
}

impl Endpoint {
    pub(crate) fn new(name: Arc<str>, host: HeaderValue, connector: Connector) -> Arc<Self> {
        Arc::new(Self {
            name,
            host,
            connector,
            idle: Mutex::default(),
            in_flight: AtomicU32::new(0),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            answered_at_failure: AtomicU64::new(0),
        })
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// What the calls of late say about it. Nothing is asked for this.
    pub(crate) fn health(&self) -> Health {
        let answered = self.answered.load(Ordering::Relaxed);
        match self.failed.load(Ordering::Relaxed) {
            0 if answered == 0 => Health::Unused,
            0 => Health::Answering,
            _ if answered == self.answered_at_failure.load(Ordering::Relaxed) => Health::Failing,
            _ => Health::Answering,
        }
    }

    fn note_failure(&self) {
        let answered = self.answered.load(Ordering::Relaxed);
        self.answered_at_failure.store(answered, Ordering::Relaxed);
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease(self: &Arc<Self>, sender: Option<SendRequest<Outgoing>>) -> Lease {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Lease { sender, endpoint: self.clone() }
    }

    /// The connection used last (its buffers are warm), if it is fresh enough.
    fn take_idle(self: &Arc<Self>, now: Instant) -> Option<Lease> {
        let mut idle = self.idle();
        while let Some(kept) = idle.pop() {
            if now.saturating_duration_since(kept.since) > IDLE_MAX {
                // All below are older still. Closing sockets is not for under the lock.
                let stale = std::mem::take(&mut *idle);
                drop(idle);
                drop(stale);
                return None;
            }
            if !kept.sender.is_closed() {
                drop(idle);
                return Some(self.lease(Some(kept.sender)));
            }
        }
        None
    }

    async fn connect(self: &Arc<Self>, timeout: Duration) -> Result<Lease, UpstreamError> {
        // Counted from here on: a call that connects is load on this endpoint.
        let mut lease = self.lease(None);
        match time::timeout(timeout, self.connector.connect()).await {
            Ok(Ok(sender)) => {
                lease.sender = Some(sender);
                Ok(lease)
            }
            Ok(Err(source)) => {
                self.note_failure();
                let (endpoint, source) = (self.name.clone(), Arc::new(source));
                Err(UpstreamError::Unreachable { endpoint, source })
            }
            Err(_elapsed) => {
                self.note_failure();
                Err(UpstreamError::ConnectTimeout { endpoint: self.name.clone() })
            }
        }
    }
}

impl Lease {
    /// The body of the answer has ended: the connection may serve another call.
    pub(crate) fn give_back(mut self) {
        let Some(sender) = self.sender.take() else { return };
        if sender.is_closed() {
            return;
        }
        let mut idle = self.endpoint.idle();
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Upstream {
    /// The endpoint for the next call.
    pub(crate) fn pick(&self) -> Option<&Arc<Endpoint>> {
        if let [only] = &*self.endpoints {
            return Some(only);
        }
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let turn = |step: usize| self.endpoints.get((start + step) % self.endpoints.len().max(1));
        match self.balance {
            Balance::RoundRobin => turn(0),
            // Ties go round, so that idle endpoints share the work.
            Balance::LeastLoaded => (0..self.endpoints.len())
                .filter_map(turn)
                .min_by_key(|endpoint| endpoint.in_flight()),
        }
    }

    /// Sends `request` and waits for the head of the answer, until `deadline` at most.
    ///
    /// A request that never left on a kept connection (the upstream had closed it) is
    /// sent again on another; one of which a byte may have been read is not. `sent` is told
    /// when a connection has the request, and when it gave it back untouched.
    pub(crate) async fn send(
        &self,
        endpoint: &Arc<Endpoint>,
        mut request: Request<Outgoing>,
        deadline: Instant,
        sent: &mut (impl FnMut(bool) + Send),
    ) -> Result<(Response<Incoming>, Lease), UpstreamError> {
        let first_byte = self.timeouts.first_byte;
        for _ in 0..STALE_MAX {
            let Some(mut lease) = endpoint.take_idle(Instant::now()) else { break };
            match lease.ask(request, deadline, first_byte, sent).await? {
                Asked::Answered(response) => return Ok((response, lease)),
                Asked::NotSent(unsent, _) => request = *unsent,
            }
        }
        let patience = deadline.saturating_duration_since(Instant::now());
        let mut lease = endpoint.connect(self.timeouts.connect.min(patience)).await?;
        match lease.ask(request, deadline, first_byte, sent).await? {
            Asked::Answered(response) => Ok((response, lease)),
            Asked::NotSent(_, source) => {
                endpoint.note_failure();
                let (endpoint, source) = (endpoint.name.clone(), Arc::new(source));
                Err(UpstreamError::Reset { endpoint, source })
            }
        }
    }
}

enum Asked {
    Answered(Response<Incoming>),
    /// Nothing of it was sent; here it is again.
    NotSent(Box<Request<Outgoing>>, hyper::Error),
}

impl Lease {
    async fn ask(
        &mut self,
        request: Request<Outgoing>,
        deadline: Instant,
        first_byte: Duration,
        sent: &mut (impl FnMut(bool) + Send),
    ) -> Result<Asked, UpstreamError> {
        let endpoint = self.endpoint.clone();
        let Some(sender) = &mut self.sender else {
            // A lease without a connection is one that is being connected.
            let source = Arc::new(io::Error::from(io::ErrorKind::NotConnected));
            return Err(UpstreamError::Unreachable { endpoint: endpoint.name.clone(), source });
        };
        if !sender.is_ready()
            && let Err(error) = sender.ready().await
        {
            return Ok(Asked::NotSent(Box::new(request), error));
        }
        let now = Instant::now();
        let until = deadline.min(now + first_byte);
        sent(true);
        match time::timeout_at(until, sender.try_send_request(request)).await {
            Ok(Ok(response)) => {
                endpoint.answered.fetch_add(1, Ordering::Relaxed);
                Ok(Asked::Answered(response))
            }
            Ok(Err(mut failure)) => match failure.take_message() {
                Some(unsent) => {
                    sent(false);
                    Ok(Asked::NotSent(Box::new(unsent), failure.into_error()))
                }
                None => {
                    let error = failed(&endpoint, failure.into_error());
                    // Half a request is nothing that anyone works on.
                    sent(!matches!(error, UpstreamError::DownstreamCut | UpstreamError::TooLarge));
                    Err(error)
                }
            },
            Err(_elapsed) => {
                endpoint.note_failure();
                let endpoint = endpoint.name.clone();
                if until == deadline {
                    Err(UpstreamError::Deadline { endpoint })
                } else {
                    Err(UpstreamError::FirstByteTimeout { endpoint })
                }
            }
        }
    }
}

/// Whose fault it is that a request which was sent got no answer.
fn failed(endpoint: &Endpoint, error: hyper::Error) -> UpstreamError {
    if error.is_user()
        && let Some(body) = error.source().and_then(|source| source.downcast_ref::<BodyError>())
    {
        return match body {
            BodyError::TooLarge => UpstreamError::TooLarge,
            BodyError::DownstreamCut(_)
            | BodyError::UpstreamCut(_)
            | BodyError::UpstreamIdle
            | BodyError::UpstreamTotal
            | BodyError::Cut => UpstreamError::DownstreamCut,
        };
    }
    endpoint.note_failure();
    let (name, is_protocol) = (endpoint.name.clone(), error.is_parse());
    let source = Arc::new(error);
    if is_protocol {
        UpstreamError::Protocol { endpoint: name, source }
    } else {
        UpstreamError::Reset { endpoint: name, source }
    }
}
