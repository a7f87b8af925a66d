//! Groups as columns: what serving holds in memory, and computes answers from.
//!
//! ```text
//!  keys:   a dictionary each         minute  0 0 0 1 1 2      city  0 1 2 0 1 0       1 byte a row and column, mostly
//!  states: packed numbers            count   7 3 1 9 2 4      sum   70 12 3 81 9 44   1 to 8 bytes
//!          sketches as they are      distinct [..] [..]
//! ```
//!
//! Rows are in order of their buckets, so a range of time is a range of rows.

use std::{collections::BTreeSet, ops::Range};

use anabranch_core::definition::View;
use arrow::array::RecordBatch;

use crate::{
    group::Row,
    table::{self, TableColumn, TableError},
    value::Value,
};

mod gather;
mod merge;
mod packed;

pub use gather::Place;
pub use merge::Merge;
pub use packed::Dictionary;
use packed::{Cells, DictionaryBuilder, Packer};

/// Groups of one view, in order of their buckets.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    rows: usize,
    keys: Vec<Dictionary>,
    cells: Vec<Cells>,
    /// Where the cells of each accumulator are.
    states: Vec<Range<usize>>,
}

impl Columns {
    /// Rows as columns; they are put in order.
    ///
    /// # Errors
    /// [`TableError`] when a row does not fit the view.
    pub fn of(view: &View, mut rows: Vec<Row>) -> Result<Self, TableError> {
        if !rows.is_sorted_by_key(|row| row.bucket(view)) {
            rows.sort_by_key(|row| row.bucket(view));
        }
        let count = rows.len();
        let mut cells: Vec<Vec<Value>> = table::columns(view).iter().map(|_| Vec::with_capacity(count)).collect();
        for row in rows {
            for (column, cell) in cells.iter_mut().zip(table::cells(&row)) {
                column.push(cell);
            }
        }
        let mut cells = cells.into_iter();
        Self::packed(view, count, None, |_, take| {
            cells.next().into_iter().flatten().for_each(take);
            Ok(())
        })
    }

    /// Batches of a part as columns; the states of all accumulators, or of `wanted` alone.
    ///
    /// # Errors
    /// [`TableError`] when a batch does not fit the view.
    pub fn of_batches(view: &View, batches: &[RecordBatch], wanted: Option<&BTreeSet<usize>>) -> Result<Self, TableError> {
        let count = batches.iter().map(RecordBatch::num_rows).sum();
        let columns = Self::packed(view, count, wanted, |column, take| {
            let missing = || TableError::Column(column.name.clone());
            for batch in batches {
                let array = batch.column_by_name(&column.name).ok_or_else(missing)?;
                for index in 0..batch.num_rows() {
                    take(table::cell(column.column_type, array, index).ok_or_else(missing)?);
                }
            }
            Ok(())
        })?;
        // As parts are written; one of an earlier program may not be.
        let is_sorted = view.bucket.is_none() || columns.keys.first().is_none_or(Dictionary::is_sorted);
        if is_sorted || wanted.is_some() {
            return if is_sorted { Ok(columns) } else { Err(TableError::Order) };
        }
        Self::of(view, (0..count).map(|row| columns.row(view, row)).collect::<Result<_, _>>()?)
    }

    /// One column after the other: `fill` gives the values of each to what packs them.
    fn packed(
        view: &View,
        rows: usize,
        wanted: Option<&BTreeSet<usize>>,
        mut fill: impl FnMut(&TableColumn, &mut dyn FnMut(Value)) -> Result<(), TableError>,
    ) -> Result<Self, TableError> {
        let key_count = usize::from(view.bucket.is_some()) + view.dimensions.len();
        let columns = table::columns_of(view, wanted);
        let (of_keys, of_states) = columns.split_at(key_count.min(columns.len()));
        let mut keys = Vec::with_capacity(key_count);
        for column in of_keys {
            let mut dictionary = DictionaryBuilder::of(rows);
            fill(column, &mut |value| dictionary.push(&value))?;
            keys.push(dictionary.finish());
        }
        let (mut cells, mut states) = (Vec::with_capacity(of_states.len()), Vec::with_capacity(view.accumulators.len()));
        for column in of_states {
            let mut packer = Packer::of(column.column_type, rows);
            fill(column, &mut |value| packer.push(value))?;
            cells.push(packer.finish());
        }
        let mut end = 0;
        for (index, accumulator) in view.accumulators.iter().enumerate() {
            let first = end;
            end += if wanted.is_none_or(|wanted| wanted.contains(&index)) { table::width(accumulator) } else { 0 };
            states.push(first..end);
        }
        Ok(Self { rows, keys, cells, states })
    }

    /// How many groups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The column of a key: the bucket, where the view has one, then the dimensions.
    #[must_use]
    pub fn key(&self, index: usize) -> Option<&Dictionary> {
        self.keys.get(index)
    }

    /// The rows whose buckets begin in a range of microseconds, both ends included.
    #[must_use]
    pub fn between(&self, range_micros: (i64, i64)) -> Range<usize> {
        let Some(buckets) = self.keys.first() else { return 0..0 };
        // The values of the dictionary are in the order of the rows, which is theirs.
        let (start, end) = range_micros;
        let from = buckets.values().partition_point(|bucket| bucket.as_i64() < Some(start));
        let to = buckets.values().partition_point(|bucket| bucket.as_i64() <= Some(end));
        self.first_with(buckets, from)..self.first_with(buckets, to)
    }

    /// The first row whose code is at least this.
    fn first_with(&self, sorted: &Dictionary, code: usize) -> usize {
        let (mut low, mut high) = (0, self.rows);
        while low < high {
            let middle = usize::midpoint(low, high);
            if sorted.code(middle) < code { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// A row.
    ///
    /// # Errors
    /// [`TableError`] when it holds something that is not a sketch.
    pub fn row(&self, view: &View, row: usize) -> Result<Row, TableError> {
        let cells = self.keys.iter().map(|key| key.get(row).clone()).chain(self.cells.iter().map(|cells| cells.get(row)));
        table::row(view, cells.collect())
    }

    /// Begins to merge the states of an accumulator into groups; nothing when these columns are without it.
    #[must_use]
    pub fn merge<'a>(&'a self, view: &'a View, accumulator: usize) -> Option<Merge<'a>> {
        let definition = view.accumulators.get(accumulator)?;
        let cells = self.cells.get(self.states.get(accumulator)?.clone()).filter(|cells| !cells.is_empty())?;
        Some(Merge::new(accumulator, definition, cells))
    }
}
