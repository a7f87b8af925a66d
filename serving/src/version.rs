//! Published parts in memory. A new version loads only the parts that changed.

use std::{collections::BTreeMap, sync::Arc};

use anabranch_core::{Coverage, definition::View, protocol::RunId};
use anabranch_process::{
    Warehouse,
    catalog::rows::VersionRow,
    parts::{Part, read_columns, read_manifest},
};
use anabranch_views::Columns;
use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};

const PARTS_AT_ONCE: usize = 4;

/// A loaded version of one view.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) run: RunId,
    pub(crate) coverage: Coverage,
    /// By path; the parts that two versions share are the same.
    pub(crate) parts: BTreeMap<String, Arc<Columns>>,
}

/// Loads what `row` names; parts that `old` holds are taken from it.
pub(crate) async fn load(warehouse: &Warehouse, view: &View, row: &VersionRow, old: Option<&Version>) -> Result<Version> {
    let manifest = read_manifest(warehouse, &row.folder).await?;
    let read = |part: Part| async move {
        let known = old.and_then(|old| old.parts.get(&part.path)).cloned();
        let rows = match known {
            Some(rows) => rows,
            None => Arc::new(read_columns(warehouse, view, &part).await?),
        };
        anyhow::Ok((part.path, rows))
    };
    let parts = stream::iter(manifest.parts.into_values()).map(read).buffer_unordered(PARTS_AT_ONCE).try_collect().await?;
    Ok(Version { run: row.run, coverage: row.coverage.clone(), parts })
}
