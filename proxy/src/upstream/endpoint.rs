//! One address of an upstream, and the connections that are kept to it.

use super::{Connector, UpstreamError};
use crate::body::{BodyError, Outgoing};
use http::{HeaderValue, Request, Response};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use std::{
    error::Error as _,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
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
    /// It failed so often that it is left alone.
    Open,
}

impl Health {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Answering => "answering",
            Self::Failing => "failing",
            Self::Open => "open",
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
    pub(super) fn health(&self) -> Health {
        let answered = self.answered.load(Ordering::Relaxed);
        match self.failed.load(Ordering::Relaxed) {
            0 if answered == 0 => Health::Unused,
            0 => Health::Answering,
            _ if answered == self.answered_at_failure.load(Ordering::Relaxed) => Health::Failing,
            _ => Health::Answering,
        }
    }

    pub(super) fn note_failure(&self) {
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
    pub(super) fn take_idle(self: &Arc<Self>, now: Instant) -> Option<Lease> {
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

    /// `patience`: how long the caller waits yet. That it ends says nothing of the endpoint.
    pub(super) async fn connect(
        self: &Arc<Self>,
        timeout: Duration,
        patience: Duration,
    ) -> Result<Lease, UpstreamError> {
        // Counted from here on: a call that connects is load on this endpoint.
        let mut lease = self.lease(None);
        match time::timeout(timeout.min(patience), self.connector.connect()).await {
            Ok(Ok(sender)) => {
                lease.sender = Some(sender);
                Ok(lease)
            }
            Ok(Err(source)) => {
                self.note_failure();
                let (endpoint, source) = (self.name.clone(), Arc::new(source));
                Err(UpstreamError::Unreachable { endpoint, source })
            }
            Err(_elapsed) if patience < timeout => {
                Err(UpstreamError::Deadline { endpoint: self.name.clone() })
            }
            Err(_elapsed) => {
                self.note_failure();
                Err(UpstreamError::ConnectTimeout { endpoint: self.name.clone() })
            }
        }
    }
}

impl Lease {
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

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

pub(super) enum Asked {
    Answered(Response<Incoming>),
    /// Nothing of it was sent; here it is again.
    NotSent(Box<Request<Outgoing>>, hyper::Error),
}

impl Lease {
    pub(super) async fn ask(
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
