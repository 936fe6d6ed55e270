//! What the stand-in has seen and told, as one value behind a watch channel: a
//! test reads it or waits for it, and never sleeps.

use super::{Gate, Options, fault::Magic};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// Names of models counted apart; more of them are counted as `other`.
const MODELS_MAX: usize = 1000;
/// Questions remembered for the `-once` magic.
const ONCE_MAX: usize = 10_000;

/// Tokens by the provider's own arithmetic. Of a cache read or a reasoning
/// step, the tokens are inside `input` and `output` here, in every dialect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    pub input: u64,
    pub output: u64,
}

impl Tokens {
    pub(super) fn add(&mut self, more: Self) {
        self.input += more.input;
        self.output += more.output;
    }
}

/// Everything counted since the start. `calls` = `in_flight` + `finished` +
/// `failed` + `aborted` + `limit_exceeded` (+ those waiting for the limit's grace).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests read to their end, `/health` excepted.
    pub calls: u64,
    pub in_flight: u64,
    pub max_in_flight: u64,
    /// Answered to the last byte as the API would: every status below 400.
    pub finished: u64,
    /// Answered with an error or ended by a fault, as the test asked.
    pub failed: u64,
    /// The caller left before the last byte was handed on.
    pub aborted: u64,
    /// Came while `concurrency_limit` calls were being answered. Zero, or the
    /// proxy in front is broken.
    pub limit_exceeded: u64,
    /// Events handed on in streams.
    pub chunks: u64,
    /// What the provider bills: the input as soon as it answers, the output as
    /// it is handed on, also to a caller who leaves in the middle.
    pub billed: Tokens,
    /// What the usage members that were handed on add up to.
    pub told: Tokens,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub method: http::Method,
    /// Path and query.
    pub target: String,
    pub version: http::Version,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Recorded {
    /// The first value of a header, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Finished,
    Failed,
    Aborted,
}

/// What all connections of one stand-in share.
#[derive(Debug)]
pub(super) struct House {
    pub(super) options: Options,
    pub(super) port: u16,
    pub(super) counts: watch::Sender<Counts>,
    pub(super) inner: Mutex<Inner>,
}

/// The part that a test changes while the stand-in runs, or reads at its end.
#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) by_model: BTreeMap<String, u64>,
    pub(super) requests: VecDeque<Recorded>,
    pub(super) model_version: Option<String>,
    pub(super) gate: Option<Gate>,
    /// With how many calls each is still for.
    pub(super) faults: VecDeque<(Magic, usize)>,
    once: BTreeSet<[u8; 32]>,
}

impl House {
    pub(super) fn new(options: Options, port: u16) -> Self {
        let inner = Inner {
            model_version: options.model_version.clone(),
            gate: options.gate.clone(),
            ..Inner::default()
        };
        Self {
            options,
            port,
            counts: watch::Sender::new(Counts::default()),
            inner: Mutex::new(inner),
        }
    }

    /// A panic elsewhere cannot leave these plain collections half-changed.
    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request that was read to its end; returns its number, from 1.
    pub(super) fn record(&self, request: Recorded) -> u64 {
        let requests_max = self.options.requests_max;
        if requests_max > 0 {
            let mut inner = self.inner();
            while inner.requests.len() >= requests_max {
                inner.requests.pop_front();
            }
            inner.requests.push_back(request);
        }
        let mut call_no = 0;
        self.counts.send_modify(|counts| {
            counts.calls += 1;
            call_no = counts.calls;
        });
        call_no
    }

    pub(super) fn count_model(&self, model: &str) {
        let mut inner = self.inner();
        let known = inner.by_model.len() < MODELS_MAX || inner.by_model.contains_key(model);
        let name = if known { model } else { "other" };
        *inner.by_model.entry(name.to_owned()).or_default() += 1;
    }

    /// The fault of the next model call.
    pub(super) fn next_fault(&self) -> Option<Magic> {
        let mut inner = self.inner();
        let (magic, times) = inner.faults.pop_front()?;
        if times > 1 {
            inner.faults.push_front((magic, times - 1));
        }
        Some(magic)
    }

    /// Whether this is the first time: for the `-once` magic.
    pub(super) fn first_time(&self, key: [u8; 32]) -> bool {
        let mut inner = self.inner();
        inner.once.len() < ONCE_MAX && inner.once.insert(key)
    }

    /// A place among the calls being answered, or `None` when the limit is
    /// exceeded.
    ///
    /// A caller that hangs up is seen here a moment later than its next call may
    /// come, on another connection. So a call above the limit waits for a hang-up
    /// that explains it, and only if none comes in `abort_grace` the limit counts
    /// as exceeded; a call that merely ends meanwhile explains nothing.
    pub(super) async fn admit(self: &Arc<Self>) -> Option<Call> {
        let aborted_before = self.counts.borrow().aborted;
        if self.try_admit(None) {
            return Some(Call::new(self));
        }
        let mut changes = self.counts.subscribe();
        let explained = async {
            loop {
                if self.try_admit(Some(aborted_before)) {
                    return;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        if tokio::time::timeout(self.options.abort_grace, explained).await.is_ok() {
            return Some(Call::new(self));
        }
        self.counts.send_modify(|counts| counts.limit_exceeded += 1);
        None
    }

    fn try_admit(&self, only_if_aborted_since: Option<u64>) -> bool {
        let limit = self.options.concurrency_limit.unwrap_or(u64::MAX);
        self.counts.send_if_modified(|counts| {
            let explained = only_if_aborted_since.is_none_or(|before| counts.aborted > before);
            let admitted = explained && counts.in_flight < limit;
            if admitted {
                counts.in_flight += 1;
                counts.max_in_flight = counts.max_in_flight.max(counts.in_flight);
            }
            admitted
        })
    }
}

/// A call being answered. Ends once: by [`Call::end`], or as aborted when it is
/// dropped before.
#[derive(Debug)]
pub(super) struct Call {
    house: Arc<House>,
    ended: bool,
}

impl Call {
    fn new(house: &Arc<House>) -> Self {
        Self { house: Arc::clone(house), ended: false }
    }

    pub(super) fn house(&self) -> &House {
        &self.house
    }

    pub(super) fn end(&mut self, end: End) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.house.counts.send_modify(|counts| {
            counts.in_flight -= 1;
            match end {
                End::Finished => counts.finished += 1,
                End::Failed => counts.failed += 1,
                End::Aborted => counts.aborted += 1,
            }
        });
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(End::Aborted);
    }
}
