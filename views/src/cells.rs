//! The typed values of one column, without a value for each cell.

use anabranch_core::definition::DataType;
use arrow::{
    array::{Array, AsArray, BooleanArray, PrimitiveArray, StringViewArray},
    datatypes::{ArrowPrimitiveType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType},
};
use xxhash_rust::xxh3::xxh3_64;

use crate::value::{Value, canonical, encode_text};

/// The typed values of one column.
pub(crate) enum Cells<'a> {
    Boolean(&'a BooleanArray),
    BigInt(&'a PrimitiveArray<Int64Type>),
    Double(&'a PrimitiveArray<Float64Type>),
    Decimal(&'a PrimitiveArray<Decimal128Type>, u8),
    Text(&'a StringViewArray),
    Date(&'a PrimitiveArray<Date32Type>),
    Timestamp(&'a PrimitiveArray<TimestampMicrosecondType>),
}

impl<'a> Cells<'a> {
    pub(crate) fn of(array: &'a dyn Array, data_type: DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Boolean(array.as_boolean()),
            DataType::BigInt => Self::BigInt(array.as_primitive()),
            DataType::Decimal { scale, .. } => Self::Decimal(array.as_primitive(), scale),
            DataType::Double => Self::Double(array.as_primitive()),
            DataType::Text => Self::Text(array.as_string_view()),
            DataType::Date => Self::Date(array.as_primitive()),
            DataType::Timestamp => Self::Timestamp(array.as_primitive()),
        }
    }

    pub(crate) fn is_valid(&self, row: usize) -> bool {
        match self {
            Self::Boolean(values) => values.is_valid(row),
            Self::BigInt(values) => values.is_valid(row),
            Self::Double(values) => values.is_valid(row),
            Self::Decimal(values, _) => values.is_valid(row),
            Self::Text(values) => values.is_valid(row),
            Self::Date(values) => values.is_valid(row),
            Self::Timestamp(values) => values.is_valid(row),
        }
    }

    pub(crate) fn get(&self, row: usize) -> Value {
        if !self.is_valid(row) {
            return Value::Null;
        }
        match self {
            Self::Boolean(values) => Value::Boolean(values.value(row)),
            Self::BigInt(values) => Value::BigInt(values.value(row)),
            Self::Double(values) => Value::Double(canonical(values.value(row))),
            Self::Decimal(values, scale) => Value::Decimal(values.value(row), *scale),
            Self::Text(values) => Value::Text(values.value(row).to_owned()),
            Self::Date(values) => Value::Date(values.value(row)),
            Self::Timestamp(values) => Value::Timestamp(values.value(row)),
        }
    }

    /// Mixes the hash of each cell into that of its row.
    pub(crate) fn hash(&self, hashes: &mut [u64]) {
        fn primitive<T: ArrowPrimitiveType>(values: &PrimitiveArray<T>, hashes: &mut [u64], bits: impl Fn(T::Native) -> u64) {
            hashes.iter_mut().zip(values).for_each(|(hash, value)| *hash = mixed(*hash, value.map(&bits)));
        }
        match self {
            Self::Boolean(values) => hashes.iter_mut().zip(*values).for_each(|(hash, value)| *hash = mixed(*hash, value.map(u64::from))),
            Self::BigInt(values) => primitive(values, hashes, i64::cast_unsigned),
            Self::Double(values) => primitive(values, hashes, |value| canonical(value).to_bits()),
            #[expect(clippy::cast_possible_truncation, reason = "both halves of the digits")]
            Self::Decimal(values, _) => primitive(values, hashes, |value| (value.cast_unsigned() as u64) ^ ((value.cast_unsigned() >> 64) as u64)),
            Self::Text(values) => hashes.iter_mut().zip(*values).for_each(|(hash, text)| *hash = mixed(*hash, text.map(|text| xxh3_64(text.as_bytes())))),
            Self::Date(values) => primitive(values, hashes, |days| i64::from(days).cast_unsigned()),
            Self::Timestamp(values) => primitive(values, hashes, i64::cast_unsigned),
        }
    }

    /// Whether two cells are the same value, or both NULL.
    pub(crate) fn equal(&self, row: usize, other: usize) -> bool {
        match (self.is_valid(row), self.is_valid(other)) {
            (true, true) => match self {
                Self::Boolean(values) => values.value(row) == values.value(other),
                Self::BigInt(values) => values.value(row) == values.value(other),
                Self::Double(values) => canonical(values.value(row)).to_bits() == canonical(values.value(other)).to_bits(),
                Self::Decimal(values, _) => values.value(row) == values.value(other),
                Self::Text(values) => values.value(row) == values.value(other),
                Self::Date(values) => values.value(row) == values.value(other),
                Self::Timestamp(values) => values.value(row) == values.value(other),
            },
            (a, b) => a == b,
        }
    }

    /// Appends the cell's key encoding, as of [`Value::encode_key`].
    pub(crate) fn encode_key(&self, row: usize, key: &mut Vec<u8>) {
        match self {
            Self::Text(values) if values.is_valid(row) => encode_text(values.value(row), key),
            _ => self.get(row).encode_key(key),
        }
    }
}

/// One round of a multiplicative hash; NULL is a value of its own.
fn mixed(hash: u64, value: Option<u64>) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let value = value.map_or(ODD, |value| value ^ (value >> 32));
    (hash.rotate_left(26) ^ value).wrapping_mul(ODD)
}
