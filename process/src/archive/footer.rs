//! What an archive file says of itself.

use anabranch_core::{Offset, OffsetRange, definition::Fingerprint, format};
use anyhow::{Context, Result, bail};
use parquet::file::metadata::ParquetMetaData;
use uuid::Uuid;

use crate::warehouse::{Warehouse, WarehouseReader};

/// What the footer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The offsets that the file holds.
    pub range: OffsetRange,
    /// The attempt that wrote it.
    pub uuid: Uuid,
    /// The fingerprint of its columns.
    pub columns: Fingerprint,
    /// The number of rows.
    pub records: i64,
    /// Whether the file stands for records that nobody has any more: it has no rows, and covers its range.
    pub lost: bool,
}

/// Reads a footer.
///
/// # Errors
/// When the file cannot be read, is not an archive file, or was written by a newer program.
pub async fn read(warehouse: &Warehouse, path: &str) -> Result<Footer> {
    let mut reader = WarehouseReader::open(warehouse, path).await?;
    let metadata = reader.metadata().await.with_context(|| format!("read the footer of {path}"))?;
    of(path, &metadata)
}

/// The footer of a file whose metadata is read already.
///
/// # Errors
/// As [`read`].
pub fn of(path: &str, metadata: &ParquetMetaData) -> Result<Footer> {
    let values = metadata.file_metadata().key_value_metadata();
    let value = |key: &str| {
        let found = values.into_iter().flatten().find(|entry| entry.key == key).and_then(|entry| entry.value.clone());
        found.with_context(|| format!("{path} is not an archive file: its footer has no {key}"))
    };
    format::check(&format!("archive file {path}"), value("anabranch.format")?.parse()?, format::ARCHIVE)?;
    let (start, end) = (Offset(value("anabranch.start")?.parse()?), Offset(value("anabranch.end")?.parse()?));
    let Some(range) = OffsetRange::new(start, end) else { bail!("{path} is not an archive file: it ends before it starts") };
    Ok(Footer {
        range,
        uuid: value("anabranch.uuid")?.parse()?,
        columns: Fingerprint(value("anabranch.columns")?),
        records: metadata.file_metadata().num_rows(),
        lost: value("anabranch.lost").is_ok(),
    })
}
