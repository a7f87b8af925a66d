//! Parts and manifests: the states of a view in immutable files.
//!
//! One part per day of buckets, or, without a time bucket, per one of 16 shards of the groups' hash; NULL buckets and
//! days outside 1970–2200 share one part. An incremental run writes only the parts that new records touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use anabranch_core::{Coverage, definition::View, format, layout, protocol::CutNumber};
use anabranch_process::{
    Warehouse,
    parts::{Manifest, Part, read_part},
};
use anabranch_views::{GroupHash, Groups, Row, table};
use anyhow::Result;
use bytes::Bytes;
use chrono::{DateTime, Datelike};
use futures::{StreamExt, TryStreamExt, stream};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    file::{metadata::KeyValue, properties::WriterProperties},
};
use tokio::{sync::Semaphore, task::spawn_blocking};
use uuid::Uuid;

use super::{
    audit::{self, Drift},
    spill::{Collected, GROUPS_IN_MEMORY},
    window::Window,
};

/// The part of NULL buckets and of days that no calendar of ours names.
const OTHER_DAYS: &str = "other";
const ROW_GROUP_ROWS: usize = 65_536;
/// Parts that are written at once, if their groups fit into the budget together.
const PARTS_AT_ONCE: usize = 32;

/// The name of the part that a group belongs to.
#[must_use]
pub(super) fn part_of(view: &View, hash: GroupHash, row: &Row) -> String {
    if view.bucket.is_none() {
        return format!("shard-{:x}", hash.0.first().copied().unwrap_or_default() >> 4);
    }
    let day = row.bucket(view).and_then(DateTime::from_timestamp_micros).map(|time| time.date_naive());
    match day {
        Some(day) if (1970..=2200).contains(&day.year()) => day.format("%Y-%m-%d").to_string(),
        _ => OTHER_DAYS.to_owned(),
    }
}

/// Writes what one run built for one view.
pub(super) struct PartWriter<'a> {
    pub(super) warehouse: &'a Warehouse,
    pub(super) source: &'a str,
    pub(super) view: &'a Arc<View>,
    pub(super) run: Uuid,
    pub(super) cut: CutNumber,
    pub(super) coverage: &'a Coverage,
}

/// What becomes of a part that a version has already.
#[derive(Clone, Copy)]
enum Before {
    /// Its groups are merged in.
    Merged,
    /// It is compared, cell by cell.
    Compared,
    /// Nothing: it was built of other records.
    Replaced,
}

/// What was made of one part.
struct Written {
    name: String,
    /// Nothing when it has no groups.
    part: Option<Part>,
    drift: Vec<Drift>,
}

impl PartWriter<'_> {
    /// The groups of new records on top of a version: touched parts are written anew, all others referenced again.
    pub(super) async fn merge(&self, kept: &Manifest, collected: Collected) -> Result<String> {
        let mut parts = kept.parts.clone();
        for written in self.write_parts(collected.names(), collected, &kept.parts, Before::Merged).await? {
            parts.extend(written.part.map(|part| (written.name, part)));
        }
        self.finish(parts, Some(kept)).await
    }

    /// All groups of a view.
    pub(super) async fn write_all(&self, collected: Collected, previous: Option<&Manifest>) -> Result<String> {
        let written = self.write_parts(collected.names(), collected, &BTreeMap::new(), Before::Replaced).await?;
        let parts = written.into_iter().filter_map(|written| Some((written.name, written.part?))).collect();
        self.finish(parts, previous).await
    }

    /// As [`Self::write_all`], and compares each part with the kept one, cell by cell. Parts outside the window stay.
    pub(super) async fn audit(&self, collected: Collected, kept: &Manifest, window: Option<Window>, drift: &mut Vec<Drift>) -> Result<String> {
        let is_looked_at = |name: &String| window.is_none_or(|window| window.holds(name));
        let names = collected.names().into_iter().chain(kept.parts.keys().cloned()).filter(is_looked_at).collect();
        let mut parts: BTreeMap<String, Part> = kept.parts.clone().into_iter().filter(|(name, _)| !is_looked_at(name)).collect();
        for mut written in self.write_parts(names, collected, &kept.parts, Before::Compared).await? {
            drift.append(&mut written.drift);
            parts.extend(written.part.map(|part| (written.name, part)));
        }
        self.finish(parts, Some(kept)).await
    }

    /// Several at once: closing a file waits for the DataNodes, and costs more than writing it.
    async fn write_parts(&self, names: BTreeSet<String>, collected: Collected, kept: &BTreeMap<String, Part>, before: Before) -> Result<Vec<Written>> {
        let (collected, budget) = (Mutex::new(collected), Semaphore::new(GROUPS_IN_MEMORY));
        let (collected, budget) = (&collected, &budget);
        let write = |name: String| async move {
            let kept = kept.get(&name);
            let spilled = collected.lock().unwrap_or_else(PoisonError::into_inner).spilled_rows(&name);
            // A part larger than the budget takes all of it.
            let rows = kept.map_or(0, |part| usize::try_from(part.groups).unwrap_or(usize::MAX)).saturating_add(spilled).min(GROUPS_IN_MEMORY);
            let _permit = budget.acquire_many(u32::try_from(rows)?).await?;
            let groups = collected.lock().unwrap_or_else(PoisonError::into_inner).take(self.view, &name)?;
            self.write_part(name, groups, kept, before).await
        };
        stream::iter(names).map(write).buffered(PARTS_AT_ONCE).try_collect().await
    }

    async fn write_part(&self, name: String, mut groups: Groups, kept: Option<&Part>, before: Before) -> Result<Written> {
        let rows = match kept {
            Some(part) => read_part(self.warehouse, self.view, part).await?,
            None => Vec::new(),
        };
        let view = Arc::clone(self.view);
        // Beside the threads that answer HDFS, and beside other parts.
        let (count, content, drift) = spawn_blocking(move || {
            let mut drift = Vec::new();
            match before {
                Before::Merged => rows.into_iter().for_each(|row| groups.merge_row(GroupHash::of(&row.key), row)),
                Before::Compared => audit::compare(&view, rows, &groups, &mut drift),
                Before::Replaced => {}
            }
            let count = groups.0.len();
            let content = if count == 0 { None } else { Some(encoded(&view, groups)?) };
            anyhow::Ok((count, content, drift))
        })
        .await??;
        let part = match content {
            Some(content) => Some(self.write(&name, count, content).await?),
            None => None,
        };
        Ok(Written { name, part, drift })
    }

    fn folder(&self) -> String {
        layout::run_folder(self.source, &self.view.name, &self.view.fingerprint, self.run)
    }

    async fn write(&self, name: &str, groups: usize, content: Vec<u8>) -> Result<Part> {
        let part = Part { groups: groups as u64, size_bytes: content.len() as u64, path: layout::part(&self.folder(), name) };
        self.warehouse.write_new(&part.path, Bytes::from(content)).await?;
        Ok(part)
    }

    async fn finish(&self, parts: BTreeMap<String, Part>, previous: Option<&Manifest>) -> Result<String> {
        let manifest = Manifest {
            format: format::MANIFEST,
            view: self.view.name.clone(),
            fingerprint: self.view.fingerprint.clone(),
            definition: self.view.sql.clone(),
            run: self.run,
            previous_run: previous.map(|manifest| manifest.run),
            cut: self.cut,
            coverage: self.coverage.clone(),
            parts,
        };
        let folder = self.folder();
        self.warehouse.write_new(&layout::manifest(&folder), serde_json::to_vec_pretty(&manifest)?.into()).await?;
        Ok(folder)
    }
}

