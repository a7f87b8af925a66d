//! Archive files → states, file by file and row group by row group.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::available_parallelism,
};

use anabranch_core::{
    Coverage, Offset, OffsetRange, Partition,
    definition::{Fingerprint, KAFKA_OFFSET, KAFKA_PARTITION, KAFKA_TIMESTAMP, KAFKA_VALUE, View},
    protocol::archive,
};
use anabranch_process::{
    Warehouse,
    archive::{footer, listing},
    catalog::{definitions::SourceDefinitions, rows},
    references,
    warehouse::WarehouseReader,
};
use anabranch_views::{
    Groups, Lookups,
    decode::{Decoder, Wanted},
    partial::partial,
};
use anyhow::{Context, Result, bail};
use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    compute,
    datatypes::{Field, Int64Type, Schema},
};
use futures::{StreamExt, TryStreamExt, stream};
use parquet::{
    arrow::{
        ParquetRecordBatchStreamBuilder, ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
    },
    file::metadata::ParquetMetaData,
};
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_postgres::Client;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::{
    Progress, Target, raw, reference,
    spill::{Collected, Collector, GROUPS_IN_MEMORY},
    window::{self, Window},
};
use crate::archive::file;

/// Rows folded at once: the more, the fewer groups are merged; the fewer, the less lies in memory.
pub(super) const BATCH_ROWS: usize = 16_384;
/// A file that a listing named and a compaction removed since: the archive is listed again this often.
const LISTINGS: u32 = 3;

pub(super) struct Scanned {
    /// In the order of the targets.
    pub(super) collected: Vec<Collected>,
    pub(super) records: u64,
    pub(super) bytes_read: u64,
    /// Ranges that a file says to be lost.
    pub(super) lost: Vec<(Partition, OffsetRange)>,
}

/// What a scan reads.
#[derive(Clone, Copy)]
pub(super) struct Extent<'a> {
    pub(super) coverage: &'a Coverage,
    /// Nothing: everything.
    pub(super) window: Option<Window>,
}

/// Folds the records of `[base, coverage)` for views that share their base: as many files at once as there are processors.
pub(super) async fn scan(
    warehouse: &Warehouse,
    client: &Client,
    definitions: &SourceDefinitions,
    targets: &[Target],
    extent: Extent<'_>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Scanned> {
    let source = &definitions.source;
    if source.files.is_some() {
        return reference::scan(warehouse, targets, progress).await;
    }
    let base = targets.first().and_then(|target| target.base.as_ref());
    let mut windows = Vec::new();
    for state in rows::partitions(client, &source.name).await? {
        let Some(end) = extent.coverage.get(state.row.partition) else { continue };
        let start = base.and_then(|base| base.get(state.row.partition)).unwrap_or(state.row.origin);
        if let Some(window) = OffsetRange::new(start, end).filter(|window| !window.is_empty()) {
            windows.push((state.row.partition, window));
        }
    }
    let files = files(warehouse, &source.name, &windows).await?;
    let total: u64 = windows.iter().map(|(_, window)| window.end.0.abs_diff(window.start.0)).sum();
    let done = AtomicU64::new(0);
    let workers = available_parallelism().map_or(1, usize::from);
    let (folded, mut groups) = mpsc::channel(workers);
    let mut lookups = Lookups::default();
    references::load(warehouse, targets.iter().map(|target| target.view.as_ref()), &mut lookups).await?;
    let fold = Arc::new(Fold {
        warehouse: warehouse.clone(),
        views: targets.iter().map(|target| Arc::clone(&target.view)).collect(),
        lookups: Arc::new(lookups),
        window: extent.window,
        folded,
    });
    let mut scanned = Scanned { collected: Vec::new(), records: 0, bytes_read: 0, lost: Vec::new() };
    let reading = async {
        let read = |file: ToRead| {
            let fold = Arc::clone(&fold);
            async move { AbortOnDropHandle::new(tokio::spawn(async move { fold.file(file).await })).await? }
        };
        let mut reading = stream::iter(files).map(read).buffer_unordered(workers);
        while let Some(file) = reading.try_next().await? {
            scanned.records += file.records;
            scanned.bytes_read += file.bytes_read;
            if let Some(range) = file.lost {
                warn!(source = source.name, partition = %file.partition, "the offsets {range} are lost; the views go on without them");
                scanned.lost.push((file.partition, range));
            }
            let done = done.fetch_add(file.offsets, Ordering::Relaxed) + file.offsets;
            progress(Progress::Scanning { done, total });
        }
        drop(reading);
        // The last sender: what waits for groups ends.
        drop(fold);
        anyhow::Ok(())
    };
    let folder = Arc::new(tempfile::tempdir().context("make a folder for groups that memory does not hold")?);
    let mut collectors: Vec<Collector<'_>> = targets.iter().map(|target| Collector::new(&target.view, &folder)).collect();
    let collecting = async {
        while let Some((index, groups)) = groups.recv().await {
            if let Some(collector) = collectors.get_mut::<usize>(index) {
                collector.merge(groups);
            }
            if collectors.iter().map(Collector::len).sum::<usize>() > GROUPS_IN_MEMORY {
                collectors.iter_mut().try_for_each(Collector::spill)?;
            }
        }
        anyhow::Ok(())
    };
    tokio::try_join!(reading, collecting)?;
    scanned.collected = collectors.into_iter().map(Collector::finish).collect();
    Ok(scanned)
}

