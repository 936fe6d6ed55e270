//! The names of one exchange: its request id, its record, its trace.

use crate::{
    cache,
    listener::Peer,
    respond::{RECORD, REQUEST_ID},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tollgate_core::dialect::Dialect;
use tollgate_ledger::Uuid;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const ANTHROPIC_ID: HeaderName = HeaderName::from_static("request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const VIA: HeaderValue = HeaderValue::from_static("1.1 tollgate");

/// The longest id of a caller that is kept.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// `00-` + 32 + `-` + 16 + `-` + 2, W3C Trace Context §3.2.
const TRACEPARENT_LEN: usize = 55;

/// Says the scheme that the caller used, unless a gateway before us has: services choose
/// by it (a redirect to https), so it is there before a key is made.
pub(crate) fn say_scheme(headers: &mut HeaderMap, is_tls: bool) {
    if !headers.contains_key(FORWARDED_PROTO) {
        let scheme = if is_tls { "https" } else { "http" };
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
}

/// What names this exchange in headers.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    record: HeaderValue,
    request_id: HeaderValue,
}

impl Marks {
    pub(crate) fn of(headers: &HeaderMap, record: Uuid) -> Self {
        let mut buffer = Uuid::encode_buffer();
        let text = record.hyphenated().encode_lower(&mut buffer);
        let record = HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"));
        let request_id = headers
            .get(REQUEST_ID)
            .filter(|id| is_visible(id.as_bytes()))
            .cloned()
            .unwrap_or_else(|| record.clone());
        Self { record, request_id }
    }

    pub(crate) fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    /// An answer's marks: the id only where the upstream set none, under the name that
    /// its dialect's SDK reads.
    pub(crate) fn mark(&self, headers: &mut HeaderMap, dialect: Dialect) {
        headers.insert(RECORD, self.record.clone());
        if headers.contains_key(REQUEST_ID) || headers.contains_key(ANTHROPIC_ID) {
            return;
        }
        headers.insert(REQUEST_ID, self.request_id.clone());
        if dialect == Dialect::Anthropic {
            headers.insert(ANTHROPIC_ID, self.request_id.clone());
        }
    }

    /// Makes a request's headers those that the upstream gets.
    pub(crate) fn forward(&self, headers: &mut HeaderMap, peer: &Peer, via: bool) {
        headers.remove(header::EXPECT);
        headers.remove(header::CONTENT_LENGTH);
        // Said to this cache, about its own entry.
        headers.remove(cache::VOTE);
        headers.insert(REQUEST_ID, self.request_id.clone());
        if via {
            headers.append(header::VIA, VIA);
        }
        match headers.get(FORWARDED_FOR) {
            None => headers.insert(FORWARDED_FOR, peer.forwarded_for.clone()),
            Some(known) => {
                let hops = [known.as_bytes(), b", ", peer.forwarded_for.as_bytes()].concat();
                HeaderValue::from_bytes(&hops)
                    .ok()
                    .and_then(|hops| headers.insert(FORWARDED_FOR, hops))
            }
        };
        if !headers.get(TRACEPARENT).is_some_and(|parent| is_traceparent(parent.as_bytes())) {
            headers.insert(TRACEPARENT, self.traceparent());
        }
    }

    /// A trace of its own, not sampled: the record's id is the trace, its random half the span.
    fn traceparent(&self) -> HeaderValue {
        let mut parent = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let digits = || self.record.as_bytes().iter().filter(|byte| **byte != b'-');
        for (place, digit) in parent.iter_mut().skip(3).zip(digits()) {
            *place = *digit;
        }
        for (place, digit) in parent.iter_mut().skip(36).take(16).zip(digits().skip(16)) {
            *place = *digit;
        }
        HeaderValue::from_bytes(&parent).unwrap_or(HeaderValue::from_static(""))
    }
}

fn is_visible(id: &[u8]) -> bool {
    !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.iter().all(u8::is_ascii_graphic)
}

fn is_traceparent(parent: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    parent.len() == TRACEPARENT_LEN
        && parent.split(|byte| *byte == b'-').map(<[u8]>::len).eq([2, 32, 16, 2])
        && parent.iter().all(|byte| *byte == b'-' || is_digit(byte))
        && !parent.starts_with(b"ff")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(id: &str) -> Marks {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_bytes(id.as_bytes()).unwrap());
        Marks::of(&headers, Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef))
    }

    #[test]
    fn a_callers_id_is_kept_if_it_is_short_and_visible() {
        assert_eq!(marks("abc").request_id(), "abc");
        let long = "x".repeat(REQUEST_ID_BYTES_MAX + 1);
        for odd in ["", "a b", &long] {
            assert_eq!(marks(odd).request_id(), "01234567-89ab-cdef-0123-456789abcdef");
        }
    }

    #[test]
    fn a_made_traceparent_is_a_valid_one() {
        let parent = marks("a").traceparent();
        assert_eq!(parent, "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00");
        assert!(is_traceparent(parent.as_bytes()));
        assert!(!is_traceparent(b"00-x"));
    }

    #[test]
    fn an_upstreams_id_passes_unchanged() {
        let mut headers = HeaderMap::new();
        headers.insert(ANTHROPIC_ID, HeaderValue::from_static("req_1"));
        marks("abc").mark(&mut headers, Dialect::Anthropic);
        assert!(!headers.contains_key(REQUEST_ID) && headers.contains_key(RECORD));
        assert_eq!(headers[ANTHROPIC_ID], "req_1");
    }

    #[test]
    fn an_answer_of_our_own_has_the_id_that_its_sdk_reads() {
        for (dialect, named) in [(Dialect::Anthropic, true), (Dialect::OpenAi, false)] {
            let mut headers = HeaderMap::new();
            marks("abc").mark(&mut headers, dialect);
            assert_eq!(headers[REQUEST_ID], "abc");
            assert_eq!(headers.get(ANTHROPIC_ID).is_some(), named, "{dialect}");
        }
    }
}
