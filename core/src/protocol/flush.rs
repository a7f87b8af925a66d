//! Flush: live rows and `next_offset` move in one transaction, or not at all.
//!
//! The locked rows are compared before anything is written: a paused worker that was replaced must not take row locks,
//! let alone change a row. States are merged over partitions, so no part of a flush can be kept when one partition of it
//! belongs to somebody else by now.

use thiserror::Error;

use super::{
    EpochId, PartitionRow,
    guard::{Guard, holds},
};
use crate::{Offset, Partition};

/// One partition of a flush: what the states in memory begin and end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    /// The partition.
    pub partition: Partition,
    /// `next_offset` as the worker knows it.
    pub from: Offset,
    /// The last folded record + 1, or the position at an end of partition.
    pub to: Offset,
}

/// Somebody else took over: drop the states, write nothing, open a new epoch from the database.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("partition {partition} was taken over (expected epoch {mine} at offset {expected})")]
pub struct Fenced {
    /// The first partition that was not as expected.
    pub partition: Partition,
    /// The epoch that believed it owned it.
    pub mine: EpochId,
    /// The `next_offset` it expected there.
    pub expected: Offset,
}

/// `advances` of the epoch `mine` against the rows locked for them → the advances to write.
///
/// # Errors
/// [`Fenced`] when a row is missing, owned by another epoch, or at another offset: nothing of the flush may be written.
pub fn flush(mine: EpochId, advances: &[Advance], locked: &[PartitionRow]) -> Result<Vec<Advance>, Fenced> {
    let mut accepted = Vec::with_capacity(advances.len());
    for advance in advances {
        let row = locked.iter().find(|row| row.partition == advance.partition);
        let owned = row.is_some_and(|row| {
            !holds(Guard::FlushCompareAndSet) || (row.next_offset == advance.from && (row.epoch == Some(mine) || !holds(Guard::FlushOwner)))
        });
        if owned {
            accepted.push(*advance);
        } else if holds(Guard::FlushWholeOrNothing) {
            return Err(Fenced { partition: advance.partition, mine, expected: advance.from });
        }
    }
    Ok(accepted)
}
