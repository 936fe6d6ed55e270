//! What newer fields do to a kept answer: those of a 304 (RFC 9111 §3.2, §4.3.4) and those of an
//! answer to HEAD (§4.3.5).

use super::{
    Reason, conditional, date,
    etag::Tag,
    fields,
    request::{Kind, Request},
    store::{Rules, Times, Verdict, dropped, is_without_cookie, judge},
};
use http::{HeaderMap, HeaderName, StatusCode, header};

/// What a 304 does to the kept answers that were asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshens {
    /// The one at this place holds: [`freshen`] it.
    One(usize),
    /// It is about none of them: they are of no use, the answer must be asked for again, without
    /// conditions.
    Nothing,
}

/// Which of the kept answers, newest first, a 304 is about (§4.3.4).
///
/// A 304 that names no validator is about the only one there is: we asked about no other. (The RFC
/// has that only where that one has none either; but many servers leave the tag out, and what else
/// could they mean?)
pub fn freshened(candidates: &[&HeaderMap], answer: &HeaderMap) -> Freshens {
    let tag = answer.get(header::ETAG).and_then(|tag| Tag::read(tag.as_bytes()));
    let changed = fields::only(answer, &header::LAST_MODIFIED);
    let found = match (tag, changed) {
        (Some(tag), _) => candidates.iter().position(|kept| {
            let kept = kept.get(header::ETAG).and_then(|tag| Tag::read(tag.as_bytes()));
            kept.is_some_and(|kept| match tag.is_strong() {
                true => tag.matches_strongly(kept),
                false => tag.matches_weakly(kept),
            })
        }),
        (None, Some(changed)) => {
            candidates.iter().position(|kept| kept.get(header::LAST_MODIFIED) == Some(changed))
        }
        (None, None) if candidates.len() == 1 => Some(0),
        (None, None) => {
            let mut bare =
                candidates.iter().enumerate().filter(|(_, kept)| !conditional::has_validator(kept));
            bare.next().map(|(place, _)| place).filter(|_| bare.next().is_none())
        }
    };
    found.map_or(Freshens::Nothing, Freshens::One)
}

/// Takes the newer fields over into the kept ones: all but those that are about this hop, that are
/// not kept at all, or that describe bytes which the 304 did not bring.
pub fn freshen(kept: &mut HeaderMap, newer: &HeaderMap, rules: &Rules) {
    let never = dropped(newer, rules);
    let names = newer.keys().filter(|name| !BYTES.contains(name) && !never.contains(name));
    for name in names {
        kept.remove(name);
        for value in newer.get_all(name) {
            kept.append(name.clone(), value.clone());
        }
    }
}

/// [`freshen`]s the kept fields and judges them anew: a 304 tells its own date and age, and may
/// change for how long, or whether at all, the answer is kept.
///
/// # Errors
/// Why it must not be kept any longer. The fields are up to date all the same, for the caller that
/// asked.
pub fn renew(
    kept: &mut HeaderMap,
    status: StatusCode,
    newer: &HeaderMap,
    request: &Request,
    times: Times,
    rules: &Rules,
) -> Result<Verdict, Reason> {
    let without_cookie = is_without_cookie(kept, times, rules);
    freshen(kept, newer, rules);
    let now_s = times.response_ms / 1_000;
    let told = newer.get(header::DATE).and_then(|told| date::parse(told.as_bytes(), now_s));
    if told.is_none() {
        // It was made now, whatever the kept date was (RFC 9110 §6.6.1).
        kept.insert(header::DATE, date::format(now_s));
    }
    let mut judged = kept.clone();
    if let Some(age) = newer.get(header::AGE) {
        judged.insert(header::AGE, age.clone());
    }
    // What HEAD was answered with is about GET's answer.
    let has_cookie = request.has_cookie && !without_cookie;
    let request = Request { kind: Kind::Get, has_cookie, ..request.clone() };
    judge(&request, status, &judged, times, rules)
}

