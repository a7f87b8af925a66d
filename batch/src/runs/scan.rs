//! Archive files → states, file by file and row group by row group.

use std::{collections::BTreeSet, sync::Arc};

use anabranch_core::{
    Coverage, Offset, OffsetRange, Partition,
    definition::{Fingerprint, KAFKA_HEADERS, KAFKA_KEY, KAFKA_OFFSET, KAFKA_PARTITION, KAFKA_TIMESTAMP, KAFKA_VALUE, Source, View},
    protocol::archive,
};
use anabranch_process::{
    Warehouse,
    catalog::{definitions::SourceDefinitions, rows},
    warehouse::WarehouseReader,
};
use anabranch_views::{
    decode::{Decoder, RawRecord, Wanted},
    partial::partial,
};
use anyhow::{Context, Result, bail};
use arrow::{
    array::{Array, AsArray, BooleanArray, RecordBatch},
    compute,
    datatypes::{Field, Int64Type, Schema, TimestampMicrosecondType},
};
use futures::TryStreamExt;
use parquet::arrow::{
    ParquetRecordBatchStreamBuilder, ProjectionMask,
    arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
};
use tokio_postgres::Client;
use tracing::warn;

use super::{
    Progress, Target,
    spill::{Collected, Collector},
};
use crate::archive::{file, listing};

/// Groups of all views that a scan holds in memory, about 1 kB each; beyond, they are spilled to local files.
const GROUPS_IN_MEMORY: usize = 1_000_000;
/// Rows folded at once.
const BATCH_ROWS: usize = 65_536;
/// A file that a listing named and a compaction removed since: the partition is listed again this often.
const LISTINGS: u32 = 3;

pub(super) struct Scanned {
    /// In the order of the targets.
    pub(super) collected: Vec<Collected>,
    pub(super) records: u64,
    pub(super) bytes_read: u64,
    /// Ranges that a file says to be lost.
    pub(super) lost: Vec<(Partition, OffsetRange)>,
}

/// Folds the records of `[base, coverage)` for views that share their base.
pub(super) async fn scan(
    warehouse: &Warehouse,
    client: &Client,
    definitions: &SourceDefinitions,
    targets: &[Target],
    coverage: &Coverage,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Scanned> {
    let source = &definitions.source;
    let base = targets.first().and_then(|target| target.base.as_ref());
    let mut windows = Vec::new();
    for state in rows::partitions(client, &source.name).await? {
        let Some(end) = coverage.get(state.row.partition) else { continue };
        let start = base.and_then(|base| base.get(state.row.partition)).unwrap_or(state.row.origin);
        if let Some(window) = OffsetRange::new(start, end).filter(|window| !window.is_empty()) {
            windows.push((state.row.partition, window));
        }
    }
    let folder = Arc::new(tempfile::tempdir().context("make a folder for groups that memory does not hold")?);
    let mut fold = Fold { collectors: targets.iter().map(|target| Collector::new(&target.view, &folder)).collect() };
    let total: u64 = windows.iter().map(|(_, window)| window.end.0.abs_diff(window.start.0)).sum();
    let mut done = 0;
    let mut scanned = Scanned { collected: Vec::new(), records: 0, bytes_read: 0, lost: Vec::new() };
    for (partition, window) in windows {
        for (path, clip) in files(warehouse, &source.name, partition, window).await? {
            let mut reader = WarehouseReader::open(warehouse, &path).await?;
            scanned.bytes_read += reader.size_bytes();
            let metadata = reader.metadata().await.with_context(|| format!("read {path}"))?;
            let footer = file::footer(&path, &metadata)?;
            if footer.lost {
                warn!(source = source.name, %partition, "the offsets {} are lost; the views go on without them", footer.range);
                scanned.lost.push((partition, footer.range));
                continue;
            }
            let columns = footer.columns;
            let fold_file = fold.file(&path, reader, Arc::new(metadata), &columns, clip);
            scanned.records += fold_file.await.with_context(|| format!("read {path}"))?;
            done += clip.end.0.abs_diff(clip.start.0);
            progress(Progress::Scanning { done, total });
        }
    }
    scanned.collected = fold.collectors.into_iter().map(Collector::finish).collect();
    Ok(scanned)
}

/// The files that hold `window`, each with the offsets to take of it.
async fn files(warehouse: &Warehouse, source: &str, partition: Partition, window: OffsetRange) -> Result<Vec<(String, OffsetRange)>> {
    let mut last = None;
    for _ in 0..LISTINGS {
        let mut names = listing::list(warehouse, source).await?;
        let names = names.remove(&partition).unwrap_or_default();
        let files = listing::footers(warehouse, source, listing::candidates(&names, window).to_vec()).await?;
        let ranges: Vec<OffsetRange> = files.iter().map(|(_, footer)| footer.range).collect();
        let end = ranges.iter().map(|range| range.end).max().unwrap_or(window.start);
        // Behind the last file only a tail without records can lie: the archiver reported that it passed it.
        let reached = OffsetRange { start: window.start, end: window.end.min(end.max(window.start)) };
        match archive::clip(&ranges, reached) {
            Ok(clips) => return Ok(clips.into_iter().filter_map(|(index, clip)| files.get(index).map(|(name, _)| (name.path(source), clip))).collect()),
            Err(fault) => last = Some(fault),
        }
    }
    match last {
        Some(fault) => bail!("source {source}, partition {partition}: {fault}"),
        None => Ok(Vec::new()),
    }
}

struct Fold<'a> {
    collectors: Vec<Collector<'a>>,
}

