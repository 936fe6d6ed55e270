//! The one spelling of a JSON number: an exact decimal.
//!
//! `1`, `1.0`, `10e-1` are one; 9007199254740993 and …992 are two, as are `0` and `-0` (some
//! upstream may tell them apart, and a miss costs less than a wrong answer).
//! The form is sign, digits without zeros at either end, and `e` with the exponent
//! unless that is 0: never longer than the lexeme by more than the exponent.

use std::io::Write as _;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadNumber {
    /// Not a number of RFC 8259.
    Grammar,
    /// An exponent beyond [`EXPONENT_MAX`] either way.
    Exponent,
}

/// Far beyond any number a service computes with, and far from overflow of the arithmetic below.
const EXPONENT_MAX: i64 = 1_000_000_000;

/// Appends the canonical spelling of `lexeme`.
pub(crate) fn write(lexeme: &[u8], out: &mut Vec<u8>) -> Result<(), BadNumber> {
    let (negative, rest) = match lexeme {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let (integer, rest) = digits(rest);
    let leading_zero = matches!(integer, [b'0', _, ..]);
    if integer.is_empty() || leading_zero {
        return Err(BadNumber::Grammar);
    }
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => match digits(rest) {
            ([], _) => return Err(BadNumber::Grammar),
            split => split,
        },
        rest => (&[][..], rest),
    };
    let exponent = match rest {
        [] => 0,
        [b'e' | b'E', rest @ ..] => exponent(rest)?,
        _ => return Err(BadNumber::Grammar),
    };

    if negative {
        out.push(b'-');
    }
    let start = out.len();
    let significant = integer.iter().chain(fraction).skip_while(|digit| **digit == b'0');
    out.extend(significant);
    if out.len() == start {
        out.push(b'0');
        return Ok(());
    }
    let mut trailing = 0;
    while out.last() == Some(&b'0') {
        out.pop();
        trailing += 1;
    }
    let exponent = exponent + trailing - i64::try_from(fraction.len()).unwrap_or(i64::MAX / 2);
    if exponent != 0 && write!(out, "e{exponent}").is_err() {
        debug_assert!(false, "writing to a Vec cannot fail");
    }
    Ok(())
}

fn digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    let len = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
    bytes.split_at_checked(len).unwrap_or((bytes, &[]))
}

fn exponent(bytes: &[u8]) -> Result<i64, BadNumber> {
    let (negative, rest) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let (digits, rest) = digits(rest);
    if digits.is_empty() || !rest.is_empty() {
        return Err(BadNumber::Grammar);
    }
    let mut value = 0_i64;
    for digit in digits {
        value = value * 10 + i64::from(digit - b'0');
        if value > EXPONENT_MAX {
            return Err(BadNumber::Exponent);
        }
    }
    Ok(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lexeme: &str, expected: Result<&str, BadNumber>) {
        let mut out = Vec::new();
        let written = write(lexeme.as_bytes(), &mut out);
        assert_eq!(
            written.map(|()| String::from_utf8(out).unwrap()).as_deref(),
            expected.as_ref().map(|s| *s),
            "{lexeme}"
        );
    }

    #[test]
    fn equal_numbers_have_one_spelling() {
        for lexeme in ["1", "1.0", "1e0", "1E+0", "10e-1", "0.1e1", "1.000"] {
            check(lexeme, Ok("1"));
        }
        for lexeme in ["1000", "1e3", "1000.0", "0.001e6"] {
            check(lexeme, Ok("1e3"));
        }
        for lexeme in ["0", "0.0", "0e5", "0.000e-9"] {
            check(lexeme, Ok("0"));
        }
        check("-0.70", Ok("-7e-1"));
        check("-0", Ok("-0"));
    }

    #[test]
    fn integers_beyond_doubles_stay_apart() {
        check("9007199254740993", Ok("9007199254740993"));
        check("9007199254740992", Ok("9007199254740992"));
        check("0.1000000000000000055511151231257827", Ok("1000000000000000055511151231257827e-34"));
    }

    #[test]
    fn what_rfc_8259_does_not_allow_is_refused() {
        for lexeme in ["", "-", "01", "1.", ".5", "+1", "1e", "1e+", "1.0.0", "1-1", "--1", "1e1e1"]
        {
            check(lexeme, Err(BadNumber::Grammar));
        }
        check("1e1000000001", Err(BadNumber::Exponent));
        check("1e-99999999999999999999999", Err(BadNumber::Exponent));
    }
}
