//! Money in whole pico-dollars, so that no sum ever rounds.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul, Sub};

/// An amount of US dollars in units of 10⁻¹² dollar. One token at $0.05 per million costs 50,000 of them, so every
/// published price is a whole number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Money(i128);

const PICOS_PER_DOLLAR: i128 = 1_000_000_000_000;

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// An amount in pico-dollars.
    pub const fn from_picos(picos: i128) -> Self {
        Self(picos)
    }

    /// The amount in pico-dollars.
    pub const fn picos(self) -> i128 {
        self.0
    }

    /// Reads a decimal number of dollars (`"0.00000015"`, `"3"`, `"1.5e-07"`) exactly; digits below a pico-dollar are
    /// rounded half up. `None` when it is not a number or too large to be an amount of money.
    pub fn from_dollars(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, mantissa) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || digits.len() > 30 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let value: i128 = digits.parse().ok()?;
        let shift = exponent.checked_add(12)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        let picos = if shift >= 0 {
            value.checked_mul(10i128.checked_pow(shift.try_into().ok()?)?)?
        } else {
            let divisor = 10i128.checked_pow(shift.unsigned_abs())?;
            (value + divisor / 2) / divisor
        };
        Some(Self(if negative { -picos } else { picos }))
    }

    /// The amount as a plain decimal number of dollars with no trailing zeros: `0.00000015`, `3`, `0`.
    pub fn to_dollars(self) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, fraction) =
            (self.0.unsigned_abs() / PICOS_PER_DOLLAR as u128, self.0.unsigned_abs() % PICOS_PER_DOLLAR as u128);
        if fraction == 0 {
            return format!("{sign}{whole}");
        }
        let fraction = format!("{fraction:012}");
        format!("{sign}{whole}.{}", fraction.trim_end_matches('0'))
    }
}

impl Add for Money {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Money {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Mul<u64> for Money {
    type Output = Self;
    fn mul(self, count: u64) -> Self {
        Self(self.0.saturating_mul(i128::from(count)))
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_dollars())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form_that_price_lists_use() {
        for (text, picos) in [
            ("0.00000015", 150_000),
            ("1.5e-07", 150_000),
            ("3", 3_000_000_000_000),
            ("0", 0),
            ("-1", -1_000_000_000_000),
            ("7.5E-8", 75_000),
            ("1e-13", 0),
            ("5e-13", 1),
        ] {
            assert_eq!(Money::from_dollars(text), Some(Money::from_picos(picos)), "{text}");
        }
        for bad in [
            "",
            ".",
            "abc",
            "1.2.3",
            "1e99",
            "--1",
            "NaN",
            "1e2147483647",
            "1e-2147483648",
            "1.5e-2147483648",
            "0e-2147483648",
            "0.1e-2147483648",
        ] {
            assert_eq!(Money::from_dollars(bad), None, "{bad}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for text in ["0.00000015", "3", "0", "-1", "12.34", "0.000000000001"] {
            assert_eq!(Money::from_dollars(text).map(Money::to_dollars).as_deref(), Some(text));
        }
    }
}
