//! What a shared cache before this one, a CDN, is told of an answer that everybody is given: for how
//! long it is good yet (RFC 9213, or what came before it), by which tags it can be purged, and what
//! it depends on.
//!
//! It is told no more than the answer itself lets such a cache do: what forbids it to keep the
//! answer, or says a shorter time, stands. Where the upstream speaks to CDNs itself it is not
//! contradicted. An answer whose tags cannot all be said would stay there after its purge, so nothing
//! is said of it at all.

use super::{
    directives::{Directives, Extent},
    fields,
    store::Stored,
    surrogate, targeted,
};
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The longest line of tags in bytes. Servers and CDNs take heads of 8 KiB or more in all.
pub const TAGS_BYTES_MAX: usize = 6 * 1024;

const TARGETED: HeaderName = HeaderName::from_static("cdn-cache-control");
const SURROGATE: HeaderName = HeaderName::from_static("surrogate-control");
const SET_COOKIE2: HeaderName = HeaderName::from_static("set-cookie2");

/// Which field says the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// `cdn-cache-control`
    Targeted,
    /// `surrogate-control`
    Surrogate,
    /// `cache-control: s-maxage`, beside what else stands there.
    Shared,
}

/// What a CDN is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telling {
    pub control: Control,
    /// The field that names tags, and what stands between two of them.
    pub tags: Option<(HeaderName, char)>,
    /// For no longer than this is it to have an answer without asking for it again.
    pub held_max_ms: Option<u64>,
}

impl Telling {
    /// Says it in `headers`, those of an answer that is given at `now_ms` or its part, with an `age`
    /// if it has one. `depends`: fields of the request that it is chosen by, whatever its `vary` says.
    pub fn say(
        &self,
        headers: &mut HeaderMap,
        stored: &Stored,
        tags: &[Box<str>],
        depends: &[HeaderName],
        now_ms: u64,
    ) {
        if stored.no_cache || !allows(headers) {
            return;
        }
        let line = match &self.tags {
            None => None,
            Some((name, separator)) => {
                let Some(line) = tags_line(headers, name, *separator, tags) else { return };
                line.map(|line| (name, line))
            }
        };
        if let Some((name, line)) = line {
            headers.insert(name.clone(), line);
        }
        vary(headers, depends);
        if !headers.contains_key(&TARGETED) && !headers.contains_key(&SURROGATE) {
            self.say_time(headers, stored, now_ms);
        }
    }

    /// The same, of an answer without a part of the head that it was kept with (304, 206): what the
    /// upstream tells CDNs stands in that head, `whole`.
    pub fn say_of_part(
        &self,
        (headers, whole): (&mut HeaderMap, &HeaderMap),
        stored: &Stored,
        tags: &[Box<str>],
        depends: &[HeaderName],
        now_ms: u64,
    ) {
        if !allows(whole) {
            return;
        }
        for name in [TARGETED, SURROGATE].iter().chain(&surrogate::FIELDS) {
            if !headers.contains_key(name) {
                for value in whole.get_all(name) {
                    headers.append(name.clone(), value.clone());
                }
            }
        }
        self.say(headers, stored, tags, depends, now_ms);
    }

    fn say_time(&self, headers: &mut HeaderMap, stored: &Stored, now_ms: u64) {
        let directives = Directives::read(headers);
        let left_ms =
            stored.fresh_for_ms(now_ms).map(|left| left.min(self.held_max_ms.unwrap_or(left)));
        let max_age_s = match left_ms {
            // From the answer's beginning on, as its age is.
            Some(left_ms) => (stored.age_ms(now_ms).saturating_add(left_ms)) / 1_000,
            None => 0,
        };
        let max_age_s = max_age_s.min(directives.lifetime_s().unwrap_or(u64::MAX));
        let (name, text) = match self.control {
            Control::Shared if directives.s_maxage_s.is_some_and(|own_s| own_s <= max_age_s) => {
                return;
            }
            Control::Shared => (header::CACHE_CONTROL, shared(headers, max_age_s)),
            Control::Targeted => (TARGETED, alone(stored, max_age_s)),
            Control::Surrogate => (SURROGATE, alone(stored, max_age_s)),
        };
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    }
}

