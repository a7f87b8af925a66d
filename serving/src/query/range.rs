//! Times of a query.

use chrono::{NaiveDate, NaiveDateTime};

use super::{DateRange, Problem};

/// A time as Cube's clients compare it.
#[must_use]
pub fn shown(micros: i64) -> String {
    chrono::DateTime::from_timestamp_micros(micros).map_or_else(|| micros.to_string(), |time| time.format("%Y-%m-%dT%H:%M:%S%.3f").to_string())
}

pub(super) fn range(range: &DateRange) -> Result<(i64, i64), Problem> {
    let (first, last) = match range {
        DateRange::Day(day) => (day.as_str(), day.as_str()),
        DateRange::Pair(pair) => match pair.as_slice() {
            [first, last] => (first.as_str(), last.as_str()),
            [day] => (day.as_str(), day.as_str()),
            _ => return Err(Problem::bad_query("date_range", "dateRange has one or two dates")),
        },
    };
    let (start, end) = (moment(first, false)?, moment(last, true)?);
    if start > end {
        return Err(Problem::bad_query("date_range", format!("dateRange ends (\"{last}\") before it starts (\"{first}\")")));
    }
    Ok((start, end))
}

/// A day means its first or last moment; a time written in milliseconds includes that whole millisecond.
fn moment(text: &str, is_end: bool) -> Result<i64, Problem> {
    const DAY_MICROS: i64 = 86_400_000_000;
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        let start = day.and_hms_opt(0, 0, 0).map_or(0, |time| time.and_utc().timestamp_micros());
        return Ok(if is_end { start + DAY_MICROS - 1 } else { start });
    }
    let plain = text.trim_end_matches('Z').replace(' ', "T");
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(&plain, format) {
            return Ok(time.and_utc().timestamp_micros() + if is_end { 999 } else { 0 });
        }
    }
    Err(Problem::bad_query("date", format!("Can't parse date: '{text}'; as 2026-01-31 or 2026-01-31T12:00:00.000")))
}
