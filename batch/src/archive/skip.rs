//! `skip-lost` in the archive: a file without rows that says which offsets are lost.

use anabranch_core::{Offset, OffsetRange, Partition, protocol::archive};
use anabranch_process::{
    Warehouse,
    archive::listing,
    catalog::{definitions, rows},
};
use anyhow::{Result, bail};
use tokio_postgres::Client;

use super::{
    commit::{self, Committed},
    file::OpenFile,
};

/// What the archive has not got of a partition and Kafka, which begins at `first`, has no longer.
///
/// # Errors
/// When PostgreSQL or the warehouse does not answer.
pub async fn lost(client: &Client, warehouse: &Warehouse, source: &str, partition: Partition, first: Offset) -> Result<Option<OffsetRange>> {
    let known = rows::partitions(client, source).await?;
    let Some(state) = known.iter().find(|state| state.row.partition == partition) else { return Ok(None) };
    let end = listing::archived_end(warehouse, source, partition).await?.unwrap_or(state.row.origin);
    Ok(OffsetRange::new(end, first).filter(|range| !range.is_empty()))
}

/// Commits a file that stands for `lost`, by the rename of every other file.
///
/// # Errors
/// When the warehouse does not answer, or another archiver was first.
pub async fn skip_lost(client: &Client, warehouse: &Warehouse, source: &str, partition: Partition, lost: OffsetRange) -> Result<()> {
    let definitions = definitions::load(client, source).await?;
    let file = OpenFile::create(warehouse, &definitions.source, partition, lost.start).await?;
    let end = listing::archived_end(warehouse, source, partition).await?;
    if !archive::goes_on(lost.start, end.unwrap_or(lost.start)) {
        file.abandon(warehouse).await;
        bail!("partition {partition} of source {source} was archived meanwhile; look again");
    }
    let sealed = file.seal_lost(lost.end).await?;
    match commit::commit(warehouse, source, &sealed).await? {
        Committed::Won => Ok(()),
        Committed::Lost => bail!("partition {partition} of source {source} was archived meanwhile; look again"),
    }
}
