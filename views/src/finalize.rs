//! States → the values a user sees. Nothing here is ever merged.

use anabranch_core::definition::{Formula, Measure};

use crate::{state::State, value::Value};

/// The value of `measure` over a group's states.
#[must_use]
pub fn finalize(measure: &Measure, states: &[State]) -> Value {
    match measure.formula {
        Formula::Value(index) => states.get(index).map_or(Value::Null, value),
        Formula::Mean { sum, count } => mean(states.get(sum), states.get(count)),
        Formula::Percentile { histogram, rank } => match states.get(histogram) {
            Some(State::Histogram(histogram)) => histogram.percentile(rank).map_or(Value::Null, Value::Double),
            _ => Value::Null,
        },
    }
}

fn value(state: &State) -> Value {
    match state {
        State::Count(count) => Value::BigInt(*count),
        State::Sum(sum) => sum.map_or(Value::Null, Value::Decimal),
        State::SumDouble(sum) => sum.map_or(Value::Null, |sum| Value::Double(sum.sum)),
        State::Min(value) | State::Max(value) => value.clone(),
        State::Last(last) => last.as_ref().map_or(Value::Null, |last| last.value.clone()),
        State::Distinct(registers) => Value::BigInt(registers.estimate()),
        State::Histogram(_) => Value::Null,
    }
}

#[expect(clippy::cast_precision_loss, reason = "avg is DOUBLE")]
fn mean(sum: Option<&State>, count: Option<&State>) -> Value {
    match (sum, count) {
        (Some(State::Sum(Some(sum))), Some(State::Count(count))) if *count > 0 => Value::Double(*sum as f64 / *count as f64),
        (Some(State::SumDouble(Some(sum))), Some(State::Count(count))) if *count > 0 => Value::Double(sum.sum / *count as f64),
        _ => Value::Null,
    }
}
