//! The protocol: who may write what, and what an answer may merge.
//!
//! Each transaction of the layers is *lock and read → decide → write*; the decisions live here, one file per step, in
//! the order in which a record meets them:
//!
//! | file | decides |
//! |---|---|
//! | [`open`] | which cut a new epoch answers, which ranges end, where reading begins |
//! | [`flush`] | whether a flush still owns what it is about to move |
//! | [`fold`] | which two closed epochs become one |
//! | [`skip`] | how a loss is accepted |
//! | [`archive`] | where an archiver goes on, who won a rename, which rows a reader takes |
//! | [`cut`] | which cut a run takes, whether it is answered, what its coverage is |
//! | [`publish`] | whether a run's result may become a view's version |
//! | [`prune`] | which live rows no reader needs any more |
//! | [`reach`] | what an answer merges, and which offsets it therefore states |

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::{Coverage, Offset, Partition, definition::Fingerprint};

pub mod archive;
pub mod cut;
pub mod flush;
pub mod fold;
mod guard;
#[cfg(test)]
mod model;
pub mod open;
pub mod prune;
pub mod publish;
pub mod reach;
pub mod skip;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// One speed worker folding one set of partitions without interruption.
    EpochId
}
number! {
    /// A consistent cut of a source; 0 before the first.
    CutNumber
}
number! {
    /// One execution of batch for a source.
    RunId
}

/// A row of the catalog's `partition` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRow {
    /// The partition.
    pub partition: Partition,
    /// Where Anabranch began it.
    pub origin: Offset,
    /// Where speed reads on.
    pub next_offset: Offset,
    /// The newest cut that it answered.
    pub cut: CutNumber,
    /// The epoch that owns it.
    pub epoch: Option<EpochId>,
}

/// What an epoch folded of one partition: from `start` to `end`, or on and on while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochRange {
    /// The first offset.
    pub start: Offset,
    /// The first offset behind it, once the range has ended.
    pub end: Option<Offset>,
}

impl EpochRange {
    /// Whether the range ended where it began: it folded nothing and never will.
    #[must_use]
    pub fn ended_empty(self) -> bool {
        self.end == Some(self.start)
    }
}

/// An epoch with its ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its id, from a sequence.
    pub id: EpochId,
    /// The cut at which all its partitions began.
    pub cut: CutNumber,
    /// The views that it folds.
    pub definitions: BTreeSet<Fingerprint>,
    /// How many flushes of it are committed.
    pub flush: i64,
    /// What it folded of each partition.
    pub ranges: BTreeMap<Partition, EpochRange>,
}

impl Epoch {
    /// Whether a worker may still flush into it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.ranges.values().any(|range| range.end.is_none())
    }

    /// Whether everything it folded lies below `coverage`.
    #[must_use]
    pub fn lies_below(&self, coverage: &Coverage) -> bool {
        self.ranges
            .iter()
            .all(|(partition, range)| range.ended_empty() || range.end.is_some_and(|end| coverage.get(*partition).is_some_and(|covered| end <= covered)))
    }
}
