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

pub(super) struct RecordSeed<'a> {
    pub(super) types: &'a [DataType],
    pub(super) members: &'a HashMap<String, usize>,
    pub(super) time_format: &'a TimeFormat,
}

impl RecordSeed<'_> {
    /// Fills `slots`, or says why the text is not one JSON object. Of a doubled member the last counts.
    pub(super) fn read<'v>(&self, text: &'v str, slots: &mut [Slot<'v>]) -> Result<(), &'static str> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let result = deserializer.deserialize_any(RecordVisitor { seed: self, slots }).and_then(|()| deserializer.end());
        result.map_err(|error| if error.is_data() { "not an object" } else { "not JSON" })
    }
}

struct RecordVisitor<'a, 's, 'v> {
    seed: &'a RecordSeed<'a>,
    slots: &'s mut [Slot<'v>],
}

impl<'v> Visitor<'v> for RecordVisitor<'_, '_, 'v> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'v>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(KeySeed)? {
            let index = self.seed.members.get(key.as_ref()).copied();
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
