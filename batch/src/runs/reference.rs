//! A view over a reference alone: its rows → states.

use std::sync::Arc;

use anabranch_process::{Warehouse, references};
use anabranch_views::{Lookups, partial::partial};
use anyhow::{Context, Result};
use tokio::task::spawn_blocking;

use super::{
    Progress, Target,
    scan::{BATCH_ROWS, Scanned},
    spill::{Collector, GROUPS_IN_MEMORY},
};

/// Folds the rows of a reference; views over it may have different contents of it.
pub(super) async fn scan(warehouse: &Warehouse, targets: &[Target], progress: &(dyn Fn(Progress) + Sync)) -> Result<Scanned> {
    let folder = Arc::new(tempfile::tempdir().context("make a folder for groups that memory does not hold")?);
    let mut scanned = Scanned { collected: Vec::new(), records: 0, bytes_read: 0, lost: Vec::new() };
    for target in targets {
        let view = &target.view;
        let content = view.source.files.as_ref().and_then(|files| files.content.clone()).unwrap_or_default();
        let rows = references::stored(warehouse, &view.source.name, &content).await?;
        let mut collector = Collector::new(view, &folder);
        for start in (0..rows.num_rows()).step_by(BATCH_ROWS) {
            let batch = rows.slice(start, BATCH_ROWS.min(rows.num_rows() - start));
            let view = Arc::clone(view);
            collector.merge(spawn_blocking(move || partial(&view, &batch, &Lookups::default())).await??);
            if collector.len() > GROUPS_IN_MEMORY {
                collector.spill()?;
            }
        }
        scanned.records = scanned.records.max(rows.num_rows() as u64);
        scanned.collected.push(collector.finish());
        progress(Progress::Scanning { done: scanned.records, total: scanned.records });
    }
    Ok(scanned)
}
