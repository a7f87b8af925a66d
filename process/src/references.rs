//! References: tables of files that events are joined to.
//!
//! ```text
//!  files ──(apply: read, checked, typed)──► rows ──► hash of their content ──► the warehouse's copy ──(both arms)──► lookups
//! ```
//!
//! A definition names a content; both arms read only that copy, so a file that changes changes nothing until it is applied.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anabranch_core::{
    definition::{DECODE_ERROR, FileFormat, Pipeline, Source, View},
    layout,
};
use anabranch_views::{
    Lookups,
    decode::{self, Decoder, RawRecord, Wanted},
    lookup,
};
use anyhow::{Context, Result};
use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute,
};
use bytes::Bytes;
use glob::Pattern;
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use tracing::info;
use uuid::Uuid;

use crate::{
    failure::Refused,
    warehouse::{FileInfo, Warehouse, WarehouseError},
};

/// References are held in memory by every process: more than this belongs into a topic.
const LARGEST_BYTES: u64 = 4 << 30;
/// Rows read at once.
const PARSED_ROWS: usize = 16_384;

/// The rows of every reference of a pipeline, by name.
#[derive(Clone, Debug, Default)]
pub struct References(BTreeMap<String, (String, RecordBatch)>);

impl References {
    /// Reads the files of all references; relative paths begin at `folder`.
    ///
    /// # Errors
    /// [`Refused`] for a file that is missing, a line that does not decode, or a join key that two rows share.
    pub async fn read(pipeline: &Pipeline, folder: &Path) -> Result<Self> {
        let mut references = BTreeMap::new();
        for reference in &pipeline.references {
            let rows = read(reference, folder).await?;
            let content = lookup::content_hash(reference, &rows)?;
            references.insert(reference.name.clone(), (content, rows));
        }
        let references = Self(references);
        for view in &pipeline.views {
            references.check_keys(view)?;
        }
        Ok(references)
    }

    fn check_keys(&self, view: &View) -> Result<()> {
        for join in &view.joins {
            let first = join.reference.files.as_ref().is_some_and(|files| files.unique_first);
            let Some((_, rows)) = self.0.get(&join.reference.name).filter(|_| !first) else { continue };
            if let Some(duplicate) = lookup::duplicate_key(join, rows)? {
                let message = format!(
                    "reference {}: rows {} and {} have the same {}, by which view {} joins; make them unique, or declare unique = 'first'",
                    join.reference.name,
                    duplicate.rows.0 + 1,
                    duplicate.rows.1 + 1,
                    duplicate.columns.join(", "),
                    view.name
                );
                return Err(Refused(message).into());
            }
        }
        Ok(())
    }

    /// The hash of each reference's content, by name.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|(name, (content, _))| (name.clone(), content.clone())).collect()
    }

    /// Rows of each reference, by name.
    pub fn row_counts(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.iter().map(|(name, (_, rows))| (name.as_str(), rows.num_rows()))
    }

    /// Copies what the warehouse does not have yet.
    ///
    /// # Errors
    /// When the warehouse does not answer.
    pub async fn store(&self, warehouse: &Warehouse) -> Result<()> {
        for (name, (content, rows)) in &self.0 {
            let path = layout::reference(name, content);
            match warehouse.size_bytes(&path).await {
                Ok(_) => continue,
                Err(WarehouseError::NotFound(_)) => {}
                Err(error) => return Err(error).with_context(|| format!("look at {path}")),
            }
            let temporary = layout::temporary_reference(name, content, Uuid::new_v4());
            warehouse.make_folder(path.rsplit_once('/').map_or("", |(folder, _)| folder)).await?;
            warehouse.write_new(&temporary, encoded(rows)?).await.with_context(|| format!("write {temporary}"))?;
            match warehouse.rename_new(&temporary, &path).await {
                // Somebody else stored the same rows.
                Err(WarehouseError::AlreadyExists(_)) => warehouse.remove(&temporary).await?,
                renamed => renamed.with_context(|| format!("rename {temporary}"))?,
            }
            info!(reference = name, content, rows = rows.num_rows(), "stored reference");
        }
        Ok(())
    }
}

