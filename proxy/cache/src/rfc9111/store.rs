//! May an answer be kept, for how long, and without which of its fields (RFC 9111 §3 and §4.2).
//!
//! The rules are the RFC's for a shared cache. Beyond it, on the safe side: what is kept without
//! the upstream having said for how long (by a heuristic, or only to be validated) is never an
//! answer that sets a cookie, nor one to a request that had one.

use super::{
    Reason, date,
    directives::{Directives, Extent},
    fields,
    request::{Kind, Request},
    surrogate, targeted,
    vary::Vary,
};
use crate::cache_control::SECONDS_MAX;
use http::{HeaderMap, HeaderName, StatusCode, Uri, header};

/// What the exchange's clock said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Unix time at which the request was sent, in milliseconds.
    pub request_ms: u64,
    /// Unix time at which the answer's head came, in milliseconds.
    pub response_ms: u64,
}

/// What a route has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The fields of RFC 9213 that are obeyed, the most special first.
    pub targeted: Vec<HeaderName>,
    /// `None`: what does not say how long it is good is never fresh.
    pub heuristic: Option<Heuristic>,
    pub set_cookie: SetCookie,
    /// Where the answer says nothing about it.
    pub stale_while_revalidate_ms: u64,
    /// Where the answer says nothing about it.
    pub stale_if_error_ms: u64,
    /// How long past its time an answer may stand in for an upstream that cannot be reached, where
    /// nothing forbids it and the answer does not say how long (§4.2.4).
    pub stale_if_unreachable_ms: u64,
}

/// How long an answer is good that only says when it was last changed (§4.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heuristic {
    /// Of the time since the change.
    pub percent: u8,
    pub max_ms: u64,
    /// Also for 404, 405, 410, 414 and 501.
    pub negative: bool,
}

/// What is done with an answer that sets a cookie, given that it says how long it is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetCookie {
    /// Kept with the cookie, as the RFC has it: everybody gets the same one.
    Keep,
    /// Kept without the cookie.
    Strip,
    /// Not kept.
    Bypass,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            targeted: vec![
                HeaderName::from_static("tollgate-cache-control"),
                HeaderName::from_static("cdn-cache-control"),
            ],
            heuristic: Some(Heuristic { percent: 10, max_ms: DAY_MS, negative: true }),
            // One caller's session must not become everybody's.
            set_cookie: SetCookie::Strip,
            stale_while_revalidate_ms: 0,
            stale_if_error_ms: 0,
            stale_if_unreachable_ms: DAY_MS,
        }
    }
}

const DAY_MS: u64 = 24 * 3600 * 1_000;

/// What decides, later, whether a kept answer may be given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Unix time at which it was made, in effect: when it came, less the age it came with.
    pub made_at_ms: u64,
    /// It is fresh until it is this old.
    pub lifetime_ms: u64,
    /// Never to be given past its time.
    pub must_revalidate: bool,
    /// Never to be given without the upstream's word.
    pub no_cache: bool,
    /// While it is fresh it does not change.
    pub immutable: bool,
    /// May be given to a request with credentials, and from one to others.
    pub shareable: bool,
    /// Nobody said how long it is good.
    pub heuristic: bool,
    /// It has an `etag` or a `last-modified` to ask the upstream with.
    pub has_validator: bool,
    /// Past its time it may be given for this long while it is renewed.
    pub stale_while_revalidate_ms: u64,
    /// … instead of an error …
    pub stale_if_error_ms: u64,
    /// … or of an upstream that cannot be reached.
    pub stale_if_unreachable_ms: u64,
}

impl Stored {
    /// 0 if the clock went back.
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.made_at_ms)
    }

    /// How long it is fresh yet; `None` once it is not (at its very end it is not).
    pub fn fresh_for_ms(&self, now_ms: u64) -> Option<u64> {
        self.lifetime_ms.checked_sub(self.age_ms(now_ms)).filter(|left| *left > 0)
    }

    /// Until when it can be of any use: its last word as a stale answer, or, since it can be
    /// validated, `validate_ms` beyond its time.
    pub fn useful_until_ms(&self, validate_ms: u64) -> u64 {
        let stale = self
            .stale_while_revalidate_ms
            .max(self.stale_if_error_ms)
            .max(self.stale_if_unreachable_ms);
        let validate = if self.has_validator { validate_ms } else { 0 };
        self.made_at_ms.saturating_add(self.lifetime_ms).saturating_add(stale.max(validate))
    }
}

