//! Cuts: where batch ends and speed goes on, one offset per partition.
//!
//! ```text
//!   cut_wanted   0 ──────► 1 ─────────────► 2          raised by batch, only when all have answered the last one
//!   partition 0  ───────────┤1├──────────────┤2├──►    answered by whoever opens or flushes
//!   partition 1  ─────┤1├────────────────┤2├─────►     or, when nobody does in time, by batch
//! ```

use std::collections::BTreeSet;

use super::{
    CutNumber, Epoch, PartitionRow,
    guard::{Guard, holds},
};
use crate::{Coverage, Offset, Partition, definition::Fingerprint};

/// What a run does next with the cuts of its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// This cut is answered and usable: its coverage is that of the run.
    Take(CutNumber, Coverage),
    /// Wait for these partitions, then cut them ([`silent`]).
    Await(CutNumber, Vec<Partition>),
    /// Raise `cut_wanted` to this number, then look again.
    Raise(CutNumber),
}

/// Where a source stands with its cuts, read in one snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Cuts<'a> {
    /// The newest cut that batch asked for.
    pub wanted: CutNumber,
    /// The newest cut with which a run was done.
    pub finished: CutNumber,
    /// All partitions of the source.
    pub partitions: &'a [PartitionRow],
    /// `cut_offset` of the newest cut.
    pub answers: &'a Coverage,
    /// All epochs of the source.
    pub epochs: &'a [Epoch],
}

/// The next step of a run that wants to build the views `definitions`.
///
/// An unfinished cut is taken again, so at most one is in work and none can stall; unless an epoch above it lacks a
/// wanted definition: that definition could then never be switched in (case 24).
#[must_use]
pub fn step(cuts: Cuts<'_>, definitions: &BTreeSet<Fingerprint>) -> Step {
    let (coverage, missing) = coverage(cuts.partitions, cuts.answers);
    if !missing.is_empty() && cuts.wanted > CutNumber(0) {
        return Step::Await(cuts.wanted, missing);
    }
    let usable = cuts.epochs.iter().filter(|epoch| epoch.cut >= cuts.wanted).all(|epoch| epoch.definitions.is_superset(definitions));
    if cuts.wanted > cuts.finished && usable {
        return Step::Take(cuts.wanted, coverage);
    }
    Step::Raise(CutNumber(cuts.wanted.0 + 1))
}

/// The offsets of the newest cut, and the partitions that have not answered it.
///
/// A partition without a row begins at its origin and is not named; one with a row but no answer has not answered.
fn coverage(partitions: &[PartitionRow], answers: &Coverage) -> (Coverage, Vec<Partition>) {
    let mut coverage = Coverage::default();
    let mut missing = Vec::new();
    for row in partitions {
        match answers.get(row.partition) {
            Some(_) if !holds(Guard::CoverageAtCut) => coverage.set(row.partition, row.next_offset),
            Some(offset) => coverage.set(row.partition, offset),
            None if holds(Guard::MissingAnswerIsNoAnswer) => missing.push(row.partition),
            None => coverage.set(row.partition, row.origin),
        }
    }
    (coverage, missing)
}

/// Batch's own cut of a partition whose worker does not answer.
///
/// ```text
///   open range ──────┤ end = next_offset          the archive goes further: the cut goes there, too, so that batch
///                    ├──── only in the archive ──┤ works without speed; until the version that passes it is loaded,
///                                               at  answers stand at `end`
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SilentCut {
    /// The end of the open range: what the silent worker flushed.
    pub end: Offset,
    /// The answer, and the new `next_offset`; at or above `end`.
    pub at: Offset,
    /// Whether `partition.epoch` becomes NULL, which fences the silent worker.
    pub fences: bool,
}

/// The cut of `row` by batch; nothing when it has answered meanwhile.
///
/// `archived` is the end of the committed archive files, as far as is known: never the position of an archiver.
#[must_use]
pub fn silent(row: &PartitionRow, cut: CutNumber, archived: Option<Offset>) -> Option<SilentCut> {
    let unanswered = row.cut < cut || !holds(Guard::SilentCutOnlyUnanswered);
    let at = archived.unwrap_or(row.next_offset).max(row.next_offset);
    unanswered.then(|| SilentCut { end: row.next_offset, at, fences: holds(Guard::SilentCutFences) })
}
