//! Columns → one row of states per group: `partial(a ++ b) = partial(a) ⊕ partial(b)`.

use anabranch_core::definition::{DataType, View};
use arrow::array::RecordBatch;
use polars::prelude::{BooleanChunked, Column, DataFrame, Float64Chunked, GroupsIndicator, Int32Chunked, Int64Chunked, StringChunked};

use crate::{
    evaluate::{self, BUCKET, EvaluateError, argument_name, dimension_name},
    group::{GroupHash, Groups, Row},
    state::State,
    value::Value,
};

/// Folds a batch (of [`Decoder::finish`](crate::decode::Decoder::finish), or of an archive file) for one view.
///
/// # Errors
/// [`EvaluateError`] only when the program itself is wrong; values never fail.
pub fn partial(view: &View, batch: &RecordBatch) -> Result<Groups, EvaluateError> {
    let frame = evaluate::view_columns(view, batch)?;
    let mut groups = Groups::default();
    if frame.height() == 0 {
        return Ok(groups);
    }
    let mut names: Vec<String> = view.bucket.iter().map(|_| BUCKET.to_owned()).collect();
    names.extend((0..view.dimensions.len()).map(dimension_name));
    let mut types: Vec<DataType> = view.bucket.iter().map(|_| DataType::Timestamp).collect();
    types.extend(view.dimensions.iter().map(|dimension| dimension.expression.data_type));
    let key: Vec<Cells<'_>> = names.iter().zip(types).map(|(name, data_type)| Cells::of(&frame, name, data_type)).collect::<Result<_, _>>()?;
    let fold = Fold::new(view, &frame)?;
    let mut add = |first: usize, rows: &mut dyn Iterator<Item = usize>| {
        let key: Vec<Value> = key.iter().map(|cells| cells.get(first)).collect();
        let mut row = Row::empty(view, key);
        fold.add(&mut row.states, rows);
        groups.merge_row(GroupHash::of(&row.key), row);
    };
    if names.is_empty() {
        add(0, &mut (0..frame.height()));
        return Ok(groups);
    }
    let grouped = frame.group_by_stable(&names)?;
    for group in grouped.get_groups().iter() {
        match group {
            GroupsIndicator::Idx((first, rows)) => add(first as usize, &mut rows.iter().map(|row| *row as usize)),
            GroupsIndicator::Slice([first, length]) => add(first as usize, &mut (first as usize..(first + length) as usize)),
        }
    }
    Ok(groups)
}

/// The typed values of one column.
enum Cells<'a> {
    Boolean(&'a BooleanChunked),
    BigInt(&'a Int64Chunked),
    Double(&'a Float64Chunked),
    Text(&'a StringChunked),
    Date(&'a Int32Chunked),
    Timestamp(&'a Int64Chunked),
}

impl<'a> Cells<'a> {
    fn of(frame: &'a DataFrame, name: &str, data_type: DataType) -> Result<Self, EvaluateError> {
        let column: &'a Column = frame.column(name)?;
        Ok(match data_type {
            DataType::Boolean => Self::Boolean(column.bool()?),
            DataType::BigInt | DataType::Decimal => Self::BigInt(column.i64()?),
            DataType::Double => Self::Double(column.f64()?),
            DataType::Text => Self::Text(column.str()?),
            DataType::Date => Self::Date(column.date()?.physical()),
            DataType::Timestamp => Self::Timestamp(column.datetime()?.physical()),
        })
    }

    fn get(&self, row: usize) -> Value {
        match self {
            Self::Boolean(values) => values.get(row).map_or(Value::Null, Value::Boolean),
            Self::BigInt(values) => values.get(row).map_or(Value::Null, Value::BigInt),
            Self::Double(values) => values.get(row).map_or(Value::Null, |value| Value::Double(crate::value::canonical(value))),
            Self::Text(values) => values.get(row).map_or(Value::Null, |text| Value::Text(text.to_owned())),
            Self::Date(values) => values.get(row).map_or(Value::Null, Value::Date),
            Self::Timestamp(values) => values.get(row).map_or(Value::Null, Value::Timestamp),
        }
    }
}

/// The arguments of a view's accumulators.
struct Fold<'a> {
    arguments: Vec<Option<Cells<'a>>>,
    position: Option<[Cells<'a>; 3]>,
}

impl<'a> Fold<'a> {
    fn new(view: &View, frame: &'a DataFrame) -> Result<Self, EvaluateError> {
        let mut arguments = Vec::with_capacity(view.accumulators.len());
        for (index, accumulator) in view.accumulators.iter().enumerate() {
            let cells = accumulator.argument_type().map(|data_type| Cells::of(frame, &argument_name(index), data_type)).transpose()?;
            arguments.push(cells);
        }
        let position = match frame.column("position time") {
            Ok(_) => Some([
                Cells::of(frame, "position time", DataType::Timestamp)?,
                Cells::of(frame, "position partition", DataType::BigInt)?,
                Cells::of(frame, "position offset", DataType::BigInt)?,
            ]),
            Err(_) => None,
        };
        Ok(Self { arguments, position })
    }

    fn add(&self, states: &mut [State], rows: &mut dyn Iterator<Item = usize>) {
        for row in rows {
            for (state, argument) in states.iter_mut().zip(&self.arguments) {
                match (state, argument) {
                    (State::Count(count), None) => *count += 1,
                    (State::Count(count), Some(argument)) => *count += i64::from(!argument.get(row).is_null()),
                    (State::Sum(sum), Some(Cells::BigInt(values))) => {
                        if let Some(value) = values.get(row) {
                            *sum = Some(sum.unwrap_or(0) + i128::from(value));
                        }
                    }
                    (state, Some(argument)) => {
                        let value = argument.get(row);
                        if !value.is_null() {
                            state.add(value, self.position(row));
                        }
                    }
                    (_, None) => {}
                }
            }
        }
    }

    fn position(&self, row: usize) -> Option<(i64, i64, i64)> {
        let [time, partition, offset] = self.position.as_ref()?;
        Some((time.get(row).as_i64()?, partition.get(row).as_i64()?, offset.get(row).as_i64()?))
    }
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
