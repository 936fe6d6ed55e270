//! `cache-control` of requests (RFC 9111 §5.2.1); that of answers is read by `rfc9111`.
//!
//! A list of directives over any number of header lines. Names are compared without case; unknown
//! ones are ignored. What cannot be read errs to the side of not using the cache: a broken or
//! repeated, differing time counts as 0.

use crate::rfc9111::fields;

/// The largest age or lifetime in seconds: what does not fit counts as this (RFC 9111 §1.2.2).
pub const SECONDS_MAX: u64 = 1 << 31;

/// What a caller says about using the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestControl {
    /// Do not answer from the cache; the new answer may be stored.
    pub no_cache: bool,
    /// Neither answer from the cache nor store, nor share a flight.
    pub no_store: bool,
    /// Answer from the cache or not at all.
    pub only_if_cached: bool,
    /// Not older than this, in seconds.
    pub max_age_s: Option<u64>,
    /// Fresh for at least this long yet, in seconds.
    pub min_fresh_s: Option<u64>,
    /// Stale by this much is acceptable, in seconds; a `max-stale` without a value is
    /// [`SECONDS_MAX`].
    pub max_stale_s: Option<u64>,
    /// Instead of an error, an answer stale by this much is acceptable (RFC 5861 §4), in seconds.
    pub stale_if_error_s: Option<u64>,
}

impl RequestControl {
    /// From the values of all `cache-control` lines.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut control = Self::default();
        for_each_directive(lines, |name, value| match name {
            "no-cache" => control.no_cache = true,
            "no-store" => control.no_store = true,
            "only-if-cached" => control.only_if_cached = true,
            "max-age" => set_seconds(&mut control.max_age_s, value),
            // Unreadable: nothing is fresh enough.
            "min-fresh" => {
                let seconds =
                    value.and_then(|text| fields::seconds(text.as_bytes())).unwrap_or(SECONDS_MAX);
                control.min_fresh_s = control.min_fresh_s.max(Some(seconds));
            }
            "stale-if-error" => set_seconds(&mut control.stale_if_error_s, value),
            "max-stale" => match value {
                None => control.max_stale_s = Some(SECONDS_MAX),
                value => set_seconds(&mut control.max_stale_s, value),
            },
            _ => {}
        });
        control
    }

    /// Whether a fresh entry of this age may be given. `fresh_for_ms` is what is left of its time.
    /// (`max-stale` is about entries past their time, which the tiers do not give.)
    pub fn accepts(&self, age_ms: u64, fresh_for_ms: u64) -> bool {
        if self.no_cache || self.no_store {
            return false;
        }
        // An age is told in whole seconds, so it is judged so.
        let (age_s, fresh_for_s) = (age_ms / 1_000, fresh_for_ms / 1_000);
        self.max_age_s.is_none_or(|max| age_s <= max)
            && self.min_fresh_s.is_none_or(|min| fresh_for_s >= min)
    }
}

/// Two that differ, or one that cannot be read, are the least there is (RFC 9111 §4.2.1).
fn set_seconds(place: &mut Option<u64>, value: Option<&str>) {
    let read = value.and_then(|text| fields::seconds(text.as_bytes())).unwrap_or(0);
    *place = Some(place.map_or(read, |before| before.min(read)));
}

/// Calls `found` with the lower-case name and the value, unquoted, of each directive.
fn for_each_directive<'a>(
    lines: impl IntoIterator<Item = &'a [u8]>,
    mut found: impl FnMut(&str, Option<&str>),
) {
    for line in lines {
        // A line that is not text still counts as one that forbids, if it does so in text.
        for directive in fields::members(line) {
            let directive = String::from_utf8_lossy(directive);
            let (name, value) = match directive.split_once('=') {
                Some((name, value)) => (name, Some(value.trim().trim_matches('"'))),
                None => (&*directive, None),
            };
            found(&name.trim().to_ascii_lowercase(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(lines: &[&str]) -> RequestControl {
        RequestControl::parse(lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn what_a_caller_may_say_is_read() {
        assert_eq!(
            request(&[
                "No-Cache, max-age=\"10\"",
                "min-fresh=5 , max-stale",
                "only-if-cached,,no-store, stale-if-error=7"
            ]),
            RequestControl {
                no_cache: true,
                no_store: true,
                only_if_cached: true,
                max_age_s: Some(10),
                min_fresh_s: Some(5),
                max_stale_s: Some(SECONDS_MAX),
                stale_if_error_s: Some(7),
            }
        );
        assert_eq!(request(&["", "x-no-cache, no-cachex, \u{e9}"]), RequestControl::default());
    }

    #[test]
    fn what_cannot_be_read_does_without_the_cache() {
        assert_eq!(request(&["max-age=ten"]).max_age_s, Some(0));
        assert_eq!(request(&["max-age"]).max_age_s, Some(0));
        assert_eq!(request(&["max-age=-1"]).max_age_s, Some(0));
        assert_eq!(request(&["max-age=1.5"]).max_age_s, Some(0));
        assert_eq!(request(&["min-fresh=x"]).min_fresh_s, Some(SECONDS_MAX));
        assert_eq!(request(&["max-age=60", "max-age=5"]).max_age_s, Some(5));
        assert_eq!(request(&["max-age=99999999999999999999"]).max_age_s, Some(SECONDS_MAX));
    }

    #[test]
    fn a_directive_inside_a_quoted_value_is_none() {
        let control =
            request(&["x=\"a, no-store, \\\" only-if-cached\", no-cache=\"a,b\", max-age=1"]);
        let expected =
            RequestControl { no_cache: true, max_age_s: Some(1), ..RequestControl::default() };
        assert_eq!(control, expected);
        // One that does not end hides nothing.
        assert!(request(&["x=\"a, no-store"]).no_store);
    }

    #[test]
    fn a_caller_is_given_what_it_accepts() {
        assert!(request(&[]).accepts(u64::MAX, 0));
        assert!(!request(&["no-cache"]).accepts(0, 1_000));
        assert!(!request(&["max-age=0"]).accepts(1_000, 1_000));
        assert!(request(&["max-age=1"]).accepts(1_999, 1_000));
        assert!(!request(&["max-age=1"]).accepts(2_000, 1_000));
        assert!(!request(&["max-age=1, max-stale=9"]).accepts(2_000, 1_000), "old is not stale");
        assert!(request(&["min-fresh=2"]).accepts(0, 2_000));
        assert!(!request(&["min-fresh=2"]).accepts(0, 1_999));
    }
}
