//! Durations as people type them: `90`, `-1.5h`, `+2h45m`, `10d`, `PT1H30M`.
//!
//! Arithmetic is exact and in integers; a text that does not stand for a whole number of nanoseconds is refused.

use super::grammar_error::{GrammarError, Quoted};

const NS: i128 = 1;
const US: i128 = 1_000;
const MS: i128 = 1_000_000;
/// Nanoseconds in a second.
pub(super) const SECOND: i128 = 1_000_000_000;
/// Nanoseconds in a minute.
pub(super) const MINUTE: i128 = 60 * SECOND;
/// Nanoseconds in an hour.
pub(super) const HOUR: i128 = 60 * MINUTE;
/// Nanoseconds in a day of 24 hours.
pub(super) const DAY: i128 = 24 * HOUR;
const WEEK: i128 = 7 * DAY;
/// Nanoseconds in a year of 365 days, the year of `faketime`.
pub(super) const YEAR: i128 = 365 * DAY;

/// Every unit: its length in nanoseconds, and the names it goes by, the shortest first.
const UNITS: [(i128, &[&str]); 9] = [
    (NS, &["ns", "nsec", "nsecs", "nanosecond", "nanoseconds"]),
    // The micro sign and the Greek letter look the same and are both typed.
    (US, &["us", "\u{b5}s", "\u{3bc}s", "usec", "usecs", "microsecond", "microseconds"]),
    (MS, &["ms", "msec", "msecs", "millisecond", "milliseconds"]),
    (SECOND, &["s", "sec", "secs", "second", "seconds"]),
    (MINUTE, &["m", "min", "mins", "minute", "minutes"]),
    (HOUR, &["h", "hr", "hrs", "hour", "hours"]),
    (DAY, &["d", "day", "days"]),
    (WEEK, &["w", "wk", "wks", "week", "weeks"]),
    (YEAR, &["y", "yr", "yrs", "year", "years"]),
];

/// Reads a signed duration and gives it in nanoseconds.
///
/// - A number alone is in seconds: `90`, `-0.5`.
/// - Otherwise each number has a unit: `ns`, `us` or `µs`, `ms`, `s`, `m`, `h`, `d`, `w`, `y`, or a longer name
///   such as `min`, `sec`, `hours`. A day has 24 hours and a year 365 days. Parts come in any order, each unit at
///   most once, with or without spaces: `2h45m`, `1 day 30 min`.
/// - ISO 8601 durations of weeks, days, hours, minutes and seconds: `PT1H30M`, `-P3D`.
///
/// The one sign stands at the front and is for the whole. The decimal point is `.` whatever the locale. A fraction
/// may go down to one nanosecond; a finer one is refused, not rounded.
///
/// ```
/// use elsewhen::spec::parse_duration;
///
/// assert_eq!(parse_duration("-1.5h")?, -5_400_000_000_000);
/// assert_eq!(parse_duration("2h45m")?, parse_duration("PT2H45M")?);
/// # Ok::<(), elsewhen::spec::GrammarError>(())
/// ```
///
/// # Errors
///
/// When the text is not such a duration, or is beyond the range of signed 64-bit nanoseconds, about 292 years
/// either way.
pub fn parse_duration(text: &str) -> Result<i64, GrammarError> {
    let refuse = |why: &str| {
        GrammarError::new(format!("duration {}: {why}: expected one such as 90, -1.5h, 2h45m or 10d", Quoted(text)))
    };
    let trimmed = trim(text);
    let (negative, body) = match trimmed.strip_prefix(['+', '-']) {
        Some(rest) => (trimmed.starts_with('-'), trim(rest)),
        None => (false, trimmed),
    };
    if body.is_empty() {
        return Err(refuse("it has no number"));
    }
    let total = match body.strip_prefix(['P', 'p']) {
        Some(rest) => iso_total(rest),
        None => unit_total(body),
    };
    let magnitude = total.map_err(|why| refuse(&why))?;
    in_range(if negative { -magnitude } else { magnitude }).ok_or_else(|| refuse(OUT_OF_RANGE))
}

/// Writes a duration so that [`parse_duration`] gives the same number of nanoseconds back.
///
/// Whole days, hours and minutes come first, then seconds with as many decimals as they need: `-1d2h0.5s`. Zero
/// is `0s`.
pub fn format_duration(duration_ns: i64) -> String {
    let mut out = String::from(if duration_ns < 0 { "-" } else { "" });
    let mut rest = i128::from(duration_ns).abs();
    for (unit, name) in [(DAY, "d"), (HOUR, "h"), (MINUTE, "m")] {
        if rest >= unit {
            out += &format!("{}{name}", rest / unit);
            rest %= unit;
        }
    }
    if rest > 0 || duration_ns == 0 {
        out += &(rest / SECOND).to_string();
        if rest % SECOND != 0 {
            out += format!(".{:09}", rest % SECOND).trim_end_matches('0');
        }
        out += "s";
    }
    out
}

pub(super) const OUT_OF_RANGE: &str =
    "out of range, which is 9223372036.854775807 seconds (about 292 years) either way";

