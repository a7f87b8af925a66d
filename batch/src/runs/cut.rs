//! The cut of a run: taken or raised, answered by speed, reached by the archive.

use std::time::{Duration, Instant};

use anabranch_core::{
    Coverage, Partition,
    protocol::{
        CutNumber,
        cut::{self, Cuts, Step},
    },
};
use anabranch_process::{
    catalog::{definitions::SourceDefinitions, rows},
    crash,
};
use anyhow::{Result, bail};
use tokio::time::sleep;
use tokio_postgres::{Client, IsolationLevel};
use tracing::{info, warn};

use super::{NothingRead, Progress};

/// A partition whose worker does not answer within this time is cut by batch.
const SPEED_LIMIT: Duration = Duration::from_secs(10);
/// The archive closes its files in seconds; one that has not reached a cut by then is away.
const ARCHIVE_LIMIT: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(100);

/// A cut that is answered everywhere and reached by the archive, with its coverage.
///
/// # Errors
/// When the archive does not reach it in time; the cut stays, and the next run takes it again.
pub(super) async fn settle(client: &mut Client, definitions: &SourceDefinitions, progress: &(dyn Fn(Progress) + Sync)) -> Result<(CutNumber, Coverage)> {
    let source = definitions.source.name.as_str();
    let mut deadline = Instant::now() + SPEED_LIMIT;
    let (cut, coverage) = loop {
        match look(client, definitions).await? {
            Step::Take(cut, coverage) => break (cut, coverage),
            Step::Raise(cut) => {
                // Under the row's lock, and only from the cut before: of two batches one raises.
                let sql = "UPDATE source SET cut_wanted = $2 WHERE name = $1 AND cut_wanted = $2::bigint - 1";
                crash::step("batch.raise", client.execute(sql, &[&source, &cut.0])).await?;
                deadline = Instant::now() + SPEED_LIMIT;
            }
            Step::Await(cut, missing) if Instant::now() >= deadline => cut_silent(client, source, cut, &missing).await?,
            Step::Await(_, missing) => {
                progress(Progress::WaitingForSpeed(missing.len()));
                sleep(LOOK).await;
            }
        }
    };
    let deadline = Instant::now() + ARCHIVE_LIMIT;
    loop {
        let partitions = rows::partitions(client, source).await?;
        let behind: Vec<Partition> = partitions
            .iter()
            .filter(|state| coverage.get(state.row.partition).is_some_and(|covered| state.archived_to < covered))
            .map(|state| state.row.partition)
            .collect();
        if behind.is_empty() {
            return Ok((cut, coverage));
        }
        if Instant::now() >= deadline {
            bail!("the archive has not reached cut {cut} in {} partitions within {} s; is `anabranch archive` running?", behind.len(), ARCHIVE_LIMIT.as_secs());
        }
        progress(Progress::WaitingForArchive(behind.len()));
        sleep(LOOK).await;
    }
}

async fn look(client: &mut Client, definitions: &SourceDefinitions) -> Result<Step> {
    let source = &definitions.source.name;
    // One snapshot: a partition without an answer must not be one that answered between two reads.
    let snapshot = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    let row = snapshot.query_one("SELECT cut_wanted, cut_finished FROM source WHERE name = $1", &[source]).await?;
    let (wanted, finished) = (CutNumber(row.get(0)), CutNumber(row.get(1)));
    let partitions: Vec<_> = rows::partitions(&snapshot, source).await?.into_iter().map(|state| state.row).collect();
    let answers = rows::answers(&snapshot, source, wanted).await?;
    let epochs = rows::epochs(&snapshot, source).await?;
    snapshot.commit().await?;
    if partitions.is_empty() {
        return Err(NothingRead { name: source.clone() }.into());
    }
    let cuts = Cuts { wanted, finished, partitions: &partitions, answers: &answers, epochs: &epochs };
    Ok(cut::step(cuts, &definitions.awaited()))
}

/// Batch's own cut of partitions whose worker does not answer; each is fenced, so that a worker that continues later
/// begins a new epoch.
async fn cut_silent(client: &mut Client, source: &str, cut: CutNumber, missing: &[Partition]) -> Result<()> {
    let transaction = client.transaction().await?;
    for state in rows::lock_partitions(&transaction, source, missing).await? {
        let row = &state.row;
        let Some(silent) = cut::silent(row, cut, state.committed_to) else { continue };
        warn!(source, partition = row.partition.0, cut = cut.0, end = silent.end.0, at = silent.at.0, "no worker answered; cut by batch");
        let epoch = row.epoch.filter(|_| !silent.fences).map(|epoch| epoch.0);
        let sql = "UPDATE partition SET cut = $3, epoch = $4, next_offset = $5 WHERE source = $1 AND partition = $2";
        transaction.execute(sql, &[&source, &row.partition.0, &cut.0, &epoch, &silent.at.0]).await?;
        let sql = "UPDATE epoch_range SET \"end\" = $3 WHERE source = $1 AND partition = $2 AND \"end\" IS NULL";
        transaction.execute(sql, &[&source, &row.partition.0, &silent.end.0]).await?;
        let sql = "INSERT INTO cut_offset (source, cut, partition, \"offset\") VALUES ($1, $2, $3, $4)";
        transaction.execute(sql, &[&source, &cut.0, &row.partition.0, &silent.at.0]).await?;
    }
    crash::step("batch.cut_silent", transaction.commit()).await?;
    info!(source, cut = cut.0, partitions = missing.len(), "cut silent partitions");
    Ok(())
}
