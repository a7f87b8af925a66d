//! Times of a query: absolute ones, relative ones, in a time zone.
//!
//! Relative ranges are those of Cube's REST API: weeks begin on Monday, and "last 7 days" leaves today out.

use anabranch_core::definition::{Granularity, View, Width};
use anabranch_views::scalar;
use chrono::{DateTime, Days, Duration, LocalResult, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};
use chrono_tz::Tz;

use super::Problem;

const DAY_MICROS: i64 = 86_400_000_000;

/// What relative times count from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Now, milliseconds since 1970.
    pub now_ms: i64,
    /// The zone of the query's times.
    pub zone: Tz,
}

impl Clock {
    /// Microseconds of a local time; of one that the clocks skip, what comes after it; of one they repeat, the first.
    fn micros(&self, local: NaiveDateTime) -> i64 {
        let time = match self.zone.from_local_datetime(&local) {
            LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => time,
            LocalResult::None => match self.zone.from_local_datetime(&(local + Duration::hours(1))) {
                LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => time,
                LocalResult::None => return local.and_utc().timestamp_micros(),
            },
        };
        time.timestamp_micros()
    }

    fn now(&self) -> NaiveDateTime {
        let now = DateTime::from_timestamp_millis(self.now_ms).unwrap_or_default();
        now.with_timezone(&self.zone).naive_local()
    }

    /// A moment as a local time.
    #[must_use]
    pub fn local(&self, micros: i64) -> Option<NaiveDateTime> {
        Some(DateTime::from_timestamp_micros(micros)?.with_timezone(&self.zone).naive_local())
    }

    /// A moment in the zone, as Cube's clients compare it.
    #[must_use]
    pub fn shown(&self, micros: i64) -> String {
        shown(micros + self.offset_micros(micros))
    }

    /// The zone's distance from UTC at a moment, in microseconds.
    #[must_use]
    pub fn offset_micros(&self, micros: i64) -> i64 {
        self.local(micros).map_or(0, |local| local.and_utc().timestamp_micros() - micros)
    }
}

/// A time as Cube's clients compare it.
#[must_use]
pub fn shown(micros: i64) -> String {
    DateTime::from_timestamp_micros(micros).map_or_else(|| micros.to_string(), |time| time.format("%Y-%m-%dT%H:%M:%S%.3f").to_string())
}

/// The first and the last moment of a range: two dates or times, one of them, or words.
pub(super) fn resolve(texts: &[&str], clock: &Clock) -> Result<(i64, i64), Problem> {
    let (start, end) = match texts {
        [first, last] => (moment(first, false, clock)?, moment(last, true, clock)?),
        [text] => match (moment(text, false, clock), moment(text, true, clock)) {
            (Ok(start), Ok(end)) => (start, end),
            _ => words(&text.to_lowercase(), clock).ok_or_else(|| unreadable(text))?,
        },
        _ => return Err(Problem::bad_query("date_range", "dateRange has one or two dates, or is a text such as \"last 7 days\"")),
    };
    if start > end {
        return Err(Problem::bad_query(
            "date_range",
            format!("dateRange ends (\"{}\") before it starts (\"{}\")", texts.last().unwrap_or(&""), texts.first().unwrap_or(&"")),
        ));
    }
    Ok((start, end))
}

fn unreadable(text: &str) -> Problem {
    Problem::bad_query(
        "date",
        format!("Can't parse date: '{text}'; as 2026-01-31, 2026-01-31T12:00:00.000, \"today\", \"last 7 days\", \"this month\", \"from 2 hours ago to now\""),
    )
}

/// A day means its first or last moment; a time written in milliseconds includes that whole millisecond.
pub(super) fn moment(text: &str, is_end: bool, clock: &Clock) -> Result<i64, Problem> {
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        let (start, next) = (day.and_time(NaiveTime::MIN), day.checked_add_days(Days::new(1)).unwrap_or(day).and_time(NaiveTime::MIN));
        return Ok(if is_end { clock.micros(next) - 1 } else { clock.micros(start) });
    }
    let plain = text.trim_end_matches('Z').replace(' ', "T");
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(&plain, format) {
            return Ok(clock.micros(time) + if is_end { 999 } else { 0 });
        }
    }
    Err(unreadable(text))
}