/// What says how the kept bytes are to be read; a 304 has no bytes.
const BYTES: [HeaderName; 4] = [
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    HeaderName::from_static("content-digest"),
];

/// What an answer to HEAD says about the kept answer to GET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// It is the same: [`freshen`] it.
    Freshens,
    /// It has changed: it counts as stale from now on.
    Voids,
    /// Nothing.
    Nothing,
}

/// `len` is the kept body's length.
pub fn head(kept: &HeaderMap, len: u64, status: StatusCode, answer: &HeaderMap) -> Head {
    match status {
        StatusCode::OK => {}
        // There is no longer what was kept.
        StatusCode::NOT_FOUND | StatusCode::GONE => return Head::Voids,
        _ => return Head::Nothing,
    }
    let same =
        |name: &HeaderName| answer.get(name).is_none_or(|newer| kept.get(name) == Some(newer));
    let len_is_same = answer
        .get(header::CONTENT_LENGTH)
        .is_none_or(|newer| newer.to_str().ok().and_then(|text| text.parse().ok()) == Some(len));
    let is_same = same(&header::ETAG)
        && same(&header::LAST_MODIFIED)
        && same(&header::CONTENT_ENCODING)
        && len_is_same;
    if is_same { Head::Freshens } else { Head::Voids }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfc9111::testing::{NOW_MS, TIMES, get, headers};

    const CHANGED: (&str, &str) = ("last-modified", "Sun, 06 Nov 1994 08:00:00 GMT");
    const LATER: (&str, &str) = ("last-modified", "Sun, 06 Nov 1994 08:00:01 GMT");

    fn updated(kept: &[(&str, &str)], newer: &[(&str, &str)]) -> HeaderMap {
        let mut kept = headers(kept);
        freshen(&mut kept, &headers(newer), &Rules::default());
        kept
    }

    #[test]
    fn a_304_replaces_what_it_names_and_leaves_the_rest() {
        let kept = [
            ("cache-control", "max-age=1"),
            ("content-type", "text/plain"),
            ("x-a", "1"),
            ("x-a", "2"),
            ("x-b", "1"),
        ];
        let newer = [
            ("cache-control", "max-age=60"),
            ("content-type", "text/html"),
            ("x-a", "3"),
            ("x-c", "4"),
            ("x-c", "5"),
        ];
        let expected = [newer[0], newer[1], newer[2], newer[3], newer[4], ("x-b", "1")];
        assert_eq!(updated(&kept, &newer), headers(&expected));
    }

    #[test]
    fn what_describes_the_bytes_or_ends_here_is_not_taken_over() {
        let kept = [("content-length", "5"), ("content-encoding", "gzip"), ("x", "1")];
        let newer = [
            ("content-length", "0"),
            ("content-encoding", "br"),
            ("content-range", "bytes 0-1/2"),
            ("connection", "x, close"),
            ("x", "2"),
            ("transfer-encoding", "chunked"),
            ("set-cookie", "a=b"),
            ("age", "5"),
            ("cache-control", "no-cache=\"y\""),
            ("y", "1"),
        ];
        let found = updated(&kept, &newer);
        let expected = [kept[0], kept[1], kept[2], ("cache-control", "no-cache=\"y\"")];
        assert_eq!(found, headers(&expected));
    }

    #[test]
    fn what_holds_is_as_old_as_its_304() {
        let lines = [("cache-control", "max-age=60"), ("date", "Sun, 06 Nov 1994 07:00:00 GMT")];
        let renewed = |newer: &[(&str, &str)]| {
            let mut kept = headers(&lines);
            let newer = headers(newer);
            let rules = Rules::default();
            let found = renew(&mut kept, StatusCode::OK, &newer, &get(&[]), TIMES, &rules);
            (found.map(|verdict| verdict.stored.age_ms(NOW_MS)), kept)
        };
        let (age, kept) = renewed(&[]);
        assert_eq!((age, &kept["date"]), (Ok(200), &date::format(NOW_MS / 1_000)));
        assert_eq!(renewed(&[("age", "10")]).0, Ok(10_200));
        assert!(!renewed(&[("age", "10")]).1.contains_key("age"));
        assert_eq!(renewed(&[("date", "Sun, 06 Nov 1994 08:49:07 GMT")]).0, Ok(30_000));
        let (age, kept) = renewed(&[("cache-control", "no-store"), ("x", "1")]);
        assert_eq!((age, kept.contains_key("x")), (Err("no-store"), true));
    }

    /// What a 304 for a request with a cookie leaves of an answer.
    fn asked_with_a_cookie(kept: &[(&str, &str)], newer: &[(&str, &str)]) -> Result<(), Reason> {
        let (mut kept, newer) = (headers(kept), headers(newer));
        let request = get(&[("cookie", "a=b")]);
        renew(&mut kept, StatusCode::OK, &newer, &request, TIMES, &Rules::default()).map(|_| ())
    }

    #[test]
    fn a_cookie_voids_nothing_that_was_kept_without_one() {
        let tag = ("etag", "\"a\"");
        assert_eq!(asked_with_a_cookie(&[tag, CHANGED], &[tag]), Ok(()));
        assert_eq!(asked_with_a_cookie(&[tag, CHANGED], &[("cache-control", "public")]), Ok(()));
        // What may have been an answer to a cookie is not made everybody's by what one is told.
        for kept in ["no-cache", "max-age=60"] {
            let kept = [tag, CHANGED, ("cache-control", kept)];
            let found = asked_with_a_cookie(&kept, &[("cache-control", "public")]);
            assert_eq!(found, Err("cookie"), "{kept:?}");
        }
        let private = asked_with_a_cookie(&[tag, CHANGED], &[("cache-control", "private")]);
        assert_eq!(private, Err("private"));
    }

    #[track_caller]
    fn check(kept: &[&[(&str, &str)]], answer: &[(&str, &str)], expected: Option<usize>) {
        let kept: Vec<HeaderMap> = kept.iter().map(|kept| headers(kept)).collect();
        let kept: Vec<&HeaderMap> = kept.iter().collect();
        let expected = expected.map_or(Freshens::Nothing, Freshens::One);
        assert_eq!(freshened(&kept, &headers(answer)), expected, "{answer:?}");
    }

    #[test]
    fn a_304_is_about_the_answer_it_names() {
        let (a, b, weak) = ([("etag", "\"a\"")], [("etag", "\"b\"")], [("etag", "W/\"a\"")]);
        check(&[&a, &b], &b, Some(1));
        check(&[&a], &b, None);
        check(&[&weak], &a, None);
        check(&[&weak, &a], &a, Some(1));
        check(&[&b, &a], &weak, Some(1));
        check(&[&[CHANGED]], &[CHANGED], Some(0));
        check(&[&[CHANGED]], &[LATER], None);
        check(&[&a], &[], Some(0));
        check(&[&a, &b], &[], None);
        check(&[&a, &[]], &[], Some(1));
        check(&[], &a, None);
    }

    #[test]
    fn a_head_tells_whether_what_is_kept_still_holds() {
        let kept = headers(&[("etag", "\"a\""), CHANGED]);
        let judge = |status: u16, answer: &[(&str, &str)]| {
            head(&kept, 5, StatusCode::from_u16(status).unwrap(), &headers(answer))
        };
        assert_eq!(judge(200, &[("etag", "\"a\""), ("content-length", "5")]), Head::Freshens);
        assert_eq!(judge(200, &[]), Head::Freshens);
        assert_eq!(judge(200, &[("etag", "\"b\"")]), Head::Voids);
        assert_eq!(judge(200, &[LATER]), Head::Voids);
        assert_eq!(judge(200, &[("content-length", "6")]), Head::Voids);
        assert_eq!(judge(200, &[("content-length", "x")]), Head::Voids);
        assert_eq!(judge(410, &[]), Head::Voids);
        assert_eq!(judge(503, &[]), Head::Nothing);
        assert_eq!(judge(304, &[]), Head::Nothing);
    }
}
