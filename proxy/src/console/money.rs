//! Money for the eye: three digits that count, never a tiny amount as nothing.
//!
//! The exact amount stands beside it, in a title; the API always gives the exact one.

/// One unit of the currency.
const PICO: u128 = 1_000_000_000_000;

/// Digits that are shown of an amount below one.
const DIGITS: u32 = 3;

/// `$12.34`, `$0.0244`, `$0.0000244`; `—` where nobody knows.
pub(super) fn dollars(pico: Option<i128>) -> String {
    let Some(pico) = pico else { return "—".to_owned() };
    let sign = if pico < 0 { "−" } else { "" };
    let amount = pico.unsigned_abs();
    // Two decimals from a dollar on; below, as many as show three digits.
    let decimals = match amount.checked_ilog10() {
        None => 2,
        Some(log) => (11 + DIGITS).saturating_sub(log).clamp(2, 12),
    };
    let unit = 10u128.pow(12 - decimals);
    let rounded = (amount / unit).saturating_add(u128::from(amount % unit * 2 >= unit)) * unit;
    let (whole, part) = (rounded / PICO, rounded % PICO);
    // Rounding may have made a dollar of it.
    let shown = if whole > 0 { 2 } else { usize::try_from(decimals).unwrap_or(2) };
    let part = format!("{part:012}");
    let part = part.get(..shown).unwrap_or_default();
    format!("{sign}${}.{part}", grouped(whole))
}

/// `1,234,567`.
pub(super) fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(pico: i128, expected: &str) {
        assert_eq!(dollars(Some(pico)), expected);
    }

    #[test]
    fn an_amount_shows_the_digits_that_count() {
        check(0, "$0.00");
        check(24_400_000, "$0.0000244");
        check(1, "$0.000000000001");
        check(244_499_999_999, "$0.244");
        check(999_999_999_999, "$1.00");
        check(1_005_000_000_000, "$1.01");
        check(1_234_567_890_000_000_000, "$1,234,567.89");
        check(-20_000_000_000, "−$0.0200");
        assert_eq!(dollars(None), "—");
    }

    proptest! {
        #[test]
        fn what_is_not_nothing_never_looks_like_nothing(pico in 1..i128::MAX) {
            prop_assert!(dollars(Some(pico)).contains(|digit| matches!(digit, '1'..='9')));
        }
    }
}
