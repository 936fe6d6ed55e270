//! Calendar windows in a time zone: a day of 23 or 25 hours is one day.

use jiff::{Timestamp, ToSpan, Zoned, civil, tz::TimeZone};

use crate::error::LedgerError;

/// The zone in which days begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// A calendar period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    Day,
    /// Monday to Sunday.
    Week,
    Month,
}

/// From inclusive, to exclusive, in Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub from_ms: i64,
    pub to_ms: i64,
}

impl Zone {
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// An IANA name such as `Europe/Berlin`. Needs the system's time zone data for
    /// all but `UTC`.
    pub fn parse(name: &str) -> Result<Self, LedgerError> {
        if name.eq_ignore_ascii_case("utc") {
            return Ok(Self::utc());
        }
        TimeZone::get(name).map(Self).map_err(|error| bad_time(name, error))
    }

    /// An instant (`2026-11-01T00:00:00Z`), or a date or local time of this zone
    /// (`2026-11-01`, `2026-11-01T13:00`), in Unix milliseconds.
    pub fn parse_time_ms(&self, text: &str) -> Result<i64, LedgerError> {
        if let Ok(instant) = text.parse::<Timestamp>() {
            return Ok(instant.as_millisecond());
        }
        let local: civil::DateTime = text.parse().map_err(|error| bad_time(text, error))?;
        let zoned = local.to_zoned(self.0.clone()).map_err(|error| bad_time(text, error))?;
        Ok(zoned.timestamp().as_millisecond())
    }

    /// RFC 3339 with this zone's offset.
    pub fn format_ms(&self, unix_ms: i64) -> String {
        let Ok(instant) = Timestamp::from_millisecond(unix_ms) else {
            return unix_ms.to_string();
        };
        let zoned = instant.to_zoned(self.0.clone());
        if self.0 == TimeZone::UTC {
            return instant.to_string();
        }
        instant.display_with_offset(zoned.offset()).to_string()
    }
}

impl Period {
    pub fn parse(name: &str) -> Result<Self, LedgerError> {
        match name {
            "day" => Ok(Self::Day),
            "week" => Ok(Self::Week),
            "month" => Ok(Self::Month),
            _ => Err(bad_time(name, "use day, week or month")),
        }
    }

    /// The period that `unix_ms` lies in.
    pub fn around(self, unix_ms: i64, zone: &Zone) -> Result<Window, LedgerError> {
        let wrong = |error: jiff::Error| bad_time(&unix_ms.to_string(), error);
        let instant = Timestamp::from_millisecond(unix_ms).map_err(wrong)?;
        let date = instant.to_zoned(zone.0.clone()).date();
        let first = match self {
            Self::Day => date,
            Self::Week => {
                let days = date.weekday().to_monday_zero_offset();
                date.checked_sub(i64::from(days).days()).map_err(wrong)?
            }
            Self::Month => date.first_of_month(),
        };
        let after = match self {
            Self::Day => first.checked_add(1.day()),
            Self::Week => first.checked_add(1.week()),
            Self::Month => first.checked_add(1.month()),
        };
        let start = |date: civil::Date| -> Result<Zoned, jiff::Error> {
            date.to_zoned(zone.0.clone())?.start_of_day()
        };
        Ok(Window {
            from_ms: start(first).map_err(wrong)?.timestamp().as_millisecond(),
            to_ms: start(after.map_err(wrong)?).map_err(wrong)?.timestamp().as_millisecond(),
        })
    }
}

fn bad_time(text: &str, reason: impl std::fmt::Display) -> LedgerError {
    LedgerError::BadTime { text: text.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn window(period: Period, zone: &str, text: &str) -> (Zone, Window) {
        let zone = Zone::parse(zone).unwrap();
        let at = zone.parse_time_ms(text).unwrap();
        let window = period.around(at, &zone).unwrap();
        (zone, window)
    }

    #[test]
    fn the_day_the_clock_goes_back_has_25_hours_and_the_other_one_23() {
        let (_, autumn) = window(Period::Day, "Europe/Berlin", "2026-10-25T12:00");
        assert_eq!(autumn.to_ms - autumn.from_ms, 25 * HOUR_MS);
        let (_, spring) = window(Period::Day, "Europe/Berlin", "2026-03-29T12:00");
        assert_eq!(spring.to_ms - spring.from_ms, 23 * HOUR_MS);
    }

    #[test]
    fn a_day_without_midnight_begins_when_its_clock_begins() {
        let (zone, day) = window(Period::Day, "America/Sao_Paulo", "2018-11-04T12:00");
        assert_eq!(zone.format_ms(day.from_ms), "2018-11-04T01:00:00-02:00");
    }

    #[test]
    fn weeks_begin_on_monday_and_months_on_the_first() {
        let (zone, week) = window(Period::Week, "UTC", "2026-11-22");
        assert_eq!(zone.format_ms(week.from_ms), "2026-11-16T00:00:00Z");
        assert_eq!(zone.format_ms(week.to_ms), "2026-11-23T00:00:00Z");
        let (zone, month) = window(Period::Month, "Asia/Shanghai", "2026-02-28T23:59");
        assert_eq!(zone.format_ms(month.from_ms), "2026-02-01T00:00:00+08:00");
        assert_eq!(zone.format_ms(month.to_ms), "2026-03-01T00:00:00+08:00");
    }

    #[test]
    fn a_time_that_is_none_is_refused_by_its_text() {
        let error = Zone::utc().parse_time_ms("yesterday").unwrap_err().to_string();
        assert!(error.contains("yesterday"), "{error}");
        assert!(Zone::parse("Mars/Olympus").is_err());
        assert!(Period::parse("year").is_err());
    }
}
