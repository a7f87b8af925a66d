//! Published parts in memory. A new version loads only the parts that changed.

use std::{collections::BTreeMap, sync::Arc};

use anabranch_core::{Coverage, definition::View, protocol::RunId};
use anabranch_process::{
    Warehouse,
    catalog::rows::VersionRow,
    parts::{Part, read_manifest, read_part},
};
use anabranch_views::Row;
use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};

const PARTS_AT_ONCE: usize = 4;

/// A loaded version of one view.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) run: RunId,
    pub(crate) coverage: Coverage,
    /// By path, in order of the rows' buckets; the parts that two versions share are the same.
    pub(crate) parts: BTreeMap<String, Arc<Vec<Row>>>,
}

/// As parts are written: by bucket, rows without one first.
fn sorted(view: &View, mut rows: Vec<Row>) -> Vec<Row> {
    if !rows.is_sorted_by_key(|row| row.bucket(view)) {
        rows.sort_by_key(|row| row.bucket(view));
    }
    rows
}

/// The rows of a part whose buckets begin in a range, both ends included; all without a range.
pub(crate) fn in_range<'a>(view: &View, rows: &'a [Row], range: Option<(i64, i64)>) -> &'a [Row] {
    let Some((start, end)) = range else { return rows };
    let from = rows.partition_point(|row| row.bucket(view) < Some(start));
    let to = rows.partition_point(|row| row.bucket(view) <= Some(end));
    rows.get(from..to).unwrap_or_default()
}

/// Loads what `row` names; parts that `old` holds are taken from it.
pub(crate) async fn load(warehouse: &Warehouse, view: &View, row: &VersionRow, old: Option<&Version>) -> Result<Version> {
    let manifest = read_manifest(warehouse, &row.folder).await?;
    let read = |part: Part| async move {
        let known = old.and_then(|old| old.parts.get(&part.path)).cloned();
        let rows = match known {
            Some(rows) => rows,
            None => Arc::new(sorted(view, read_part(warehouse, view, &part).await?)),
        };
        anyhow::Ok((part.path, rows))
    };
    let parts = stream::iter(manifest.parts.into_values()).map(read).buffer_unordered(PARTS_AT_ONCE).try_collect().await?;
    Ok(Version { run: row.run, coverage: row.coverage.clone(), parts })
}
