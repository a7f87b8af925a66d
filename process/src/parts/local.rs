//! A part that is not held in memory: a copy in a local file, of which each query reads what it needs.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufReader, Read, Write},
    os::unix::fs::FileExt,
    sync::Arc,
};

use anabranch_core::definition::View;
use anabranch_views::{Columns, table};
use anyhow::{Context, Result};
use bytes::Bytes;
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
    },
    file::{
        metadata::RowGroupMetaData,
        reader::{ChunkReader, Length},
        statistics::Statistics,
    },
};
use tokio::task::spawn_blocking;

use super::{Part, check_format};
use crate::warehouse::Warehouse;

/// A copy of a part on this machine. Its file has no name: it is gone with the process, however that ends.
#[derive(Clone, Debug)]
pub struct LocalPart {
    path: String,
    file: Content,
    metadata: ArrowReaderMetadata,
    groups: usize,
}

impl LocalPart {
    /// Copies a part.
    ///
    /// # Errors
    /// When it cannot be read, there is no room for it, or it was written by a newer program.
    pub async fn copy(warehouse: &Warehouse, view: &View, part: &Part) -> Result<Self> {
        let context = || format!("copy part {}", part.path);
        let content = warehouse.read(&part.path).await.with_context(context)?;
        let written = spawn_blocking(move || {
            let mut file = tempfile::tempfile()?;
            file.write_all(&content)?;
            std::io::Result::Ok(Content { file: Arc::new(file), size_bytes: content.len() as u64 })
        });
        let file = written.await?.with_context(context)?;
        let options = ArrowReaderOptions::new().with_schema(table::schema(&table::columns(view)));
        let metadata = ArrowReaderMetadata::load(&file, options).with_context(context)?;
        check_format(&part.path, metadata.metadata())?;
        Ok(Self { path: part.path.clone(), file, metadata, groups: usize::try_from(part.groups)? })
    }

    /// How many groups it has.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Its groups, row group by row group: those that may have buckets in a range of microseconds, both ends included, with the
    /// states of the accumulators that are wanted.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn columns<'a>(
        &'a self,
        view: &'a View,
        range_micros: Option<(i64, i64)>,
        wanted: Option<&'a BTreeSet<usize>>,
    ) -> impl Iterator<Item = Result<Columns>> + 'a {
        let parquet = self.metadata.metadata();
        let names: Vec<String> = table::columns_of(view, wanted).into_iter().map(|column| column.name).collect();
        let mask = ProjectionMask::columns(parquet.file_metadata().schema_descr(), names.iter().map(String::as_str));
        let within = move |group: &RowGroupMetaData| match (range_micros, view.bucket.is_some().then(|| buckets(group)).flatten()) {
            (Some((start, end)), Some((first, last))) => first <= end && start <= last,
            _ => true,
        };
        let groups = (0..parquet.num_row_groups()).filter(move |index| within(parquet.row_group(*index)));
        groups.map(move |group| {
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.clone(), self.metadata.clone());
            let batches = builder.with_row_groups(vec![group]).with_projection(mask.clone()).build()?.collect::<Result<Vec<_>, _>>()?;
            Columns::of_batches(view, &batches, wanted).with_context(|| format!("read the copy of part {}", self.path))
        })
    }
}

/// The first and the last bucket of a row group, where its statistics say so; the bucket is the first column.
fn buckets(group: &RowGroupMetaData) -> Option<(i64, i64)> {
    match group.columns().first()?.statistics()? {
        Statistics::Int64(found) => Some((*found.min_opt()?, *found.max_opt()?)),
        _ => None,
    }
}

/// A file that several read at once, each at its own place.
#[derive(Clone, Debug)]
struct Content {
    file: Arc<File>,
    size_bytes: u64,
}

impl Length for Content {
    fn len(&self) -> u64 {
        self.size_bytes
    }
}

impl ChunkReader for Content {
    type T = BufReader<ReadFrom>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(BufReader::new(ReadFrom { file: Arc::clone(&self.file), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

/// The file from a place on.
#[derive(Debug)]
struct ReadFrom {
    file: Arc<File>,
    at: u64,
}

impl Read for ReadFrom {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
