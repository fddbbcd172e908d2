//! The specifications that `faketime(1)` and the `FAKETIME` variable of libfaketime take.
//!
//! What this follows is what faketime 0.9.10 does, not only what it documents. Without `-f` the command hands the
//! whole text to GNU `date` and lets the clock tick from there. With `-f`, libfaketime reads it: an offset or a date
//! after `@` ticks, a date alone is frozen. Where libfaketime takes a part of the text and drops the rest in silence
//! (`+1h30m` is a minute to it, `@2020-12-24 20:30:00 UTC` is local), the text is refused here, or, if it names a
//! zone, taken at its word.

use std::io;
use std::process::{Command, Stdio};

use jiff::Timestamp;

use super::date::{self, parse_date};
use super::duration::{self, DAY, HOUR, MINUTE, SECOND, YEAR, parse_duration};
use super::grammar_error::{GrammarError, Quoted};
use super::rate::Rate;

/// What a specification of `faketime` asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FaketimeSpec {
    /// Where the clock starts.
    pub date: FakeDate,
    /// How fast it runs from there, where the text says so. Never with [`FakeDate::Frozen`].
    pub rate: Option<Rate>,
}

/// Where a clock of `faketime` starts, and whether it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FakeDate {
    /// The host's time at the start.
    Now,
    /// The host's time, moved.
    Offset {
        /// How far, in nanoseconds; negative is into the past.
        ns: i64,
    },
    /// This instant at the start; the clock runs.
    StartAt(Timestamp),
    /// This instant; the clock stands still.
    Frozen(Timestamp),
}

/// Reads a specification of `faketime`: with `advanced` that of its `-f` and of `FAKETIME`, without it that of
/// the plain command.
///
/// Both take:
/// - an offset, a number of seconds or of `s`, `m`, `h`, `d` or `y` (365 days) after a sign: `-15d`, `+2,5y`;
/// - `@` and a date to start from: `@2020-12-24 20:30:00`, or any other that [`parse_date`] takes;
/// - after either, a rate: `+2d x10`, `@2000-01-01 11:12:13 x0,5`; a rate alone starts at the host's time, as `now`
///   does.
///
/// The decimal point of numbers is `.` or `,`, the same whatever the locale.
///
/// Any other text is, with `advanced`, a date at which the clock is frozen. Without it, it is for GNU `date -d`
/// (`last friday 5 pm`, `2020-12-24 20:30:00`), which is run for that, and the clock starts there and runs. Only what
/// [`parse_date`] takes is understood where `date` is not there.
///
/// ```
/// use elsewhen::spec::{FakeDate, Rate, parse_faketime};
///
/// let spec = parse_faketime("+90m x2", true)?;
/// assert_eq!(spec.date, FakeDate::Offset { ns: 5_400_000_000_000 });
/// assert_eq!(spec.rate, Some(Rate::parse("2")?));
/// # Ok::<(), elsewhen::spec::GrammarError>(())
/// ```
///
/// # Errors
///
/// When the text is none of these or out of range, when it is a form that needs what a namespace does not do (a step
/// at each call, `i2.0`; the date of a file, `%`), and when `date` is needed and refuses it.
pub fn parse_faketime(spec: &str, advanced: bool) -> Result<FaketimeSpec, GrammarError> {
    let text = trim(spec);
    refuse_unsupported(text)?;
    let (start, rate) = split_rate(text);
    let rate = rate.map(|rate| Rate::parse(&rate.replacen(',', ".", 1))).transpose()?;
    let date = match start.chars().next() {
        None if rate.is_none() => return Err(refusal(spec, "it is empty: expected one such as -15d")),
        None => FakeDate::Now,
        Some(_) if start.eq_ignore_ascii_case("now") => FakeDate::Now,
        Some('@') => FakeDate::StartAt(start_date(start)?),
        Some('+' | '-') => match offset(start) {
            Ok(ns) => FakeDate::Offset { ns },
            // `+2 hours` and `-1 week` are for GNU date; it refuses every text that is an offset here.
            Err(_) if !advanced && rate.is_none() => FakeDate::StartAt(words(text)?),
            Err(error) => return Err(error),
        },
        Some(_) if !advanced => FakeDate::StartAt(words(text)?),
        Some(_) if rate.is_none() => FakeDate::Frozen(parse_date(&padded(start))?),
        Some(_) => return Err(refusal(spec, "a date alone freezes the clock, so it has no rate (\"@\" starts it)")),
    };
    Ok(FaketimeSpec { date, rate })
}

