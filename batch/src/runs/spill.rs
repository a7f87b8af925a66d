//! The groups of a scan, by part: in memory up to a budget, beyond it in local files. So a run's memory is bounded by the
//! budget and its largest part, not by history.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufReader, BufWriter},
    path::PathBuf,
    sync::Arc,
};

use anabranch_core::definition::View;
use anabranch_views::{GroupHash, Groups, table};
use anyhow::{Context, Result};
use arrow::ipc::{reader::StreamReader, writer::StreamWriter};
use tempfile::TempDir;

use super::parts::part_of;

/// Groups that a run holds in memory while it reads, of all views, and again while it writes parts; about 1 kB each.
pub(super) const GROUPS_IN_MEMORY: usize = 100_000;

/// Takes groups while the archive is read.
pub(super) struct Collector<'a> {
    view: &'a View,
    groups: Groups,
    spilled: BTreeMap<String, Spilled>,
    folder: Arc<TempDir>,
}

/// What of a part lies in files.
#[derive(Debug, Default)]
struct Spilled {
    files: Vec<PathBuf>,
    /// Their rows; a group may be in several.
    rows: usize,
}

/// What was collected, by part.
#[derive(Debug, Default)]
pub(super) struct Collected {
    parts: BTreeMap<String, Groups>,
    spilled: BTreeMap<String, Spilled>,
    /// Goes with the last file that may be read.
    _folder: Option<Arc<TempDir>>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(view: &'a View, folder: &Arc<TempDir>) -> Self {
        Self { view, groups: Groups::default(), spilled: BTreeMap::new(), folder: Arc::clone(folder) }
    }

    pub(super) fn merge(&mut self, groups: Groups) {
        self.groups.merge(groups);
    }

    /// The groups held in memory.
    pub(super) fn len(&self) -> usize {
        self.groups.0.len()
    }

    /// Writes what is in memory to files, one for each part.
    pub(super) fn spill(&mut self) -> Result<()> {
        for (part, groups) in by_part(self.view, std::mem::take(&mut self.groups)) {
            let spilled = self.spilled.entry(part.clone()).or_default();
            let path = self.folder.path().join(format!("{}-{part}-{}", self.view.fingerprint, spilled.files.len()));
            let batch = table::to_batch(self.view, groups.0.values())?;
            let mut writer = StreamWriter::try_new(BufWriter::new(File::create(&path)?), batch.schema_ref())?;
            writer.write(&batch)?;
            writer.finish().with_context(|| format!("write {}", path.display()))?;
            spilled.rows += groups.0.len();
            spilled.files.push(path);
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Collected {
        Collected { parts: by_part(self.view, self.groups), spilled: self.spilled, _folder: Some(self.folder) }
    }
}

impl Collected {
    /// The parts that have groups.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.parts.keys().chain(self.spilled.keys()).cloned().collect()
    }

    /// How many rows [`Self::take`] brings into memory again.
    pub(super) fn spilled_rows(&self, part: &str) -> usize {
        self.spilled.get(part).map_or(0, |spilled| spilled.rows)
    }

    /// All groups of a part.
    pub(super) fn take(&mut self, view: &View, part: &str) -> Result<Groups> {
        let mut groups = self.parts.remove(part).unwrap_or_default();
        for path in self.spilled.remove(part).unwrap_or_default().files {
            let context = || format!("read {}", path.display());
            for batch in StreamReader::try_new(BufReader::new(File::open(&path).with_context(context)?), None).with_context(context)? {
                for row in table::from_batch(view, &batch.with_context(context)?)? {
                    groups.merge_row(GroupHash::of(&row.key), row);
                }
            }
        }
        Ok(groups)
    }
}

fn by_part(view: &View, groups: Groups) -> BTreeMap<String, Groups> {
    let mut parts: BTreeMap<String, Groups> = BTreeMap::new();
    for (hash, row) in groups.0 {
        parts.entry(part_of(view, hash, &row)).or_default().0.insert(hash, row);
    }
    parts
}

#[cfg(test)]
mod tests {
    use anabranch_core::definition::{File as SqlFile, parse};
    use anabranch_views::{Row, State, Value};

    use super::*;

    #[test]
    fn what_was_spilled_merges_to_what_memory_would_have_held() {
        let sql = "CREATE TABLE events (name TEXT, at TIMESTAMP) WITH (connector = 'kafka', topic = 'events', format = 'json');
            CREATE MATERIALIZED VIEW by_day AS SELECT date_trunc('day', at) AS day, name, count(*) AS events FROM events GROUP BY 1, 2;";
        let pipeline = parse(&[SqlFile { path: "events.sql".into(), text: sql.into() }]).unwrap();
        let view = pipeline.views.iter().find(|view| view.name == "by_day").unwrap();
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let (mut spilling, mut holding) = (Collector::new(view, &folder), Collector::new(view, &folder));
        for number in 0..300i64 {
            let bucket = if number % 7 == 0 { Value::Null } else { Value::Timestamp(number % 5 * 86_400_000_000) };
            let row = Row { states: vec![State::Count(number)], ..Row::empty(view, vec![bucket, Value::Text((number % 11).to_string())]) };
            for collector in [&mut spilling, &mut holding] {
                collector.merge(Groups([(GroupHash::of(&row.key), row.clone())].into()));
            }
            if spilling.len() > 20 {
                spilling.spill().unwrap();
            }
        }
        assert!(!spilling.spilled.is_empty());
        let (mut spilling, mut holding) = (spilling.finish(), holding.finish());
        assert_eq!(spilling.names(), holding.names());
        assert_eq!(spilling.names().len(), 6);
        for part in holding.names() {
            assert_eq!(spilling.take(view, &part).unwrap(), holding.take(view, &part).unwrap());
        }
    }
}