/// `day` or `days`.
fn unit_named(word: &str) -> Option<Granularity> {
    Granularity::named(word.strip_suffix('s').unwrap_or(word))
}

/// The start of the unit that holds a local time.
fn start_of(unit: Granularity, at: NaiveDateTime) -> Option<NaiveDateTime> {
    let start = scalar::truncated(at.and_utc().timestamp_micros(), unit)?;
    Some(DateTime::from_timestamp_micros(start)?.naive_utc())
}

/// A time so many units later, earlier when negative.
fn later(unit: Granularity, at: NaiveDateTime, count: i64) -> Option<NaiveDateTime> {
    let months = |months: i64| {
        let size = Months::new(u32::try_from((count * months).unsigned_abs()).ok()?);
        if count >= 0 { at.checked_add_months(size) } else { at.checked_sub_months(size) }
    };
    match unit {
        Granularity::Second => at.checked_add_signed(Duration::try_seconds(count)?),
        Granularity::Minute => at.checked_add_signed(Duration::try_minutes(count)?),
        Granularity::Hour => at.checked_add_signed(Duration::try_hours(count)?),
        Granularity::Day => at.checked_add_signed(Duration::try_days(count)?),
        Granularity::Week => at.checked_add_signed(Duration::try_weeks(count)?),
        Granularity::Month => months(1),
        Granularity::Quarter => months(3),
        Granularity::Year => months(12),
    }
}

/// The range that words name, in the order in which Cube tries them.
fn words(text: &str, clock: &Clock) -> Option<(i64, i64)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let now = clock.now();
    let units = |unit: Granularity, from: i64, to: i64| {
        let start = start_of(unit, now)?;
        Some((clock.micros(later(unit, start, from)?), clock.micros(later(unit, start, to)?) - 1))
    };
    match words.as_slice() {
        ["this", unit] => units(unit_named(unit)?, 0, 1),
        ["last", unit] => units(unit_named(unit)?, -1, 0),
        ["next", unit] => units(unit_named(unit)?, 1, 2),
        ["last", count, unit] => units(unit_named(unit)?, -small(count)?, 0),
        ["next", count, unit] => units(unit_named(unit)?, 1, small(count)? + 1),
        ["today"] => units(Granularity::Day, 0, 1),
        ["yesterday"] => units(Granularity::Day, -1, 0),
        ["tomorrow"] => units(Granularity::Day, 1, 2),
        ["from", rest @ ..] => {
            let to = rest.iter().position(|word| *word == "to")?;
            let (from, to) = (rest.get(..to)?, rest.get(to + 1..)?);
            // To the word that is the finest of both.
            let unit = ["second", "minute", "hour"].into_iter().find(|unit| text.contains(unit)).and_then(unit_named).unwrap_or(Granularity::Day);
            let (start, end) = (start_of(unit, spoken(from, now)?)?, start_of(unit, spoken(to, now)?)?);
            Some((clock.micros(start), clock.micros(later(unit, end, 1)?) - 1))
        }
        other => {
            let start = start_of(Granularity::Day, spoken(other, now)?)?;
            Some((clock.micros(start), clock.micros(start) + DAY_MICROS - 1))
        }
    }
}

/// A number that moves no calendar out of its range.
fn small(text: &str) -> Option<i64> {
    text.parse().ok().filter(|count| (0..=100_000).contains(count))
}

/// `now`, `7 days ago`, `in 2 hours`, a date.
fn spoken(words: &[&str], now: NaiveDateTime) -> Option<NaiveDateTime> {
    match words {
        ["now" | "today"] => Some(now),
        ["yesterday"] => later(Granularity::Day, now, -1),
        ["tomorrow"] => later(Granularity::Day, now, 1),
        [count, unit, "ago"] => later(unit_named(unit)?, now, -small(count)?),
        ["in", count, unit] | [count, unit, "from", "now"] => later(unit_named(unit)?, now, small(count)?),
        [date] => Some(NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()?.and_time(NaiveTime::MIN)),
        _ => None,
    }
}

