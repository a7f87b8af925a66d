//! The one place that reads the time. Clocks decide when, never what.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, NaiveDate};

/// Milliseconds since 1970, UTC.
#[must_use]
pub fn now_ms() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The day of now, UTC.
#[must_use]
pub fn today() -> NaiveDate {
    DateTime::from_timestamp_millis(now_ms()).map(|now| now.date_naive()).unwrap_or_default()
}
