//! What an answer merges, and which offsets it therefore states.
//!
//! ```text
//!   version's coverage
//!  ───────┤── epoch 5 ──┤── epoch 9 ──┤   gap   ├── epoch 12 ──►
//!         └──── the chain: merged ────┘▲        └─ not merged: an answer would miss the gap
//!                                      reach
//! ```

use std::collections::BTreeSet;

use thiserror::Error;

use super::{
    Epoch, EpochId, EpochRange, PartitionRow,
    guard::{Guard, holds},
};
use crate::{Coverage, definition::Fingerprint};

/// Partitions and epochs of a source, read in one snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// All partitions of the source.
    pub partitions: &'a [PartitionRow],
    /// All its epochs.
    pub epochs: &'a [Epoch],
}

/// What an answer merges beside the version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// *o*: the answer equals the fold of all records below.
    pub offsets: Coverage,
    /// The epochs whose live rows are merged.
    pub epochs: BTreeSet<EpochId>,
}

/// What a reader has of a view's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded<'a> {
    /// The view has no version.
    Nothing,
    /// A version that is no longer the current one.
    Older(&'a Coverage),
    /// The current version of the snapshot.
    Current(&'a Coverage),
}

impl<'a> Loaded<'a> {
    fn coverage(self) -> Option<&'a Coverage> {
        match self {
            Self::Nothing => None,
            Self::Older(coverage) | Self::Current(coverage) => Some(coverage),
        }
    }
}

/// Why a complete answer cannot be computed from what is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoReach {
    /// Live rows above the loaded version are pruned: load the current version; until then the last answer stands.
    #[error("the loaded version lies below what was pruned")]
    BelowPruned,
    /// The view joined after records were folded: the next run builds its history.
    #[error("the view is being built")]
    BeingBuilt,
}

/// The chain of epochs above the loaded version of `fingerprint`.
///
/// A current version below `pruned_to` is that of a definition that left and returned: nothing live continues it, so it
/// answers at its coverage only.
///
/// # Errors
/// [`NoReach`]; an answer that could be smaller than an earlier one is never given instead.
pub fn reach(loaded: Loaded<'_>, fingerprint: &Fingerprint, pruned_to: Option<&Coverage>, snapshot: Snapshot<'_>) -> Result<Reach, NoReach> {
    let pruned_to = pruned_to.filter(|_| holds(Guard::MirrorKnowsPruned));
    let coverage = loaded.coverage();
    let is_below_pruned = pruned_to.is_some_and(|pruned_to| !pruned_to.is_empty() && !coverage.is_some_and(|coverage| coverage.reaches(pruned_to)));
    let mut reach = Reach::default();
    for row in snapshot.partitions {
        let covered = coverage.and_then(|coverage| coverage.get(row.partition)).unwrap_or(row.origin);
        reach.offsets.set(row.partition, covered);
    }
    match loaded {
        Loaded::Nothing if is_below_pruned || !serves_at_once(fingerprint, snapshot) => return Err(NoReach::BeingBuilt),
        Loaded::Older(_) if is_below_pruned => return Err(NoReach::BelowPruned),
        Loaded::Current(_) if is_below_pruned => return Ok(reach),
        _ => {}
    }
    let pruned = |epoch: &Epoch| pruned_to.is_some_and(|pruned_to| !epoch.is_open() && epoch.lies_below(pruned_to));
    let mut waiting: Vec<&Epoch> = snapshot.epochs.iter().filter(|epoch| epoch.definitions.contains(fingerprint) && !pruned(epoch)).collect();
    while let Some(position) = waiting.iter().position(|epoch| continues(epoch, &reach.offsets)) {
        let epoch = waiting.swap_remove(position);
        reach.epochs.insert(epoch.id);
        for (partition, range) in counted(epoch) {
            let next_offset = snapshot.partitions.iter().find(|row| row.partition == partition).map(|row| row.next_offset);
            if let Some(end) = range.end.or(next_offset) {
                reach.offsets.set(partition, end);
            }
        }
    }
    if !holds(Guard::OffsetsFromChain) {
        reach.offsets = snapshot.partitions.iter().map(|row| (row.partition, row.next_offset)).collect();
    }
    Ok(reach)
}

/// Ranges that ended where they began are left out: the partition was stolen before anything of it was folded.
fn counted(epoch: &Epoch) -> impl Iterator<Item = (crate::Partition, EpochRange)> + '_ {
    epoch.ranges.iter().filter(|(_, range)| !range.ended_empty()).map(|(partition, range)| (*partition, *range))
}

fn continues(epoch: &Epoch, reach: &Coverage) -> bool {
    counted(epoch).next().is_some() && counted(epoch).all(|(partition, range)| reach.get(partition) == Some(range.start))
}

/// Whether in every partition nothing was folded before the first epoch that holds the view.
fn serves_at_once(fingerprint: &Fingerprint, snapshot: Snapshot<'_>) -> bool {
    snapshot.partitions.iter().filter(|row| row.next_offset > row.origin).all(|row| {
        snapshot
            .epochs
            .iter()
            .filter(|epoch| epoch.definitions.contains(fingerprint))
            .any(|epoch| counted(epoch).any(|(partition, range)| partition == row.partition && range.start == row.origin))
    })
}

/// How a mirror catches up with an epoch's flushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Nothing new.
    UpToDate,
    /// The log holds every flush that was not seen: apply them in order.
    Apply,
    /// A flush is missing in the log (pruned, or never seen): read the epoch's live rows in the same snapshot.
    Reread,
}

/// `seen` = the flush up to which the mirror holds the epoch (nothing for a new one), `now` = `epoch.flush` of the
/// snapshot, `logged` = the flush numbers of the epoch in the log above `seen`, ascending.
#[must_use]
pub fn follow(seen: Option<i64>, now: i64, logged: &[i64]) -> Follow {
    match seen {
        Some(seen) if seen == now => Follow::UpToDate,
        Some(seen) if logged.iter().copied().eq(seen + 1..=now) || !holds(Guard::FlushNumbersWithoutHole) => Follow::Apply,
        _ => Follow::Reread,
    }
}