/// Whether the answer lets a CDN keep all of it, and is nobody's own.
fn allows(headers: &HeaderMap) -> bool {
    let said = targeted::read(headers, &[TARGETED]).unwrap_or_else(|| Directives::read(headers));
    let is_own = headers.contains_key(header::SET_COOKIE) || headers.contains_key(SET_COOKIE2);
    !is_own && !said.no_store && said.private == Extent::Nothing && said.no_cache == Extent::Nothing
}

/// A field that stands for all of `cache-control` where it is understood.
fn alone(stored: &Stored, max_age_s: u64) -> String {
    let mut text = format!("max-age={max_age_s}");
    if stored.must_revalidate {
        text.push_str(", must-revalidate");
    }
    let windows = [
        ("stale-while-revalidate", stored.stale_while_revalidate_ms),
        ("stale-if-error", stored.stale_if_error_ms),
    ];
    for (name, window_ms) in windows {
        if window_ms >= 1_000 && !stored.must_revalidate {
            text.push_str(&format!(", {name}={}", window_ms / 1_000));
        }
    }
    text
}

/// What stands there, and how long a shared cache may have it.
fn shared(headers: &HeaderMap, s_maxage_s: u64) -> String {
    let is_other = |member: &&[u8]| !member.to_ascii_lowercase().starts_with(b"s-maxage");
    let members = fields::all_members(headers, &header::CACHE_CONTROL).filter(is_other);
    let mut text = String::new();
    for member in members {
        text.push_str(&String::from_utf8_lossy(member));
        text.push_str(", ");
    }
    text + &format!("s-maxage={s_maxage_s}")
}

/// The tags that the answer names in that field, and `tags`, in one line. `Some(None)`: there are
/// none; `None`: not all of them can be said.
fn tags_line(
    headers: &HeaderMap,
    name: &HeaderName,
    separator: char,
    tags: &[Box<str>],
) -> Option<Option<HeaderValue>> {
    let mut own = HeaderMap::new();
    for value in headers.get_all(name) {
        let of = value.as_bytes();
        let is_short = |tag: &[u8]| tag.len() <= surrogate::TAG_BYTES_MAX;
        if std::str::from_utf8(of).is_err() || !of.split(|byte| b" ,".contains(byte)).all(is_short)
        {
            // It would be cut off.
            return None;
        }
        own.append(name.clone(), value.clone());
    }
    let mut all = surrogate::tags(&own);
    if all.len() == surrogate::TAGS_MAX {
        // Some may have been cut off.
        return None;
    }
    for tag in tags {
        if !all.contains(tag) {
            all.push(tag.clone());
        }
    }
    let is_plain = |tag: &str| tag.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
    let len: usize = all.iter().map(|tag| tag.len() + 1).sum();
    if len > TAGS_BYTES_MAX || !all.iter().all(|tag| is_plain(tag)) {
        return None;
    }
    let mut between = [0; 4];
    let line = all.join(&*separator.encode_utf8(&mut between));
    if line.is_empty() { Some(None) } else { Some(HeaderValue::try_from(line).ok()) }
}

