//! Published parts: in memory, or, of a view that is too large for it, in local files. A new version loads only the parts that changed.

use std::{collections::BTreeMap, sync::Arc};

use anabranch_core::{Coverage, definition::View, protocol::RunId};
use anabranch_process::{
    Warehouse,
    catalog::rows::VersionRow,
    parts::{LocalPart, Part, read_columns, read_manifest},
};
use anabranch_views::Columns;
use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};

const PARTS_AT_ONCE: usize = 4;

/// A loaded version of one view.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) run: RunId,
    pub(crate) coverage: Coverage,
    /// By path; the parts that two versions share are the same.
    pub(crate) parts: BTreeMap<String, Held>,
}

/// How a part is held.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    /// In memory.
    Memory(Arc<Columns>),
    /// In a file of which each query reads what it needs.
    Local(Arc<LocalPart>),
}

impl Held {
    /// How many groups it has.
    pub(crate) fn groups(&self) -> usize {
        match self {
            Self::Memory(columns) => columns.len(),
            Self::Local(part) => part.groups(),
        }
    }

    fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }
}

/// From where versions are loaded, and how much of one is held in memory.
#[derive(Clone, Debug)]
pub(crate) struct Loader {
    pub(crate) warehouse: Warehouse,
    /// Of the parts of a version; the parts of a larger one lie in local files.
    pub(crate) memory_bytes: u64,
}

impl Loader {
    /// Loads what `row` names; parts that `old` holds are taken from it.
    pub(crate) async fn load(&self, view: &View, row: &VersionRow, old: Option<&Version>) -> Result<Version> {
        let manifest = read_manifest(&self.warehouse, &row.folder).await?;
        let is_local = manifest.parts.values().map(|part| part.size_bytes).sum::<u64>() > self.memory_bytes;
        let read = |part: Part| async move {
            let known = old.and_then(|old| old.parts.get(&part.path)).filter(|held| held.is_local() == is_local).cloned();
            let held = match known {
                Some(held) => held,
                None if is_local => Held::Local(Arc::new(LocalPart::copy(&self.warehouse, view, &part).await?)),
                None => Held::Memory(Arc::new(read_columns(&self.warehouse, view, &part).await?)),
            };
            anyhow::Ok((part.path, held))
        };
        let parts = stream::iter(manifest.parts.into_values()).map(read).buffer_unordered(PARTS_AT_ONCE).try_collect().await?;
        Ok(Version { run: row.run, coverage: row.coverage.clone(), parts })
    }
}
