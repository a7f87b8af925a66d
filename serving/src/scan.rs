//! The groups of a query, from columns: which rows pass, to which group each belongs, then one state after the other.
//!
//! ```text
//!  range of time ─► rows from..to ─► conditions, once for each value of a dictionary ─► slots of groups ─► states, by column
//! ```

use std::collections::{BTreeSet, HashMap};

use anabranch_core::definition::View;
use anabranch_views::{Columns, Row, Value, columns::Merge};

use self::{passing::Passing, placing::Placing};
use crate::{
    answer::{ABANDONED, Limits},
    answerable::{Answerable, Unreadable},
    live::Dead,
    problem::Problem,
    query::{Column, Resolved, Subject},
};

mod passing;
mod placing;

/// Rows that are looked at before it is asked whether somebody still waits.
const ROWS_A_LOOK: usize = 4096;
/// No slot, and no row.
const NONE: u32 = u32::MAX;

/// The groups of a query, merged, before conditions on measures.
///
/// # Errors
/// When there are too many groups, or nobody waits.
pub(crate) fn groups(answerable: &Answerable, query: &Resolved, limits: &Limits) -> Result<Vec<Row>, Problem> {
    let view = &answerable.view;
    let needed = needed(view, query);
    let mut scan = Scan { view, query, limits, needed: &needed, found: HashMap::new(), groups: Vec::new() };
    answerable.tables(query.range_micros, Some(&needed), |columns, dead| scan.table(columns, dead))?;
    Ok(scan.groups)
}

/// The accumulators of which the query's measures are made.
fn needed(view: &View, query: &Resolved) -> BTreeSet<usize> {
    let mut measures = BTreeSet::new();
    for column in &query.columns {
        if let Column::Measure { index, .. } = column {
            measures.insert(*index);
        }
    }
    for condition in &query.conditions.groups {
        condition.subjects(&mut |subject| {
            if let Subject::Measure(index) = subject {
                measures.insert(index);
            }
        });
    }
    measures.into_iter().filter_map(|index| view.measures.get(index)).flat_map(|measure| measure.formula.accumulators()).collect()
}

struct Scan<'a> {
    view: &'a View,
    query: &'a Resolved,
    limits: &'a Limits,
    needed: &'a BTreeSet<usize>,
    /// The groups by the encoding of their keys.
    found: HashMap<Vec<u8>, u32>,
    groups: Vec<Row>,
}

impl Scan<'_> {
    fn table(&mut self, columns: &Columns, dead: Option<&Dead>) -> Result<(), Problem> {
        let range = self.query.range_micros.map_or(0..columns.len(), |range| columns.between(range));
        let mut passing = Passing::new(self.view, self.query, columns);
        let mut placing = Placing::new(self.query, columns, range.clone());
        let merge = |accumulator: &usize| columns.merge(self.view, *accumulator).ok_or_else(|| Unreadable(format!("no column of accumulator {accumulator}")));
        let mut merges = self.needed.iter().map(merge).collect::<Result<Vec<Merge<'_>>, _>>()?;
        let (mut rows, mut slots) = (Vec::with_capacity(ROWS_A_LOOK.min(range.len())), Vec::with_capacity(ROWS_A_LOOK.min(range.len())));
        for start in range.clone().step_by(ROWS_A_LOOK) {
            if self.limits.left.is_cancelled() {
                return Err(Problem::unavailable(ABANDONED, "nobody waits for this answer"));
            }
            rows.clear();
            slots.clear();
            for row in start..range.end.min(start + ROWS_A_LOOK) {
                if dead.is_some_and(|dead| dead.contains(row)) || !passing.passes(row) {
                    continue;
                }
                slots.push(self.slot(&mut placing, row)?);
                // A level or a part has less than 2³² rows.
                rows.push(u32::try_from(row).unwrap_or(NONE));
            }
            for merge in &mut merges {
                merge.add(&rows, &slots, &placing.groups, &mut self.groups).map_err(|error| Unreadable(error.to_string()))?;
            }
        }
        for merge in merges {
            merge.finish(&placing.groups, &mut self.groups);
        }
        Ok(())
    }

    /// The slot of a row's group among those of the scanned columns.
    fn slot(&mut self, placing: &mut Placing<'_>, row: usize) -> Result<u32, Problem> {
        if self.query.ungrouped {
            // Each record is a row of its own.
            let group = self.add(placing.values(row))?;
            return Ok(placing.slot_of(group));
        }
        let place = placing.place(row);
        if let Some(known) = placing.places.get(place) {
            return Ok(known);
        }
        let key = placing.values(row);
        let mut encoded = Vec::with_capacity(64);
        key.iter().for_each(|value| value.encode_key(&mut encoded));
        let group = match self.found.get(&encoded) {
            Some(group) => *group,
            None => {
                let group = self.add(key)?;
                self.found.insert(encoded, group);
                group
            }
        };
        let slot = placing.slot_of(group);
        placing.places.set(place, slot);
        Ok(slot)
    }

    fn add(&mut self, key: Vec<Value>) -> Result<u32, Problem> {
        if self.groups.len() >= self.limits.groups {
            let detail = format!("the query makes more than {} groups (serving.groups); filter, or group by fewer dimensions", self.limits.groups);
            return Err(Problem::bad_query("group_limit", detail));
        }
        self.groups.push(Row::empty(self.view, key));
        Ok(u32::try_from(self.groups.len() - 1).unwrap_or(NONE))
    }
}
