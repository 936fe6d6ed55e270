//! Money as integers: amounts in pico-dollars, rates in pico-dollars per token.
//!
//! Providers publish dollars per million tokens with up to six decimals, so a
//! trillionth of a dollar per token holds every published price exactly: the
//! number equals the price in millionths of a dollar per million tokens. Costs
//! are sums of `count × rate` in `i128`, so nothing is rounded between a price
//! list and the ledger, and Σ calls is Σ of anything they are grouped by.
//! Rounding happens at two edges only, each with a direction that is written
//! down: [`MicroUsdCarry`] (counters, loses nothing) and
//! [`PicoUsd::to_micro_usd`] (one amount on its own, half to even).
//!
//! Text goes in and out as plain decimals (`0.0000244`); floats never do.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;
use std::sync::atomic::{AtomicU64, Ordering};

use rust_decimal::Decimal;

const PICO_PER_USD: i128 = 1_000_000_000_000;
const PICO_PER_MICRO: u64 = 1_000_000;

/// An amount of money in trillionths of a US dollar. Additions saturate: the
/// ends are 10²⁶ dollars away, and a wrapped sum would be a gift.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PicoUsd(i128);

/// A price in trillionths of a US dollar per token. `$0.15 / 1M` is `new(150_000)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PicoUsdPerToken(u64);

/// How many tokens a written price is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokensPriced {
    One,
    Thousand,
    Million,
}

/// What turns a run of exact amounts into whole micro-dollars for a counter
/// without losing what is smaller: the remainder is kept for the next call.
///
/// **Invariant:** the sum of all returned micro-dollars is the floor of the sum
/// of all amounts, whatever threads they came from.
#[derive(Debug, Default)]
pub struct MicroUsdCarry {
    /// Always below one micro-dollar.
    rest_pico: AtomicU64,
}

/// Why a text is no amount of money.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    #[error("not a decimal number like 2.50: {0:?}")]
    NotANumber(String),
    #[error("must not be negative: {0}")]
    Negative(String),
    #[error("finer than a trillionth of a dollar{unit}: {text}; write fewer decimals")]
    TooFine { text: String, unit: &'static str },
    #[error("too large to be a price: {0}")]
    TooLarge(String),
}

impl PicoUsd {
    pub const ZERO: Self = Self(0);

    pub const fn new(pico_usd: i128) -> Self {
        Self(pico_usd)
    }

    pub const fn get(self) -> i128 {
        self.0
    }

    /// Dollars as plain decimal text, exactly: `"2.50"`, `"0.0000244"`.
    pub fn parse_usd(text: &str) -> Result<Self, MoneyError> {
        scaled(text, PICO_PER_USD, "").map(Self)
    }

    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// So many times this much.
    pub fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(i128::from(count)))
    }

    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// For a ledger record, whose field is an `i64`: up to 9.2 million dollars
    /// for one call, beyond that the nearest end.
    pub fn to_record(self) -> i64 {
        i64::try_from(self.0).unwrap_or(if self.0 < 0 { i64::MIN } else { i64::MAX })
    }

    /// The amount of a ledger record.
    pub fn from_record(pico_usd: i64) -> Self {
        Self(i128::from(pico_usd))
    }

    /// Whole micro-dollars, half to even; for showing one amount. For adding many
    /// to a counter use [`MicroUsdCarry`]: most calls cost less than half of one.
    pub fn to_micro_usd(self) -> i64 {
        let micro = i128::from(PICO_PER_MICRO);
        let (whole, rest) = (self.0.div_euclid(micro), self.0.rem_euclid(micro));
        let up = rest * 2 > micro || (rest * 2 == micro && whole.rem_euclid(2) == 1);
        let rounded = whole + i128::from(up);
        i64::try_from(rounded).unwrap_or(if self.0 < 0 { i64::MIN } else { i64::MAX })
    }
}

impl Add for PicoUsd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.saturating_add(other)
    }
}

impl Sum for PicoUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::saturating_add)
    }
}

/// Dollars, exactly, without trailing zeros: `0.0000244`, `-1.5`, `0`.
impl fmt::Display for PicoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pico = PICO_PER_USD.unsigned_abs();
        let (dollars, mut rest) = (self.0.unsigned_abs() / pico, self.0.unsigned_abs() % pico);
        let sign = if self.0 < 0 { "-" } else { "" };
        if rest == 0 {
            return write!(f, "{sign}{dollars}");
        }
        let mut digits = 12;
        while rest.is_multiple_of(10) {
            rest /= 10;
            digits -= 1;
        }
        write!(f, "{sign}{dollars}.{rest:0digits$}")
    }
}

impl PicoUsdPerToken {
    pub const ZERO: Self = Self(0);

