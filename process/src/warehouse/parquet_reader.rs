//! Parquet files read by ranges: a footer, then row group by row group.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{
    FutureExt,
    future::{BoxFuture, try_join_all},
};
use parquet::{
    arrow::{arrow_reader::ArrowReaderOptions, async_reader::AsyncFileReader},
    errors::{ParquetError, Result},
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};

use super::{Warehouse, WarehouseError};

/// Read at the end of a file at once: the footers of most files are shorter, so that one reading is enough.
const FOOTER_BYTES: usize = 64 * 1024;
/// Column chunks nearer to each other than this are read together: a request costs more than so many bytes.
const GAP_BYTES: u64 = 256 * 1024;

/// One file of a warehouse for the `parquet` crate.
#[derive(Clone, Debug)]
pub struct WarehouseReader {
    warehouse: Warehouse,
    path: String,
    size_bytes: u64,
}

impl WarehouseReader {
    /// Opens a file; its length is asked once.
    ///
    /// # Errors
    /// [`WarehouseError::NotFound`], or a failure.
    pub async fn open(warehouse: &Warehouse, path: &str) -> Result<Self, WarehouseError> {
        let size_bytes = warehouse.size_bytes(path).await?;
        Ok(Self { warehouse: warehouse.clone(), path: path.to_owned(), size_bytes })
    }

    /// The length of the file.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The footer.
    ///
    /// # Errors
    /// When the file cannot be read or is not Parquet.
    pub async fn metadata(&mut self) -> Result<ParquetMetaData> {
        let size_bytes = self.size_bytes;
        ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER_BYTES)).load_and_finish(&mut *self, size_bytes).await
    }
}

/// Ranges that cover all of these, near ones together.
fn joined(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match joined.last_mut() {
            Some(last) if range.start <= last.end + GAP_BYTES => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

fn external(error: WarehouseError) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for WarehouseReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move { self.warehouse.read_range(&self.path, range).await.map_err(external) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move {
            let together = joined(&ranges);
            let reads = together.iter().map(|range| self.warehouse.read_range(&self.path, range.clone()));
            let contents = try_join_all(reads).await.map_err(external)?;
            let content = |range: &Range<u64>| {
                let found = together.iter().zip(&contents).find(|(whole, _)| whole.start <= range.start && range.end <= whole.end);
                let (whole, content) = found.ok_or_else(|| ParquetError::General(format!("bytes {range:?} were not read")))?;
                let at = |place: u64| usize::try_from(place - whole.start).map_err(|error| ParquetError::External(error.into()));
                Ok(content.slice(at(range.start)?..at(range.end)?))
            };
            ranges.iter().map(content).collect()
        }
        .boxed()
    }

    fn get_metadata<'a>(&'a mut self, _: Option<&'a ArrowReaderOptions>) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move { Ok(Arc::new(self.metadata().await?)) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_ranges_are_read_together() {
        assert_eq!(joined(&[]), vec![]);
        let far = GAP_BYTES + 21;
        assert_eq!(joined(&[10..20, far..far + 1, 0..5, 12..18]), vec![0..20, far..far + 1]);
        assert_eq!(joined(&[0..20, far - 1..far]), vec![0..far]);
    }
}
