//! One cell.

use std::{cmp::Ordering, fmt};

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
    /// DECIMAL: its digits as one integer, and how many of them lie behind the point.
    Decimal(i128, u8),
    /// TEXT.
    Text(String),
    /// Days since 1970.
    Date(i32),
    /// Microseconds since 1970, UTC.
    Timestamp(i64),
    /// The encoded form of a sketch.
    Bytes(Vec<u8>),
    /// A cell that has no value although its group has.
    Error(CellError),
}

/// Why a cell has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CellError {
    /// `count(DISTINCT …)` met more values than its limit.
    TooManyDistinct {
        /// The limit.
        limit: usize,
    },
}

impl fmt::Display for CellError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyDistinct { limit } => {
                write!(f, "more than {limit} distinct values; use approx_count_distinct, or raise the view's distinct_limit")
            }
        }
    }
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
            (Self::Decimal(a, scale), Self::Decimal(b, other)) if scale == other => a.cmp(b),
            (Self::Decimal(a, scale), Self::Decimal(b, other)) => {
                let wide = (*scale).max(*other);
                let both = crate::scalar::rescaled(*a, *scale, wide).zip(crate::scalar::rescaled(*b, *other, wide));
                both.map_or_else(|| a.signum().cmp(&b.signum()), |(a, b)| a.cmp(&b))
            }
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
            Self::Decimal(..) => 4,
            Self::Text(_) => 5,
            Self::Date(_) => 6,
            Self::Timestamp(_) => 7,
            Self::Bytes(_) => 8,
            Self::Error(_) => 9,
        }
    }

    /// Appends a form that is equal for equal values and different for different ones, also in a sequence of values.
    pub fn encode_key(&self, bytes: &mut Vec<u8>) {
        if let Self::Text(text) = self {
            return encode_text(text, bytes);
        }
        bytes.push(self.rank());
        match self {
            Self::Null | Self::Error(_) | Self::Text(_) => {}
            Self::Boolean(value) => bytes.push(u8::from(*value)),
            Self::BigInt(value) | Self::Timestamp(value) => bytes.extend(value.to_le_bytes()),
            Self::Double(value) => bytes.extend(canonical(*value).to_bits().to_le_bytes()),
            Self::Decimal(value, _) => bytes.extend(value.to_le_bytes()),
            Self::Date(value) => bytes.extend(value.to_le_bytes()),
            Self::Bytes(value) => {
                bytes.extend((value.len() as u64).to_le_bytes());
                bytes.extend(value);
            }
        }
    }
}

/// Appends the key encoding of a TEXT.
pub(crate) fn encode_text(text: &str, bytes: &mut Vec<u8>) {
    const RANK: u8 = 5;
    bytes.push(RANK);
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
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
    use arrow::datatypes::{DataType as Arrow, TimeUnit};
    match data_type {
        DataType::Boolean => Arrow::Boolean,
        DataType::BigInt => Arrow::Int64,
        DataType::Double => Arrow::Float64,
        #[expect(clippy::cast_possible_wrap, reason = "at most 38")]
        DataType::Decimal { precision, scale } => Arrow::Decimal128(precision, scale as i8),
        DataType::Text => Arrow::Utf8View,
        DataType::Date => Arrow::Date32,
        DataType::Timestamp => Arrow::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}