/// A file, and the offsets to take of it.
struct ToRead {
    partition: Partition,
    path: String,
    clip: OffsetRange,
}

/// The files that hold the windows.
async fn files(warehouse: &Warehouse, source: &str, windows: &[(Partition, OffsetRange)]) -> Result<Vec<ToRead>> {
    let mut last = None;
    for _ in 0..LISTINGS {
        match listed(warehouse, source, windows).await? {
            Ok(files) => return Ok(files),
            Err(fault) => last = Some(fault),
        }
    }
    match last {
        Some((partition, fault)) => bail!("source {source}, partition {partition}: {fault}"),
        None => Ok(Vec::new()),
    }
}

async fn listed(warehouse: &Warehouse, source: &str, windows: &[(Partition, OffsetRange)]) -> Result<Result<Vec<ToRead>, (Partition, archive::Fault)>> {
    let mut names = listing::list(warehouse, source).await?;
    let mut found = Vec::new();
    for (partition, window) in windows {
        let names = names.remove(partition).unwrap_or_default();
        let files = listing::footers(warehouse, source, listing::candidates(&names, *window).to_vec()).await?;
        let ranges: Vec<OffsetRange> = files.iter().map(|(_, footer)| footer.range).collect();
        let end = ranges.iter().map(|range| range.end).max().unwrap_or(window.start);
        // Behind the last file only a tail without records can lie: the archiver reported that it passed it.
        let reached = OffsetRange { start: window.start, end: window.end.min(end.max(window.start)) };
        match archive::clip(&ranges, reached) {
            Ok(clips) => found.extend(clips.into_iter().filter_map(|(index, clip)| {
                let (name, _) = files.get(index)?;
                Some(ToRead { partition: *partition, path: name.path(source), clip })
            })),
            Err(fault) => return Ok(Err((*partition, fault))),
        }
    }
    Ok(Ok(found))
}

/// What was read of a file.
struct Read {
    partition: Partition,
    offsets: u64,
    records: u64,
    bytes_read: u64,
    lost: Option<OffsetRange>,
}

/// What every reading of a file needs.
struct Fold {
    warehouse: Warehouse,
    views: Vec<Arc<View>>,
    /// The rows of the references that they join.
    lookups: Arc<Lookups>,
    window: Option<Window>,
    /// Groups of a view, by its index.
    folded: mpsc::Sender<(usize, Groups)>,
}

impl Fold {
    async fn file(&self, file: ToRead) -> Result<Read> {
        let ToRead { partition, path, clip } = file;
        let mut reader = WarehouseReader::open(&self.warehouse, &path).await?;
        let bytes_read = reader.size_bytes();
        let metadata = reader.metadata().await.with_context(|| format!("read {path}"))?;
        let footer = footer::of(&path, &metadata)?;
        let offsets = clip.end.0.abs_diff(clip.start.0);
        if footer.lost {
            return Ok(Read { partition, offsets, records: 0, bytes_read, lost: Some(footer.range) });
        }
        let opened = Opened { path: &path, reader, metadata: Arc::new(metadata), clip };
        let records = self.rows(opened, &footer.columns).await.with_context(|| format!("read {path}"))?;
        Ok(Read { partition, offsets, records, bytes_read, lost: None })
    }

