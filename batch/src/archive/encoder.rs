//! Records → an archive file's bytes, beside reading: reading only copies, one batch of a file at a time is decoded,
//! encoded, compressed and sent.

use std::ops::Range;

use anabranch_process::warehouse::Writer;
use anabranch_views::decode::{Decoder, RawRecord};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use parquet::{arrow::ArrowWriter, file::metadata::KeyValue};
use tokio::{runtime::Handle, task::spawn_blocking};
use tokio_util::task::AbortOnDropHandle;

/// Records of a batch.
const BATCH_RECORDS: usize = 8_192;
/// Bytes of a batch, where its records are long.
const BATCH_BYTES: usize = 8 << 20;

/// Records as they came, in one piece of memory.
#[derive(Debug, Default)]
pub(super) struct RawBatch {
    bytes: Vec<u8>,
    records: Vec<Stored>,
}

#[derive(Debug)]
struct Stored {
    partition: i32,
    offset: i64,
    timestamp_micros: Option<i64>,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Vec<(String, Option<Range<usize>>)>,
}

impl RawBatch {
    pub(super) fn push<'a>(&mut self, record: &RawRecord<'_>, headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>) {
        let bytes = &mut self.bytes;
        let mut keep = |part: &[u8]| {
            let start = bytes.len();
            bytes.extend_from_slice(part);
            start..bytes.len()
        };
        self.records.push(Stored {
            partition: record.partition,
            offset: record.offset,
            timestamp_micros: record.timestamp_micros,
            key: record.key.map(&mut keep),
            value: record.value.map(&mut keep),
            headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value.map(&mut keep))).collect(),
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= BATCH_RECORDS || self.bytes.len() >= BATCH_BYTES
    }

    fn decode(&mut self, decoder: &mut Decoder) {
        let bytes = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        decoder.reserve(self.records.len(), self.bytes.len());
        for stored in &self.records {
            let Stored { partition, offset, timestamp_micros, key, value, headers } = stored;
            let (key, value) = (key.as_ref().map(bytes), value.as_ref().map(bytes));
            let record = RawRecord { partition: *partition, offset: *offset, timestamp_micros: *timestamp_micros, key, value };
            decoder.push(&record, headers.iter().map(|(name, value)| (name.as_str(), value.as_ref().map(bytes))));
        }
        self.bytes.clear();
        self.records.clear();
    }
}

/// What writes one file.
#[derive(Debug)]
pub(super) struct Encoder {
    decoder: Decoder,
    parquet: ArrowWriter<Vec<u8>>,
    sink: Writer,
    written_bytes: u64,
    /// Kept for its memory alone.
    spare: RawBatch,
}

impl Encoder {
    fn encode(mut self: Box<Self>, mut batch: RawBatch, runtime: &Handle) -> Result<Box<Self>> {
        batch.decode(&mut self.decoder);
        self.spare = batch;
        let columns = self.decoder.finish()?;
        self.parquet.write(&columns)?;
        runtime.block_on(self.drain())?;
        Ok(self)
    }

    async fn drain(&mut self) -> Result<()> {
        let ready = std::mem::take(self.parquet.inner_mut());
        if !ready.is_empty() {
            self.written_bytes += ready.len() as u64;
            self.sink.write(Bytes::from(ready)).await?;
        }
        Ok(())
    }

    pub(super) async fn close(&mut self) -> Result<()> {
        Ok(self.sink.close().await?)
    }
}

/// The encoder, or the batch that it is busy with.
#[derive(Debug)]
pub(super) enum Encoding {
    Idle(Box<Encoder>),
    Busy(AbortOnDropHandle<Result<Box<Encoder>>>),
    /// The file is unusable.
    Lost,
}

impl Encoding {
    pub(super) fn new(decoder: Decoder, parquet: ArrowWriter<Vec<u8>>, sink: Writer) -> Self {
        Self::Idle(Box::new(Encoder { decoder, parquet, sink, written_bytes: 0, spare: RawBatch::default() }))
    }

    /// The encoder, after the batch that it is busy with.
    pub(super) async fn take(&mut self) -> Result<Box<Encoder>> {
        match std::mem::replace(self, Self::Lost) {
            Self::Idle(encoder) => Ok(encoder),
            Self::Busy(task) => task.await.context("an encoding was lost")?,
            Self::Lost => bail!("an earlier write failed"),
        }
    }

    /// Begins with `batch`, after the one before, and leaves an empty one; returns about the length of what was written.
    pub(super) async fn begin(&mut self, batch: &mut RawBatch) -> Result<u64> {
        let mut encoder = self.take().await?;
        let size_bytes = encoder.written_bytes + encoder.parquet.in_progress_size() as u64;
        let batch = std::mem::replace(batch, std::mem::take(&mut encoder.spare));
        let runtime = Handle::current();
        *self = Self::Busy(AbortOnDropHandle::new(spawn_blocking(move || encoder.encode(batch, &runtime))));
        Ok(size_bytes)
    }

    /// Writes the footer and closes the file; returns its length.
    pub(super) async fn complete(&mut self, footer: Vec<KeyValue>) -> Result<u64> {
        let mut encoder = self.take().await?;
        for entry in footer {
            encoder.parquet.append_key_value_metadata(entry);
        }
        // The last row group is compressed here.
        let mut encoder = spawn_blocking(move || encoder.parquet.finish().map(|_| encoder)).await??;
        encoder.drain().await?;
        encoder.close().await?;
        Ok(encoder.written_bytes)
    }
}
