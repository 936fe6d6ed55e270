//! Reads what a call asks: its body where that matters, its model, its deadline.
//!
//! Only the bodies of calls that a dialect knows (or that a content route keys by) are
//! read; all others stream through untouched. A body that is too long to hold is not
//! refused: what was read of it goes first, and the rest streams after it.

use crate::body::{Carried, Outgoing, len_u64};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{self, Instant};
use tollgate_core::dialect::Operation;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const ENVOY_TIMEOUT_MS: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const STAINLESS_TIMEOUT: HeaderName = HeaderName::from_static("x-stainless-read-timeout");
const TOLLGATE_TIMEOUT: HeaderName = HeaderName::from_static("tollgate-timeout");

/// Why a request could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InspectError {
    #[error("the request body is longer than routes[].max_body")]
    TooLarge,
    #[error("the request body did not arrive within limits.idle_timeout")]
    Timeout,
    #[error("the caller cut its request body")]
    Cut,
}

/// The limits that a body is read under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    /// Longer bodies are not held.
    pub(crate) hold_bytes_max: u64,
    /// Of all bodies held at one time.
    pub(crate) held_bytes_max: u64,
    /// Longer bodies are refused.
    pub(crate) refuse_above_bytes: Option<u64>,
    pub(crate) frame_timeout: Duration,
}

/// A request body as far as it was needed.
#[derive(Debug)]
pub(crate) enum AskBody {
    Whole(Bytes, Held),
    /// Not read to its end; `read` came first.
    Streamed {
        read: Bytes,
        rest: Incoming,
    },
}

/// A share of `limits.held`; dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: u64,
    /// Of all shares.
    bytes_max: u64,
    total: Arc<AtomicU64>,
}

impl Held {
    /// Takes so many bytes more. `false`: all of them together are beyond the limit.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let before = self.total.fetch_add(bytes, Ordering::Relaxed);
        self.bytes = self.bytes.saturating_add(bytes);
        before.saturating_add(bytes) <= self.bytes_max
    }

    /// Takes as many bytes more as make it so many.
    pub(crate) fn grow_to(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        more == 0 || self.grow(more)
    }

    /// Another share, of nothing yet, for what is held because of the same call.
    pub(crate) fn beside(&self) -> Self {
        Self { bytes: 0, bytes_max: self.bytes_max, total: self.total.clone() }
    }
}

