//! Pruning: live rows that every reader has in a version, and those of definitions that left.
//!
//! ```text
//!   previous version's coverage ┐        ┌ current version's coverage
//!   ── epoch 1 ──┤── epoch 2 ───┤── e3 ──┤── e4 ──►
//!   └── pruned ─────────────────┘└ kept: a reader may still hold the previous version
//! ```

use std::collections::BTreeSet;

use super::{
    Epoch, EpochId,
    guard::{Guard, holds},
};
use crate::{Coverage, definition::Fingerprint};

/// The newest two versions of a view's definition, both read in the deleting transaction.
#[derive(Clone, Copy, Debug)]
pub struct Versions<'a> {
    /// The coverage of the current version.
    pub current: &'a Coverage,
    /// The coverage of the one before it.
    pub previous: Option<&'a Coverage>,
    /// The highest previous coverage of all views of the source; only a broken protocol would use it.
    pub of_source: Option<&'a Coverage>,
}

/// Up to where the live rows of the view may go; nothing while it has fewer than two versions.
#[must_use]
pub fn pruned_to<'a>(versions: Versions<'a>) -> Option<&'a Coverage> {
    if !holds(Guard::PruneByPreviousVersion) {
        return Some(versions.current);
    }
    if !holds(Guard::PrunePerView) {
        return versions.of_source;
    }
    versions.previous
}

/// The epochs whose rows go: those that hold `fingerprint` and lie wholly below `pruned_to`.
#[must_use]
pub fn prunable(fingerprint: &Fingerprint, pruned_to: &Coverage, epochs: &[Epoch]) -> Vec<EpochId> {
    epochs.iter().filter(|epoch| epoch.definitions.contains(fingerprint) && epoch.lies_below(pruned_to)).map(|epoch| epoch.id).collect()
}

/// Up to where the live rows of a definition that left are gone once its table is dropped; nothing while it is `kept`
/// (wanted or serving) or an open epoch holds it: a worker would flush into a table that is not there, and the epoch
/// would count although its rows are gone (case 35).
///
/// The value outlives the table and counts again when the definition returns.
#[must_use]
pub fn left(fingerprint: &Fingerprint, kept: &BTreeSet<Fingerprint>, epochs: &[Epoch]) -> Option<Coverage> {
    let holders = epochs.iter().filter(|epoch| epoch.definitions.contains(fingerprint));
    if kept.contains(fingerprint) || holders.clone().any(Epoch::is_open) {
        return None;
    }
    Some(holders.fold(Coverage::default(), |reached, epoch| {
        let ends: Coverage = epoch.ranges.iter().filter_map(|(partition, range)| Some((*partition, range.end?))).collect();
        reached.max(&ends)
    }))
}