impl<'a> Fold<'a> {
    fn view(&self, index: usize) -> Option<&'a View> {
        self.collectors.get(index).map(Collector::view)
    }

    /// Folds the rows of `clip`; returns how many there were. Views whose columns the file has read them; for others it
    /// is decoded anew from the raw values.
    async fn file(
        &mut self,
        path: &str,
        reader: WarehouseReader,
        metadata: Arc<parquet::file::metadata::ParquetMetaData>,
        columns: &Fingerprint,
        clip: OffsetRange,
    ) -> Result<u64> {
        let (same, others): (Vec<usize>, Vec<usize>) =
            (0..self.collectors.len()).partition(|index| self.view(*index).is_some_and(|view| view.source.columns_fingerprint() == *columns));
        let mut records = 0;
        if let Some(first) = same.first().and_then(|index| self.view(*index)) {
            let needed: BTreeSet<String> = same.iter().filter_map(|index| self.view(*index)).flat_map(|view| view.needed_columns()).collect();
            let mut batches = read(reader.clone(), Arc::clone(&metadata), &file::schema(&first.source), &needed)?;
            while let Some(batch) = batches.try_next().await? {
                let batch = clipped(&batch, clip)?;
                records += batch.num_rows() as u64;
                for index in &same {
                    self.fold(*index, &batch)?;
                }
            }
        }
        let mut sets: Vec<(Fingerprint, Vec<usize>)> = Vec::new();
        for index in others {
            let Some(view) = self.view(index) else { continue };
            let fingerprint = view.source.columns_fingerprint();
            match sets.iter_mut().find(|(known, _)| *known == fingerprint) {
                Some((_, set)) => set.push(index),
                None => sets.push((fingerprint, vec![index])),
            }
        }
        for (_, set) in sets {
            let raw_records = self.redecoded(path, reader.clone(), Arc::clone(&metadata), &set, clip).await?;
            records = records.max(raw_records);
        }
        Ok(records)
    }

    async fn redecoded(
        &mut self,
        path: &str,
        reader: WarehouseReader,
        metadata: Arc<parquet::file::metadata::ParquetMetaData>,
        set: &[usize],
        clip: OffsetRange,
    ) -> Result<u64> {
        let Some(source) = set.first().and_then(|index| self.view(*index)).map(|view| view.source.clone()) else { return Ok(0) };
        let needed = set.iter().filter_map(|index| self.view(*index)).flat_map(|view| view.needed_columns()).collect();
        let raw = [KAFKA_PARTITION, KAFKA_OFFSET, KAFKA_TIMESTAMP, KAFKA_VALUE].map(ToOwned::to_owned).into();
        let mut batches = read(reader, metadata, &raw_schema(&source), &raw)?;
        let mut decoder = Decoder::new(&source, Wanted::Columns(needed));
        let mut records = 0;
        while let Some(batch) = batches.try_next().await? {
            let batch = clipped(&batch, clip)?;
            records += batch.num_rows() as u64;
            decode_raw(&batch, &mut decoder).with_context(|| format!("decode {path} anew"))?;
            let decoded = decoder.finish()?;
            for index in set {
                self.fold(*index, &decoded)?;
            }
        }
        Ok(records)
    }

    fn fold(&mut self, index: usize, batch: &RecordBatch) -> Result<()> {
        if let Some(collector) = self.collectors.get_mut(index) {
            collector.merge(partial(collector.view(), batch)?);
        }
        if self.collectors.iter().map(Collector::len).sum::<usize>() > GROUPS_IN_MEMORY {
            self.collectors.iter_mut().try_for_each(Collector::spill)?;
        }
        Ok(())
    }
}