    pub const fn new(pico_usd: u64) -> Self {
        Self(pico_usd)
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    /// A published price: dollars per `tokens`, as plain decimal text. Refuses
    /// what the unit cannot hold exactly rather than round somebody's contract.
    pub fn parse_usd_per(text: &str, tokens: TokensPriced) -> Result<Self, MoneyError> {
        let pico_per_token = scaled(text, PICO_PER_USD / tokens.count(), " per token")?;
        if pico_per_token < 0 {
            return Err(MoneyError::Negative(text.to_owned()));
        }
        match u64::try_from(pico_per_token) {
            Ok(rate) => Ok(Self(rate)),
            Err(_) => Err(MoneyError::TooLarge(text.to_owned())),
        }
    }

    /// What `tokens` cost at this rate, exactly. (Two `u64` could reach past an
    /// `i128` by a factor of two; that saturates.)
    pub fn cost(self, tokens: u64) -> PicoUsd {
        let pico = u128::from(self.0) * u128::from(tokens);
        PicoUsd(i128::try_from(pico).unwrap_or(i128::MAX))
    }

    /// The price of a million tokens, for people.
    pub fn usd_per_million(self) -> PicoUsd {
        self.cost(1_000_000)
    }
}

impl TokensPriced {
    fn count(self) -> i128 {
        match self {
            Self::One => 1,
            Self::Thousand => 1_000,
            Self::Million => 1_000_000,
        }
    }
}

impl MicroUsdCarry {
    pub const fn new() -> Self {
        Self { rest_pico: AtomicU64::new(0) }
    }

    /// Takes `amount` in and says how many whole micro-dollars to add to the
    /// counter now. A counter cannot go down: a negative amount adds nothing.
    pub fn add(&self, amount: PicoUsd) -> u64 {
        let micro = u128::from(PICO_PER_MICRO);
        let pico = u128::try_from(amount.0).unwrap_or(0);
        let whole = u64::try_from(pico / micro).unwrap_or(u64::MAX);
        let part = u64::try_from(pico % micro).unwrap_or(0);

        let before = self.rest_pico.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |rest| {
            Some((rest + part) % PICO_PER_MICRO)
        });
        // `fetch_update` fails only where the closure says `None`.
        let rest = match before {
            Ok(rest) | Err(rest) => rest,
        };
        whole.saturating_add((rest + part) / PICO_PER_MICRO)
    }
}

/// `text × scale` where that is a whole number.
fn scaled(text: &str, scale: i128, unit: &'static str) -> Result<i128, MoneyError> {
    let not_a_number = || MoneyError::NotANumber(excerpt(text));
    // The decimal parser reads `1_000` too; in a price list that is a slip.
    if !text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+')) {
        return Err(not_a_number());
    }
    if text.len() > 64 {
        return Err(MoneyError::TooLarge(excerpt(text)));
    }
    let decimal = match Decimal::from_str_exact(text) {
        Ok(decimal) => decimal.normalize(),
        Err(rust_decimal::Error::Underflow) => {
            return Err(MoneyError::TooFine { text: text.to_owned(), unit });
        }
        Err(rust_decimal::Error::ExceedsMaximumPossibleValue) => {
            return Err(MoneyError::TooLarge(text.to_owned()));
        }
        Err(_) => return Err(not_a_number()),
    };
    let parts = 10_i128.pow(decimal.scale());
    if parts <= scale {
        // Both are powers of ten.
        let product = decimal.mantissa().checked_mul(scale / parts);
        return product.ok_or_else(|| MoneyError::TooLarge(text.to_owned()));
    }
    let finer = parts / scale;
    if decimal.mantissa() % finer != 0 {
        return Err(MoneyError::TooFine { text: text.to_owned(), unit });
    }
    Ok(decimal.mantissa() / finer)
}

