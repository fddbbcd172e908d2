//! Dates as people type them: RFC 3339, RFC 9557, local dates, `@epoch`.
//!
//! A zone in the text is honoured or refused, never dropped.

use std::str::FromStr;

use jiff::civil::{Date, Time};
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, ZonedDateTime};

use super::grammar_error::{GrammarError, Quoted};

const EXPECTED: &str = "expected one such as 2038-01-19T03:14:00Z, \"2038-01-19 03:14\" or @2147483640";

/// Reads a date, and gives the instant it names.
///
/// - `YYYY-MM-DD`, alone or with a time of day after a space or a `T`: `hh:mm`, `hh:mm:ss` or `hh:mm:ss.fraction`,
///   down to nanoseconds. A date alone is its midnight.
/// - After that, with or without a space, a zone: `Z` or `UTC`, an offset such as `+02:00` or `+0200`, or, after a
///   space, the IANA name of a zone. RFC 3339 is of this form, in upper and lower case.
/// - RFC 9557, with the zone in brackets: `2024-03-10T02:30[America/New_York]`. An offset beside it must agree.
/// - `@` and seconds since 1970-01-01 UTC, with an optional fraction: `@2147483647.5`.
///
/// Where no zone is named, it is the local one: `TZ`, else `/etc/localtime`, else UTC, see `tzset(3)`. A local time
/// that a zone skips counts as if the clocks had not gone forward yet, and the first is taken of one that comes twice:
/// what RFC 5545 prescribes, and what `mktime(3)` does in practice.
///
/// The range is that of signed 64-bit nanoseconds from 1970 on: 1970-01-01T00:00:00Z to
/// 2262-04-11T23:47:16.854775807Z.
///
/// ```
/// use elsewhen::spec::parse_date;
///
/// assert_eq!(parse_date("2038-01-19 05:14:07 +02:00")?, parse_date("@2147483647")?);
/// # Ok::<(), elsewhen::spec::GrammarError>(())
/// ```
///
/// # Errors
///
/// When the text is not such a date or outside the range, or when its zone, or the local one where it is needed, is
/// not in the system's time zone database.
pub fn parse_date(text: &str) -> Result<Timestamp, GrammarError> {
    parse(text, local_zone)
}

/// Reads a date as [`parse_date`] does, with `local` for the zone of a text that names none.
///
/// # Errors
///
/// As [`parse_date`].
pub fn parse_date_in(text: &str, local: &TimeZone) -> Result<Timestamp, GrammarError> {
    parse(text, || Ok(local.clone()))
}

/// The date in nanoseconds is from 0 to `i64::MAX`; `typed` is for the message.
pub(super) fn in_range(typed: &str, total_ns: i128) -> Result<Timestamp, GrammarError> {
    Some(total_ns)
        .filter(|ns| (0..=i128::from(i64::MAX)).contains(ns))
        .and_then(|ns| Timestamp::from_nanosecond(ns).ok())
        .ok_or_else(|| {
            GrammarError::new(format!(
                "date {}: out of range: expected 1970-01-01T00:00:00Z to 2262-04-11T23:47:16.854775807Z",
                Quoted(typed)
            ))
        })
}

fn parse(text: &str, local: impl FnOnce() -> Result<TimeZone, String>) -> Result<Timestamp, GrammarError> {
    let trimmed = trim(text);
    let total_ns = match trimmed.strip_prefix('@') {
        Some(seconds) => epoch_ns(seconds),
        None => calendar(trimmed, local).map(Timestamp::as_nanosecond),
    };
    let total_ns = total_ns.map_err(|why| GrammarError::new(format!("date {}: {why}", Quoted(text))))?;
    in_range(text, total_ns)
}

fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_ascii_whitespace())
}