/// Only the columns of the record itself, which every archive file has.
fn raw_schema(source: &Source) -> Arc<Schema> {
    let schema = file::schema(source);
    let raw = [KAFKA_PARTITION, KAFKA_OFFSET, KAFKA_TIMESTAMP, KAFKA_KEY, KAFKA_HEADERS, KAFKA_VALUE];
    Arc::new(Schema::new(
        schema.fields().iter().filter(|field| raw.contains(&field.name().as_str())).map(|field| field.as_ref().clone()).collect::<Vec<Field>>(),
    ))
}

fn decode_raw(batch: &RecordBatch, decoder: &mut Decoder) -> Result<()> {
    let column = |name: &str| batch.column_by_name(name).with_context(|| format!("the column {name} is missing"));
    let partitions = column(KAFKA_PARTITION)?.as_primitive::<Int64Type>();
    let offsets = column(KAFKA_OFFSET)?.as_primitive::<Int64Type>();
    let timestamps = column(KAFKA_TIMESTAMP)?.as_primitive::<TimestampMicrosecondType>();
    let values = column(KAFKA_VALUE)?.as_binary::<i32>();
    for row in 0..batch.num_rows() {
        let record = RawRecord {
            partition: i32::try_from(partitions.value(row))?,
            offset: offsets.value(row),
            timestamp_micros: timestamps.is_valid(row).then(|| timestamps.value(row)),
            key: None,
            value: values.is_valid(row).then(|| values.value(row)),
        };
        decoder.push(&record, []);
    }
    Ok(())
}

type Batches = parquet::arrow::async_reader::ParquetRecordBatchStream<WarehouseReader>;

/// The batches of a file with only the `needed` columns, typed by the fields of `schema` that the file has.
fn read(reader: WarehouseReader, metadata: Arc<parquet::file::metadata::ParquetMetaData>, schema: &Schema, needed: &BTreeSet<String>) -> Result<Batches> {
    let parquet_schema = metadata.file_metadata().schema_descr_ptr();
    let plain = ArrowReaderMetadata::try_new(Arc::clone(&metadata), ArrowReaderOptions::new())?;
    // The file says INT64, UTF8, …; in memory TEXT is a view type, as everywhere here.
    let fields: Vec<Field> =
        plain.schema().fields().iter().map(|field| schema.field_with_name(field.name()).unwrap_or(field).clone().with_nullable(field.is_nullable())).collect();
    let typed = ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields))))?;
    let roots =
        typed.schema().fields().iter().enumerate().filter(|(_, field)| needed.contains(field.name()) || field.name() == KAFKA_OFFSET).map(|(index, _)| index);
    let mask = ProjectionMask::roots(&parquet_schema, roots);
    Ok(ParquetRecordBatchStreamBuilder::new_with_metadata(reader, typed).with_projection(mask).with_batch_size(BATCH_ROWS).build()?)
}

/// The rows of a batch whose offset is in `clip`.
fn clipped(batch: &RecordBatch, clip: OffsetRange) -> Result<RecordBatch> {
    let offsets = batch.column_by_name(KAFKA_OFFSET).context("the column kafka_offset is missing")?.as_primitive::<Int64Type>();
    let inside: BooleanArray = offsets.iter().map(|offset| offset.map(|offset| clip.contains(Offset(offset)))).collect();
    if inside.true_count() == batch.num_rows() {
        return Ok(batch.clone());
    }
    Ok(compute::filter_record_batch(batch, &inside)?)
}
