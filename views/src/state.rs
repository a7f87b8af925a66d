//! Mergeable states. Merging is associative and commutative, the empty state is its identity, and the result has the
//! same bytes in any order, but for sums of DOUBLE, which are marked `rounded`.

use anabranch_core::definition::{Accumulator, AccumulatorKind, DataType};

use crate::value::Value;

mod distinct;
mod histogram;
mod values;

pub use distinct::Registers;
pub use histogram::Histogram;
pub use values::DistinctValues;

/// The value of the record that is first or last by (event time, partition, offset).
#[derive(Clone, Debug, PartialEq)]
pub struct PlacedValue {
    /// Event time, then partition, then offset.
    pub position: (i64, i64, i64),
    /// Its value; not NULL.
    pub value: Value,
}

/// A sum of DOUBLE, with what bounds its rounding: two orders of addition differ by at most 2·n·ε·Σ|x|
/// (Higham, Accuracy and Stability of Numerical Algorithms, 4.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DoubleSum {
    /// Σx.
    pub sum: f64,
    /// n.
    pub terms: i64,
    /// Σ|x|.
    pub magnitude: f64,
}

impl DoubleSum {
    /// Over one value.
    #[must_use]
    pub fn of(value: f64) -> Self {
        Self { sum: value, terms: 1, magnitude: value.abs() }
    }

    fn merged(self, other: Self) -> Self {
        Self { sum: self.sum + other.sum, terms: self.terms + other.terms, magnitude: self.magnitude + other.magnitude }
    }
}

/// The state of one accumulator in one group.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// A number of records or values.
    Count(i64),
    /// A sum of BIGINT or DECIMAL, with its digits behind the point; nothing over no values. It cannot overflow: a topic
    /// holds at most 2⁶³ records of at most 2⁶³ each, and 2¹²⁶ < 10³⁸.
    Sum(Option<i128>, u8),
    /// A sum of DOUBLE.
    SumDouble(Option<DoubleSum>),
    /// The smallest value; NULL over no values.
    Min(Value),
    /// The largest value.
    Max(Value),
    /// The first value.
    First(Option<PlacedValue>),
    /// The last value.
    Last(Option<PlacedValue>),
    /// The distinct values.
    Values(DistinctValues),
    /// The registers of a distinct count.
    Distinct(Registers),
    /// The buckets of a percentile.
    Histogram(Histogram),
}

impl State {
    /// The identity of merging.
    #[must_use]
    pub fn empty(accumulator: &Accumulator) -> Self {
        match (accumulator.kind, accumulator.argument_type()) {
            (AccumulatorKind::Count, _) => Self::Count(0),
            (AccumulatorKind::Sum, Some(DataType::Double)) => Self::SumDouble(None),
            (AccumulatorKind::Sum, argument) => Self::Sum(None, argument.map_or(0, DataType::scale)),
            (AccumulatorKind::Min, _) => Self::Min(Value::Null),
            (AccumulatorKind::Max, _) => Self::Max(Value::Null),
            (AccumulatorKind::First, _) => Self::First(None),
            (AccumulatorKind::Last, _) => Self::Last(None),
            (AccumulatorKind::Values { limit }, _) => Self::Values(DistinctValues::new(limit)),
            (AccumulatorKind::Distinct, _) => Self::Distinct(Registers::default()),
            (AccumulatorKind::Histogram, _) => Self::Histogram(Histogram::default()),
        }
    }

    /// Adds a value that is not NULL. `position` is that of its record; without one it takes no part in `last`.
    pub fn add(&mut self, value: Value, position: Option<(i64, i64, i64)>) {
        let other = match self {
            Self::Count(count) => {
                *count += 1;
                return;
            }
            Self::Distinct(registers) => return registers.add(&value),
            Self::Values(values) => return values.add(&value),
            Self::Histogram(histogram) => {
                return match value {
                    Value::Double(value) => histogram.add(value),
                    #[expect(clippy::cast_precision_loss, reason = "the bucket is wider than the rounding")]
                    Value::BigInt(value) => histogram.add(value as f64),
                    #[expect(clippy::cast_precision_loss, reason = "the bucket is wider than the rounding")]
                    Value::Decimal(value, scale) => histogram.add(value as f64 / 10f64.powi(i32::from(scale))),
                    _ => {}
                };
            }
            Self::Sum(_, scale) => Self::Sum(if let Value::Decimal(value, _) = value { Some(value) } else { value.as_i64().map(i128::from) }, *scale),
            Self::SumDouble(_) => Self::SumDouble(if let Value::Double(value) = value { Some(DoubleSum::of(value)) } else { None }),
            Self::Min(_) => Self::Min(value),
            Self::Max(_) => Self::Max(value),
            Self::First(_) => Self::First(position.map(|position| PlacedValue { position, value })),
            Self::Last(_) => Self::Last(position.map(|position| PlacedValue { position, value })),
        };
        self.merge(&other);
    }

    /// `self ⊕ other`.
    ///
    /// # Panics
    /// When the states are of different accumulators: only a bug can do that.
    pub fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Count(mine), Self::Count(other)) => *mine += other,
            (Self::Sum(mine, _), Self::Sum(other, _)) => *mine = mine.map_or(*other, |mine| Some(mine + other.unwrap_or(0))),
            (Self::SumDouble(mine), Self::SumDouble(other)) => *mine = mine.map_or(*other, |mine| Some(other.map_or(mine, |other| mine.merged(other)))),
            (Self::Min(mine), Self::Min(other)) => {
                if !other.is_null() && (mine.is_null() || other.compare(mine).is_lt()) {
                    mine.clone_from(other);
                }
            }
            (Self::Max(mine), Self::Max(other)) => {
                if other.compare(mine).is_gt() {
                    mine.clone_from(other);
                }
            }
            (Self::First(mine), Self::First(other)) => {
                let earlier = other.as_ref().is_some_and(|other| mine.as_ref().is_none_or(|mine| other.position < mine.position));
                if earlier {
                    mine.clone_from(other);
                }
            }
            (Self::Values(mine), Self::Values(other)) => mine.merge(other),
            (Self::Last(mine), Self::Last(other)) => {
                let later = other.as_ref().is_some_and(|other| mine.as_ref().is_none_or(|mine| other.position > mine.position));
                if later {
                    mine.clone_from(other);
                }
            }
            (Self::Distinct(mine), Self::Distinct(other)) => mine.merge(other),
            (Self::Histogram(mine), Self::Histogram(other)) => mine.merge(other),
            (mine, other) => unreachable!("states of different accumulators: {mine:?}, {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests;
