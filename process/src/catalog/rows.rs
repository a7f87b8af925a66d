//! The rows that the protocol decides on, as its types.

use std::collections::BTreeMap;

use anabranch_core::{
    Coverage, Offset, OffsetRange, Partition,
    definition::Fingerprint,
    protocol::{CutNumber, Epoch, EpochId, EpochRange, PartitionRow, RunId},
};
use anyhow::{Context, Result};
use tokio_postgres::{GenericClient, Row};

/// A partition of the catalog, with what only operators and batch look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// What the protocol decides on.
    pub row: PartitionRow,
    /// The end of the partition when speed looked last.
    pub high_watermark: Offset,
    /// Below this position everything is archived or holds no record.
    pub archived_to: Offset,
    /// The end of the last committed archive file.
    pub committed_to: Option<Offset>,
    /// How long ago speed wrote of it last, milliseconds.
    pub speed_silent_ms: Option<i64>,
    /// Why speed cannot go on with it.
    pub speed_trouble: Option<String>,
    /// Why the archive cannot go on with it.
    pub archive_trouble: Option<String>,
}

/// A published result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRow {
    /// The view.
    pub view: String,
    /// The definition that it was computed by.
    pub fingerprint: Fingerprint,
    /// The run that published it.
    pub run: RunId,
    /// What it includes.
    pub coverage: Coverage,
    /// The folder of its manifest in the warehouse.
    pub folder: String,
    /// How long ago it was published, milliseconds.
    pub age_ms: i64,
}

const PARTITION_COLUMNS: &str = "partition, origin, next_offset, cut, epoch, high_watermark, archived_to, committed_to, speed_trouble, archive_trouble, \
                                 (extract(epoch FROM now() - speed_seen_at) * 1000)::bigint AS speed_silent_ms";

fn partition(row: &Row) -> PartitionState {
    PartitionState {
        row: PartitionRow {
            partition: Partition(row.get("partition")),
            origin: Offset(row.get("origin")),
            next_offset: Offset(row.get("next_offset")),
            cut: CutNumber(row.get("cut")),
            epoch: row.get::<_, Option<i64>>("epoch").map(EpochId),
        },
        high_watermark: Offset(row.get("high_watermark")),
        archived_to: Offset(row.get("archived_to")),
        committed_to: row.get::<_, Option<i64>>("committed_to").map(Offset),
        speed_silent_ms: row.get("speed_silent_ms"),
        speed_trouble: row.get("speed_trouble"),
        archive_trouble: row.get("archive_trouble"),
    }
}

/// For how long speed has written nothing of some partition, milliseconds. One that was stopped is not silent: it has its own trouble.
#[must_use]
pub fn speed_silent_ms(partitions: &[PartitionState]) -> Option<i64> {
    partitions.iter().filter(|state| state.speed_trouble.is_none()).filter_map(|state| state.speed_silent_ms).max()
}

/// All partitions of a source, ascending.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn partitions(client: &impl GenericClient, source: &str) -> Result<Vec<PartitionState>> {
    let sql = format!("SELECT {PARTITION_COLUMNS} FROM partition WHERE source = $1 ORDER BY partition");
    Ok(client.query(&sql, &[&source]).await?.iter().map(partition).collect())
}

/// Locks these partitions in ascending order and reads their newest rows.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn lock_partitions(client: &impl GenericClient, source: &str, wanted: &[Partition]) -> Result<Vec<PartitionState>> {
    let sql = format!("SELECT {PARTITION_COLUMNS} FROM partition WHERE source = $1 AND partition = ANY($2) ORDER BY partition FOR UPDATE");
    let wanted: Vec<i32> = wanted.iter().map(|partition| partition.0).collect();
    Ok(client.query(&sql, &[&source, &wanted]).await?.iter().map(partition).collect())
}

