//! Columns → one row of states per group: `partial(a ++ b) = partial(a) ⊕ partial(b)`.
//!
//! ```text
//!  key columns ──► a hash of each row ──► the row's group ──► states, accumulator by accumulator
//! ```
//!
//! Every column is walked once, and nothing is allocated for a row: only for a group.

use anabranch_core::definition::{DataType, View};
use arrow::{
    array::{Array, AsArray, BooleanArray, PrimitiveArray, RecordBatch, StringViewArray},
    datatypes::{ArrowPrimitiveType, Date32Type, Float64Type, Int64Type, TimestampMicrosecondType},
};
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    evaluate::{self, EvaluateError, ViewColumns},
    group::{GroupHash, Groups, Row},
    state::State,
    value::{Value, canonical},
};

/// Folds a batch (of [`Decoder::finish`](crate::decode::Decoder::finish), or of an archive file) for one view.
///
/// # Errors
/// [`EvaluateError`] only when the program itself is wrong; values never fail.
pub fn partial(view: &View, batch: &RecordBatch) -> Result<Groups, EvaluateError> {
    let columns = evaluate::view_columns(view, batch)?;
    let mut groups = Groups::default();
    if columns.rows == 0 {
        return Ok(groups);
    }
    let mut types: Vec<DataType> = view.bucket.iter().map(|_| DataType::Timestamp).collect();
    types.extend(view.dimensions.iter().map(|dimension| dimension.expression.data_type));
    let keys: Vec<Cells<'_>> = columns.keys.iter().zip(types).map(|(array, data_type)| Cells::of(array, data_type)).collect();
    let (group_of, firsts) = grouped(&keys, columns.rows);
    let mut states = folded(view, &columns, &group_of, firsts.len());
    for first in firsts {
        let key: Vec<Value> = keys.iter().map(|cells| cells.get(first)).collect();
        let row = Row { states: states.iter_mut().filter_map(Iterator::next).collect(), key };
        groups.merge_row(GroupHash::of(&row.key), row);
    }
    Ok(groups)
}

