//! Pico units as a decimal number: exact, no float on the way.

const PICO: u128 = 1_000_000_000_000;

/// `24_400_000` → `"0.0000244"`. All digits that are not trailing zeros.
pub fn decimal(pico: i128) -> String {
    let (whole, part) = (pico.unsigned_abs() / PICO, pico.unsigned_abs() % PICO);
    let sign = if pico < 0 { "-" } else { "" };
    if part == 0 {
        return format!("{sign}{whole}");
    }
    let part = format!("{part:012}");
    format!("{sign}{whole}.{}", part.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_money_is_not_rounded_to_nothing() {
        assert_eq!(decimal(24_400_000), "0.0000244");
        assert_eq!(decimal(1), "0.000000000001");
        assert_eq!(decimal(0), "0");
        assert_eq!(decimal(-2_500_000_000_000), "-2.5");
        assert_eq!(decimal(i128::MIN), "-170141183460469231731687303.715884105728");
    }

    proptest! {
        #[test]
        fn a_decimal_says_exactly_the_pico_units(pico in -(1i128 << 100)..(1i128 << 100)) {
            let text = decimal(pico);
            let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
            let digits = format!("{whole}{part:0<12}");
            prop_assert_eq!(digits.parse::<i128>().unwrap(), pico);
        }
    }
}
