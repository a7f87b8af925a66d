//! Which files a partition has, and where it ends.

use std::collections::BTreeMap;

use anabranch_core::{
    Offset, OffsetRange, Partition,
    layout::{self, ArchiveName},
    protocol::archive,
};
use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};

use super::footer::{self, Footer};
use crate::warehouse::Warehouse;

/// Footers read at once.
const FOOTERS_AT_ONCE: usize = 16;

/// The visible archive files of a source, by partition, ascending by start. Footers are not read.
///
/// # Errors
/// When the warehouse fails.
pub async fn list(warehouse: &Warehouse, source: &str) -> Result<BTreeMap<Partition, Vec<ArchiveName>>> {
    let mut names: BTreeMap<Partition, Vec<ArchiveName>> = BTreeMap::new();
    for file in warehouse.list(&layout::archive_folder(source)).await? {
        if let Some(name) = ArchiveName::parse(&file.name) {
            names.entry(name.partition).or_default().push(name);
        }
    }
    names.values_mut().for_each(|names| names.sort());
    Ok(names)
}

/// The end of a partition's archive: that of the file with the highest start; nothing without a file.
///
/// # Errors
/// When the warehouse fails or the last file is not one of this program.
pub async fn archived_end(warehouse: &Warehouse, source: &str, partition: Partition) -> Result<Option<Offset>> {
    let mut names = list(warehouse, source).await?;
    let Some(last) = names.remove(&partition).and_then(|mut names| names.pop()) else { return Ok(None) };
    let footer = footer::read(warehouse, &last.path(source)).await?;
    Ok(archive::archived_end(&[footer.range]))
}

/// The footers of `names`, in their order.
///
/// # Errors
/// When the warehouse fails or a file is not one of this program.
pub async fn footers(warehouse: &Warehouse, source: &str, names: Vec<ArchiveName>) -> Result<Vec<(ArchiveName, Footer)>> {
    let read = |name: ArchiveName| async move {
        let footer = footer::read(warehouse, &name.path(source)).await?;
        anyhow::Ok((name, footer))
    };
    stream::iter(names).map(read).buffered(FOOTERS_AT_ONCE).try_collect().await
}

/// The files among `names` (of one partition, ascending) that may hold offsets of `window`: from the last one that
/// begins at or below its start.
#[must_use]
pub fn candidates(names: &[ArchiveName], window: OffsetRange) -> &[ArchiveName] {
    let first = names.partition_point(|name| name.start <= window.start).saturating_sub(1);
    let end = names.partition_point(|name| name.start < window.end);
    names.get(first..end).unwrap_or_default()
}
