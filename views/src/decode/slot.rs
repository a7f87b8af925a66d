//! One JSON object → one typed slot per declared column, without building a tree.

use std::{borrow::Cow, fmt};

use anabranch_core::definition::{DataType, MAX_PRECISION, MAX_SUMMED_PRECISION};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{
    members::{Member, Members},
    time::{TimeFormat, days},
};
use crate::{
    scalar::{parse_decimal, rescaled},
    value::Value,
};

/// The integers that DOUBLE holds one by one.
const EXACT_INTEGERS: f64 = 9_007_199_254_740_992.0;

/// The value of a member, or why it cannot be that of its column.
#[derive(Debug)]
pub(super) enum Slot<'v> {
    Null,
    Boolean(bool),
    BigInt(i64),
    Double(f64),
    Decimal(i128),
    Text(Cow<'v, str>),
    Date(i32),
    Timestamp(i64),
    Wrong(&'static str),
}

/// What a member must be.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) data_type: DataType,
    /// How its times are written, tried one after the other.
    pub(super) formats: Vec<TimeFormat>,
    /// Whether strings that are numbers pass.
    pub(super) lenient: bool,
}

pub(super) struct RecordSeed<'a> {
    pub(super) specs: &'a [Spec],
    pub(super) members: &'a mut Members,
}

impl RecordSeed<'_> {
    /// Fills `slots`, or says why the text is not one JSON object. Of a doubled member the last counts.
    pub(super) fn read<'v>(&mut self, text: &'v str, slots: &mut [Slot<'v>]) -> Result<(), &'static str> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let visitor = ObjectVisitor { specs: self.specs, members: self.members, slots, is_record: true };
        let result = deserializer.deserialize_any(visitor).and_then(|()| deserializer.end());
        result.map_err(|error| if error.is_data() { "not an object" } else { "not JSON" })
    }
}

/// An object, and the columns in it.
struct ObjectVisitor<'a, 's, 'v> {
    specs: &'a [Spec],
    members: &'a mut Members,
    slots: &'s mut [Slot<'v>],
    /// The record itself must be an object; what is none inside it makes its columns wrong.
    is_record: bool,
}

impl ObjectVisitor<'_, '_, '_> {
    fn wrong<E: Error>(self, what: &'static str) -> Result<(), E> {
        if self.is_record {
            return Err(E::invalid_type(serde::de::Unexpected::Other(what), &"an object"));
        }
        self.members.fill(self.slots, || Slot::Wrong("wrong type"));
        Ok(())
    }
}

impl<'v> Visitor<'v> for ObjectVisitor<'_, '_, 'v> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'v>>(self, mut map: A) -> Result<(), A::Error> {
        if !self.is_record {
            // Of a doubled member the last counts, as a whole.
            self.members.fill(self.slots, || Slot::Null);
        }
        let mut position = 0;
        while let Some(key) = map.next_key_seed(KeySeed)? {
            let member = self.members.find(position, &key);
            position += 1;
            match member {
                Some(Member::Column(index)) => match (self.specs.get(index), self.slots.get_mut(index)) {
                    (Some(spec), Some(slot)) => *slot = map.next_value_seed(SlotSeed { spec })?,
                    _ => map.next_value::<IgnoredAny>().map(drop)?,
                },
                Some(Member::Object(index)) => match self.members.inner.get_mut(index) {
                    Some(members) => map.next_value_seed(ObjectVisitor { specs: self.specs, members, slots: self.slots, is_record: false })?,
                    None => map.next_value::<IgnoredAny>().map(drop)?,
                },
                None => map.next_value::<IgnoredAny>().map(drop)?,
            }
        }
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if self.is_record {
            return self.wrong("null");
        }
        self.members.fill(self.slots, || Slot::Null);
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.wrong("a boolean")
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.wrong("a number")
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.wrong("a number")
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.wrong("a number")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.wrong("a string")
    }

    fn visit_seq<A: SeqAccess<'v>>(self, mut sequence: A) -> Result<(), A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        self.wrong("an array")
    }
}

impl<'v> DeserializeSeed<'v> for ObjectVisitor<'_, '_, 'v> {
    type Value = ();

    fn deserialize<D: Deserializer<'v>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
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
    spec: &'a Spec,
}

