//! Which rows pass.

use std::{borrow::Cow, collections::BTreeSet};

use anabranch_core::definition::View;
use anabranch_views::{Columns, Value, columns::Dictionary, scalar};

use crate::query::{Condition, Resolved, Subject};

/// Whether rows meet the conditions; what is about one key is asked once for each of its values.
pub(super) struct Passing<'a> {
    view: &'a View,
    query: &'a Resolved,
    columns: &'a Columns,
    of_one_key: Vec<OfOneKey<'a>>,
    of_several: Vec<&'a Condition>,
}

/// A condition on one key, and of which of the key's codes it is known to hold.
struct OfOneKey<'a> {
    condition: &'a Condition,
    key: usize,
    dictionary: &'a Dictionary,
    known: Vec<Option<bool>>,
}

impl<'a> Passing<'a> {
    pub(super) fn new(view: &'a View, query: &'a Resolved, columns: &'a Columns) -> Self {
        let (mut of_one_key, mut of_several) = (Vec::new(), Vec::new());
        for condition in &query.conditions.rows {
            let mut keys = BTreeSet::new();
            condition.subjects(&mut |subject| {
                if let Subject::Key(index) = subject {
                    keys.insert(index);
                }
            });
            match keys.first().filter(|_| keys.len() == 1).and_then(|key| Some((*key, columns.key(*key)?))) {
                Some((key, dictionary)) => of_one_key.push(OfOneKey { condition, key, dictionary, known: vec![None; dictionary.values().len()] }),
                None => of_several.push(condition),
            }
        }
        Self { view, query, columns, of_one_key, of_several }
    }

    pub(super) fn passes(&mut self, row: usize) -> bool {
        for OfOneKey { condition, key, dictionary, known } in &mut self.of_one_key {
            let code = dictionary.code(row);
            let holds = match known.get(code).copied().flatten() {
                Some(holds) => holds,
                None => {
                    let value = dictionary.get(row);
                    let holds = condition.holds(&|subject| if subject == Subject::Key(*key) { Cow::Borrowed(value) } else { Cow::Owned(Value::Null) });
                    if let Some(known) = known.get_mut(code) {
                        *known = Some(holds);
                    }
                    holds
                }
            };
            if !holds {
                return false;
            }
        }
        let value = |index: usize| self.columns.key(index).map_or(&Value::Null, |key| key.get(row));
        let keyed = |subject: Subject| match subject {
            Subject::Key(index) => Cow::Borrowed(value(index)),
            Subject::Measure(_) => Cow::Owned(Value::Null),
        };
        let column = |name: &str| self.view.key_names().position(|known| known == name).map_or(Value::Null, |index| value(index).clone());
        self.of_several.iter().all(|condition| condition.holds(&keyed))
            && self.query.segments.iter().all(|segment| scalar::evaluate(segment, &column).value == Value::Boolean(true))
    }
}
