//! What an archive file is: plain Parquet, with the offset range that it holds in the footer.

use std::sync::Arc;

use anabranch_core::{
    Offset, OffsetRange, Partition,
    definition::{Fingerprint, KAFKA_VALUE, Source},
    format,
    layout::ArchiveName,
    protocol,
};
use anabranch_process::{Warehouse, archive::listing};
use anabranch_views::decode::{self, Decoder, RawRecord, Wanted};
use anyhow::{Context, Result};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
    },
    schema::types::ColumnPath,
};
use uuid::Uuid;

use super::encoder::{Encoding, RawBatch};

/// Small enough that a reader holds one in memory, large enough to compress well.
const ROW_GROUP_RECORDS: usize = 65_536;
/// The same, where records are long.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// A file that takes records.
#[derive(Debug)]
pub struct OpenFile {
    name: ArchiveName,
    uuid: Uuid,
    temporary: String,
    columns: Fingerprint,
    /// What was read and is not being encoded yet.
    waiting: RawBatch,
    encoding: Encoding,
    /// About its length when a batch was encoded last.
    size_bytes: u64,
    records: u64,
    first: Option<Offset>,
    end: Offset,
}

/// A file that is complete, but not visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedFile {
    /// Its place in the log.
    pub name: ArchiveName,
    /// What it holds.
    pub range: OffsetRange,
    /// The attempt.
    pub uuid: Uuid,
    /// Where it lies now.
    pub temporary: String,
    /// Its rows.
    pub records: u64,
    /// Its length.
    pub size_bytes: u64,
}

impl OpenFile {
    /// Creates the temporary file for records from `start` on. The caller lists the partition again before it goes on.
    ///
    /// # Errors
    /// When the warehouse fails.
    pub async fn create(warehouse: &Warehouse, source: &Source, partition: Partition, start: Offset) -> Result<Self> {
        let name = ArchiveName { topic: source.topic.clone(), partition, start };
        let uuid = Uuid::new_v4();
        let temporary = name.temporary(&source.name, uuid);
        let sink = warehouse.create(&temporary).await?;
        let raw = ColumnPath::from(KAFKA_VALUE);
        let properties = WriterProperties::builder()
            // Raw values are all different, long, and asked for as a whole: a dictionary and bounds of them only cost.
            .set_column_dictionary_enabled(raw.clone(), false)
            .set_column_statistics_enabled(raw, EnabledStatistics::None)
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(ROW_GROUP_RECORDS))
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            .set_created_by(format!("anabranch {}", env!("CARGO_PKG_VERSION")))
            .build();
        // Without the embedded Arrow schema the file is plain Parquet, the same for every reader.
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let parquet = ArrowWriter::try_new_with_options(Vec::new(), decode::archive_schema(source), options)?;
        Ok(Self {
            name,
            uuid,
            temporary,
            columns: source.columns_fingerprint(),
            waiting: RawBatch::default(),
            encoding: Encoding::new(Decoder::new(source, Wanted::Archive), parquet, sink),
            size_bytes: 0,
            records: 0,
            first: None,
            end: start,
        })
    }

    /// Where the file begins.
    #[must_use]
    pub fn start(&self) -> Offset {
        self.name.start
    }

    /// The first record that it holds.
    #[must_use]
    pub fn first(&self) -> Option<Offset> {
        self.first
    }

    /// Up to where it holds every record.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    /// About its length if it were sealed now; what was read since the last batch is not in it.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Adds a record.
    ///
    /// # Errors
    /// When the warehouse fails: the file is unusable.
    pub async fn push<'a>(&mut self, record: &RawRecord<'_>, headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>) -> Result<()> {
        self.waiting.push(record, headers);
        self.first.get_or_insert(Offset(record.offset));
        self.end = Offset(record.offset).next();
        self.records += 1;
        if self.waiting.is_full() {
            self.size_bytes = self.encoding.begin(&mut self.waiting).await?;
        }
        Ok(())
    }

    /// The partition was read up to `position`, markers passed.
    pub fn pass(&mut self, position: Offset) {
        self.end = position.max(self.end);
    }

    /// Completes the file. From here on it holds `[start, end)` and nothing else.
    ///
    /// # Errors
    /// When the warehouse fails: the file is lost, its records are read again.
    ///
    /// # Panics
    /// When no record was pushed: a range without records becomes part of the next file's.
    pub async fn seal(mut self) -> Result<SealedFile> {
        assert!(self.records > 0, "a file without records is never sealed");
        if !self.waiting.is_empty() {
            self.encoding.begin(&mut self.waiting).await?;
        }
        self.complete(None).await
    }

    /// Completes a file that says: the records up to `end` are lost. The one exception to a file having a record.
    ///
    /// # Errors
    /// When the warehouse fails.
    pub async fn seal_lost(mut self, end: Offset) -> Result<SealedFile> {
        self.end = end;
        let lost = Some(KeyValue::new("anabranch.lost".to_owned(), "true".to_owned()));
        self.complete(lost).await
    }

    async fn complete(mut self, more: Option<KeyValue>) -> Result<SealedFile> {
        let entries = [
            ("anabranch.format", format::ARCHIVE.to_string()),
            ("anabranch.topic", self.name.topic.clone()),
            ("anabranch.partition", self.name.partition.to_string()),
            ("anabranch.start", self.name.start.to_string()),
            ("anabranch.end", self.end.to_string()),
            ("anabranch.uuid", self.uuid.to_string()),
            ("anabranch.columns", self.columns.to_string()),
        ];
        let footer = entries.map(|(key, value)| KeyValue::new(key.to_owned(), value)).into_iter().chain(more).collect();
        let size_bytes = self.encoding.complete(footer).await?;
        Ok(SealedFile {
            range: OffsetRange { start: self.name.start, end: self.end },
            name: self.name,
            uuid: self.uuid,
            temporary: self.temporary,
            records: self.records,
            size_bytes,
        })
    }

    /// Removes the temporary file; nothing of it was ever visible.
    pub async fn abandon(self, warehouse: &Warehouse) {
        let Self { mut encoding, temporary, .. } = self;
        // The janitor removes what cannot be removed now.
        if let Ok(mut encoder) = encoding.take().await {
            drop(encoder.close().await);
        }
        drop(warehouse.remove(&temporary).await);
    }
}

/// The columns of an archive file as they are read.
#[must_use]
pub fn schema(source: &Source) -> Arc<arrow::datatypes::Schema> {
    decode::archive_schema(source)
}

/// Creates the temporary file, **then** lists again: a file that another archiver committed in between, or whose name a
/// compaction freed, would make this one an overlap.
pub(super) async fn open(warehouse: &Warehouse, source: &Source, partition: Partition, start: Offset) -> Result<Option<OpenFile>> {
    let file = OpenFile::create(warehouse, source, partition, start).await.context("open an archive file")?;
    let end = listing::archived_end(warehouse, &source.name, partition).await?;
    // Without any file the partition ends at its origin, and only its first archiver gets here.
    if protocol::archive::goes_on(start, end.unwrap_or(start)) {
        return Ok(Some(file));
    }
    file.abandon(warehouse).await;
    Ok(None)
}
