//! States of columns, merged into groups.

use anabranch_core::definition::{Accumulator, AccumulatorKind};

use super::packed::{Cells, Integers, Narrow, of_integer};
use crate::{
    group::Row,
    state::State,
    table::{self, TableError},
};

/// The states of one accumulator in some columns, on their way into groups. Whole numbers are added up, or compared, as the packed
/// numbers that they are, in a place for each group, and become states once, at the end.
#[derive(Debug)]
pub struct Merge<'a> {
    accumulator: usize,
    definition: &'a Accumulator,
    cells: &'a [Cells],
    way: Way<'a>,
}

#[derive(Debug)]
enum Way<'a> {
    /// Counts and sums: the total of the packed numbers of each group, and of how many.
    Total { distances: &'a Narrow, totals: Vec<u64>, counts: Vec<u32> },
    /// The smallest packed number of each group; 0 is none.
    Least { distances: &'a Narrow, found: Vec<u64> },
    /// The largest.
    Most { distances: &'a Narrow, found: Vec<u64> },
    /// Everything else, state by state.
    States,
}

impl<'a> Merge<'a> {
    pub(super) fn new(accumulator: usize, definition: &'a Accumulator, cells: &'a [Cells]) -> Self {
        let way = match (definition.kind, cells) {
            // Less than 2³² rows of less than 2³²: a total has 64 bits, and their smallest value so often has less than 128.
            (AccumulatorKind::Count | AccumulatorKind::Sum, [Cells::Integers(_, Integers::Narrow { smallest, distances })])
                if !matches!(distances, Narrow::U64(_)) && smallest.unsigned_abs() < 1 << 90 =>
            {
                Way::Total { distances, totals: Vec::new(), counts: Vec::new() }
            }
            (AccumulatorKind::Min, [Cells::Integers(_, Integers::Narrow { distances, .. })]) => Way::Least { distances, found: Vec::new() },
            (AccumulatorKind::Max, [Cells::Integers(_, Integers::Narrow { distances, .. })]) => Way::Most { distances, found: Vec::new() },
            _ => Way::States,
        };
        Self { accumulator, definition, cells, way }
    }

    /// Takes rows of the columns: each into the group at its slot, of which `groups` says where it is among `into`.
    ///
    /// # Errors
    /// [`TableError`] when a row holds something that is not a sketch.
    pub fn add(&mut self, rows: &[u32], slots: &[u32], groups: &[u32], into: &mut [Row]) -> Result<(), TableError> {
        match &mut self.way {
            Way::Total { distances, totals, counts } => {
                totals.resize(groups.len(), 0);
                counts.resize(groups.len(), 0);
                match distances {
                    Narrow::U8(numbers) => total(numbers, rows, slots, totals, counts),
                    Narrow::U16(numbers) => total(numbers, rows, slots, totals, counts),
                    Narrow::U32(numbers) => total(numbers, rows, slots, totals, counts),
                    Narrow::U64(numbers) => total(numbers, rows, slots, totals, counts),
                }
            }
            Way::Least { distances, found } => {
                found.resize(groups.len(), 0);
                each(distances, rows, slots, found, |found, number| {
                    if number != 0 && (*found == 0 || number < *found) {
                        *found = number
                    }
                });
            }
            Way::Most { distances, found } => {
                found.resize(groups.len(), 0);
                each(distances, rows, slots, found, |found, number| *found = number.max(*found));
            }
            Way::States => {
                for (row, slot) in rows.iter().zip(slots) {
                    let mut cells = self.cells.iter().map(|cells| cells.get(*row as usize));
                    let state = table::state(self.definition, &mut cells).ok_or_else(|| TableError::Sketch(format!("_s{}", self.accumulator)))?;
                    merge(self.accumulator, &state, *slot as usize, groups, into);
                }
            }
        }
        Ok(())
    }

    /// Merges what was added up.
    pub fn finish(self, groups: &[u32], into: &mut [Row]) {
        let [Cells::Integers(data_type, Integers::Narrow { smallest, .. })] = self.cells else { return };
        // The packed number of a value is its distance to the smallest, and one.
        let value = |number: u64, count: u32| i128::from(number) + (smallest - 1) * i128::from(count);
        match &self.way {
            Way::Total { totals, counts, .. } => {
                for (slot, (total, count)) in totals.iter().zip(counts).enumerate().filter(|(_, (_, count))| **count > 0) {
                    let value = value(*total, *count);
                    let state = match State::empty(self.definition) {
                        State::Sum(_, scale) => State::Sum(Some(value), scale),
                        _ => State::Count(i64::try_from(value).unwrap_or(i64::MAX)),
                    };
                    merge(self.accumulator, &state, slot, groups, into);
                }
            }
            Way::Least { found, .. } => {
                for (slot, number) in found.iter().enumerate().filter(|(_, number)| **number > 0) {
                    merge(self.accumulator, &State::Min(of_integer(*data_type, value(*number, 1))), slot, groups, into);
                }
            }
            Way::Most { found, .. } => {
                for (slot, number) in found.iter().enumerate().filter(|(_, number)| **number > 0) {
                    merge(self.accumulator, &State::Max(of_integer(*data_type, value(*number, 1))), slot, groups, into);
                }
            }
            Way::States => {}
        }
    }
}

fn merge(accumulator: usize, state: &State, slot: usize, groups: &[u32], into: &mut [Row]) {
    let group = groups.get(slot).and_then(|group| into.get_mut(*group as usize));
    if let Some(mine) = group.and_then(|group| group.states.get_mut(accumulator)) {
        mine.merge(state);
    }
}

fn total<T: Copy + Into<u64>>(numbers: &[T], rows: &[u32], slots: &[u32], totals: &mut [u64], counts: &mut [u32]) {
    for (row, slot) in rows.iter().zip(slots) {
        if let (Some(number), Some(total), Some(count)) = (numbers.get(*row as usize), totals.get_mut(*slot as usize), counts.get_mut(*slot as usize)) {
            let number: u64 = (*number).into();
            *total += number;
            *count += u32::from(number != 0);
        }
    }
}

fn each(distances: &Narrow, rows: &[u32], slots: &[u32], found: &mut [u64], take: impl Fn(&mut u64, u64)) {
    for (row, slot) in rows.iter().zip(slots) {
        if let Some(found) = found.get_mut(*slot as usize) {
            take(found, distances.get(*row as usize));
        }
    }
}
