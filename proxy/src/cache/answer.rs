//! Answers from an entry: the form its caller wants, its headers, its age.

use super::{
    Ask,
    coded::Agreed,
    decode_bill,
    http_mode::{How, cache_status},
    paced,
};
use crate::{body::Body, meter::Call, metrics::CacheOutcome, relay::Replay, respond};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use std::sync::Arc;
use tollgate_cache::{
    coding::Coding,
    entry::{Entry, Form},
    freshness::{Left, RENEWAL_PAUSE_MS},
    tiers::{Found, TierName},
};
use tollgate_config::Pacing;
use tollgate_core::{
    dialect::{Framing, Operation},
    form,
};

/// An entry that this caller may be given, in the form it wants.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
    pub(super) entry: Arc<Entry>,
    pub(super) tier: TierName,
    pub(super) age_ms: u64,
    /// Of its time; below 0 for one that is past it.
    pub(super) left_ms: i64,
    pub(super) how: How,
    pub(super) form: Served,
    pub(super) wanted: Framing,
    /// The `content-type` in that framing, for what is not as it was recorded.
    pub(super) kind: &'static str,
    pub(super) hides_usage: bool,
    /// As far as it holds for this entry.
    pub(super) agreed: Agreed,
    /// At which a stream is given; `None`: at once.
    pub(super) pacing: Option<Pacing>,
}

#[derive(Clone, Debug)]
pub(super) enum Served {
    AsRecorded,
    /// A recorded whole answer, in this coding.
    Coded(Coding, Bytes),
    /// A recorded stream, as the whole answer it amounts to.
    Whole(Bytes),
    /// A recorded whole answer, as the stream it would have been.
    Frames(Vec<Vec<u8>>),
}

/// The form in which a caller wants an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) operation: Operation,
    pub(super) framing: Framing,
    pub(super) hides_usage: bool,
    pub(super) agreed: Agreed,
    pub(super) pacing: Option<Pacing>,
}

impl Wanted {
    pub(super) fn of(ask: &Ask) -> Self {
        let (framing, hides_usage) = (ask.framing(), ask.hides_usage());
        let Ask { operation, agreed, pacing, .. } = *ask;
        Self { operation, framing, hides_usage, agreed, pacing }
    }
}

/// The entry in the framing that is wanted; `None` where nobody can convert it.
fn served(entry: &Entry, operation: Operation, wanted: Framing) -> Option<Served> {
    match (entry.form, wanted) {
        (Form::Whole, Framing::Whole) => Some(Served::AsRecorded),
        (Form::Stream, Framing::Whole) => {
            form::stream_to_whole(operation, &entry.body).map(|body| Served::Whole(body.into()))
        }
        (Form::Stream, wanted) if form::framing_of_stream(operation, &entry.body) == wanted => {
            Some(Served::AsRecorded)
        }
        (Form::Stream, wanted) => form::reframe(operation, &entry.body, wanted).map(Served::Frames),
        (Form::Whole, wanted) => {
            let frames = form::whole_to_stream(operation, &entry.body)?;
            if wanted == form::framing_of_made(operation) {
                return Some(Served::Frames(frames));
            }
            form::reframe(operation, &frames.concat(), wanted).map(Served::Frames)
        }
    }
}

impl Hit {
    pub(crate) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// The entry for this caller; `None` if nobody can make the form it wants.
    pub(super) fn of(
        found: &Found,
        wanted: Wanted,
        (how, left): (How, Left),
        now_ms: u64,
    ) -> Option<Self> {
        let Wanted { operation, framing, hides_usage, agreed, pacing } = wanted;
        let Found { entry, tier, .. } = found;
        let form = served(entry, operation, framing)?;
        let left_ms = match left {
            Left::Fresh { for_ms, .. } => i64::try_from(for_ms).unwrap_or(i64::MAX),
            Left::Stale { by_ms } => i64::try_from(by_ms).map_or(i64::MIN, |by_ms| -by_ms),
        };
        let age_ms = entry.age_ms(now_ms);
        let agreed = match form {
            Served::AsRecorded => agreed.about(entry),
            Served::Coded(..) | Served::Whole(_) | Served::Frames(_) => Agreed::default(),
        };
        let kind = operation.content_type(framing);
        let (entry, tier, wanted) = (entry.clone(), *tier, framing);
        Some(Self {
            entry,
            tier,
            age_ms,
            left_ms,
            how,
            form,
            wanted,
            kind,
            hides_usage,
            agreed,
            pacing,
        })
    }

