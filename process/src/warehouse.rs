//! The warehouse: HDFS, or a local folder. Both behave alike; one suite of tests runs on both.
//!
//! Paths are relative to the warehouse's folder; [`anabranch_core::layout`] spells them.

use std::{fmt, ops::Range, time::Duration};

use bytes::Bytes;
use thiserror::Error;

use crate::crash;

mod folder;
mod hdfs;
mod parquet_reader;

pub use parquet_reader::WarehouseReader;

/// No call to HDFS has a limit of its own; this one is far above a healthy answer and below a Kafka poll interval.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// Why the warehouse did not do something.
#[derive(Debug, Error)]
pub enum WarehouseError {
    /// There is no such file.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The target is taken; nothing was overwritten.
    #[error("{0} exists already")]
    AlreadyExists(String),
    /// The address is not one of a warehouse.
    #[error("{0} is not a warehouse: hdfs://host:port/folder, or file:///folder")]
    BadUrl(String),
    /// The server failed or did not answer in time: the outcome of a change is unknown.
    #[error("{action} {path}")]
    Failed {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: String,
        /// What the client said.
        #[source]
        cause: anyhow::Error,
    },
}

/// A file of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its name without the folder.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
    /// When it was changed last, milliseconds since 1970.
    pub modified_ms: u64,
}

/// The store of archive files and parts.
#[derive(Clone, Debug)]
pub enum Warehouse {
    /// HDFS.
    Hdfs(hdfs::Hdfs),
    /// A folder of this machine.
    Folder(folder::Folder),
}

/// A file being written; visible under its path at once, so it is written to a temporary one.
#[derive(Debug)]
pub enum Writer {
    /// HDFS.
    Hdfs(Box<hdfs::HdfsWriter>),
    /// A folder of this machine.
    Folder(folder::FolderWriter),
}

impl fmt::Display for Warehouse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hdfs(hdfs) => f.write_str(&hdfs.url),
            Self::Folder(folder) => write!(f, "file://{}", folder.root.display()),
        }
    }
}

macro_rules! either {
    ($self:expr, $method:ident($($argument:expr),*)) => {
        match $self {
            Self::Hdfs(hdfs) => hdfs.$method($($argument),*).await,
            Self::Folder(folder) => folder.$method($($argument),*).await,
        }
    };
}

impl Warehouse {
    /// The warehouse at `url`; nothing is asked of it yet.
    ///
    /// # Errors
    /// [`WarehouseError::BadUrl`].
    pub fn at(url: &str) -> Result<Self, WarehouseError> {
        if url.starts_with("hdfs://") {
            return Ok(Self::Hdfs(hdfs::Hdfs::new(url)?));
        }
        match url.strip_prefix("file://") {
            Some(path) if path.starts_with('/') => Ok(Self::Folder(folder::Folder { root: path.into() })),
            _ => Err(WarehouseError::BadUrl(url.to_owned())),
        }
    }

    /// The whole content of a small file.
    ///
    /// # Errors
    /// [`WarehouseError::NotFound`], or a failure.
    pub async fn read(&self, path: &str) -> Result<Bytes, WarehouseError> {
        let size_bytes = self.size_bytes(path).await?;
        self.read_range(path, 0..size_bytes).await
    }

    /// The length of a file.
    ///
    /// # Errors
    /// [`WarehouseError::NotFound`], or a failure.
    pub async fn size_bytes(&self, path: &str) -> Result<u64, WarehouseError> {
        either!(self, size_bytes(path))
    }

    /// A range of a file; it must lie within its length.
    ///
    /// # Errors
    /// [`WarehouseError::NotFound`], or a failure.
    pub async fn read_range(&self, path: &str, range: Range<u64>) -> Result<Bytes, WarehouseError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        either!(self, read_range(path, range))
    }

    /// The files of a folder in order of their names; none for a folder that does not exist.
    ///
    /// # Errors
    /// A failure.
    pub async fn list(&self, folder: &str) -> Result<Vec<FileInfo>, WarehouseError> {
        let mut files = either!(self, list(folder))?;
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    /// A new file, its folders too.
    ///
    /// # Errors
    /// [`WarehouseError::AlreadyExists`], or a failure.
    pub async fn create(&self, path: &str) -> Result<Writer, WarehouseError> {
        let create = async {
            match self {
                Self::Hdfs(hdfs) => hdfs.create(path).await.map(|writer| Writer::Hdfs(Box::new(writer))),
                Self::Folder(folder) => folder.create(path).await.map(Writer::Folder),
            }
        };
        crash::step("warehouse.create", create).await
    }

    /// A new file with this content.
    ///
    /// # Errors
    /// [`WarehouseError::AlreadyExists`], or a failure.
    pub async fn write_new(&self, path: &str, content: Bytes) -> Result<(), WarehouseError> {
        let mut writer = self.create(path).await?;
        writer.write(content).await?;
        writer.close().await
    }

    /// Renames a file; never overwrites. Of several at once, one wins.
    ///
    /// # Errors
    /// [`WarehouseError::AlreadyExists`] when the target is taken, [`WarehouseError::NotFound`] when the source is gone; after
    /// any other error the outcome is unknown: look at the target.
    pub async fn rename_new(&self, from: &str, to: &str) -> Result<(), WarehouseError> {
        crash::step("warehouse.rename", async { either!(self, rename_new(from, to)) }).await
    }

    /// Makes a folder and those above it.
    ///
    /// # Errors
    /// A failure.
    pub async fn make_folder(&self, folder: &str) -> Result<(), WarehouseError> {
        crash::step("warehouse.make_folder", async { either!(self, make_folder(folder)) }).await
    }

    /// Removes a folder with everything in it; one that is not there is fine.
    ///
    /// # Errors
    /// A failure.
    pub async fn remove_folder(&self, path: &str) -> Result<(), WarehouseError> {
        either!(self, remove_folder(path))
    }

    /// Removes a file; one that is not there is fine.
    ///
    /// # Errors
    /// A failure.
    pub async fn remove(&self, path: &str) -> Result<(), WarehouseError> {
        crash::step("warehouse.remove", async { either!(self, remove(path)) }).await
    }
}

