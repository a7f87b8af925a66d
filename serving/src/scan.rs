//! The groups of a query, from columns: which rows pass, to which group each belongs, then one state after the other.
//!
//! ```text
//!  range of time ─► rows from..to ─► conditions, once for each value of a dictionary ─► the group of each row ─► states, by column
//! ```

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    ops::Range,
};

use anabranch_core::definition::{Granularity, View};
use anabranch_views::{Columns, Row, Value, columns::Dictionary, scalar};
use chrono_tz::Tz;

use crate::{
    answer::{ABANDONED, Limits},
    answerable::Answerable,
    live::Dead,
    problem::Problem,
    query::{Clock, Column, Condition, Resolved, Subject},
};

/// Rows that are looked at before it is asked whether somebody still waits.
const ROWS_A_LOOK: usize = 4096;
/// A table by the numbers of keys has this many places at most, or four for each row of the scan; else it is a map.
const MOST_PLACES: usize = 1 << 14;
const NONE: u32 = u32::MAX;

/// The groups of a query, merged, before conditions on measures.
///
/// # Errors
/// When there are too many groups, or nobody waits.
pub(crate) fn groups(answerable: &Answerable, query: &Resolved, limits: &Limits) -> Result<Vec<Row>, Problem> {
    let view = &answerable.view;
    let mut scan = Scan { view, query, limits, needed: needed(view, query), found: HashMap::new(), groups: Vec::new() };
    for (columns, dead) in answerable.tables() {
        scan.table(columns, dead)?;
    }
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
    needed: BTreeSet<usize>,
    /// The groups by the encoding of their keys.
    found: HashMap<Vec<u8>, u32>,
    groups: Vec<Row>,
}

impl Scan<'_> {
    fn table(&mut self, columns: &Columns, dead: Option<&Dead>) -> Result<(), Problem> {
        let range = self.query.range_micros.map_or(0..columns.len(), |range| columns.between(range));
        let mut passing = Passing::new(self.view, self.query, columns);
        let mut placing = Placing::new(self.query, columns, range.clone());
        let mut pairs = Vec::with_capacity(ROWS_A_LOOK.min(range.len()));
        for start in range.clone().step_by(ROWS_A_LOOK) {
            if self.limits.left.is_cancelled() {
                return Err(Problem::unavailable(ABANDONED, "nobody waits for this answer"));
            }
            pairs.clear();
            for row in start..range.end.min(start + ROWS_A_LOOK) {
                if dead.is_some_and(|dead| dead.contains(row)) || !passing.passes(row) {
                    continue;
                }
                let group = self.group(&mut placing, row)?;
                // A level or a part has less than 2³² rows.
                pairs.push((u32::try_from(row).unwrap_or(NONE), group));
            }
            for accumulator in &self.needed {
                let merged = columns.merge_into(self.view, *accumulator, &pairs, &mut self.groups);
                merged.map_err(|error| Problem::unavailable("unreadable", format!("a version holds what cannot be read: {error}")))?;
            }
        }
        Ok(())
    }

    /// The group of a row.
    fn group(&mut self, placing: &mut Placing<'_>, row: usize) -> Result<u32, Problem> {
        if self.query.ungrouped {
            // Each record is a row of its own.
            return self.add(placing.values(row));
        }
        let place = placing.place(row);
        if let Some(known) = placing.table.get(place) {
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
        placing.table.set(place, group);
        Ok(group)
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

/// Whether rows meet the conditions; what is about one key is asked once for each of its values.
struct Passing<'a> {
    view: &'a View,
    query: &'a Resolved,
    columns: &'a Columns,
    of_one_key: Vec<OfOneKey<'a>>,
    of_several: Vec<&'a Condition>,
}

/// A condition on one key, and of which of the key's codes it is known to hold.
struct OfOneKey<'a> {
    condition: &'a Condition,
    key: usize,
    dictionary: &'a Dictionary,
    known: Vec<Option<bool>>,
}

impl<'a> Passing<'a> {
    fn new(view: &'a View, query: &'a Resolved, columns: &'a Columns) -> Self {
        let (mut of_one_key, mut of_several) = (Vec::new(), Vec::new());
        for condition in &query.conditions.rows {
            let mut keys = BTreeSet::new();
            condition.subjects(&mut |subject| {
                if let Subject::Key(index) = subject {
                    keys.insert(index);
                }
            });
            match keys.first().filter(|_| keys.len() == 1).and_then(|key| Some((*key, columns.key(*key)?))) {
                Some((key, dictionary)) => of_one_key.push(OfOneKey { condition, key, dictionary, known: vec![None; dictionary.values().len()] }),
                None => of_several.push(condition),
            }
        }
        Self { view, query, columns, of_one_key, of_several }
    }

    fn passes(&mut self, row: usize) -> bool {
        for OfOneKey { condition, key, dictionary, known } in &mut self.of_one_key {
            let code = dictionary.code(row);
            let holds = match known.get(code).copied().flatten() {
                Some(holds) => holds,
                None => {
                    let value = dictionary.get(row);
                    let holds = condition.holds(&|subject| if subject == Subject::Key(*key) { Cow::Borrowed(value) } else { Cow::Owned(Value::Null) });
                    if let Some(known) = known.get_mut(code) {
                        *known = Some(holds);
                    }
                    holds
                }
            };
            if !holds {
                return false;
            }
        }
        let value = |index: usize| self.columns.key(index).map_or(&Value::Null, |key| key.get(row));
        let keyed = |subject: Subject| match subject {
            Subject::Key(index) => Cow::Borrowed(value(index)),
            Subject::Measure(_) => Cow::Owned(Value::Null),
        };
        let column = |name: &str| self.view.key_names().position(|known| known == name).map_or(Value::Null, |index| value(index).clone());
        self.of_several.iter().all(|condition| condition.holds(&keyed))
            && self.query.segments.iter().all(|segment| scalar::evaluate(segment, &column).value == Value::Boolean(true))
    }
}

