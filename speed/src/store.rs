//! The transactions of a speed worker. Locks: source (shared) → partitions, ascending → epoch → live rows.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_core::{
    Offset, Partition, format,
    protocol::{
        CutNumber, EpochId, PartitionRow,
        flush::{self, Advance, Fenced},
        open::{self, Closing, Plan},
    },
};
use anabranch_process::{
    catalog::{definitions::SourceDefinitions, live, rows},
    crash,
};
use anyhow::{Context, Result};
use arrow::ipc::writer::StreamWriter;
use tokio_postgres::{Client, Transaction, error::SqlState};

use crate::fold::{Changes, ViewChanges};

/// What batch and `apply` want of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) cut: CutNumber,
    pub(crate) definitions: i64,
}

/// An opened epoch.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) epoch: EpochId,
    pub(crate) cut: CutNumber,
    pub(crate) positions: BTreeMap<Partition, Offset>,
}

/// How an opening went.
pub(crate) enum Opening {
    Done(Opened),
    /// The catalog holds other definitions than the worker compiled: load them first.
    OtherDefinitions,
}

/// Whether the same transaction may be repeated from memory.
pub(crate) fn is_transient(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<tokio_postgres::Error>())
        .filter_map(tokio_postgres::Error::code)
        .any(|code| [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE].contains(code))
}

/// Whether somebody else took over.
pub(crate) fn is_fenced(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<Fenced>())
}

pub(crate) async fn wishes(client: &Client, source: &str) -> Result<Wishes> {
    let row = client.query_one("SELECT cut_wanted, definitions FROM source WHERE name = $1", &[&source]).await?;
    Ok(Wishes { cut: CutNumber(row.get(0)), definitions: row.get(1) })
}

/// The partitions among `wanted` that have no row yet.
pub(crate) async fn unknown(client: &Client, source: &str, wanted: &BTreeSet<Partition>) -> Result<BTreeSet<Partition>> {
    let known: BTreeSet<Partition> = rows::partitions(client, source).await?.into_iter().map(|state| state.row.partition).collect();
    Ok(wanted.difference(&known).copied().collect())
}

/// Where speed reads on, of the partitions that have a row.
pub(crate) async fn positions(client: &Client, source: &str, wanted: &BTreeSet<Partition>) -> Result<BTreeMap<Partition, Offset>> {
    let known = rows::partitions(client, source).await?.into_iter().map(|state| (state.row.partition, state.row.next_offset));
    Ok(known.filter(|(partition, _)| wanted.contains(partition)).collect())
}

/// Notes why partitions cannot go on, or that they can.
pub(crate) async fn trouble(client: &Client, source: &str, partitions: &BTreeSet<Partition>, trouble: Option<&str>) -> Result<()> {
    let partitions: Vec<i32> = partitions.iter().map(|partition| partition.0).collect();
    let sql = "UPDATE partition SET speed_trouble = $3 WHERE source = $1 AND partition = ANY($2) AND speed_trouble IS DISTINCT FROM $3";
    crash::step("speed.trouble", client.execute(sql, &[&source, &partitions, &trouble])).await?;
    Ok(())
}

