//! States → the values a user sees. Nothing here is ever merged.

use anabranch_core::definition::{Formula, Measure};

use crate::{scalar, state::State, value::Value};

/// The value of `measure` over a group's states.
#[must_use]
pub fn finalize(measure: &Measure, states: &[State]) -> Value {
    computed(&measure.formula, states)
}

fn computed(formula: &Formula, states: &[State]) -> Value {
    match formula {
        Formula::Value(index) => states.get(*index).map_or(Value::Null, value),
        Formula::Mean { sum, count } => mean(states.get(*sum), states.get(*count)),
        Formula::Percentile { histogram, rank } => match states.get(*histogram) {
            Some(State::Histogram(histogram)) => histogram.percentile(*rank).map_or(Value::Null, Value::Double),
            _ => Value::Null,
        },
        // What cannot be computed is NULL: x / 0 above all.
        Formula::Derived { inputs, expression } => {
            let inputs: Vec<Value> = inputs.iter().map(|input| computed(input, states)).collect();
            let input = |name: &str| name.parse::<usize>().ok().and_then(|place| inputs.get(place)).cloned().unwrap_or(Value::Null);
            scalar::evaluate(expression, &input).value
        }
    }
}

fn value(state: &State) -> Value {
    match state {
        State::Count(count) => Value::BigInt(*count),
        State::Sum(sum, scale) => sum.map_or(Value::Null, |sum| Value::Decimal(sum, *scale)),
        State::SumDouble(sum) => sum.map_or(Value::Null, |sum| Value::Double(sum.sum)),
        State::Min(value) | State::Max(value) => value.clone(),
        State::First(placed) | State::Last(placed) => placed.as_ref().map_or(Value::Null, |placed| placed.value.clone()),
        State::Values(values) => values.count(),
        State::Distinct(registers) => Value::BigInt(registers.estimate()),
        State::Histogram(_) => Value::Null,
    }
}

#[expect(clippy::cast_precision_loss, reason = "avg is DOUBLE")]
fn mean(sum: Option<&State>, count: Option<&State>) -> Value {
    match (sum, count) {
        (Some(State::Sum(Some(sum), scale)), Some(State::Count(count))) if *count > 0 => {
            Value::Double(*sum as f64 / 10f64.powi(i32::from(*scale)) / *count as f64)
        }
        (Some(State::SumDouble(Some(sum))), Some(State::Count(count))) if *count > 0 => Value::Double(sum.sum / *count as f64),
        _ => Value::Null,
    }
}