/// An answer that may be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub stored: Stored,
    /// The fields of a request that it depends on.
    pub vary: Vec<HeaderName>,
    /// Its fields that are not kept.
    pub drop: Vec<HeaderName>,
    pub tags: Vec<Box<str>>,
    /// It came without a `date` that can be read: it is kept with the time it came
    /// ([`date::format`], RFC 9110 §6.6.1).
    pub lacks_date: bool,
}

/// Whether an answer to GET may be kept. One to HEAD is not, but see [`super::update`].
///
/// # Errors
/// Why not.
pub fn judge(
    request: &Request,
    status: StatusCode,
    answer: &HeaderMap,
    times: Times,
    rules: &Rules,
) -> Result<Verdict, Reason> {
    if let Some(why) = request.passed {
        return Err(why);
    }
    if request.kind != Kind::Get {
        return Err("method");
    }
    let said = said(answer, rules);
    decide(request, status, answer, times, rules, &said)
}

/// Whether an answer to POST may be kept for GET: it says for how long, and that it is what its
/// own URL has now (RFC 9110 §9.3.3).
///
/// # Errors
/// Why not.
pub fn judge_posted(
    target: &Uri,
    request: &Request,
    status: StatusCode,
    answer: &HeaderMap,
    times: Times,
    rules: &Rules,
) -> Result<Verdict, Reason> {
    let is_itself = super::invalidate::names_itself(target, answer);
    if request.kind != Kind::Post
        || request.control.no_store
        || status != StatusCode::OK
        || !is_itself
    {
        return Err("method");
    }
    let said = said(answer, rules);
    if said.lifetime_s(answer, times).is_none() {
        return Err("no-freshness");
    }
    decide(request, status, answer, times, rules, &said)
}

/// For how many milliseconds more a shared cache may call an answer fresh, if the answer says so:
/// for a cache with rules of its own, which only asks how long. `None`: it says nothing.
///
/// # Errors
/// It may not be kept, or not be given without asking the upstream.
pub fn shared_lifetime_ms(answer: &HeaderMap, times: Times) -> Result<Option<u64>, Reason> {
    let said = said(answer, &Rules::default());
    let directives = &said.directives;
    if directives.no_store {
        return Err("no-store");
    }
    if directives.no_cache != Extent::Nothing {
        return Err("no-cache");
    }
    if directives.private != Extent::Nothing {
        return Err("private");
    }
    let lifetime_ms = said.lifetime_s(answer, times).map(|s| s.saturating_mul(1_000));
    Ok(lifetime_ms.map(|ms| ms.saturating_sub(initial_age_ms(answer, times))))
}

/// Whether a kept answer, told by its fields, was one to a request without a cookie: nobody had said
/// for how long it is good, nor that it is asked about every time. Then a cookie of who asks whether
/// it still holds changes nothing.
pub(super) fn is_without_cookie(kept: &HeaderMap, times: Times, rules: &Rules) -> bool {
    let said = said(kept, rules);
    said.lifetime_s(kept, times).is_none() && !said.directives.no_cache.is_whole()
}

/// The fields that are not kept of this answer, nor taken over from a 304 (RFC 9111 §3.1, §3.2).
pub fn dropped(answer: &HeaderMap, rules: &Rules) -> Vec<HeaderName> {
    let said = said(answer, rules).directives;
    let mut names = fields::of_this_hop(answer);
    // What a validation of their own would have to bring is simply not kept.
    names.extend_from_slice(said.no_cache.fields());
    names.extend_from_slice(said.private.fields());
    if rules.set_cookie != SetCookie::Keep {
        names.extend([header::SET_COOKIE, SET_COOKIE2]);
    }
    // Told anew whenever the answer is given.
    names.push(header::AGE);
    names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    names.dedup();
    names
}

