//! A warehouse on HDFS, by the `hdfs-native` client. `core-site.xml` and `hdfs-site.xml` are read from `HADOOP_CONF_DIR`.

use std::{fmt, future::Future, ops::Range, sync::Arc};

use anyhow::anyhow;
use bytes::Bytes;
use hdfs_native::{Client, ClientBuilder, HdfsError, WriteOptions, file::FileWriter};
use tokio::time::timeout;

use super::{CALL_LIMIT, FileInfo, WarehouseError};

/// The NameNode's client and the warehouse's folder there.
#[derive(Clone)]
pub struct Hdfs {
    pub(super) url: String,
    root: String,
    client: Arc<Client>,
}

/// A file being written.
pub struct HdfsWriter {
    path: String,
    writer: FileWriter,
}

impl fmt::Debug for Hdfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hdfs").field("url", &self.url).finish_non_exhaustive()
    }
}

impl fmt::Debug for HdfsWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HdfsWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Bounds a call and names it; the exceptions that HDFS sends by name become those of the warehouse.
async fn call<T>(action: &'static str, path: &str, call: impl Future<Output = Result<T, HdfsError>>) -> Result<T, WarehouseError> {
    let failed = |cause: anyhow::Error| WarehouseError::Failed { action, path: path.to_owned(), cause };
    match timeout(CALL_LIMIT, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(HdfsError::FileNotFound(_))) => Err(WarehouseError::NotFound(path.to_owned())),
        Ok(Err(HdfsError::AlreadyExists(_))) => Err(WarehouseError::AlreadyExists(path.to_owned())),
        Ok(Err(HdfsError::RPCError(name, _))) if name.ends_with("FileNotFoundException") => Err(WarehouseError::NotFound(path.to_owned())),
        Ok(Err(error)) => Err(failed(error.into())),
        Err(_) => Err(failed(anyhow!("no answer within {} s", CALL_LIMIT.as_secs()))),
    }
}

impl Hdfs {
    pub(super) fn new(url: &str) -> Result<Self, WarehouseError> {
        let bad = || WarehouseError::BadUrl(url.to_owned());
        let rest = url.strip_prefix("hdfs://").ok_or_else(bad)?;
        let (authority, root) = rest.split_once('/').ok_or_else(bad)?;
        if authority.is_empty() || root.trim_matches('/').is_empty() {
            return Err(bad());
        }
        let client = ClientBuilder::new().with_url(format!("hdfs://{authority}")).build().map_err(|cause| WarehouseError::Failed {
            action: "connect to",
            path: url.to_owned(),
            cause: cause.into(),
        })?;
        Ok(Self { url: url.to_owned(), root: format!("/{}", root.trim_matches('/')), client: Arc::new(client) })
    }

    fn full(&self, path: &str) -> String {
        format!("{}/{path}", self.root)
    }

    pub(super) async fn size_bytes(&self, path: &str) -> Result<u64, WarehouseError> {
        let status = call("look at", path, self.client.get_file_info(&self.full(path))).await?;
        Ok(status.length as u64)
    }

    pub(super) async fn read_range(&self, path: &str, range: Range<u64>) -> Result<Bytes, WarehouseError> {
        let out_of_file = || WarehouseError::Failed { action: "read", path: path.to_owned(), cause: anyhow!("bytes {range:?} are not in the file") };
        let reader = call("open", path, self.client.read(&self.full(path))).await?;
        // The client panics when it is asked for bytes behind the end.
        if range.end > reader.file_length() as u64 {
            return Err(out_of_file());
        }
        let start = usize::try_from(range.start).map_err(|_| out_of_file())?;
        let length = usize::try_from(range.end - range.start).map_err(|_| out_of_file())?;
        call("read", path, reader.read_range(start, length)).await
    }

    pub(super) async fn list(&self, folder: &str) -> Result<Vec<FileInfo>, WarehouseError> {
        let statuses = match call("list", folder, self.client.list_status(&self.full(folder), false)).await {
            Err(WarehouseError::NotFound(_)) => return Ok(Vec::new()),
            statuses => statuses?,
        };
        let file = |status: hdfs_native::client::FileStatus| FileInfo {
            name: status.path.rsplit('/').next().unwrap_or_default().to_owned(),
            size_bytes: status.length as u64,
            modified_ms: status.modification_time,
        };
        Ok(statuses.into_iter().filter(|status| !status.isdir).map(file).collect())
    }

    pub(super) async fn create(&self, path: &str) -> Result<HdfsWriter, WarehouseError> {
        let full = self.full(path);
        let writer = call("create", path, self.client.create(&full, WriteOptions::default())).await?;
        Ok(HdfsWriter { path: path.to_owned(), writer })
    }

    pub(super) async fn rename_new(&self, from: &str, to: &str) -> Result<(), WarehouseError> {
        let (full_from, full_to) = (self.full(from), self.full(to));
        match call("rename to", to, self.client.rename(&full_from, &full_to, false)).await {
            Err(WarehouseError::NotFound(_)) => Err(WarehouseError::NotFound(from.to_owned())),
            result => result,
        }
    }

    pub(super) async fn make_folder(&self, folder: &str) -> Result<(), WarehouseError> {
        call("make folder", folder, self.client.mkdirs(&self.full(folder), 0o755, true)).await
    }

    pub(super) async fn remove_folder(&self, path: &str) -> Result<(), WarehouseError> {
        self.delete(path, true).await
    }

    pub(super) async fn remove(&self, path: &str) -> Result<(), WarehouseError> {
        self.delete(path, false).await
    }

    async fn delete(&self, path: &str, recursively: bool) -> Result<(), WarehouseError> {
        match call("remove", path, self.client.delete(&self.full(path), recursively)).await {
            Ok(_) | Err(WarehouseError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl HdfsWriter {
    pub(super) async fn write(&mut self, content: Bytes) -> Result<(), WarehouseError> {
        call("write", &self.path, self.writer.write_bytes(content)).await.map(drop)
    }

    pub(super) async fn close(&mut self) -> Result<(), WarehouseError> {
        call("close", &self.path, self.writer.close()).await
    }
}
