//! A warehouse in a folder of this machine.

use std::{io::ErrorKind, ops::Range, path::PathBuf, time::UNIX_EPOCH};

use bytes::Bytes;
use tokio::{
    fs,
    io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt},
};

use super::{FileInfo, WarehouseError};

/// The folder.
#[derive(Clone, Debug)]
pub struct Folder {
    pub(super) root: PathBuf,
}

/// A file being written.
#[derive(Debug)]
pub struct FolderWriter {
    path: String,
    file: fs::File,
}

fn failed(action: &'static str, path: &str, error: std::io::Error) -> WarehouseError {
    match error.kind() {
        ErrorKind::NotFound => WarehouseError::NotFound(path.to_owned()),
        ErrorKind::AlreadyExists => WarehouseError::AlreadyExists(path.to_owned()),
        _ => WarehouseError::Failed { action, path: path.to_owned(), cause: error.into() },
    }
}

impl Folder {
    pub(super) async fn size_bytes(&self, path: &str) -> Result<u64, WarehouseError> {
        Ok(fs::metadata(self.root.join(path)).await.map_err(|error| failed("look at", path, error))?.len())
    }

    pub(super) async fn read_range(&self, path: &str, range: Range<u64>) -> Result<Bytes, WarehouseError> {
        let read = async {
            let mut file = fs::File::open(self.root.join(path)).await?;
            file.seek(std::io::SeekFrom::Start(range.start)).await?;
            let mut content = vec![0; usize::try_from(range.end - range.start).unwrap_or(usize::MAX)];
            file.read_exact(&mut content).await?;
            Ok(Bytes::from(content))
        };
        read.await.map_err(|error| failed("read", path, error))
    }

    pub(super) async fn list(&self, folder: &str) -> Result<Vec<FileInfo>, WarehouseError> {
        let list = async {
            let mut entries = match fs::read_dir(self.root.join(folder)).await {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let mut files = Vec::new();
            while let Some(entry) = entries.next_entry().await? {
                let metadata = entry.metadata().await?;
                if metadata.is_file() {
                    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                    files.push(FileInfo {
                        name: entry.file_name().to_string_lossy().into_owned(),
                        size_bytes: metadata.len(),
                        modified_ms: u64::try_from(modified.as_millis()).unwrap_or(u64::MAX),
                    });
                }
            }
            Ok(files)
        };
        list.await.map_err(|error| failed("list", folder, error))
    }

    pub(super) async fn create(&self, path: &str) -> Result<FolderWriter, WarehouseError> {
        let full = self.root.join(path);
        let create = async {
            if let Some(parent) = full.parent() {
                fs::create_dir_all(parent).await?;
            }
            fs::OpenOptions::new().write(true).create_new(true).open(&full).await
        };
        let file = create.await.map_err(|error| failed("create", path, error))?;
        Ok(FolderWriter { path: path.to_owned(), file })
    }

    /// A hard link fails when the target exists, a rename would not.
    pub(super) async fn rename_new(&self, from: &str, to: &str) -> Result<(), WarehouseError> {
        fs::hard_link(self.root.join(from), self.root.join(to)).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => WarehouseError::NotFound(from.to_owned()),
            _ => failed("rename to", to, error),
        })?;
        self.remove(from).await
    }

    pub(super) async fn make_folder(&self, folder: &str) -> Result<(), WarehouseError> {
        fs::create_dir_all(self.root.join(folder)).await.map_err(|error| failed("make folder", folder, error))
    }

    pub(super) async fn remove_folder(&self, path: &str) -> Result<(), WarehouseError> {
        match fs::remove_dir_all(self.root.join(path)).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path, error)),
            _ => Ok(()),
        }
    }

    pub(super) async fn remove(&self, path: &str) -> Result<(), WarehouseError> {
        match fs::remove_file(self.root.join(path)).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path, error)),
            _ => Ok(()),
        }
    }
}

impl FolderWriter {
    pub(super) async fn write(&mut self, content: Bytes) -> Result<(), WarehouseError> {
        self.file.write_all(&content).await.map_err(|error| failed("write", &self.path, error))
    }

    pub(super) async fn close(&mut self) -> Result<(), WarehouseError> {
        let close = async {
            self.file.flush().await?;
            self.file.sync_all().await
        };
        close.await.map_err(|error| failed("close", &self.path, error))
    }
}
