//! What a result includes: one offset per partition of a source, from the origin up to there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Offset, Partition};

/// A map partition → offset. A partition that is not named is covered up to its origin only, that is, not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Coverage(BTreeMap<Partition, Offset>);

impl Coverage {
    /// The offset reached in `partition`, or nothing where the coverage does not name it.
    #[must_use]
    pub fn get(&self, partition: Partition) -> Option<Offset> {
        self.0.get(&partition).copied()
    }

    /// Sets the offset reached in `partition`.
    pub fn set(&mut self, partition: Partition, offset: Offset) {
        self.0.insert(partition, offset);
    }

    /// The named partitions in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (Partition, Offset)> + '_ {
        self.0.iter().map(|(partition, offset)| (*partition, *offset))
    }

    /// Whether no partition is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a record of `partition` at `offset` is included.
    #[must_use]
    pub fn includes(&self, partition: Partition, offset: Offset) -> bool {
        self.get(partition).is_some_and(|end| offset < end)
    }

    /// Whether this reaches at least as far as `other` in every partition that `other` names.
    #[must_use]
    pub fn reaches(&self, other: &Self) -> bool {
        other.iter().all(|(partition, offset)| self.get(partition).is_some_and(|mine| mine >= offset))
    }

    /// Partition by partition the larger offset: what two statements about the same log include together.
    #[must_use]
    pub fn max(&self, other: &Self) -> Self {
        let mut result = self.clone();
        for (partition, offset) in other.iter() {
            let mine = result.get(partition).unwrap_or(offset);
            result.set(partition, mine.max(offset));
        }
        result
    }
}

impl FromIterator<(Partition, Offset)> for Coverage {
    fn from_iter<I: IntoIterator<Item = (Partition, Offset)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_coverage() -> impl Strategy<Value = Coverage> {
        prop::collection::btree_map((0..6i32).prop_map(Partition), (0..50i64).prop_map(Offset), 0..6).prop_map(Coverage)
    }

    proptest! {
        #[test]
        fn the_larger_of_two_coverages_reaches_both(a in any_coverage(), b in any_coverage()) {
            let both = a.max(&b);
            prop_assert!(both.reaches(&a) && both.reaches(&b));
            prop_assert_eq!(&both, &b.max(&a));
            prop_assert_eq!(&a.max(&a), &a);
        }

        #[test]
        fn reaching_is_a_partial_order(a in any_coverage(), b in any_coverage(), c in any_coverage()) {
            prop_assert!(a.reaches(&a));
            if a.reaches(&b) && b.reaches(&a) { prop_assert_eq!(&a, &b); }
            if a.reaches(&b) && b.reaches(&c) { prop_assert!(a.reaches(&c)); }
        }

        #[test]
        fn a_coverage_survives_json(a in any_coverage()) {
            let text = serde_json::to_string(&a).unwrap();
            prop_assert_eq!(serde_json::from_str::<Coverage>(&text).unwrap(), a);
        }
    }
}
