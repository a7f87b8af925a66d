//! Folding: two closed epochs become one, so that many restarts do not pile up live rows.
//!
//! ```text
//!   epoch 5  [──────)                    epoch 9  [─────────────)
//!   epoch 7         [──────)   becomes
//! ```
//!
//! The result has an id of its own: under an old one, a reader that knows that epoch would miss what was added to it.

use std::collections::BTreeMap;

use super::{Epoch, EpochId, EpochRange};
use crate::{Coverage, definition::Fingerprint};

/// Both epochs as one with the id `id`; nothing where they must stay apart.
///
/// `later` must begin at the end of `earlier` in *every* partition that it has: were one of them another epoch's, the
/// chain could become a cycle, and answers would fall back (case 29).
#[must_use]
pub fn folded(id: EpochId, earlier: &Epoch, later: &Epoch, pruned: &BTreeMap<Fingerprint, Coverage>) -> Option<Epoch> {
    let is_pruned = |epoch: &Epoch, fingerprint: &Fingerprint| pruned.get(fingerprint).is_some_and(|pruned| epoch.lies_below(pruned));
    let alike = earlier.cut == later.cut
        && earlier.definitions == later.definitions
        && earlier.definitions.iter().all(|fingerprint| is_pruned(earlier, fingerprint) == is_pruned(later, fingerprint));
    if earlier.is_open() || later.is_open() || !alike {
        return None;
    }
    let mut ranges = earlier.ranges.clone();
    for (partition, range) in later.ranges.iter().filter(|(_, range)| !range.ended_empty()) {
        let before = earlier.ranges.get(partition).filter(|before| !before.ended_empty() && before.end == Some(range.start))?;
        ranges.insert(*partition, EpochRange { start: before.start, end: range.end });
    }
    Some(Epoch { id, cut: earlier.cut, definitions: earlier.definitions.clone(), flush: 1, ranges })
}
