//! The archive: files that tile the log, although archivers race, pause and crash.
//!
//! ```text
//!  [origin ── file 0 ──)[── file 87 ──)[── file 140 ──)   names hold the start, footers the end
//!                                                      ▲ archived end: who creates a temporary file for it lists again
//! ```

use thiserror::Error;
use uuid::Uuid;

use super::guard::{Guard, holds};
use crate::{Offset, OffsetRange};

/// The end of the file with the highest start, of several the one that reaches furthest; nothing without a file.
#[must_use]
pub fn archived_end(ranges: &[OffsetRange]) -> Option<Offset> {
    ranges.iter().max_by_key(|range| (range.start, range.end)).map(|range| range.end)
}

/// Whether an archiver whose temporary file begins at `start` goes on, after it listed the partition again.
///
/// A file that appeared in between (or one whose name a compaction freed) would make its range an overlap.
#[must_use]
pub fn goes_on(start: Offset, archived_end: Offset) -> bool {
    start == archived_end || !holds(Guard::SecondListing)
}

/// What became of a rename whose reply was an error, was lost, or said that the target exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The visible file is mine.
    Won,
    /// Another archiver's file is there: go on from *its* end.
    Lost,
    /// Nothing happened: rename again.
    Again,
    /// Neither file is there: list anew.
    Vanished,
}

/// Decides by what is really there: the uuid in the target's footer, and whether the temporary file still exists.
#[must_use]
pub fn outcome(mine: Uuid, target: Option<Uuid>, temporary_exists: bool) -> Outcome {
    match target {
        Some(uuid) if uuid == mine => Outcome::Won,
        Some(_) => Outcome::Lost,
        None if temporary_exists => Outcome::Again,
        None => Outcome::Vanished,
    }
}

/// A fault of the archive that [`tile`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Offsets that no file holds.
    #[error("gap {0}: no archive file holds these offsets")]
    Gap(OffsetRange),
    /// Offsets that two files hold.
    #[error("overlap {0}: two archive files hold these offsets")]
    Overlap(OffsetRange),
}

/// Which rows a reader of `window` takes: `(index into ranges, the offsets to take of that file)`, in offset order.
///
/// Files come by (start, longest first); from each only what no earlier one gave. So a merged file beside its originals
/// is read once.
///
/// # Errors
/// The first gap: the reader lists again, and gives up after a few times.
pub fn clip(ranges: &[OffsetRange], window: OffsetRange) -> Result<Vec<(usize, OffsetRange)>, Fault> {
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_by_key(|index| ranges.get(*index).map(|range| (range.start, std::cmp::Reverse(range.end))));
    let mut covered = window.start;
    let mut taken = Vec::new();
    for index in order {
        let Some(range) = ranges.get(index) else { continue };
        if range.end <= window.start || range.start >= window.end {
            continue;
        }
        if range.start > covered {
            return Err(Fault::Gap(OffsetRange { start: covered, end: range.start }));
        }
        let start = if holds(Guard::ReadersClip) { covered } else { range.start.max(window.start) };
        if range.end > start {
            taken.push((index, OffsetRange { start, end: range.end.min(window.end) }));
            covered = covered.max(range.end);
        }
    }
    if covered < window.end {
        return Err(Fault::Gap(OffsetRange { start: covered, end: window.end }));
    }
    Ok(taken)
}

/// Every gap and overlap of `ranges` in `[start, archived end)`: what `verify` reports.
#[must_use]
pub fn tile(ranges: &[OffsetRange], start: Offset) -> Vec<Fault> {
    let mut sorted = ranges.to_vec();
    sorted.sort();
    let mut covered = start;
    let mut faults = Vec::new();
    for range in sorted {
        if range.start > covered {
            faults.push(Fault::Gap(OffsetRange { start: covered, end: range.start }));
        } else if range.start < covered {
            faults.push(Fault::Overlap(OffsetRange { start: range.start, end: range.end.min(covered) }));
        }
        covered = covered.max(range.end);
    }
    faults
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(start: i64, end: i64) -> OffsetRange {
        OffsetRange { start: Offset(start), end: Offset(end) }
    }

    #[test]
    fn the_archived_end_is_that_of_the_highest_start_and_longest_file() {
        assert_eq!(archived_end(&[]), None);
        assert_eq!(archived_end(&[range(0, 90), range(10, 20), range(10, 30)]), Some(Offset(30)));
    }

    #[test]
    fn the_footer_decides_a_lost_reply() {
        let (mine, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(outcome(mine, Some(mine), false), Outcome::Won);
        assert_eq!(outcome(mine, Some(other), true), Outcome::Lost);
        assert_eq!(outcome(mine, None, true), Outcome::Again);
        assert_eq!(outcome(mine, None, false), Outcome::Vanished);
    }

    #[test]
    fn gaps_and_overlaps_are_named_with_their_offsets() {
        let faults = tile(&[range(5, 10), range(8, 12), range(20, 21)], Offset(3));
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        gap [3, 5): no archive file holds these offsets
        overlap [8, 10): two archive files hold these offsets
        gap [12, 20): no archive file holds these offsets
        ");
    }

    proptest! {
        #[test]
        fn a_reader_takes_each_offset_once(mut cuts in prop::collection::btree_set(0..60i64, 2..9), merged in 0..3usize) {
            cuts.insert(0);
            let edges: Vec<i64> = cuts.into_iter().collect();
            let mut files: Vec<OffsetRange> = edges.windows(2).map(|pair| range(pair[0], pair[1])).collect();
            if files.len() > merged + 1 {
                files.push(OffsetRange { start: files[merged].start, end: files[merged + 1].end });
            }
            let window = range(edges[0], *edges.last().unwrap());
            let mut seen: Vec<i64> = clip(&files, window).unwrap().into_iter().flat_map(|(index, taken)| {
                assert!(files[index].start <= taken.start && taken.end <= files[index].end);
                taken.start.0..taken.end.0
            }).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (window.start.0..window.end.0).collect::<Vec<_>>());
        }

        #[test]
        fn a_tiling_has_no_fault_and_a_removed_file_is_a_gap(edges in prop::collection::btree_set(0..60i64, 4..9), removed in 0..2usize) {
            let edges: Vec<i64> = edges.into_iter().collect();
            let mut files: Vec<OffsetRange> = edges.windows(2).map(|pair| range(pair[0], pair[1])).collect();
            prop_assert_eq!(tile(&files, Offset(edges[0])), vec![]);
            let gone = files.remove(removed);
            prop_assert_eq!(tile(&files, Offset(edges[0])), vec![Fault::Gap(gone)]);
        }
    }
}
