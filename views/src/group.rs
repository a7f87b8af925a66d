//! Groups of a view and their merge.

use std::collections::{HashMap, hash_map::Entry};

use anabranch_core::definition::View;

use crate::{state::State, value::Value};

/// 128 bits of BLAKE3 over a group's bucket and dimensions: the key of live rows, whatever texts and NULLs are in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupHash(pub [u8; 16]);

impl GroupHash {
    /// The hash of a key.
    #[must_use]
    pub fn of(key: &[Value]) -> Self {
        let mut bytes = Vec::with_capacity(128);
        key.iter().for_each(|value| value.encode_key(&mut bytes));
        let mut hash = [0; 16];
        hash.copy_from_slice(blake3::hash(&bytes).as_bytes().split_at(16).0);
        Self(hash)
    }
}

/// One group: its bucket (where the view has one) and dimensions, and a state per accumulator.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The bucket, if the view has one, then the dimensions.
    pub key: Vec<Value>,
    /// In the order of the view's accumulators.
    pub states: Vec<State>,
}

impl Row {
    /// A group over nothing.
    #[must_use]
    pub fn empty(view: &View, key: Vec<Value>) -> Self {
        Self { key, states: view.accumulators.iter().map(State::empty).collect() }
    }

    /// The start of the bucket; nothing without one, or where it is NULL.
    #[must_use]
    pub fn bucket(&self, view: &View) -> Option<i64> {
        view.bucket.as_ref()?;
        self.key.first().and_then(Value::as_i64)
    }

    /// `self ⊕ other`, state by state.
    pub fn merge(&mut self, other: &Self) {
        for (mine, other) in self.states.iter_mut().zip(&other.states) {
            mine.merge(other);
        }
    }
}

/// The groups of one view, over some set of records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Groups(pub HashMap<GroupHash, Row>);

impl Groups {
    /// Merges one group in.
    pub fn merge_row(&mut self, hash: GroupHash, row: Row) {
        match self.0.entry(hash) {
            Entry::Vacant(slot) => {
                slot.insert(row);
            }
            Entry::Occupied(mut slot) => slot.get_mut().merge(&row),
        }
    }

    /// `self ⊕ other`.
    pub fn merge(&mut self, other: Self) {
        for (hash, row) in other.0 {
            self.merge_row(hash, row);
        }
    }
}
