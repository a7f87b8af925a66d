//! Parts and manifests: what batch publishes and serving loads.

use std::collections::BTreeMap;

use anabranch_core::{
    Coverage,
    definition::{Fingerprint, View},
    format, layout,
    protocol::CutNumber,
};
use anabranch_views::{Columns, Row, table};
use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use futures::TryStreamExt;
use parquet::{
    arrow::{ParquetRecordBatchStreamBuilder, arrow_reader::ArrowReaderOptions},
    file::metadata::ParquetMetaData,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::warehouse::{Warehouse, WarehouseReader};

mod local;

pub use local::LocalPart;

/// A published result: which parts it is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format version.
    pub format: u32,
    /// The view.
    pub view: String,
    /// Its definition's fingerprint.
    pub fingerprint: Fingerprint,
    /// Its definition's text.
    pub definition: String,
    /// The run that wrote it.
    pub run: Uuid,
    /// The run of the version on which it is based.
    pub previous_run: Option<Uuid>,
    /// The cut; 0 for an audit, which takes none.
    pub cut: CutNumber,
    /// What it includes.
    pub coverage: Coverage,
    /// Its parts by name.
    pub parts: BTreeMap<String, Part>,
}

/// A part of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Where it lies in the warehouse.
    pub path: String,
    /// Its groups.
    pub groups: u64,
    /// Its length.
    pub size_bytes: u64,
}

/// Reads the manifest of a run's folder.
///
/// # Errors
/// When it cannot be read, or was written by a newer program.
pub async fn read_manifest(warehouse: &Warehouse, folder: &str) -> Result<Manifest> {
    #[derive(Deserialize)]
    struct Versioned {
        format: u32,
    }
    let path = layout::manifest(folder);
    let content = warehouse.read(&path).await?;
    let versioned: Versioned = serde_json::from_slice(&content).with_context(|| format!("read manifest {path}"))?;
    format::check(&format!("manifest {path}"), versioned.format, format::MANIFEST)?;
    serde_json::from_slice(&content).with_context(|| format!("read manifest {path}"))
}

/// Reads the groups of a part.
///
/// # Errors
/// When it cannot be read, is not of this view, or was written by a newer program.
pub async fn read_part(warehouse: &Warehouse, view: &View, part: &Part) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for batch in read_batches(warehouse, view, part).await? {
        rows.extend(table::from_batch(view, &batch).with_context(|| format!("read part {}", part.path))?);
    }
    Ok(rows)
}

/// The groups of a part as columns.
///
/// # Errors
/// As [`read_part`].
pub async fn read_columns(warehouse: &Warehouse, view: &View, part: &Part) -> Result<Columns> {
    let batches = read_batches(warehouse, view, part).await?;
    Columns::of_batches(view, &batches, None).with_context(|| format!("read part {}", part.path))
}

async fn read_batches(warehouse: &Warehouse, view: &View, part: &Part) -> Result<Vec<RecordBatch>> {
    let context = || format!("read part {}", part.path);
    let reader = WarehouseReader::open(warehouse, &part.path).await.with_context(context)?;
    let options = ArrowReaderOptions::new().with_schema(table::schema(&table::columns(view)));
    let builder = ParquetRecordBatchStreamBuilder::new_with_options(reader, options).await.with_context(context)?;
    check_format(&part.path, builder.metadata())?;
    builder.build().with_context(context)?.try_collect().await.with_context(context)
}

fn check_format(path: &str, metadata: &ParquetMetaData) -> Result<()> {
    let values = metadata.file_metadata().key_value_metadata();
    let found = values.into_iter().flatten().find(|entry| entry.key == "anabranch.format").and_then(|entry| entry.value.clone()).unwrap_or_default();
    format::check(&format!("part {path}"), found.parse().with_context(|| format!("read part {path}"))?, format::PART)?;
    Ok(())
}
