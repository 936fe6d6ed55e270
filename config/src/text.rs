//! Quantities as people write them: `30s`, `64KiB`, `"2.50"`.
//!
//! Units are always written: `ttl: 10` would be seconds to one reader and
//! milliseconds to another. Money is decimal text and stays exact.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use std::{borrow::Cow, time::Duration};

/// A duration, not yet parsed.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct DurationText(pub(crate) String);

/// A number of bytes, not yet parsed.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct SizeText(pub(crate) String);

/// How often something is done, not yet parsed.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct RateText(pub(crate) String);

/// A part of something, not yet parsed.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct PercentText(pub(crate) String);

/// What `DurationText` should have been, for messages and for the schema.
pub(crate) const DURATION_IS: &str = "a duration like 10ms, 5s, 2m, 1h or 7d";
/// What `SizeText` should have been.
pub(crate) const SIZE_IS: &str = "a size like 64KiB or 32MiB";
/// What `RateText` should have been.
pub(crate) const RATE_IS: &str = "a rate like 5/s, 100/m or 20/h";
/// What `PercentText` should have been.
pub(crate) const PERCENT_IS: &str = "a part like 10% or 0.5%, with at most 4 decimal places";
const MONEY_IS: &str = "an amount like \"2.50\" with at most 12 decimal places";

const DURATION_UNITS_MS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: [(&str, u64); 5] =
    [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("B", 1)];
const RATE_UNITS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3_600)];
/// One percent in millionths, and its decimal places.
const PPM_PER_PERCENT: u32 = 10_000;
const PERCENT_PLACES: usize = 4;
/// One US dollar in pico-USD, and its decimal places.
const PICO_PER_USD: i128 = 1_000_000_000_000;
const PICO_PLACES: usize = 12;
/// More dollars an hour than anything costs; keeps products far from overflow.
const USD_MAX: i128 = 1_000_000_000;

/// A text like `90s`. `None`: not a duration, or one that does not fit into 64 bits of milliseconds.
pub fn duration(text: &str) -> Option<Duration> {
    number_and_unit(text, &DURATION_UNITS_MS).map(Duration::from_millis)
}

/// A text like `64MiB`, in bytes. `None`: not a size.
pub fn size(text: &str) -> Option<u64> {
    number_and_unit(text, &SIZE_UNITS)
}

/// From one to the next, at the rate of `text`. `None`: not a rate, or one of nothing.
pub(crate) fn interval(text: &str) -> Option<Duration> {
    let (count, unit) = text.split_once('/')?;
    let (_, unit) = RATE_UNITS.iter().find(|(name, _)| *name == unit)?;
    let count = count.parse().ok().filter(|_| is_number(count))?;
    Duration::from_secs(*unit).checked_div(count)
}

/// The first rate that reads back as the same interval.
pub(crate) fn show_rate(interval: Duration) -> String {
    let rates = RATE_UNITS.iter().map(|(name, unit_s)| {
        let unit = Duration::from_secs(*unit_s);
        let count = unit.as_nanos().checked_div(interval.as_nanos()).unwrap_or(0);
        (name, unit, u32::try_from(count).unwrap_or(u32::MAX))
    });
    let mut same = rates.filter(|(_, unit, count)| unit.checked_div(*count) == Some(interval));
    same.next().map(|(name, _, count)| format!("{count}/{name}")).unwrap_or_default()
}

/// Exactly; in millionths of the whole.
pub(crate) fn ppm(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if !is_number(whole) || !is_number(fraction) || fraction.len() > PERCENT_PLACES {
        return None;
    }
    let padded = format!("{fraction:0<PERCENT_PLACES$}");
    let fraction: u32 = padded.parse().ok()?;
    whole.parse::<u32>().ok()?.checked_mul(PPM_PER_PERCENT)?.checked_add(fraction)
}

/// The shortest text that reads back as the same part.
pub fn show_ppm(ppm: u32) -> String {
    let (whole, fraction) = (ppm / PPM_PER_PERCENT, ppm % PPM_PER_PERCENT);
    let digits = format!("{fraction:0PERCENT_PLACES$}");
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() { format!("{whole}%") } else { format!("{whole}.{digits}%") }
}