/// The zone that `tzset(3)` finds, but for a `TZ` that names nothing: the C library takes UTC for that in silence.
fn local_zone() -> Result<TimeZone, String> {
    TimeZone::try_system().or_else(|_| match std::env::var_os("TZ") {
        None => Ok(TimeZone::UTC),
        Some(tz) => Err(format!(
            "the local time zone is not known: TZ is {}: {}",
            Quoted(&tz.to_string_lossy()),
            zone_hint("set it to one such as Europe/Berlin, or end the date with a zone such as UTC")
        )),
    })
}

/// What to do about a zone that was not found: `otherwise`, unless there is no database of zones at all.
fn zone_hint(otherwise: &str) -> String {
    match jiff::tz::db().is_definitively_empty() {
        true => "the time zone database is missing from /usr/share/zoneinfo (package tzdata; another place can be \
                 named in TZDIR): install it, or end the date with UTC or an offset such as +02:00"
            .to_owned(),
        false => otherwise.to_owned(),
    }
}

/// Seconds with an optional sign and fraction as nanoseconds.
fn epoch_ns(seconds: &str) -> Result<i128, String> {
    /// Digits of whole seconds below which the sum stays in 128 bits; far more than the range needs.
    const MOST_DIGITS: usize = 25;
    let unsigned = seconds.strip_prefix(['+', '-']).unwrap_or(seconds);
    let (whole, fraction) = unsigned.split_once('.').map_or((unsigned, None), |(whole, rest)| (whole, Some(rest)));
    if !all_digits(whole) || whole.len() > MOST_DIGITS {
        return Err(format!("not seconds since 1970: {EXPECTED}"));
    }
    let magnitude = digits::<i128>(whole)? * 1_000_000_000 + i128::from(fraction.map_or(Ok(0), fraction_ns)?);
    Ok(if seconds.starts_with('-') { -magnitude } else { magnitude })
}

/// Everything but `@epoch`: a date, then perhaps a time of day, then perhaps a zone.
fn calendar(text: &str, local: impl FnOnce() -> Result<TimeZone, String>) -> Result<Timestamp, String> {
    const DATE_LEN: usize = "YYYY-MM-DD".len();
    let (date, after) = text.split_at_checked(DATE_LEN).ok_or_else(|| EXPECTED.to_owned())?;
    let date = calendar_date(date)?;
    let (time, zone) = match after.strip_prefix(['T', 't', ' ']).map(trim) {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
            let end = rest.find(|c: char| !c.is_ascii_digit() && !":.,".contains(c)).unwrap_or(rest.len());
            let (time, zone) = rest.split_at(end);
            (time_of_day(time)?, zone)
        }
        _ => (Time::midnight(), after),
    };
    // A name needs a space before it. So does anything after a date alone, where +02 could be taken for a time.
    let spaced = zone.starts_with(|c: char| c.is_ascii_whitespace());
    let has_time = zone.len() < after.len();
    let zone = trim(zone);
    let moment = date.to_datetime(time);
    let zone = match zone.chars().next() {
        None => local()?,
        // The zone name is found, and compared with the offset, by the library's own RFC 9557 parser.
        _ if zone.contains('[') => return bracketed(&format!("{moment}{zone}")),
        Some(_) if !spaced && !has_time => return Err(format!("{} follows the date: {EXPECTED}", Quoted(zone))),
        Some('+' | '-') => offset(zone)?.to_time_zone(),
        Some(_) if zone.eq_ignore_ascii_case("z") || zone.eq_ignore_ascii_case("utc") => TimeZone::UTC,
        Some(_) if !spaced => return Err(format!("{} follows the time: {EXPECTED}", Quoted(zone))),
        Some(_) => TimeZone::get(zone).map_err(|_| unknown_zone(zone))?,
    };
    zone.to_ambiguous_timestamp(moment).compatible().map_err(|error| error.to_string())
}

fn unknown_zone(zone: &str) -> String {
    let hint = zone_hint("expected UTC, an offset such as +02:00, or an IANA name such as Europe/Berlin");
    format!("unknown time zone {}: {hint}", Quoted(zone))
}

