//! Versions that were current once, for who asks by their run: loaded when asked for, a few kept.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use anabranch_core::{
    definition::{Fingerprint, View},
    protocol::RunId,
};
use anabranch_process::{Catalog, catalog::rows, clock};
use anyhow::Result;

use crate::{
    answerable::Answerable,
    version::{Loader, Version},
};

/// Each may be as large as the current one; parts that they share are loaded once.
const MOST_KEPT: usize = 4;

/// The versions that were asked for last.
#[derive(Debug, Default)]
pub(crate) struct Older {
    kept: Mutex<VecDeque<(Fingerprint, Arc<Answerable>)>>,
}

impl Older {
    /// The answerable state of a version; else the runs of those that there are.
    pub(crate) async fn get(
        &self,
        catalog: &Catalog,
        loader: &Loader,
        view: &Arc<View>,
        current: Option<&Version>,
        run: RunId,
    ) -> Result<Result<Arc<Answerable>, Vec<RunId>>> {
        let found = |kept: &VecDeque<(Fingerprint, Arc<Answerable>)>| {
            kept.iter().find(|(fingerprint, older)| *fingerprint == view.fingerprint && older.run == Some(run)).map(|(_, older)| Arc::clone(older))
        };
        if let Some(older) = found(&self.kept.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(Ok(older));
        }
        let client = catalog.connect().await?;
        let rows = rows::versions(&client, &view.source.name).await?.remove(&view.fingerprint).unwrap_or_default();
        let Some(row) = rows.iter().find(|row| row.run == run) else {
            return Ok(Err(rows.iter().map(|row| row.run).collect()));
        };
        let version = loader.load(view, row, current).await?;
        let lost = rows::lost(&client, &view.source.name).await?;
        let older = Arc::new(Answerable::of_version(Arc::clone(view), Arc::new(version), row.age_ms, lost, clock::now_ms()));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_front((view.fingerprint.clone(), Arc::clone(&older)));
        kept.truncate(MOST_KEPT);
        Ok(Ok(older))
    }
}
