//! Times as events write them.

use chrono::{DateTime, NaiveDate, NaiveDateTime};

/// How the TIMESTAMP members of a source are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    /// `2026-01-31 12:00:00`, read without the general parser.
    DateTime,
    /// RFC 3339, or the same without a zone, which is UTC.
    Rfc3339,
    /// strftime.
    Strftime(String),
}

impl TimeFormat {
    /// The format of the option `timestamp_format`.
    #[must_use]
    pub fn new(option: Option<&str>) -> Self {
        match option {
            None => Self::Rfc3339,
            Some("%Y-%m-%d %H:%M:%S") => Self::DateTime,
            Some(format) => Self::Strftime(format.to_owned()),
        }
    }

    /// Microseconds since 1970, UTC; nothing for a text that is not a time.
    #[must_use]
    pub fn micros(&self, text: &str) -> Option<i64> {
        match self {
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