/// Of what is bounded where it comes from.
impl Default for Held {
    fn default() -> Self {
        Self { bytes: 0, bytes_max: u64::MAX, total: Arc::default() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.total.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

/// Lets a body stream through unread.
pub(crate) fn unread(body: Carried, limits: &BodyLimits) -> Result<AskBody, InspectError> {
    let body = match body {
        Carried::Caller(body) => body,
        Carried::Own(bytes) => return own(bytes, limits),
    };
    if body.is_end_stream() {
        return Ok(AskBody::Whole(Bytes::new(), Held::default()));
    }
    refuse_too_large(body.size_hint().lower(), limits)?;
    Ok(AskBody::Streamed { read: Bytes::new(), rest: body })
}

/// [`read`], or [`unread`].
///
/// # Errors
/// Theirs.
pub(crate) async fn read_if(
    is_read: bool,
    body: Carried,
    limits: &BodyLimits,
    total: &Arc<AtomicU64>,
) -> Result<AskBody, InspectError> {
    match is_read {
        true => read(body, limits, total).await,
        false => unread(body, limits),
    }
}

/// Reads a body to its end, if it is short enough to hold.
///
/// # Errors
/// It is longer than the route takes, comes too slowly, or was cut.
pub(crate) async fn read(
    body: Carried,
    limits: &BodyLimits,
    total: &Arc<AtomicU64>,
) -> Result<AskBody, InspectError> {
    let mut body = match body {
        Carried::Caller(body) => body,
        Carried::Own(bytes) => return own(bytes, limits),
    };
    let mut held = Held { bytes: 0, bytes_max: limits.held_bytes_max, total: total.clone() };
    let announced = body.size_hint().lower();
    refuse_too_large(announced, limits)?;
    if announced > limits.hold_bytes_max {
        return Ok(AskBody::Streamed { read: Bytes::new(), rest: body });
    }
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    while !body.is_end_stream() {
        let frame = match time::timeout(limits.frame_timeout, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => return Err(InspectError::Cut),
            Ok(None) => break,
            Err(_elapsed) => return Err(InspectError::Timeout),
        };
        let Ok(data) = frame.into_data() else { continue };
        let fits = held.grow(len_u64(data.len()));
        if first.is_empty() && more.is_empty() {
            first = data;
        } else {
            if more.is_empty() {
                more.reserve(usize::try_from(announced).unwrap_or(0).max(first.len()));
                more.extend_from_slice(&std::mem::take(&mut first));
            }
            more.extend_from_slice(&data);
        }
        refuse_too_large(held.bytes, limits)?;
        if !fits || held.bytes > limits.hold_bytes_max {
            return Ok(AskBody::Streamed { read: one(first, more), rest: body });
        }
    }
    Ok(AskBody::Whole(one(first, more), held))
}

/// A body of our own: there already, and bounded where it came from.
fn own(bytes: Bytes, limits: &BodyLimits) -> Result<AskBody, InspectError> {
    refuse_too_large(len_u64(bytes.len()), limits)?;
    Ok(AskBody::Whole(bytes, Held::default()))
}

fn refuse_too_large(bytes: u64, limits: &BodyLimits) -> Result<(), InspectError> {
    match limits.refuse_above_bytes {
        Some(max) if bytes > max => Err(InspectError::TooLarge),
        Some(_) | None => Ok(()),
    }
}

/// A body of one piece was never copied.
fn one(first: Bytes, more: BytesMut) -> Bytes {
    if more.is_empty() { first } else { more.freeze() }
}

impl AskBody {
    /// What was read, if it was to the end.
    pub(crate) fn whole(&self) -> Option<&[u8]> {
        match self {
            Self::Whole(bytes, _) => Some(bytes),
            Self::Streamed { .. } => None,
        }
    }

    /// The body for the upstream; the counter of what streams through, if it does.
    pub(crate) fn outgoing(self, limits: &BodyLimits) -> (Outgoing, Option<Arc<AtomicU64>>, Held) {
        match self {
            Self::Whole(bytes, held) => (Outgoing::Whole(bytes), None, held),
            Self::Streamed { read, rest } => {
                let passed = Arc::new(AtomicU64::new(0));
                let max = limits.refuse_above_bytes;
                (Outgoing::stream(read, rest, passed.clone(), max), Some(passed), Held::default())
            }
        }
    }
}

/// Whether the body of `operation` is read: to meter it, to ask for stream usage, to key it.
pub(crate) fn is_known(operation: Operation) -> bool {
    operation != Operation::Other
}

/// The moment after which nobody waits for the answer: the least of what the caller's
/// headers say and `total`.
pub(crate) fn deadline(headers: &HeaderMap, started: Instant, total: Duration) -> Instant {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let seconds = |text: &str| {
        let seconds: f64 = text.trim().parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    };
    let said = [
        text(&GRPC_TIMEOUT).and_then(grpc_timeout),
        text(&ENVOY_TIMEOUT_MS).and_then(|ms| ms.trim().parse().ok().map(Duration::from_millis)),
        text(&STAINLESS_TIMEOUT).and_then(seconds),
        headers.get(&TOLLGATE_TIMEOUT).and_then(tollgate_timeout),
    ];
    let least = said.into_iter().flatten().filter(|length| !length.is_zero()).min();
    started + least.map_or(total, |least| least.min(total))
}

/// `1H`, `20S`, `500m`, `100u`, `1n`: at most eight digits and a unit.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count.checked_mul(3600)?)),
        "M" => Some(Duration::from_secs(count.checked_mul(60)?)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// A duration as in the configuration (`500ms`, `2s`), or seconds.
fn tollgate_timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at_checked(digits)?;
    let count: u64 = count.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(count)),
        "s" | "" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_secs(count.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(count.checked_mul(3600)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(fields: &[(&'static str, &'static str)], expected: Duration) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _context = runtime.enter();
        let now = Instant::now();
        assert_eq!(deadline(&headers, now, Duration::from_secs(60)) - now, expected, "{fields:?}");
    }

    #[test]
    fn a_deadline_is_the_least_of_what_is_said() {
        check(&[], Duration::from_secs(60));
        check(&[("grpc-timeout", "20S")], Duration::from_secs(20));
        check(&[("grpc-timeout", "2H")], Duration::from_secs(60));
        check(&[("x-envoy-expected-rq-timeout-ms", "250")], Duration::from_millis(250));
        check(&[("x-stainless-read-timeout", "1.5")], Duration::from_millis(1500));
        check(
            &[("tollgate-timeout", "700ms"), ("x-stainless-read-timeout", "600")],
            Duration::from_millis(700),
        );
        for odd in ["", "x", "-1", "1d", "99999999999999999999999"] {
            check(&[("tollgate-timeout", odd), ("grpc-timeout", odd)], Duration::from_secs(60));
        }
    }
}