/// What of a view's references is needed: name and content.
fn needed<'a>(views: impl IntoIterator<Item = &'a View>) -> BTreeSet<(String, String)> {
    let mut needed = BTreeSet::new();
    for view in views {
        let joined = view.joins.iter().map(|join| &join.reference);
        for table in joined.chain([&view.source]) {
            if let Some(content) = table.files.as_ref().and_then(|files| files.content.clone()) {
                needed.insert((table.name.clone(), content));
            }
        }
    }
    needed
}

/// Loads the warehouse's copies that the joins of `views` need into `lookups`, and leaves no others there.
///
/// # Errors
/// When a copy cannot be read.
pub async fn load(warehouse: &Warehouse, views: impl IntoIterator<Item = &View>, lookups: &mut Lookups) -> Result<()> {
    let needed = needed(views);
    lookups.retain(&needed);
    for (name, content) in needed {
        if !lookups.has(&name, &content) {
            lookups.insert(&name, &content, stored(warehouse, &name, &content).await?);
        }
    }
    Ok(())
}

/// The warehouse's copy of a reference.
///
/// # Errors
/// When it cannot be read.
pub async fn stored(warehouse: &Warehouse, name: &str, content: &str) -> Result<RecordBatch> {
    let path = layout::reference(name, content);
    let bytes = warehouse.read(&path).await.with_context(|| format!("read {path}"))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).with_context(|| format!("read {path}"))?;
    let schema = reader.schema().clone();
    let batches = reader.with_batch_size(PARSED_ROWS).build()?.collect::<Result<Vec<_>, _>>().with_context(|| format!("read {path}"))?;
    Ok(compute::concat_batches(&schema, &batches)?)
}

fn encoded(rows: &RecordBatch) -> Result<Bytes> {
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut content = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut content, rows.schema(), Some(properties))?;
    writer.write(rows)?;
    writer.close()?;
    Ok(content.into())
}

/// The files of a reference: where they are, and their names.
struct Found {
    warehouse: Warehouse,
    paths: Vec<(String, u64)>,
}

async fn find(reference: &Source, path: &str, folder: &Path) -> Result<Found> {
    let refuse = |reason: String| Refused(format!("reference {}: {reason}", reference.name));
    let (url, rest) = match path.strip_prefix("hdfs://") {
        Some(hdfs) => {
            let mut parts = hdfs.splitn(3, '/');
            let (authority, root) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            (format!("hdfs://{authority}/{root}"), parts.next().unwrap_or_default().trim_end_matches('/').to_owned())
        }
        None => {
            let local = folder.join(path.strip_prefix("file://").unwrap_or(path));
            let absolute = std::path::absolute(&local).map_err(|error| refuse(format!("{}: {error}", local.display())))?;
            let root = absolute.parent().unwrap_or(&absolute).display().to_string();
            (format!("file://{root}"), absolute.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())
        }
    };
    let warehouse = Warehouse::at(&url).map_err(|error| refuse(format!("{error}")))?;
    let (parent, name) = rest.rsplit_once('/').unwrap_or(("", &rest));
    let under = |folder: &str, file: &FileInfo| (if folder.is_empty() { file.name.clone() } else { format!("{folder}/{}", file.name) }, file.size_bytes);
    let siblings = warehouse.list(parent).await.with_context(|| format!("list the files of reference {}", reference.name))?;
    let pattern = Pattern::new(name).map_err(|error| refuse(format!("{path}: {error}")))?;
    let mut paths: Vec<(String, u64)> = siblings.iter().filter(|file| file.name == name).map(|file| under(parent, file)).collect();
    if paths.is_empty() && name.contains(['*', '?', '[']) {
        paths = siblings.iter().filter(|file| !is_hidden(&file.name) && pattern.matches(&file.name)).map(|file| under(parent, file)).collect();
    } else if paths.is_empty() {
        let inside = warehouse.list(&rest).await.with_context(|| format!("list the files of reference {}", reference.name))?;
        paths = inside.iter().filter(|file| !is_hidden(&file.name)).map(|file| under(&rest, file)).collect();
    }
    let total: u64 = paths.iter().map(|(_, size)| size).sum();
    if paths.is_empty() {
        return Err(refuse(format!("{path}: there is no such file, and no file in such a folder")).into());
    }
    if total > LARGEST_BYTES {
        return Err(refuse(format!("{path}: {total} bytes are more than a reference may have ({LARGEST_BYTES})")).into());
    }
    Ok(Found { warehouse, paths })
}