/// All epochs of a source with their ranges.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn epochs(client: &impl GenericClient, source: &str) -> Result<Vec<Epoch>> {
    let epochs = client.query("SELECT id, cut, definitions, flush FROM epoch WHERE source = $1 ORDER BY id", &[&source]).await?;
    let ranges = client.query("SELECT epoch, partition, start, \"end\" FROM epoch_range WHERE source = $1", &[&source]).await?;
    let mut by_epoch: BTreeMap<i64, BTreeMap<Partition, EpochRange>> = BTreeMap::new();
    for range in &ranges {
        let end = range.get::<_, Option<i64>>("end").map(Offset);
        by_epoch.entry(range.get("epoch")).or_default().insert(Partition(range.get("partition")), EpochRange { start: Offset(range.get("start")), end });
    }
    let epoch = |row: &Row| Epoch {
        id: EpochId(row.get("id")),
        cut: CutNumber(row.get("cut")),
        definitions: row.get::<_, Vec<String>>("definitions").into_iter().map(Fingerprint).collect(),
        flush: row.get("flush"),
        ranges: by_epoch.remove(&row.get("id")).unwrap_or_default(),
    };
    Ok(epochs.iter().map(epoch).collect())
}

/// The answers to a cut.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn answers(client: &impl GenericClient, source: &str, cut: CutNumber) -> Result<Coverage> {
    let rows = client.query("SELECT partition, \"offset\" FROM cut_offset WHERE source = $1 AND cut = $2", &[&source, &cut.0]).await?;
    Ok(rows.iter().map(|row| (Partition(row.get(0)), Offset(row.get(1)))).collect())
}

/// The newest versions of each definition of a source, the current one first.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn versions(client: &impl GenericClient, source: &str) -> Result<BTreeMap<Fingerprint, Vec<VersionRow>>> {
    let sql = "SELECT view, fingerprint, run, coverage, folder, (extract(epoch FROM now() - published_at) * 1000)::bigint \
               FROM version WHERE source = $1 ORDER BY run DESC";
    let mut versions: BTreeMap<Fingerprint, Vec<VersionRow>> = BTreeMap::new();
    for row in client.query(sql, &[&source]).await? {
        let fingerprint = Fingerprint(row.get("fingerprint"));
        versions.entry(fingerprint.clone()).or_default().push(VersionRow {
            view: row.get("view"),
            fingerprint,
            run: RunId(row.get("run")),
            coverage: coverage(row.get("coverage"))?,
            folder: row.get("folder"),
            age_ms: row.get(5),
        });
    }
    Ok(versions)
}

/// Up to where the live rows of each definition are pruned.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn pruned(client: &impl GenericClient, source: &str) -> Result<BTreeMap<Fingerprint, Coverage>> {
    let rows = client.query("SELECT fingerprint, coverage FROM pruned WHERE source = $1", &[&source]).await?;
    rows.iter().map(|row| Ok((Fingerprint(row.get(0)), coverage(row.get(1))?))).collect()
}

/// The ranges of a source that nobody has any more, as far as versions have passed them.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn lost(client: &impl GenericClient, source: &str) -> Result<Vec<(Partition, OffsetRange)>> {
    let rows = client.query("SELECT partition, start, \"end\" FROM lost_range WHERE source = $1 ORDER BY partition, start", &[&source]).await?;
    Ok(rows.iter().map(|row| (Partition(row.get(0)), OffsetRange { start: Offset(row.get(1)), end: Offset(row.get(2)) })).collect())
}

/// A coverage as the catalog writes it: an object of partition and offset.
///
/// # Errors
/// When it is something else.
pub fn coverage(json: serde_json::Value) -> Result<Coverage> {
    serde_json::from_value(json).context("read a coverage of the catalog")
}

/// A coverage for the catalog.
#[must_use]
pub fn coverage_json(coverage: &Coverage) -> serde_json::Value {
    coverage.iter().map(|(partition, offset)| (partition.to_string(), serde_json::Value::from(offset.0))).collect::<serde_json::Map<_, _>>().into()
}