/// RFC 9557 in its strict form.
fn bracketed(text: &str) -> Result<Timestamp, String> {
    ZonedDateTime::from_str(text).map(|zoned| zoned.timestamp()).map_err(|error| {
        let hint = zone_hint("expected one such as 2024-03-10T02:30[America/New_York]");
        format!("{}: {hint}", error.to_string().escape_debug())
    })
}

/// `YYYY-MM-DD`, of that length.
fn calendar_date(text: &str) -> Result<Date, String> {
    let fields: Vec<&str> = text.split('-').collect();
    let [year, month, day] = fields[..] else { return Err(EXPECTED.to_owned()) };
    if (year.len(), month.len(), day.len()) != (4, 2, 2) || ![year, month, day].into_iter().all(all_digits) {
        return Err(EXPECTED.to_owned());
    }
    Date::new(digits(year)?, digits(month)?, digits(day)?).map_err(|_| "there is no such day".to_owned())
}

/// `hh:mm`, `hh:mm:ss` or `hh:mm:ss.fraction`.
fn time_of_day(text: &str) -> Result<Time, String> {
    const SHAPE: &str = "the time of day is not hh:mm, hh:mm:ss or hh:mm:ss.fraction";
    if text.contains(',') {
        return Err("the decimal point is \".\" in every locale, not \",\"".to_owned());
    }
    let (clock, fraction) = text.split_once('.').map_or((text, None), |(clock, rest)| (clock, Some(rest)));
    let fields: Vec<&str> = clock.split(':').collect();
    if !(2..=3).contains(&fields.len()) || (fields.len() == 2 && fraction.is_some()) {
        return Err(SHAPE.to_owned());
    }
    if !fields.iter().all(|field| field.len() == 2 && all_digits(field)) {
        return Err(SHAPE.to_owned());
    }
    let second = fields.get(2).map_or(Ok(0), |field| digits(field))?;
    let nanosecond = fraction.map_or(Ok(0), fraction_ns)?;
    Time::new(digits(fields[0])?, digits(fields[1])?, second, nanosecond)
        .map_err(|_| "the time of day is not from 00:00:00 to 23:59:59 (leap seconds do not count)".to_owned())
}

/// `+02:00`, `+0200` or `+02`, and the same with `-`.
fn offset(text: &str) -> Result<Offset, String> {
    let wrong = || format!("the offset {} is not one such as +02:00 or -0330", Quoted(text));
    let unsigned = &text[1..];
    let (hours, minutes) = match unsigned.split_once(':') {
        Some(fields) => fields,
        None => unsigned.split_at_checked(2).ok_or_else(wrong)?,
    };
    let minutes = if minutes.is_empty() && unsigned.len() == 2 { "00" } else { minutes };
    if hours.len() != 2 || minutes.len() != 2 || !all_digits(hours) || !all_digits(minutes) {
        return Err(wrong());
    }
    let (hours, minutes) = (digits::<i32>(hours)?, digits::<i32>(minutes)?);
    if hours > 23 || minutes > 59 {
        return Err(wrong());
    }
    let seconds = (hours * 60 + minutes) * 60;
    Offset::from_seconds(if text.starts_with('-') { -seconds } else { seconds }).map_err(|_| wrong())
}

