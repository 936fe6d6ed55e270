//! Answers from the cache in the content coding that their caller prefers.
//!
//! Only where the route says so (`routes[].cache.encodings`); everywhere else an answer goes out as
//! it is kept, and nothing here runs. A coded form is made of an entry once, for the first caller who
//! wants it, and lies beside the entry in memory: a short one at once, a long one on a thread of its
//! own while callers are given the answer as it is. The key knows nothing of it.
//!
//! What is made for one caller alone (another form of a stream, a batch put together of its items)
//! and streams go out as they are: they would be coded at every call, or their frames would wait.

use super::{
    answer::{Hit, Served},
    held::Use,
    items::VOUCHERS,
};
use crate::{app::Parts, route::Route};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tollgate_cache::{
    coding::{self, Coding, is_compressible},
    entry::{Entry, Form},
    key::CacheKey,
    rfc9111::{conditional, fields},
};

/// A longer answer is not coded while its caller waits: these take up to half a millisecond (decision 0039).
const AT_ONCE_BYTES_MAX: usize = 8 * 1024;
/// A longer one is not coded at all: it would hold a core for seconds.
const CODED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// So many long answers are coded at one time; who finds no place tries again at the next call.
static PLACES: Semaphore = Semaphore::const_new(2);

/// What is agreed on with one caller: how the answers it gets may be coded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Agreed {
    /// Answers of at least so many bytes are given in several codings; `None`: in none.
    bytes_min: Option<usize>,
    /// What the caller likes best of these; `None`: as it is.
    pub(super) coding: Option<Coding>,
}

impl Agreed {
    pub(super) fn with(route: &Route, headers: &HeaderMap) -> Self {
        let Some(offer) = &route.offer else { return Self::default() };
        let lines = headers.get_all(header::ACCEPT_ENCODING).into_iter();
        let coding = coding::choose(lines.map(HeaderValue::as_bytes), &offer.codings);
        Self { bytes_min: Some(offer.bytes_min), coding: coding.filter(|_| !forbids(headers)) }
    }

    /// As far as it holds for `entry`.
    pub(super) fn about(self, entry: &Entry) -> Self {
        let Some(bytes_min) = self.bytes_min else { return self };
        let is_long = entry.body.len() >= bytes_min.max(1);
        if is_long && entry.form == Form::Whole && is_codable(entry) {
            self
        } else {
            Self::default()
        }
    }

    /// Says what an answer with these fields is and depends on; `coding`: what it is given in.
    pub(super) fn tell(self, headers: &mut HeaderMap, coding: Option<Coding>) {
        if self.bytes_min.is_none() {
            return;
        }
        let is_it = |name: &[u8]| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding");
        let is_named = fields::all_members(headers, &header::VARY).any(is_it);
        if !is_named {
            headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        let Some(coding) = coding else { return };
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        conditional::weaken(headers);
    }
}

/// `no-transform` (RFC 9111 §5.2.1.6, §5.2.2.6).
fn forbids(headers: &HeaderMap) -> bool {
    fields::all_members(headers, &header::CACHE_CONTROL)
        .any(|member| member.eq_ignore_ascii_case(b"no-transform"))
}

/// It is text, in no coding yet, nobody vouches for its bytes or forbids to change them.
fn is_codable(entry: &Entry) -> bool {
    let mut is_text = false;
    for (name, value) in &entry.headers {
        match &**name {
            b"content-type" => is_text = is_compressible(value),
            b"content-encoding" => return false,
            b"cache-control" => {
                let forbids = |member: &[u8]| member.eq_ignore_ascii_case(b"no-transform");
                if fields::members(value).any(forbids) {
                    return false;
                }
            }
            name if VOUCHERS.iter().any(|voucher| voucher.as_bytes() == name) => return false,
            _ => {}
        }
    }
    is_text
}

/// `entry` in what its caller prefers; `None`: as it is. `agreed` holds for it.
pub(super) fn form(
    parts: &Arc<Parts>,
    key: &CacheKey,
    entry: &Arc<Entry>,
    agreed: Agreed,
) -> Option<(Coding, Bytes)> {
    let coding = agreed.coding?;
    if let Some(form) = entry.delivery.coded(coding) {
        return Some((coding, form.clone()));
    }
    let memory = parts.cache.tiers.memory();
    if entry.body.len() <= AT_ONCE_BYTES_MAX {
        // What no memory holds would be coded anew for each of its callers. Asked first: who begins
        // and makes nothing leaves the entry without the form for good.
        if !memory.holds(key) || !entry.delivery.begins(coding) {
            return None;
        }
        let form = Bytes::from(coding.encode(&entry.body)?);
        // It is this caller's whether or not there is room for it.
        memory.keep_beside(key, entry, coding, form.clone());
        return Some((coding, form));
    }
    if entry.body.len() > CODED_BYTES_MAX || !memory.holds(key) {
        return None;
    }
    let place = PLACES.try_acquire().ok()?;
    if entry.delivery.begins(coding) {
        let (entry, key, own) = (entry.clone(), *key, parts.clone());
        // Whoever waits for our tasks at the end waits for this.
        parts.tasks.spawn_blocking(move || {
            if let Some(form) = coding.encode(&entry.body) {
                own.cache.tiers.memory().keep_beside(&key, &entry, coding, form.into());
            }
            drop(place);
        });
    }
    None
}

impl Hit {
    /// In the coding that its caller prefers.
    pub(super) fn coded(mut self, parts: &Arc<Parts>, key: &CacheKey) -> Self {
        if let Some((coding, form)) = form(parts, key, &self.entry, self.agreed) {
            self.form = Served::Coded(coding, form);
        }
        self
    }
}

impl Use {
    /// What is given, in the coding that its caller prefers.
    pub(super) fn coded(self, parts: &Arc<Parts>, key: &CacheKey) -> Self {
        match self {
            Self::Given(hit) => Self::Given(hit.coded(parts, key)),
            Self::Renewed(hit) => Self::Renewed(hit.coded(parts, key)),
            Self::Held(_) | Self::Nothing => self,
        }
    }
}
