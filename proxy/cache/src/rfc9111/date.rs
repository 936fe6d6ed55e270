//! HTTP dates (RFC 9110 §5.6.7): the three forms there are, and no others.
//!
//! Day, month and zone names may be in any case; everything else is as the grammar says, to the
//! space. What is nearly a date is none: an `expires` that cannot be read is in the past, and a
//! lenient reader would give the answer another end than its sender's other caches do.
//! A weekday that is not the date's is not checked, as no one does.

use http::HeaderValue;
use std::time::{Duration, UNIX_EPOCH};

const MONTHS: [&[u8; 3]; 12] = [
    b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec",
];
const DAYS: [&str; 7] =
    ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

/// The last second of the year 9999, past which there is no form.
const LAST_S: u64 = 253_402_300_799;

/// Unix time in seconds; dates before 1970 are 0. `now_s` tells the century of a two-digit year.
pub fn parse(text: &[u8], now_s: u64) -> Option<u64> {
    let text = super::fields::trim(text);
    match text.iter().position(|byte| matches!(byte, b',' | b' '))? {
        3 if text.get(3) == Some(&b',') => imf(text),
        3 => asctime(text),
        comma => rfc850(text, comma, now_s),
    }
}

/// The form in which dates are sent.
pub fn format(now_s: u64) -> HeaderValue {
    let now_s = now_s.min(LAST_S);
    let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now_s));
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf(text: &[u8]) -> Option<u64> {
    let mut read = Reader(text);
    read.short_day()?;
    read.word(b", ")?;
    let day = read.number(2)?;
    read.word(b" ")?;
    let month = read.month()?;
    read.word(b" ")?;
    let year = read.number(4)?;
    read.word(b" ")?;
    let second = read.clock()?;
    read.word(b" gmt")?;
    read.end(year, month, day, second)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(text: &[u8], comma: usize, now_s: u64) -> Option<u64> {
    let (name, rest) = text.split_at_checked(comma)?;
    if !DAYS.iter().any(|day| day.as_bytes().eq_ignore_ascii_case(name)) {
        return None;
    }
    let mut read = Reader(rest);
    read.word(b", ")?;
    let day = read.number(2)?;
    read.word(b"-")?;
    let month = read.month()?;
    read.word(b"-")?;
    let short = read.number(2)?;
    read.word(b" ")?;
    let second = read.clock()?;
    read.word(b" gmt")?;
    let now_year = 1970 + now_s.min(LAST_S) / 31_556_952;
    let year = now_year - now_year % 100 + short;
    // More than 50 years ahead is taken to be the past.
    let year = if year > now_year + 50 { year - 100 } else { year };
    read.end(year, month, day, second)
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(text: &[u8]) -> Option<u64> {
    let mut read = Reader(text);
    read.short_day()?;
    read.word(b" ")?;
    let month = read.month()?;
    read.word(b" ")?;
    let day = if read.word(b" ").is_some() { read.number(1)? } else { read.number(2)? };
    read.word(b" ")?;
    let second = read.clock()?;
    read.word(b" ")?;
    let year = read.number(4)?;
    read.end(year, month, day, second)
}

/// What is left to read; each step takes what it understands off the start.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn word(&mut self, word: &[u8]) -> Option<()> {
        let (start, rest) = self.0.split_at_checked(word.len())?;
        if !start.eq_ignore_ascii_case(word) {
            return None;
        }
        self.0 = rest;
        Some(())
    }

    fn number(&mut self, digits: usize) -> Option<u64> {
        let (start, rest) = self.0.split_at_checked(digits)?;
        let number = super::fields::seconds(start)?;
        self.0 = rest;
        Some(number)
    }

    fn short_day(&mut self) -> Option<()> {
        DAYS.iter().find_map(|day| self.word(day.as_bytes().get(..3)?))
    }

    /// 0 is January.
    fn month(&mut self) -> Option<u64> {
        let month = MONTHS.iter().position(|month| self.word(*month).is_some())?;
        u64::try_from(month).ok()
    }

    /// Seconds since midnight. A leap second is the next one.
    fn clock(&mut self) -> Option<u64> {
        let hour = self.number(2)?;
        self.word(b":")?;
        let minute = self.number(2)?;
        self.word(b":")?;
        let second = self.number(2)?;
        (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second)
    }

    fn end(self, year: u64, month: u64, day: u64, second: u64) -> Option<u64> {
        if !self.0.is_empty() || !(1..=days_in(year, month)).contains(&day) {
            return None;
        }
        if year < 1970 {
            return Some(0);
        }
        let before = year - 1;
        // Days of whole years since 1970, leap days included.
        let years =
            (year - 1970) * 365 + (before / 4 - 492) + (before / 400 - 4) - (before / 100 - 19);
        let months: u64 = (0..month).map(|month| days_in(year, month)).sum();
        Some((years + months + day - 1) * 86_400 + second)
    }
}

fn days_in(year: u64, month: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 => 28 + u64::from(leap),
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW_S: u64 = 1_800_000_000; // 2027

    #[track_caller]
    fn check(text: &str, expected: Option<u64>) {
        assert_eq!(parse(text.as_bytes(), NOW_S), expected, "{text:?}");
    }

    #[test]
    fn the_three_forms_are_the_same_date() {
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777));
        check("Sun Nov  6 08:49:37 1994", Some(784_111_777));
        check("Sun Nov 16 08:49:37 1994", Some(784_111_777 + 864_000));
    }

    #[test]
    fn names_may_be_in_any_case() {
        check("SUN, 06 nov 1994 08:49:37 gMT", Some(784_111_777));
        check("sunday, 06-NOV-94 08:49:37 GMT", Some(784_111_777));
    }

    #[test]
    fn what_is_nearly_a_date_is_none() {
        for text in [
            "",
            "0",
            "-1",
            "now",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Sun, 06  Nov  1994 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08.49.37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 GMT+1",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Xun, 06 Nov 1994 08:49:37 GMT",
            "Sundayy, 06-Nov-94 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
            "1994-11-06T08:49:37Z",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn a_short_year_is_never_more_than_fifty_years_ahead() {
        let year = |text| parse(text, NOW_S).map(|s| 1970 + s / 31_556_952);
        assert_eq!(year(b"Sunday, 06-Nov-77 08:49:37 GMT"), Some(2077));
        assert_eq!(year(b"Sunday, 06-Nov-78 08:49:37 GMT"), Some(1978));
    }

    #[test]
    fn what_was_before_the_epoch_is_long_past() {
        check("Thu, 01 Jan 1970 00:00:00 GMT", Some(0));
        check("Sun, 06 Nov 1904 08:49:37 GMT", Some(0));
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(s in 0_u64..253_402_300_799) {
            prop_assert_eq!(parse(format(s).as_bytes(), NOW_S), Some(s));
        }

        #[test]
        fn no_bytes_and_no_clock_break_the_reader(
            text in proptest::collection::vec(any::<u8>(), 0..40), now: u64
        ) {
            let _ = parse(&text, now);
            let _ = format(now);
        }

        #[test]
        fn one_changed_byte_breaks_no_reader(at in 0_usize..29, byte: u8, now: u64) {
            for date in [
                "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
                "Sun Nov  6 08:49:37 1994",
            ] {
                let mut text = date.as_bytes().to_vec();
                if let Some(place) = text.get_mut(at) {
                    *place = byte;
                }
                let _ = parse(&text, now);
            }
        }
    }
}
