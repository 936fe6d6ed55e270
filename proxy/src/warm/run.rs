//! One list of requests, asked from its first line to its last.

use super::{LIST_BYTES_MAX, pace::Place};
use crate::{
    app::Parts,
    exchange::{Outcome, ask_ourselves},
    metrics::{OwnOutcome, OwnPurpose},
    written::{self, NotARequest},
};
use bytes::Bytes;
use http::{HeaderValue, Request, header};
use serde_json::{Value, json};
use std::{
    io::{self, Read as _},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{self, Instant},
};
use tokio_util::task::TaskTracker;

/// Bad lines that are named; the others are counted.
const BAD_SHOWN_MAX: usize = 20;

/// How long a run at the start waits for an upstream that starts, too: a model takes minutes to
/// load.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// From one try to the next, at first and at last.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Who wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `cache.warm.file`
    Start,
    /// `cache.warm.schedule`
    Schedule,
    Admin,
}

/// How a list is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(super) source: Source,
    /// Each answer anew, also where there is one.
    pub(super) refresh: bool,
    /// Waits for an upstream that cannot be asked yet.
    pub(super) is_patient: bool,
}

/// A run and how far it is.
#[derive(Debug)]
pub(crate) struct Run {
    id: u64,
    order: Order,
    /// Lines that are no requests among them.
    lines: u64,
    asked: AtomicU64,
    hit: AtomicU64,
    stored: AtomicU64,
    not_stored: AtomicU64,
    failed: AtomicU64,
    bad_lines: AtomicU64,
    /// The first of them.
    bad: Mutex<Vec<(u64, NotARequest)>>,
    first_failure: OnceLock<Failure>,
    /// The process went down before its end.
    stopped: AtomicBool,
    over: AtomicBool,
}

#[derive(Debug)]
struct Failure {
    line: u64,
    status: u16,
    reason: Option<HeaderValue>,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Schedule => "schedule",
            Self::Admin => "admin",
        }
    }
}

/// Begins to ask `list`, one request a line. `place`: taken until the list is let go.
pub(crate) fn begin(
    parts: &Arc<Parts>,
    order: Order,
    list: Bytes,
    place: Option<OwnedSemaphorePermit>,
) -> Arc<Run> {
    let lines = lines(&list).count();
    let run = parts.warming.remember(|id| Run::new(id, order, lines));
    let (own, parts) = (run.clone(), parts.clone());
    // The drain waits for it, and it does not wait long then.
    parts.connections.clone().spawn(async move {
        own.go(&parts, &list).await;
        drop((list, place));
    });
    run
}

/// The lines of a list that are not empty, from 1 on.
fn lines(list: &Bytes) -> impl Iterator<Item = (u64, &[u8])> {
    let all = (1..).zip(list.split(|byte| *byte == b'\n'));
    all.map(|(number, line)| (number, line.trim_ascii())).filter(|(_, line)| !line.is_empty())
}