/// A signed number of nanoseconds as 64 bits, where it fits.
pub(super) fn in_range(total_ns: i128) -> Option<i64> {
    i64::try_from(total_ns).ok()
}

fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_ascii_whitespace())
}

/// The sum of `2h45m`, `1 day 30 min`, or of a number alone, which is in seconds.
fn unit_total(body: &str) -> Result<i128, String> {
    let mut rest = body;
    let mut seen = [false; UNITS.len()];
    let mut total = 0;
    while !rest.is_empty() {
        let (number, after) = take_number(rest)?;
        let after = trim(after);
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (name, next) = after.split_at(end);
        if name.is_empty() && next.is_empty() && rest.len() == body.len() {
            return scale(number, SECOND);
        }
        let (index, unit) = find_unit(number, name)?;
        if std::mem::replace(&mut seen[index], true) {
            return Err(format!("the unit {name} comes twice"));
        }
        total += scale(number, unit)?;
        rest = trim(next);
    }
    Ok(total)
}

fn find_unit(number: &str, name: &str) -> Result<(usize, i128), String> {
    let found = UNITS.iter().position(|(_, names)| names.contains(&name));
    match (found, name) {
        (Some(index), _) => Ok((index, UNITS[index].0)),
        (None, "") => Err(format!("the number {number} has no unit")),
        (None, "mo" | "mon" | "month" | "months" | "M") => {
            Err("months differ in length (write days, such as 30d)".to_owned())
        }
        (None, _) => Err(format!("unknown unit {} (units are ns, us, ms, s, m, h, d, w and y)", Quoted(name))),
    }
}

/// The sum of what follows the `P` of an ISO 8601 duration.
fn iso_total(body: &str) -> Result<i128, String> {
    /// Designators in the order that the standard prescribes; the ones from the third on come after the `T`.
    const DESIGNATORS: [(char, i128); 5] = [('W', WEEK), ('D', DAY), ('H', HOUR), ('M', MINUTE), ('S', SECOND)];
    const FIRST_OF_TIME: usize = 2;
    let mut rest = body;
    let mut in_time = false;
    let mut least = 0;
    let mut parts = 0;
    let mut total = 0;
    while !rest.is_empty() {
        if let Some(time) = rest.strip_prefix(['T', 't'])
            && !in_time
            && !time.is_empty()
        {
            in_time = true;
            least = FIRST_OF_TIME;
            rest = time;
        }
        let (number, after) = take_number(rest)?;
        let mut letters = after.chars();
        let letter = letters.next().map(|c| c.to_ascii_uppercase());
        if matches!(letter, Some('Y')) || (matches!(letter, Some('M')) && !in_time) {
            return Err("ISO 8601 years and months differ in length (write weeks or days, such as P30D)".to_owned());
        }
        let found = DESIGNATORS.iter().position(|(designator, _)| Some(*designator) == letter);
        let Some(index) = found.filter(|index| *index >= least && (*index >= FIRST_OF_TIME) == in_time) else {
            return Err("not an ISO 8601 duration such as P1DT2H30M".to_owned());
        };
        total += scale(number, DESIGNATORS[index].1)?;
        least = index + 1;
        parts += 1;
        rest = letters.as_str();
    }
    if parts == 0 { Err("not an ISO 8601 duration such as P1DT2H30M".to_owned()) } else { Ok(total) }
}

/// Splits the digits, with at most one decimal point, from the front of a text.
fn take_number(text: &str) -> Result<(&str, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    if rest.starts_with(',') && rest[1..].starts_with(|c: char| c.is_ascii_digit()) {
        return Err("the decimal point is \".\" in every locale, not \",\"".to_owned());
    }
    if number.is_empty() {
        return Err(match rest.chars().next() {
            Some('+' | '-') => "there is one sign, and it stands at the front".to_owned(),
            _ => format!("{} is not a number", Quoted(rest)),
        });
    }
    Ok((number, rest))
}