/// To which place of a table rows belong: a number made of the codes of the keys that the query groups by.
struct Placing<'a> {
    keys: Vec<GroupKey<'a>>,
    table: Places,
    /// Numbers in place of those so far, where they would not fit into 64 bits otherwise; by the key that comes next.
    renumbered: HashMap<(usize, u64), u64>,
}

/// A key that the query groups by.
struct GroupKey<'a> {
    dictionary: &'a Dictionary,
    shown: Shown,
    /// The first code that the scan meets.
    first: usize,
    /// Of a truncated time: the number of each code from the first on; one for all codes that truncate to one time.
    numbers: Vec<u64>,
    /// How many numbers there are.
    count: u64,
    renumbers: bool,
}

/// How a value is shown.
#[derive(Clone, Copy)]
enum Shown {
    /// A time, in the zone's own time.
    Local(Clock),
    /// In the zone's own time, truncated.
    Truncated(Clock, Granularity),
}

impl Shown {
    fn of(self, value: &Value) -> Value {
        let local = |clock: Clock, micros: i64| if clock.zone == Tz::UTC { micros } else { micros + clock.offset_micros(micros) };
        match (self, value) {
            (Self::Local(clock), Value::Timestamp(micros)) => Value::Timestamp(local(clock, *micros)),
            (Self::Truncated(clock, granularity), Value::Timestamp(micros)) => {
                let micros = local(clock, *micros);
                Value::Timestamp(scalar::truncated(micros, granularity).unwrap_or(micros))
            }
            (_, value) => value.clone(),
        }
    }
}

/// The group of each place.
enum Places {
    Table(Vec<u32>),
    Map(HashMap<u64, u32>),
}

impl Places {
    fn get(&self, place: u64) -> Option<u32> {
        match self {
            Self::Table(groups) => groups.get(usize::try_from(place).ok()?).copied().filter(|group| *group != NONE),
            Self::Map(groups) => groups.get(&place).copied(),
        }
    }

    fn set(&mut self, place: u64, group: u32) {
        match self {
            Self::Table(groups) => {
                if let Some(slot) = usize::try_from(place).ok().and_then(|place| groups.get_mut(place)) {
                    *slot = group;
                }
            }
            Self::Map(groups) => {
                groups.insert(place, group);
            }
        }
    }
}

impl<'a> Placing<'a> {
    fn new(query: &Resolved, columns: &'a Columns, rows: Range<usize>) -> Self {
        let clock = Clock { now_ms: 0, zone: query.zone };
        let grouped = query.columns.iter().filter_map(|column| match column {
            Column::Dimension { key, .. } => Some((*key, Shown::Local(clock))),
            Column::Time { granularity, .. } => Some((0, Shown::Truncated(clock, *granularity))),
            Column::Measure { .. } => None,
        });
        let mut keys: Vec<GroupKey<'a>> = grouped.filter_map(|(key, shown)| Some(GroupKey::new(columns.key(key)?, shown, &rows))).collect();
        let mut span = 1_u64;
        for key in &mut keys {
            span = span.checked_mul(key.count).unwrap_or_else(|| {
                key.renumbers = true;
                (rows.len() as u64).saturating_mul(key.count)
            });
        }
        let table = match usize::try_from(span) {
            Ok(places) if places <= MOST_PLACES.max(rows.len() * 4) => Places::Table(vec![NONE; places]),
            _ => Places::Map(HashMap::new()),
        };
        Self { keys, table, renumbered: HashMap::new() }
    }

    fn place(&mut self, row: usize) -> u64 {
        let mut place = 0;
        for (index, key) in self.keys.iter().enumerate() {
            if key.renumbers {
                let next = self.renumbered.len() as u64;
                place = *self.renumbered.entry((index, place)).or_insert(next);
            }
            place = place * key.count + key.number(row);
        }
        place
    }

    fn values(&self, row: usize) -> Vec<Value> {
        self.keys.iter().map(|key| key.shown.of(key.dictionary.get(row))).collect()
    }
}

impl<'a> GroupKey<'a> {
    fn new(dictionary: &'a Dictionary, shown: Shown, rows: &Range<usize>) -> Self {
        let all = Self { dictionary, shown, first: 0, numbers: Vec::new(), count: dictionary.values().len() as u64, renumbers: false };
        let Shown::Truncated(..) = shown else { return all };
        // Buckets are in the order of the rows.
        let (first, last) = (dictionary.code(rows.start), dictionary.code(rows.end.saturating_sub(1)));
        let (mut numbers, mut before, mut count) = (Vec::new(), None, 0);
        for value in dictionary.values().get(first..=last).unwrap_or_default() {
            let value = shown.of(value);
            count += u64::from(before.as_ref() != Some(&value));
            numbers.push(count - 1);
            before = Some(value);
        }
        Self { first, numbers, count, ..all }
    }

    fn number(&self, row: usize) -> u64 {
        let code = self.dictionary.code(row);
        if self.numbers.is_empty() { code as u64 } else { code.checked_sub(self.first).and_then(|code| self.numbers.get(code)).copied().unwrap_or(0) }
    }
}