/// A zone in which the borders of the view's buckets are no borders cannot be answered: a day of UTC is no day there.
pub(super) fn zone_fits(view: &View, clock: &Clock) -> Result<(), Problem> {
    let Some(bucket) = view.bucket.as_ref().filter(|_| clock.zone != Tz::UTC) else { return Ok(()) };
    let width = match bucket.width {
        Width::Exact => return Ok(()),
        Width::Calendar(Granularity::Second) => 1_000_000,
        Width::Calendar(Granularity::Minute) => 60_000_000,
        Width::Calendar(Granularity::Hour) => 3_600_000_000,
        Width::Calendar(_) => i64::MAX,
        Width::Every { micros, .. } => micros,
    };
    // Its distance from UTC in winter and in summer of this year and of ten years ago: a zone changes by laws, seldom.
    const HALF_YEAR: i64 = 15_778_800_000_000;
    let fits = |half_years: i64| clock.offset_micros(clock.now_ms * 1000 - half_years * HALF_YEAR) % width == 0;
    if [0, 1, 20, 21].into_iter().all(fits) {
        return Ok(());
    }
    let message = format!("timezone \"{}\" does not fall on the buckets of \"{}\", which are {} of UTC", clock.zone.name(), view.name, bucket.width);
    Err(Problem::bad_query("timezone_buckets", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-14 15:20:30 UTC, a Wednesday.
    fn clock(zone: Tz) -> Clock {
        Clock { now_ms: 1_768_404_030_000, zone }
    }

    fn range(text: &str) -> (String, String) {
        let (start, end) = resolve(&[text], &clock(Tz::UTC)).unwrap();
        (shown(start), shown(end))
    }

    #[test]
    fn relative_ranges_are_those_of_cube() {
        for (text, start, end) in [
            ("last week", "2026-01-05T00:00:00.000", "2026-01-11T23:59:59.999"),
            ("This Week", "2026-01-12T00:00:00.000", "2026-01-18T23:59:59.999"),
            ("last 7 days", "2026-01-07T00:00:00.000", "2026-01-13T23:59:59.999"),
            ("last 6 hours", "2026-01-14T09:00:00.000", "2026-01-14T14:59:59.999"),
            ("next 3 months", "2026-02-01T00:00:00.000", "2026-04-30T23:59:59.999"),
            ("today", "2026-01-14T00:00:00.000", "2026-01-14T23:59:59.999"),
            ("yesterday", "2026-01-13T00:00:00.000", "2026-01-13T23:59:59.999"),
            ("this quarter", "2026-01-01T00:00:00.000", "2026-03-31T23:59:59.999"),
            ("from 7 days ago to now", "2026-01-07T00:00:00.000", "2026-01-14T23:59:59.999"),
            ("from 1 hour ago to now", "2026-01-14T14:00:00.000", "2026-01-14T15:59:59.999"),
            ("7 days ago", "2026-01-07T00:00:00.000", "2026-01-07T23:59:59.999"),
            ("2026-01-03", "2026-01-03T00:00:00.000", "2026-01-03T23:59:59.999"),
        ] {
            assert_eq!(range(text), (start.to_owned(), end.to_owned()), "{text}");
        }
        for text in ["week to date", "all time", "ytd", "last 99999999999 days", "from now to yesterday", ""] {
            assert!(resolve(&[text], &clock(Tz::UTC)).is_err(), "{text}");
        }
    }

    #[test]
    fn days_are_those_of_the_zone() {
        let berlin = clock(Tz::Europe__Berlin);
        // Summer time begins at 02:00: the day has 23 hours.
        let (start, end) = resolve(&["2026-03-29", "2026-03-29"], &berlin).unwrap();
        assert_eq!((shown(start), shown(end)), ("2026-03-28T23:00:00.000".to_owned(), "2026-03-29T21:59:59.999".to_owned()));
        assert_eq!(end - start + 1, 23 * 3_600_000_000);
        assert_eq!(berlin.offset_micros(start), 3_600_000_000);
    }
}
