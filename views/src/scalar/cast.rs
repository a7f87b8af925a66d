//! CAST, and how values are written as text.

use anabranch_core::definition::DataType;
use chrono::{DateTime, NaiveDate};

use super::times;
use crate::value::Value;

/// A value that is not NULL as another type; nothing where that type does not have it.
pub(super) fn cast(value: Value, target: DataType) -> Option<Value> {
    Some(match (value, target) {
        (value @ Value::Error(_), _) => value,
        (Value::BigInt(value), DataType::Double) => Value::Double(to_f64(i128::from(value), 0)),
        (Value::BigInt(value), DataType::Decimal { precision, scale }) => decimal(i128::from(value), 0, precision, scale)?,
        (Value::Decimal(value, from), DataType::Decimal { precision, scale }) => decimal(value, from, precision, scale)?,
        (Value::Decimal(value, scale), DataType::Double) => Value::Double(to_f64(value, scale)),
        (Value::Decimal(value, scale), DataType::BigInt) => Value::BigInt(i64::try_from(rescaled(value, scale, 0)?).ok()?),
        (Value::Double(value), DataType::Decimal { precision, scale }) => {
            // As PostgreSQL does, by way of the 15 digits that a DOUBLE has for sure.
            parse_decimal(&format!("{value:.14e}"), precision, scale)?
        }
        (Value::Double(value), DataType::BigInt) => Value::BigInt(to_bigint(value)?),
        (Value::Text(text), DataType::BigInt) => Value::BigInt(text.trim().parse().ok()?),
        (Value::Text(text), DataType::Double) => Value::Double(double(&text)?),
        (Value::Text(text), DataType::Decimal { precision, scale }) => parse_decimal(text.trim(), precision, scale)?,
        (Value::Text(text), DataType::Boolean) => Value::Boolean(boolean(&text)?),
        (Value::Text(text), DataType::Timestamp) => Value::Timestamp(times::parse(&text)?),
        (Value::Text(text), DataType::Date) => times::day_of(times::parse(&text)?)?,
        (Value::Boolean(value), DataType::BigInt) => Value::BigInt(i64::from(value)),
        (Value::Timestamp(micros), DataType::Date) => times::day_of(micros)?,
        (Value::Date(days), DataType::Timestamp) => Value::Timestamp(times::midnight(days)?),
        (value, DataType::Text) => Value::Text(text(&value)?),
        (value, _) => value,
    })
}

/// A value as CAST writes it; nothing for NULL and bytes.
#[must_use]
pub fn text(value: &Value) -> Option<String> {
    Some(match value {
        Value::Text(text) => text.clone(),
        Value::Boolean(value) => value.to_string(),
        Value::BigInt(value) => value.to_string(),
        Value::Decimal(value, scale) => decimal_text(*value, *scale),
        Value::Double(value) => double_text(*value),
        Value::Date(days) => NaiveDate::from_epoch_days(*days)?.to_string(),
        Value::Timestamp(micros) => {
            let text = DateTime::from_timestamp_micros(*micros)?.naive_utc().format("%Y-%m-%d %H:%M:%S%.6f").to_string();
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        Value::Null | Value::Bytes(_) | Value::Error(_) => return None,
    })
}

/// The shortest digits that read back as the same number; with an exponent where PostgreSQL writes one.
fn double_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent @ ..=-5) => format!("{digits}e-{:02}", exponent.unsigned_abs()),
        Ok(exponent @ 15..) => format!("{digits}e+{exponent:02}"),
        _ => format!("{value}"),
    }
}

/// A DOUBLE as PostgreSQL reads it.
fn double(text: &str) -> Option<f64> {
    let text = text.trim();
    let number = text.parse::<f64>().ok()?;
    let is_word = text.chars().any(|c| matches!(c, 'n' | 'N'));
    // 1e400 is no DOUBLE; 'Infinity' is.
    (number.is_finite() || is_word).then_some(number)
}

/// Half to even, as PostgreSQL rounds; nothing out of range.
fn to_bigint(value: f64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let rounded = value.round_ties_even();
    #[expect(clippy::cast_possible_truncation, reason = "checked against the range")]
    (-LIMIT..LIMIT).contains(&rounded).then_some(rounded as i64)
}

/// The nearest DOUBLE.
pub(super) fn to_f64(value: i128, scale: u8) -> f64 {
    // By its digits: dividing by a power of ten would round twice.
    if scale == 0 {
        #[expect(clippy::cast_precision_loss, reason = "the nearest DOUBLE is meant")]
        return value as f64;
    }
    decimal_text(value, scale).parse().unwrap_or(f64::NAN)
}

/// An exact number with another number of digits behind the point, halves away from zero; nothing out of 128 bits.
pub(crate) fn rescaled(value: i128, from: u8, to: u8) -> Option<i128> {
    let power = |digits: u8| 10i128.checked_pow(u32::from(digits));
    if to >= from {
        return value.checked_mul(power(to - from)?);
    }
    let divisor = power(from - to)?;
    let (quotient, rest) = (value / divisor, value % divisor);
    let away = if rest.abs() * 2 >= divisor { value.signum() } else { 0 };
    Some(quotient + away)
}

fn decimal(value: i128, from: u8, precision: u8, scale: u8) -> Option<Value> {
    let value = rescaled(value, from, scale)?;
    let limit = 10i128.checked_pow(u32::from(precision))?;
    (value.abs() < limit).then_some(Value::Decimal(value, scale))
}

/// An exact number with its point.
#[must_use]
pub fn decimal_text(value: i128, scale: u8) -> String {
    let scale = usize::from(scale);
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// `-12.5`, `1e3`; rounded to `scale` digits behind the point, halves away from zero.
#[must_use]
pub fn parse_decimal(text: &str, precision: u8, scale: u8) -> Option<Value> {
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match digits.as_bytes().first()? {
        b'-' => (true, digits.get(1..)?),
        b'+' => (false, digits.get(1..)?),
        _ => (false, digits),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // The digits as one integer, and how many of them lie behind the point.
    let mut value: i128 = 0;
    let mut behind = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    for digit in whole.bytes().chain(fraction.bytes()) {
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    while behind < 0 && value != 0 {
        value = value.checked_mul(10)?;
        behind += 1;
    }
    // What lies so far behind the point rounds to nothing.
    while behind > 38 {
        value /= 10;
        behind -= 1;
    }
    let value = if negative { -value } else { value };
    decimal(value, u8::try_from(behind.max(0)).ok()?, precision, scale)
}

/// The words that PostgreSQL takes.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "on" | "1" => Some(true),
        "f" | "false" | "n" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}