impl Writer {
    /// Appends.
    ///
    /// # Errors
    /// A failure: the file is unusable.
    pub async fn write(&mut self, content: Bytes) -> Result<(), WarehouseError> {
        crash::step("warehouse.write", async { either!(self, write(content)) }).await
    }

    /// Ends the file; from here on it is complete and durable.
    ///
    /// # Errors
    /// A failure: the file may be incomplete.
    pub async fn close(&mut self) -> Result<(), WarehouseError> {
        crash::step("warehouse.close", async { either!(self, close()) }).await
    }
}

/// What every warehouse must do; panics with what it does not. Tests alone call it.
///
/// # Errors
/// A failure of the warehouse itself.
///
/// # Panics
/// When the warehouse does not conform.
pub async fn conformance(warehouse: &Warehouse) -> Result<(), WarehouseError> {
    assert_eq!(warehouse.list("c/archive").await?, vec![], "a folder that is not there has no files");
    warehouse.make_folder("c/archive").await?;
    warehouse.write_new("c/_tmp/a", Bytes::from_static(b"first")).await?;
    warehouse.write_new("c/_tmp/b", Bytes::from_static(b"second, longer")).await?;
    assert!(matches!(warehouse.create("c/_tmp/a").await, Err(WarehouseError::AlreadyExists(_))), "a new file never overwrites");
    warehouse.rename_new("c/_tmp/a", "c/archive/x").await?;
    assert!(matches!(warehouse.rename_new("c/_tmp/b", "c/archive/x").await, Err(WarehouseError::AlreadyExists(_))), "a rename never overwrites");
    assert!(matches!(warehouse.rename_new("c/_tmp/a", "c/archive/y").await, Err(WarehouseError::NotFound(_))), "the source is gone");
    assert_eq!(warehouse.read("c/archive/x").await?, "first");
    assert_eq!(warehouse.read_range("c/_tmp/b", 8..14).await?, "longer");
    let names: Vec<(String, u64)> = warehouse.list("c/archive").await?.into_iter().map(|file| (file.name, file.size_bytes)).collect();
    assert_eq!(names, [("x".to_owned(), 5)]);
    assert!(matches!(warehouse.read("c/archive/z").await, Err(WarehouseError::NotFound(_))));
    warehouse.remove("c/_tmp/b").await?;
    warehouse.remove("c/_tmp/b").await?;
    assert_eq!(warehouse.list("c/_tmp").await?, vec![]);
    warehouse.write_new("c/old/deep/a", Bytes::from_static(b"x")).await?;
    warehouse.remove_folder("c/old").await?;
    warehouse.remove_folder("c/old").await?;
    assert!(matches!(warehouse.read("c/old/deep/a").await, Err(WarehouseError::NotFound(_))), "a folder goes with what is in it");
    let mut racers = Vec::new();
    for racer in 0..8 {
        let path = format!("c/_tmp/r{racer}");
        warehouse.write_new(&path, Bytes::from(vec![racer])).await?;
        let warehouse = warehouse.clone();
        racers.push(tokio::spawn(async move { warehouse.rename_new(&path, "c/archive/raced").await.is_ok() }));
    }
    let mut winners = 0;
    for racer in racers {
        winners += usize::from(racer.await.unwrap_or(false));
    }
    assert_eq!(winners, 1, "of several renames to one name one wins");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The conformance suite; `e2e` runs it on HDFS too.
    #[tokio::test]
    async fn a_folder_conforms() {
        let folder = tempfile::tempdir().unwrap();
        let warehouse = Warehouse::at(&format!("file://{}", folder.path().display())).unwrap();
        conformance(&warehouse).await.unwrap();
    }

    async fn conformance(warehouse: &Warehouse) -> Result<(), WarehouseError> {
        crate::warehouse::conformance(warehouse).await
    }

    #[test]
    fn other_addresses_are_refused() {
        for url in ["s3://bucket", "/folder", "file://folder", "localhost:9000"] {
            assert!(matches!(Warehouse::at(url), Err(WarehouseError::BadUrl(_))), "{url}");
        }
    }
}
