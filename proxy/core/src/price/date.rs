//! Days as text: just what a price list and a model's name contain.

/// Milliseconds since 1970 of the start (UTC) of a day written `2025-01-31`.
pub(super) fn unix_ms(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || [year.len(), month.len(), day.len()] != [4, 2, 2] {
        return None;
    }
    let (year, month, day) = (number(year)?, number(month)?, number(day)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    Some(days_since_1970(year, month, day) * 86_400_000)
}

/// `text` is a date as providers append it: `2024-07-18`, `20240718`, `2024-07`,
/// `202407` or `2024`.
pub(super) fn is_suffix(text: &str) -> bool {
    let shape: Vec<usize> = text.split('-').map(str::len).collect();
    matches!(shape.as_slice(), [4 | 6 | 8] | [4, 2] | [4, 2, 2])
        && text.starts_with("20")
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

fn number(digits: &str) -> Option<i64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Years are counted from March, so that the leap day is a year's last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_utc() {
        for (text, days) in [
            ("1970-01-01", Some(0)),
            ("1970-03-01", Some(59)),
            ("2000-02-29", Some(11_016)),
            ("2024-12-31", Some(20_088)),
            ("2025-01-01", Some(20_089)),
            ("1969-12-31", Some(-1)),
            ("2023-02-29", None),
            ("2025-13-01", None),
            ("2025-00-10", None),
            ("2025-1-1", None),
            ("2025-01-01T00:00:00Z", None),
            ("+025-01-01", None),
            ("", None),
        ] {
            assert_eq!(unix_ms(text), days.map(|days: i64| days * 86_400_000), "{text}");
        }
    }

    #[test]
    fn only_a_date_is_a_date() {
        for text in ["2024-07-18", "20240718", "2024-07", "202407", "2024"] {
            assert!(is_suffix(text), "{text}");
        }
        for text in ["0613", "1106", "latest", "18", "2024-07-18-ft", "20x4", "9999", "200", ""] {
            assert!(!is_suffix(text), "{text}");
        }
    }
}