/// Opens an epoch over `wanted`. The old one's changes are flushed first where they are given: a cut, a rebalance, new definitions.
pub(crate) async fn open(
    client: &mut Client,
    definitions: &SourceDefinitions,
    wanted: &BTreeSet<Partition>,
    origins: &BTreeMap<Partition, Offset>,
    old: (Option<EpochId>, Option<&Changes>),
) -> Result<Opening> {
    let source = &definitions.source.name;
    let transaction = client.transaction().await?;
    // Under this lock nobody raises a cut or applies definitions: what is read here is what the epoch is.
    let row = transaction.query_one("SELECT cut_wanted, definitions FROM source WHERE name = $1 FOR SHARE", &[source]).await?;
    let (cut_wanted, number) = (CutNumber(row.get(0)), row.get::<_, i64>(1));
    if number != definitions.number {
        return Ok(Opening::OtherDefinitions);
    }
    if !origins.is_empty() {
        let sql = "INSERT INTO partition (source, partition, origin, next_offset, archived_to) \
                   SELECT $1, partition, origin, origin, origin FROM unnest($2::int[], $3::bigint[]) AS origins (partition, origin) ON CONFLICT DO NOTHING";
        let (partitions, offsets) = columns(origins);
        transaction.execute(sql, &[source, &partitions, &offsets]).await?;
    }
    let closing = match old {
        (Some(epoch), Some(changes)) => Closing::Flushed { epoch, advances: changes.advances.clone() },
        (epoch, _) => Closing::Dropped { epoch },
    };
    let mut locked: BTreeSet<Partition> = wanted.clone();
    if let Some(epoch) = old.0 {
        let ranges = transaction.query("SELECT partition FROM epoch_range WHERE epoch = $1", &[&epoch.0]).await?;
        locked.extend(ranges.iter().map(|row| Partition(row.get(0))));
    }
    let locked: Vec<Partition> = locked.into_iter().collect();
    let rows = lock(&transaction, source, &locked).await?;
    let plan = open::open(cut_wanted, wanted, &closing, &rows)?;
    if let (Some(epoch), Some(changes)) = old {
        write_flush(&transaction, source, epoch, &plan.advances, changes).await?;
    }
    let opened = write_opening(&transaction, definitions, &plan).await?;
    transaction.execute("SELECT pg_notify('anabranch', '')", &[]).await?;
    crash::step("speed.open", transaction.commit()).await.context("commit an opening")?;
    Ok(Opening::Done(opened))
}

/// As arrays for `unnest`: one statement, however many partitions.
fn columns(offsets: &BTreeMap<Partition, Offset>) -> (Vec<i32>, Vec<i64>) {
    offsets.iter().map(|(partition, offset)| (partition.0, offset.0)).unzip()
}

async fn lock(transaction: &Transaction<'_>, source: &str, partitions: &[Partition]) -> Result<Vec<PartitionRow>> {
    Ok(rows::lock_partitions(transaction, source, partitions).await?.into_iter().map(|state| state.row).collect())
}

async fn write_opening(transaction: &Transaction<'_>, definitions: &SourceDefinitions, plan: &Plan) -> Result<Opened> {
    let source = &definitions.source.name;
    let sql = "UPDATE epoch_range SET \"end\" = ends.\"end\" FROM unnest($2::int[], $3::bigint[]) AS ends (partition, \"end\") \
               WHERE epoch_range.source = $1 AND epoch_range.partition = ends.partition AND epoch_range.\"end\" IS NULL";
    let (partitions, offsets) = columns(&plan.ends);
    transaction.execute(sql, &[source, &partitions, &offsets]).await?;
    if !plan.answers.is_empty() {
        let sql = "INSERT INTO cut_offset (source, cut, partition, \"offset\") \
                   SELECT $1, $2, partition, \"offset\" FROM unnest($3::int[], $4::bigint[]) AS answers (partition, \"offset\")";
        let (partitions, offsets) = columns(&plan.answers);
        transaction.execute(sql, &[source, &plan.cut.0, &partitions, &offsets]).await?;
    }
    let released: Vec<i32> = plan.released.iter().map(|partition| partition.0).collect();
    transaction.execute("UPDATE partition SET epoch = NULL WHERE source = $1 AND partition = ANY($2)", &[source, &released]).await?;
    let epoch = EpochId(transaction.query_one("SELECT nextval('epoch_id')", &[]).await?.get(0));
    if !plan.begins.is_empty() {
        let fingerprints: Vec<String> = definitions.folded().into_iter().map(|fingerprint| fingerprint.0).collect();
        transaction
            .execute("INSERT INTO epoch (id, source, cut, definitions) VALUES ($1, $2, $3, $4)", &[&epoch.0, source, &plan.cut.0, &fingerprints])
            .await?;
        let (partitions, starts) = columns(&plan.begins);
        let sql = "INSERT INTO epoch_range (epoch, source, partition, start) SELECT $1, $2, partition, start FROM unnest($3::int[], $4::bigint[]) AS begins (partition, start)";
        transaction.execute(sql, &[&epoch.0, source, &partitions, &starts]).await?;
        transaction
            .execute("UPDATE partition SET epoch = $2, cut = $3 WHERE source = $1 AND partition = ANY($4)", &[source, &epoch.0, &plan.cut.0, &partitions])
            .await?;
    }
    Ok(Opened { epoch, cut: plan.cut, positions: plan.begins.clone() })
}

