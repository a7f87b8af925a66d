//! Groups as columns: what serving holds in memory, and computes answers from.
//!
//! ```text
//!  keys:   a dictionary each         minute  0 0 0 1 1 2      city  0 1 2 0 1 0       1 byte a row and column, mostly
//!  states: packed numbers            count   7 3 1 9 2 4      sum   70 12 3 81 9 44   1 to 8 bytes
//!          sketches as they are      distinct [..] [..]
//! ```
//!
//! Rows are in order of their buckets, so a range of time is a range of rows.

use std::ops::Range;

use anabranch_core::definition::View;
use arrow::array::RecordBatch;

use crate::{
    group::Row,
    state::State,
    table::{self, TableColumn, TableError},
    value::Value,
};

mod packed;

pub use packed::Dictionary;
use packed::{Cells, DictionaryBuilder, packed};

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
        let columns = table::columns(view);
        let mut cells: Vec<Vec<Value>> = columns.iter().map(|_| Vec::with_capacity(rows.len())).collect();
        let count = rows.len();
        for row in rows {
            for (column, cell) in cells.iter_mut().zip(table::cells(&row)) {
                column.push(cell);
            }
        }
        Ok(Self::packed(view, &columns, count, cells))
    }

    /// Batches of a part as columns.
    ///
    /// # Errors
    /// [`TableError`] when a batch does not fit the view.
    pub fn of_batches(view: &View, batches: &[RecordBatch]) -> Result<Self, TableError> {
        let columns = table::columns(view);
        let count = batches.iter().map(RecordBatch::num_rows).sum();
        let mut cells = Vec::with_capacity(columns.len());
        for column in &columns {
            let missing = || TableError::Column(column.name.clone());
            let mut values = Vec::with_capacity(count);
            for batch in batches {
                let array = batch.column_by_name(&column.name).ok_or_else(missing)?;
                for index in 0..batch.num_rows() {
                    values.push(table::cell(column.column_type, array, index).ok_or_else(missing)?);
                }
            }
            cells.push(values);
        }
        let sorted = view.bucket.is_none() || cells.first().is_none_or(|buckets| buckets.is_sorted_by_key(Value::as_i64));
        let columns = Self::packed(view, &columns, count, cells);
        // As parts are written; one of an earlier program may not be.
        if sorted { Ok(columns) } else { Self::of(view, (0..count).map(|row| columns.row(view, row)).collect::<Result<_, _>>()?) }
    }

    fn packed(view: &View, columns: &[TableColumn], rows: usize, cells: Vec<Vec<Value>>) -> Self {
        let key_count = usize::from(view.bucket.is_some()) + view.dimensions.len();
        let mut cells = columns.iter().zip(cells);
        let keys = cells.by_ref().take(key_count).map(|(_, values)| {
            let mut dictionary = DictionaryBuilder::default();
            values.into_iter().for_each(|value| dictionary.push(value));
            dictionary.finish()
        });
        let keys = keys.collect();
        let cells = cells.map(|(column, values)| packed(column.column_type, values)).collect();
        let mut at = 0;
        let states = view.accumulators.iter().map(|accumulator| {
            let first = at;
            at += table::width(accumulator);
            first..at
        });
        Self { rows, keys, cells, states: states.collect() }
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

    /// Merges the states of an accumulator: of each pair, that of the first, a row here, into that of the second, a row of `groups`.
    ///
    /// # Errors
    /// [`TableError`] when a row holds something that is not a sketch.
    pub fn merge_into(&self, view: &View, accumulator: usize, pairs: &[(u32, u32)], groups: &mut [Row]) -> Result<(), TableError> {
        let (Some(range), Some(definition)) = (self.states.get(accumulator), view.accumulators.get(accumulator)) else { return Ok(()) };
        let cells = self.cells.get(range.clone()).unwrap_or_default();
        for (row, group) in pairs {
            let Some(mine) = groups.get_mut(*group as usize).and_then(|group| group.states.get_mut(accumulator)) else { continue };
            // Numbers without a state in between: they are most of what is merged.
            match (&mut *mine, cells) {
                (State::Count(count), [Cells::Integers(_, integers)]) => {
                    *count += integers.get(*row as usize).and_then(|value| i64::try_from(value).ok()).unwrap_or(0);
                }
                (State::Sum(sum, _), [Cells::Integers(_, integers)]) => {
                    if let Some(value) = integers.get(*row as usize) {
                        *sum = Some(sum.unwrap_or(0) + value);
                    }
                }
                (mine, _) => {
                    let mut values = cells.iter().map(|cells| cells.get(*row as usize));
                    let other = table::state(definition, &mut values).ok_or_else(|| TableError::Sketch(format!("_s{accumulator}")))?;
                    mine.merge(&other);
                }
            }
        }
        Ok(())
    }
}