/// Foreign text for an error message: not all of a megabyte.
fn excerpt(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check_price(text: &str, tokens: TokensPriced, expected: Result<u64, &str>) {
        let parsed = PicoUsdPerToken::parse_usd_per(text, tokens);
        match expected {
            Ok(pico) => assert_eq!(parsed, Ok(PicoUsdPerToken::new(pico))),
            Err(message) => assert_eq!(parsed.unwrap_err().to_string(), message),
        }
    }

    #[test]
    fn a_published_price_is_exact() {
        check_price("0.15", TokensPriced::Million, Ok(150_000));
        check_price("0.00015", TokensPriced::Thousand, Ok(150_000));
        check_price("0.00000015", TokensPriced::One, Ok(150_000));
        check_price("0.13125", TokensPriced::Million, Ok(131_250));
        check_price("30.000000000000", TokensPriced::Million, Ok(30_000_000));
        check_price("0", TokensPriced::Million, Ok(0));
        let fifteen_cents = PicoUsdPerToken::new(150_000);
        assert_eq!(fifteen_cents.cost(1_000_000).to_string(), "0.15");
        assert_eq!(fifteen_cents.usd_per_million().to_string(), "0.15");
    }

    #[test]
    fn what_a_price_cannot_hold_is_refused_with_the_reason() {
        check_price(
            "0.0000001",
            TokensPriced::Million,
            Err("finer than a trillionth of a dollar per token: 0.0000001; write fewer decimals"),
        );
        check_price(
            "0.00000000000000000000000000000000001",
            TokensPriced::One,
            Err("finer than a trillionth of a dollar per token: \
                 0.00000000000000000000000000000000001; write fewer decimals"),
        );
        check_price("-1", TokensPriced::Million, Err("must not be negative: -1"));
        check_price("99999999999999999999", TokensPriced::One, {
            Err("too large to be a price: 99999999999999999999")
        });
        for text in ["", "1,5", "1e-6", "1_000", "$3", "NaN", "-", "1.2.3"] {
            let message = format!("not a decimal number like 2.50: {text:?}");
            check_price(text, TokensPriced::Million, Err(&message));
        }
    }

    #[test]
    fn an_amount_is_shown_exactly_and_never_as_nothing() {
        for (pico, shown) in [
            (0, "0"),
            (24_400_000, "0.0000244"),
            (1, "0.000000000001"),
            (1_500_000_000_000, "1.5"),
            (-1_500_000_000_000, "-1.5"),
            (100_000_000_000_000, "100"),
            (-1, "-0.000000000001"),
        ] {
            assert_eq!(PicoUsd::new(pico).to_string(), shown);
            assert_eq!(PicoUsd::parse_usd(shown), Ok(PicoUsd::new(pico)));
        }
        assert_eq!(PicoUsd::parse_usd("2.50"), PicoUsd::parse_usd("2.5"));
    }

    #[test]
    fn one_amount_is_rounded_half_to_even() {
        for (pico, micro) in [
            (499_999, 0),
            (500_000, 0),
            (500_001, 1),
            (1_500_000, 2),
            (2_500_000, 2),
            (-500_000, 0),
            (-1_500_000, -2),
            (i128::MAX, i64::MAX),
            (i128::MIN, i64::MIN),
        ] {
            assert_eq!(PicoUsd::new(pico).to_micro_usd(), micro, "{pico}");
        }
    }

    #[test]
    fn a_record_holds_any_cost_of_one_call() {
        assert_eq!(PicoUsd::from_record(PicoUsd::new(-7).to_record()), PicoUsd::new(-7));
        assert_eq!(PicoUsd::new(i128::MAX).to_record(), i64::MAX);
        assert_eq!(PicoUsd::new(i128::MIN).to_record(), i64::MIN);
    }

    #[test]
    fn sums_stop_at_the_end_instead_of_wrapping() {
        let most = PicoUsd::new(i128::MAX);
        assert_eq!([most, PicoUsd::new(1)].into_iter().sum::<PicoUsd>(), most);
        assert_eq!(most.checked_add(PicoUsd::new(1)), None);
        assert_eq!(PicoUsdPerToken::new(u64::MAX).cost(u64::MAX), most);
    }

    #[test]
    fn a_counter_cannot_go_down() {
        let carry = MicroUsdCarry::new();
        assert_eq!(carry.add(PicoUsd::new(900_000)), 0);
        assert_eq!(carry.add(PicoUsd::new(-5_000_000)), 0);
        assert_eq!(carry.add(PicoUsd::new(100_000)), 1);
    }

    proptest! {
        #[test]
        fn text_and_amount_are_the_same_thing(pico in -(1_i128 << 90)..(1_i128 << 90)) {
            let amount = PicoUsd::new(pico);
            prop_assert_eq!(PicoUsd::parse_usd(&amount.to_string()), Ok(amount));
        }

        #[test]
        fn splitting_a_count_costs_the_same(rate in any::<u32>(), left in any::<u32>(), right in any::<u32>()) {
            let rate = PicoUsdPerToken::new(u64::from(rate));
            let whole = rate.cost(u64::from(left) + u64::from(right));
            prop_assert_eq!(whole, rate.cost(u64::from(left)) + rate.cost(u64::from(right)));
        }

        /// A million calls of a tenth of a micro-dollar are not free.
        #[test]
        fn what_a_counter_was_given_is_what_it_shows(amounts in prop::collection::vec(0_i128..5_000_000, 0..200)) {
            let carry = MicroUsdCarry::new();
            let shown: u64 = amounts.iter().map(|&pico| carry.add(PicoUsd::new(pico))).sum();
            prop_assert_eq!(i128::from(shown), amounts.iter().sum::<i128>() / 1_000_000);
        }

        #[test]
        fn rounding_one_amount_is_off_by_half_a_micro_dollar_at_most(pico in -(1_i128 << 60)..(1_i128 << 60)) {
            let micro = i128::from(PicoUsd::new(pico).to_micro_usd());
            prop_assert!((micro * 1_000_000 - pico).abs() <= 500_000);
        }
    }
}
