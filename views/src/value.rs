//! One cell.

use std::cmp::Ordering;

use anabranch_core::definition::DataType;

/// A value of a column, a dimension, a state or a measure.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// BOOLEAN.
    Boolean(bool),
    /// BIGINT.
    BigInt(i64),
    /// DOUBLE.
    Double(f64),
    /// DECIMAL(38,0).
    Decimal(i128),
    /// TEXT.
    Text(String),
    /// Days since 1970.
    Date(i32),
    /// Microseconds since 1970, UTC.
    Timestamp(i64),
    /// The encoded form of a sketch.
    Bytes(Vec<u8>),
}

impl Value {
    /// Whether it is NULL.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The integer of a BIGINT, a TIMESTAMP or a DATE.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::BigInt(value) | Self::Timestamp(value) => Some(*value),
            Self::Date(value) => Some(i64::from(*value)),
            _ => None,
        }
    }

    /// Order within one type as PostgreSQL has it, text by bytes; NULL is the smallest, NaN the largest DOUBLE.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::BigInt(a), Self::BigInt(b)) | (Self::Timestamp(a), Self::Timestamp(b)) => a.cmp(b),
            (Self::Double(a), Self::Double(b)) => canonical(*a).total_cmp(&canonical(*b)),
            (Self::Decimal(a), Self::Decimal(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Self::Date(a), Self::Date(b)) => a.cmp(b),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Boolean(_) => 1,
            Self::BigInt(_) => 2,
            Self::Double(_) => 3,
            Self::Decimal(_) => 4,
            Self::Text(_) => 5,
            Self::Date(_) => 6,
            Self::Timestamp(_) => 7,
            Self::Bytes(_) => 8,
        }
    }

    /// Appends a form that is equal for equal values and different for different ones, also in a sequence of values.
    pub fn encode_key(&self, bytes: &mut Vec<u8>) {
        bytes.push(self.rank());
        match self {
            Self::Null => {}
            Self::Boolean(value) => bytes.push(u8::from(*value)),
            Self::BigInt(value) | Self::Timestamp(value) => bytes.extend(value.to_le_bytes()),
            Self::Double(value) => bytes.extend(canonical(*value).to_bits().to_le_bytes()),
            Self::Decimal(value) => bytes.extend(value.to_le_bytes()),
            Self::Date(value) => bytes.extend(value.to_le_bytes()),
            Self::Text(value) => {
                bytes.extend((value.len() as u64).to_le_bytes());
                bytes.extend(value.as_bytes());
            }
            Self::Bytes(value) => {
                bytes.extend((value.len() as u64).to_le_bytes());
                bytes.extend(value);
            }
        }
    }
}

/// −0.0 = 0.0, and NaN is one value.
#[must_use]
pub fn canonical(value: f64) -> f64 {
    if value.is_nan() {
        f64::NAN
    } else if value == 0.0 {
        0.0
    } else {
        value
    }
}

/// The Arrow type that holds a column of the archive or of an evaluation.
#[must_use]
pub fn arrow_type(data_type: DataType) -> arrow::datatypes::DataType {
    use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType as Arrow, TimeUnit};
    match data_type {
        DataType::Boolean => Arrow::Boolean,
        DataType::BigInt => Arrow::Int64,
        DataType::Double => Arrow::Float64,
        DataType::Decimal => Arrow::Decimal128(DECIMAL128_MAX_PRECISION, 0),
        DataType::Text => Arrow::Utf8View,
        DataType::Date => Arrow::Date32,
        DataType::Timestamp => Arrow::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}