/// Reads a list to its end. Blocks on what it reads.
///
/// # Errors
/// It cannot be read, or is too long.
pub(crate) fn read_list(from: impl io::Read) -> io::Result<Bytes> {
    let mut list = Vec::new();
    let max = u64::try_from(LIST_BYTES_MAX).unwrap_or(u64::MAX);
    from.take(max.saturating_add(1)).read_to_end(&mut list)?;
    if list.len() > LIST_BYTES_MAX {
        let why = format!("longer than {LIST_BYTES_MAX} bytes; make two of it");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(list.into())
}

impl Run {
    fn new(id: u64, order: Order, lines: usize) -> Self {
        Self {
            id,
            order,
            lines: u64::try_from(lines).unwrap_or(u64::MAX),
            asked: AtomicU64::new(0),
            hit: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            not_stored: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            bad_lines: AtomicU64::new(0),
            bad: Mutex::default(),
            first_failure: OnceLock::new(),
            stopped: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// As the API shows it.
    pub(crate) fn show(&self) -> Value {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        // First, so that what is said to be over has all its numbers.
        let state = match (self.is_over(), self.stopped.load(Ordering::Relaxed)) {
            (false, _) => "running",
            (true, false) => "done",
            (true, true) => "stopped",
        };
        let bad = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
        let bad = bad.iter().map(|(line, why)| json!({ "line": line, "why": why.to_string() }));
        json!({
            "run": self.id,
            "source": self.order.source.name(),
            "refresh": self.order.refresh,
            "state": state,
            "lines": self.lines,
            "asked": count(&self.asked),
            "hit": count(&self.hit),
            "stored": count(&self.stored),
            "not_stored": count(&self.not_stored),
            "failed": count(&self.failed),
            "bad_lines": count(&self.bad_lines),
            "bad": bad.collect::<Vec<_>>(),
            "first_failure": self.first_failure.get().map(|failure| json!({
                "line": failure.line,
                "status": failure.status,
                "reason": failure.reason.as_ref().and_then(|reason| reason.to_str().ok()),
            })),
        })
    }

    async fn go(self: Arc<Self>, parts: &Arc<Parts>, list: &Bytes) {
        let calls = TaskTracker::new();
        let mut is_first = true;
        for (number, line) in lines(list) {
            let request = match written::read(line) {
                Ok(request) => self.request(request),
                Err(why) => {
                    self.bad_line(number, why);
                    continue;
                }
            };
            if is_first && self.order.is_patient {
                is_first = false;
                let outcome = self.ask_patiently(parts, request).await;
                self.count(parts, number, outcome);
                continue;
            }
            let interval = parts.snapshot.load().config.cache.warm.interval;
            let turn = parts.warming.pace.turn(interval);
            let leave = &parts.shutdown.leave;
            let place = leave.run_until_cancelled(turn).await;
            let Some(place) = place.filter(|_| !parts.shutdown.is_draining()) else {
                self.stopped.store(true, Ordering::Relaxed);
                break;
            };
            let (own, parts) = (self.clone(), parts.clone());
            calls.spawn(async move { own.ask(&parts, number, request, place).await });
        }
        calls.close();
        calls.wait().await;
        self.over.store(true, Ordering::Release);
        self.log();
    }

    /// As this run asks it.
    fn request(&self, mut request: Request<Bytes>) -> Request<Bytes> {
        if self.order.refresh {
            let anew = HeaderValue::from_static("no-cache");
            request.headers_mut().insert(header::CACHE_CONTROL, anew);
        }
        request
    }

    async fn ask(&self, parts: &Arc<Parts>, line: u64, request: Request<Bytes>, place: Place) {
        let outcome = ask_ourselves(parts, request).await;
        drop(place);
        self.count(parts, line, outcome);
    }

    fn count(&self, parts: &Parts, line: u64, outcome: Outcome) {
        let (count, outcome) = match outcome {
            Outcome::Dropped => {
                self.stopped.store(true, Ordering::Relaxed);
                return;
            }
            Outcome::Hit => (&self.hit, OwnOutcome::Hit),
            Outcome::Stored => (&self.stored, OwnOutcome::Stored),
            Outcome::NotStored => (&self.not_stored, OwnOutcome::NotStored),
            Outcome::Failed { status, reason } => {
                self.first_failure.get_or_init(|| Failure { line, status, reason });
                (&self.failed, OwnOutcome::Failed)
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.asked.fetch_add(1, Ordering::Relaxed);
        let purpose = if self.order.refresh { OwnPurpose::Refresh } else { OwnPurpose::Warm };
        parts.metrics.asked_ourselves(purpose, outcome);
    }

    /// Asks the first request until the upstream can be asked, or patience is over.
    async fn ask_patiently(&self, parts: &Arc<Parts>, request: Request<Bytes>) -> Outcome {
        let (until, mut pause) = (Instant::now() + PATIENCE, RETRY_MIN);
        loop {
            let outcome = ask_ourselves(parts, request.clone()).await;
            let is_over = Instant::now() >= until || parts.shutdown.is_draining();
            if is_over || !outcome.is_worth_waiting_for() {
                return outcome;
            }
            tracing::info!(pause_s = pause.as_secs(), "the warm-up waits for its upstream");
            parts.shutdown.leave.run_until_cancelled(time::sleep(pause)).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    fn bad_line(&self, line: u64, why: NotARequest) {
        self.bad_lines.fetch_add(1, Ordering::Relaxed);
        let mut bad = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
        if bad.len() < BAD_SHOWN_MAX {
            bad.push((line, why));
        }
    }

    fn log(&self) {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (bad_lines, failed) = (count(&self.bad_lines), count(&self.failed));
        tracing::info!(
            run = self.id,
            source = self.order.source.name(),
            refresh = self.order.refresh,
            asked = count(&self.asked),
            hit = count(&self.hit),
            stored = count(&self.stored),
            not_stored = count(&self.not_stored),
            failed,
            bad_lines,
            stopped = self.stopped.load(Ordering::Relaxed),
            "a list of requests was asked"
        );
        let bad = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((line, why)) = bad.first() {
            tracing::warn!(run = self.id, line, %why, bad_lines, "a line is no request");
        }
        if let Some(Failure { line, status, reason }) = self.first_failure.get() {
            tracing::warn!(run = self.id, line, status, ?reason, failed, "a request failed");
        }
    }
}
