//! Skipping what Kafka lost: on purpose, by name, never by itself.
//!
//! ```text
//!   ──── open range ──┤ end            the lost offsets are a gap, not a range: answers stand at `end`
//!                     ├── lost ──┤     until a version has passed it, with what the archive has of it (case 36)
//!                               at ──► speed reads on here
//! ```

use super::PartitionRow;
use crate::Offset;

/// What skipping writes into a partition's row, which is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The end of the open range.
    pub end: Offset,
    /// The new `next_offset`; `epoch` becomes NULL, so that the worker opens anew.
    pub at: Offset,
}

/// Skips the offsets of `row` below `first`, the first one that Kafka has; nothing when speed is not behind it.
#[must_use]
pub fn skip(row: &PartitionRow, first: Offset) -> Option<Skip> {
    (row.next_offset < first).then_some(Skip { end: row.next_offset, at: first })
}
