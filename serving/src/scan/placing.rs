//! To which group each row belongs.

use std::{collections::HashMap, ops::Range};

use anabranch_core::definition::Granularity;
use anabranch_views::{Columns, Value, columns::Dictionary, scalar};
use chrono_tz::Tz;

use super::NONE;
use crate::query::{Clock, Column, Resolved};

/// A table by the numbers of keys has this many places at most, or four for each row of the scan; else it is a map.
const MOST_PLACES: usize = 1 << 14;

/// To which place of a table rows belong: a number made of the codes of the keys that the query groups by.
pub(super) struct Placing<'a> {
    keys: Vec<GroupKey<'a>>,
    /// The slot of each place.
    pub(super) places: Places,
    /// The group of each slot.
    pub(super) groups: Vec<u32>,
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

/// The slot of each place.
pub(super) enum Places {
    Table(Vec<u32>),
    Map(HashMap<u64, u32>),
}

impl Places {
    pub(super) fn get(&self, place: u64) -> Option<u32> {
        match self {
            Self::Table(groups) => groups.get(usize::try_from(place).ok()?).copied().filter(|group| *group != NONE),
            Self::Map(groups) => groups.get(&place).copied(),
        }
    }

    pub(super) fn set(&mut self, place: u64, group: u32) {
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
    pub(super) fn new(query: &Resolved, columns: &'a Columns, rows: Range<usize>) -> Self {
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
        let places = match usize::try_from(span) {
            Ok(places) if places <= MOST_PLACES.max(rows.len() * 4) => Places::Table(vec![NONE; places]),
            _ => Places::Map(HashMap::new()),
        };
        Self { keys, places, groups: Vec::new(), renumbered: HashMap::new() }
    }

    pub(super) fn slot_of(&mut self, group: u32) -> u32 {
        self.groups.push(group);
        u32::try_from(self.groups.len() - 1).unwrap_or(NONE)
    }

    pub(super) fn place(&mut self, row: usize) -> u64 {
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

    pub(super) fn values(&self, row: usize) -> Vec<Value> {
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