fn refusal(spec: &str, why: &str) -> GrammarError {
    GrammarError::new(format!("faketime {}: {why}", Quoted(spec)))
}

fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_ascii_whitespace())
}

/// Refuses what a shared page cannot hold: a clock that depends on its readers, and one that follows a file.
fn refuse_unsupported(text: &str) -> Result<(), GrammarError> {
    let step = |index: usize| {
        let before = text[..index].chars().next_back();
        !before.is_some_and(char::is_alphabetic) && trim(&text[index + 1..]).starts_with(is_numeric)
    };
    if text.starts_with('%') {
        let why = "the form % (the date of a file) is not supported: start from it with @$(stat -c %Y FILE)";
        return Err(refusal(text, why));
    }
    if text.match_indices('i').any(|(index, _)| step(index)) {
        let why = "the form i (a step at each call) is not supported: the closest is a rate, such as x2 or --rate 2";
        return Err(refusal(text, why));
    }
    Ok(())
}

fn is_numeric(c: char) -> bool {
    c.is_ascii_digit() || ".,+-/eE".contains(c)
}

/// Splits the `x10` from the end of a text. It needs no space before it where the text is an offset.
fn split_rate(text: &str) -> (&str, Option<&str>) {
    if let Some((start, rate)) = text.rsplit_once('x')
        && trim(rate).chars().all(is_numeric)
        && (text.starts_with(['+', '-']) || !start.ends_with(|c: char| !c.is_ascii_whitespace()))
    {
        return (trim(start), Some(trim(rate)));
    }
    (text, None)
}

/// `-15d` in nanoseconds: a sign, a number, and at most one of the five letters of libfaketime.
fn offset(text: &str) -> Result<i64, GrammarError> {
    let dotted = text[1..].replacen(',', ".", 1);
    let body = trim(&dotted);
    let end = body.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(body.len());
    let unit = match trim(&body[end..]) {
        "" | "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        "d" => DAY,
        "y" => YEAR,
        _ => return Err(not_an_offset(text)),
    };
    let magnitude = duration::scale(&body[..end], unit).map_err(|why| refusal(text, &why))?;
    let total_ns = if text.starts_with('-') { -magnitude } else { magnitude };
    duration::in_range(total_ns).ok_or_else(|| refusal(text, duration::OUT_OF_RANGE))
}

/// Says how to write a duration that libfaketime would misread.
fn not_an_offset(text: &str) -> GrammarError {
    let why = "an offset is a sign, a number, and at most one of s, m, h, d and y";
    match parse_duration(text) {
        Ok(ns) if i128::from(ns) % SECOND == 0 => refusal(text, &format!("{why}: write {:+}", i128::from(ns) / SECOND)),
        _ => refusal(text, &format!("{why}: expected one such as -15d or +2,5y")),
    }
}

/// The date after an `@`: seconds since 1970, for which the `@` is part of the date, or any other.
fn start_date(text: &str) -> Result<Timestamp, GrammarError> {
    let rest = trim(&text[1..]);
    let unsigned = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    if unsigned.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return parse_date(&format!("@{rest}"));
    }
    parse_date(&padded(rest))
}

/// Gives the fields of a date and of a time of day their second digit: `strptime(3)` reads `2020-1-2 3:4:5`.
fn padded(date: &str) -> String {
    let mut out = String::new();
    for (index, word) in date.split_ascii_whitespace().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        let of_date = index < 2 && word.starts_with(|c: char| c.is_ascii_digit());
        for field in word.split_inclusive([':', '-']) {
            let digits = field.bytes().take_while(u8::is_ascii_digit).count();
            if of_date && digits == 1 {
                out.push('0');
            }
            out.push_str(field);
        }
    }
    out
}

fn words(text: &str) -> Result<Timestamp, GrammarError> {
    words_by("date", text)
}

