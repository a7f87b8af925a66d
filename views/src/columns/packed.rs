//! Columns of values in few bytes.

use std::collections::HashMap;

use anabranch_core::definition::DataType;

use crate::{table::ColumnType, value::Value};

/// Numbers from 0 on, in as few bytes each as the largest needs.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Narrow {
    /// Up to 2⁸ − 1.
    U8(Vec<u8>),
    /// Up to 2¹⁶ − 1.
    U16(Vec<u16>),
    /// Up to 2³² − 1.
    U32(Vec<u32>),
    /// All others.
    U64(Vec<u64>),
}

impl Narrow {
    fn of(largest: u64, numbers: impl Iterator<Item = u64>) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "none is above the largest")]
        match largest {
            0..=0xff => Self::U8(numbers.map(|number| number as u8).collect()),
            0x100..=0xffff => Self::U16(numbers.map(|number| number as u16).collect()),
            0x1_0000..=0xffff_ffff => Self::U32(numbers.map(|number| number as u32).collect()),
            _ => Self::U64(numbers.collect()),
        }
    }

    fn is_sorted(&self) -> bool {
        match self {
            Self::U8(numbers) => numbers.is_sorted(),
            Self::U16(numbers) => numbers.is_sorted(),
            Self::U32(numbers) => numbers.is_sorted(),
            Self::U64(numbers) => numbers.is_sorted(),
        }
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> u64 {
        match self {
            Self::U8(numbers) => numbers.get(index).copied().map_or(0, u64::from),
            Self::U16(numbers) => numbers.get(index).copied().map_or(0, u64::from),
            Self::U32(numbers) => numbers.get(index).copied().map_or(0, u64::from),
            Self::U64(numbers) => numbers.get(index).copied().unwrap_or(0),
        }
    }
}

/// Whole numbers or NULL: the distance to the smallest one, where that fits; 0 is NULL.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Integers {
    Narrow { smallest: i128, distances: Narrow },
    Wide(Vec<Option<i128>>),
}

impl Integers {
    pub(super) fn of(values: Vec<Option<i128>>) -> Self {
        let (smallest, largest) =
            values.iter().flatten().fold((i128::MAX, i128::MIN), |(smallest, largest), value| (smallest.min(*value), largest.max(*value)));
        let span = if smallest > largest { Some(0) } else { largest.checked_sub(smallest).and_then(|span| u64::try_from(span).ok()?.checked_add(1)) };
        let Some(span) = span else { return Self::Wide(values) };
        // In range: none is further from the smallest than the largest.
        let distance = |value: Option<i128>| value.and_then(|value| u64::try_from(value - smallest).ok()).map_or(0, |distance| distance + 1);
        Self::Narrow { smallest, distances: Narrow::of(span, values.into_iter().map(distance)) }
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<i128> {
        match self {
            Self::Narrow { smallest, distances } => distances.get(index).checked_sub(1).map(|distance| smallest + i128::from(distance)),
            Self::Wide(values) => values.get(index).copied().flatten(),
        }
    }
}

/// The distinct values of a column, in the order in which they came, and which of them each row has.
#[derive(Clone, Debug, PartialEq)]
pub struct Dictionary {
    values: Vec<Value>,
    codes: Narrow,
}

impl Dictionary {
    /// The distinct values.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// Which of the values a row has.
    #[must_use]
    #[inline]
    pub fn code(&self, row: usize) -> usize {
        usize::try_from(self.codes.get(row)).unwrap_or(usize::MAX)
    }

    /// Whether the rows are in the order of their values.
    #[must_use]
    pub(super) fn is_sorted(&self) -> bool {
        // Codes count up with the first row of each value.
        self.values.is_sorted_by_key(Value::as_i64) && self.codes.is_sorted()
    }

    /// The value of a row.
    #[must_use]
    pub fn get(&self, row: usize) -> &Value {
        self.values.get(self.code(row)).unwrap_or(&Value::Null)
    }
}

/// A column of a table of states.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cells {
    /// BOOLEAN, BIGINT, DECIMAL, DATE, TIMESTAMP.
    Integers(DataType, Integers),
    /// DOUBLE without NULL.
    Doubles(Vec<f64>),
    /// TEXT.
    Dictionary(Dictionary),
    /// Sketches, and DOUBLE with NULL.
    Plain(Vec<Value>),
}

