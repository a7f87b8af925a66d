//! Which member of a record is which column.

use std::collections::HashMap;

use super::slot::Slot;

/// Positions beyond this are looked up by name: records with more members than that are rare.
const KNOWN_POSITIONS: usize = 256;

/// Which member of an object is which column, or holds columns itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    /// The column of that index.
    Column(usize),
    /// The object of that index in `inner`.
    Object(usize),
}

/// Which member of an object is which column. Producers write the members of every record in the same order, so the
/// column at a position is mostly the one that was there in the record before.
#[derive(Debug, Default)]
pub(super) struct Members {
    names: Vec<(String, Member)>,
    by_name: HashMap<String, usize>,
    pub(super) inner: Vec<Members>,
    /// Which of `names` the member at a position of the last record was; none for an undeclared member.
    at: Vec<Option<usize>>,
}

impl Members {
    /// The tree of the columns' paths.
    pub(super) fn new<'a>(paths: impl IntoIterator<Item = &'a [String]>) -> Self {
        let mut members = Self::default();
        for (index, path) in paths.into_iter().enumerate() {
            members.insert(path, index);
        }
        members
    }

    fn insert(&mut self, path: &[String], column: usize) {
        let Some((name, rest)) = path.split_first() else { return };
        if rest.is_empty() {
            self.add(name, Member::Column(column));
            return;
        }
        let known = self.by_name.get(name).and_then(|index| self.names.get(*index)).map(|(_, member)| *member);
        let object = match known {
            Some(Member::Object(object)) => object,
            _ => {
                self.inner.push(Self::default());
                self.add(name, Member::Object(self.inner.len() - 1));
                self.inner.len() - 1
            }
        };
        if let Some(inner) = self.inner.get_mut(object) {
            inner.insert(rest, column);
        }
    }

    fn add(&mut self, name: &str, member: Member) {
        self.by_name.insert(name.to_owned(), self.names.len());
        self.names.push((name.to_owned(), member));
    }

    pub(super) fn find(&mut self, position: usize, name: &str) -> Option<Member> {
        let known = self.at.get(position).copied().flatten().and_then(|index| self.names.get(index));
        if let Some((_, member)) = known.filter(|(known, _)| known == name) {
            return Some(*member);
        }
        let found = self.by_name.get(name).copied();
        if position < KNOWN_POSITIONS {
            self.at.resize(self.at.len().max(position + 1), None);
            if let Some(slot) = self.at.get_mut(position) {
                *slot = found;
            }
        }
        found.and_then(|index| self.names.get(index)).map(|(_, member)| *member)
    }

    /// Gives every column in this object the same value.
    pub(super) fn fill(&self, slots: &mut [Slot<'_>], value: fn() -> Slot<'static>) {
        for (_, member) in &self.names {
            match member {
                Member::Column(index) => slots.get_mut(*index).into_iter().for_each(|slot| *slot = value()),
                Member::Object(index) => self.inner.get(*index).into_iter().for_each(|inner| inner.fill(slots, value)),
            }
        }
    }
}