/// The digits after a decimal point, as nanoseconds: one to nine of them, and zeros beyond.
fn fraction_ns(text: &str) -> Result<i32, String> {
    let significant = text.trim_end_matches('0');
    if !all_digits(text) || significant.len() > 9 {
        return Err("the fraction is not one to nine digits".to_owned());
    }
    digits(&format!("{significant:0<9}"))
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// The value of a text of digits. Callers bound its length, so it fits.
fn digits<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{} is not a number", Quoted(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).expect("the tests need the time zone database")
    }

    fn tokyo(text: &str) -> Result<String, String> {
        parse_date_in(text, &zone("Asia/Tokyo")).map(|date| date.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_people_type() {
        for (text, expected) in [
            ("2038-01-19T03:14:00Z", "2038-01-19T03:14:00Z"),
            ("2038-01-19t03:14:00z", "2038-01-19T03:14:00Z"),
            ("2038-01-19T03:14:00.5+02:00", "2038-01-19T01:14:00.5Z"),
            ("2038-01-19T03:14:00-03:30", "2038-01-19T06:44:00Z"),
            ("2038-01-19", "2038-01-18T15:00:00Z"),
            ("2038-01-19 03:14", "2038-01-18T18:14:00Z"),
            ("2038-01-19T03:14", "2038-01-18T18:14:00Z"),
            ("  2038-01-19   03:14:07.123456789 ", "2038-01-18T18:14:07.123456789Z"),
            ("2038-01-19 03:14:07.1234567890000", "2038-01-18T18:14:07.123456789Z"),
            ("2038-01-19 03:14:07 UTC", "2038-01-19T03:14:07Z"),
            ("2038-01-19 03:14:07UTC", "2038-01-19T03:14:07Z"),
            ("2038-01-19 03:14:07 utc", "2038-01-19T03:14:07Z"),
            ("2038-01-19 03:14:07 Z", "2038-01-19T03:14:07Z"),
            ("2038-01-19 03:14:07 +02:00", "2038-01-19T01:14:07Z"),
            ("2038-01-19 03:14:07 +0200", "2038-01-19T01:14:07Z"),
            ("2038-01-19 03:14+02", "2038-01-19T01:14:00Z"),
            ("2038-01-19 03:14:07 America/New_York", "2038-01-19T08:14:07Z"),
            ("2038-01-19 UTC", "2038-01-19T00:00:00Z"),
            ("2038-01-19 -05:00", "2038-01-19T05:00:00Z"),
            ("2038-01-19 Europe/Berlin", "2038-01-18T23:00:00Z"),
            ("2038-01-19[Europe/Berlin]", "2038-01-18T23:00:00Z"),
            ("2038-01-19 03:14:07[America/New_York]", "2038-01-19T08:14:07Z"),
            ("2038-01-19T03:14:07-05:00[America/New_York][u-ca=gregory]", "2038-01-19T08:14:07Z"),
            ("2038-01-19T03:14:07Z[America/New_York]", "2038-01-19T03:14:07Z"),
            ("@0", "1970-01-01T00:00:00Z"),
            ("@-0", "1970-01-01T00:00:00Z"),
            ("@+2147483647.5", "2038-01-19T03:14:07.5Z"),
            ("@9223372036.854775807", "2262-04-11T23:47:16.854775807Z"),
            ("2262-04-11T23:47:16.854775807Z", "2262-04-11T23:47:16.854775807Z"),
        ] {
            assert_eq!(tokyo(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_refused_says_why() {
        for (text, part) in [
            ("", "expected one such as"),
            ("tomorrow", "expected one such as"),
            ("2038", "expected one such as"),
            ("19-01-2038 03:14", "expected one such as"),
            ("2038-1-19 03:14:00", "expected one such as"),
            ("2038-W03-2", "expected one such as"),
            ("2038-01-1é", "expected one such as"),
            ("2038-01-19Z", "follows the date"),
            ("2038-01-19+02", "follows the date"),
            ("2038-01-19 03:14:07Europe/Berlin", "follows the time"),
            ("2038-02-30", "no such day"),
            ("2038-01-19 24:00", "the time of day is not from"),
            ("2016-12-31T23:59:60Z", "leap seconds"),
            ("2038-01-19 3:14", "the time of day is not hh:mm"),
            ("2038-01-19 03", "the time of day is not hh:mm"),
            ("2038-01-19 03:14.5", "the time of day is not hh:mm"),
            ("2038-01-19 03:14:07,5", "the decimal point"),
            ("2038-01-19 03:14:07.", "the fraction"),
            ("2038-01-19 03:14:07.0123456789", "the fraction"),
            ("2038-01-19 03:14 pm", "unknown time zone \"pm\""),
            ("2038-01-19 03:14 Mars/Olympus", "unknown time zone \"Mars/Olympus\""),
            ("2038-01-19T", "follows the date"),
            ("2038-01-19 03:14 +2", "the offset \"+2\""),
            ("2038-01-19 03:14 +02:0", "the offset"),
            ("2038-01-19 03:14 +24:00", "the offset"),
            ("2038-01-19 03:14 +é", "the offset"),
            ("2038-01-19T03:14+02:00[America/New_York]", "America/New_York"),
            ("2038-01-19T03:14[Mars/Olympus]", "expected one such as 2024"),
            ("2038-01-19T03:14Z[u-ca=gregory]", "expected one such as 2024"),
            ("@", "not seconds"),
            ("@1e9", "not seconds"),
            ("@1,5", "not seconds"),
            ("@1.", "the fraction"),
            ("@99999999999999999999999999999999999999999999", "not seconds"),
            ("@-1", "out of range"),
            ("@-0.000000001", "out of range"),
            ("@9223372036.854775808", "out of range"),
            ("1969-12-31T23:59:59Z", "out of range"),
            ("1970-01-01", "out of range"),
            ("2262-04-11T23:47:16.854775808Z", "out of range"),
        ] {
            let error = tokyo(text).unwrap_err();
            assert!(error.contains(part) && error.starts_with("date ") && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn the_range_is_named_where_a_date_is_outside() {
        let error = tokyo("2300-01-01").unwrap_err();
        assert!(error.contains("1970-01-01T00:00:00Z to 2262-04-11T23:47:16.854775807Z"), "{error}");
    }

    #[test]
    fn a_time_that_a_zone_skips_counts_from_before_and_of_two_the_first_is_taken() {
        let new_york = zone("America/New_York");
        for (text, expected) in [
            ("2024-03-10 02:30", "2024-03-10T07:30:00Z"),
            ("2024-03-10T02:30[America/New_York]", "2024-03-10T07:30:00Z"),
            ("2024-11-03 01:30", "2024-11-03T05:30:00Z"),
            ("2024-11-03 01:30 America/New_York", "2024-11-03T05:30:00Z"),
        ] {
            assert_eq!(parse_date_in(text, &new_york).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn the_local_zone_is_only_asked_for_where_it_is_needed() {
        let broken = || Err("no local zone".to_owned());
        assert!(parse("2038-01-19 03:14 UTC", broken).is_ok());
        assert!(parse("@5", broken).is_ok());
        assert!(parse("2038-01-19", broken).unwrap_err().to_string().contains("no local zone"));
    }

    proptest! {
        #[test]
        fn a_written_date_reads_back(date_ns in 0..=i64::MAX) {
            let date = Timestamp::from_nanosecond(date_ns.into()).unwrap();
            let tokyo = zone("Asia/Tokyo");
            prop_assert_eq!(parse_date_in(&date.to_string(), &tokyo), Ok(date));
            prop_assert_eq!(parse_date_in(&date.to_zoned_datetime(tokyo.clone()).to_string(), &TimeZone::UTC), Ok(date));
            prop_assert_eq!(parse_date_in(&date.to_zoned_datetime(tokyo.clone()).datetime().to_string(), &tokyo), Ok(date));
            let epoch = format!("@{}.{:09}", date_ns / 1_000_000_000, date_ns % 1_000_000_000);
            prop_assert_eq!(parse_date_in(&epoch, &TimeZone::UTC), Ok(date));
        }

        #[test]
        fn no_text_panics(
            text in any::<String>(),
            near in "@?[-0-9]{0,12}[Tt ]{0,2}[0-9:.]{0,20} ?[-+A-Zz]{0,3}[0-9:é]{0,6}(\\[[A-Z/=]{0,5}\\]?)?",
            date in "2[0-9]{3}-0[1-9]-[012][0-9].{0,20}",
        ) {
            for text in [text, near, date] {
                if let Err(error) = parse_date_in(&text, &TimeZone::UTC) {
                    prop_assert!(!error.to_string().contains('\n'));
                }
            }
        }
    }
}
