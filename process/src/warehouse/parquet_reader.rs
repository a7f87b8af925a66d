//! Parquet files read by ranges: a footer, then row group by row group.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use parquet::{
    arrow::{arrow_reader::ArrowReaderOptions, async_reader::AsyncFileReader},
    errors::{ParquetError, Result},
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};

use super::{Warehouse, WarehouseError};

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
        ParquetMetaDataReader::new().load_and_finish(&mut *self, size_bytes).await
    }
}

fn external(error: WarehouseError) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for WarehouseReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move { self.warehouse.read_range(&self.path, range).await.map_err(external) }.boxed()
    }

    fn get_metadata<'a>(&'a mut self, _: Option<&'a ArrowReaderOptions>) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move { Ok(Arc::new(self.metadata().await?)) }.boxed()
    }
}
