//! `skip-lost` in the speed layer: a gap in the live rows, at which answers stand until a version has passed it.

use anabranch_core::{Offset, OffsetRange, Partition, protocol::skip};
use anabranch_process::{catalog::rows, crash};
use anyhow::{Context, Result};
use tokio_postgres::Client;

/// Makes speed go on at `first`, the first offset that Kafka has; gives the range that it skips, if it is behind.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn skip_lost(client: &mut Client, source: &str, partition: Partition, first: Offset) -> Result<Option<OffsetRange>> {
    let transaction = client.transaction().await?;
    transaction.execute("SELECT 1 FROM source WHERE name = $1 FOR SHARE", &[&source]).await?;
    let locked = rows::lock_partitions(&transaction, source, &[partition]).await?;
    let Some(skip) = locked.first().and_then(|state| skip::skip(&state.row, first)) else { return Ok(None) };
    let sql = "UPDATE epoch_range SET \"end\" = $3 WHERE source = $1 AND partition = $2 AND \"end\" IS NULL";
    transaction.execute(sql, &[&source, &partition.0, &skip.end.0]).await?;
    let sql = "UPDATE partition SET next_offset = $3, epoch = NULL WHERE source = $1 AND partition = $2";
    transaction.execute(sql, &[&source, &partition.0, &skip.at.0]).await?;
    crash::step("speed.skip", transaction.commit()).await.context("commit a skip")?;
    Ok(OffsetRange::new(skip.end, skip.at))
}
