//! What must hold for every exchange whatsoever, for the fuzz target.

use super::{
    conditional, date, invalidate, range,
    request::Request,
    reuse::{self, Failure, Reuse},
    store::{self, Rules, Times},
    targeted, update, vary,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

/// Reads bytes as an exchange: the lines of a request, an empty line, those of its answer. A line
/// is a name, a colon and a value; what cannot be a field is left out. The first byte is the
/// status.
///
/// # Panics
/// When a rule is broken: nothing is too old, past its time against its word, or given to somebody
/// it was not kept for.
#[expect(clippy::panic, reason = "the report of a property, never called by the proxy")]
pub fn assert_rules_hold(bytes: &[u8]) {
    let Some((first, text)) = bytes.split_first() else { return };
    let (asked, answered) = halves(text);
    let (asked, answer) = (fields(asked), fields(answered));
    let status = StatusCode::from_u16(100 + 2 * u16::from(*first)).unwrap_or(StatusCode::OK);
    let request = Request::read(&Method::GET, &asked);
    let response_ms = 784_111_777_000;
    let times = Times { request_ms: response_ms - 5, response_ms };
    let rules = Rules::default();

    let _ = date::parse(text, response_ms / 1_000);
    let _ = targeted::parse(text);
    let target = Uri::from_static("http://a/b?c");
    for path in invalidate::voided(&target, status, &answer) {
        if !path.starts_with('/') {
            panic!("no path: {path}");
        }
    }
    let _ = conditional::evaluate(&request.conditions, status, &answer, response_ms);
    if let range::Cut::Part { first, last } = range::cut(&request, status, &answer, 10)
        && (first > last || last > 9)
    {
        panic!("a part that is none: {first}-{last}");
    }
    let mut kept = answer.clone();
    update::freshen(&mut kept, &asked, &rules);
    let Ok(verdict) = store::judge(&request, status, &answer, times, &rules) else { return };

    if request.authorized && !verdict.stored.shareable {
        panic!("kept of a caller with credentials: {answer:?}");
    }
    if vary::secondary(&verdict.vary, &asked) != vary::secondary(&verdict.vary, &asked.clone()) {
        panic!("one request, two keys");
    }
    for later_ms in [0, 1_000, 60_000, 86_400_000, u64::MAX] {
        let now_ms = response_ms.saturating_add(later_ms);
        let found = reuse::reuse(&verdict.stored, &request, now_ms);
        let failed = reuse::on_error(&verdict.stored, &request, now_ms, Failure::Unreachable);
        let is_past = verdict.stored.fresh_for_ms(now_ms).is_none();
        let is_given = matches!(found, Reuse::Fresh { .. } | Reuse::Stale { .. });
        if is_past && verdict.stored.must_revalidate && (is_given || failed.is_some()) {
            panic!("given past its time, which it forbids: {answer:?}");
        }
        if verdict.stored.no_cache && (is_given || failed.is_some()) {
            panic!("given without the upstream's word: {answer:?}");
        }
    }
}

fn halves(text: &[u8]) -> (&[u8], &[u8]) {
    let middle = text.windows(2).position(|pair| pair == b"\n\n");
    middle.and_then(|at| text.split_at_checked(at)).unwrap_or((&[], text))
}

fn fields(text: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in text.split(|byte| *byte == b'\n').take(100) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let Some((name, value)) = line.split_at_checked(colon) else { continue };
        let name = HeaderName::from_bytes(name);
        let value = HeaderValue::from_bytes(value.get(1..).unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            fields.append(name, value);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_rules_hold_for_any_exchange(
            request in "((range|if-none-match|cache-control|cookie|authorization|foo):[ -~]{0,20}\n){0,3}",
            answer in "((cache-control|vary|age|expires|date|etag|set-cookie):[ -~]{0,30}\n){0,5}",
        ) {
            assert_rules_hold(format!("2{request}\n\n{answer}").as_bytes());
        }
    }
}
