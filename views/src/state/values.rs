//! An exact distinct count: the values themselves, up to a limit.
//!
//! Past the limit the state is "too many", whatever is added: so the result does not depend on the order of adding and
//! merging. The values are kept by their key encoding, in its order; the same set has the same bytes.

use std::collections::BTreeSet;

use crate::value::{CellError, Value};

const FEW: u8 = 1;
const TOO_MANY: u8 = 2;

/// The distinct values of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistinctValues {
    limit: usize,
    /// Nothing: more than the limit.
    values: Option<BTreeSet<Box<[u8]>>>,
}

impl DistinctValues {
    /// None yet, and at most so many.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, values: Some(BTreeSet::new()) }
    }

    /// Adds a value.
    pub fn add(&mut self, value: &Value) {
        let mut key = Vec::with_capacity(24);
        value.encode_key(&mut key);
        self.insert(key.into_boxed_slice());
    }

    fn insert(&mut self, key: Box<[u8]>) {
        if let Some(values) = &mut self.values {
            values.insert(key);
            if values.len() > self.limit {
                self.values = None;
            }
        }
    }

    /// The union.
    pub fn merge(&mut self, other: &Self) {
        match &other.values {
            Some(values) => values.iter().for_each(|key| self.insert(key.clone())),
            None => self.values = None,
        }
    }

    /// Their number, or that there are too many.
    #[must_use]
    pub fn count(&self) -> Value {
        match &self.values {
            Some(values) => Value::BigInt(i64::try_from(values.len()).unwrap_or(i64::MAX)),
            None => Value::Error(CellError::TooManyDistinct { limit: self.limit }),
        }
    }

    /// The canonical bytes: a form byte, then each value's length (four bytes, little-endian) and key encoding.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let Some(values) = &self.values else { return vec![TOO_MANY] };
        let mut bytes = vec![FEW];
        for value in values {
            bytes.extend(u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend_from_slice(value);
        }
        bytes
    }

    /// What [`Self::to_bytes`] wrote; nothing for other bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], limit: usize) -> Option<Self> {
        let (form, mut rest) = bytes.split_first()?;
        if *form == TOO_MANY && rest.is_empty() {
            return Some(Self { limit, values: None });
        }
        let mut values = BTreeSet::new();
        while *form == FEW && !rest.is_empty() {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (value, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            values.insert(value.into());
            rest = after;
        }
        (*form == FEW && values.len() <= limit).then_some(Self { limit, values: Some(values) })
    }
}