/// Asks GNU `date`, or a program like it, for the instant that a text means in the local zone.
fn words_by(program: &str, text: &str) -> Result<Timestamp, GrammarError> {
    let mut date = Command::new(program);
    date.args(["-d", text, "+%s.%N"]).env("LC_ALL", "C").stdin(Stdio::null());
    let output = match date.output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return parse_date(text).map_err(|without| {
                refusal(
                    text,
                    &format!("the program date, which reads dates in words, is not in PATH; without it: {without}"),
                )
            });
        }
        Err(error) => return Err(refusal(text, &format!("run {program} -d to read the date: {error}"))),
    };
    let printed = String::from_utf8_lossy(&output.stdout);
    match epoch_ns(printed.trim()) {
        Some(total_ns) if output.status.success() => date::in_range(text, total_ns),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            let line = said.lines().chain(printed.lines()).next().unwrap_or("no answer");
            let why = format!("{program} -d does not read it ({}): expected one such as", Quoted(line));
            Err(refusal(text, &format!("{why} -15d, \"last friday 5 pm\" or \"2020-12-24 20:30:00\"")))
        }
    }
}

/// `seconds.nanoseconds` as `date` prints it. One that does not know `%N` prints something else after the point; then
/// the date is in whole seconds, as it is for faketime itself.
fn epoch_ns(printed: &str) -> Option<i128> {
    let (seconds, nanoseconds) = printed.split_once('.')?;
    let nanoseconds = Some(nanoseconds).filter(|text| text.len() == 9).and_then(|text| text.parse::<u32>().ok());
    Some(i128::from(seconds.parse::<i64>().ok()?) * SECOND + i128::from(nanoseconds.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEC: i64 = 1_000_000_000;

    fn at(text: &str) -> Timestamp {
        parse_date(text).unwrap()
    }

    fn rate(text: &str) -> Option<Rate> {
        Some(Rate::parse(text).unwrap())
    }

    fn moved(seconds: i64) -> FakeDate {
        FakeDate::Offset { ns: seconds * SEC }
    }

    #[test]
    fn what_means_the_same_with_and_without_f() {
        for (text, date, rate) in [
            ("-15d", moved(-1_296_000), None),
            ("+0", moved(0), None),
            ("+120", moved(120), None),
            ("-120s", moved(-120), None),
            ("+60m", moved(3600), None),
            ("+5 d", moved(432_000), None),
            ("+.5d", moved(43_200), None),
            ("-1,5h", moved(-5400), None),
            ("+2.5y", moved(78_840_000), None),
            ("+2,5y x0,5", moved(78_840_000), rate("0.5")),
            ("+2d x10", moved(172_800), rate("10")),
            ("+2dx10", moved(172_800), rate("10")),
            ("+2d  x 10,0", moved(172_800), rate("10")),
            ("@2020-12-24 20:30:00", FakeDate::StartAt(at("2020-12-24 20:30:00")), None),
            ("@2020-12-24 20:30:00 x2", FakeDate::StartAt(at("2020-12-24 20:30:00")), rate("2")),
            ("@2020-1-2 3:4:5", FakeDate::StartAt(at("2020-01-02 03:04:05")), None),
            ("@2020-12-24 20:30:00.5 UTC", FakeDate::StartAt(at("@1608841800.5")), None),
            ("@2020-12-24 20:30:00 America/Phoenix", FakeDate::StartAt(at("2020-12-24 20:30 -07:00")), None),
            ("@1608841800", FakeDate::StartAt(at("@1608841800")), None),
            ("@1608841800.5 x2", FakeDate::StartAt(at("@1608841800.5")), rate("2")),
            ("x10", FakeDate::Now, rate("10")),
            ("now", FakeDate::Now, None),
        ] {
            for advanced in [true, false] {
                assert_eq!(parse_faketime(text, advanced), Ok(FaketimeSpec { date, rate }), "{text} {advanced}");
            }
        }
    }

    #[test]
    fn a_date_alone_is_frozen_with_f_and_runs_without() {
        for text in ["2020-12-24 20:30:00", "2020-12-24 20:30:00.5", "2020-12-24 20:30:00 UTC"] {
            let frozen = FaketimeSpec { date: FakeDate::Frozen(at(text)), rate: None };
            let runs = FaketimeSpec { date: FakeDate::StartAt(at(text)), rate: None };
            assert_eq!(parse_faketime(text, true), Ok(frozen), "{text}");
            assert_eq!(parse_faketime(text, false), Ok(runs), "{text}");
        }
    }

    #[test]
    fn dates_in_words_go_to_date_without_f_only() {
        let now = Timestamp::now();
        for (text, away_sec) in [("+2 hours", 7200), ("-1 hour", -3600), ("90 seconds ago", -90)] {
            let FakeDate::StartAt(date) = parse_faketime(text, false).unwrap().date else { panic!("{text}") };
            let off_ns = (date.as_nanosecond() - now.as_nanosecond()) - i128::from(away_sec * SEC);
            assert!((0..i128::from(600 * SEC)).contains(&off_ns), "{text}: {off_ns}");
            assert!(parse_faketime(text, true).is_err(), "{text}");
        }
        assert_eq!(parse_faketime("Dec 24 2020 20:30 UTC", false).unwrap().date, FakeDate::StartAt(at("@1608841800")));
    }

    #[test]
    fn what_is_refused_with_f_says_why() {
        for (text, part) in [
            ("", "it is empty"),
            ("i2.0", "the form i (a step at each call)"),
            ("+2,5y i2,0", "the form i (a step at each call)"),
            ("+0 x2 i1", "the form i (a step at each call)"),
            ("%", "the form % (the date of a file)"),
            ("%+1d", "the form % (the date of a file)"),
            ("+1h30m", "write +5400"),
            ("-90 seconds", "write -90"),
            ("+2 hours", "write +7200"),
            ("+5w", "write +3024000"),
            ("+3 months", "expected one such as -15d"),
            ("--5d", "expected one such as -15d"),
            ("+2d x10 foo", "expected one such as -15d"),
            ("+", "is not a number"),
            ("+0,0000000001", "whole number of nanoseconds"),
            ("+9999y", "about 292 years"),
            ("+2d x0", "--freeze"),
            ("+2d x-1", "--freeze"),
            ("+2d x", "rate"),
            ("2020-12-24 20:30:00 x2", "a date alone freezes the clock"),
            ("2020-12-24 20:30:00 foo", "unknown time zone \"foo\""),
            ("last friday", "expected one such as 2038"),
            ("@last friday", "expected one such as 2038"),
            ("@1950-01-01 00:00:00", "out of range"),
        ] {
            let error = parse_faketime(text, true).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_refused_without_f_says_why() {
        for (text, part) in [
            ("", "it is empty"),
            ("i2.0", "the form i (a step at each call)"),
            ("%", "the form % (the date of a file)"),
            ("some\nday", "date -d does not read it"),
            ("+1h30 foo", "date -d does not read it"),
            ("2020-12-24 20:30:00 x2 foo", "date -d does not read it"),
            ("some\0day", "run date -d"),
            ("1950-01-01 UTC", "out of range"),
            ("+2w x2", "write +1209600"),
        ] {
            let error = parse_faketime(text, false).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn without_date_only_plain_dates_are_read() {
        let missing = "/nonexistent/date";
        assert_eq!(words_by(missing, "2020-12-24 20:30:00 UTC"), Ok(at("@1608841800")));
        let error = words_by(missing, "last friday").unwrap_err().to_string();
        assert!(error.contains("not in PATH"), "{error}");
        let error = words_by("echo", "last friday").unwrap_err().to_string();
        assert!(error.contains("does not read it"), "{error}");
    }

    #[test]
    fn the_answer_of_date() {
        assert_eq!(epoch_ns("1608841800.500000000"), Some(1_608_841_800_500_000_000));
        assert_eq!(epoch_ns("1608841800.%N"), Some(1_608_841_800_000_000_000));
        assert_eq!(epoch_ns("-1.500000000"), Some(-500_000_000));
        assert_eq!(epoch_ns("today"), None);
    }

    proptest! {
        #[test]
        fn offsets_and_rates_read_back(seconds in -9_000_000_000..9_000_000_000_i64, tenths in 1..10_000_u32) {
            let text = format!("{seconds:+} x{},{}", tenths / 10, tenths % 10);
            let rate = Rate::parse(&format!("{}.{}", tenths / 10, tenths % 10)).unwrap();
            prop_assert_eq!(parse_faketime(&text, true), Ok(FaketimeSpec { date: moved(seconds), rate: Some(rate) }));
        }

        #[test]
        fn no_text_panics(text in any::<String>(), near in "[-+@%]?[0-9]{0,12}[,.:é]?[0-9]{0,12} ?[smhdyxi]{0,2}[0-9,é]{0,5}") {
            for text in [text, near] {
                if let Err(error) = parse_faketime(&text, true) {
                    prop_assert!(!error.to_string().contains('\n'));
                }
            }
        }
    }
}
