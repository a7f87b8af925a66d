//! Opening an epoch: one transaction that answers the wanted cut, ends what was open, fences, and begins anew.
//!
//! ```text
//!  partition 0  ──── old epoch ────┤├──── new epoch ────►
//!  partition 1  ── old epoch ──┤├──────── new epoch ────►
//!                              ▲ next_offset, read under the row's lock
//! ```
//!
//! Order of locks: source (shared) → partitions in ascending order. `cut_wanted` is read under the source's lock: were it
//! read before, batch could raise it in between, and an epoch would hold records of both sides of a cut.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    CutNumber, EpochId, PartitionRow,
    flush::{Advance, Fenced, flush},
    guard::{Guard, holds},
};
use crate::{Offset, Partition};

/// The epoch that ends when the new one begins.
#[derive(Clone, Debug)]
pub enum Closing {
    /// The worker holds no states: it starts, or it dropped them in doubt.
    Dropped {
        /// Its old epoch, if it had one.
        epoch: Option<EpochId>,
    },
    /// The worker flushes first, in the same transaction: a cut, a rebalance, new definitions.
    Flushed {
        /// Its old epoch.
        epoch: EpochId,
        /// Every partition of the old epoch, moved or not: a quiet one may have been stolen, too.
        advances: Vec<Advance>,
    },
}

impl Closing {
    fn epoch(&self) -> Option<EpochId> {
        match self {
            Self::Dropped { epoch } => *epoch,
            Self::Flushed { epoch, .. } => Some(*epoch),
        }
    }
}

/// What the transaction writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The flush of the old epoch.
    pub advances: Vec<Advance>,
    /// The cut of the new epoch, and that of the answers.
    pub cut: CutNumber,
    /// INSERT into `cut_offset`: partitions that had not answered, each at its offset after the flush.
    pub answers: BTreeMap<Partition, Offset>,
    /// End the range that is open for the partition, whoever opened it.
    pub ends: BTreeMap<Partition, Offset>,
    /// Partitions of the old epoch that become nobody's.
    pub released: BTreeSet<Partition>,
    /// The ranges of the new epoch, which begin here and are open.
    pub begins: BTreeMap<Partition, Offset>,
}

/// The wanted partitions and those of the old epoch, locked in ascending order → what to write.
///
/// # Errors
/// [`Fenced`] when the old epoch is to be flushed and does not own all its partitions any more: nothing is written.
///
/// # Panics
/// When a wanted partition is not among the locked rows; the transaction inserts missing rows first.
pub fn open(cut_wanted: CutNumber, wanted: &BTreeSet<Partition>, closing: &Closing, locked: &[PartitionRow]) -> Result<Plan, Fenced> {
    let advances = match closing {
        Closing::Dropped { .. } => Vec::new(),
        Closing::Flushed { epoch, advances } => {
            let checked: Vec<Advance> = advances.iter().filter(|advance| holds(Guard::CutFlushOwnsAll) || advance.from != advance.to).copied().collect();
            flush(*epoch, &checked, locked)?
        }
    };
    let mut plan = Plan { advances, cut: cut_wanted, answers: BTreeMap::new(), ends: BTreeMap::new(), released: BTreeSet::new(), begins: BTreeMap::new() };
    for row in locked {
        let moved = plan.advances.iter().find(|advance| advance.partition == row.partition);
        let next_offset = moved.map_or(row.next_offset, |advance| advance.to);
        if wanted.contains(&row.partition) {
            if row.cut < cut_wanted || !holds(Guard::CutAnsweredOnce) {
                plan.answers.insert(row.partition, next_offset);
            }
            plan.begins.insert(row.partition, next_offset);
            plan.ends.insert(row.partition, next_offset);
        } else if row.epoch.is_some() && row.epoch == closing.epoch() {
            plan.released.insert(row.partition);
            plan.ends.insert(row.partition, next_offset);
        }
    }
    assert_eq!(plan.begins.len(), wanted.len(), "every wanted partition has a locked row");
    Ok(plan)
}
