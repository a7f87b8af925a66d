//! Rows of states as columns: the shape of live tables, flush messages and parts.
//!
//! ```text
//! <bucket>  <dimension>…  <accumulator 0>  <accumulator 1> …
//! minute    city          _s0_count        _s1_sum    _s2_last, _s2_last_time, _s2_last_partition, _s2_last_offset
//! ```

use std::{
    borrow::{Borrow, Cow},
    collections::BTreeSet,
    sync::Arc,
};

use anabranch_core::definition::{Accumulator, AccumulatorKind, DataType, MAX_PRECISION, View};
use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder, RecordBatch,
        StringViewBuilder, TimestampMicrosecondBuilder,
    },
    datatypes::{DataType as Arrow, Date32Type, Decimal128Type, Field, Float64Type, Int64Type, Schema, TimestampMicrosecondType},
    error::ArrowError,
};
use thiserror::Error;

use crate::{
    group::Row,
    state::{DistinctValues, DoubleSum, Histogram, PlacedValue, Registers, State},
    value::{Value, arrow_type},
};

/// The type of a column of a table of states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// A type of SQL.
    Sql(DataType),
    /// An encoded sketch.
    Bytes,
}

/// A column of a table of states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub column_type: ColumnType,
}

/// Columns that are not what the view's definition says.
#[derive(Debug, Error)]
pub enum TableError {
    /// The bytes of a sketch are not a sketch.
    #[error("the column {0} does not hold a sketch")]
    Sketch(String),
    /// A column is missing or has another type.
    #[error("the column {0} is missing or has another type")]
    Column(String),
    /// The rows are not in the order of their buckets.
    #[error("the rows are not in the order of their buckets")]
    Order,
    /// Arrow refused.
    #[error("arrow")]
    Arrow(#[from] ArrowError),
}

/// The columns of a view's states, in order: bucket, dimensions, states.
#[must_use]
pub fn columns(view: &View) -> Vec<TableColumn> {
    columns_of(view, None)
}

/// The columns of a view's keys, and of the states of all accumulators or of `wanted` alone.
#[must_use]
pub fn columns_of(view: &View, wanted: Option<&BTreeSet<usize>>) -> Vec<TableColumn> {
    let mut columns: Vec<TableColumn> = view.bucket.iter().map(|bucket| sql(&bucket.name, DataType::Timestamp)).collect();
    columns.extend(view.dimensions.iter().map(|dimension| sql(&dimension.name, dimension.expression.data_type)));
    let is_wanted = |index: &usize| wanted.is_none_or(|wanted| wanted.contains(index));
    let states = view.accumulators.iter().enumerate().filter(|(index, _)| is_wanted(index));
    columns.extend(states.flat_map(|(index, accumulator)| state_columns(index, accumulator)));
    columns
}

fn sql(name: &str, data_type: DataType) -> TableColumn {
    TableColumn { name: name.to_owned(), column_type: ColumnType::Sql(data_type) }
}

fn state_columns(index: usize, accumulator: &Accumulator) -> Vec<TableColumn> {
    let mut columns = Vec::new();
    let argument = accumulator.argument_type().unwrap_or(DataType::BigInt);
    let name = |suffix: &str| format!("_s{index}_{suffix}");
    match accumulator.kind {
        AccumulatorKind::Count => columns.push(sql(&name("count"), DataType::BigInt)),
        AccumulatorKind::Sum if argument == DataType::Double => {
            columns.push(sql(&name("sum"), DataType::Double));
            columns.push(sql(&name("sum_terms"), DataType::BigInt));
            columns.push(sql(&name("sum_magnitude"), DataType::Double));
        }
        AccumulatorKind::Sum => columns.push(sql(&name("sum"), DataType::Decimal { precision: MAX_PRECISION, scale: argument.scale() })),
        AccumulatorKind::Min => columns.push(sql(&name("min"), argument)),
        AccumulatorKind::Max => columns.push(sql(&name("max"), argument)),
        AccumulatorKind::First | AccumulatorKind::Last => {
            let which = if accumulator.kind == AccumulatorKind::First { "first" } else { "last" };
            columns.push(sql(&name(which), argument));
            columns.push(sql(&name(&format!("{which}_time")), DataType::Timestamp));
            columns.push(sql(&name(&format!("{which}_partition")), DataType::BigInt));
            columns.push(sql(&name(&format!("{which}_offset")), DataType::BigInt));
        }
        AccumulatorKind::Values { .. } => columns.push(TableColumn { name: name("values"), column_type: ColumnType::Bytes }),
        AccumulatorKind::Distinct => columns.push(TableColumn { name: name("distinct"), column_type: ColumnType::Bytes }),
        AccumulatorKind::Histogram => columns.push(TableColumn { name: name("histogram"), column_type: ColumnType::Bytes }),
    }
    columns
}

/// How many columns the state of an accumulator has.
#[must_use]
pub fn width(accumulator: &Accumulator) -> usize {
    state_columns(0, accumulator).len()
}

/// A row as the cells of [`columns`].
#[must_use]
pub fn cells(row: &Row) -> Vec<Value> {
    let mut cells = Vec::new();
    each_cell(row, |cell| cells.push(cell.into_owned()));
    cells
}

/// Takes the cells of a row one by one, in order; texts of its key are not copied.
pub(crate) fn each_cell<'a>(row: &'a Row, mut take: impl FnMut(Cow<'a, Value>)) {
    row.key.iter().for_each(|value| take(Cow::Borrowed(value)));
    for state in &row.states {
        match state {
            State::Count(count) => take(Cow::Owned(Value::BigInt(*count))),
            State::Sum(sum, scale) => take(Cow::Owned(sum.map_or(Value::Null, |sum| Value::Decimal(sum, *scale)))),
            State::SumDouble(sum) => {
                let cells = sum.map_or([Value::Null, Value::Null, Value::Null], |DoubleSum { sum, terms, magnitude }| {
                    [Value::Double(sum), Value::BigInt(terms), Value::Double(magnitude)]
                });
                cells.into_iter().for_each(|cell| take(Cow::Owned(cell)));
            }
            State::Min(value) | State::Max(value) => take(Cow::Borrowed(value)),
            State::First(None) | State::Last(None) => (0..4).for_each(|_| take(Cow::Owned(Value::Null))),
            State::First(Some(PlacedValue { position: (time, partition, offset), value }))
            | State::Last(Some(PlacedValue { position: (time, partition, offset), value })) => {
                take(Cow::Borrowed(value));
                [Value::Timestamp(*time), Value::BigInt(*partition), Value::BigInt(*offset)].into_iter().for_each(|cell| take(Cow::Owned(cell)));
            }
            State::Values(values) => take(Cow::Owned(Value::Bytes(values.to_bytes()))),
            State::Distinct(registers) => take(Cow::Owned(Value::Bytes(registers.to_bytes()))),
            State::Histogram(histogram) => take(Cow::Owned(Value::Bytes(histogram.to_bytes()))),
        }
    }
}

/// The row that [`cells`] wrote.
///
/// # Errors
/// [`TableError`] when the cells are not those of the view's columns.
pub fn row(view: &View, cells: Vec<Value>) -> Result<Row, TableError> {
    let key_length = usize::from(view.bucket.is_some()) + view.dimensions.len();
    let mut cells = cells.into_iter();
    let key: Vec<Value> = cells.by_ref().take(key_length).collect();
    let mut states = Vec::with_capacity(view.accumulators.len());
    for (index, accumulator) in view.accumulators.iter().enumerate() {
        states.push(state(accumulator, &mut cells).ok_or_else(|| TableError::Sketch(format!("_s{index}")))?);
    }
    Ok(Row { key, states })
}

/// The state of an accumulator from its cells; nothing when they do not fit.
pub(crate) fn state(accumulator: &Accumulator, cells: &mut impl Iterator<Item = Value>) -> Option<State> {
    let value = cells.next()?;
    Some(match (State::empty(accumulator), value) {
        (State::Count(_), value) => State::Count(value.as_i64()?),
        (State::Sum(_, scale), Value::Decimal(sum, found)) if scale == found => State::Sum(Some(sum), scale),
        (State::SumDouble(_), sum) => match (sum, cells.next()?, cells.next()?) {
            (Value::Null, _, _) => State::SumDouble(None),
            (Value::Double(sum), Value::BigInt(terms), Value::Double(magnitude)) => State::SumDouble(Some(DoubleSum { sum, terms, magnitude })),
            _ => return None,
        },
        (State::Min(_), value) => State::Min(value),
        (State::Max(_), value) => State::Max(value),
        (State::First(_), value) => State::First(placed(value, cells)?),
        (State::Last(_), value) => State::Last(placed(value, cells)?),
        (State::Values(_), Value::Bytes(bytes)) => match accumulator.kind {
            AccumulatorKind::Values { limit } => State::Values(DistinctValues::from_bytes(&bytes, limit)?),
            _ => return None,
        },
        (State::Distinct(_), Value::Bytes(bytes)) => State::Distinct(Registers::from_bytes(&bytes)?),
        (State::Histogram(_), Value::Bytes(bytes)) => State::Histogram(Histogram::from_bytes(&bytes)?),
        (empty @ State::Sum(..), Value::Null) => empty,
        _ => return None,
    })
}

/// The value with the place of its record in the cells behind it; nothing in the middle when they do not fit.
fn placed(value: Value, cells: &mut impl Iterator<Item = Value>) -> Option<Option<PlacedValue>> {
    let position = (cells.next()?, cells.next()?, cells.next()?);
    match (value, position.0.as_i64(), position.1.as_i64(), position.2.as_i64()) {
        (Value::Null, _, _, _) => Some(None),
        (value, Some(time), Some(partition), Some(offset)) => Some(Some(PlacedValue { position: (time, partition, offset), value })),
        _ => None,
    }
}

/// The Arrow schema of a table.
#[must_use]
pub fn schema(columns: &[TableColumn]) -> Arc<Schema> {
    let field = |column: &TableColumn| {
        let arrow = match column.column_type {
            ColumnType::Sql(data_type) => arrow_type(data_type),
            ColumnType::Bytes => Arrow::Binary,
        };
        Field::new(&column.name, arrow, true)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// Rows → one batch of Arrow columns, in the order of the rows.
///
/// # Errors
/// [`TableError`] when a row does not fit the view.
pub fn to_batch<'a>(view: &View, rows: impl IntoIterator<Item = &'a Row>) -> Result<RecordBatch, TableError> {
    let columns = columns(view);
    let mut values: Vec<Vec<Cow<'a, Value>>> = columns.iter().map(|_| Vec::new()).collect();
    for row in rows {
        let mut columns = values.iter_mut();
        each_cell(row, |cell| {
            if let Some(column) = columns.next() {
                column.push(cell);
            }
        });
    }
    let arrays = columns.iter().zip(values).map(|(column, values)| array(&column.name, column.column_type, &values)).collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(schema(&columns), arrays)?)
}

/// A batch of the view's columns → rows.
///
/// # Errors
/// [`TableError`] when a column is missing, has another type, or holds no sketch.
pub fn from_batch(view: &View, batch: &RecordBatch) -> Result<Vec<Row>, TableError> {
    let columns = columns(view);
    let mut cells: Vec<Vec<Value>> = (0..batch.num_rows()).map(|_| Vec::with_capacity(columns.len())).collect();
    for column in &columns {
        let missing = || TableError::Column(column.name.clone());
        let array = batch.column_by_name(&column.name).ok_or_else(missing)?;
        for (index, cells) in cells.iter_mut().enumerate() {
            cells.push(cell(column.column_type, array, index).ok_or_else(missing)?);
        }
    }
    cells.into_iter().map(|cells| row(view, cells)).collect()
}

/// A column of values.
///
/// # Errors
/// [`TableError`] when a value is of another type.
pub fn array(name: &str, column_type: ColumnType, values: &[impl Borrow<Value>]) -> Result<ArrayRef, TableError> {
    let wrong = || TableError::Column(name.to_owned());
    macro_rules! build {
        ($builder:expr, $pattern:pat => $value:expr) => {{
            let mut builder = $builder;
            for value in values {
                match value.borrow() {
                    Value::Null => builder.append_null(),
                    $pattern => builder.append_value($value),
                    _ => return Err(wrong()),
                }
            }
            Arc::new(builder.finish()) as ArrayRef
        }};
    }
    Ok(match column_type {
        ColumnType::Bytes => build!(BinaryBuilder::new(), Value::Bytes(bytes) => bytes),
        ColumnType::Sql(DataType::Boolean) => build!(BooleanBuilder::new(), Value::Boolean(value) => *value),
        ColumnType::Sql(DataType::BigInt) => build!(Int64Builder::new(), Value::BigInt(value) => *value),
        ColumnType::Sql(DataType::Double) => build!(Float64Builder::new(), Value::Double(value) => *value),
        ColumnType::Sql(DataType::Text) => build!(StringViewBuilder::new(), Value::Text(value) => value),
        ColumnType::Sql(DataType::Date) => build!(Date32Builder::new(), Value::Date(value) => *value),
        ColumnType::Sql(DataType::Decimal { precision, scale }) => {
            #[expect(clippy::cast_possible_wrap, reason = "at most 38")]
            let builder = Decimal128Builder::new().with_precision_and_scale(precision, scale as i8)?;
            build!(builder, Value::Decimal(value, _) => *value)
        }
        ColumnType::Sql(DataType::Timestamp) => {
            build!(TimestampMicrosecondBuilder::new().with_timezone("UTC"), Value::Timestamp(value) => *value)
        }
    })
}

/// The cell of a column that holds `column_type`; nothing when it holds something else.
#[must_use]
pub fn cell(column_type: ColumnType, array: &dyn Array, index: usize) -> Option<Value> {
    if array.is_null(index) {
        return Some(Value::Null);
    }
    Some(match (column_type, array.data_type()) {
        (ColumnType::Bytes, Arrow::Binary) => Value::Bytes(array.as_binary::<i32>().value(index).to_vec()),
        (ColumnType::Sql(DataType::Boolean), Arrow::Boolean) => Value::Boolean(array.as_boolean().value(index)),
        (ColumnType::Sql(DataType::BigInt), Arrow::Int64) => Value::BigInt(array.as_primitive::<Int64Type>().value(index)),
        (ColumnType::Sql(DataType::Double), Arrow::Float64) => Value::Double(array.as_primitive::<Float64Type>().value(index)),
        (ColumnType::Sql(DataType::Text), Arrow::Utf8View) => Value::Text(array.as_string_view().value(index).to_owned()),
        (ColumnType::Sql(DataType::Text), Arrow::Utf8) => Value::Text(array.as_string::<i32>().value(index).to_owned()),
        (ColumnType::Sql(DataType::Date), Arrow::Date32) => Value::Date(array.as_primitive::<Date32Type>().value(index)),
        (ColumnType::Sql(DataType::Decimal { scale, .. }), Arrow::Decimal128(_, found)) if i16::from(*found) == i16::from(scale) => {
            Value::Decimal(array.as_primitive::<Decimal128Type>().value(index), scale)
        }
        (ColumnType::Sql(DataType::Timestamp), Arrow::Timestamp(_, _)) => Value::Timestamp(array.as_primitive::<TimestampMicrosecondType>().value(index)),
        _ => return None,
    })
}