/// Adds to `vary` what it lacks: `depends`, and the coding of an answer that is coded.
fn vary(headers: &mut HeaderMap, depends: &[HeaderName]) {
    let is_coded = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    let coding = is_coded.then_some(header::ACCEPT_ENCODING);
    let says = |headers: &HeaderMap, name: &HeaderName| {
        fields::all_members(headers, &header::VARY)
            .any(|member| member == b"*" || member.eq_ignore_ascii_case(name.as_str().as_bytes()))
    };
    for name in depends.iter().chain(&coding) {
        if !says(headers, name) {
            headers.append(header::VARY, HeaderValue::from(name.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfc9111::testing::{NOW_MS, headers};

    const HOUR_MS: u64 = 3_600_000;

    fn telling(control: Control) -> Telling {
        let tags = Some((HeaderName::from_static("surrogate-key"), ' '));
        Telling { control, tags, held_max_ms: None }
    }

    /// Good for an hour, ten minutes of it over.
    fn stored() -> Stored {
        Stored { made_at_ms: NOW_MS - HOUR_MS / 6, lifetime_ms: HOUR_MS, ..Stored::default() }
    }

    #[track_caller]
    fn check(telling: &Telling, stored: Stored, of: &[(&str, &str)], expected: &[(&str, &str)]) {
        let mut found = headers(of);
        telling.say(&mut found, &stored, &["a".into(), "kb:7".into()], &[], NOW_MS);
        assert_eq!(found, headers(expected), "{of:?}");
    }

    const TAGS: (&str, &str) = ("surrogate-key", "a kb:7");

    /// Goal: what RFC 9213 §2.2 has a CDN make of it is the time that is left here. Method: its
    /// freshness is max-age less the age, which the answer has beside it.
    #[test]
    fn a_cdn_is_told_how_long_the_answer_is_good_from_when_it_was_made() {
        let targeted = telling(Control::Targeted);
        check(&targeted, stored(), &[], &[TAGS, ("cdn-cache-control", "max-age=3600")]);
        let surrogate = telling(Control::Surrogate);
        check(&surrogate, stored(), &[], &[TAGS, ("surrogate-control", "max-age=3600")]);
        let shared = telling(Control::Shared);
        check(&shared, stored(), &[], &[TAGS, ("cache-control", "s-maxage=3600")]);
        let said = ("cache-control", "public, max-age=7200");
        let both = ("cache-control", "public, max-age=7200, s-maxage=3600");
        check(&shared, stored(), &[said], &[TAGS, both]);
        let held = Telling { held_max_ms: Some(60_000), ..targeted.clone() };
        check(&held, stored(), &[], &[TAGS, ("cdn-cache-control", "max-age=660")]);
        let windows =
            Stored { stale_while_revalidate_ms: 30_000, stale_if_error_ms: 60_000, ..stored() };
        let text = "max-age=3600, stale-while-revalidate=30, stale-if-error=60";
        check(&targeted, windows, &[], &[TAGS, ("cdn-cache-control", text)]);
        let strict = Stored { must_revalidate: true, ..stored() };
        let text = "max-age=3600, must-revalidate";
        check(&targeted, strict, &[], &[TAGS, ("cdn-cache-control", text)]);
        let over = Stored { lifetime_ms: 1_000, ..stored() };
        check(&targeted, over, &[], &[TAGS, ("cdn-cache-control", "max-age=0")]);
        let said = ("cache-control", "s-maxage=3600");
        check(&shared, over, &[said], &[TAGS, ("cache-control", "s-maxage=0")]);
    }

    #[test]
    fn it_is_told_no_more_than_the_upstream_lets_it_do() {
        let targeted = telling(Control::Targeted);
        for said in [
            ("cache-control", "no-store"),
            ("cache-control", "max-age=60, private"),
            ("cache-control", "private=\"x-user\", max-age=60"),
            ("cache-control", "no-cache"),
            ("cdn-cache-control", "no-store"),
            ("set-cookie", "a=b"),
        ] {
            check(&targeted, stored(), &[said], &[said]);
        }
        check(&targeted, Stored { no_cache: true, ..stored() }, &[], &[]);
        let shorter = ("cache-control", "max-age=60");
        check(
            &targeted,
            stored(),
            &[shorter],
            &[shorter, TAGS, ("cdn-cache-control", "max-age=60")],
        );
        for own in [("cdn-cache-control", "max-age=5"), ("surrogate-control", "max-age=5")] {
            for control in [Control::Targeted, Control::Surrogate, Control::Shared] {
                check(&telling(control), stored(), &[own], &[own, TAGS]);
            }
        }
        let own = ("cache-control", "s-maxage=60");
        check(&telling(Control::Shared), stored(), &[own], &[own, TAGS]);
        let held = Telling { held_max_ms: Some(60_000), ..telling(Control::Shared) };
        let day = ("cache-control", "s-maxage=86400");
        check(&held, stored(), &[day], &[TAGS, ("cache-control", "s-maxage=660")]);
    }

    /// Goal: a 304 does not lengthen what the upstream had a CDN keep for five seconds, or not at all.
    #[test]
    fn an_answer_without_its_head_says_what_the_whole_one_does() {
        let say = |whole: &[(&str, &str)]| {
            let (mut found, whole) = (headers(&[("etag", "\"1\"")]), headers(whole));
            let tags = ["a".into(), "kb:7".into()];
            let of = (&mut found, &whole);
            telling(Control::Targeted).say_of_part(of, &stored(), &tags, &[], NOW_MS);
            found
        };
        let etag = ("etag", "\"1\"");
        let time = ("cdn-cache-control", "max-age=3600");
        assert_eq!(say(&[]), headers(&[etag, TAGS, time]));
        for own in [("cdn-cache-control", "max-age=5"), ("surrogate-control", "max-age=5")] {
            assert_eq!(say(&[own]), headers(&[etag, own, TAGS]));
        }
        let own = ("surrogate-key", "b");
        assert_eq!(say(&[own]), headers(&[etag, ("surrogate-key", "b a kb:7"), time]));
        for veto in [("set-cookie", "a=b"), ("cache-control", "no-store")] {
            assert_eq!(say(&[veto]), headers(&[etag]));
        }
    }

    #[test]
    fn all_tags_are_said_in_one_line_or_nothing_is() {
        let targeted = telling(Control::Targeted);
        let time = ("cdn-cache-control", "max-age=3600");
        check(
            &targeted,
            stored(),
            &[("surrogate-key", "b a"), ("surrogate-key", "c")],
            &[("surrogate-key", "b a c kb:7"), time],
        );
        let say = |telling: &Telling, tags: &[&str]| {
            let (mut found, tags) = (HeaderMap::new(), tags.iter().map(|tag| (*tag).into()));
            telling.say(&mut found, &stored(), &tags.collect::<Vec<Box<str>>>(), &[], NOW_MS);
            found
        };
        assert_eq!(say(&targeted, &[]), headers(&[time]));
        let long = "x".repeat(256);
        let many: Vec<String> = (0..30).map(|n| format!("{n}{long}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for unsaid in [&["a b"][..], &["a,b"], &["ä"], &["a\n"], &many] {
            assert_eq!(say(&targeted, unsaid), HeaderMap::new(), "{unsaid:?}");
        }
        let cut = ("surrogate-key", &*format!("{long}x news"));
        check(&targeted, stored(), &[cut], &[cut]);
        let commas =
            Telling { tags: Some((HeaderName::from_static("cache-tag"), ',')), ..targeted.clone() };
        assert_eq!(say(&commas, &["a", "b"]), headers(&[("cache-tag", "a,b"), time]));
        let none = Telling { tags: None, ..targeted };
        assert_eq!(say(&none, &["a b"]), headers(&[time]));
    }

    #[test]
    fn what_an_answer_is_chosen_by_is_in_its_vary() {
        let targeted = Telling { tags: None, ..telling(Control::Targeted) };
        let depends = [HeaderName::from_static("x-forwarded-host")];
        let say = |lines: &[(&str, &str)]| {
            let mut found = headers(lines);
            targeted.say(&mut found, &stored(), &[], &depends, NOW_MS);
            let vary: Vec<_> =
                found.get_all("vary").iter().map(|one| one.to_str().unwrap().to_owned()).collect();
            vary.join(", ")
        };
        assert_eq!(say(&[]), "x-forwarded-host");
        assert_eq!(say(&[("vary", "Accept, X-Forwarded-Host")]), "Accept, X-Forwarded-Host");
        assert_eq!(say(&[("content-encoding", "br")]), "x-forwarded-host, accept-encoding");
        assert_eq!(say(&[("content-encoding", "identity")]), "x-forwarded-host");
    }
}
