//! Times as events write them.

use chrono::{DateTime, NaiveDate, NaiveDateTime};

/// One way in which TIMESTAMP members are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    /// `2026-01-31 12:00:00`, read without the general parser.
    DateTime,
    /// RFC 3339, or the same without a zone, which is UTC.
    Rfc3339,
    /// strftime.
    Strftime(String),
    /// A number of seconds, or of parts of one, since 1970: so many microseconds each.
    Epoch(i64),
}

impl TimeFormat {
    /// The formats of the option `timestamp_format`.
    #[must_use]
    pub fn all(options: &[String]) -> Vec<Self> {
        if options.is_empty() {
            return vec![Self::Rfc3339];
        }
        let one = |option: &String| match option.as_str() {
            "rfc3339" => Self::Rfc3339,
            "epoch_s" => Self::Epoch(1_000_000),
            "epoch_ms" => Self::Epoch(1_000),
            "epoch_us" => Self::Epoch(1),
            "%Y-%m-%d %H:%M:%S" => Self::DateTime,
            format => Self::Strftime(format.to_owned()),
        };
        options.iter().map(one).collect()
    }

    /// Whether times are numbers.
    #[must_use]
    pub fn is_number(&self) -> bool {
        matches!(self, Self::Epoch(_))
    }

    /// Microseconds since 1970 of a whole number; nothing where times are texts, or out of range.
    #[must_use]
    pub fn micros_of_integer(&self, number: i64) -> Option<i64> {
        let Self::Epoch(micros) = self else { return None };
        number.checked_mul(*micros).filter(|micros| in_range(*micros))
    }

    /// Microseconds since 1970 of any number, to the nearest one.
    #[must_use]
    pub fn micros_of_number(&self, number: f64) -> Option<i64> {
        let Self::Epoch(micros) = self else { return None };
        #[expect(clippy::cast_precision_loss, reason = "at most a million")]
        let exact = (number * *micros as f64).round_ties_even();
        const LIMIT: f64 = 9.2e18;
        #[expect(clippy::cast_possible_truncation, reason = "checked against the range")]
        (-LIMIT..LIMIT).contains(&exact).then_some(exact as i64).filter(|micros| in_range(*micros))
    }

    /// Microseconds since 1970, UTC; nothing for a text that is not a time.
    #[must_use]
    pub fn micros(&self, text: &str) -> Option<i64> {
        match self {
            Self::Epoch(_) => None,
            Self::DateTime => plain(text),
            Self::Rfc3339 => DateTime::parse_from_rfc3339(text)
                .map(|time| time.timestamp_micros())
                .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").map(|time| time.and_utc().timestamp_micros()))
                .ok(),
            Self::Strftime(format) => DateTime::parse_from_str(text, format)
                .map(|time| time.timestamp_micros())
                .or_else(|_| NaiveDateTime::parse_from_str(text, format).map(|time| time.and_utc().timestamp_micros()))
                .ok(),
        }
    }
}

/// Years that PostgreSQL and calendars here both have.
fn in_range(micros: i64) -> bool {
    DateTime::from_timestamp_micros(micros).is_some_and(|time| (-4712..=294_275).contains(&chrono::Datelike::year(&time)))
}

fn plain(text: &str) -> Option<i64> {
    let bytes: &[u8; 19] = text.as_bytes().try_into().ok()?;
    let number =
        |from: usize, to: usize| bytes.get(from..to)?.iter().try_fold(0u32, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0')));
    let separators = [(4, b'-'), (7, b'-'), (10, b' '), (13, b':'), (16, b':')];
    if separators.iter().any(|(place, separator)| bytes.get(*place) != Some(separator)) {
        return None;
    }
    let year = i32::try_from(number(0, 4)?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, number(5, 7)?, number(8, 10)?)?;
    Some(date.and_hms_opt(number(11, 13)?, number(14, 16)?, number(17, 19)?)?.and_utc().timestamp_micros())
}

/// Days since 1970 of `2026-01-31`.
pub(super) fn days(text: &str) -> Option<i32> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}
