//! How fast a clock runs against the host's.

use std::fmt;

use elsewhen_vdso::transform::{RATE_ONE, RATE_SHIFT};

use super::grammar_error::{GrammarError, Quoted};

/// How fast a clock runs, from 1/1000 to 1000 times the host's pace.
///
/// It is the fixed-point number that the shared page holds, with 54 binary digits after the point; a decimal or a
/// fraction is rounded to the nearest one, once, when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate {
    mult: u64,
}

/// Digits that a decimal or a side of a fraction may have, so that its product with 2^54 stays in 128 bits.
const MOST_DIGITS: usize = 20;

impl Rate {
    /// The host's own pace.
    pub const ONE: Self = Self { mult: RATE_ONE };

    /// The slowest rate, 1/1000.
    pub const MIN: Self = Self { mult: (RATE_ONE + 500) / 1000 };

    /// The fastest rate, 1000.
    pub const MAX: Self = Self { mult: RATE_ONE * 1000 };

    /// Reads a decimal (`10`, `0.5`, `1e-3`) or a fraction of two whole numbers (`1/3`).
    ///
    /// ```
    /// use elsewhen::spec::Rate;
    ///
    /// assert_eq!(Rate::parse("0.5")?.mult(), 1 << 53);
    /// assert_eq!(Rate::parse("2/4")?, Rate::parse("5e-1")?);
    /// # Ok::<(), elsewhen::spec::GrammarError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the text is neither, when it has more than 20 significant digits, or when the rate is not from 1/1000
    /// to 1000. Zero is such a rate: a clock is stopped by freezing it.
    pub fn parse(text: &str) -> Result<Self, GrammarError> {
        let typed = Quoted(text);
        let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace());
        let lower = trimmed.to_ascii_lowercase();
        let unsigned = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
        if matches!(lower.trim_start_matches(['+', '-']), "nan" | "inf" | "infinity") {
            return Err(out_of_range(&typed));
        }
        let (value, over) = match unsigned.split_once('/') {
            Some((value, over)) => (whole(value).map(|n| (n, 0)), whole(over)),
            None => (decimal(unsigned), Some(1)),
        };
        let (Some((digits, exponent)), Some(over)) = (value, over) else {
            return Err(GrammarError::new(format!(
                "rate {typed}: expected a number of at most {MOST_DIGITS} digits, such as 10, 0.5 or 1/3"
            )));
        };
        if trimmed.starts_with('-') {
            return Err(out_of_range(&typed));
        }
        round_to_mult(digits, exponent, over).and_then(Self::from_mult).ok_or_else(|| out_of_range(&typed))
    }

    /// The rate nearest to a floating-point number.
    ///
    /// # Errors
    ///
    /// When the number is not from 1/1000 to 1000, so also when it is not a number.
    pub fn from_f64(rate: f64) -> Result<Self, GrammarError> {
        // Scaling by a power of two is exact, and a float beyond the target's range saturates, NaN to 0.
        let mult = (rate * RATE_ONE as f64).round() as u64;
        Self::from_mult(mult).ok_or_else(|| out_of_range(&rate))
    }

    /// The floating-point number nearest to this rate.
    pub fn as_f64(self) -> f64 {
        self.mult as f64 / RATE_ONE as f64
    }

    /// The rate in units of 2^-54, as the shared page holds it.
    pub const fn mult(self) -> u64 {
        self.mult
    }

    pub(crate) fn from_mult(mult: u64) -> Option<Self> {
        Some(Self { mult }).filter(|rate| (Self::MIN..=Self::MAX).contains(rate))
    }
}

impl Default for Rate {
    fn default() -> Self {
        Self::ONE
    }
}

/// The shortest decimal that [`Rate::parse`] reads as the same rate; with a precision, that many decimals.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.precision().is_some() {
            return fmt::Display::fmt(&self.as_f64(), f);
        }
        // 17 decimals are finer than 2^-54, so the last round always reads back.
        for decimals in 0..=17_u32 {
            let power = 10_u128.pow(decimals);
            let scaled = (u128::from(self.mult) * power + u128::from(RATE_ONE / 2)) >> RATE_SHIFT;
            if round_to_mult(scaled, -i64::from(decimals), 1) == Some(self.mult) {
                let (whole, fraction) = (scaled / power, scaled % power);
                return match decimals {
                    0 => f.pad(&whole.to_string()),
                    _ => f.pad(&format!("{whole}.{fraction:0width$}", width = decimals as usize)),
                };
            }
        }
        fmt::Display::fmt(&self.as_f64(), f)
    }
}

impl std::str::FromStr for Rate {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        Self::parse(text)
    }
}

fn out_of_range(typed: &dyn fmt::Display) -> GrammarError {
    GrammarError::new(format!("rate {typed}: expected 1/1000 to 1000; use --freeze to stop a clock"))
}