/// As Hive and Spark have it.
fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

async fn read(reference: &Source, folder: &Path) -> Result<RecordBatch> {
    let Some(files) = &reference.files else { return Err(Refused(format!("{} is not a reference", reference.name)).into()) };
    let found = find(reference, &files.path, folder).await?;
    let mut batches = Vec::new();
    for (path, _) in found.paths {
        let bytes = found.warehouse.read(&path).await.with_context(|| format!("read {path}"))?;
        let refuse = |reason: String| Refused(format!("reference {}: {path}{reason}", reference.name));
        let (rows, lines) = match files.format {
            FileFormat::Json => json_lines(reference, &bytes)?,
            FileFormat::Csv => csv_lines(reference, &bytes).map_err(|error| refuse(format!(": {error:#}")))?,
            FileFormat::Parquet => (parquet_rows(reference, bytes).map_err(|error| refuse(format!(": {error:#}")))?, Vec::new()),
        };
        let errors = rows.column_by_name(DECODE_ERROR).context("the rows of a reference have no decode_error")?.as_string_view().clone();
        if let Some(row) = (0..rows.num_rows()).find(|row| errors.is_valid(*row)) {
            let place = lines.get(row).map_or_else(|| format!(": row {}", row + 1), |line| format!(":{line}"));
            return Err(refuse(format!("{place}: {}", errors.value(row))).into());
        }
        batches.push(rows);
    }
    let schema = batches.first().context("a reference without files")?.schema();
    Ok(compute::concat_batches(&schema, &batches)?)
}

/// All columns, for what joins and views may name.
fn decoder(reference: &Source) -> Decoder {
    Decoder::new(reference, Wanted::Columns(reference.columns.iter().map(|column| column.name.clone()).collect()))
}

fn push(decoder: &mut Decoder, row: usize, value: &[u8]) -> Result<()> {
    decoder.push(&RawRecord { partition: 0, offset: i64::try_from(row)?, timestamp_micros: None, key: None, value: Some(value) }, []);
    Ok(())
}

/// The rows, and the line that each is from.
fn json_lines(reference: &Source, content: &[u8]) -> Result<(RecordBatch, Vec<usize>)> {
    let mut decoder = decoder(reference);
    let mut lines = Vec::new();
    for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        push(&mut decoder, lines.len(), line)?;
        lines.push(index + 1);
    }
    Ok((decoder.finish()?, lines))
}

fn csv_lines(reference: &Source, content: &[u8]) -> Result<(RecordBatch, Vec<usize>)> {
    let mut reader = csv::Reader::from_reader(content);
    let header = reader.headers()?.clone();
    for column in reference.columns.iter().filter(|column| column.generated.is_none()) {
        let name = column.path.last().unwrap_or(&column.name);
        anyhow::ensure!(
            header.iter().any(|known| known == name),
            "its first line does not name the column \"{name}\": {}",
            header.iter().collect::<Vec<_>>().join(", ")
        );
    }
    let mut decoder = decoder(reference);
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = record?;
        // Nothing between two commas is NULL.
        let members = header.iter().zip(&record).filter(|(_, cell)| !cell.is_empty());
        let object: serde_json::Map<String, serde_json::Value> = members.map(|(name, cell)| (name.to_owned(), cell.into())).collect();
        push(&mut decoder, lines.len(), serde_json::to_string(&object)?.as_bytes())?;
        lines.push(record.position().map_or(0, |position| usize::try_from(position.line()).unwrap_or(usize::MAX)));
    }
    Ok((decoder.finish()?, lines))
}

fn parquet_rows(reference: &Source, content: Bytes) -> Result<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(content)?;
    let schema = reader.schema().clone();
    let batches = reader.build()?.collect::<Result<Vec<_>, _>>()?;
    let rows = compute::concat_batches(&schema, &batches)?;
    let mut columns = Vec::new();
    for column in reference.columns.iter().filter(|column| column.generated.is_none()) {
        let name = column.path.last().unwrap_or(&column.name);
        columns.push(rows.column_by_name(name).with_context(|| format!("it has no column \"{name}\""))?.clone());
    }
    Ok(decode::from_columns(reference, &columns, rows.num_rows())?)
}