/// The age that an answer comes with (§4.2.3, corrected_initial_age).
pub fn initial_age_ms(answer: &HeaderMap, times: Times) -> u64 {
    let date_s = date_s(answer, times);
    let apparent_ms =
        date_s.map_or(0, |s| times.response_ms.saturating_sub(s.saturating_mul(1_000)));
    // Dates have no fractions: within the second they say, an answer is new.
    let apparent_ms = if apparent_ms < 1_000 { 0 } else { apparent_ms };
    let delay_ms = times.response_ms.saturating_sub(times.request_ms);
    // The first member of the first line; what is no number is no age (§5.1).
    let told = answer.get(header::AGE).and_then(|age| {
        let first = age.as_bytes().split(|byte| *byte == b',').next()?;
        fields::seconds(fields::trim(first))
    });
    let told_ms = told.unwrap_or(0).saturating_mul(1_000);
    apparent_ms.max(told_ms.saturating_add(delay_ms)).min(SECONDS_MAX * 1_000)
}

const SET_COOKIE2: HeaderName = HeaderName::from_static("set-cookie2");

/// What decides about an answer: its directives, and whether `expires` counts beside them.
struct Said {
    directives: Directives,
    targeted: bool,
}

fn said(answer: &HeaderMap, rules: &Rules) -> Said {
    match targeted::read(answer, &rules.targeted) {
        Some(directives) => Said { directives, targeted: true },
        None => Said { directives: Directives::read(answer), targeted: false },
    }
}

impl Said {
    /// How long the answer says that it is good, in seconds.
    fn lifetime_s(&self, answer: &HeaderMap, times: Times) -> Option<u64> {
        if let Some(s) = self.directives.lifetime_s() {
            return Some(s);
        }
        if self.targeted || !answer.contains_key(header::EXPIRES) {
            return None;
        }
        // From the answer's own clock on; several lines, or what cannot be read, is past (§5.3).
        let now_s = times.response_ms / 1_000;
        let from_s = date_s(answer, times).unwrap_or(now_s);
        let until_s = fields::only(answer, &header::EXPIRES)
            .and_then(|expires| date::parse(expires.as_bytes(), now_s));
        Some(until_s.unwrap_or(0).saturating_sub(from_s).min(SECONDS_MAX))
    }
}

fn date_s(answer: &HeaderMap, times: Times) -> Option<u64> {
    date::parse(answer.get(header::DATE)?.as_bytes(), times.response_ms / 1_000)
}

fn decide(
    request: &Request,
    status: StatusCode,
    answer: &HeaderMap,
    times: Times,
    rules: &Rules,
    said: &Said,
) -> Result<Verdict, Reason> {
    let directives = &said.directives;
    may_keep(request, status, answer, rules, directives)?;
    let vary = Vary::read(answer).fields()?;

    let explicit_ms = said.lifetime_s(answer, times).map(|s| s.saturating_mul(1_000));
    let sets_cookie = answer.contains_key(header::SET_COOKIE) || answer.contains_key(SET_COOKIE2);
    let no_cache = directives.no_cache.is_whole();
    if explicit_ms.is_none() {
        if sets_cookie {
            return Err("set-cookie");
        }
        if request.has_cookie && !no_cache {
            return Err("cookie");
        }
        if !directives.public && !is_heuristic(status) {
            return Err("status");
        }
    }
    let heuristic_ms = || heuristic_ms(status, answer, times, rules, directives);
    let lifetime_ms = explicit_ms.or_else(heuristic_ms).unwrap_or(0);
    let forbidden = directives.forbids_stale();
    let window_ms = |said_s: Option<u64>, default_ms: u64| match said_s {
        _ if forbidden => 0,
        Some(s) => s.saturating_mul(1_000),
        None => default_ms,
    };
    let error_s = directives.stale_if_error_s;
    let age_ms = initial_age_ms(answer, times);
    // An age of 2^31 s is before the epoch: what that cuts off goes off its time too.
    let before_ms = age_ms.saturating_sub(times.response_ms);
    let stored = Stored {
        made_at_ms: times.response_ms.saturating_sub(age_ms),
        lifetime_ms: lifetime_ms.saturating_sub(before_ms),
        must_revalidate: forbidden,
        no_cache,
        immutable: directives.immutable,
        shareable: directives.allows_sharing(),
        heuristic: explicit_ms.is_none(),
        has_validator: super::conditional::has_validator(answer),
        stale_while_revalidate_ms: window_ms(
            directives.stale_while_revalidate_s,
            rules.stale_while_revalidate_ms,
        ),
        stale_if_error_ms: window_ms(error_s, rules.stale_if_error_ms),
        stale_if_unreachable_ms: window_ms(
            error_s,
            rules.stale_if_unreachable_ms.max(rules.stale_if_error_ms),
        ),
    };
    is_of_use(&stored, explicit_ms.is_some(), directives)?;
    Ok(Verdict {
        stored,
        vary,
        drop: dropped(answer, rules),
        tags: surrogate::tags(answer),
        lacks_date: date_s(answer, times).is_none(),
    })
}