/// A part's file: its groups in order of their buckets.
fn encoded(view: &View, groups: Groups) -> Result<Vec<u8>> {
    let mut rows: Vec<(GroupHash, Row)> = groups.0.into_iter().collect();
    rows.sort_by(|(hash, row), (other_hash, other)| row.bucket(view).cmp(&other.bucket(view)).then(hash.cmp(other_hash)));
    let batch = table::to_batch(view, rows.iter().map(|(_, row)| row))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_key_value_metadata(Some(vec![
            KeyValue::new("anabranch.format".to_owned(), format::PART.to_string()),
            KeyValue::new("anabranch.fingerprint".to_owned(), view.fingerprint.to_string()),
        ]))
        .build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut content = Vec::new();
    let mut writer = ArrowWriter::try_new_with_options(&mut content, batch.schema(), options)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use anabranch_core::definition::{File, parse};
    use anabranch_process::parts::read_manifest;
    use anabranch_views::{State, Value};

    use super::*;
    use crate::runs::spill::Collector;

    fn groups(view: &View, names: &[(&str, i64)]) -> Groups {
        let mut groups = Groups::default();
        for (name, count) in names {
            let key = vec![Value::Text((*name).to_owned())];
            let row = Row { states: vec![State::Count(*count)], ..Row::empty(view, key) };
            groups.merge_row(GroupHash::of(&row.key), row);
        }
        groups
    }

    fn collected(view: &View, names: &[(&str, i64)]) -> Collected {
        let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
        let mut collector = Collector::new(view, &folder);
        collector.merge(groups(view, names));
        collector.finish()
    }

    /// A run that crashed before its manifest leaves parts behind; the next one must not take them.
    #[tokio::test]
    async fn case_20_a_version_is_what_its_manifest_lists() {
        let sql = "CREATE TABLE events (name TEXT) WITH (connector = 'kafka', topic = 'events', format = 'json');
            CREATE MATERIALIZED VIEW by_name AS SELECT name, count(*) AS events FROM events GROUP BY 1;";
        let pipeline = parse(&[File { path: "events.sql".into(), text: sql.into() }]).unwrap();
        let view = &Arc::new(pipeline.views.into_iter().find(|view| view.name == "by_name").unwrap());
        let folder = tempfile::tempdir().unwrap();
        let warehouse = Warehouse::at(&format!("file://{}", folder.path().display())).unwrap();
        let coverage = Coverage::default();
        let writer = |run| PartWriter { warehouse: &warehouse, source: "events", view, run: Uuid::from_u128(run), cut: CutNumber(1), coverage: &coverage };
        let mut crashed = collected(view, &[("a", 1), ("b", 1), ("c", 1)]);
        for name in crashed.names() {
            let groups = crashed.take(view, &name).unwrap();
            writer(1).write(&name, groups.0.len(), encoded(view, groups).unwrap()).await.unwrap();
        }
        let first = writer(2).write_all(collected(view, &[("a", 1), ("b", 2)]), None).await.unwrap();
        let kept = read_manifest(&warehouse, &first).await.unwrap();
        let second = writer(3).merge(&kept, collected(view, &[("a", 10)])).await.unwrap();
        let manifest = read_manifest(&warehouse, &second).await.unwrap();
        let mut found = Groups::default();
        for part in manifest.parts.values() {
            for row in read_part(&warehouse, view, part).await.unwrap() {
                found.merge_row(GroupHash::of(&row.key), row);
            }
        }
        assert_eq!(found, groups(view, &[("a", 11), ("b", 2)]));
        // The part that nothing touched is the one of the run before.
        assert!(manifest.parts.values().any(|part| part.path.contains(&Uuid::from_u128(2).to_string())), "{manifest:?}");
    }
}