/// Flushes changes into their epoch. Only the partitions that moved are locked.
pub(crate) async fn flush(client: &mut Client, source: &str, epoch: EpochId, changes: &Changes) -> Result<()> {
    let transaction = client.transaction().await?;
    let advances: Vec<Advance> = changes.advances.iter().filter(|advance| advance.from != advance.to).cloned().collect();
    let moved: Vec<Partition> = advances.iter().map(|advance| advance.partition).collect();
    let locked = lock(&transaction, source, &moved).await?;
    let advances = flush::flush(epoch, &advances, &locked)?;
    write_flush(&transaction, source, epoch, &advances, changes).await?;
    transaction.execute("SELECT pg_notify('anabranch', '')", &[]).await?;
    crash::step("speed.flush", transaction.commit()).await.context("commit a flush")?;
    Ok(())
}

async fn write_flush(transaction: &Transaction<'_>, source: &str, epoch: EpochId, advances: &[Advance], changes: &Changes) -> Result<()> {
    let partitions: Vec<i32> = advances.iter().map(|advance| advance.partition.0).collect();
    let offsets: Vec<i64> = advances.iter().map(|advance| advance.to.0).collect();
    let sql = "UPDATE partition SET next_offset = moved.next_offset, high_watermark = greatest(high_watermark, moved.next_offset), speed_seen_at = now() \
               FROM unnest($2::int[], $3::bigint[]) AS moved (partition, next_offset) \
               WHERE partition.source = $1 AND partition.partition = moved.partition";
    transaction.execute(sql, &[&source, &partitions, &offsets]).await?;
    let number: i64 = transaction.query_one("UPDATE epoch SET flush = flush + 1 WHERE id = $1 RETURNING flush", &[&epoch.0]).await?.get(0);
    transaction.execute("INSERT INTO flush (epoch, flush) VALUES ($1, $2)", &[&epoch.0, &number]).await?;
    for ViewChanges { view, rows } in changes.views.iter().filter(|changes| !changes.rows.is_empty()) {
        live::upsert(transaction, view, epoch, rows).await?;
        let mut message = format::FLUSH.to_le_bytes().to_vec();
        let mut writer = StreamWriter::try_new(&mut message, rows.columns().schema_ref())?;
        writer.write(rows.columns())?;
        writer.finish()?;
        drop(writer);
        transaction
            .execute("INSERT INTO flush (epoch, flush, fingerprint, changes) VALUES ($1, $2, $3, $4)", &[&epoch.0, &number, &view.fingerprint.0, &message])
            .await?;
    }
    Ok(())
}

/// Stores the ends of the partitions, for lag, and that somebody reads them.
pub(crate) async fn watermarks(client: &Client, source: &str, ends: &BTreeMap<Partition, Offset>) -> Result<()> {
    let (partitions, offsets) = columns(ends);
    // Rows that a flush has locked are left for the next time: this must never wait.
    let sql = "WITH ends AS (SELECT * FROM unnest($2::int[], $3::bigint[]) AS ends (partition, high)), \
               free AS (SELECT partition FROM partition WHERE source = $1 ORDER BY partition FOR UPDATE SKIP LOCKED) \
               UPDATE partition SET high_watermark = greatest(high_watermark, ends.high), speed_seen_at = now() FROM ends, free \
               WHERE partition.source = $1 AND partition.partition = ends.partition AND free.partition = ends.partition";
    crash::step("speed.watermarks", client.execute(sql, &[&source, &partitions, &offsets])).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
