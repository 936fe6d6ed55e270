//! Answers from an entry: the form its caller wants, its headers, its age.

use super::{Ask, decode_bill};
use crate::{
    body::Body,
    meter::{Bill, Call},
    metrics::CacheOutcome,
    relay::Replay,
    respond,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use std::sync::Arc;
use tollgate_cache::{
    cache_control::RequestControl,
    entry::{Entry, Form},
    tiers::{Found, TierName},
};
use tollgate_core::{
    dialect::{Framing, Operation},
    form,
};

/// An entry that this caller may be given, in the form it wants.
#[derive(Debug)]
pub(crate) struct Hit {
    entry: Arc<Entry>,
    tier: TierName,
    age_ms: u64,
    fresh_for_ms: u64,
    form: Served,
}

#[derive(Debug)]
enum Served {
    AsRecorded,
    /// A recorded stream, as the whole answer it amounts to.
    Whole(Bytes),
    /// A recorded whole answer, as the stream it would have been.
    Frames(Vec<Vec<u8>>),
}

/// The entry for this caller; `None` if its wishes or its form make it a miss.
pub(super) fn usable(found: Found, ask: &Ask, wish: &RequestControl, now_ms: u64) -> Option<Hit> {
    let Found { entry, tier, is_soft } = found;
    if is_soft {
        return None;
    }
    let age_ms = entry.age_ms(now_ms);
    let fresh_for_ms = entry.fresh_for_ms(now_ms)?;
    if !wish.accepts(age_ms, fresh_for_ms) {
        return None;
    }
    let form = served(&entry, ask.operation, ask.framing())?;
    Some(Hit { entry, tier, age_ms, fresh_for_ms, form })
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
            if wanted != Framing::Array {
                return Some(Served::Frames(frames));
            }
            form::reframe(operation, &frames.concat(), wanted).map(Served::Frames)
        }
    }
}

/// Answers from the cache. The record is written before the answer is handed on.
pub(crate) fn respond(hit: Hit, ask: &Ask, mut call: Call) -> Response<Body> {
    let Hit { entry, tier, age_ms, fresh_for_ms, form } = hit;
    call.cache(CacheOutcome::Hit, super::label(tier));
    call.version(&entry.model_version);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(entry.status).unwrap_or(StatusCode::OK);
    let converted = !matches!(form, Served::AsRecorded);
    let headers = response.headers_mut();
    for (name, value) in &entry.headers {
        let name = HeaderName::from_bytes(name);
        let value = HeaderValue::from_maybe_shared(value.clone());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    if converted {
        let kind = ask.framing().content_type();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    headers.insert(header::AGE, HeaderValue::from(age_ms / 1000));
    respond::append_cache_status(headers, hit_status(tier, fresh_for_ms / 1000));
    let bytes_out = entry.body.len();
    let status = entry.status;
    let bill = decode_bill(&entry.note).unwrap_or_default();
    *response.body_mut() = body(entry, form, ask);
    finish(call, status, bytes_out, &bill);
    response
}

fn finish(mut call: Call, status: u16, bytes_out: usize, bill: &Bill) {
    call.first_byte();
    call.spared(status, crate::body::len_u64(bytes_out), bill);
}

fn body(entry: Arc<Entry>, form: Served, ask: &Ask) -> Body {
    match form {
        Served::Whole(bytes) => Body::Whole(bytes),
        Served::Frames(frames) => Body::Replay(Box::new(Replay::made(frames, ask.hides_usage()))),
        Served::AsRecorded if entry.form == Form::Stream => {
            Body::Replay(Box::new(Replay::recorded(entry, ask.hides_usage())))
        }
        Served::AsRecorded => Body::Whole(entry.body.clone()),
    }
}

/// `tollgate; hit; ttl=2873; detail=memory`
fn hit_status(tier: TierName, ttl_s: u64) -> HeaderValue {
    use std::io::Write as _;
    let detail = tier.as_str();
    let mut text = Vec::with_capacity(48);
    let written = write!(text, "tollgate; hit; ttl={ttl_s}; detail={detail}");
    written
        .ok()
        .and_then(|()| HeaderValue::from_maybe_shared(Bytes::from(text)).ok())
        .unwrap_or(HeaderValue::from_static("tollgate; hit"))
}