/// `number` units as nanoseconds: exact, or an error. The number is unsigned digits with at most one point.
pub(super) fn scale(number: &str, unit_ns: i128) -> Result<i128, String> {
    /// Digits that any factor below can have while products stay in 128 bits: a year has 17 digits.
    const MOST_DIGITS: usize = 19;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || !(whole.bytes().chain(fraction.bytes())).all(|b| b.is_ascii_digit()) {
        return Err(format!("{} is not a number", Quoted(number)));
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    if whole.len() > MOST_DIGITS {
        return Err(OUT_OF_RANGE.to_owned());
    }
    // No unit is a multiple of 2^17 or 5^17 nanoseconds, so a longer fraction never is a whole number of them.
    if fraction.len() > MOST_DIGITS {
        return Err(too_fine(number));
    }
    let digits = |text: &str| text.bytes().fold(0_i128, |value, digit| value * 10 + i128::from(digit - b'0'));
    let scaled = digits(fraction) * unit_ns;
    let divisor = (0..fraction.len()).fold(1_i128, |power, _| power * 10);
    if scaled % divisor != 0 {
        return Err(too_fine(number));
    }
    Ok(digits(whole) * unit_ns + scaled / divisor)
}

fn too_fine(number: &str) -> String {
    format!("{} of that unit is not a whole number of nanoseconds", Quoted(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEC: i64 = 1_000_000_000;

    #[test]
    fn what_people_type() {
        for (text, expected_ns) in [
            ("90", 90 * SEC),
            ("0", 0),
            ("-0", 0),
            ("+5", 5 * SEC),
            ("-1.5h", -5400 * SEC),
            ("+2h45m", 9900 * SEC),
            ("45m2h", 9900 * SEC),
            ("10d", 864_000 * SEC),
            ("2w", 1_209_600 * SEC),
            ("1y", 31_536_000 * SEC),
            ("300ms", 300_000_000),
            ("5us", 5_000),
            ("5µs", 5_000),
            ("5μs", 5_000),
            ("1.5us", 1_500),
            ("7ns", 7),
            (".5s", 500_000_000),
            ("5.s", 5 * SEC),
            ("0.000000001", 1),
            ("0.00000000100000000000000", 1),
            ("00000000000000000000000000000001s", SEC),
            (" - 1 day 2 hours 3min 4 sec ", -(93_784 * SEC)),
            ("-10m100ns", -(600 * SEC + 100)),
            ("1min1ms", 60 * SEC + 1_000_000),
            ("PT1H30M", 5400 * SEC),
            ("P3D", 259_200 * SEC),
            ("-P1W", -604_800 * SEC),
            ("+P1DT2H30.5S", 93_630 * SEC + 500_000_000),
            ("pt0.5s", 500_000_000),
            ("-9223372036.854775808", i64::MIN),
            ("9223372036854775807ns", i64::MAX),
        ] {
            assert_eq!(parse_duration(text), Ok(expected_ns), "{text}");
        }
    }

    #[test]
    fn what_is_refused_says_why() {
        for (text, part) in [
            ("", "no number"),
            ("  ", "no number"),
            ("-", "no number"),
            ("--5s", "one sign"),
            ("+-5s", "one sign"),
            ("1h-30m", "one sign"),
            ("1,5h", "the decimal point is \".\""),
            ("PT1,5H", "the decimal point is \".\""),
            ("5 parsecs", "unknown unit \"parsecs\""),
            ("10D", "unknown unit \"D\""),
            ("2h45", "45 has no unit"),
            ("1 2", "1 has no unit"),
            ("1h1h", "comes twice"),
            ("1h 1 hour", "comes twice"),
            ("2 months", "months differ"),
            ("1.2.3s", "is not a number"),
            (".", "is not a number"),
            (".s", "is not a number"),
            ("h", "is not a number"),
            ("tomorrow", "is not a number"),
            ("0.1ns", "not a whole number of nanoseconds"),
            ("1.0000000001", "not a whole number of nanoseconds"),
            ("P1Y", "differ in length"),
            ("P1M", "differ in length"),
            ("P", "ISO 8601"),
            ("PT", "is not a number"),
            ("P1H", "ISO 8601"),
            ("PT1D", "ISO 8601"),
            ("PT1M1H", "ISO 8601"),
            ("P1D2W", "ISO 8601"),
            ("PT1HT1M", "is not a number"),
            ("9223372036.854775808", "about 292 years"),
            ("-9223372036.854775809", "about 292 years"),
            ("293y", "about 292 years"),
            ("99999999999999999999999999999999999999999999y", "about 292 years"),
        ] {
            let error = parse_duration(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(error.contains("expected one such as") && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn written_durations_are_short() {
        for (duration_ns, text) in [
            (0, "0s"),
            (-1, "-0.000000001s"),
            (9900 * SEC, "2h45m"),
            (-(93_600 * SEC + SEC / 2), "-1d2h0.5s"),
            (i64::MIN, "-106751d23h47m16.854775808s"),
        ] {
            assert_eq!(format_duration(duration_ns), text);
        }
    }

    proptest! {
        #[test]
        fn a_written_duration_reads_back(duration_ns: i64) {
            prop_assert_eq!(parse_duration(&format_duration(duration_ns)), Ok(duration_ns));
            prop_assert_eq!(parse_duration(&format!("{duration_ns}ns")), Ok(duration_ns));
        }

        #[test]
        fn parts_add_up_in_any_order(h in 0..1000_i64, m in 0..1000_i64, ms in 0..1000_i64, swap: bool) {
            let text = if swap { format!("{ms}ms {m}m{h}h") } else { format!("{h}h{m}min{ms}ms") };
            prop_assert_eq!(parse_duration(&text), Ok((h * 3600 + m * 60) * SEC + ms * 1_000_000));
        }

        #[test]
        fn no_text_panics(text in any::<String>(), near in "[-+]?[PTpt]{0,2}([0-9]{0,40}[.,]?[0-9]{0,40} ?[a-zA-Zµ]{0,4}){0,4}") {
            for text in [text, near] {
                if let Err(error) = parse_duration(&text) {
                    prop_assert!(!error.to_string().contains('\n'));
                }
            }
        }
    }
}