/// Exactly; in pico-USD.
pub(crate) fn usd(text: &str) -> Result<i128, &'static str> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !is_number(whole) || !is_number(fraction) || fraction.len() > PICO_PLACES {
        return Err(MONEY_IS);
    }
    let whole: i128 = whole.parse().map_err(|_| MONEY_IS)?;
    if whole > USD_MAX {
        return Err("at most 1000000000 an hour");
    }
    let padded = format!("{fraction:0<PICO_PLACES$}");
    let fraction: i128 = padded.parse().map_err(|_| MONEY_IS)?;
    Ok(whole * PICO_PER_USD + fraction)
}

/// The shortest text that reads back as the same duration (to the millisecond).
pub fn show_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    show(ms, DURATION_UNITS_MS.iter().rev(), "0s")
}

/// The shortest text that reads back as the same size.
pub fn show_size(bytes: u64) -> String {
    let [kib, mib, gib, tib, one] = &SIZE_UNITS;
    show(bytes, [tib, gib, mib, kib, one].into_iter(), "0B")
}

/// The shortest decimal that reads back as the same amount.
pub fn show_usd(pico: i128) -> String {
    let (whole, fraction) = (pico / PICO_PER_USD, pico % PICO_PER_USD);
    let digits = format!("{fraction:0PICO_PLACES$}");
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() { format!("{whole}") } else { format!("{whole}.{digits}") }
}

fn number_and_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.strip_prefix(number)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    if !is_number(number) {
        return None; // `parse` would take a sign
    }
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// In the largest unit that divides; `units` are given largest first.
fn show<'a>(n: u64, mut units: impl Iterator<Item = &'a (&'a str, u64)>, zero: &str) -> String {
    if n == 0 {
        return zero.to_owned();
    }
    let unit = units.find(|(_, factor)| n.is_multiple_of(*factor));
    unit.map(|(name, factor)| format!("{}{name}", n / factor)).unwrap_or_default()
}

impl JsonSchema for RateText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "title": RATE_IS,
            "pattern": "^[0-9]+/(s|m|h)$",
        })
    }
}

impl JsonSchema for PercentText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "title": PERCENT_IS,
            "pattern": "^[0-9]+(\\.[0-9]{1,4})?%$",
        })
    }
}

impl JsonSchema for DurationText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "title": DURATION_IS,
            "pattern": "^[0-9]+(ms|s|m|h|d)$",
        })
    }
}

impl JsonSchema for SizeText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "title": SIZE_IS,
            "pattern": "^[0-9]+(B|KiB|MiB|GiB|TiB)$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_duration_needs_a_unit() {
        assert_eq!(duration("10ms"), Some(Duration::from_millis(10)));
        assert_eq!(duration("5s"), Some(Duration::from_secs(5)));
        assert_eq!(duration("2m"), Some(Duration::from_secs(120)));
        assert_eq!(duration("1h"), Some(Duration::from_secs(3600)));
        assert_eq!(duration("7d"), Some(Duration::from_secs(7 * 86_400)));
        for wrong in
            ["", "5", "s", "+5s", "-5s", "1.5s", "5 s", "5S", "1h30m", "99999999999999999d"]
        {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_size_is_in_powers_of_two() {
        assert_eq!(size("64KiB"), Some(65_536));
        assert_eq!(size("32MiB"), Some(33_554_432));
        assert_eq!(size("5B"), Some(5));
        for wrong in ["64", "64KB", "64kib", "1.5MiB", "99999999TiB"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_part_is_exact_to_the_millionth() {
        assert_eq!(ppm("10%"), Some(100_000));
        assert_eq!(ppm("0.5%"), Some(5_000));
        assert_eq!(ppm("0.0001%"), Some(1));
        for wrong in ["", "%", "10", ".5%", "1.%", "-1%", "1e1%", "0.00001%", "99999999999%"] {
            assert_eq!(ppm(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn money_is_exact_to_the_pico_dollar() {
        assert_eq!(usd("2.50"), Ok(2_500_000_000_000));
        assert_eq!(usd("0.000000000001"), Ok(1));
        assert_eq!(usd("12"), Ok(12_000_000_000_000));
        for wrong in ["", ".", "1.", ".5", "-1", "1e3", "1,5", "0.0000000000001", "10000000000"] {
            assert!(usd(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(
            n in any::<u64>(), ms in 0..u64::MAX, pico in 0..i128::from(u64::MAX), part in any::<u32>(),
        ) {
            prop_assert_eq!(ppm(&show_ppm(part)), Some(part));
            prop_assert_eq!(size(&show_size(n)), Some(n));
            let length = Duration::from_millis(ms);
            prop_assert_eq!(duration(&show_duration(length)), Some(length));
            prop_assert_eq!(usd(&show_usd(pico)), Ok(pico));
        }
    }
}
