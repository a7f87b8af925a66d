//! One JSON object → one typed slot per declared column, without building a tree.

use std::{borrow::Cow, collections::HashMap, fmt};

use anabranch_core::definition::DataType;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::time::{TimeFormat, days};

/// The integers that DOUBLE holds one by one.
const EXACT_INTEGERS: f64 = 9_007_199_254_740_992.0;

/// The value of a member, or why it cannot be that of its column.
#[derive(Debug)]
pub(super) enum Slot<'v> {
    Null,
    Boolean(bool),
    BigInt(i64),
    Double(f64),
    Text(Cow<'v, str>),
    Date(i32),
    Timestamp(i64),
    Wrong(&'static str),
}

/// Positions beyond this are looked up by name: records with more members than that are rare.
const KNOWN_POSITIONS: usize = 256;

/// Which member of a record is which column. Producers write the members of every record in the same order, so the
/// column at a position is mostly the one that was there in the record before.
#[derive(Debug, Default)]
pub(super) struct Members {
    names: Vec<String>,
    by_name: HashMap<String, usize>,
    /// The column of the member at a position of the last record; none for an undeclared member.
    at: Vec<Option<usize>>,
}

impl Members {
    pub(super) fn new(names: impl IntoIterator<Item = String>) -> Self {
        let names: Vec<String> = names.into_iter().collect();
        let by_name = names.iter().enumerate().map(|(index, name)| (name.clone(), index)).collect();
        Self { names, by_name, at: Vec::new() }
    }

    pub(super) fn name(&self, index: usize) -> &str {
        self.names.get(index).map_or("", String::as_str)
    }

    fn column(&mut self, position: usize, name: &str) -> Option<usize> {
        let known = self.at.get(position).copied().flatten();
        if let Some(index) = known.filter(|index| self.names.get(*index).is_some_and(|known| known == name)) {
            return Some(index);
        }
        let found = self.by_name.get(name).copied();
        if position < KNOWN_POSITIONS {
            self.at.resize(self.at.len().max(position + 1), None);
            if let Some(slot) = self.at.get_mut(position) {
                *slot = found;
            }
        }
        found
    }
}

pub(super) struct RecordSeed<'a> {
    pub(super) types: &'a [DataType],
    pub(super) members: &'a mut Members,
    pub(super) time_format: &'a TimeFormat,
}

impl RecordSeed<'_> {
    /// Fills `slots`, or says why the text is not one JSON object. Of a doubled member the last counts.
    pub(super) fn read<'v>(&mut self, text: &'v str, slots: &mut [Slot<'v>]) -> Result<(), &'static str> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let result = deserializer.deserialize_any(RecordVisitor { seed: self, slots }).and_then(|()| deserializer.end());
        result.map_err(|error| if error.is_data() { "not an object" } else { "not JSON" })
    }
}

struct RecordVisitor<'a, 's, 'v> {
    seed: &'a mut RecordSeed<'s>,
    slots: &'a mut [Slot<'v>],
}

impl<'v> Visitor<'v> for RecordVisitor<'_, '_, 'v> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'v>>(self, mut map: A) -> Result<(), A::Error> {
        let mut position = 0;
        while let Some(key) = map.next_key_seed(KeySeed)? {
            let index = self.seed.members.column(position, &key);
            position += 1;
            let data_type = index.and_then(|index| self.seed.types.get(index)).copied();
            match (data_type, index.and_then(|index| self.slots.get_mut(index))) {
                (Some(data_type), Some(slot)) => {
                    *slot = map.next_value_seed(SlotSeed { data_type, time_format: self.seed.time_format })?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

struct KeySeed;

impl<'v> DeserializeSeed<'v> for KeySeed {
    type Value = Cow<'v, str>;

    fn deserialize<D: Deserializer<'v>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'v> Visitor<'v> for KeySeed {
    type Value = Cow<'v, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'v str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

struct SlotSeed<'a> {
    data_type: DataType,
    time_format: &'a TimeFormat,
}

impl<'v> DeserializeSeed<'v> for SlotSeed<'_> {
    type Value = Slot<'v>;

    fn deserialize<D: Deserializer<'v>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl SlotSeed<'_> {
    fn text<'v>(&self, text: Cow<'v, str>) -> Slot<'v> {
        match self.data_type {
            DataType::Text if text.contains('\0') => Slot::Wrong("U+0000"),
            DataType::Text => Slot::Text(text),
            DataType::Timestamp => self.time_format.micros(&text).map_or(Slot::Wrong("not a time"), Slot::Timestamp),
            DataType::Date => days(&text).map_or(Slot::Wrong("not a date"), Slot::Date),
            _ => Slot::Wrong("wrong type"),
        }
    }
}

impl<'v> Visitor<'v> for SlotSeed<'_> {
    type Value = Slot<'v>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Slot<'v>, E> {
        Ok(Slot::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Slot<'v>, E> {
        Ok(if self.data_type == DataType::Boolean { Slot::Boolean(value) } else { Slot::Wrong("wrong type") })
    }

    #[expect(clippy::cast_precision_loss, reason = "an integer is read as the nearest DOUBLE")]
    fn visit_i64<E: Error>(self, value: i64) -> Result<Slot<'v>, E> {
        Ok(match self.data_type {
            DataType::BigInt => Slot::BigInt(value),
            DataType::Double => Slot::Double(value as f64),
            _ => Slot::Wrong("wrong type"),
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "an integer is read as the nearest DOUBLE")]
    fn visit_u64<E: Error>(self, value: u64) -> Result<Slot<'v>, E> {
        Ok(match self.data_type {
            DataType::BigInt => i64::try_from(value).map_or(Slot::Wrong("out of range"), Slot::BigInt),
            DataType::Double => Slot::Double(value as f64),
            _ => Slot::Wrong("wrong type"),
        })
    }

    #[expect(clippy::cast_possible_truncation, reason = "checked: a whole number that DOUBLE holds exactly")]
    fn visit_f64<E: Error>(self, value: f64) -> Result<Slot<'v>, E> {
        Ok(match self.data_type {
            DataType::BigInt if value.fract() != 0.0 => Slot::Wrong("wrong type"),
            DataType::BigInt if value.abs() > EXACT_INTEGERS => Slot::Wrong("out of range"),
            DataType::BigInt => Slot::BigInt(value as i64),
            DataType::Double => Slot::Double(value),
            _ => Slot::Wrong("wrong type"),
        })
    }

    fn visit_borrowed_str<E: Error>(self, text: &'v str) -> Result<Slot<'v>, E> {
        Ok(self.text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Slot<'v>, E> {
        Ok(self.text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'v>>(self, mut sequence: A) -> Result<Slot<'v>, A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Slot::Wrong("wrong type"))
    }

    fn visit_map<A: MapAccess<'v>>(self, mut map: A) -> Result<Slot<'v>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Slot::Wrong("wrong type"))
    }
}