/// The group of each row, and the first row of each group.
fn grouped(keys: &[Cells<'_>], rows: usize) -> (Vec<usize>, Vec<usize>) {
    let mut hashes = vec![0; rows];
    keys.iter().for_each(|cells| cells.hash(&mut hashes));
    let mut table: HashTable<(u64, usize)> = HashTable::new();
    let mut firsts: Vec<usize> = Vec::new();
    let group_of = hashes.into_iter().enumerate().map(|(row, hash)| {
        let is_of = |(known, group): &(u64, usize)| *known == hash && firsts.get(*group).is_some_and(|first| keys.iter().all(|cells| cells.equal(*first, row)));
        match table.find(hash, is_of) {
            Some((_, group)) => *group,
            None => {
                let group = firsts.len();
                firsts.push(row);
                table.insert_unique(hash, (hash, group), |(hash, _)| *hash);
                group
            }
        }
    });
    (group_of.collect(), firsts)
}

/// The states of each accumulator, group by group.
fn folded(view: &View, columns: &ViewColumns, group_of: &[usize], groups: usize) -> Vec<std::vec::IntoIter<State>> {
    let position = columns
        .position
        .as_ref()
        .map(|[time, partition, offset]| [Cells::of(time, DataType::Timestamp), Cells::of(partition, DataType::BigInt), Cells::of(offset, DataType::BigInt)]);
    let position = |row: usize| -> Option<(i64, i64, i64)> {
        let [time, partition, offset] = position.as_ref()?;
        Some((time.get(row).as_i64()?, partition.get(row).as_i64()?, offset.get(row).as_i64()?))
    };
    let fold = |(accumulator, argument): (&anabranch_core::definition::Accumulator, &Option<arrow::array::ArrayRef>)| {
        let mut states: Vec<State> = (0..groups).map(|_| State::empty(accumulator)).collect();
        let argument = argument.as_ref().zip(accumulator.argument_type()).map(|(array, data_type)| Cells::of(array, data_type));
        for (row, group) in group_of.iter().enumerate() {
            let Some(state) = states.get_mut(*group) else { continue };
            match (state, &argument) {
                (State::Count(count), None) => *count += 1,
                (State::Count(count), Some(argument)) => *count += i64::from(argument.is_valid(row)),
                (_, Some(argument)) if !argument.is_valid(row) => {}
                (State::Sum(sum), Some(Cells::BigInt(values))) => *sum = Some(sum.unwrap_or(0) + i128::from(values.value(row))),
                (State::Min(Value::BigInt(least)), Some(Cells::BigInt(values))) => *least = values.value(row).min(*least),
                (State::Max(Value::BigInt(most)), Some(Cells::BigInt(values))) => *most = values.value(row).max(*most),
                (state, Some(argument)) => state.add(argument.get(row), position(row)),
                (_, None) => {}
            }
        }
        states.into_iter()
    };
    view.accumulators.iter().zip(&columns.arguments).map(fold).collect()
}

/// The typed values of one column.
enum Cells<'a> {
    Boolean(&'a BooleanArray),
    BigInt(&'a PrimitiveArray<Int64Type>),
    Double(&'a PrimitiveArray<Float64Type>),
    Text(&'a StringViewArray),
    Date(&'a PrimitiveArray<Date32Type>),
    Timestamp(&'a PrimitiveArray<TimestampMicrosecondType>),
}

impl<'a> Cells<'a> {
    fn of(array: &'a dyn Array, data_type: DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Boolean(array.as_boolean()),
            DataType::BigInt | DataType::Decimal => Self::BigInt(array.as_primitive()),
            DataType::Double => Self::Double(array.as_primitive()),
            DataType::Text => Self::Text(array.as_string_view()),
            DataType::Date => Self::Date(array.as_primitive()),
            DataType::Timestamp => Self::Timestamp(array.as_primitive()),
        }
    }

    fn is_valid(&self, row: usize) -> bool {
        match self {
            Self::Boolean(values) => values.is_valid(row),
            Self::BigInt(values) => values.is_valid(row),
            Self::Double(values) => values.is_valid(row),
            Self::Text(values) => values.is_valid(row),
            Self::Date(values) => values.is_valid(row),
            Self::Timestamp(values) => values.is_valid(row),
        }
    }

    fn get(&self, row: usize) -> Value {
        if !self.is_valid(row) {
            return Value::Null;
        }
        match self {
            Self::Boolean(values) => Value::Boolean(values.value(row)),
            Self::BigInt(values) => Value::BigInt(values.value(row)),
            Self::Double(values) => Value::Double(canonical(values.value(row))),
            Self::Text(values) => Value::Text(values.value(row).to_owned()),
            Self::Date(values) => Value::Date(values.value(row)),
            Self::Timestamp(values) => Value::Timestamp(values.value(row)),
        }
    }

    /// Mixes the hash of each cell into that of its row.
    fn hash(&self, hashes: &mut [u64]) {
        fn primitive<T: ArrowPrimitiveType>(values: &PrimitiveArray<T>, hashes: &mut [u64], bits: impl Fn(T::Native) -> u64) {
            hashes.iter_mut().zip(values).for_each(|(hash, value)| *hash = mixed(*hash, value.map(&bits)));
        }
        match self {
            Self::Boolean(values) => hashes.iter_mut().zip(*values).for_each(|(hash, value)| *hash = mixed(*hash, value.map(u64::from))),
            Self::BigInt(values) => primitive(values, hashes, i64::cast_unsigned),
            Self::Double(values) => primitive(values, hashes, |value| canonical(value).to_bits()),
            Self::Text(values) => hashes.iter_mut().zip(*values).for_each(|(hash, text)| *hash = mixed(*hash, text.map(|text| xxh3_64(text.as_bytes())))),
            Self::Date(values) => primitive(values, hashes, |days| i64::from(days).cast_unsigned()),
            Self::Timestamp(values) => primitive(values, hashes, i64::cast_unsigned),
        }
    }

    /// Whether two cells are the same value, or both NULL.
    fn equal(&self, row: usize, other: usize) -> bool {
        match (self.is_valid(row), self.is_valid(other)) {
            (true, true) => match self {
                Self::Boolean(values) => values.value(row) == values.value(other),
                Self::BigInt(values) => values.value(row) == values.value(other),
                Self::Double(values) => canonical(values.value(row)).to_bits() == canonical(values.value(other)).to_bits(),
                Self::Text(values) => values.value(row) == values.value(other),
                Self::Date(values) => values.value(row) == values.value(other),
                Self::Timestamp(values) => values.value(row) == values.value(other),
            },
            (a, b) => a == b,
        }
    }
}

/// One round of a multiplicative hash; NULL is a value of its own.
fn mixed(hash: u64, value: Option<u64>) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let value = value.map_or(ODD, |value| value ^ (value >> 32));
    (hash.rotate_left(26) ^ value).wrapping_mul(ODD)
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