    /// Folds the rows of a file; returns how many there were. Views whose columns the file has read them; for others it is
    /// decoded anew from the raw values.
    async fn rows(&self, opened: Opened<'_>, columns: &Fingerprint) -> Result<u64> {
        let (same, others): (Vec<usize>, Vec<usize>) =
            (0..self.views.len()).partition(|index| self.views.get(*index).is_some_and(|view| view.source.columns_fingerprint() == *columns));
        let mut records = 0;
        if let Some(first) = same.first().and_then(|index| self.views.get(*index)) {
            let views = same.iter().filter_map(|index| self.views.get(*index)).map(Arc::as_ref);
            let needed: BTreeSet<String> = views.clone().flat_map(View::needed_columns).collect();
            let row_groups = window::row_groups(self.window, views, opened.metadata.row_groups());
            let mut batches = opened.batches(&file::schema(&first.source), &needed, row_groups)?;
            while let Some(batch) = batches.try_next().await? {
                let batch = clipped(&batch, opened.clip)?;
                records += batch.num_rows() as u64;
                self.fold(&same, batch).await?;
            }
        }
        let mut sets: Vec<(Fingerprint, Vec<usize>)> = Vec::new();
        for index in others {
            let Some(view) = self.views.get(index) else { continue };
            let fingerprint = view.source.columns_fingerprint();
            match sets.iter_mut().find(|(known, _)| *known == fingerprint) {
                Some((_, set)) => set.push(index),
                None => sets.push((fingerprint, vec![index])),
            }
        }
        for (_, set) in sets {
            records = records.max(self.redecoded(&opened, &set).await?);
        }
        Ok(records)
    }

    async fn redecoded(&self, opened: &Opened<'_>, set: &[usize]) -> Result<u64> {
        let Some(source) = set.first().and_then(|index| self.views.get(*index)).map(|view| view.source.clone()) else { return Ok(0) };
        let needed = set.iter().filter_map(|index| self.views.get(*index)).flat_map(|view| view.needed_columns()).collect();
        let raw = [KAFKA_PARTITION, KAFKA_OFFSET, KAFKA_TIMESTAMP, KAFKA_VALUE].map(ToOwned::to_owned).into();
        let every = (0..opened.metadata.num_row_groups()).collect();
        let mut batches = opened.batches(&raw::schema(&source), &raw, every)?;
        let mut decoder = Decoder::new(&source, Wanted::Columns(needed));
        let mut records = 0;
        while let Some(batch) = batches.try_next().await? {
            let batch = clipped(&batch, opened.clip)?;
            records += batch.num_rows() as u64;
            raw::decode(&batch, &mut decoder).with_context(|| format!("decode {} anew", opened.path))?;
            self.fold(set, decoder.finish()?).await?;
        }
        Ok(records)
    }

    async fn fold(&self, set: &[usize], batch: RecordBatch) -> Result<()> {
        for index in set {
            let Some(view) = self.views.get(*index).map(Arc::clone) else { continue };
            let (batch, lookups) = (batch.clone(), Arc::clone(&self.lookups));
            // Beside the threads that answer PostgreSQL and HDFS.
            let groups = spawn_blocking(move || partial(&view, &batch, &lookups)).await??;
            self.folded.send((*index, groups)).await.context("nobody takes the groups")?;
        }
        Ok(())
    }
}

type Batches = parquet::arrow::async_reader::ParquetRecordBatchStream<WarehouseReader>;

struct Opened<'a> {
    path: &'a str,
    reader: WarehouseReader,
    metadata: Arc<ParquetMetaData>,
    clip: OffsetRange,
}

impl Opened<'_> {
    /// The batches of these row groups with only the `needed` columns, typed by the fields of `schema` that the file has.
    fn batches(&self, schema: &Schema, needed: &BTreeSet<String>, row_groups: Vec<usize>) -> Result<Batches> {
        let parquet_schema = self.metadata.file_metadata().schema_descr_ptr();
        let plain = ArrowReaderMetadata::try_new(Arc::clone(&self.metadata), ArrowReaderOptions::new())?;
        // The file says INT64, UTF8, …; in memory TEXT is a view type, as everywhere here.
        let typed = |field: &Arc<Field>| schema.field_with_name(field.name()).unwrap_or(field).clone().with_nullable(field.is_nullable());
        let fields: Vec<Field> = plain.schema().fields().iter().map(typed).collect();
        let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields)));
        let typed = ArrowReaderMetadata::try_new(Arc::clone(&self.metadata), options)?;
        let is_needed = |field: &Field| needed.contains(field.name()) || field.name() == KAFKA_OFFSET;
        let roots = typed.schema().fields().iter().enumerate().filter(|(_, field)| is_needed(field)).map(|(index, _)| index);
        let mask = ProjectionMask::roots(&parquet_schema, roots);
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.reader.clone(), typed).with_projection(mask);
        Ok(builder.with_row_groups(row_groups).with_batch_size(BATCH_ROWS).build()?)
    }
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