impl<'v> DeserializeSeed<'v> for SlotSeed<'_> {
    type Value = Slot<'v>;

    fn deserialize<D: Deserializer<'v>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl SlotSeed<'_> {
    fn text<'v>(&self, text: Cow<'v, str>) -> Slot<'v> {
        match self.spec.data_type {
            DataType::Text if text.contains('\0') => Slot::Wrong("U+0000"),
            DataType::Text => Slot::Text(text),
            DataType::Timestamp => {
                let time = self.spec.formats.iter().find_map(|format| format.micros(&text));
                time.or_else(|| self.epoch_text(&text)).map_or(Slot::Wrong("not a time"), Slot::Timestamp)
            }
            DataType::Date => days(&text).map_or(Slot::Wrong("not a date"), Slot::Date),
            _ if self.spec.lenient => self.number_text(&text),
            _ => Slot::Wrong("wrong type"),
        }
    }

    /// A time that is a number in quotes.
    fn epoch_text(&self, text: &str) -> Option<i64> {
        let number = text.trim().parse::<f64>().ok().filter(|_| self.spec.lenient)?;
        self.spec.formats.iter().find_map(|format| format.micros_of_number(number))
    }

    /// A number in quotes, by the rules of numbers.
    fn number_text<'v>(&self, text: &str) -> Slot<'v> {
        let text = text.trim();
        if text.is_empty() {
            return Slot::Null;
        }
        let read = match self.spec.data_type {
            DataType::Boolean => return text.to_lowercase().parse().map_or(Slot::Wrong("wrong type"), Slot::Boolean),
            DataType::Decimal { precision, scale } => return decimal(text, precision, scale),
            DataType::BigInt => text.parse::<i64>().map(|value| self.integer(value)).ok(),
            _ => None,
        };
        let read = read.or_else(|| text.parse::<f64>().ok().filter(|value| value.is_finite()).map(|value| self.number(value)));
        read.unwrap_or(Slot::Wrong("wrong type"))
    }
}

impl SlotSeed<'_> {
    #[expect(clippy::cast_precision_loss, reason = "an integer is read as the nearest DOUBLE")]
    fn integer<'v>(&self, value: i64) -> Slot<'v> {
        match self.spec.data_type {
            DataType::BigInt => Slot::BigInt(value),
            DataType::Double => Slot::Double(value as f64),
            DataType::Decimal { precision, scale } => decimal(&value.to_string(), precision, scale),
            DataType::Timestamp => self.time(self.spec.formats.iter().find_map(|format| format.micros_of_integer(value))),
            _ => Slot::Wrong("wrong type"),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "checked: a whole number that DOUBLE holds exactly")]
    fn number<'v>(&self, value: f64) -> Slot<'v> {
        match self.spec.data_type {
            DataType::BigInt if value.fract() != 0.0 => Slot::Wrong("wrong type"),
            DataType::BigInt if value.abs() > EXACT_INTEGERS => Slot::Wrong("out of range"),
            DataType::BigInt => Slot::BigInt(value as i64),
            DataType::Double => Slot::Double(value),
            // The shortest digits that read back as the same DOUBLE are those that the producer wrote, up to 15 of them.
            DataType::Decimal { precision, scale } => decimal(&format!("{value}"), precision, scale),
            DataType::Timestamp => self.time(self.spec.formats.iter().find_map(|format| format.micros_of_number(value))),
            _ => Slot::Wrong("wrong type"),
        }
    }

    fn time<'v>(&self, micros: Option<i64>) -> Slot<'v> {
        let numbers = self.spec.formats.iter().any(TimeFormat::is_number);
        micros.map_or(Slot::Wrong(if numbers { "not a time" } else { "wrong type" }), Slot::Timestamp)
    }
}

/// An exact number; one with more digits behind the point than its column has is wrong, not rounded.
fn decimal<'v>(text: &str, precision: u8, scale: u8) -> Slot<'v> {
    let fits = |digits: u8| match parse_decimal(text, MAX_PRECISION, digits) {
        Some(Value::Decimal(value, _)) => Some(value),
        _ => None,
    };
    // With all its digits it must be the same number.
    let exact = fits(scale).zip(fits(MAX_SUMMED_PRECISION)).filter(|(value, all)| rescaled(*value, scale, MAX_SUMMED_PRECISION) == Some(*all));
    match (exact, parse_decimal(text, precision, scale)) {
        (Some((value, _)), Some(_)) => Slot::Decimal(value),
        (Some(_), None) => Slot::Wrong("out of range"),
        (None, _) if fits(0).is_some() => Slot::Wrong("too many digits"),
        (None, _) => Slot::Wrong("wrong type"),
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
        Ok(if self.spec.data_type == DataType::Boolean { Slot::Boolean(value) } else { Slot::Wrong("wrong type") })
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Slot<'v>, E> {
        Ok(self.integer(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "an integer is read as the nearest DOUBLE")]
    fn visit_u64<E: Error>(self, value: u64) -> Result<Slot<'v>, E> {
        match i64::try_from(value) {
            Ok(value) => Ok(self.integer(value)),
            Err(_) if self.spec.data_type == DataType::Double => Ok(Slot::Double(value as f64)),
            Err(_) if self.spec.data_type.is_number() => Ok(Slot::Wrong("out of range")),
            Err(_) => Ok(Slot::Wrong("wrong type")),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Slot<'v>, E> {
        Ok(self.number(value))
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
