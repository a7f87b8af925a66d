//! `WITH (metrics = 'messages, resolution_time BY city OVER 1 hour')`: measures that serving shows to Prometheus.

use serde::{Deserialize, Serialize};

use super::{DataType, View, error::Mistake, options::Options};

/// The longest time that gauges may look back.
const LONGEST_SECONDS: i64 = 366 * 86_400;

/// Measures of a view as gauges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gauges {
    /// The measures.
    pub measures: Vec<String>,
    /// One gauge for each value of these dimensions.
    pub by: Vec<String>,
    /// Of the buckets that began in so many last seconds; all without it.
    pub over_seconds: Option<i64>,
}

/// Reads the option `metrics` of a view.
pub(super) fn gauges(options: &Options, view: &View) -> Result<Option<Gauges>, Mistake> {
    let Some((text, span)) = options.find("metrics") else { return Ok(None) };
    let wrong = |message: String| Mistake::new("metrics", span, message).help("metrics = 'measure, measure BY dimension, dimension OVER 1 hour'");
    let words: Vec<&str> = text.split_whitespace().collect();
    let place = |keyword: &str| words.iter().position(|word| word.eq_ignore_ascii_case(keyword));
    let (by, over) = (place("BY").unwrap_or(words.len()), place("OVER").unwrap_or(words.len()));
    if over < by && by < words.len() {
        return Err(wrong("OVER stands before BY".to_owned()));
    }
    let names = |range: Option<&[&str]>| -> Vec<String> {
        let joined = range.unwrap_or_default().join(" ");
        joined.split(',').map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty()).collect()
    };
    let measures = names(words.get(..by.min(over)));
    let dimensions = names(words.get(by.min(over) + 1..over));
    if measures.is_empty() || (by < words.len() && dimensions.is_empty()) {
        return Err(wrong(format!("'{text}' names no {}", if measures.is_empty() { "measure" } else { "dimension after BY" })));
    }
    for name in &measures {
        let measure = view.measures.iter().find(|measure| measure.name == *name).ok_or_else(|| {
            Mistake::new("unknown_column", span, format!("unknown measure \"{name}\"")).nearest(name, view.measures.iter().map(|measure| measure.name.as_str()))
        })?;
        if !matches!(measure.data_type, DataType::BigInt | DataType::Double | DataType::Decimal { .. }) {
            return Err(wrong(format!("the measure \"{name}\" is {}, and a metric is a number", measure.data_type)));
        }
    }
    if let Some(name) = dimensions.iter().find(|name| !view.dimensions.iter().any(|dimension| dimension.name == **name)) {
        let known = view.dimensions.iter().map(|dimension| dimension.name.as_str());
        return Err(Mistake::new("unknown_column", span, format!("unknown dimension \"{name}\"")).nearest(name, known));
    }
    let over_seconds = match words.get(over + 1..) {
        None => None,
        Some(interval) => {
            if view.bucket.is_none() {
                return Err(wrong(format!("OVER looks back in time, and the view \"{}\" has no time bucket", view.name)));
            }
            Some(seconds(interval).ok_or_else(|| wrong(format!("'{}' is no interval of seconds, minutes, hours or days", interval.join(" "))))?)
        }
    };
    Ok(Some(Gauges { measures, by: dimensions, over_seconds }))
}

/// `5 minutes`.
fn seconds(words: &[&str]) -> Option<i64> {
    let [count, unit] = words else { return None };
    let unit = match unit.to_lowercase().trim_end_matches('s') {
        "second" => 1,
        "minute" => 60,
        "hour" => 3600,
        "day" => 86_400,
        _ => return None,
    };
    count.parse::<i64>().ok()?.checked_mul(unit).filter(|seconds| (1..=LONGEST_SECONDS).contains(seconds))
}
