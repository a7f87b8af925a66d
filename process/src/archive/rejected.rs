//! The records of the archive that cannot be decoded, with what they say.
//!
//! Each is decoded by the source's newest definition: one that is good now is not shown, whatever its file says of it.

use anabranch_core::{
    Offset, Partition,
    definition::{DECODE_ERROR, KAFKA_OFFSET, KAFKA_TIMESTAMP, KAFKA_VALUE, Source},
    layout::ArchiveName,
};
use anabranch_views::decode::{Decoder, RawRecord, Wanted};
use anyhow::{Context, Result};
use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use futures::TryStreamExt;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};

use super::{footer, listing};
use crate::{
    catalog::rows::PartitionState,
    warehouse::{Warehouse, WarehouseReader},
};

/// A record that was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// Its Kafka timestamp, microseconds since 1970.
    pub timestamp_micros: Option<i64>,
    /// Why.
    pub reason: String,
    /// Its value as Kafka has it; nothing for a tombstone.
    pub value: Option<Vec<u8>>,
}

/// Which ones are looked for.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// Those whose reason contains this.
    pub reason: Option<&'a str>,
    /// Those of this partition.
    pub partition: Option<i32>,
    /// So many at most.
    pub limit: usize,
    /// In so many files at most, the newest ones.
    pub files: usize,
}

/// Offsets that speed has read and the archive has not yet.
#[must_use]
pub fn unarchived(partitions: &[PartitionState]) -> i64 {
    partitions.iter().map(|state| (state.row.next_offset.0 - state.archived_to.0).max(0)).sum()
}

/// The rejected records, the newest file of each partition first, and whether no file was left out.
///
/// # Errors
/// When the warehouse fails, or a file is not one of this program.
pub async fn rejected(warehouse: &Warehouse, source: &Source, search: Search<'_>) -> Result<(Vec<Rejected>, bool)> {
    let Search { reason, partition, limit, files } = search;
    let listed = listing::list(warehouse, &source.name).await?.into_iter().filter(|(of, _)| partition.is_none_or(|wanted| of.0 == wanted));
    // The newest of each partition, then the ones before.
    let mut names: Vec<(usize, ArchiveName)> = listed.flat_map(|(_, names)| names.into_iter().rev().enumerate()).collect();
    names.sort_by_key(|(age, _)| *age);
    let mut found = Vec::new();
    let complete = names.len() <= files;
    for (_, name) in names.into_iter().take(files) {
        if found.len() >= limit {
            break;
        }
        let path = name.path(&source.name);
        let mut of_file = in_file(warehouse, source, &path, name.partition).await.with_context(|| format!("read {path}"))?;
        of_file.retain(|record| reason.is_none_or(|wanted| record.reason.contains(wanted)));
        of_file.reverse();
        found.append(&mut of_file);
    }
    found.truncate(limit);
    Ok((found, complete))
}

async fn in_file(warehouse: &Warehouse, source: &Source, path: &str, partition: Partition) -> Result<Vec<Rejected>> {
    let mut reader = WarehouseReader::open(warehouse, path).await?;
    let footer = footer::of(path, &reader.metadata().await?)?;
    let same_columns = footer.columns == source.columns_fingerprint();
    let builder = ParquetRecordBatchStreamBuilder::new(reader).await?;
    let metadata = builder.metadata().clone();
    let place = |name: &str| metadata.file_metadata().schema_descr().columns().iter().position(|column| column.path().string() == name);
    // Row groups without a rejected record need not be read, where the file was decoded by the definition of today.
    let errors = place(DECODE_ERROR);
    let is_clean = |group: usize| {
        let statistics = errors.and_then(|errors| metadata.row_group(group).column(errors).statistics());
        same_columns && statistics.and_then(|statistics| statistics.null_count_opt()) == Some(metadata.row_group(group).num_rows().unsigned_abs())
    };
    let groups = (0..metadata.num_row_groups()).filter(|group| !is_clean(*group)).collect();
    let needed = [KAFKA_OFFSET, KAFKA_TIMESTAMP, KAFKA_VALUE];
    let mask = ProjectionMask::leaves(metadata.file_metadata().schema_descr(), needed.iter().filter_map(|name| place(name)));
    let mut batches = builder.with_projection(mask).with_row_groups(groups).build()?;
    let mut found = Vec::new();
    while let Some(batch) = batches.try_next().await? {
        look_at(source, partition, &batch, &mut found)?;
    }
    Ok(found)
}

fn look_at(source: &Source, partition: Partition, batch: &RecordBatch, found: &mut Vec<Rejected>) -> Result<()> {
    let column = |name: &str| batch.column_by_name(name).with_context(|| format!("the column {name} is missing"));
    let offsets = column(KAFKA_OFFSET)?.as_primitive::<Int64Type>();
    let timestamps = column(KAFKA_TIMESTAMP)?.as_primitive::<TimestampMicrosecondType>();
    let values = column(KAFKA_VALUE)?.as_binary::<i32>();
    let mut decoder = Decoder::new(source, Wanted::Columns([DECODE_ERROR.to_owned()].into()));
    let value = |row: usize| values.is_valid(row).then(|| values.value(row));
    let timestamp = |row: usize| timestamps.is_valid(row).then(|| timestamps.value(row));
    for row in 0..batch.num_rows() {
        let record = RawRecord { partition: partition.0, offset: offsets.value(row), timestamp_micros: timestamp(row), key: None, value: value(row) };
        decoder.push(&record, []);
    }
    let decoded = decoder.finish()?;
    let errors = decoded.column_by_name(DECODE_ERROR).context("no decode_error")?.as_string_view().clone();
    for (row, reason) in errors.iter().enumerate() {
        let Some(reason) = reason else { continue };
        found.push(Rejected {
            partition,
            offset: Offset(offsets.value(row)),
            timestamp_micros: timestamp(row),
            reason: reason.to_owned(),
            value: value(row).map(<[u8]>::to_vec),
        });
    }
    Ok(())
}
