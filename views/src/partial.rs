//! Columns → one row of states per group: `partial(a ++ b) = partial(a) ⊕ partial(b)`.
//!
//! ```text
//!  key columns ──► a hash of each row ──► the row's group ──► states, accumulator by accumulator
//! ```
//!
//! Every column is walked once, and nothing is allocated for a row: only for a group.

use anabranch_core::definition::{DataType, View};
use arrow::array::RecordBatch;
use hashbrown::HashTable;

use crate::{
    cells::Cells,
    evaluate::{self, EvaluateError, ViewColumns},
    group::{GroupHash, Groups, Row},
    lookup::Lookups,
    state::State,
    value::Value,
};

/// Folds a batch (of [`Decoder::finish`](crate::decode::Decoder::finish), or of an archive file) for one view.
///
/// # Errors
/// [`EvaluateError`] when a reference is not among the `lookups`, or the program itself is wrong; values never fail.
pub fn partial(view: &View, batch: &RecordBatch, lookups: &Lookups) -> Result<Groups, EvaluateError> {
    let columns = evaluate::view_columns(view, batch, lookups)?;
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
                (State::Sum(sum, _), Some(Cells::BigInt(values))) => *sum = Some(sum.unwrap_or(0) + i128::from(values.value(row))),
                (State::Sum(sum, _), Some(Cells::Decimal(values, _))) => *sum = Some(sum.unwrap_or(0) + values.value(row)),
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

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