/// `digits * 10^exponent / over` in units of 2^-54, rounded to nearest, where that is at most 1000 and defined.
/// `digits` has at most 20 digits.
fn round_to_mult(digits: u128, exponent: i64, over: u128) -> Option<u64> {
    if digits == 0 || over == 0 {
        return None;
    }
    let power = 10_u128.checked_pow(u32::try_from(exponent.unsigned_abs()).ok()?)?;
    let (numerator, denominator) =
        if exponent < 0 { (digits, over.checked_mul(power)?) } else { (digits.checked_mul(power)?, over) };
    if numerator / 1000 > denominator {
        return None;
    }
    let scaled = numerator.checked_mul(u128::from(RATE_ONE))?;
    u64::try_from(scaled.checked_add(denominator / 2)? / denominator).ok()
}

/// A whole number of at most 20 digits.
fn whole(text: &str) -> Option<u128> {
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace());
    (!text.is_empty() && text.len() <= MOST_DIGITS && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())?
}

/// `1.5e-3` as digits and a power of ten: (15, -4).
fn decimal(text: &str) -> Option<(u128, i64)> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i16>().ok()?),
        None => (text, 0),
    };
    let (units, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if units.is_empty() && fraction.is_empty() {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let digits = [units, fraction].concat();
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_start_matches('0');
    let value = if significant.is_empty() { 0 } else { whole(significant)? };
    Some((value, i64::from(exponent) - i64::try_from(fraction.len()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_people_type() {
        for (text, expected) in [
            ("1", RATE_ONE),
            ("+1", RATE_ONE),
            ("10", 10 * RATE_ONE),
            ("0.5", RATE_ONE / 2),
            (".5", RATE_ONE / 2),
            ("2.", 2 * RATE_ONE),
            ("2.50000000000000000000000000", RATE_ONE / 2 * 5),
            ("5e-1", RATE_ONE / 2),
            ("1E3", 1000 * RATE_ONE),
            ("1e+2", 100 * RATE_ONE),
            ("1e-3", 18_014_398_509_482),
            ("0.001", 18_014_398_509_482),
            ("1/1000", 18_014_398_509_482),
            ("1/3", 6_004_799_503_160_661),
            (" 3 / 2 ", RATE_ONE / 2 * 3),
            ("1000", 1000 * RATE_ONE),
        ] {
            assert_eq!(Rate::parse(text).map(Rate::mult), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_clock_that_would_stop_is_pointed_to_freeze() {
        for text in [
            "0",
            "-1",
            "-0.5",
            "-1/2",
            "NaN",
            "inf",
            "-Infinity",
            "0.0009",
            "1000.1",
            "1/1001",
            "1/0",
            "0/1",
            "1e-400",
            "1e400",
            "99999999999999999999",
            "1e-32768",
        ] {
            let error = Rate::parse(text).unwrap_err().to_string();
            assert!(error.contains("--freeze") && error.contains("1/1000 to 1000"), "{text}: {error}");
        }
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1000.1, 0.0009] {
            assert!(Rate::from_f64(rate).is_err(), "{rate}");
        }
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        for text in
            ["", "x2", "2x", "fast", "1/2/3", "1.5/2", "0,5", "--1", "1e", "e1", ".", "1 2", "0.123456789012345678901"]
        {
            let error = Rate::parse(text).unwrap_err().to_string();
            assert!(error.contains("expected a number"), "{text}: {error}");
        }
    }

    #[test]
    fn display_is_short() {
        for text in ["1", "10", "0.5", "0.1", "0.001", "1000", "2.5", "999.999", "0.3333333333333333"] {
            assert_eq!(Rate::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(format!("{:.2}", Rate::parse("1/3").unwrap()), "0.33");
        assert_eq!(format!("{:>5}", Rate::ONE), "    1");
        assert_eq!((Rate::MIN, Rate::MAX), (Rate::parse("1/1000").unwrap(), Rate::parse("1000").unwrap()));
    }

    proptest! {
        #[test]
        fn a_written_rate_reads_back(mult in Rate::MIN.mult..=Rate::MAX.mult) {
            let rate = Rate { mult };
            prop_assert_eq!(Rate::parse(&rate.to_string()), Ok(rate));
            let again = Rate::from_f64(rate.as_f64()).unwrap();
            // A float has 53 digits, a rate up to 64.
            prop_assert!(again.mult.abs_diff(mult) <= 1 << 10);
        }

        #[test]
        fn a_float_and_its_text_agree(rate in 0.001..1000.0_f64) {
            let text = Rate::parse(&rate.to_string()).unwrap();
            prop_assert!(text.mult.abs_diff(Rate::from_f64(rate).unwrap().mult) <= 1 << 10);
        }

        #[test]
        fn no_text_panics(text in any::<String>(), near in "[-+]?[0-9]{0,25}[./]?[0-9]{0,25}([eE][-+]?[0-9]{1,6})?") {
            for text in [text, near] {
                if let Err(error) = Rate::parse(&text) {
                    prop_assert!(!error.to_string().contains('\n'));
                }
            }
        }
    }
}