    /// Answers from the cache. The record is written before the answer is handed on.
    pub(crate) fn serve(self, call: Call) -> Response<Body> {
        self.book(call);
        self.respond()
    }

    /// Writes the call's record.
    pub(crate) fn book(&self, mut call: Call) {
        let outcome = if self.how == How::Hit { CacheOutcome::Hit } else { CacheOutcome::Stale };
        let entry = &self.entry;
        call.cache(outcome, super::label(self.tier));
        call.version(&entry.model_version);
        call.first_byte();
        let bill = decode_bill(&entry.note).unwrap_or_default();
        let body = if let Served::Coded(_, form) = &self.form { form } else { &entry.body };
        call.spared(entry.status, crate::body::len_u64(body.len()), &bill);
    }

    /// The answer, where the record is written elsewhere.
    pub(crate) fn respond(self) -> Response<Body> {
        let Self { entry, tier, age_ms, left_ms, how, form, wanted, kind, agreed, .. } = self;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::from_u16(entry.status).unwrap_or(StatusCode::OK);
        let converted = matches!(form, Served::Whole(_) | Served::Frames(_));
        let headers = response.headers_mut();
        for (name, value) in &entry.headers {
            let name = HeaderName::from_bytes(name);
            let value = HeaderValue::from_maybe_shared(value.clone());
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.append(name, value);
            }
        }
        if converted {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        let coding = if let Served::Coded(coding, _) = form { Some(coding) } else { None };
        agreed.tell(headers, coding);
        headers.insert(header::AGE, HeaderValue::from(age_ms / 1000));
        let status = if matches!(how, How::Hit) {
            hit_status(tier, left_ms / 1000)
        } else {
            cache_status(how, i128::from(left_ms).div_euclid(1000), tier)
        };
        respond::append_cache_status(headers, status);
        let hides_usage = self.hides_usage;
        let pacing = self.pacing.filter(|_| wanted.is_stream());
        *response.body_mut() = match pacing {
            None => body(entry, form, hides_usage),
            Some(pacing) => paced::body(entry, form, (wanted, hides_usage), pacing),
        };
        response
    }

    /// When the answer was stored, if its time is not over.
    pub(super) fn fresh_since_ms(&self) -> Option<u64> {
        (self.how == How::Hit).then_some(self.entry.stored_at_ms)
    }

    /// How long until the next try where its renewal fails, in milliseconds: more often as its end
    /// comes nearer.
    pub(super) fn renewal_pause_ms(&self) -> u64 {
        RENEWAL_PAUSE_MS.max(u64::try_from(self.left_ms).unwrap_or(0) / 4)
    }

    /// It stands in for what every caller of the same would have got, and not for its own caller's
    /// want of a turn.
    pub(crate) fn is_of_upstream(&self) -> bool {
        matches!(self.how, How::Instead(_))
    }
}

pub(super) fn body(entry: Arc<Entry>, form: Served, hides_usage: bool) -> Body {
    match form {
        Served::Whole(bytes) | Served::Coded(_, bytes) => Body::Whole(bytes),
        Served::Frames(frames) => Body::Replay(Box::new(Replay::made(frames, hides_usage))),
        Served::AsRecorded if entry.form == Form::Stream => {
            Body::Replay(Box::new(Replay::recorded(entry, hides_usage)))
        }
        Served::AsRecorded => Body::Whole(entry.body.clone()),
    }
}

/// `tollgate; hit; ttl=2873; detail=memory`
fn hit_status(tier: TierName, ttl_s: i64) -> HeaderValue {
    use std::io::Write as _;
    let detail = tier.as_str();
    let mut text = Vec::with_capacity(48);
    let written = write!(text, "tollgate; hit; ttl={ttl_s}; detail={detail}");
    written
        .ok()
        .and_then(|()| HeaderValue::from_maybe_shared(Bytes::from(text)).ok())
        .unwrap_or(HeaderValue::from_static("tollgate; hit"))
}
