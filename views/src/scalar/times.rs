//! Functions of days and times. All times are UTC.

use anabranch_core::definition::{Function, Granularity};
use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

use crate::value::Value;

const MICROS_OF_DAY: i64 = 86_400_000_000;
const MICROS_OF_SECOND: i64 = 1_000_000;

fn time(micros: i64) -> Option<NaiveDateTime> {
    Some(DateTime::from_timestamp_micros(micros)?.naive_utc())
}

fn micros(time: NaiveDateTime) -> i64 {
    time.and_utc().timestamp_micros()
}

/// A time or a day as text.
pub(super) fn parse(text: &str) -> Option<i64> {
    let text = text.trim().trim_end_matches('Z').replace('T', " ");
    let time = NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f").ok();
    let day = || NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    Some(micros(time.or_else(day)?))
}

/// The day in which a time lies.
pub(super) fn day_of(micros: i64) -> Option<Value> {
    i32::try_from(micros.div_euclid(MICROS_OF_DAY)).ok().map(Value::Date)
}

/// The beginning of a day.
pub(super) fn midnight(days: i32) -> Option<i64> {
    i64::from(days).checked_mul(MICROS_OF_DAY)
}

/// A function whose first argument is a day or a time.
pub(super) fn call(function: Function, arguments: &[Value]) -> Option<Value> {
    Some(match (function, arguments) {
        (Function::Add, [Value::Date(days), Value::BigInt(more)]) => Value::Date(i32::try_from(i64::from(*days).checked_add(*more)?).ok()?),
        (Function::Subtract, [Value::Date(days), Value::BigInt(less)]) => Value::Date(i32::try_from(i64::from(*days).checked_sub(*less)?).ok()?),
        (Function::Subtract, [Value::Date(days), Value::Date(other)]) => Value::BigInt(i64::from(*days) - i64::from(*other)),
        (Function::AddInterval, [Value::Timestamp(start), Value::BigInt(months), Value::BigInt(more)]) => {
            Value::Timestamp(later(*start, *months)?.checked_add(*more)?)
        }
        _ => return None,
    })
}

fn later(start: i64, months: i64) -> Option<i64> {
    if months == 0 {
        return Some(start);
    }
    let count = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
    let moved = if months > 0 { time(start)?.checked_add_months(count) } else { time(start)?.checked_sub_months(count) };
    moved.map(micros)
}

/// A day or a time made of numbers; the interval and the times of `date_bin`.
pub(super) fn from_numbers(function: Function, arguments: &[Value]) -> Option<Value> {
    match (function, arguments) {
        (Function::DateBin, [Value::BigInt(every), Value::Timestamp(time), Value::Timestamp(origin)]) => binned(*every, *time, *origin).map(Value::Timestamp),
        (Function::ToTimestamp, [Value::Double(seconds)]) => {
            const LIMIT: f64 = 9.2e12;
            #[expect(clippy::cast_possible_truncation, reason = "checked against the range")]
            (-LIMIT..LIMIT).contains(seconds).then(|| Value::Timestamp((seconds * 1e6).round_ties_even() as i64))
        }
        (Function::MakeDate, [Value::BigInt(year), Value::BigInt(month), Value::BigInt(day)]) => Some(Value::Date(date(*year, *month, *day)?.to_epoch_days())),
        (
            Function::MakeTimestamp,
            [Value::BigInt(year), Value::BigInt(month), Value::BigInt(day), Value::BigInt(hour), Value::BigInt(minute), Value::Double(second)],
        ) => {
            let clock = NaiveTime::from_hms_opt(u32::try_from(*hour).ok()?, u32::try_from(*minute).ok()?, 0)?;
            if !(0.0..60.0).contains(second) {
                return None;
            }
            #[expect(clippy::cast_possible_truncation, reason = "below a minute")]
            let rest = (second * 1e6).round_ties_even() as i64;
            Some(Value::Timestamp(micros(date(*year, *month, *day)?.and_time(clock)) + rest))
        }
        _ => None,
    }
}

fn date(year: i64, month: i64, day: i64) -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, u32::try_from(month).ok()?, u32::try_from(day).ok()?)
}

/// The start of the bin in which a time falls.
pub(crate) fn binned(every: i64, time: i64, origin: i64) -> Option<i64> {
    time.checked_sub(time.checked_sub(origin)?.checked_rem_euclid(every)?)
}

/// `date_trunc` and `extract`.
pub(super) fn part(function: Function, word: &str, value: &Value) -> Option<Value> {
    let Value::Timestamp(at) = value else { return None };
    if function == Function::DateTrunc {
        return Some(Value::Timestamp(truncated(*at, Granularity::named(word)?)?));
    }
    let when = time(*at)?;
    let year = i64::from(when.year());
    let of_minute = i64::from(when.second()) * MICROS_OF_SECOND + at.rem_euclid(MICROS_OF_SECOND);
    Some(Value::BigInt(match word {
        "century" => {
            if year > 0 {
                (year - 1).div_euclid(100) + 1
            } else {
                -((-year).div_euclid(100) + 1)
            }
        }
        "decade" => year.div_euclid(10),
        "year" => year,
        "isoyear" => i64::from(when.iso_week().year()),
        "quarter" => i64::from(when.month0() / 3 + 1),
        "month" => i64::from(when.month()),
        "week" => i64::from(when.iso_week().week()),
        "day" => i64::from(when.day()),
        "doy" => i64::from(when.ordinal()),
        "dow" => i64::from(when.weekday().num_days_from_sunday()),
        "isodow" => i64::from(when.weekday().number_from_monday()),
        "hour" => i64::from(when.hour()),
        "minute" => i64::from(when.minute()),
        "second" => i64::from(when.second()),
        "millisecond" => of_minute.div_euclid(1000),
        "microsecond" => of_minute,
        "epoch" => at.div_euclid(MICROS_OF_SECOND),
        _ => return None,
    }))
}

/// The start of the unit in which a time lies.
#[must_use]
pub fn truncated(at: i64, granularity: Granularity) -> Option<i64> {
    let fixed = |unit: i64| Some(at - at.rem_euclid(unit));
    let day = || Some(time(at)?.date());
    let first = match granularity {
        Granularity::Second => return fixed(MICROS_OF_SECOND),
        Granularity::Minute => return fixed(60 * MICROS_OF_SECOND),
        Granularity::Hour => return fixed(3600 * MICROS_OF_SECOND),
        Granularity::Day => return fixed(MICROS_OF_DAY),
        Granularity::Week => {
            let day = day()?;
            day.checked_sub_days(chrono::Days::new(u64::from(day.weekday().num_days_from_monday())))?
        }
        Granularity::Month => day()?.with_day(1)?,
        Granularity::Quarter => NaiveDate::from_ymd_opt(day()?.year(), day()?.month0() / 3 * 3 + 1, 1)?,
        Granularity::Year => NaiveDate::from_ymd_opt(day()?.year(), 1, 1)?,
    };
    Some(micros(first.and_time(NaiveTime::MIN)))
}