impl Cells {
    pub(super) fn get(&self, row: usize) -> Value {
        match self {
            Self::Integers(data_type, integers) => integers.get(row).map_or(Value::Null, |value| of_integer(*data_type, value)),
            Self::Doubles(values) => values.get(row).map_or(Value::Null, |value| Value::Double(*value)),
            Self::Dictionary(dictionary) => dictionary.get(row).clone(),
            Self::Plain(values) => values.get(row).cloned().unwrap_or(Value::Null),
        }
    }
}

fn to_integer(value: &Value) -> Option<i128> {
    match value {
        Value::Boolean(value) => Some(i128::from(*value)),
        Value::Decimal(value, _) => Some(*value),
        other => other.as_i64().map(i128::from),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it was one of this type")]
pub(super) fn of_integer(data_type: DataType, value: i128) -> Value {
    match data_type {
        DataType::Boolean => Value::Boolean(value != 0),
        DataType::Decimal { scale, .. } => Value::Decimal(value, scale),
        DataType::Date => Value::Date(value as i32),
        DataType::Timestamp => Value::Timestamp(value as i64),
        _ => Value::BigInt(value as i64),
    }
}

/// A dictionary that grows.
#[derive(Debug, Default)]
pub(super) struct DictionaryBuilder {
    known: HashMap<Vec<u8>, u64>,
    values: Vec<Value>,
    codes: Vec<u64>,
    encoded: Vec<u8>,
}

impl DictionaryBuilder {
    pub(super) fn of(rows: usize) -> Self {
        Self { codes: Vec::with_capacity(rows), ..Self::default() }
    }

    pub(super) fn push(&mut self, value: &Value) {
        let code = self.code_of(value);
        self.push_code(code);
    }

    /// The code of a value, which is a new one where it was not there.
    pub(super) fn code_of(&mut self, value: &Value) -> u64 {
        self.encoded.clear();
        value.encode_key(&mut self.encoded);
        if let Some(code) = self.known.get(&self.encoded) {
            return *code;
        }
        let code = self.values.len() as u64;
        self.known.insert(self.encoded.clone(), code);
        self.values.push(value.clone());
        code
    }

    pub(super) fn push_code(&mut self, code: u64) {
        self.codes.push(code);
    }

    pub(super) fn finish(mut self) -> Dictionary {
        self.values.shrink_to_fit();
        Dictionary { codes: Narrow::of(self.values.len() as u64, self.codes.into_iter()), values: self.values }
    }
}

/// Takes the values of one column, and packs them.
#[derive(Debug)]
pub(super) enum Packer {
    Dictionary(DictionaryBuilder),
    Integers(DataType, Vec<Option<i128>>),
    /// Sketches and DOUBLE. A dictionary would make one value of −0.0 and 0.0, and a sum may be either.
    Values(Vec<Value>),
}

impl Packer {
    pub(super) fn of(column_type: ColumnType, rows: usize) -> Self {
        match column_type {
            ColumnType::Bytes | ColumnType::Sql(DataType::Double) => Self::Values(Vec::with_capacity(rows)),
            ColumnType::Sql(DataType::Text) => Self::Dictionary(DictionaryBuilder::of(rows)),
            ColumnType::Sql(data_type) => Self::Integers(data_type, Vec::with_capacity(rows)),
        }
    }

    pub(super) fn push(&mut self, value: Value) {
        match self {
            Self::Dictionary(dictionary) => dictionary.push(&value),
            Self::Integers(_, integers) => integers.push(to_integer(&value)),
            Self::Values(values) => values.push(value),
        }
    }

    pub(super) fn finish(self) -> Cells {
        match self {
            Self::Dictionary(dictionary) => Cells::Dictionary(dictionary.finish()),
            Self::Integers(data_type, integers) => Cells::Integers(data_type, Integers::of(integers)),
            Self::Values(values) => {
                let doubles: Option<Vec<f64>> = values.iter().map(|value| if let Value::Double(value) = value { Some(*value) } else { None }).collect();
                doubles.map_or(Cells::Plain(values), Cells::Doubles)
            }
        }
    }
}