/// What forbids to keep it (§3).
fn may_keep(
    request: &Request,
    status: StatusCode,
    answer: &HeaderMap,
    rules: &Rules,
    directives: &Directives,
) -> Result<(), Reason> {
    // Not final, or nothing without what we do not have: the other parts, the stored answer.
    let unfit = [StatusCode::PARTIAL_CONTENT, StatusCode::NOT_MODIFIED];
    if status.is_informational() || unfit.contains(&status) {
        return Err("status");
    }
    if answer.contains_key(header::CONTENT_RANGE) && status != StatusCode::RANGE_NOT_SATISFIABLE {
        return Err("range");
    }
    // A 416 is about the range that was asked for, and everybody asks for another.
    if status == StatusCode::RANGE_NOT_SATISFIABLE && request.range.is_some() {
        return Err("range");
    }
    // A cache that knows what the status means need not obey the no-store beside it (§5.2.2.3).
    if directives.must_understand && !is_understood(status) {
        return Err("must-understand");
    }
    if directives.no_store && !directives.must_understand {
        return Err("no-store");
    }
    if directives.private.is_whole() {
        return Err("private");
    }
    if request.authorized && !directives.allows_sharing() {
        return Err("authorization");
    }
    let sets_cookie = answer.contains_key(header::SET_COOKIE) || answer.contains_key(SET_COOKIE2);
    if sets_cookie && rules.set_cookie == SetCookie::Bypass {
        return Err("set-cookie");
    }
    Ok(())
}

/// What could never be given again is not worth its memory.
fn is_of_use(stored: &Stored, explicit: bool, directives: &Directives) -> Result<(), Reason> {
    if stored.has_validator {
        return Ok(());
    }
    if stored.no_cache {
        return Err("no-cache");
    }
    if stored.lifetime_ms > 0 {
        return Ok(());
    }
    if !explicit {
        return Err("no-freshness");
    }
    let stale_s = directives.stale_while_revalidate_s.max(directives.stale_if_error_s);
    let may_be_stale = !stored.must_revalidate && stale_s.is_some_and(|s| s > 0);
    if may_be_stale { Ok(()) } else { Err("stale") }
}

/// `None`: not allowed, or nothing to go by.
fn heuristic_ms(
    status: StatusCode,
    answer: &HeaderMap,
    times: Times,
    rules: &Rules,
    directives: &Directives,
) -> Option<u64> {
    let rule = rules.heuristic?;
    let is_negative = status.is_client_error() || status.is_server_error();
    if is_negative && !rule.negative && !directives.public {
        return None;
    }
    // No meaning in an answer, but whoever sends it wants no cache.
    let mut pragma = fields::all_members(answer, &header::PRAGMA);
    if pragma.any(|member| member.eq_ignore_ascii_case(b"no-cache")) {
        return None;
    }
    let now_s = times.response_ms / 1_000;
    let changed = fields::only(answer, &header::LAST_MODIFIED)?;
    let changed_s = date::parse(changed.as_bytes(), now_s)?;
    let unchanged_s = date_s(answer, times).unwrap_or(now_s).checked_sub(changed_s)?;
    let lifetime_ms = unchanged_s.saturating_mul(10).saturating_mul(u64::from(rule.percent));
    Some(lifetime_ms.min(rule.max_ms))
}

/// RFC 9110 §15.1; a 206 is one too, but not kept.
fn is_heuristic(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// The final statuses of RFC 9110 whose rules for caches are known here.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=205 | 300..=303 | 305 | 307 | 308 | 400..=415 | 417 | 421 | 422 | 426 | 451
            | 500..=505
    )
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
