//! The views of a run, and where each begins.

use std::{collections::BTreeMap, sync::Arc};

use anabranch_core::{
    Coverage,
    definition::{Fingerprint, View},
};
use anabranch_process::catalog::{definitions::SourceDefinitions, rows::VersionRow};

/// One view in one run.
pub(crate) struct Target {
    pub(crate) view: Arc<View>,
    /// Its current version, which the publication checks again.
    pub(crate) current: Option<VersionRow>,
    /// From where records are read; nothing = from the origin.
    pub(crate) base: Option<Coverage>,
}

/// The coverage of the current versions, when every view has one and all are at the same place.
pub(super) fn common_version(definitions: &SourceDefinitions, versions: &BTreeMap<Fingerprint, Vec<VersionRow>>) -> Option<Coverage> {
    let mut coverages = definitions.views.iter().map(|view| versions.get(&view.serving).and_then(|versions| versions.first()));
    let first = coverages.next()??;
    coverages.all(|version| version.is_some_and(|version| version.coverage == first.coverage)).then(|| first.coverage.clone())
}

/// Views that begin at the same place are scanned together.
pub(super) fn by_base(targets: Vec<Target>) -> Vec<Vec<Target>> {
    let mut sets: Vec<Vec<Target>> = Vec::new();
    for target in targets {
        match sets.iter_mut().find(|set| set.first().is_some_and(|first| first.base == target.base)) {
            Some(set) => set.push(target),
            None => sets.push(vec![target]),
        }
    }
    sets
}
