//! The live rows of one view in one epoch, as columns.
//!
//! A flush replaces the states of some groups. Its rows become a level of columns of their own, and the rows that they replace are
//! marked dead in the levels below; levels of about one size become one, so that there are few:
//!
//! ```text
//!  level 0  ■■■■■■■□■■■□■■■■■■■■■□■■■   (oldest, largest; □ is dead)
//!  level 1  ■■■□■■■■
//!  level 2  ■■■                         (the last flush)
//! ```
//!
//! Answers share levels with the refresh: a flush costs what it changes, not what there is.

use std::{collections::HashMap, sync::Arc};

use anabranch_core::definition::View;
use anabranch_views::{Columns, GroupHash, Row, table::TableError};

/// The rows of a level that were replaced.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Dead {
    bits: Vec<u64>,
    count: usize,
}

impl Dead {
    #[inline]
    pub(crate) fn contains(&self, row: usize) -> bool {
        self.bits.get(row / 64).is_some_and(|bits| bits >> (row % 64) & 1 == 1)
    }

    fn insert(&mut self, row: usize) {
        if self.bits.len() <= row / 64 {
            self.bits.resize(row / 64 + 1, 0);
        }
        if let Some(bits) = self.bits.get_mut(row / 64) {
            self.count += usize::from(*bits >> (row % 64) & 1 == 0);
            *bits |= 1 << (row % 64);
        }
    }
}

/// Rows of some flushes.
#[derive(Clone, Debug)]
pub(crate) struct Level {
    pub(crate) columns: Arc<Columns>,
    pub(crate) dead: Arc<Dead>,
    hashes: Arc<Vec<GroupHash>>,
}

impl Level {
    fn of(view: &View, mut rows: Vec<(GroupHash, Row)>) -> Result<Self, TableError> {
        rows.sort_by_key(|(_, row)| row.bucket(view));
        let (hashes, rows): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        Ok(Self { columns: Arc::new(Columns::of(view, rows)?), dead: Arc::default(), hashes: Arc::new(hashes) })
    }

    /// How many of its groups were not replaced.
    pub(crate) fn alive(&self) -> usize {
        self.hashes.len() - self.dead.count
    }

    /// How many of them have buckets that begin at or before this time.
    pub(crate) fn until(&self, micros: i64) -> usize {
        self.columns.between((i64::MIN, micros)).filter(|row| !self.dead.contains(*row)).count()
    }

    /// What is alive of several levels, as one.
    fn gathered(view: &View, levels: &[Self]) -> Self {
        let alive = |level: &Self| (0..level.hashes.len()).filter(|row| !level.dead.contains(*row)).collect();
        let from: Vec<(&Columns, Vec<usize>)> = levels.iter().map(|level| (level.columns.as_ref(), alive(level))).collect();
        let (columns, order) = Columns::gathered(view, &from);
        let hashes = order.into_iter().filter_map(|(level, row)| levels.get(level)?.hashes.get(row).copied()).collect();
        Self { columns: Arc::new(columns), dead: Arc::default(), hashes: Arc::new(hashes) }
    }
}

/// The live rows of one view in one epoch.
#[derive(Debug, Default)]
pub(crate) struct Live {
    levels: Vec<Level>,
    /// Where each group is: its level, and its row there.
    places: HashMap<GroupHash, (usize, usize)>,
}

impl Live {
    /// The states of these groups are these now.
    pub(crate) fn replace(&mut self, view: &View, rows: Vec<Row>) -> Result<(), TableError> {
        let newest: HashMap<GroupHash, Row> = rows.into_iter().map(|row| (GroupHash::of(&row.key), row)).collect();
        if newest.is_empty() {
            return Ok(());
        }
        for hash in newest.keys() {
            if let Some((level, row)) = self.places.remove(hash)
                && let Some(level) = self.levels.get_mut(level)
            {
                Arc::make_mut(&mut level.dead).insert(row);
            }
        }
        let mut together = vec![Level::of(view, newest.into_iter().collect())?];
        let mut count = together.iter().map(Level::alive).sum();
        // Each row moves up so often as the number of its level's rows doubles.
        while let Some(last) = self.levels.pop_if(|last| last.alive() <= count || last.alive() * 2 < last.hashes.len()) {
            count += last.alive();
            together.push(last);
        }
        self.push(match together.pop() {
            Some(single) if together.is_empty() => single,
            last => Level::gathered(view, &together.into_iter().chain(last).collect::<Vec<_>>()),
        });
        Ok(())
    }

    /// Adds groups that it does not have yet.
    pub(crate) fn append(&mut self, view: &View, rows: Vec<Row>) -> Result<(), TableError> {
        self.push(Level::of(view, rows.into_iter().map(|row| (GroupHash::of(&row.key), row)).collect())?);
        Ok(())
    }

    fn push(&mut self, level: Level) {
        let place = self.levels.len();
        self.places.extend(level.hashes.iter().enumerate().map(|(row, hash)| (*hash, (place, row))));
        self.levels.push(level);
    }

    /// As it is now; shared, not copied.
    pub(crate) fn levels(&self) -> Vec<Level> {
        self.levels.clone()
    }
}

#[cfg(test)]
mod tests {
    use anabranch_core::definition::{File, parse};
    use anabranch_views::{State, Value};

    use super::*;

    fn view() -> View {
        let text = "CREATE TABLE t (name TEXT, at TIMESTAMP) WITH (connector = 'kafka', topic = 't', format = 'json');
            CREATE MATERIALIZED VIEW v AS SELECT date_trunc('hour', at) AS hour, name, count(*) AS n FROM t GROUP BY 1, 2;";
        let pipeline = parse(&[File { path: "t.sql".into(), text: text.into() }]).unwrap_or_else(|error| panic!("{error}"));
        pipeline.views.into_iter().find(|view| view.name == "v").unwrap()
    }

    #[test]
    fn the_newest_state_of_each_group_counts_and_levels_stay_few() {
        let view = view();
        let (mut live, mut expected, mut hours) = (Live::default(), HashMap::new(), HashMap::new());
        let mut random = 7_u64;
        for flush in 0..500_i64 {
            let mut rows = Vec::new();
            for _ in 0..40 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (hour, name) = ((random >> 33) % 24, (random >> 40) % 97);
                let bucket = if hour == 0 { Value::Null } else { Value::Timestamp(i64::try_from(hour).unwrap() * 3_600_000_000) };
                let key = vec![bucket, Value::Text(format!("name {name}"))];
                rows.push(Row { key: key.clone(), states: vec![State::Count(flush)] });
                expected.insert(GroupHash::of(&key), flush);
                hours.insert(GroupHash::of(&key), hour);
            }
            live.replace(&view, rows).unwrap();
        }
        let mut found = HashMap::new();
        for level in live.levels() {
            for (index, hash) in level.hashes.iter().enumerate().filter(|(index, _)| !level.dead.contains(*index)) {
                let row = level.columns.row(&view, index).unwrap();
                let State::Count(count) = row.states[0] else { panic!() };
                assert_eq!(found.insert(*hash, count), None, "a group is alive once");
                assert_eq!(GroupHash::of(&row.key), *hash);
            }
        }
        assert_eq!(found, expected);
        // Those of hour 0 have none.
        let until: usize = live.levels().iter().map(|level| level.until(7 * 3_600_000_000)).sum();
        assert_eq!(until, hours.values().filter(|hour| (1..=7).contains(*hour)).count());
        assert!(live.levels.len() < 12, "{} levels", live.levels.len());
    }
}
